"""Pictures that cameras took: a file a frame, or a video; grey values when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facetalk.arrays import Bool, Float32, UInt8
from facetalk.errors import InputError
from facetalk.optional import needed_for
from facetalk.reading import usable

__all__ = ["VIDEOS", "Pictures"]

VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm")
"""Suffixes that PyAV reads."""

_LARGEST = 1 << 26  # pixels
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # luma of ITU-R BT.601


class Pictures(Sequence[UInt8 | None]):
    """What one camera took, frame by frame; None where a frame is missing.

    Args:
        files: one a frame, None where it has none; or one video.
        size: width and height that they have to have, None for those of the first.

    Raises:
        InputError: a file is missing or cannot be read, or pictures are of several sizes.

    Attributes:
        names: of the frames.
        size: width and height in pixels.
        stamp: what changes when one of the files is another.
    """

    def __init__(self, files: Sequence[Path | None], size: tuple[int, int] | None = None) -> None:
        there = [file for file in files if file is not None]
        if not there:
            raise InputError("no pictures were given")
        for file in there:
            if not file.is_file():
                raise InputError(f"{file}: no such file")
        self._files = list(files)
        self._video = _Video(there[0]) if len(files) == 1 and there[0].suffix.lower() in VIDEOS else None
        told = [None if file is None else file.stat() for file in files]
        self.stamp = repr([None if one is None else (one.st_size, one.st_mtime_ns) for one in told])
        if self._video is not None:
            self.names = [f"{there[0]}[{t}]" for t in range(len(self._video))]
            self.size = self._video.size
        else:
            self.names = [str(file) for file in files]
            sizes = [(_size(file), file) for file in there]
            self.size = sizes[0][0]
            for one, file in sizes:
                if one != self.size:
                    raise InputError(f"{file}: {_by(one)} pixels, {there[0]} has {_by(self.size)}")
        if size is not None and self.size != size:
            raise InputError(f"{there[0]}: {_by(self.size)} pixels; its camera says {_by(size)}")

    def __len__(self) -> int:
        """Frames."""
        return len(self.names)

    def __getitem__(self, frame: int) -> UInt8 | None:  # type: ignore[override]
        """(H, W, 3) sRGB of a frame, None where it is missing."""
        if self._video is not None:
            return self._video[frame]
        file = self._files[frame]
        return None if file is None else _read(file)

    def has(self, frame: int) -> bool:
        """Whether a frame is there, without reading it."""
        return self._video is not None or self._files[frame] is not None

    def grey(self, frame: int) -> Float32 | None:
        """(H, W) brightness in 0..255."""
        picture = self[frame]
        return None if picture is None else picture.astype(np.float32) @ _GREY

    def mask(self, frame: int) -> Bool | None:
        """(H, W) of pictures that are masks: whether a pixel is the head's."""
        picture = self[frame]
        return None if picture is None else picture.max(axis=2) > 127


class _Video:
    """Frames of a video, decoded onwards; going back begins anew."""

    def __init__(self, file: Path) -> None:
        self._file, self._at = file, 0
        self._stream: Iterator[Any] | None = None
        with needed_for(f"{file}: a video"):
            import av
        self._av = av
        with (
            usable(file, "give a video that FFmpeg decodes, or a folder of pictures"),
            av.open(str(file)) as box,
        ):
            stream = box.streams.video[0]
            self.size = stream.width, stream.height
            # Headers may be wrong about the number of frames; packets of the stream are cheap to count.
            self._count = sum(1 for packet in box.demux(stream) if packet.size)
        if self.size[0] * self.size[1] > _LARGEST or not self._count:
            raise InputError(f"{file}: {self._count} frames of {_by(self.size)} pixels")

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, frame: int) -> UInt8:
        with usable(self._file, "give a video that FFmpeg decodes, or a folder of pictures"):
            if self._stream is None or frame < self._at:
                self._box = self._av.open(str(self._file))
                self._stream, self._at = self._box.decode(video=0), 0
            while True:
                try:
                    picture = next(self._stream)
                except StopIteration:
                    raise ValueError(f"it ends before frame {frame}") from None
                self._at += 1
                if self._at > frame:
                    return np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)


def _size(file: Path) -> tuple[int, int]:
    with needed_for(f"{file}: a picture", "fit"):
        from PIL import Image
    with usable(file, "give a picture (.png, .jpg)"), Image.open(file) as picture:
        if picture.width * picture.height > _LARGEST:
            raise ValueError(f"{picture.width} x {picture.height} pixels")
        return picture.width, picture.height


def _read(file: Path) -> UInt8:
    from PIL import Image

    with usable(file, "give a picture (.png, .jpg)"), Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"), np.uint8)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
