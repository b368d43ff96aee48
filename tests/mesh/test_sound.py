"""The sound beside an animation: samples that a player can read stay what they are, bit by bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from facetalk.mesh.sound import is_ours, write_wav


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32"])
@pytest.mark.parametrize(
    ("rate", "channels", "frames"), [(44_100, 2, 901), (96_000, 1, 1001), (16_000, 6, 333)]
)
def test_whole_numbers_are_kept(tmp_path: Path, subtype: str, rate: int, channels: int, frames: int) -> None:
    sound = np.random.default_rng(0).integers(-(2**31), 2**31, (frames, channels), np.int32, endpoint=False)
    source, copy = tmp_path / "a.wav", tmp_path / "b.wav"
    soundfile.write(source, sound, rate, subtype)
    write_wav(copy, source, (0.01, 0.02))
    info = soundfile.info(copy)
    assert (info.samplerate, info.channels, info.subtype) == (rate, channels, subtype)
    found, expected = (soundfile.read(path, dtype="int32", always_2d=True)[0] for path in (copy, source))
    before, after = round(0.01 * rate), round(0.02 * rate)
    np.testing.assert_array_equal(found[before:-after], expected)
    assert not found[:before].any() and not found[-after:].any()
    assert is_ours(copy) and not is_ours(source)
    write_wav(tmp_path / "again.wav", copy)
    assert is_ours(tmp_path / "again.wav") and (tmp_path / "again.wav").read_bytes() == copy.read_bytes()
    raw = bytearray(copy.read_bytes())
    raw[len(raw) // 2] ^= 1
    copy.write_bytes(raw)
    assert not is_ours(copy), "a sample was changed"


def test_others_become_sixteen_bits(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (800, 1))
    for name, subtype in (("a.wav", "FLOAT"), ("b.wav", "PCM_U8"), ("c.flac", "PCM_24")):
        soundfile.write(tmp_path / name, sound, 16_000, subtype)
        write_wav(tmp_path / "copy.wav", tmp_path / name)
        assert soundfile.info(tmp_path / "copy.wav").subtype == "PCM_16" and is_ours(tmp_path / "copy.wav")
        np.testing.assert_allclose(soundfile.read(tmp_path / "copy.wav")[0], sound[:, 0], atol=0.01)


def test_a_header_that_is_wrong_is_not_copied(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).integers(-(2**31), 2**31, 900, np.int32, endpoint=False)
    soundfile.write(tmp_path / "a.wav", sound, 16_000, "PCM_24")
    raw = bytearray((tmp_path / "a.wav").read_bytes())
    at = raw.index(b"data") + 4
    raw[at : at + 4] = b"\0\0\0\0"  # as of a recorder that crashed
    (tmp_path / "a.wav").write_bytes(raw)
    write_wav(tmp_path / "copy.wav", tmp_path / "a.wav")
    assert soundfile.info(tmp_path / "copy.wav").frames == 900


@pytest.mark.parametrize(
    "content",
    [b"", b"RIFF", b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\xff", b"RIFF\0\0\0\0WAVEfmt \0\0\0\0data\xff\0\0\0"],
)
def test_what_is_not_ours(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    assert not is_ours(tmp_path / "a.wav") and not is_ours(tmp_path / "none.wav")
