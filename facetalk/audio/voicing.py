"""How loud a piece of sound is and whether it is voiced, every 20 ms."""

from __future__ import annotations

import numpy as np

from facetalk.arrays import Bool, Float32, Float64
from facetalk.audio.periodicity import FRAME, LAGS, autocorrelation

__all__ = ["FRAME", "HOP", "measure"]

HOP = 320
"""Samples from one measurement to the next, 20 ms."""
_VOICED = 0.5
"""Normalised autocorrelation at its best period above which a frame is voiced; noise has 0.3."""


def measure(sound: Float64) -> tuple[Float32, Bool]:
    """Power in dB and voicing of every frame of (n,) sound, n at least ``FRAME``."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::HOP]
    power = (frames**2).mean(axis=1)
    correlation = autocorrelation(frames, LAGS[1] + 1)
    # Fewer products at longer lags are made up for, or deep voices would lose.
    correlation *= FRAME / (FRAME - np.arange(LAGS[1] + 1))
    best = correlation[:, LAGS[0] :].max(axis=1)
    voiced = (best > _VOICED * correlation[:, 0]) & (power > 1e-11)
    return (10.0 * np.log10(power + 1e-12)).astype(np.float32), voiced
