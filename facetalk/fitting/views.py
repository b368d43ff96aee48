"""What a recording gives a fit: scans, depth maps or pictures, and landmarks that cameras saw."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from facetalk.arrays import Bool, Float32, Float64
from facetalk.errors import InputError
from facetalk.fitting.cameras import Camera, View, read_rig
from facetalk.fitting.depth import DepthScans
from facetalk.fitting.marks import USED
from facetalk.fitting.options import FitOptions
from facetalk.fitting.photos import Photos
from facetalk.fitting.scans import Scans
from facetalk.fitting.seen import SeenScans
from facetalk.fitting.sequence import Fit, Model, as_head, fit_sequence
from facetalk.fitting.triangulate import Triangulated, reproject, triangulate
from facetalk.posing import landmarks
from facetalk.reading import read_array
from facetalk.units import HEAD_UNIT_METRES

__all__ = ["Capture", "Views"]


_ALONE = {"code_spread": 0.4, "pose_speed_mm": 0.5}
"""Shares of what codes and poses may do, before one camera."""
_SWEPT = (
    0.02  # of a swept point's say: patches overlap, so that neighbours err alike, and would outvote landmarks
)
_DETECTED = 3.0  # times as far off as landmarks of one's own are those that a detector for any face finds


class Views:
    """Cameras of a capture.

    Where no camera has landmarks they are looked for in the pictures.

    Args:
        path: see :func:`facetalk.fitting.cameras.read_rig`.
        kept: file of the cameras' places, where those have to be found.

    Raises:
        InputError: the file is none, or a camera saw nothing, or landmarks cannot be used, or cameras that
            were found do not agree about them.

    Attributes:
        views: the cameras.
        unplaced: names of cameras whose places were not found, and which are left out.
        found: whether the others' were found in their pictures, in a scale of their own.
        scans: points by depth maps, or None.
        photos: pictures, or None.
        landmarks: triangulated ones, or None where no cameras have any.
        eye: (3,) where the only camera stands, whose landmarks are points on its rays; None of more cameras.
        detected: whether they were found in the pictures.
        blind: names of cameras whose pictures show no face that was found.
    """

    def __init__(self, path: Path, kept: Path | None = None) -> None:
        rig = read_rig(path, kept)
        self.views, self.unplaced, self.found = rig.views, rig.unplaced, rig.found
        self.scans = DepthScans(self.views) if any(view.depth for view in self.views) else None
        self.photos = Photos(self.views, path) if any(view.images for view in self.views) else None
        seeing = [view for view in self.views if view.landmarks is not None]
        self.detected = self.photos is not None and not seeing
        self.blind: list[str] = []
        if self.photos is not None and self.detected:
            marks = self.photos.landmarks(self.photos.names)
            self.blind = [name for name, _, found in marks if not np.isfinite(found).any()]
            marks = [row for row in marks if row[0] not in self.blind]
            if not marks and self.scans is None:
                raise InputError(f"{path}: no face was found in any picture of {len(self.blind)} cameras")
            if len(marks) < 2 < len(self.views) and self.scans is None:
                raise InputError(f"{path}: camera {marks[0][0]} alone sees a face; triangulation needs two")
        else:
            marks = [(view.name, view.camera, _read_marks(view)) for view in seeing]
        # One camera is fitted where it is all there is, not where the others failed.
        self.eye: Float64 | None = marks[0][1].centre if len(marks) == len(self.views) == 1 else None
        if len(marks) == 1 and self.eye is None:
            if not self.detected:
                raise InputError(
                    f"{path}: landmarks of one camera alone; triangulation needs two, or a file of it alone"
                )
            marks = []
        if not marks and self.scans is None:
            raise InputError(
                f"{path}: cameras that saw nothing; give images, depth maps, or landmarks of two of them"
            )
        self.landmarks = (
            (_alone(*marks[0]) if self.eye is not None else _triangulated(marks)) if marks else None
        )
        if self.found and self.landmarks is not None and 2 * len(self.landmarks.wrong) > len(marks):
            if kept is not None:
                kept.unlink(missing_ok=True)
            raise InputError(
                f"{path}: the places of cameras that were found in pictures are wrong, as they do not agree "
                f'about the landmarks; say "focal", take larger pictures, or give each camera K, R and t'
            )
        frames = {
            "depth maps": self.scans and len(self.scans),
            "pictures": self.photos and self.photos.frames,
        }
        for what, count in frames.items():
            if self.landmarks is not None and count is not None and count != len(self.landmarks.points):
                raise InputError(
                    f"{path}: landmarks of {len(self.landmarks.points)} frames, {what} of {count}"
                )
        self.seen: SeenScans | None = None

    @property
    def wrong(self) -> list[str]:
        """Names of cameras that do not agree with the others, by landmarks or by pictures."""
        # A detector errs on faces from the side, which is no fault of their camera's.
        by_pictures_alone = self.detected and self.seen is not None
        by_marks = [] if self.landmarks is None or by_pictures_alone else self.landmarks.wrong
        by_pictures = [] if self.seen is None else self.seen.wrong
        return [*by_marks, *(name for name in by_pictures if name not in by_marks)]

    def cameras(self) -> list[dict[str, Any]]:
        """What is known of each camera that saw something, JSON values: reprojection error and share of
        agreement of its landmarks, likeness of its pictures to the others'."""
        seen, alike = self.landmarks, {} if self.seen is None else self.seen.alike
        rows: dict[str, dict[str, Any]] = {name: {"name": name, "faces": 0} for name in self.blind}
        if seen is not None:
            told = zip(seen.names, seen.error_px.tolist(), seen.share.tolist(), strict=True)
            for name, error, share in told:
                rows[name] = {
                    "name": name,
                    "error_px": round(error, 3) if np.isfinite(error) else None,
                    "agrees": round(share, 3) if np.isfinite(share) else None,
                }
        for name, value in alike.items():
            rows.setdefault(name, {"name": name})["alike"] = round(value, 3)
        wrong = self.wrong
        told_of = [{**row, "wrong": name in wrong} for name, row in rows.items()]
        return told_of + [{"name": name, "placed": False, "wrong": False} for name in self.unplaced]


