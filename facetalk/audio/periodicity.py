"""What all that listens for the period of a voice stands on: the periods of voices, how like itself a frame
is later on, and where between samples a dip lies."""

from __future__ import annotations

import numpy as np

from facetalk.arrays import AnyFloat, Bool, Float64
from facetalk.units import SAMPLE_RATE

__all__ = ["FRAME", "LAGS", "autocorrelation", "vertex"]

LAGS = SAMPLE_RATE // 400, SAMPLE_RATE // 60
"""Shortest and longest period of voices that talk, in samples: 400 to 60 Hz."""
FRAME = 640
"""Samples in which a voice is heard to be periodic, 40 ms: two periods of the deepest one."""


def autocorrelation(frames: AnyFloat, count: int, *, band: Bool | None = None) -> Float64:
    """Products of frames with what comes later in them, summed over what overlaps.

    Args:
        frames: (F, N) sound, windowed or not.
        count: lags, from 0 on; at most N.
        band: (N + 1,) which frequencies are heard, evenly from 0 to half the sampling rate; None: all.

    Returns:
        (F, count); lag ``k`` sums N - k products.
    """
    # Twice as long, so that no frame's end meets its beginning.
    power = np.abs(np.fft.rfft(frames, 2 * frames.shape[1], axis=1)) ** 2
    return np.asarray(np.fft.irfft(power if band is None else power * band, axis=1)[:, :count])


def vertex(before: Float64, here: Float64, after: Float64) -> Float64:
    """Where the parabola through three samples dips, from -1 to 1 of them off the middle; 0 if nowhere."""
    bend = before - 2.0 * here + after
    shift = np.where(bend > 1e-9, 0.5 * (before - after) / np.maximum(bend, 1e-9), 0.0)
    return np.asarray(shift.clip(-1.0, 1.0))
