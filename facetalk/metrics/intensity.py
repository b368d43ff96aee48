"""Do lips move more where speech is louder? The speech-lip intensity correlation (SLCC) over clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facetalk.arrays import AnyFloat, Float64, Int64
from facetalk.metrics.landmarks import as_landmarks, pearson
from facetalk.multi_pie import MOUTH


def lip_intensity(landmarks: AnyFloat) -> float:
    """Root mean square over time of the mean step of the mouth landmarks.

    Args:
        landmarks: (T, 68, 3) metres.

    Returns:
        mm per frame.

    Raises:
        ValueError: another shape, fewer than two frames, or values that are not finite.
    """
    points = as_landmarks("landmarks", landmarks, frames=2)[:, MOUTH] * 1000.0
    step = np.linalg.norm(np.diff(points, axis=0), axis=-1).mean(1)
    return float(np.sqrt((step**2).mean()))


def speech_intensity(samples: AnyFloat) -> float:
    """Root mean square of (N,) samples; 0 for none."""
    values = np.asarray(samples, np.float64)
    return float(np.sqrt((values**2).mean())) if values.size else 0.0


def normalised_by_speaker(values: Sequence[float], speakers: Sequence[str]) -> Float64:
    """Z-scores within each speaker; NaN where a speaker has one clip, or all of them alike.

    Args:
        values: (N,).
        speakers: (N,) names.
    """
    array, owners = np.asarray(values, np.float64), np.asarray(speakers)
    out = np.full(len(array), np.nan)
    for name in np.unique(owners):
        own = owners == name
        # Clips of a silent or still file differ by rounding alone.
        if own.sum() > 1 and (spread := array[own].std(ddof=1)) > 1e-12:
            out[own] = (array[own] - array[own].mean()) / spread
    return out


def speech_lip_correlation(speech: Sequence[float], lips: Sequence[float], speakers: Sequence[str]) -> float:
    """SLCC: Pearson's r over clips of loudness and lip motion, both z-scored within each speaker.

    The truth is far from 1 (VOCASET .34), so only the difference from the truth's own value means something
    (Chae-Yeon et al., CVPR 2025; kaist-ami/Perceptual-3D-Talking-Head, evaluate_SLCC.py).

    Args:
        speech: (N,) of :func:`speech_intensity`.
        lips: (N,) of :func:`lip_intensity`.
        speakers: (N,) names.

    Returns:
        r; NaN where fewer than two clips are left.
    """
    a, b = normalised_by_speaker(speech, speakers), normalised_by_speaker(lips, speakers)
    kept = np.isfinite(a) & np.isfinite(b)
    return pearson(a[kept], b[kept]) if kept.sum() > 1 else float("nan")


def resampled_correlation(
    speech: Sequence[float], lips: Sequence[float], speakers: Sequence[str], drawn: Int64
) -> Float64:
    """SLCC of each draw of a bootstrap over clips; the z-scores stay those of all clips.

    Args:
        speech: (N,), lips: (N,), speakers: (N,), as :func:`speech_lip_correlation` takes them.
        drawn: (B, N) how often each clip is in each draw.

    Returns:
        (B,); NaN where a draw leaves nothing that differs.
    """
    a, b = normalised_by_speaker(speech, speakers), normalised_by_speaker(lips, speakers)
    kept = np.isfinite(a) & np.isfinite(b)
    a, b, weights = a[kept], b[kept], drawn[:, kept].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        weights /= weights.sum(1, keepdims=True)
        mean_a, mean_b = weights @ a, weights @ b
        variance = (weights @ a**2 - mean_a**2) * (weights @ b**2 - mean_b**2)
        variance[variance < 1e-12] = np.nan
        return np.asarray((weights @ (a * b) - mean_a * mean_b) / np.sqrt(variance))
