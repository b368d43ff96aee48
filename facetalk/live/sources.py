"""Where sound comes from while it goes on: a recording played in real time, a pipe, a microphone.

A source is iterated once, and gives a :class:`Chunk` when it is due. One that is asked late gives all that
has come since, so that whoever is slow catches up.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import soundfile

from facetalk.arrays import Float32
from facetalk.audio.load import AudioReader
from facetalk.errors import InputError, NotInstalledError
from facetalk.reading import one_line
from facetalk.units import SAMPLE_RATE

STEP_S = 0.02
"""Seconds of sound that are taken at once when there is no hurry."""
_ENOUGH_S = 1.0  # of sound that a late listener is given at once
_KEPT_S = 10.0  # of a microphone's sound that waits for a late listener
_HELD_S = 60.0  # of sound that waits while a model is loaded
_AHEAD_S = 0.25  # by which sound that is spoken now cannot be ahead of the clock
_MUTE_S = 3.0  # after which a microphone that gives nothing is taken for broken


class Chunk(NamedTuple):
    """Sound that is due.

    Attributes:
        samples: (n,) float32, mono.
        due: ``time.monotonic()`` of the end of it: when it was or would have been heard; None where nobody
            minds the time.
    """

    samples: Float32
    due: float | None


class Source(Protocol):
    """Sound that goes on.

    Attributes:
        name: for messages.
        rate: sampling rate, Hz.
        lost: seconds of sound that nobody took in time.
    """

    name: str
    rate: int
    lost: float

    def __iter__(self) -> Iterator[Chunk]:
        """The sound, piece by piece, each when it is due."""

    def close(self) -> None:
        """Take no more of it."""


class FileSource:
    """A recording played in real time, 16 kHz mono.

    Args:
        path: any sound or video file.
        fast: do not wait for the clock.

    Raises:
        InputError: as :class:`facetalk.audio.load.AudioReader`.
    """

    def __init__(self, path: str | os.PathLike[str], *, fast: bool = False) -> None:
        self._reader, self._fast = AudioReader(path), fast
        self.name, self.rate, self.lost = Path(path).name, SAMPLE_RATE, 0.0

    def __iter__(self) -> Iterator[Chunk]:
        """See :class:`Source`."""
        pending: list[Float32] = []
        start, position, given, due = None, 0, 0, None
        for block in self._reader.blocks(STEP_S):
            pending.append(block)
            position += len(block)
            if self._fast:
                if position - given < _ENOUGH_S * self.rate:
                    continue
            else:
                start = time.monotonic() if start is None else start
                due = start + position / self.rate
                wait = due - time.monotonic()
                if wait > 0.0:
                    time.sleep(wait)
                elif position - given < _ENOUGH_S * self.rate:
                    continue
            yield Chunk(np.concatenate(pending), due)
            pending, given = [], position
        if pending:
            yield Chunk(np.concatenate(pending), due)

    def close(self) -> None:
        """Nothing is open between blocks."""


class PipeSource:
    """Sound from standard input as it comes: a WAV stream, or bare samples where a rate is given.

    What comes as it is spoken is due when it came. What comes faster, a file, waits for the clock.

    Args:
        descriptor: open file to read.
        rate: of bare signed 16-bit little-endian mono samples, Hz; None for a file with a header.
        fast: do not wait for the clock.

    Raises:
        InputError: a terminal, or nothing that libsndfile reads from a pipe.
    """

    def __init__(self, descriptor: int = 0, *, rate: int | None = None, fast: bool = False) -> None:
        self.name, self.lost, self._fast, self._descriptor = "-", 0.0, fast, descriptor
        if os.isatty(descriptor):
            raise InputError("--from - reads sound from a pipe, and standard input is a terminal")
        raw = {} if rate is None else dict(
            samplerate=rate, channels=1, format="RAW", subtype="PCM_16", endian="LITTLE"
        )  # fmt: skip
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=round(_HELD_S / STEP_S))
        self._held, self._ended = 0.0, False
        # A thread, since reading in C does not end at Ctrl-C while nothing comes.
        threading.Thread(target=self._read, args=(raw,), name="pipe", daemon=True).start()
        first = self._queue.get()
        if isinstance(first, Exception):
            raise InputError(
                f"--from -: no sound that can be read from a pipe ({one_line(first)}); give a WAV stream, "
                f"bare 16-bit samples with --rate, or the path of a file"
            )
        self.rate = int(first)

    def _read(self, raw: dict[str, Any]) -> None:
        try:
            with soundfile.SoundFile(self._descriptor, closefd=False, **raw) as file:
                self._queue.put(file.samplerate)
                step = max(1, round(STEP_S * file.samplerate))
                while len(block := file.read(step, dtype="float32", always_2d=True)):
                    self._held += len(block) / file.samplerate
                    self._queue.put((block.mean(axis=1), time.monotonic()))
            self._ended = True
            self._queue.put(None)
        except Exception as error:  # libsndfile's, and whatever a strange header leads to
            self._queue.put(error)

    def __iter__(self) -> Iterator[Chunk]:
        """See :class:`Source`."""
        start, position, due = None, 0, None
        pending: list[Float32] = []
        while True:
            item = self._queue.get()
            if isinstance(item, Exception):
                raise InputError(f"--from -: the sound breaks off ({one_line(item)})")
            if item is None:
                break
            block, came = item
            pending.append(block)
            position += len(block)
            if self._fast:
                yield Chunk(block, None)
                pending = []
                continue
            if start is None:
                start = self._start(came - len(block) / self.rate)
            start = max(start, came - position / self.rate)
            due = start + position / self.rate
            wait = due - time.monotonic()
            if wait > 0.0:
                time.sleep(wait)
            elif not self._queue.empty() and sum(map(len, pending)) < _ENOUGH_S * self.rate:
                continue
            yield Chunk(np.concatenate(pending), due)
            pending = []
        if pending:
            yield Chunk(np.concatenate(pending), due)
        if not position:
            raise InputError(
                "--from -: the stream has no samples, or a header that says so; send bare 16-bit samples and "
                "say their --rate"
            )

    def _start(self, first: float) -> float:
        """When the sound began that began to come at ``first``: then, or now if it is a file."""
        now = time.monotonic()
        return now if self._ended or self._held > now - first + _AHEAD_S else first

    def close(self) -> None:
        """The thread ends with the process."""


class MicrophoneSource:
    """A microphone, at its own rate.

    Args:
        device: number or part of the name; None for the default one.

    Raises:
        InputError: there is no such microphone.
        NotInstalledError: sounddevice or PortAudio is missing.
    """

    def __init__(self, device: str | None = None) -> None:
        self._audio = _sounddevice()
        chosen: Any = int(device) if device is not None and device.isdigit() else device
        try:
            found = self._audio.query_devices(chosen, "input")
            self.rate = round(found["default_samplerate"])
        except (ValueError, self._audio.PortAudioError) as error:
            known = ", ".join(
                f"{i} {entry['name']}" for i, entry in enumerate(self._audio.query_devices())
                if entry["max_input_channels"] > 0
            ) or "none"  # fmt: skip
            wanted = "--from mic" if device is None else f"--from mic:{device}"
            raise InputError(f"{wanted}: no microphone ({one_line(error)}); there are: {known}") from None
        self.name, self.lost, self._device = str(found["name"]), 0.0, chosen
        self._queue: queue.Queue[tuple[Float32, float]] = queue.Queue(maxsize=round(_KEPT_S / STEP_S))

    def __iter__(self) -> Iterator[Chunk]:
        """See :class:`Source`; it has no end."""
        step = max(1, round(STEP_S * self.rate))
        try:
            stream = self._audio.InputStream(
                samplerate=self.rate, blocksize=step, device=self._device, channels=1, dtype="float32",
                latency="low", callback=self._take,
            )  # fmt: skip
            with stream:
                while True:
                    try:
                        items = [self._queue.get(timeout=_MUTE_S)]
                    except queue.Empty:
                        raise InputError(f"the microphone {self.name!r} gives no sound any more") from None
                    while not self._queue.empty():
                        items.append(self._queue.get())
                    yield Chunk(np.concatenate([block for block, _ in items]), items[-1][1])
        except self._audio.PortAudioError as error:
            raise InputError(f"the microphone {self.name!r} cannot be used: {one_line(error)}") from None

    def _take(self, data: Float32, frames: int, times: Any, status: Any) -> None:
        try:
            self._queue.put_nowait((data[:, 0].copy(), time.monotonic()))
        except queue.Full:
            self.lost += frames / self.rate

    def close(self) -> None:
        """It closes when the iteration ends."""


def _sounddevice() -> Any:
    """sounddevice, which looks for PortAudio when it is imported."""
    try:
        import sounddevice
    except ImportError:
        raise NotInstalledError("--from mic needs sounddevice: pip install 'facetalk[live]'") from None
    except OSError as error:
        raise NotInstalledError(
            f"--from mic needs the PortAudio library ({one_line(error)}): apt install libportaudio2"
        ) from None
    return sounddevice
