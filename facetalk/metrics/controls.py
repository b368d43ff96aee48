"""Motions whose quality is known, made of the model's own: what a figure says of them is what it is worth.

A figure that praises one of them is deceived by it: closures by a face at rest, diversity by frames out of
order, a distance at the best offset by a delay, an expressive mouth by a doubled one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d

from facetalk.arrays import AnyFloat

DELAY_FRAMES = 5
"""0.2 s at 25 fps: plainly late to the eye, and within what the lag is looked for."""
SMOOTH_FRAMES = 3.0
"""Standard deviation; halves what lies at 1.6 Hz (25 fps) and leaves 1 % above 4 Hz."""
GAIN = 2.0
UPPER_PREFIXES = ("brow", "eye", "cheekSquint")
"""Beginnings of the names of what moves brows, lids and eyes and (nearly) nothing of the mouth."""

NAMES = ("rest", "shuffled", "delayed", "frozen", "smoothed", "doubled")


def controls(expressions: AnyFloat, names: Sequence[str], seed: int) -> dict[str, AnyFloat]:
    """The control motions of a motion whose face at rest has the weights 0.

    Args:
        expressions: (T, E) weights.
        names: E names of the weights.
        seed: of the shuffling.

    Returns:
        name -> (T, E): ``rest``; ``shuffled`` in time; ``delayed`` by 5 frames; ``frozen``, the upper face at
        rest; ``smoothed`` over time by a Gaussian with sigma 3 frames; ``doubled`` weights.

    Raises:
        ValueError: another number of names than of weights.
    """
    if expressions.ndim != 2 or expressions.shape[1] != len(names):
        raise ValueError(f"expressions must have shape (T, {len(names)}), got {expressions.shape}")
    return {
        "rest": np.zeros_like(expressions),
        "shuffled": shuffled(expressions, seed),
        "delayed": delayed(expressions),
        "frozen": frozen(expressions, names),
        "smoothed": smoothed(expressions),
        "doubled": GAIN * expressions,
    }


def shuffled(frames: AnyFloat, seed: int) -> AnyFloat:
    """(T, ...) frames in another order."""
    return frames[np.random.default_rng(seed).permutation(len(frames))]


def delayed(frames: AnyFloat, count: int = DELAY_FRAMES) -> AnyFloat:
    """(T, ...) frames that come ``count`` later; the first one stands until then."""
    return frames[np.maximum(np.arange(len(frames)) - count, 0)]


def smoothed(frames: AnyFloat, sigma: float = SMOOTH_FRAMES) -> AnyFloat:
    """(T, ...) frames filtered over time by a Gaussian; the ends are held."""
    return np.asarray(gaussian_filter1d(frames, sigma, axis=0, mode="nearest"))


def frozen(expressions: AnyFloat, names: Sequence[str]) -> AnyFloat:
    """(T, E) weights with those of the upper face at 0."""
    still = [name.startswith(UPPER_PREFIXES) for name in names]
    return np.where(still, 0.0, expressions)
