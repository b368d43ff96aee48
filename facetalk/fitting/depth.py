"""Frames of points from depth maps: 16-bit PNG, with cameras whose place is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facetalk.arrays import Float64
from facetalk.errors import InputError
from facetalk.fitting.cameras import View
from facetalk.optional import needed_for
from facetalk.reading import usable

__all__ = ["DepthScans"]

_MOST = 60000  # points of a camera
_FLYING = 0.02  # relative step of depth to a neighbour, above which a pixel hangs between two surfaces
_LARGEST = 1 << 26  # pixels of a map


class DepthScans(Sequence[Float64]):
    """Frames of points, metres, from the depth maps of one or more cameras.

    A map is a 16-bit PNG of one channel; 0 is no measurement. R and t are in metres, from the world to the
    camera.

    Args:
        views: cameras; those without depth maps are left alone.

    Raises:
        InputError: no camera has any, or a file is missing.

    Attributes:
        names: of the frames.
        stamp: what changes when one of the files is another.
    """

    def __init__(self, views: Sequence[View]) -> None:
        self._views = [view for view in views if view.depth]
        if not self._views:
            raise InputError("no camera has depth maps")
        for view in self._views:
            for file in view.depth:
                if not file.is_file():
                    raise InputError(f"{file}: no such file")
        self.names = [str(file) for file in self._views[0].depth]
        told = [file.stat() for view in self._views for file in view.depth]
        self.stamp = repr([(one.st_size, one.st_mtime_ns) for one in told])

    def __len__(self) -> int:
        """Frames."""
        return len(self.names)

    def __getitem__(self, frame: int) -> Float64:  # type: ignore[override]
        """Points (N, 3) of a frame, metres."""
        return np.concatenate([_points(view, frame) for view in self._views])


def _points(view: View, frame: int) -> Float64:
    file = view.depth[frame]
    with needed_for(f"{file}: a depth map", "fit"):
        from PIL import Image
    with usable(file, "give a 16-bit PNG of one channel"), Image.open(file) as picture:
        if picture.width * picture.height > _LARGEST:
            raise ValueError(f"{picture.width} x {picture.height} pixels")
        if not picture.mode.startswith("I;16") and picture.mode != "I":
            raise ValueError(f"mode {picture.mode}, no 16 bits of one channel")
        steps = np.asarray(picture).astype(np.float64)
    depth = steps * view.depth_scale
    # Pixels on the border of what is in front are means of two surfaces.
    limit, flying = _FLYING * depth, np.zeros(depth.shape, bool)
    for axis in (0, 1):
        step = np.abs(np.diff(depth, axis=axis)) > np.minimum(
            *(np.take(limit, range(a, depth.shape[axis] - 1 + a), axis=axis) for a in (0, 1))
        )
        pad = [(0, 0), (0, 0)]
        for pad[axis] in ((0, 1), (1, 0)):
            flying |= np.pad(step, pad)
    rows, columns = np.nonzero((depth > 0) & ~flying)
    if len(rows) > _MOST:
        chosen = np.random.default_rng(frame).permutation(len(rows))[:_MOST]
        rows, columns = rows[chosen], columns[chosen]
    return view.camera.lift(np.stack([columns, rows], axis=1), depth[rows, columns])
