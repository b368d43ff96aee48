"""Reading sound: any file libsndfile or FFmpeg decodes, as 16 kHz mono float32.

libsndfile (through ``soundfile``) comes first because it is exact and light; FFmpeg (through PyAV) takes the
rest: MP4, G.722,
AAC, the sound track of a video. Both are read block by block, mixed to mono and resampled by a streaming soxr
resampler, so
that a recording of many hours needs no more memory than a short one.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from facetalk.audio.containers import MAX_CHANNELS, RATES, check_form, open_container
from facetalk.errors import InputError
from facetalk.reading import one_line
from facetalk.units import SAMPLE_RATE

FloatArray = npt.NDArray[np.float32]
Source = str | os.PathLike[str] | tuple[Any, float]

#: Containers whose header gives a trustworthy duration, against which a cut file is noticed.
_TIMED_CONTAINERS = ("mov", "mp4", "matroska", "webm", "avi")
#: RIFF sizes that mean "unknown" (written by programs that stream into a pipe).
_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF)


class AudioReader:
    """A sound file as a stream of 16 kHz mono blocks, in bounded memory.

    Iterate over it (again and again, each time from the start), or call :meth:`blocks`.

    Args:
        path: sound or video file.

    Raises:
        InputError: the file is missing, a folder, empty, not audio, or has no samples.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        _check_file(self.path)
        self._backend: _Backend
        try:
            self._backend = _SoundFileBackend(self.path)
        except _Unreadable:
            self._backend = _FFmpegBackend(self.path)
        check_form(self.path, self._backend.rate, self._backend.channels)

    @property
    def rate(self) -> int:
        """Sampling rate of the file in Hz."""
        return self._backend.rate

    @property
    def channels(self) -> int:
        """Number of channels in the file."""
        return self._backend.channels

    @property
    def duration(self) -> float | None:
        """Length in seconds by the file's header; None where the format does not tell."""
        return self._backend.duration

    def blocks(self, seconds: float = 10.0) -> Iterator[FloatArray]:
        """Yield mono float32 blocks at 16 kHz of about ``seconds`` each.

        Raises:
            InputError: samples that are NaN or infinite, a damaged or cut file, no samples at all.
        """
        resampler = None
        if self.rate != SAMPLE_RATE:
            resampler = soxr.ResampleStream(self.rate, SAMPLE_RATE, 1, dtype="float32")
        count = 0
        for block in self._backend.read(max(1, round(seconds * self.rate))):
            bad = ~np.isfinite(block)
            if bad.any():
                where = (count + int(np.argmax(bad.any(axis=1)))) / self.rate
                raise InputError(
                    f"{self.path}: NaN or infinite sample at {where:.3f} s; repair the recording or export "
                    f"it as 16-bit WAV"
                )
            count += len(block)
            mono = np.ascontiguousarray(block.mean(axis=1, dtype=np.float32))
            yield mono if resampler is None else resampler.resample_chunk(mono)
        if count == 0:
            raise InputError(f"{self.path}: the file has no samples; record it again")
        if resampler is not None:
            tail = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            if len(tail):
                yield tail

    def __iter__(self) -> Iterator[FloatArray]:
        """Blocks of ten seconds."""
        return self.blocks()


def load_audio(source: Source) -> FloatArray:
    """Load a whole recording.

    Args:
        source: path of a sound or video file, or ``(samples, rate)`` with samples of shape (N,) or (N,
        channels), floating
            in [-1, 1] or integer at full scale, and rate in Hz.

    Returns:
        (N,) float32, 16 kHz mono.

    Raises:
        InputError: whatever is wrong with the file or the samples, in one line.
    """
    if isinstance(source, tuple):
        return _from_samples(source)
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(f"audio must be a path or (samples, rate), got {type(source).__name__}")
    reader = AudioReader(source)
    blocks = [block for block in reader if len(block)]
    return np.concatenate(blocks) if blocks else np.zeros(1, np.float32)


def _from_samples(source: tuple[Any, ...]) -> FloatArray:
    """``(samples, rate)`` to 16 kHz mono float32."""
    if len(source) != 2:
        raise InputError(f"audio as a tuple must be (samples, rate), got {len(source)} entries")
    try:
        samples, rate = np.asarray(source[0]), float(source[1])
    except (TypeError, ValueError) as error:
        raise InputError(f"audio as a tuple must be (samples, rate): {one_line(error)}") from error
    if not RATES[0] <= rate <= RATES[1]:
        raise InputError(f"audio rate must be between {RATES[0]} and {RATES[1]} Hz, got {rate:g}")
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 1 <= samples.shape[1] <= MAX_CHANNELS):
        raise InputError(f"audio samples must have shape (N,) or (N, channels), got {samples.shape}")
    if samples.shape[0] == 0:
        raise InputError("audio has no samples")
    if samples.dtype == np.uint8:
        data = (samples.astype(np.float32) - 128.0) / 128.0
    elif samples.dtype.kind == "i":
        data = samples.astype(np.float32) / float(-np.iinfo(samples.dtype).min)
    elif samples.dtype.kind == "f":
        data = samples.astype(np.float32)
    else:
        raise InputError(f"audio samples must be numbers, got dtype {samples.dtype}")
    if not np.isfinite(data).all():
        flat = np.isfinite(data) if data.ndim == 1 else np.isfinite(data).all(axis=1)
        raise InputError(f"audio has a NaN or infinite sample at {int(np.argmin(flat)) / rate:.3f} s")
    mono = data if data.ndim == 1 else data.mean(axis=1, dtype=np.float32)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    return np.ascontiguousarray(mono if len(mono) else np.zeros(1), dtype=np.float32)


