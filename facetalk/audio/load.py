"""Reading sound: any file libsndfile or FFmpeg decodes, as 16 kHz mono float32.

libsndfile (through ``soundfile``) comes first because it is exact and light; FFmpeg (through PyAV) takes the
rest: MP3, MP4, G.722, AAC, the sound track of a video, and whatever libsndfile cannot read to its end. Both
are read block by block, mixed to mono and resampled by a streaming soxr resampler, so that a recording of
many hours needs no more memory than a short one.

Sizes in headers are hints. Files are read to their end; a recording is refused only where nothing can be
decoded, and what is missing is said by :class:`facetalk.errors.HearingWarning`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import soxr

from facetalk.arguments import whole_number
from facetalk.arrays import Float32
from facetalk.audio.containers import check_form
from facetalk.audio.decoders import Decoder, SoundFileDecoder, Unreadable
from facetalk.audio.ffmpeg import FFmpegDecoder, check_track
from facetalk.audio.hearing import Loudness, Notes
from facetalk.audio.mix import Mixer
from facetalk.audio.samples import samples_and_rate
from facetalk.audio.spool import Spool, needs_spooling
from facetalk.errors import InputError, NotInstalledError
from facetalk.reading import one_line
from facetalk.units import SAMPLE_RATE

Source = str | os.PathLike[str] | IO[bytes] | tuple[Any, Any] | dict[str, Any]

_BLOCK_S = 10.0
"""Seconds that are decoded at once, unless told."""


class AudioReader:
    """A sound file as a stream of 16 kHz mono blocks, in bounded memory.

    Iterate over it (again and again, each time from the start), or call :meth:`blocks`.

    Args:
        path: sound or video file, a pipe, ``-`` for standard input, or a file open for reading bytes. What
            can be read only once is kept in a temporary file.
        track: number, from 1, of the sound track to read; None takes the one that is marked as default, or
            the first that is not silent.

    Attributes:
        path: the file.
        name: how it is called in messages.

    Raises:
        InputError: the file is missing, a folder, empty, not audio, or has no such track.

    Warns:
        HearingWarning: while it is read, whatever is not well with it; see also :attr:`notes`.
    """

    def __init__(self, path: str | os.PathLike[str] | IO[bytes], track: int | None = None) -> None:
        self._spool = Spool(path) if needs_spooling(path) else None
        self.path = self._spool.path if self._spool is not None else Path(path)  # type: ignore[arg-type]
        self.name = self._spool.name if self._spool is not None else os.fspath(path)  # type: ignore[arg-type]
        self.track = None if track is None else whole_number("track", track)
        self._notes = Notes(self.name)
        self._weights: Float32 | None = None
        _check_file(self.path, self.name)
        with self._named():
            self._decoder: Decoder
            try:
                self._decoder = SoundFileDecoder(self.path)
                check_track(self.path, self.track, 1)
            except Unreadable:
                self._decoder = FFmpegDecoder(self.path, self.track)
            check_form(self.path, self.rate, self.channels)

    @property
    def rate(self) -> int:
        """Sampling rate of the file in Hz."""
        return self._decoder.sound.rate

    @property
    def channels(self) -> int:
        """Number of channels in the file."""
        return self._decoder.sound.channels

    @property
    def duration(self) -> float | None:
        """Length in seconds by the file's header; None where the format does not tell."""
        return self._decoder.sound.duration

    @property
    def spooled(self) -> bool:
        """Whether it is read from a temporary file, since its source can be read only once."""
        return self._spool is not None

    @property
    def notes(self) -> list[str]:
        """What was found not to be well, so far: silence, clipping, missing sound, channels left out."""
        return list(self._notes.said)

    def blocks(self, seconds: float = _BLOCK_S) -> Iterator[Float32]:
        """Yield mono float32 blocks at 16 kHz of about ``seconds`` each.

        Raises:
            InputError: samples that are NaN or infinite, nothing that can be decoded, no samples at all.
        """
        weights = self._mix()
        resampler = None
        if self.rate != SAMPLE_RATE:
            resampler = soxr.ResampleStream(self.rate, SAMPLE_RATE, 1, dtype="float32")
        loudness, count = Loudness(self.rate), 0
        for block in self.channel_blocks(seconds):
            loudness.update(block)
            mono = np.ascontiguousarray(block @ weights if len(weights) > 1 else block[:, 0])
            piece = mono if resampler is None else resampler.resample_chunk(mono)
            count += len(piece)
            yield piece
        if resampler is not None:
            tail = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            if count + len(tail) == 0:
                tail = np.zeros(1, np.float32)  # sound of less than half a sample
            if len(tail):
                yield tail
        for note in loudness.notes():
            self._notes.say(note)

    def channel_blocks(self, seconds: float = _BLOCK_S) -> Iterator[Float32]:
        """Yield (n, channels) float32 blocks at the file's own rate.

        Raises:
            InputError: as :meth:`blocks`.
        """
        count = 0
        with self._named():
            for block in self._decoded(max(1, round(seconds * self.rate))):
                bad = ~np.isfinite(block)
                if bad.any():
                    where = (count + int(np.argmax(bad.any(axis=1)))) / self.rate
                    raise InputError(
                        f"{self.path}: NaN or infinite sample at {where:.3f} s; repair the recording or "
                        f"export it as 16-bit WAV"
                    )
                count += len(block)
                yield block
            if count == 0:
                raise InputError(f"{self.path}: the file has no samples; record it again")

    def _decoded(self, frames: int) -> Iterator[Float32]:
        """Blocks of the decoder, or from where it fails on, of FFmpeg."""
        count = 0
        try:
            for block in self._decoder.read(frames, self._notes.say):
                count += len(block)
                yield block
            return
        except Unreadable as error:
            reason = one_line(error)
        if isinstance(self._decoder, FFmpegDecoder):
            raise InputError(f"{self.path}: no sound could be decoded ({reason})")
        try:
            other = FFmpegDecoder(self.path)
            if (other.sound.rate, other.sound.channels) != (self.rate, self.channels):
                raise Unreadable(reason)
            behind = count
            for block in other.read(frames, self._notes.say):
                fresh = block[behind:] if behind < len(block) else block[:0]
                behind = max(0, behind - len(block))
                count += len(fresh)
                if len(fresh):
                    yield fresh
        except (Unreadable, InputError) as error:
            if count == 0:
                if isinstance(error, NotInstalledError):
                    raise
                raise InputError(f"{self.path}: no sound could be decoded ({reason})") from error
        promised = self.duration
        if promised is None or count / self.rate < promised - 0.05:
            self._notes.say(
                f"damaged ({reason}); {count / self.rate:.2f} s could be read, the rest is missing"
            )

    def _mix(self) -> Float32:
        """Weights of the channels, which take a pass over the file to find."""
        if self._weights is None:
            if self.channels == 1:
                return np.ones(1, np.float32)
            mixer = Mixer(self.channels)
            for block in self.channel_blocks():
                mixer.update(block)
            self._weights, notes = mixer.weights()
            for note in notes:
                self._notes.say(note)
        return self._weights

    def _named(self) -> _Named:
        return _Named(str(self.path), self.name)

    def __iter__(self) -> Iterator[Float32]:
        """Blocks of ten seconds."""
        return self.blocks()


