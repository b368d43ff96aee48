"""Log-mel spectra, for judges of speech that must not share the generator's own audio encoder."""

from __future__ import annotations

import numpy as np
from scipy import fft

from facetalk.arrays import Float32
from facetalk.audio.mel_bands import FFT, MEL_BANDS, WINDOW, mel_filters
from facetalk.units import SAMPLE_RATE

MEL_RATE = 100
"""Spectra a second: a hop of 10 ms."""
_HOP = SAMPLE_RATE // MEL_RATE
_RANGE_DB = 70.0
"""What lies further below the loudest band of a clip is silence; it makes the spectra blind to gain."""
_BLOCK = 4096


def log_mel(samples: Float32) -> Float32:
    """Log-mel spectra of a clip.

    Args:
        samples: (N,) 16 kHz mono.

    Returns:
        (N // 160, 80) float32, dB; spectrum k is centred at (k + 0.5) * 10 ms. Bands more than 70 dB below
        the clip's loudest are raised to that, so a gain only adds a constant.
    """
    count = len(samples) // _HOP
    edge = (WINDOW - _HOP) // 2
    padded = np.pad(np.asarray(samples[: count * _HOP], np.float32), (edge, WINDOW - _HOP - edge))
    frames = (
        np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::_HOP] if count else np.zeros((0, WINDOW))
    )
    window = np.hanning(WINDOW).astype(np.float32)
    power = np.empty((count, MEL_BANDS), np.float32)
    for start in range(0, count, _BLOCK):
        spectrum = fft.rfft(frames[start : start + _BLOCK] * window, FFT)
        power[start : start + _BLOCK] = (spectrum.real**2 + spectrum.imag**2) @ mel_filters().T
    floor = max(float(power.max(initial=0.0)) * 10.0 ** (-_RANGE_DB / 10.0), 1e-12)
    return np.asarray(10.0 * np.log10(np.maximum(power, floor)), np.float32)
