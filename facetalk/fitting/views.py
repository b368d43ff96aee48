"""What a recording gives a fit: scans or depth maps, and landmarks that cameras saw, triangulated."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from facetalk.arrays import Float32
from facetalk.errors import InputError
from facetalk.fitting.cameras import Camera, View, read_views
from facetalk.fitting.depth import DepthScans
from facetalk.fitting.marks import USED
from facetalk.fitting.options import FitOptions
from facetalk.fitting.scans import Scans
from facetalk.fitting.sequence import Fit, Model, as_head, fit_sequence
from facetalk.fitting.triangulate import Triangulated, reproject, triangulate
from facetalk.posing import landmarks
from facetalk.reading import read_array
from facetalk.units import HEAD_UNIT_METRES

__all__ = ["Capture", "Views"]


class Views:
    """Cameras of a capture.

    Args:
        path: see :func:`facetalk.fitting.cameras.read_views`.

    Raises:
        InputError: the file is none, or a camera saw nothing, or landmarks cannot be used.

    Attributes:
        views: the cameras.
        scans: points by depth maps, or None.
        landmarks: triangulated ones, or None where fewer than two cameras have any.
    """

    def __init__(self, path: Path) -> None:
        self.views = read_views(path)
        self.scans = DepthScans(self.views) if any(view.depth for view in self.views) else None
        seeing = [view for view in self.views if view.landmarks is not None]
        if len(seeing) == 1:
            raise InputError(f"{path}: landmarks of one camera alone; triangulation needs two")
        if not seeing and self.scans is None:
            raise InputError(
                f"{path}: cameras that saw nothing; give depth maps, or landmarks of two of them"
            )
        self.landmarks = _triangulated(seeing) if seeing else None
        if self.landmarks is not None and self.scans is not None:
            frames = len(self.landmarks.points)
            if frames != len(self.scans):
                raise InputError(f"{path}: landmarks of {frames} frames, depth maps of {len(self.scans)}")

    @property
    def wrong(self) -> list[str]:
        """Names of cameras whose landmarks do not agree with the others'."""
        return [] if self.landmarks is None else self.landmarks.wrong

    def cameras(self) -> list[dict[str, Any]]:
        """Reprojection error and share of agreement of the cameras with landmarks, JSON values."""
        seen = self.landmarks
        if seen is None:
            return []
        rows = zip(seen.names, seen.error_px.tolist(), seen.share.tolist(), strict=True)
        return [
            {
                "name": name,
                "error_px": round(error, 3) if np.isfinite(error) else None,
                "agrees": round(share, 3) if np.isfinite(share) else None,
                "wrong": name in seen.wrong,
            }
            for name, error, share in rows
        ]


def _triangulated(views: Sequence[View]) -> Triangulated:
    pixels = []
    for view in views:
        assert view.landmarks is not None
        array = read_array(view.landmarks).astype(np.float64)
        if array.ndim != 3 or array.shape[1:] != (68, 2):
            raise InputError(f"{view.landmarks}: expected landmarks (T, 68, 2) in pixels, got {array.shape}")
        if not np.isfinite(array).any():
            raise InputError(f"{view.landmarks}: camera {view.name} saw no landmark in any frame")
        pixels.append(array)
    counts = {len(array) for array in pixels}
    if len(counts) > 1:
        raise InputError(
            f"cameras have landmarks of {min(counts)} to {max(counts)} frames; expected as many each"
        )
    cameras: list[Camera] = [view.camera for view in views]
    found = triangulate(cameras, np.stack(pixels), [view.name for view in views])
    if not np.isfinite(found.points).any():
        raise InputError(
            "no landmark is seen alike by two cameras; are R and t from the world to the camera, and K and "
            "the landmarks in pixels of the same picture?"
        )
    return found


class Capture:
    """What a recording gives a fit: points, landmarks, or both.

    Args:
        points: files of scans, perhaps none.
        views: file of cameras, or None. Their world is that of the points.
        unit: of the points, None to find it.

    Raises:
        InputError: nothing to fit, both scans and depth maps, or numbers of frames that differ.

    Attributes:
        scans: frames of points, or None.
        views: the cameras, or None.
        marks: (T, 68, 3) landmarks, or None.
        unit: of the points; depth maps are in metres.
        names: of the frames.
        stamp: what changes when one of the files is another.
    """

    def __init__(self, points: Sequence[Path], views: Path | None, unit: str | None) -> None:
        self.views = None if views is None else Views(views)
        self.scans: Scans | DepthScans | None = Scans(points) if points else None
        self.unit = unit
        if self.views is not None and self.views.scans is not None:
            if self.scans is not None:
                raise InputError(f"{views}: its cameras have depth maps, and points are given; take one")
            if unit not in (None, "metres"):
                raise InputError(f"{views}: depth maps give points in metres, not in {unit}")
            self.scans, self.unit = self.views.scans, "metres"
        seen = None if self.views is None else self.views.landmarks
        self.marks = None if seen is None else seen.points
        if self.scans is not None and self.marks is not None and len(self.scans) != len(self.marks):
            raise InputError(f"{views}: landmarks of {len(self.marks)} frames, points of {len(self.scans)}")
        self.names = [] if self.scans is None else self.scans.names
        self.stamp = "" if self.scans is None else self.scans.stamp

    def __len__(self) -> int:
        """Frames."""
        return len(self.scans) if self.scans is not None else 0 if self.marks is None else len(self.marks)

    def fit(
        self,
        model: Model,
        *,
        fps: float,
        identity: ArrayLike | None,
        options: FitOptions,
        state: Path,
        progress: Callable[[int], None],
    ) -> Fit:
        """See :func:`facetalk.fitting.fit_sequence`; the report has landmarks in pixels, too."""
        fit = fit_sequence(
            self.scans, model, fps=fps, identity=identity, options=options, unit=self.unit, marks=self.marks,
            names=self.names or None, stamp=self.stamp, state=state, progress=progress,
        )  # fmt: skip
        if self.views is None or self.views.landmarks is None:
            return fit
        off = _pixels_off(self.views.landmarks, fit, landmarks(as_head(model), fit.motion, None))
        return dataclasses.replace(fit, report=dataclasses.replace(fit.report, landmark_px=off))


def _pixels_off(seen: Triangulated, fit: Fit, fitted: Float32) -> list[float]:
    """(T,) mean distance of fitted landmarks from where cameras that agree saw them, pixels."""
    out = []
    for t, (pose, points) in enumerate(zip(fit.poses, fitted, strict=True)):
        back = np.linalg.inv(pose)
        world = (points / HEAD_UNIT_METRES) @ back[:3, :3].T + back[:3, 3]
        off = np.linalg.norm(reproject(seen.cameras, world) - seen.pixels[:, t], axis=2)[:, USED]
        told = off[seen.agreeing[:, t, USED]]
        out.append(round(float(told.mean()), 3) if len(told) else np.nan)
    return out
