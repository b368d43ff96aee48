"""Formants by linear prediction, and the length of the vocal tract that their spacing stands for.

The roots of a predictor of the order that a tract needs are its resonances (Markel and Gray, "Linear
Prediction of Speech", 1976). A uniform tube that is closed at one end resonates at (i - 1/2) dF with
dF = c / (2 length), so dF is fitted through all of them (Reby and McComb, "Anatomical constraints generate
honesty", Animal Behaviour 65, 2003).
"""

from __future__ import annotations

import numpy as np
import soxr

from facetalk.arrays import Float32, Float64, Int64
from facetalk.audio.periodicity import autocorrelation
from facetalk.units import SAMPLE_RATE

__all__ = ["FORMANTS", "SPEED_OF_SOUND", "formants", "spacing"]

FORMANTS = 4
SPEED_OF_SOUND = 350.0
"""m/s, in warm and moist air."""
_RATE = 11_000  # Hz: up to 5.5 kHz an adult's tract has four or five resonances, two coefficients each
_ORDER = 12
_WINDOW = round(0.03 * _RATE)
_EMPHASIS = 0.97
_LOWEST_HZ, _WIDEST_HZ = 150.0, 600.0


def formants(sound: Float32, centres: Int64) -> Float32:
    """The lowest four resonances at some places of a recording.

    Args:
        sound: (N,) 16 kHz mono.
        centres: (F,) samples of it, in voiced sound.

    Returns:
        (G, 4) Hz, rising, of those places where four were found; G is at most F.
    """
    thin = np.asarray(soxr.resample(np.asarray(sound, np.float32), SAMPLE_RATE, _RATE), np.float64)
    thin = np.append(0.0, thin[1:] - _EMPHASIS * thin[:-1])
    starts = np.round(np.asarray(centres) * (_RATE / SAMPLE_RATE)).astype(np.int64) - _WINDOW // 2
    starts = starts[(starts >= 0) & (starts + _WINDOW <= len(thin))]
    if not len(starts):
        return np.zeros((0, FORMANTS), np.float32)
    frames = thin[starts[:, None] + np.arange(_WINDOW)] * np.hamming(_WINDOW)
    predictor = _predictor(frames)
    companion = np.zeros((len(frames), _ORDER, _ORDER))
    companion[:, 0] = -predictor
    companion[:, np.arange(1, _ORDER), np.arange(_ORDER - 1)] = 1.0
    roots = np.linalg.eigvals(companion)
    hertz = np.angle(roots) * _RATE / (2.0 * np.pi)
    width = -np.log(np.maximum(np.abs(roots), 1e-9)) * _RATE / np.pi
    good = (hertz > _LOWEST_HZ) & (hertz < 0.48 * _RATE) & (width < _WIDEST_HZ)
    rising = np.sort(np.where(good, hertz, np.inf), axis=1)[:, :FORMANTS]
    return rising[np.isfinite(rising).all(axis=1)].astype(np.float32)


def spacing(found: Float32) -> float:
    """Formant spacing dF in Hz of (G, 4) formants; NaN of none.

    The tract's length is ``SPEED_OF_SOUND / (2 * spacing)`` metres.
    """
    if not len(found):
        return float("nan")
    place = np.arange(FORMANTS) + 0.5
    return float(np.median(found, axis=0) @ place / (place @ place))


def _predictor(frames: Float64) -> Float64:
    """Coefficients (F, order) by which a frame's next sample follows from those before, sign turned."""
    correlation = autocorrelation(frames, _ORDER + 1)
    correlation[:, 0] = correlation[:, 0] * (1.0 + 1e-6) + 1e-12  # Levinson needs it to be definite
    out, error = np.zeros((len(frames), _ORDER)), correlation[:, 0].copy()
    for i in range(_ORDER):
        step = correlation[:, i + 1] + (out[:, :i] * correlation[:, i:0:-1]).sum(axis=1)
        reflection = -step / error
        out[:, :i] += reflection[:, None] * out[:, :i][:, ::-1].copy()
        out[:, i] = reflection
        error *= 1.0 - reflection**2
    return out