def _read_marks(view: View) -> Float64:
    assert view.landmarks is not None
    array = read_array(view.landmarks).astype(np.float64)
    if array.ndim != 3 or array.shape[1:] != (68, 2):
        raise InputError(f"{view.landmarks}: expected landmarks (T, 68, 2) in pixels, got {array.shape}")
    if not np.isfinite(array).any():
        raise InputError(f"{view.landmarks}: camera {view.name} saw no landmark in any frame")
    return array


def _alone(name: str, camera: Camera, pixels: Float64) -> Triangulated:
    """Landmarks of a camera alone, each one unit ahead on its ray."""
    points = camera.lift(pixels.reshape(-1, 2), np.ones(pixels[..., 0].size)).reshape(*pixels.shape[:2], 3)
    agreeing: Bool = np.asarray(np.isfinite(points).all(axis=2), bool)[None]
    return Triangulated(points, agreeing, pixels[None], (camera,), (name,), np.array([np.nan]), np.ones(1))


def _triangulated(marks: Sequence[tuple[str, Camera, Float64]]) -> Triangulated:
    counts = {len(array) for _, _, array in marks}
    if len(counts) > 1:
        raise InputError(
            f"cameras have landmarks of {min(counts)} to {max(counts)} frames; expected as many each"
        )
    names, cameras, pixels = zip(*marks, strict=True)
    found = triangulate(cameras, np.stack(pixels), names)
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
        kept: file of the cameras' places, where those have to be found in pictures; None keeps nothing.

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

    def __init__(
        self, points: Sequence[Path], views: Path | None, unit: str | None, kept: Path | None = None
    ) -> None:
        self.views = None if views is None else Views(views, kept)
        if self.views is not None and self.views.found and (points or unit is not None):
            raise InputError(
                f"{views}: cameras that are found in pictures have a scale and axes of their own, to "
                f"which {'points do' if points else 'a unit does'} not belong; give each K, R and t"
            )
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
        self.eye = None if self.views is None else self.views.eye
        if self.eye is not None and self.unit is None:
            self.unit = "metres"  # of t: a camera alone does not tell a head's size from its distance
        self.names = [] if self.scans is None else self.scans.names
        self.stamp = "" if self.scans is None else self.scans.stamp
        photos = None if self.views is None else self.views.photos
        # Pictures give points where nothing better does.
        self.photos = photos if self.scans is None and self.eye is None else None
        if photos is not None:
            self.stamp += photos.stamp

    @property
    def passes(self) -> int:
        """How often a fit goes through the frames: with pictures by landmarks first, then by points."""
        return 1 if self.photos is None else 2

    def look(
        self,
        model: Model,
        fps: float,
        identity: ArrayLike | None,
        options: FitOptions,
        reach_m: float = 0.008,
        progress: Callable[[int], None] = lambda frames: None,
        frames: int | None = None,
    ) -> Sequence[ArrayLike] | None:
        """Frames of points: given ones, or those that pictures show around a fit of the landmarks.

        Of pictures the first so many `frames`, None for all.
        """
        if self.photos is None or self.views is None:
            return self.scans
        near = fit_sequence(
            None,
            model,
            fps=fps,
            identity=identity,
            options=options,
            unit=self.unit,
            marks=None if self.marks is None else self.marks[:frames],
            progress=progress,
        )
        told = self.views.landmarks
        wrong = [] if told is None or self.views.detected else told.wrong
        self.views.seen = SeenScans(self.photos, as_head(model), near, wrong, reach_m)
        return self.views.seen

    def __len__(self) -> int:
        """Frames."""
        return len(self.scans) if self.scans is not None else 0 if self.marks is None else len(self.marks)

    def weighed(self, options: FitOptions) -> FitOptions:
        """Options with the say that landmarks of this capture have."""
        if self.views is not None and self.views.detected:
            return dataclasses.replace(options, landmark_mm=_DETECTED * options.landmark_mm)
        return options

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
        options = self.weighed(options)
        if self.eye is not None:
            options = dataclasses.replace(
                options, **{name: share * getattr(options, name) for name, share in _ALONE.items()}
            )
        scans = self.look(model, fps, identity, options, progress=progress)
        if self.views is not None and self.views.seen is not None:
            options = swept(options)
        done = (self.passes - 1) * len(self)
        fit = fit_sequence(
            scans, model, fps=fps, identity=identity, options=options, unit=self.unit, marks=self.marks,
            names=self.names or None, stamp=self.stamp, state=state, eye=self.eye,
            blind=self.photos is not None,
            progress=lambda frames: progress(done + frames),
        )  # fmt: skip
        if self.views is None or self.views.landmarks is None:
            return fit
        off = _pixels_off(self.views.landmarks, fit, landmarks(as_head(model), fit.motion, None))
        return dataclasses.replace(fit, report=dataclasses.replace(fit.report, landmark_px=off))


def swept(options: FitOptions) -> FitOptions:
    """Options with the say that points have which a sweep through pictures gave."""
    return dataclasses.replace(options, point_share=_SWEPT * options.point_share)


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
