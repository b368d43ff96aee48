"""Any recording becomes 16 kHz mono float32; anything else a one-line error."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from facetalk.audio import AudioReader, load_audio
from facetalk.errors import HearingWarning, InputError
from facetalk.units import SAMPLE_RATE

Writer = Callable[..., None]


def tone(seconds: float, rate: int = SAMPLE_RATE) -> np.ndarray:
    """440 Hz at amplitude 0.5."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def loudest_hertz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)[spectrum.argmax()])


@pytest.mark.parametrize(
    ("rate", "channels", "subtype", "suffix"),
    [
        (16000, 1, "PCM_16", ".wav"),
        (48000, 2, "PCM_24", ".wav"),
        (8000, 1, "PCM_U8", ".wav"),
        (44100, 2, "FLOAT", ".wav"),
        (22050, 1, "PCM_16", ".flac"),
        (44100, 1, "VORBIS", ".ogg"),
        (44100, 2, "MPEG_LAYER_III", ".mp3"),
        (8000, 1, "ULAW", ".wav"),
    ],
)
def test_libsndfile_formats(tmp_path: Path, rate: int, channels: int, subtype: str, suffix: str) -> None:
    path = tmp_path / f"sound{suffix}"
    soundfile.write(path, np.repeat(tone(1.0, rate)[:, None], channels, axis=1), rate, subtype=subtype)
    samples = load_audio(path)
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert abs(len(samples) - SAMPLE_RATE) <= 0.08 * SAMPLE_RATE  # MP3 pads to whole frames
    assert abs(loudest_hertz(samples) - 440) < 2
    assert 0.4 < np.abs(samples[2000:-2000]).max() < 0.6


@pytest.mark.parametrize(
    ("name", "codec", "video"), [("a.mp4", "aac", False), ("b.mp4", "aac", True), ("c.mkv", "aac", True)]
)
def test_ffmpeg_formats_and_video_sound_tracks(
    tmp_path: Path, name: str, codec: str, video: bool, write_media: Writer
) -> None:
    path = tmp_path / name
    write_media(path, tone(1.0, 44100), 44100, codec, video=video)
    samples = load_audio(path)
    assert abs(len(samples) - SAMPLE_RATE) < 0.1 * SAMPLE_RATE
    assert abs(loudest_hertz(samples) - 440) < 2


def test_g722(tmp_path: Path, write_media: Writer) -> None:
    path = tmp_path / "prompt.g722"
    write_media(path, tone(1.0), 16000, "g722")
    assert abs(loudest_hertz(load_audio(path)) - 440) < 2


def test_stereo_is_the_mean_of_its_channels(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([tone(0.5), tone(0.5) / 3], axis=1), SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(path), tone(0.5) * 2 / 3, atol=1e-6)


def test_samples_and_rate() -> None:
    wave = tone(1.0, 48000)
    as_float = load_audio((wave, 48000))
    as_int = load_audio(((wave * 32768).astype(np.int16), 48000.0))
    as_byte = load_audio((np.round(wave * 128 + 128).astype(np.uint8), 48000))
    stereo = load_audio((np.stack([wave, wave], axis=1), 48000))
    assert len(as_float) == SAMPLE_RATE
    np.testing.assert_allclose(as_int, as_float, atol=1e-4)
    np.testing.assert_allclose(as_byte, as_float, atol=8e-3)
    np.testing.assert_allclose(stereo, as_float, atol=1e-6)


@pytest.mark.parametrize("block", [0.013, 0.5, 60.0])
def test_blocks_do_not_change_the_sound(tmp_path: Path, block: float) -> None:
    path = tmp_path / "sound.wav"
    rng = np.random.default_rng(0)
    soundfile.write(path, rng.normal(0, 0.1, 30000), 22050, subtype="FLOAT")
    reader = AudioReader(path)
    assert reader.duration == pytest.approx(30000 / 22050) and reader.rate == 22050 and reader.channels == 1
    pieces = np.concatenate(list(reader.blocks(block)))
    np.testing.assert_allclose(pieces, load_audio(path), atol=1e-6)


def test_long_recording_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "hour.wav"
    with soundfile.SoundFile(path, "w", 8000, 1, subtype="PCM_U8") as file:
        for _ in range(60):
            file.write(np.zeros(8000 * 60, np.float32))
    tracemalloc.start()
    count = sum(len(block) for block in AudioReader(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 3600 * SAMPLE_RATE
    assert peak < 20e6  # the hour itself is 230 MB


def bad_files(folder: Path, write_media: Writer) -> dict[str, Path]:
    """One file for each way to be unusable."""
    files = {
        name: folder / name
        for name in ("missing.wav", "empty.wav", "text.wav", "zero.wav", "nan.wav", "header.wav")
    }
    files["empty.wav"].touch()
    files["text.wav"].write_text("this is not sound\n" * 40)
    soundfile.write(files["zero.wav"], np.zeros(0, np.float32), 16000)
    broken = tone(1.0)
    broken[12345] = np.nan
    soundfile.write(files["nan.wav"], broken, 16000, subtype="FLOAT")
    whole = folder / "whole.wav"
    soundfile.write(whole, tone(1.0), 16000)
    files["header.wav"].write_bytes(whole.read_bytes()[:20])
    files["cut.wav"] = folder / "cut.wav"
    files["cut.wav"].write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    flac, files["cut.flac"] = folder / "whole.flac", folder / "cut.flac"
    rng = np.random.default_rng(0)
    soundfile.write(flac, rng.normal(0, 0.1, 32000), 16000)
    files["cut.flac"].write_bytes(flac.read_bytes()[: flac.stat().st_size // 3])
    video, files["cut.mp4"] = folder / "whole.mp4", folder / "cut.mp4"
    write_media(video, tone(2.0), 16000, "aac")
    files["cut.mp4"].write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    files["folder"] = folder / "folder"
    files["folder"].mkdir()
    return files


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.wav", "no such file"), ("empty.wav", "empty"), ("text.wav", "not a sound file"),
        ("zero.wav", "no samples"),
        ("nan.wav", "0.772 s"), ("header.wav", "not a sound file|no sound"), 
        ("cut.mp4", "not a sound file|cut short|damaged"), ("folder", "is a folder"),
    ],
)  # fmt: skip
def test_bad_files_are_one_line_errors(tmp_path: Path, name: str, says: str, write_media: Writer) -> None:
    path = bad_files(tmp_path, write_media)[name]
    with pytest.raises(InputError, match=says) as caught:
        load_audio(path)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)


@pytest.mark.parametrize(("name", "least"), [("cut.wav", 0.3), ("cut.flac", 0.5)])
def test_cut_files_are_read_as_far_as_they_go(
    tmp_path: Path, name: str, least: float, write_media: Writer
) -> None:
    with pytest.warns(HearingWarning, match="cut short|damaged"):
        samples = load_audio(bad_files(tmp_path, write_media)[name])
    assert len(samples) > least * SAMPLE_RATE


@pytest.mark.parametrize(
    "source",
    [
        (np.zeros(0, np.float32), 16000), (np.zeros((3, 4, 5)), 16000), (np.zeros(10), 0), (np.zeros(10),
        float("nan")),
        (np.array([0.0, np.inf]), 16000), (["a", "b"], 16000), (np.zeros(10), "fast"), (np.zeros(10),), 42,
        None,
    ],
)  # fmt: skip
def test_bad_samples_are_one_line_errors(source: object) -> None:
    with pytest.raises(InputError) as caught:
        load_audio(source)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_streamed_wav_header_without_length_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe.wav"
    soundfile.write(path, tone(0.5), 16000)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert len(load_audio(path)) == 8000