class _Named:
    """Puts the name that the user gave in the place of the temporary file's in errors."""

    def __init__(self, path: str, name: str) -> None:
        self.path, self.name = path, name

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InputError) and self.path != self.name and self.path in str(error):
            raise InputError(str(error).replace(self.path, self.name)) from error


class SampleReader:
    """Samples in memory, with the face of an :class:`AudioReader`.

    Raises:
        InputError: as :func:`load_audio`.
    """

    def __init__(self, source: Any) -> None:
        self._notes = Notes("audio")
        data, self.rate = samples_and_rate(source, self._notes)
        loudness = Loudness(round(self.rate))
        loudness.update(data)
        if data.shape[1] > 1:
            mixer = Mixer(data.shape[1])
            mixer.update(data)
            weights, notes = mixer.weights()
            mono = data @ weights
            for note in notes:
                self._notes.say(note)
        else:
            mono = data[:, 0]
        if self.rate != SAMPLE_RATE:
            mono = soxr.resample(mono, self.rate, SAMPLE_RATE)
        self.samples: Float32 = np.ascontiguousarray(mono if len(mono) else np.zeros(1), dtype=np.float32)
        for note in loudness.notes():
            self._notes.say(note)

    @property
    def notes(self) -> list[str]:
        """What was found not to be well."""
        return list(self._notes.said)

    def __iter__(self) -> Iterator[Float32]:
        """All of it at once."""
        return iter([self.samples])


def open_audio(source: Source | AudioReader, *, track: int | None = None) -> AudioReader | SampleReader:
    """Whatever :func:`load_audio` takes, or a reader, to iterate over for 16 kHz mono blocks.

    Raises:
        InputError: as :func:`load_audio`.
    """
    if isinstance(source, tuple | dict):
        if track is not None:
            raise InputError("track is for files; samples have none")
        return SampleReader(source)
    if isinstance(source, AudioReader):
        return source
    if not isinstance(source, str | os.PathLike) and not hasattr(source, "read"):
        raise InputError(
            f"audio must be a path, an open file or (samples, rate), got {type(source).__name__}"
        )
    return AudioReader(source, track)


def load_audio(source: Source | AudioReader, *, track: int | None = None) -> Float32:
    """Load a whole recording.

    Args:
        source: path of a sound or video file, a pipe, ``-`` for standard input, a file open for reading
            bytes (``io.BytesIO`` too), ``(samples, rate)`` or ``{"array": samples, "sampling_rate": rate}``.
            Samples are arrays or tensors of shape (N,), (N, channels) or (channels, N): floating in [-1, 1],
            or integers at full scale of their type (unsigned ones around its middle); integers of 32 and 64
            bits whose values fit 16 or 24 bits count as such. Rate in Hz.
        track: number, from 1, of the sound track of a file; None takes the one that is marked as default, or
            the first that is not silent.

    Returns:
        (N,) float32, 16 kHz mono.

    Raises:
        InputError: whatever is wrong with the file or the samples, in one line.

    Warns:
        HearingWarning: silence, near-silence, clipping, missing sound, channels that cancel.
    """
    return np.concatenate([block for block in open_audio(source, track=track) if len(block)])


def _check_file(path: Path, name: str) -> None:
    """Refuse what no decoder could give a good message for."""
    if path.is_dir():
        raise InputError(f"{name} is a folder; give the path of a sound file")
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file; check the path") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be opened ({one_line(error)})") from error
    if size == 0:
        raise InputError(f"{name}: the file is empty (0 bytes); record it again")
    if not os.access(path, os.R_OK):
        raise InputError(f"{name}: no permission to read it")
