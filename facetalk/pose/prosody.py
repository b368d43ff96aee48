"""Loudness, voicing and pitch of speech every 10 ms, from sound that comes bit by bit.

Pitch is found by autocorrelation here and by YIN in :mod:`facetalk.audio.pitch`; there are two trackers on
purpose. A head may have to move live, so a row ends where it is given and spans 40 ms, where a frame of YIN
spans 57; and noise must not move it, so a row hears the first few harmonics alone. They agree closely nearly
everywhere, and not everywhere: poses are what they are by these rows, faces for voices by the others, and
either would change with its tracker. What they have in common is in :mod:`facetalk.audio.periodicity`.
"""

from __future__ import annotations

import numpy as np

from facetalk.arrays import Float32, Float64
from facetalk.audio.periodicity import FRAME, LAGS, autocorrelation, vertex
from facetalk.units import SAMPLE_RATE

HOP = 160
"""Samples from one measurement to the next, 10 ms."""
HOP_S = HOP / SAMPLE_RATE
_BLOCK = 256
"""Measurements at a time, which bounds the memory."""
_HIGHEST_HZ = 900.0
"""Of what a pitch is looked for in: the first few harmonics, without the hiss of consonants."""
_OCTAVE = 0.9
"""A shorter period is taken where it is this nearly as good: multiples of a period always fit as well."""


class Prosody:
    """Measures 16 kHz sound.

    A row is a function of the 40 ms of sound before it alone, so it does not matter how the sound is cut.
    """

    def __init__(self) -> None:
        # Before the first sample was silence.
        self._sound = np.zeros(FRAME - HOP, np.float32)
        self._window = np.hanning(FRAME + 2)[1:-1]
        self._band = np.fft.rfftfreq(2 * FRAME, 1.0 / SAMPLE_RATE) < _HIGHEST_HZ
        shape = autocorrelation(self._window[None], LAGS[1] + 2)[0]
        # A window takes from longer lags what this gives back (Boersma, "Accurate short-term analysis of the
        # fundamental frequency", 1993).
        self._taper = shape / shape[0]

    def push(self, samples: Float32) -> Float64:
        """Take (n,) samples, give the rows (m, 3) that they complete.

        Returns:
            level in dB of full scale; how periodic the sound is, 0 to 1; pitch in semitones above 100 Hz,
            which means nothing where the sound is not periodic.
        """
        self._sound = np.concatenate([self._sound, np.asarray(samples, np.float32)])
        count = max(0, (len(self._sound) - FRAME) // HOP + 1)
        if not count:
            return np.zeros((0, 3))
        frames = np.lib.stride_tricks.sliding_window_view(self._sound, FRAME)[::HOP][:count]
        rows = [self._measured(frames[i : i + _BLOCK]) for i in range(0, count, _BLOCK)]
        self._sound = self._sound[count * HOP :].copy()
        return np.concatenate(rows)

    def _measured(self, frames: Float32) -> Float64:
        power = (frames.astype(np.float64) ** 2).mean(axis=1)
        centred = frames - frames.mean(axis=1, keepdims=True, dtype=np.float64)
        correlation = autocorrelation(centred * self._window, len(self._taper), band=self._band)
        correlation /= np.maximum(correlation[:, :1], 1e-12)
        correlation /= self._taper
        inner = correlation[:, LAGS[0] : LAGS[1] + 1]
        peak = (inner >= correlation[:, LAGS[0] - 1 : LAGS[1]]) & (inner > correlation[:, LAGS[0] + 1 :])
        height = np.where(peak, inner, 0.0)
        best = height.max(axis=1)
        first = np.argmax(height >= np.maximum(_OCTAVE * best, 1e-6)[:, None], axis=1)
        lag = LAGS[0] + first
        rows = np.arange(len(frames))
        lag = lag + vertex(*(-correlation[rows, lag + step] for step in (-1, 0, 1)))  # a peak, upside down
        pitch = 12.0 * np.log2(SAMPLE_RATE / lag / 100.0)
        return np.stack([10.0 * np.log10(power + 1e-12), best.clip(0.0, 1.0), pitch], axis=1)
