"""Damaged recordings say one thing, in an error or a warning; nothing reaches the terminal past Python."""

from __future__ import annotations

import io
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from facetalk.audio import load_audio
from facetalk.audio.riff import SegmentFile
from facetalk.errors import HearingWarning, InputError

KINDS = [
    ("wav", "PCM_16"),
    ("flac", "PCM_16"),
    ("ogg", "VORBIS"),
    ("aiff", "PCM_24"),
    ("mp3", "MPEG_LAYER_III"),
]


@pytest.mark.parametrize(("suffix", "subtype"), KINDS)
def test_decoders_print_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str, subtype: str
) -> None:
    rng = np.random.default_rng(0)
    sound = io.BytesIO()
    soundfile.write(sound, rng.standard_normal(12000) * 0.1, 16000, subtype=subtype, format=suffix)
    path = tmp_path / f"x.{suffix}"
    refused = 0
    for number in range(60):
        raw = bytearray(sound.getvalue())
        for at in rng.integers(0, len(raw) if number % 2 else 64, number % 4):
            raw[at] = rng.integers(256)
        path.write_bytes(raw if number % 3 else raw[: rng.integers(len(raw) // 2, len(raw))])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load_audio(path)
            except InputError as error:
                refused += 1
                assert "\n" not in str(error)
    assert tuple(capfd.readouterr()) == ("", "") and refused < 60


def test_ctrl_c_while_a_decoder_reads_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, np.sin(np.arange(16000) * 0.1) * 0.3, 16000)
    read = SegmentFile.readinto

    def interrupted(self: SegmentFile, buffer: object) -> int:
        signal.raise_signal(signal.SIGINT)
        return read(self, buffer)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(SegmentFile, "readinto", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            load_audio(path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256)])
def test_an_mp3_that_is_cut_says_so(tmp_path: Path, tag: bytes) -> None:
    path = tmp_path / "x.mp3"
    soundfile.write(path, np.sin(np.arange(16000 * 6) * 0.1) * 0.3, 16000, subtype="MPEG_LAYER_III")
    raw = path.read_bytes()
    path.write_bytes(tag + raw)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_audio(path)) == 16000 * 6
    path.write_bytes(tag + raw[: len(raw) // 2])
    with pytest.warns(HearingWarning, match="cut short"):
        assert 16000 * 2 < len(load_audio(path)) < 16000 * 4
