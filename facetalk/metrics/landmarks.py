"""The regions of a face that figures are of, and the checks that every figure makes of its arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facetalk.arrays import AnyFloat, AnyInt, Float64
from facetalk.multi_pie import BROWS, LANDMARKS, LIDS, MOUTH

REGIONS: dict[str, tuple[int, ...]] = {"mouth": MOUTH, "brows": BROWS, "lids": LIDS}


def as_points(name: str, points: AnyFloat, *, count: int | None = None, frames: int = 1) -> Float64:
    """Check an array of moving points and return it in double precision.

    Args:
        name: what the message calls it.
        points: (T, V, 3).
        count: V, where only one will do.
        frames: the least T that makes sense of it.

    Raises:
        ValueError: another shape, fewer frames, or values that are not finite.
    """
    array = np.asarray(points, np.float64)
    wanted = f"(T, {'V' if count is None else count}, 3)"
    if array.ndim != 3 or array.shape[2] != 3 or array.shape[1] == 0 or count not in (None, array.shape[1]):
        raise ValueError(f"{name} must have shape {wanted}, got {array.shape}")
    if len(array) < frames:
        raise ValueError(f"{name} has {len(array)} frames; this figure needs at least {frames}")
    require_finite(name, array)
    return array


def as_landmarks(name: str, landmarks: AnyFloat, *, frames: int = 1) -> Float64:
    """:func:`as_points` of (T, 68, 3)."""
    return as_points(name, landmarks, count=LANDMARKS, frames=frames)


def require_finite(name: str, array: Float64) -> None:
    """Raise ``ValueError`` where a value is NaN or infinite."""
    bad = np.count_nonzero(~np.isfinite(array))
    if bad:
        raise ValueError(f"{name} has {bad} values that are not finite")


def require_rate(fps: float) -> float:
    """Frames per second as a number above 0.

    Raises:
        ValueError: it is not.
    """
    if not (np.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be a number above 0, got {fps}")
    return float(fps)


def as_indices(name: str, indices: Sequence[int] | AnyInt, count: int) -> NDArray[np.intp]:
    """Indices of points as an array.

    Args:
        name: what the message calls them.
        indices: of points, in 0..count - 1.
        count: number of points.

    Raises:
        ValueError: none, not whole numbers, or beyond the points.
    """
    array = np.asarray(indices)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be a list of point indices that is not empty")
    if array.min() < 0 or array.max() >= count:
        raise ValueError(
            f"{name} must lie in 0..{count - 1}, got indices from {array.min()} to {array.max()}"
        )
    return array.astype(np.intp)


def pearson(first: Float64, second: Float64) -> float:
    """Pearson's r of two (N,) series; 0 where one of them does not move, for then it tells nothing."""
    a, b = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 1e-9 else 0.0
