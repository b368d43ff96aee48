"""When the lips move: the lag behind a reference, mean temporal misalignment, dynamic time warping.

All of them read one curve per clip, the opening of the mouth over time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from facetalk.arrays import AnyFloat, Float64
from facetalk.metrics.landmarks import pearson, require_finite, require_rate

MTM_SIGMA_FRAMES = 2.0
"""Smoothing before the extrema are looked for (kaist-ami/Perceptual-3D-Talking-Head, evaluate_MTM.py)."""
PIECE_FRAMES = 1500
"""Longer clips are warped in pieces, for the table of the warping grows with the square of the length."""
MAX_LAG_S = 0.4
"""How far the lag is looked for. Further apart, neighbouring syllables are mistaken for each other."""
MIN_FRAMES = 3
"""An extremum has a neighbour on both sides."""


def time_warp(first: AnyFloat, second: AnyFloat) -> tuple[float, list[tuple[int, int]]]:
    """Dynamic time warping of two series with the absolute difference as cost.

    Args:
        first: (N,).
        second: (M,).

    Returns:
        The least summed cost of a path from (0, 0) to (N - 1, M - 1) with steps (1, 0), (0, 1) and (1, 1), in
        the unit of the series, and that path; of equal paths, the one that steps through both.

    Raises:
        ValueError: a series is empty, not one-dimensional or not finite.
    """
    a, b = _series("first", first, 1), _series("second", second, 1)
    rows, columns = len(a), len(b)
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    # The cells of an antidiagonal do not depend on each other.
    for diagonal in range(2, rows + columns + 1):
        down = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        across = diagonal - down
        before = np.minimum(total[down - 1, across], total[down, across - 1])
        before = np.minimum(before, total[down - 1, across - 1])
        total[down, across] = np.abs(a[down - 1] - b[across - 1]) + before
    path, i, j = [], rows, columns
    while i > 0 and j > 0:
        path.append((i - 1, j - 1))
        step = int(np.argmin((total[i - 1, j - 1], total[i - 1, j], total[i, j - 1])))
        i, j = i - (step != 2), j - (step != 1)
    return float(total[rows, columns]), path[::-1]


def misalignment_ms(opening: AnyFloat, truth: AnyFloat, fps: float) -> float:
    """Mean temporal misalignment (MTM) of two opening curves of one length.

    Both are smoothed (Gaussian, sigma 2 frames); their first differences are aligned by dynamic time warping;
    of the pairs on the path those count that are both maxima or both minima and where the second index lies
    between the extrema of the truth next to the first. The mean of their distances in time is the figure. It
    cannot see a lag of more than half a syllable, since such pairs do not count (Chae-Yeon et al.,
    Perceptually Accurate 3D Talking Head Generation, CVPR 2025; its code is
    kaist-ami/Perceptual-3D-Talking-Head).

    Args:
        opening: (T,) of the motion, any unit.
        truth: (T,) of the reference.
        fps: frames per second.

    Returns:
        Milliseconds; NaN where no extremum has a partner, as in a still face.

    Raises:
        ValueError: series of two lengths, shorter than 3 frames, or not finite.
    """
    a, b = _pair(opening, truth)
    fps = require_rate(fps)
    apart = [frames for x, y in _pieces(a, b) for frames in _frames_apart(x, y)]
    return float(np.mean(apart)) * 1000.0 / fps if apart else float("nan")


def warped_difference(opening: AnyFloat, truth: AnyFloat) -> float:
    """Mean |difference| of two opening curves along the path that makes its sum least (dynamic time warping).

    Beside the plain difference it says how much of that is timing. A path may dwell on frames, so it forgives
    a lot: read it beside the lag.

    Args:
        opening: (T,) of the motion.
        truth: (T,) of the reference.

    Returns:
        In the unit of the curves.

    Raises:
        ValueError: series of two lengths, shorter than 3 frames, or not finite.
    """
    warped = [time_warp(x, y) for x, y in _pieces(*_pair(opening, truth))]
    return sum(cost for cost, _ in warped) / sum(len(path) for _, path in warped)


def lag_frames(opening: AnyFloat, truth: AnyFloat, fps: float) -> float:
    """How much later the motion opens the mouth than the reference: the shift of best correlation.

    Args:
        opening: (T,) of the motion.
        truth: (T,) of the reference.
        fps: frames per second; shifts of up to ``MAX_LAG_S`` are tried.

    Returns:
        Frames, with a fraction (the vertex of a parabola through the best correlation and its neighbours);
        above 0 = late. NaN where one of the two does not move.

    Raises:
        ValueError: as :func:`misalignment_ms`.
    """
    a, b = _pair(opening, truth)
    fps = require_rate(fps)
    if np.ptp(a) < 1e-9 or np.ptp(b) < 1e-9:
        return float("nan")
    reach = min(round(MAX_LAG_S * fps), len(a) - MIN_FRAMES)
    shifts = range(-reach, reach + 1)
    scores = [pearson(a[max(s, 0) : len(a) + min(s, 0)], b[max(-s, 0) : len(b) - max(s, 0)]) for s in shifts]
    best = int(np.argmax(scores))
    if not 0 < best < len(scores) - 1:
        return float(shifts[best])
    left, middle, right = scores[best - 1 : best + 2]
    bend = left - 2 * middle + right
    return shifts[best] + (0.5 * (left - right) / bend if bend < 0 else 0.0)


def _frames_apart(opening: Float64, truth: Float64) -> list[int]:
    """Distances in frames of the extrema that the warping pairs."""
    if len(truth) < MIN_FRAMES:
        return []
    x, y = (gaussian_filter1d(series, MTM_SIGMA_FRAMES) for series in (truth, opening))
    _, path = time_warp(np.diff(x, prepend=x[0]), np.diff(y, prepend=y[0]))
    kinds_x, kinds_y = _extrema(x), _extrema(y)
    order = sorted(kinds_x)
    between = {
        here: (order[k - 1] if k else 0, order[k + 1] if k + 1 < len(order) else len(x) - 1)
        for k, here in enumerate(order)
    }
    return [
        abs(i - j)
        for i, j in path
        if i in kinds_x and kinds_x[i] == kinds_y.get(j) and between[i][0] <= j <= between[i][1]
    ]


def _extrema(series: Float64) -> dict[int, str]:
    found = {int(i): "max" for i in find_peaks(series)[0]}
    return found | {int(i): "min" for i in find_peaks(-series)[0]}


def _pieces(a: Float64, b: Float64) -> Iterator[tuple[Float64, Float64]]:
    """Two series of one length in equal pieces that can be warped."""
    count = -(-len(a) // PIECE_FRAMES)
    return zip(np.array_split(a, count), np.array_split(b, count), strict=True)


def _pair(opening: AnyFloat, truth: AnyFloat) -> tuple[Float64, Float64]:
    a, b = _series("opening", opening), _series("truth", truth)
    if len(a) != len(b):
        raise ValueError(f"opening and truth must have one length, got {len(a)} and {len(b)} frames")
    return a, b


def _series(name: str, values: AnyFloat, frames: int = MIN_FRAMES) -> Float64:
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must have shape (T,), got {array.shape}")
    if len(array) < frames:
        raise ValueError(f"{name} has {len(array)} frames; this figure needs at least {frames}")
    require_finite(name, array)
    return array
