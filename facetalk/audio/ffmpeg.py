"""FFmpeg, through PyAV: sound tracks of videos and every format that libsndfile does not read.

Timestamps decide where sound lies. A track that begins after the picture begins late, and a hole is filled
with silence, so that a face made from the sound stays in step with the video.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from facetalk.arrays import Float32
from facetalk.audio.containers import open_container
from facetalk.audio.decoders import Decoder, Say, Sound, Unreadable
from facetalk.errors import InputError
from facetalk.reading import one_line

_TIMED = ("mov", "mp4", "matroska", "webm", "avi", "asf", "flv", "mpegts", "mpeg", "nut", "mxf", "wtv", "rm")
"""Containers with a time on every packet, after which sound is laid out."""
_FROM_ZERO = ("mov", "mp4", "matroska", "webm")
"""Containers whose clock starts at zero, so that a late start is meant; others begin anywhere."""
_LATEST_START_S = 10.0
"""A sound track alone that begins later than this is a piece of a longer stream."""
_STEP_S = 0.05
"""Seconds by which timestamps may wander (rounding to milliseconds, packets of AVI) before sound is moved."""
_LONGEST_HOLE_S = 3600.0
"""A longer jump is a broken clock."""
_AUDIBLE = 1e-3
"""Amplitude (-60 dB of full scale) above which a track is not silent."""


class FFmpegDecoder(Decoder):
    """One sound track of a file.

    Args:
        path: the file.
        track: number of the sound track from 1; None takes the one that is marked as default, or the first
            that is not silent.

    Raises:
        InputError: not a file with sound, or no such track.
    """

    def __init__(self, path: Path, track: int | None = None) -> None:
        self.path = path
        self._notes: list[str] = []
        try:
            with open_container(path) as container:
                tracks = container.streams.audio
                if not tracks:
                    raise InputError(
                        f"{path}: no sound in this file; give a recording or a video with a sound track"
                    )
                check_track(path, track, len(tracks))
                marked = sorted(range(len(tracks)), key=lambda i: not _marked(tracks[i]))
                usable = [i for i in marked if _form(tracks[i])[0] > 0 and _form(tracks[i])[1] > 0]
                if track is not None:
                    usable = [track - 1]
                names = container.format.name.split(",")
                self._timed = any(name in names for name in _TIMED)
                self._from_zero = any(name in names for name in _FROM_ZERO)
                # The length of other MP3 files is an estimate.
                self._promises = self._timed or ("mp3" in names and _counts_frames(path))
            self._index = self._audible(usable, len(tracks)) if track is None else usable[0]
            with open_container(path) as container:
                stream = container.streams.audio[self._index]
                rate, channels = _form(stream)
                self.sound = Sound(rate, channels, self._duration(container, stream))
        except InputError:
            raise
        except Exception as error:  # PyAV's errors are of every kind there is
            # FFmpeg's numbers, and the name under which it was given the file, help nobody.
            why = getattr(error, "strerror", None) or one_line(error)
            raise InputError(
                f"{path}: not a sound file that can be read, or a damaged one ({why})"
            ) from error
        if rate <= 0 or channels <= 0:
            raise InputError(
                f"{path}: not a sound file that can be read, or a damaged one (no sampling rate)"
            )

    def _audible(self, order: list[int], count: int) -> int:
        """Of several tracks the first that is not silent, in order of preference."""
        if count == 1 or not order:
            return order[0] if order else 0
        for index in order:
            if self._has_sound(index):
                break
        else:
            self._notes.append(f"all {count} sound tracks are silent")
            return order[0]
        if index != order[0]:
            self._notes.append(f"sound track {order[0] + 1} is silent; track {index + 1} of {count} is read")
        else:
            self._notes.append(f"{count} sound tracks; track {index + 1} is read")
        return index

    def _has_sound(self, index: int) -> bool:
        try:
            with open_container(self.path) as container:
                stream = container.streams.audio[index]
                converter = _converter(stream)
                for frame in container.decode(stream):
                    for piece in converter.resample(frame):
                        if np.abs(_samples(piece)).max(initial=0.0) > _AUDIBLE:
                            return True
        except Exception:  # a track that cannot be decoded has none
            return False
        return False

    def _duration(self, container: Any, stream: Any) -> float | None:
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        told = stream.metadata.get("DURATION", "")  # Matroska, "00:00:02.918000000"
        try:
            hours, minutes, seconds = told.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        except ValueError:
            pass
        # The container's own is that of its longest stream, which may be the picture.
        if container.duration is not None and not _pictures(container):
            return float(container.duration) / 1e6
        return None

    def read(self, frames: int, say: Say) -> Iterator[Float32]:
        """See :class:`Decoder`."""
        for note in self._notes:
            say(note)
        count, held, parts = 0, 0, []
        decoded = 0
        damage: list[str] = []
        try:
            with open_container(self.path) as container:
                stream = container.streams.audio[self._index]
                places = _Places(self._origin(container, stream), self.sound.rate, self._timed, say)
                converter = _converter(stream)
                for at, block in _decode(container, stream, converter, damage):
                    for part in places.put(at, block, count + held):
                        parts.append(part)
                        held += len(part)
                        decoded += len(part) if part is block else 0
                        if held >= frames:
                            count += held
                            yield np.concatenate(parts)
                            held, parts = 0, []
        except Exception as error:  # PyAV's errors are of every kind there is
            damage.append(one_line(error))
        if not decoded and damage:
            raise Unreadable(damage[0])
        if parts:
            count += held
            yield np.concatenate(parts)
        seconds = count / self.sound.rate
        if damage:
            say(
                f"damaged: {len(damage)} of its packets could not be decoded and are left out "
                f"({damage[0]}); {seconds:.2f} s are read"
            )
        promised = self.sound.duration
        if self._promises and promised is not None and seconds < promised - max(1.0, 0.05 * promised):
            say(f"cut short: {seconds:.2f} s of {promised:.2f} s of sound are there")

    def _origin(self, container: Any, stream: Any) -> float:
        """The time, on the container's clock, at which the animation begins."""
        starts = [
            float(one.start_time * one.time_base)
            for one in (*_pictures(container), *container.streams.audio)
            if one.start_time is not None and one.time_base is not None
        ]
        first = min(starts, default=0.0)
        alone = not _pictures(container)
        if self._from_zero and 0.0 < first <= _LATEST_START_S and alone:
            return 0.0
        return first


