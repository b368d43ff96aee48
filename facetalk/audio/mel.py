"""Log-mel spectra, for judges of speech that must not share the generator's own audio encoder."""

from __future__ import annotations

import functools

import numpy as np
from scipy import fft

from facetalk.arrays import Float32
from facetalk.units import SAMPLE_RATE

MEL_BANDS = 80
MEL_RATE = 100
"""Spectra a second: a hop of 10 ms."""
_WINDOW, _FFT = 400, 512
_HOP = SAMPLE_RATE // MEL_RATE
_LOW_HZ, _HIGH_HZ = 50.0, 7600.0
_RANGE_DB = 70.0
"""What lies further below the loudest band of a clip is silence; it makes the spectra blind to gain."""
_BLOCK = 4096


@functools.cache
def mel_filters() -> Float32:
    """(MEL_BANDS, 257) triangles of equal height on O'Shaughnessy's mel scale, 2595 log10(1 + f / 700)."""
    low, high = (2595.0 * np.log10(1.0 + hz / 700.0) for hz in (_LOW_HZ, _HIGH_HZ))
    edges = 700.0 * (10.0 ** (np.linspace(low, high, MEL_BANDS + 2) / 2595.0) - 1.0)
    hertz = np.fft.rfftfreq(_FFT, 1.0 / SAMPLE_RATE)
    rising = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


def log_mel(samples: Float32) -> Float32:
    """Log-mel spectra of a clip.

    Args:
        samples: (N,) 16 kHz mono.

    Returns:
        (N // 160, 80) float32, dB; spectrum k is centred at (k + 0.5) * 10 ms. Bands more than 70 dB below
        the clip's loudest are raised to that, so a gain only adds a constant.
    """
    count = len(samples) // _HOP
    edge = (_WINDOW - _HOP) // 2
    padded = np.pad(np.asarray(samples[: count * _HOP], np.float32), (edge, _WINDOW - _HOP - edge))
    frames = (
        np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP] if count else np.zeros((0, _WINDOW))
    )
    window = np.hanning(_WINDOW).astype(np.float32)
    power = np.empty((count, MEL_BANDS), np.float32)
    for start in range(0, count, _BLOCK):
        spectrum = fft.rfft(frames[start : start + _BLOCK] * window, _FFT)
        power[start : start + _BLOCK] = (spectrum.real**2 + spectrum.imag**2) @ mel_filters().T
    floor = max(float(power.max(initial=0.0)) * 10.0 ** (-_RANGE_DB / 10.0), 1e-12)
    return np.asarray(10.0 * np.log10(np.maximum(power, floor)), np.float32)
