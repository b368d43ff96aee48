"""Sound in real time, from files, pipes and a microphone that is made up."""

from __future__ import annotations

import os
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from facetalk.errors import InputError
from facetalk.live import sources
from facetalk.live.sources import Chunk, FileSource, MicrophoneSource, PipeSource

RAMP = (np.arange(8000, dtype=np.float32) % 251) / 500.0


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "ramp.wav"
    soundfile.write(path, RAMP, 16_000, subtype="FLOAT")
    return path


def joined(chunks: list[Chunk]) -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in chunks])


def piped(data: bytes, **options: Any) -> PipeSource:
    """A source that reads what a thread writes."""
    reader, writer = os.pipe()

    def write() -> None:
        with os.fdopen(writer, "wb") as file:
            file.write(data)

    threading.Thread(target=write, daemon=True).start()
    return PipeSource(reader, **options)


def wav(samples: np.ndarray, rate: int, size: int) -> bytes:
    """A stream of WAV whose header, as those of streams, has a size that means nothing."""
    data = np.round(samples * 32767).astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", size, b"WAVE") + form + struct.pack("<4sI", b"data", size) + data


def test_a_recording_comes_when_it_would_be_heard(recording: Path) -> None:
    start = time.monotonic()
    chunks = list(FileSource(recording))
    took = time.monotonic() - start
    np.testing.assert_array_equal(joined(chunks), RAMP)
    assert took >= 0.5, "half a second of sound in less"
    dues = [chunk.due for chunk in chunks]
    assert all(due is not None and due <= time.monotonic() for due in dues)
    assert dues[-1] - start >= 0.5  # type: ignore[operator]
    np.testing.assert_allclose(np.diff(dues), [len(c.samples) / 16_000 for c in chunks[1:]], atol=1e-6)


def test_who_asks_late_gets_everything_at_once(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = iter(FileSource(recording))
    first = next(source)
    time.sleep(0.3)
    second = next(source)
    assert len(second.samples) >= 0.3 * 16_000 - 320
    rest = list(source)
    np.testing.assert_array_equal(joined([first, second, *rest]), RAMP)


def test_in_a_hurry_there_is_no_clock(recording: Path) -> None:
    chunks = list(FileSource(recording, fast=True))
    assert len(chunks) == 1 and chunks[0].due is None
    np.testing.assert_array_equal(joined(chunks), RAMP)


@pytest.mark.parametrize("size", [0x7FFFFFFF, 0xFFFFFFFF])
def test_a_stream_of_wav_need_not_know_its_length(size: int) -> None:
    source = piped(wav(RAMP, 16_000, size), fast=True)
    assert source.rate == 16_000
    np.testing.assert_allclose(joined(list(source)), RAMP, atol=1e-4)


def test_a_header_that_says_there_is_nothing_is_told_of() -> None:
    with pytest.raises(InputError, match="--rate"):
        list(piped(wav(RAMP, 16_000, 0), fast=True))


def test_bare_samples_and_more_channels() -> None:
    source = piped(np.round(RAMP * 32767).astype("<i2").tobytes(), rate=44_100, fast=True)
    assert source.rate == 44_100
    np.testing.assert_allclose(joined(list(source)), RAMP, atol=1e-4)


def test_a_file_through_a_pipe_keeps_to_the_clock_from_when_it_is_asked() -> None:
    source = piped(wav(RAMP, 16_000, 16_000 * 2))
    time.sleep(0.6)  # a model is loaded
    start = time.monotonic()
    chunks = list(source)
    assert time.monotonic() - start >= 0.5
    assert chunks[0].due is not None and chunks[0].due >= start
    np.testing.assert_allclose(joined(chunks), RAMP, atol=1e-4)


def test_speech_that_waited_in_a_pipe_is_late() -> None:
    """What was spoken while the model was loaded is over: it comes at once, due when it was spoken."""
    reader, writer = os.pipe()
    pieces = np.split(np.round(RAMP * 32767).astype("<i2"), 25)

    def speak() -> None:
        with os.fdopen(writer, "wb") as file:
            for piece in pieces:
                time.sleep(len(piece) / 16_000)
                file.write(piece.tobytes())
                file.flush()

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    source = PipeSource(reader, rate=16_000)
    while source._held < 0.2:
        time.sleep(0.01)
    chunks = iter(source)
    first = next(chunks)
    assert first.due is not None and first.due <= time.monotonic() and len(first.samples) >= 0.15 * 16_000
    np.testing.assert_allclose(joined([first, *chunks]), RAMP, atol=1e-4)
    thread.join()


@pytest.mark.parametrize("data", [b"", b"no sound at all" * 100, b"RIFF\0\0\0\0WAVE"])
def test_pipes_without_sound_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(InputError, match="--from -"):
        piped(data)


class Microphone:
    """A sounddevice with one microphone, which hears RAMP."""

    PortAudioError = type("PortAudioError", (Exception,), {})
    quiet = False

    def query_devices(self, device: Any = None, kind: str | None = None) -> Any:
        ours = {"name": "Made up", "default_samplerate": 48_000.0, "max_input_channels": 1}
        if kind is None:
            return [ours, {"name": "Speaker", "default_samplerate": 48_000.0, "max_input_channels": 0}]
        if device not in (None, 0, "Made"):
            raise ValueError(f"No input device matching {device!r}")
        return ours

    def InputStream(self, *, callback: Callable[..., None], samplerate: int, blocksize: int, **_: Any) -> Any:
        microphone = self

        class Stream:
            def __enter__(self) -> None:
                assert samplerate == 48_000
                if not microphone.quiet:
                    for begin in range(0, len(RAMP), blocksize):
                        block = RAMP[begin : begin + blocksize, None]
                        callback(block, len(block), None, None)

            def __exit__(self, *_: object) -> None:
                microphone.closed = True

        return Stream()


@pytest.fixture
def microphone(monkeypatch: pytest.MonkeyPatch) -> Microphone:
    made = Microphone()
    monkeypatch.setitem(sys.modules, "sounddevice", made)  # type: ignore[arg-type]
    monkeypatch.setattr(sources, "_MUTE_S", 0.2)
    return made


def test_a_microphone_gives_what_it_hears_until_it_breaks(microphone: Microphone) -> None:
    source = MicrophoneSource("Made")
    assert (source.name, source.rate) == ("Made up", 48_000)
    heard = []
    with pytest.raises(InputError, match="gives no sound any more"):
        for chunk in source:
            assert chunk.due is not None and chunk.due <= time.monotonic()
            heard.append(chunk)
    np.testing.assert_array_equal(joined(heard), RAMP)
    assert microphone.closed and source.lost == 0.0


def test_sound_that_nobody_takes_is_counted(microphone: Microphone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_KEPT_S", 0.1)
    source = MicrophoneSource()
    chunk = next(iter(source))
    assert source.lost == pytest.approx(len(RAMP) / 48_000 - len(chunk.samples) / 48_000, abs=1e-6)


def test_a_microphone_that_is_not_there_is_said(microphone: Microphone) -> None:
    with pytest.raises(InputError, match=r"mic:Stage: no microphone .*there are: 0 Made up$"):
        MicrophoneSource("Stage")


def test_without_the_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(InputError, match=r"facetalk\[live\]"):
        MicrophoneSource()


def test_without_portaudio_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="libportaudio2"):
        MicrophoneSource()


def test_a_terminal_is_no_sound() -> None:
    master, terminal = os.openpty()
    with pytest.raises(InputError, match="terminal"):
        PipeSource(terminal)
    os.close(master)
    os.close(terminal)
