"""What recorders, servers and editors do to recordings: they are read to their end, and what is not well is
said."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch

from facetalk.audio import AudioReader, load_audio
from facetalk.errors import HearingWarning, InputError
from facetalk.units import SAMPLE_RATE
from tests.helpers.wav_files import voice, wav

Writer = Callable[..., None]


def heard(source: object, **options: int) -> tuple[np.ndarray, list[str]]:
    """Samples, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        samples = load_audio(source, **options)  # type: ignore[arg-type]
    return samples, [str(one.message) for one in caught if one.category is HearingWarning]


@pytest.mark.parametrize(
    "size",
    [0, 0xFFFFFFFF, 0xFFFFFFDB, 0x7FFFFFFF, 0x7FFF0000, 0x80000000, 2_000_000_000, 1_234_567_890, 16000 + 44],
)
def test_made_up_sizes_are_no_sizes(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.wav"
    sound = voice(0.5)
    path.write_bytes(wav(sound, size=size))
    samples, said = heard(path)
    np.testing.assert_allclose(samples, sound, atol=1e-4)
    assert said == []


def test_a_cut_file_is_read_and_said_to_be_cut(tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    whole = wav(voice(2.0))
    path.write_bytes(whole[: len(whole) // 4])
    samples, said = heard(path)
    assert abs(len(samples) / SAMPLE_RATE - 0.5) < 0.01
    assert len(said) == 1 and "cut short: 1.50 s" in said[0]


def test_an_empty_recording_is_not_a_placeholder(tmp_path: Path) -> None:
    path = tmp_path / "none.wav"
    path.write_bytes(wav(np.zeros(0, np.float32)) + struct.pack("<4sI4s", b"LIST", 4, b"INFO"))
    with pytest.raises(InputError, match="no samples"):
        load_audio(path)


@pytest.mark.parametrize("size", [None, 0xFFFFFFFF, 0])
def test_every_chunk_with_a_header(tmp_path: Path, size: int | None) -> None:
    path = tmp_path / "chunks.wav"
    parts = [voice(0.31, seed=k) for k in range(3)]
    path.write_bytes(b"".join(wav(part, size=size) for part in parts))
    samples, said = heard(path)
    np.testing.assert_allclose(samples, np.concatenate(parts), atol=1e-4)
    assert said == []


def test_raw_sound_after_the_first_chunks_length_is_read_and_said(tmp_path: Path) -> None:
    path = tmp_path / "first.wav"
    path.write_bytes(wav(voice(2.0), size=16000))
    samples, said = heard(path)
    assert len(samples) == 2 * SAMPLE_RATE
    assert len(said) == 1 and "1.50 s of sound follow" in said[0]


@pytest.mark.parametrize(
    "tail", [b"LIST\x04\0\0\0INFO", b"TAG" + bytes(125), bytes(4000), b"ID3\4\0\0" + bytes(900)]
)
def test_tags_and_padding_after_the_sound_are_no_sound(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "tagged.wav"
    path.write_bytes(wav(voice(0.5)) + tail)
    samples, said = heard(path)
    assert len(samples) == 8000 and said == []


@pytest.mark.parametrize(
    ("suffix", "subtype"), [(".mp3", "MPEG_LAYER_III"), (".ogg", "VORBIS"), (".flac", None)]
)
def test_glued_files_are_read_whole(tmp_path: Path, suffix: str, subtype: str | None) -> None:
    path = tmp_path / f"one{suffix}"
    soundfile.write(path, voice(2.0), SAMPLE_RATE, subtype=subtype)
    one = path.read_bytes()
    path.write_bytes(one + one)
    assert abs(len(heard(path)[0]) / SAMPLE_RATE - 4.0) < 0.3


def streamed_flac(path: Path, samples: np.ndarray) -> None:
    """A FLAC file whose header says neither length nor checksum, as out of a pipe."""
    soundfile.write(path, samples, SAMPLE_RATE)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:42] = bytes(20)
    path.write_bytes(data)


def test_flac_without_a_length(tmp_path: Path) -> None:
    path = tmp_path / "pipe.flac"
    streamed_flac(path, voice(1.0))
    np.testing.assert_allclose(heard(path)[0], voice(1.0), atol=1e-4)


def test_flac_with_a_broken_middle_is_read_on_by_the_other_decoder(tmp_path: Path) -> None:
    path = tmp_path / "broken.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 64000), SAMPLE_RATE)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    path.write_bytes(data)
    samples, said = heard(path)
    assert len(samples) > 30000 and said


def media(
    path: Path,
    tracks: list[tuple[np.ndarray, float, bool]],
    *,
    picture: float = 0.0,
    hole: tuple[float, float] | None = None,
) -> None:
    """Sound tracks (samples, start in seconds, marked as default) beside a picture, by PyAV; ``hole`` leaves
    out packets between two times."""
    codec = "libopus" if path.suffix == ".webm" else "aac"
    with av.open(str(path), "w") as container:
        streams = []
        if picture:
            video = container.add_stream("libvpx" if path.suffix == ".webm" else "mpeg4", rate=25)
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        for _, _, marked in tracks:
            stream = container.add_stream(codec, rate=48000, layout="mono")
            stream.disposition = av.stream.Disposition.default if marked else av.stream.Disposition(0)
            streams.append(stream)
        packets = []
        if picture:
            for _ in range(round(picture * 25)):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                packets += video.encode(frame)
            packets += video.encode(None)
        for stream, (samples, start, _) in zip(streams, tracks, strict=True):
            converter = av.AudioResampler(
                format=stream.format, layout="mono", rate=48000, frame_size=stream.frame_size or 960
            )
            frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48000, round(start * 48000)
            for piece in [*converter.resample(frame), *converter.resample(None)]:
                packets += stream.encode(piece)
            packets += stream.encode(None)
        for packet in sorted(packets, key=lambda one: float((one.dts or 0) * one.time_base)):
            at = float((packet.pts or 0) * packet.time_base)
            if not (hole and packet.stream.type == "audio" and hole[0] <= at < hole[1]):
                container.mux(packet)


def onset(samples: np.ndarray) -> float:
    return int(np.argmax(np.abs(samples) > 0.02)) / SAMPLE_RATE


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv", ".mov", ".ts"])
def test_sound_that_begins_after_the_picture(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"late{suffix}"
    media(path, [(voice(1.0, 48000), 0.8, True)], picture=2.0)
    samples = heard(path)[0]
    assert abs(onset(samples) - 0.8) < 0.06
    assert abs(len(samples) / SAMPLE_RATE - 1.8) < 0.1


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv"])
def test_a_hole_is_silence(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"hole{suffix}"
    media(path, [(voice(2.0, 48000), 0.0, True)], picture=2.0, hole=(0.7, 1.3))
    samples, said = heard(path)
    assert abs(len(samples) / SAMPLE_RATE - 2.0) < 0.1
    middle = samples[round(0.85 * SAMPLE_RATE) : round(1.15 * SAMPLE_RATE)]
    assert np.abs(middle).max() < 1e-3
    assert any("hole of 0." in one for one in said)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_sound_shorter_than_the_picture(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"short{suffix}"
    media(path, [(voice(1.0, 48000), 0.0, True)], picture=4.0)
    samples, said = heard(path)
    assert abs(len(samples) / SAMPLE_RATE - 1.0) < 0.1 and said == []


@pytest.mark.parametrize("marks", [(False, True), (True, False), (True, True)])
def test_a_silent_track_is_passed_over(tmp_path: Path, marks: tuple[bool, bool]) -> None:
    path = tmp_path / "two.mkv"
    silent = np.zeros(48000, np.float32)
    media(path, [(silent, 0.0, marks[0]), (voice(1.0, 48000), 0.0, marks[1])])
    samples, said = heard(path)
    assert np.sqrt((samples**2).mean()) > 0.02
    assert any("track 2" in one for one in said)
    silence, said = heard(path, track=1)
    assert np.abs(silence).max() < 1e-3 and any("silent" in one for one in said)
    with pytest.raises(InputError, match="no sound track 3"):
        load_audio(path, track=3)


def test_the_marked_track_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    media(path, [(voice(1.0, 48000), 0.0, False), (voice(2.0, 48000), 0.0, True)])
    assert abs(len(heard(path)[0]) / SAMPLE_RATE - 2.0) < 0.1
    assert abs(len(heard(path, track=1)[0]) / SAMPLE_RATE - 1.0) < 0.1


def test_a_wav_file_has_one_track(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(voice(0.2)))
    assert len(load_audio(path, track=1)) == 3200
    for track in (0, 2, -1):
        with pytest.raises(InputError, match="track"):
            load_audio(path, track=track)


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize("gain", [-1.0, -0.9])
def test_channels_that_cancel(tmp_path: Path, as_file: bool, gain: float) -> None:
    sound = voice(1.0)
    stereo = np.stack([sound, gain * sound], axis=1)
    path = tmp_path / "anti.wav"
    soundfile.write(path, stereo, SAMPLE_RATE, subtype="FLOAT")
    samples, said = heard(path if as_file else (stereo, SAMPLE_RATE))
    np.testing.assert_allclose(samples, sound * (1 - gain) / 2, atol=1e-5)
    assert len(said) == 1 and "cancel" in said[0]


def test_silent_channels_are_left_out_and_unrelated_ones_are_not(tmp_path: Path) -> None:
    sound = voice(1.0)
    samples, said = heard((np.stack([sound, 0 * sound], axis=1), SAMPLE_RATE))
    np.testing.assert_allclose(samples, sound, atol=1e-6)
    assert len(said) == 1 and "channel 2 of 2 is silent" in said[0]
    other = np.random.default_rng(0).normal(0, 0.1, len(sound)).astype(np.float32)
    samples, said = heard((np.stack([sound, other], axis=1), SAMPLE_RATE))
    np.testing.assert_allclose(samples, (sound + other) / 2, atol=1e-6)
    assert said == []


@pytest.mark.parametrize(
    ("gain", "says"), [(0.0, "is silent"), (1e-5, "is silent"), (1e-3, "almost silent"), (6.0, "clipped")]
)
@pytest.mark.parametrize("as_file", [True, False])
def test_silence_faintness_and_clipping_are_said(
    tmp_path: Path, gain: float, says: str, as_file: bool
) -> None:
    sound = np.clip(voice(1.0) * gain, -1, 1 - 2**-15)
    path = tmp_path / "a.wav"
    soundfile.write(path, sound, SAMPLE_RATE, subtype="PCM_24")
    _, said = heard(path if as_file else (sound, SAMPLE_RATE))
    assert len(said) == 1 and says in said[0] and "\n" not in said[0]


@pytest.mark.parametrize("gain", [0.05, 0.3, 1.0])
def test_speech_at_usual_levels_is_not_remarked_on(gain: float) -> None:
    assert heard((voice(1.0) * gain, SAMPLE_RATE))[1] == []


def test_sound_clipped_before_it_was_turned_down() -> None:
    _, said = heard((np.clip(voice(1.0) * 6.0, -1, 1) * 0.3, SAMPLE_RATE))
    assert len(said) == 1 and "clipped" in said[0]


@pytest.mark.parametrize("level", [0.1, 1.0])
def test_a_constant_is_faint_and_not_clipped(level: float) -> None:
    _, said = heard((np.full(SAMPLE_RATE, level, np.float32), SAMPLE_RATE))
    assert len(said) == 1 and "almost silent" in said[0]


def test_samples_far_beyond_full_scale_are_clipped_and_nothing_else(tmp_path: Path) -> None:
    """Floats of a file may be as large as floats get: their squares are no floats of 32 bits."""
    soundfile.write(tmp_path / "loud.wav", voice(1.0) * np.float32(1e30), SAMPLE_RATE, subtype="FLOAT")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_audio(tmp_path / "loud.wav")
    assert [(one.category, "clipped" in str(one.message)) for one in caught] == [(HearingWarning, True)]


def test_what_was_said_is_kept_with_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "silent.wav"
    soundfile.write(path, np.zeros(8000), SAMPLE_RATE)
    reader = AudioReader(path)
    with pytest.warns(HearingWarning) as caught:
        for _ in range(2):
            assert sum(map(len, reader)) == 8000
    assert len(caught) == 1 and len(reader.notes) == 1


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("i2", 2**15), ("i4", 2**31), ("i4", 2**15), ("i4", 2**23), ("i8", 2**15), ("i8", 2**23), ("i8", 2**31)],
)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_integers_at_their_true_scale(dtype: str, scale: int, library: str) -> None:
    sound = voice(0.5)
    array = (sound.astype(np.float64) * scale).astype(dtype)
    given = torch.from_numpy(array) if library == "torch" else array
    samples, said = heard((given, SAMPLE_RATE))
    np.testing.assert_allclose(samples, sound, atol=1e-4)
    assert bool(said) == (scale < 2 ** (8 * array.dtype.itemsize - 1))


def test_layouts_and_types_that_people_have() -> None:
    sound = voice(0.5)
    tensor = torch.from_numpy(sound)
    byte = torch.from_numpy(np.round(sound * 128 + 128).astype(np.uint8))
    for given, tolerance in (
        ((tensor[None], SAMPLE_RATE), 1e-6),
        ((tensor.clone().requires_grad_(), SAMPLE_RATE), 1e-6),
        ((tensor.bfloat16(), SAMPLE_RATE), 5e-3),
        ((tensor.half(), torch.tensor(SAMPLE_RATE)), 1e-3),
        ((byte, SAMPLE_RATE), 8e-3),
        (((sound * 32767 + 32768).astype("u2"), SAMPLE_RATE), 1e-3),
        ((np.stack([sound, sound]), SAMPLE_RATE), 1e-6),
        ({"array": sound, "sampling_rate": SAMPLE_RATE}, 1e-6),
        ((SAMPLE_RATE, sound), 1e-6),
        ((sound.tolist(), SAMPLE_RATE), 1e-6),
        (io.BytesIO(wav(sound)), 1e-4),
    ):
        np.testing.assert_allclose(heard(given)[0], sound, atol=tolerance)
    samples, said = heard((sound * 32768, SAMPLE_RATE))
    np.testing.assert_allclose(samples, sound, atol=1e-5)
    assert said and "16 bits" in said[0]


@pytest.mark.parametrize(
    "source",
    [
        ({}, 16000),
        {"array": [0.0]},
        (np.array(["a"]), 16000),
        (np.zeros(9, bool), 16000),
        io.StringIO("x"),
        io.BytesIO(),
    ],
)
def test_what_is_no_sound_is_a_one_line_error(source: object) -> None:
    with pytest.raises(InputError) as caught:
        load_audio(source)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
