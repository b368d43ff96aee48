"""How a face lives: blinks, brows, gaze, speed, jerk and the energy of quick motion.

Nothing here is compared frame by frame: these are figures of a distribution, to be read beside those of the
truth. A model that blends all the motions that could be (as one trained by regression does, or one sampled in
too few steps) loses them first, while its lips still do well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import periodogram

from facetalk.arrays import AnyFloat, Float64
from facetalk.metrics.landmarks import REGIONS, as_landmarks, require_finite, require_rate
from facetalk.multi_pie import MOUTH, UPPER_FACE

BLINK_THRESHOLD = 0.5
"""Mean eyeBlink weight above which the lids are in a blink. Lids that follow a lowered gaze reach 0.23,
partial blinks 0.5 to 0.85 (visemes.json: lid_follows_gaze, amplitude); the same line as in few-step studies
of this model, so that figures can be compared."""
FAST_HZ = 5.0
"""Syllables come at 3 to 7 a second; above this lie consonants, blinks, and jitter."""
MIN_FRAMES = 4
"""A jerk is a third difference."""

PER_BLINK = ("blink_depth", "blink_duration_ms")
"""Figures that are means over blinks; all others are over time."""
_BLINK, _BROW, _GAZE = "eyeBlink", "brow", "eyeLook"


def dynamics(
    expressions: AnyFloat, names: Sequence[str], landmarks: AnyFloat, fps: float
) -> dict[str, float]:
    """Figures of the life in one clip.

    From the expression weights (by the beginning of their names; NaN where a model has none of them):

    - ``blinks_per_minute``: upward crossings of 0.5 by the mean of eyeBlink*;
    - ``blinks``: their number, for pooling;
    - ``blink_depth``: mean of their largest weights, 1 = shut; NaN without a blink;
    - ``blink_duration_ms``: mean time above half of that largest weight, between frames by straight lines;
      NaN without a blink that begins and ends in the clip;
    - ``brow_sd``, ``gaze_sd``: standard deviation over time, mean over brow* and eyeLook*, in weights.

    From the landmarks, as means over frames and points of the length of the finite difference:

    - ``mouth_speed``, ``upper_speed``: mm/s; ``mouth_acceleration``, ``upper_acceleration``: mm/s^2;
      ``mouth_jerk``, ``upper_jerk``: mm/s^3 (upper: brows and lids);
    - ``mouth_spread_mm``, ``brows_spread_mm``, ``lids_spread_mm``: root of the mean over points of the
      variance over time (of x, y, z together);
    - ``mouth_fast_mm2``, ``brows_fast_mm2``, ``lids_fast_mm2``: the part of that variance above 5 Hz (linear
      trend removed, Hann window); NaN where the frame rate does not reach it.

    Args:
        expressions: (T, E) weights.
        names: E names of the weights.
        landmarks: (T, 68, 3) metres.
        fps: frames per second.

    Raises:
        ValueError: shapes that do not fit each other, fewer than 4 frames, or values that are not finite.
    """
    weights = np.asarray(expressions, np.float64)
    points = as_landmarks("landmarks", landmarks, frames=MIN_FRAMES) * 1000.0
    fps = require_rate(fps)
    if weights.shape != (len(points), len(names)):
        raise ValueError(
            f"expressions must have shape (T, E) = ({len(points)}, {len(names)})"
            f" as landmarks and names have, got {weights.shape}"
        )
    require_finite("expressions", weights)
    out = blink_figures(lid_closure(weights, names), fps)
    out["brow_sd"] = float(_columns(weights, names, _BROW).std(0).mean())
    out["gaze_sd"] = float(_columns(weights, names, _GAZE).std(0).mean())
    for region, indices in (("mouth", MOUTH), ("upper", UPPER_FACE)):
        for order, name in enumerate(("speed", "acceleration", "jerk"), 1):
            moved = np.diff(points[:, indices], order, axis=0)
            out[f"{region}_{name}"] = float(np.linalg.norm(moved, axis=-1).mean()) * fps**order
    for region, indices in REGIONS.items():
        chosen = points[:, indices]
        out[f"{region}_spread_mm"] = float(np.sqrt(chosen.var(0).sum(-1).mean()))
        out[f"{region}_fast_mm2"] = fast_energy(chosen, fps)
    return out


def lid_closure(expressions: AnyFloat, names: Sequence[str]) -> Float64:
    """Mean of eyeBlink*, 0 open, 1 shut: (T, E) weights and their names -> (T,); NaN where there are none."""
    return np.asarray(_columns(np.asarray(expressions, np.float64), names, _BLINK).mean(1))


def blink_figures(closure: Float64, fps: float) -> dict[str, float]:
    """Number, rate, depth and duration of the blinks of a lid curve: see :func:`dynamics`.

    Args:
        closure: (T,) of :func:`lid_closure`.
        fps: frames per second.
    """
    if not np.isfinite(closure).all():
        return dict.fromkeys(
            ("blinks", "blinks_per_minute", "blink_depth", "blink_duration_ms"), float("nan")
        )
    shut = closure > BLINK_THRESHOLD
    starts = np.flatnonzero(shut[1:] & ~shut[:-1]) + 1
    depths, lengths = [], []
    for start in starts:
        after = np.flatnonzero(~shut[start:])
        end = start + int(after[0]) if len(after) else len(shut)
        peak = start + int(np.argmax(closure[start:end]))
        depths.append(float(closure[peak]))
        before, behind = _crossing(closure[peak::-1]), _crossing(closure[peak:])
        if before is not None and behind is not None:
            lengths.append((before + behind) * 1000.0 / fps)
    return {
        "blinks": float(len(starts)),
        "blinks_per_minute": len(starts) / (len(closure) / fps) * 60.0,
        "blink_depth": float(np.mean(depths)) if depths else float("nan"),
        "blink_duration_ms": float(np.mean(lengths)) if lengths else float("nan"),
    }


def fast_energy(points: Float64, fps: float) -> float:
    """Variance over time above ``FAST_HZ``, summed over x, y, z and averaged over points.

    Args:
        points: (T, P, 3).
        fps: frames per second.

    Returns:
        In the squared unit of the points; NaN where fps is not above 2 ``FAST_HZ``.
    """
    if fps <= 2 * FAST_HZ:
        return float("nan")
    frequency, density = periodogram(points, fps, window="hann", detrend="linear", axis=0)
    step = fps / len(points)
    return float(density[frequency > FAST_HZ].sum(0).sum(-1).mean() * step)


def _columns(weights: Float64, names: Sequence[str], prefix: str) -> Float64:
    """(T, number of names with the prefix), or one column of NaN."""
    chosen = [i for i, name in enumerate(names) if name.startswith(prefix)]
    return weights[:, chosen] if chosen else np.full((len(weights), 1), np.nan)


def _crossing(falling: Float64) -> float | None:
    """Where a curve that begins at its peak falls under half of it, in frames; None where it does not."""
    half = falling[0] / 2
    under = np.flatnonzero(falling < half)
    if not len(under):
        return None
    last = int(under[0])
    high, low = falling[last - 1], falling[last]
    return float(last - 1 + (high - half) / (high - low))
