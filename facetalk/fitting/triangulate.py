"""Points in space from their places in pictures, with cameras among them that are wrong.

Of every two cameras the point is found that both rays come nearest to (the direct linear transform,
R. Hartley, A. Zisserman, Multiple View Geometry, 2nd ed., 2003, section 12.2); that which most cameras agree
with is kept, and refined over them by Gauss-Newton steps on the reprojection error.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from facetalk.arrays import Bool, Float64
from facetalk.fitting.cameras import Camera

__all__ = ["Triangulated", "reproject", "triangulate"]

_ANGLE = 4e-3  # radians, four pixels at a focal length of 1000, that a camera may disagree by
_PAIRS = 60  # at most, spread over all
_STEPS = 4
_WIDE = 0.03  # radians that two rays have to differ by, to say how far away a point is
_AGREEING = 0.5  # a camera that agrees with fewer of the points that it and others see is reported


@dataclasses.dataclass(frozen=True)
class Triangulated:
    """Points that cameras saw.

    Attributes:
        points: (T, P, 3) world, NaN where no two cameras agree.
        agreeing: (V, T, P) which cameras agree with each.
        pixels: (V, T, P, 2) what they saw, NaN where nothing.
        cameras: the cameras.
        names: of them.
        error_px: (V,) median reprojection error of each camera, of all that it saw; NaN where it saw nothing
            that is known.
        share: (V,) of what it saw that it agrees with.
    """

    points: Float64
    agreeing: Bool
    pixels: Float64
    cameras: tuple[Camera, ...]
    names: tuple[str, ...]
    error_px: Float64
    share: Float64

    @property
    def wrong(self) -> list[str]:
        """Names of cameras that do not agree with the others."""
        return [name for name, share in zip(self.names, self.share, strict=True) if not share >= _AGREEING]


def triangulate(cameras: Sequence[Camera], pixels: Float64, names: Sequence[str]) -> Triangulated:
    """Points (T, P, 3) from what cameras saw of them.

    Args:
        cameras: V of them.
        pixels: (V, T, P, 2), NaN where a camera did not see a point.
        names: of the cameras.
    """
    views, frames, count = pixels.shape[:3]
    flat = pixels.reshape(views, -1, 2)
    seen = np.asarray(np.isfinite(flat).all(axis=2))
    rays = np.full(flat.shape, np.nan)
    for v, camera in enumerate(cameras):
        rays[v, seen[v]] = camera.rays(flat[v, seen[v]])
    best = np.full((flat.shape[1], 3), np.nan)
    most, least = np.zeros(flat.shape[1], int), np.full(flat.shape[1], np.inf)
    pairs = list(itertools.combinations(range(views), 2))
    for a, b in pairs[:: max(1, -(-len(pairs) // _PAIRS))]:
        both = np.flatnonzero(seen[a] & seen[b])
        if not len(both):
            continue
        points = _of(cameras, rays[:, both], np.isin(np.arange(views), (a, b))[:, None] & seen[:, both])
        apart = _angle(cameras[a], cameras[b], points)
        off = _off(cameras, rays[:, both], points)
        agree = off < _ANGLE
        number, error = agree.sum(0), np.where(agree, off, 0.0).sum(0)
        right = agree[a] & agree[b] & (apart > _WIDE)
        better = right & ((number > most[both]) | ((number == most[both]) & (error < least[both])))
        best[both[better]], most[both[better]] = points[better], number[better]
        least[both[better]] = error[better]
    agreeing = _off(cameras, rays, best) < _ANGLE
    known = np.flatnonzero((agreeing.sum(0) >= 2) & np.isfinite(best).all(axis=1))
    if len(known):
        best[known] = _refined(cameras, rays[:, known], agreeing[:, known], best[known])
    agreeing &= np.isin(np.arange(flat.shape[1]), known)
    best[np.setdiff1d(np.arange(len(best)), known)] = np.nan
    errors, shares = np.full(views, np.nan), np.full(views, np.nan)
    off_px = reproject(cameras, best) - flat
    for v in range(views):
        told = seen[v] & np.isfinite(best).all(axis=1)
        if told.any():
            errors[v] = np.median(np.linalg.norm(off_px[v, told], axis=1))
            shares[v] = agreeing[v, told].mean()
    return Triangulated(
        best.reshape(frames, count, 3), agreeing.reshape(views, frames, count), pixels, tuple(cameras),
        tuple(names), errors, shares,
    )  # fmt: skip


def reproject(cameras: Sequence[Camera], points: Float64) -> Float64:
    """Pixels (V, N, 2) of points (N, 3)."""
    with np.errstate(invalid="ignore"):
        return np.stack([camera.project(points)[0] for camera in cameras])


def _of(cameras: Sequence[Camera], rays: Float64, used: Bool) -> Float64:
    """(N, 3) least-squares points of rays (V, N, 2) of those cameras that are used (V, N)."""
    matrix, right = np.zeros((rays.shape[1], 3, 3)), np.zeros((rays.shape[1], 3))
    for v, camera in enumerate(cameras):
        weight = used[v].astype(np.float64)
        flat = np.nan_to_num(rays[v])
        for axis in (0, 1):
            # (R x + t)[axis] = flat * (R x + t)[2], by unit rows so that no camera counts for more.
            row = camera.R[axis] - flat[:, axis, None] * camera.R[2]
            value = flat[:, axis] * camera.t[2] - camera.t[axis]
            length = np.linalg.norm(row, axis=1)
            row, value = row / length[:, None], value / length
            matrix += weight[:, None, None] * row[:, :, None] * row[:, None, :]
            right += (weight * value)[:, None] * row
    return np.asarray(np.linalg.solve(matrix + 1e-12 * np.eye(3), right[:, :, None])[:, :, 0])


def _off(cameras: Sequence[Camera], rays: Float64, points: Float64) -> Float64:
    """(V, N) how far points are from rays, tangent of the angle; infinite behind a camera or unseen."""
    found = []
    for camera, flat in zip(cameras, rays, strict=True):
        at = points @ camera.R.T + camera.t
        with np.errstate(invalid="ignore", divide="ignore"):
            off = np.linalg.norm(at[:, :2] / at[:, 2:] - flat, axis=1)
            found.append(np.where((at[:, 2] > 0) & np.isfinite(off), off, np.inf))
    return np.stack(found)


def _angle(first: Camera, second: Camera, points: Float64) -> Float64:
    """(N,) the angle at points between two cameras."""
    a, b = points - first.centre, points - second.centre
    sine = np.linalg.norm(np.cross(a, b), axis=1)
    return np.asarray(np.arctan2(sine, (a * b).sum(1)))


def _refined(cameras: Sequence[Camera], rays: Float64, used: Bool, start: Float64) -> Float64:
    points = start
    for _ in range(_STEPS):
        matrix, right = np.zeros((len(points), 3, 3)), np.zeros((len(points), 3))
        for v, camera in enumerate(cameras):
            at = points @ camera.R.T + camera.t
            ahead = np.where(used[v], at[:, 2], 1.0)
            residual = np.where(used[v, :, None], at[:, :2] / ahead[:, None] - np.nan_to_num(rays[v]), 0.0)
            for axis in (0, 1):
                row = (camera.R[axis] - (at[:, axis] / ahead)[:, None] * camera.R[2]) / ahead[:, None]
                row = np.where(used[v, :, None], row, 0.0)
                matrix += row[:, :, None] * row[:, None, :]
                right += residual[:, axis, None] * row
        scale = 1e-9 * np.trace(matrix, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        points = points - np.linalg.solve(matrix + scale, right[:, :, None])[:, :, 0]
    return np.asarray(points)
