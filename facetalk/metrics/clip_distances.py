"""Fréchet and kernel distances of the motions of many clips, with intervals from a bootstrap over clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facetalk.arrays import Float64, Int64
from facetalk.metrics.distribution import frechet_of_moments, kernel
from facetalk.metrics.pooling import Interval, interval

FRECHET_RESAMPLES = 200
"""Each takes two eigenvalue problems."""

Clips = Sequence[Float64]
"""Features (n, F) of clip 0, clip 1, ...; n may be 0."""


class TruthFeatures:
    """Features of the truth, clip by clip, and the distance of other features of the same clips from them.

    Args:
        truth: features, clip by clip, all (n, F) with one F.
        drawn: how often each clip is in each draw of the bootstrap (:func:`.pooling.resample`).
        scale: length that the kernel takes for 1, so that features have a mean square of about 1.
    """

    def __init__(self, truth: Clips, drawn: Int64, scale: float) -> None:
        self._drawn = drawn.astype(np.float64)
        self._scale = scale
        self._moments = _Moments(truth)
        self._truth = [features / scale for features in truth]
        self._within = _blocks(self._truth, self._truth)

    def frechet(self, clips: Clips) -> tuple[float, Interval | None]:
        """Fréchet distance of all windows and its 95 % interval.

        Drawing clips anew makes the distance larger, as fewer clips do; so the interval is that of the draws'
        distances about their own mean, laid around the value.

        Args:
            clips: features (n, F), clip by clip.
        """
        moments = _Moments(clips)
        every = np.ones(len(clips))
        if min(moments.count(every), self._moments.count(every)) < 2:
            return float("nan"), None
        value = frechet_of_moments(moments.of(every), self._moments.of(every))
        found = np.array(
            [
                frechet_of_moments(moments.of(counts), self._moments.of(counts))
                for counts in self._drawn[:FRECHET_RESAMPLES]
                if min(moments.count(counts), self._moments.count(counts)) >= 2
            ]
        )
        if len(clips) < 2 or len(found) < 2:
            return value, None
        limits = interval(found - found.mean() + value)
        return value, None if limits is None else (max(limits[0], 0.0), limits[1])

    def kernel(self, clips: Clips) -> tuple[float, Interval | None]:
        """Kernel distance of all windows and its 95 % interval.

        As :func:`facetalk.metrics.kernel_distance`, but over pairs of windows of two clips only: windows of
        one clip overlap, and both sides speak the same text.

        Args:
            clips: features (n, F), clip by clip.
        """
        scaled = [features / self._scale for features in clips]
        parts = (_blocks(scaled, scaled), self._within, _blocks(scaled, self._truth))
        value = float(_discrepancy(parts, np.ones((1, len(clips))))[0])
        return value, interval(_discrepancy(parts, self._drawn)) if len(clips) > 1 else None


class _Moments:
    """Sums from which mean and covariance of any choice of clips follow."""

    def __init__(self, clips: Clips) -> None:
        self.counts = np.array([len(c) for c in clips], np.float64)
        # About a common centre, so that the difference of large numbers loses nothing.
        self.centre = np.concatenate(clips).mean(0) if self.counts.any() else np.zeros(clips[0].shape[1])
        away = [c - self.centre for c in clips]
        self.sums = np.array([c.sum(0) for c in away])
        self.squares = np.array([c.T @ c for c in away])

    def count(self, weights: Float64) -> float:
        return float(weights @ self.counts)

    def of(self, weights: Float64) -> tuple[Float64, Float64]:
        count = self.count(weights)
        mean = weights @ self.sums / count
        square = np.tensordot(weights, self.squares, axes=1)
        return mean + self.centre, (square - count * np.outer(mean, mean)) / (count - 1.0)


def _blocks(a: Clips, b: Clips) -> tuple[Float64, Float64]:
    """Sums of the kernel and numbers of pairs between clips of a and of b, (C, C) each, 0 on the diagonal."""
    pairs = np.outer([len(x) for x in a], [len(y) for y in b]).astype(np.float64)
    sums = np.zeros_like(pairs)
    filled = [i for i, y in enumerate(b) if len(y)]
    if filled:
        every = np.concatenate([b[i] for i in filled])
        first = np.cumsum([0, *(len(b[i]) for i in filled[:-1])])
        for row, x in enumerate(a):
            if len(x):
                sums[row, filled] = np.add.reduceat(kernel(x, every).sum(0), first)
    np.fill_diagonal(sums, 0.0)
    np.fill_diagonal(pairs, 0.0)
    return sums, pairs


def _discrepancy(parts: Sequence[tuple[Float64, Float64]], weights: Float64) -> Float64:
    """(B, C) weights of clips -> (B,) squared discrepancies; NaN where no pair is left."""
    means = []
    for sums, pairs in parts:
        total, count = (((weights @ table) * weights).sum(1) for table in (sums, pairs))
        with np.errstate(invalid="ignore", divide="ignore"):
            means.append(total / count)
    return np.asarray(means[0] + means[1] - 2.0 * means[2])
