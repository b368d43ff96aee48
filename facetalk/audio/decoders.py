"""The two decoders: libsndfile, which is exact and light, and what both promise to the reader."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from facetalk.arrays import Float32
from facetalk.audio.containers import open_container
from facetalk.audio.riff import Segment, SegmentFile, segments
from facetalk.interrupts import Uninterrupted
from facetalk.reading import one_line

Say = Callable[[str], None]

_SLACK_S = 0.25
"""Seconds by which a compressed file's length may miss what its header says: padding of encoders."""


class Unreadable(Exception):
    """This decoder cannot read the file, or not on from here; another one may."""


@dataclasses.dataclass
class Sound:
    """What a decoder knows before it reads.

    Attributes:
        rate: sampling rate, Hz.
        channels: number of them.
        duration: seconds by the header; None where it does not tell.
    """

    rate: int
    channels: int
    duration: float | None


class Decoder:
    """A sound file as blocks of samples at its own rate."""

    sound: Sound

    def read(self, frames: int, say: Say) -> Iterator[Float32]:
        """Yield (n, channels) float32 blocks of about ``frames`` samples; ``say`` is told what is not well.

        Raises:
            Unreadable: what is left cannot be decoded this way.
        """
        raise NotImplementedError


class SoundFileDecoder(Decoder):
    """libsndfile, through ``soundfile``.

    Raises:
        Unreadable: it does not know the format or its length, or reads less than there is.
    """

    def __init__(self, path: Path) -> None:
        import soundfile

        self.path = path
        self._errors = (soundfile.SoundFileError, RuntimeError)
        with path.open("rb") as start:
            head = start.read(4)
        mp3 = head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)
        if mp3 and importlib.util.find_spec("av") is not None:
            # Both decoders give the same samples, but libsndfile's prints whatever it finds odd.
            raise Unreadable("MP3 is left to FFmpeg")
        packets = _seconds_of_packets(path) if head in (b"OggS", b"fLaC") else None
        self._segments, self._notes = segments(path)
        frames = 0
        try:
            for segment in self._pieces():
                with self._open(segment) as file:
                    rate, channels, self._format = file.samplerate, file.channels, file.format
                    frames += file.frames
        except (*self._errors, TypeError, ValueError) as error:
            raise Unreadable(one_line(error)) from error
        if not self._segments and not 0 < frames < 2**62:
            raise Unreadable("it does not say how long it is")
        self.frames = frames
        self.sound = Sound(rate, channels, frames / rate if rate else None)
        if packets is not None and rate and packets > frames / rate + _SLACK_S:
            raise Unreadable("its header announces less than there is")

    def _pieces(self) -> Sequence[Segment | None]:
        return self._segments or [None]

    def _open(self, segment: Segment | None) -> Any:
        import soundfile

        # Opened here: libsndfile's wrapper takes no names that are not UTF-8. It gets the descriptor where it
        # can: from a Python file it reads by callbacks, in which errors, and Ctrl-C, are printed and lost.
        raw: IO[bytes] | SegmentFile
        raw = self.path.open("rb", buffering=0) if segment is None else SegmentFile(self.path, segment)
        try:
            with Uninterrupted():
                return _Closing(raw, soundfile.SoundFile(raw if segment else raw.fileno(), closefd=False))
        except BaseException:
            raw.close()
            raise

    def read(self, frames: int, say: Say) -> Iterator[Float32]:
        """See :class:`Decoder`."""
        for note in self._notes:
            say(note)
        count = 0
        try:
            for segment in self._pieces():
                with self._open(segment) as file:
                    while True:
                        with Uninterrupted():
                            block = file.read(frames, dtype="float32", always_2d=True)
                        if not len(block):
                            break
                        count += len(block)
                        yield block
        except self._errors as error:
            raise Unreadable(one_line(error)) from error
        if count < self.frames - _SLACK_S * self.sound.rate:
            say(
                f"cut short: {(self.frames - count) / self.sound.rate:.2f} s of the sound its header "
                f"promises are missing, {count / self.sound.rate:.2f} s are there"
            )


class _Closing:
    """A ``SoundFile`` that closes the file under it as well."""

    def __init__(self, raw: Any, file: Any) -> None:
        self.raw, self.file = raw, file

    def __enter__(self) -> Any:
        return self.file

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.raw.close()


def _seconds_of_packets(path: Path) -> float | None:
    """How long an Ogg or FLAC file's packets last, which no header can hide; None where nothing tells."""
    total = 0.0
    try:
        with open_container(path) as container:
            stream = container.streams.audio[0]
            for packet in container.demux(stream):
                if packet.duration and packet.time_base:
                    total += float(packet.duration * packet.time_base)
    except Exception:  # PyAV's errors are of every kind there is; libsndfile may still read the file
        return None
    return total
