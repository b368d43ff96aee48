"""A motion against a reference on the same points: the figures that papers on 3D faces report.

They compare frame by frame, so they suit what the speech decides (lips), and punish honest chance (blinks,
brows): two draws of one distribution are apart. Of the upper face only FDD is reported, which compares how
much it moves and not when.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facetalk.arrays import AnyFloat, AnyInt, Float64
from facetalk.metrics.landmarks import as_indices, as_points, pearson, require_finite, require_rate
from facetalk.metrics.lips import lip_gap
from facetalk.metrics.timing import MIN_FRAMES, lag_frames, misalignment_ms, warped_difference
from facetalk.multi_pie import LANDMARKS, LIP_CENTRE

MM = 1000.0


def compare(
    motion: AnyFloat,
    truth: AnyFloat,
    *,
    lips: Sequence[int] | AnyInt,
    upper: Sequence[int] | AnyInt,
    neutral: AnyFloat,
    fps: float,
) -> dict[str, float]:
    """Distances of a motion from a reference.

    With x the reference, x' the motion, x0 the neutral face, L the lips, U the upper face:

    - ``lve_mm2``: lip vertex error, mean over frames of max over L of |x' - x|^2, mm^2 (MeshTalk, ICCV 2021);
    - ``lve_mm``: the same of |x' - x|, mm: the root is taken of every frame, not of the mean;
    - ``mve_mm``: mean over frames and all points of |x' - x|, mm;
    - ``fdd``: upper-face dynamics deviation as CodeTalker (CVPR 2023) and ProbTalk3D compute it, mean over U
      of std_t |x - x0|^2 - std_t |x' - x0|^2 in square metres, **signed**: above 0 = the motion is too still.
      Two others go by this name: torchmetrics takes the norm of frame-to-frame displacements, and its
      docstring their squared difference. ``fdd_mm2`` is the same in mm^2;
    - ``opening_mm``: mouth opening difference, mean over frames of |o(x') - o(x)|; o is the mean |vertical
      distance| of the inner-lip pairs 61-67, 62-66, 63-65 where the points are the 68 landmarks (V = 68),
      else the vertical extent max y - min y of L;
    - ``opening_r``: Pearson's r of o over time; 0 where one of the two does not move;
    - ``dtw_mm``: mean |difference| of o along the dynamic time warping of the two;
    - ``mtm_ms``: mean temporal misalignment (:func:`facetalk.metrics.timing.misalignment_ms`) of the distance
      62-66, or of o where the points are not landmarks; NaN where no extremum has a partner;
    - ``lag_ms``: the shift at which o correlates best, above 0 = the motion is late; NaN where nothing moves.

    Args:
        motion: (T, V, 3) metres, +y up.
        truth: (T, V, 3) metres, the same points in the same frames.
        lips: indices of L.
        upper: indices of U.
        neutral: (V, 3) metres.
        fps: frames per second.

    Raises:
        ValueError: shapes that do not fit each other, fewer than 3 frames, values that are not finite, or
            indices beyond V.
    """
    moved, reference = (
        as_points(name, points, frames=MIN_FRAMES) for name, points in (("motion", motion), ("truth", truth))
    )
    if moved.shape != reference.shape:
        raise ValueError(f"motion and truth must have one shape, got {moved.shape} and {reference.shape}")
    count = moved.shape[1]
    rest = np.asarray(neutral, np.float64)
    if rest.shape != (count, 3):
        raise ValueError(f"neutral must have shape ({count}, 3), got {rest.shape}")
    require_finite("neutral", rest)
    mouth, above = as_indices("lips", lips, count), as_indices("upper", upper, count)
    fps = require_rate(fps)

    away = np.linalg.norm(moved - reference, axis=-1) * MM
    worst = away[:, mouth].max(1)
    fdd = float(np.mean(_spread_from(reference, rest, above) - _spread_from(moved, rest, above)))
    here, there = opening(moved, mouth), opening(reference, mouth)
    if count == LANDMARKS:
        timed = tuple(
            np.linalg.norm(p[:, LIP_CENTRE[0]] - p[:, LIP_CENTRE[1]], axis=-1) for p in (moved, reference)
        )
    else:
        timed = (here, there)
    return {
        "lve_mm2": float(np.mean(worst**2)),
        "lve_mm": float(np.mean(worst)),
        "mve_mm": float(np.mean(away)),
        "fdd": fdd,
        "fdd_mm2": fdd * MM**2,
        "opening_mm": float(np.mean(np.abs(here - there))),
        "opening_r": pearson(here, there),
        "dtw_mm": warped_difference(here, there),
        "mtm_ms": misalignment_ms(timed[0], timed[1], fps),
        "lag_ms": lag_frames(here, there, fps) * 1000.0 / fps,
    }


def opening(points: Float64, lips: NDArray[np.intp]) -> Float64:
    """How far the mouth is open in every frame.

    Args:
        points: (T, V, 3) metres, +y up.
        lips: indices of the lips, used where V is not 68.

    Returns:
        (T,) mm: see ``opening_mm`` of :func:`compare`.
    """
    if points.shape[1] == LANDMARKS:
        return lip_gap(points)
    return np.asarray(np.ptp(points[:, lips, 1], axis=1) * MM)


def _spread_from(points: Float64, rest: Float64, indices: NDArray[np.intp]) -> Float64:
    """Standard deviation over time of the squared displacement from rest: (len(indices),) square metres."""
    return np.asarray(((points[:, indices] - rest[indices]) ** 2).sum(-1).std(0))