class _Places:
    """Lays decoded pieces out by their timestamps."""

    def __init__(self, origin: float, rate: int, timed: bool, say: Say) -> None:
        self.origin, self.rate, self.timed, self.say = origin, rate, timed, say
        self.filled = 0.0
        self.first = True

    def put(self, at: float | None, block: Float32, count: int) -> Iterator[Float32]:
        """Yield ``block``, which belongs at ``at`` seconds, with silence before it where there is a hole.

        Args:
            at: time of its first sample on the container's clock; None if unknown.
            block: (n, channels) samples.
            count: samples that lie before it so far.
        """
        if self.timed and at is not None:
            ahead = at - self.origin - count / self.rate
            if ahead > _LONGEST_HOLE_S or ahead < -1.0:
                # The clock broke or started anew, as in files that were glued together.
                self.origin = at - count / self.rate
                self.say(f"its clock jumps at {count / self.rate:.2f} s; the sound is read on without a gap")
            elif ahead > _STEP_S:
                if not self.first:
                    self.say(f"a hole of {ahead:.2f} s at {count / self.rate:.2f} s is filled with silence")
                left = round(ahead * self.rate)
                while left > 0:
                    yield np.zeros((min(left, self.rate), block.shape[1]), np.float32)
                    left -= self.rate
            elif ahead < -_STEP_S:
                block = block[round(-ahead * self.rate) :]  # sound that was sent twice
        self.first = False
        if len(block):
            yield block


def _decode(
    container: Any, stream: Any, converter: Any, damage: list[str]
) -> Iterator[tuple[float | None, Float32]]:
    """Time and samples of every frame; packets that cannot be decoded are noted and left out."""
    for packet in container.demux(stream):
        try:
            decoded = packet.decode()
        except Exception as error:  # PyAV's errors are of every kind there is
            damage.append(one_line(error))
            continue
        for frame in decoded:
            at = None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
            pieces = converter.resample(frame)
            for piece in pieces:
                block = _samples(piece)
                yield at, block
                if at is not None:
                    at += len(block) / piece.sample_rate


def _converter(stream: Any) -> Any:
    import av

    # Interleaved: PyAV reads beyond a frame's list of eight planes where there are more channels.
    return av.AudioResampler(format="flt", layout=stream.layout, rate=stream.rate)


def _samples(piece: Any) -> Float32:
    """(n, channels) samples of a converted frame."""
    return np.array(piece.to_ndarray(), np.float32).reshape(-1, piece.layout.nb_channels)


def _form(stream: Any) -> tuple[int, int]:
    # A stream whose codec FFmpeg does not know has neither.
    return int(getattr(stream, "rate", None) or 0), int(getattr(stream, "channels", None) or 0)


def _counts_frames(path: Path) -> bool:
    """Whether an MP3 file says how many frames it has, in its first one."""
    with path.open("rb") as file:
        head = file.read(10)
        if head[:3] == b"ID3" and len(head) == 10:
            size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
            file.seek(10 + size)
        else:
            file.seek(0)
        first = file.read(256)
    return any(tag in first for tag in (b"Xing", b"Info", b"VBRI"))


def _marked(stream: Any) -> bool:
    return "default" in str(getattr(stream, "disposition", "")).lower() or bool(
        int(getattr(stream, "disposition", 0)) & 1
    )


def _pictures(container: Any) -> list[Any]:
    """Video streams but for cover pictures."""
    attached = 0x400  # AV_DISPOSITION_ATTACHED_PIC
    return [one for one in container.streams.video if not int(getattr(one, "disposition", 0)) & attached]


def check_track(path: Path, track: int | None, count: int) -> None:
    """Refuse the number of a sound track that is not there.

    Raises:
        InputError: there is none of that number.
    """
    if track is not None and not 1 <= track <= count:
        raise InputError(f"{path}: no sound track {track}; it has {count}, numbered from 1")
