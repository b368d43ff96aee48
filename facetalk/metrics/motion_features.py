"""Feature vectors of motion for the distances of :mod:`facetalk.metrics.distribution`.

A window of a second of a region's landmarks, flattened and put on the principal components that windows of
the truth have, beside how much of the window they do not describe. The last one keeps what no truth does
(jitter, frames out of order) from vanishing in the projection.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from facetalk.arrays import AnyFloat, Float64
from facetalk.metrics.landmarks import as_landmarks, require_finite, require_rate
from facetalk.multi_pie import MOUTH, UPPER_FACE

WINDOW_S, HOP_S = 1.0, 0.5
COMPONENTS = 32
"""Principal components kept; a Fréchet distance needs many more windows than features."""
FEATURE_REGIONS = {"mouth": MOUTH, "upper": UPPER_FACE}
"""Lower and upper face apart: what speech decides, and what is chance."""


def motion_windows(
    landmarks: AnyFloat, rest: AnyFloat, points: Sequence[int], fps: float, *, window: float = WINDOW_S
) -> Float64:
    """Cut a clip into windows of one region's displacement from rest.

    Args:
        landmarks: (T, 68, 3) metres.
        rest: (68, 3) metres.
        points: landmarks of the region, as ``MOUTH`` or ``UPPER_FACE`` of :mod:`facetalk.metrics.landmarks`.
        fps: frames per second.
        window: seconds; consecutive windows begin ``HOP_S`` apart.

    Returns:
        (N, F) mm, F = frames of a window x points x 3, divided by the root of frames x points, so that the
        norm of a row is the root mean square displacement. N is 0 where the clip is shorter than a window.

    Raises:
        ValueError: other shapes, or values that are not finite.
    """
    moving = as_landmarks("landmarks", landmarks)
    still = np.asarray(rest, np.float64)
    if still.shape != moving.shape[1:]:
        raise ValueError(f"rest must have shape {moving.shape[1:]}, got {still.shape}")
    require_finite("rest", still)
    fps = require_rate(fps)
    length, hop = max(2, round(window * fps)), max(1, round(HOP_S * fps))
    chosen = list(points)
    away = (moving[:, chosen] - still[chosen]) * 1000.0 / np.sqrt(length * len(chosen))
    starts = range(0, len(away) - length + 1, hop)
    rows = [away[start : start + length].ravel() for start in starts]
    return np.array(rows) if rows else np.zeros((0, length * len(chosen) * 3))


@dataclasses.dataclass(frozen=True)
class WindowBasis:
    """Principal components of windows of the truth.

    Attributes:
        mean: (F,) mean window, mm.
        components: (K, F) orthonormal rows.
        scale: root mean square of a feature over the truth, mm; a kernel distance is taken of features /
            scale.
    """

    mean: Float64
    components: Float64
    scale: float

    @classmethod
    def fit(cls, windows: AnyFloat, *, components: int = COMPONENTS) -> WindowBasis:
        """Fit the basis to (N, F) windows of the truth, as :func:`motion_windows` cuts them.

        Raises:
            ValueError: fewer than two windows, or values that are not finite.
        """
        rows = np.asarray(windows, np.float64)
        if rows.ndim != 2 or len(rows) < 2:
            raise ValueError(f"a basis needs at least two windows (N, F), got {rows.shape}")
        require_finite("windows", rows)
        mean = rows.mean(0)
        vectors = np.linalg.svd(rows - mean, full_matrices=False)[2][:components]
        basis = cls(mean, vectors, 1.0)
        scale = float(np.sqrt((basis.transform(rows) ** 2).mean()))
        return dataclasses.replace(basis, scale=max(scale, 1e-9))

    def transform(self, windows: AnyFloat) -> Float64:
        """(N, F) windows -> (N, K + 1) features in mm: components, and the norm of what they leave."""
        away = np.asarray(windows, np.float64) - self.mean
        inside = away @ self.components.T
        left = (away**2).sum(1) - (inside**2).sum(1)
        return np.column_stack([inside, np.sqrt(np.maximum(left, 0.0))])