def _check_file(path: Path) -> None:
    """Refuse what no decoder could give a good message for."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the path of a sound file")
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be opened ({one_line(error)})") from error
    if size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes); record it again")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: no permission to read it")


class _Unreadable(Exception):
    """This backend cannot read the file; another one may."""


class _Backend:
    """What both decoders offer."""

    rate: int
    channels: int
    duration: float | None

    def read(self, frames: int) -> Iterator[FloatArray]:
        """Yield (n, channels) float32 blocks of at most about ``frames`` samples at the file's rate."""
        raise NotImplementedError


class _SoundFileBackend(_Backend):
    def __init__(self, path: Path) -> None:
        import soundfile

        self.path = path
        self._errors = (soundfile.SoundFileError, RuntimeError)
        try:
            # Opened here: libsndfile's wrapper takes no names that are not UTF-8.
            with path.open("rb") as raw, soundfile.SoundFile(raw) as file:
                self.rate, self.channels, self.frames = file.samplerate, file.channels, file.frames
                self.format = file.format
        except (*self._errors, TypeError, ValueError) as error:
            raise _Unreadable(one_line(error)) from error
        self.duration = self.frames / self.rate if self.frames < 2**62 else None
        promised = _riff_seconds_missing(path)
        if promised is not None:
            raise InputError(
                f"{path}: the file is cut short, {promised:.2f} s of the sound its header promises are "
                f"missing; copy it again"
            )

    def read(self, frames: int) -> Iterator[FloatArray]:
        import soundfile

        count = 0
        try:
            with self.path.open("rb") as raw, soundfile.SoundFile(raw) as file:
                while len(block := file.read(frames, dtype="float32", always_2d=True)):
                    count += len(block)
                    yield block
        except self._errors as error:
            raise InputError(
                f"{self.path}: damaged after {count / self.rate:.2f} s ({one_line(error)})"
            ) from error
        # MP3 headers only estimate the length; lossless formats know it.
        if self.format == "FLAC" and self.duration is not None and count < self.frames:
            raise InputError(
                f"{self.path}: the file is cut short, {count / self.rate:.2f} s of {self.duration:.2f} s "
                f"are there; copy it again"
            )


class _FFmpegBackend(_Backend):
    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open_container(path) as container:
                if not container.streams.audio:
                    raise InputError(
                        f"{path}: no sound in this file; give a recording or a video with a sound track"
                    )
                stream = container.streams.audio[0]
                # A stream whose codec FFmpeg does not know has neither.
                self.rate = int(getattr(stream, "rate", None) or 0)
                self.channels = int(getattr(stream, "channels", None) or 0)
                seconds = None
                if stream.duration is not None and stream.time_base is not None:
                    seconds = float(Fraction(stream.duration) * stream.time_base)
                elif container.duration is not None:
                    seconds = container.duration / 1e6
                self.duration = seconds
                self._timed = any(name in container.format.name for name in _TIMED_CONTAINERS)
        except InputError:
            raise
        except Exception as error:  # PyAV's errors are of every kind there is
            raise InputError(
                f"{path}: not a sound file that can be read, or a damaged one ({one_line(error)})"
            ) from error
        if self.rate <= 0 or self.channels <= 0:
            raise InputError(
                f"{path}: not a sound file that can be read, or a damaged one (no sampling rate)"
            )

    def read(self, frames: int) -> Iterator[FloatArray]:
        import av

        count, held, parts = 0, 0, []
        try:
            with open_container(self.path) as container:
                stream = container.streams.audio[0]
                converter = av.AudioResampler(format="fltp", layout=stream.layout, rate=self.rate)
                for frame in container.decode(stream):
                    for piece in converter.resample(frame):
                        block = piece.to_ndarray().T
                        parts.append(np.asarray(block, np.float32))
                        held += len(block)
                    if held >= frames:
                        count += held
                        yield np.concatenate(parts)
                        held, parts = 0, []
        except Exception as error:  # PyAV's errors are of every kind there is
            if count + held == 0:
                raise InputError(f"{self.path}: no sound could be decoded ({one_line(error)})") from error
            raise InputError(
                f"{self.path}: damaged after {(count + held) / self.rate:.2f} s ({one_line(error)})"
            ) from error
        if parts:
            count += held
            yield np.concatenate(parts)
        if self._timed and self.duration is not None:
            seconds = count / self.rate
            if count and seconds < self.duration - max(1.0, 0.05 * self.duration):
                raise InputError(
                    f"{self.path}: the file is cut short, {seconds:.2f} s of {self.duration:.2f} s are "
                    f"there; copy it again"
                )


def _riff_seconds_missing(path: Path) -> float | None:
    """Seconds that a WAV file's ``data`` chunk promises and the file does not hold; None for whole or other
    files."""
    with path.open("rb") as file:
        head = file.read(12)
        if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return None
        size, bytes_per_second = path.stat().st_size, 0
        while len(chunk := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", chunk)
            if name == b"fmt " and length >= 16:
                data = file.read(length)
                bytes_per_second = int(struct.unpack("<I", data[8:12])[0]) if len(data) >= 12 else 0
                continue
            if name == b"data":
                missing = file.tell() + length - size
                if length in _UNKNOWN_SIZES or bytes_per_second == 0 or missing <= 1:
                    return None
                return missing / bytes_per_second
            file.seek(length + (length & 1), os.SEEK_CUR)
    return None
