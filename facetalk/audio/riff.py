"""Where the sound of a WAV file lies, by the file and not by the sizes in its header.

Recorders that crashed, servers that stream and programs that write into a pipe leave sizes that are wrong:
zero, the largest number there is, a made-up one, or that of the first piece. Sizes are hints here. Sound goes
from the start of the ``data`` chunk to where another chunk, another WAV file or the end of the file is found.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
import struct
from pathlib import Path
from typing import BinaryIO

_NAMES = (b"RIFF", b"RF64", b"BW64")
_EMBEDDED = re.compile(rb"(?:RIFF|RF64|BW64)....WAVE", re.DOTALL)
_PLACEHOLDER = 0x7FF00000
"""Data sizes from here on are what streaming programs write for "unknown"; none is 2 GiB by chance."""
_FAR = 8
"""A promise of so many times what is there, and of more than an hour, is made up rather than cut short."""
_SLACK_S = 0.05
"""Seconds; less than this, missing or left over, is a header's slip and not sound."""
_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LIST", b"id3 ", b"bext", b"iXML", b"cue ", b"smpl", b"JUNK", b"PAD ")


@dataclasses.dataclass
class Segment:
    """One WAV file of those that lie one after the other in a file.

    Attributes:
        start: byte at which it begins.
        stop: byte after its sound.
        patches: bytes to be read in place of the file's own, by their offset in the file.
        form: the content of its ``fmt`` chunk.
    """

    start: int
    stop: int
    patches: dict[int, bytes]
    form: bytes


def segments(path: Path) -> tuple[list[Segment], list[str]]:
    """The WAV files in a file, with corrected sizes, and what there is to say of the sizes it had.

    Returns:
        No segments for a file of another format, or one whose chunks cannot be followed.
    """
    found: list[Segment] = []
    notes: list[str] = []
    with path.open("rb") as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            segment, following = _segment(file, at, size, notes)
            if segment is None:
                if found:
                    notes.append(f"the last {size - at} bytes begin another WAV file that cannot be read")
                break
            found.append(segment)
            at = following
    alike = [segment for segment in found if segment.form == found[0].form]
    if len(alike) < len(found):
        notes.append(
            f"{len(found)} WAV files in one, of different formats; only the {len(alike)} that are like the "
            f"first are read"
        )
    return alike, notes


def _segment(file: BinaryIO, start: int, size: int, notes: list[str]) -> tuple[Segment | None, int]:
    """The WAV file that begins at ``start``, and where the next one does (the file's end if none does)."""
    file.seek(start)
    head = file.read(12)
    if len(head) < 12 or head[:4] not in _NAMES or head[8:] != b"WAVE":
        return None, size
    form, long_size, patches = b"", None, {}
    while len(chunk := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", chunk)
        data = file.tell()
        if name == b"data":
            break
        if name == b"fmt ":
            form = file.read(min(length, 64))
        elif name == b"ds64" and length >= 24:
            long_size = struct.unpack("<8xQ", file.read(16))[0]
        file.seek(data + length + (length & 1))
    else:
        return None, size
    if len(form) < 16:
        return None, size
    per_second, align = struct.unpack("<8xIH", form[:14])
    if per_second == 0 or align == 0:
        return None, size
    promised = long_size if length == 0xFFFFFFFF and long_size is not None else length
    there = size - data
    if promised == 0 or promised > there:
        if _open_ended(file, data, promised, size):
            end = following = _next_file(file, data, size)
        else:
            end, following = data, size
        missing = (promised - (end - data)) / per_second
        made_up = promised >= _PLACEHOLDER or (missing > 3600.0 and promised > _FAR * (end - data))
        if promised and not made_up and missing >= _SLACK_S:
            notes.append(
                f"cut short: {missing:.2f} s of the sound its header promises are missing, "
                f"{(end - data) / per_second:.2f} s are there"
            )
    else:
        end, after = data + promised, _after(file, data + promised, size)
        following = size if after is None else after
        if after is None and (size - end) / per_second >= _SLACK_S:
            following = _next_file(file, end, size)
            notes.append(
                f"{(following - end) / per_second:.2f} s of sound follow the end that its header announces "
                f"at {promised / per_second:.2f} s; they are read as well"
            )
            end = following
    length = (end - data) // align * align
    # Sizes of 64 bits are needed only above 4 GiB, where a wrong one stays what it is.
    if length != promised and length < 2**32 - 1:
        patches[data - 4] = struct.pack("<I", length)
        if head[:4] != b"RIFF":
            patches[start] = b"RIFF"
    if end != size or start or patches:
        patches[start + 4] = struct.pack("<I", min(end - start - 8, 2**32 - 1))
    return Segment(start, data + length, patches, form), following


def _open_ended(file: BinaryIO, data: int, promised: int, size: int) -> bool:
    """Whether what follows a data chunk of no or too much promised length is its sound."""
    if promised:
        return True
    # No sound at all, and other chunks up to the end, is an empty recording.
    return size > data and _after(file, data, size) != size


def _after(file: BinaryIO, at: int, size: int) -> int | None:
    """What comes after the announced end of sound: the start of another WAV file, the file's end where there
    are only chunks, tags and padding, None where it is neither.
    """
    at_first = at
    while size - at >= 8:
        file.seek(at)
        head = file.read(12)
        if head[:4] in _NAMES and head[8:12] == b"WAVE":
            return at
        if at == at_first and at & 1 == 1:  # chunks begin at even places, in files that follow the rule
            file.seek(at + 1)
            if file.read(4)[:4] in _NAMES:
                return at + 1
        name, length = struct.unpack("<4sI", head[:8])
        if head.startswith(_TAGS) and at + 8 + length > size:
            return size
        if not all(32 <= byte < 127 for byte in name):
            if at == at_first and at & 1 == 1:
                at += 1
                at_first = -1
                continue
            file.seek(at)
            return size if not any(file.read(1 << 16)) else None
        if at + 8 + length > size + 1:
            return None
        at += 8 + length + (length & 1)
    return size


def _next_file(file: BinaryIO, at: int, size: int) -> int:
    """Where the next WAV file begins, or the end of the file."""
    overlap, before = 12, b""
    file.seek(at)
    while block := file.read(1 << 20):
        match = _EMBEDDED.search(before + block)
        if match:
            return at - len(before) + match.start()
        at += len(block)
        before = (before + block)[-overlap:]
    return size


class SegmentFile(io.RawIOBase):
    """A segment as a file of its own, with the corrected sizes in its header."""

    def __init__(self, path: Path, segment: Segment) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._segment = segment
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Place in the segment, bytes."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the segment."""
        length = self._segment.stop - self._segment.start
        self._at = max(0, offset + (0, self._at, length)[whence])
        return self._at

    def readinto(self, buffer: object) -> int:
        """Fill a buffer from here on; the number of bytes that were there."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        first = self._segment.start + self._at
        self._file.seek(first)
        data = bytearray(self._file.read(max(0, min(len(view), self._segment.stop - first))))
        for place, patch in self._segment.patches.items():
            for index, byte in enumerate(patch):
                if first <= place + index < first + len(data):
                    data[place + index - first] = byte
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
