"""Timbre: where a voice lies among others, by a projection in which recordings of one voice fall together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from facetalk.arrays import Float32, Float64
from facetalk.casting.voice import FEATURES, Voice
from facetalk.errors import InputError
from facetalk.reading import usable
from facetalk.tensors import check_arrays, read_safetensors

__all__ = ["Timbre", "built_in", "fit"]

BUILT_IN = Path(__file__).resolve().parents[1] / "models" / "timbre" / "weights.safetensors"
_SHRINKAGE = 0.1


@dataclass(frozen=True)
class Timbre:
    """Linear discriminant analysis of voices (Fisher, "The use of multiple measurements in taxonomic
    problems", 1936; for many classes Rao, 1948).

    Attributes:
        mean: (FEATURES,) of the voices that it was fitted to; what a voice lacks is taken from it.
        axes: (K, FEATURES) with which coordinates have unit variance over recordings of all voices.
    """

    mean: Float32
    axes: Float32

    def of(self, voice: Voice) -> Float64:
        """(K,) coordinates of a voice: about standard normal over voices."""
        features = np.where(np.isfinite(voice.features), voice.features, self.mean)
        return np.asarray(self.axes.astype(np.float64) @ (features - self.mean))


@cache
def built_in() -> Timbre:
    """The one that travels with the package.

    Raises:
        InputError: its file is missing or damaged.
    """
    with usable(BUILT_IN, "install facetalk again"):
        arrays = read_safetensors(BUILT_IN)
        check_arrays(arrays, BUILT_IN)
        mean, axes = arrays["mean"], arrays["axes"]
        if mean.shape != (FEATURES,) or axes.ndim != 2 or axes.shape[1] != FEATURES:
            raise ValueError(f"it is for {mean.shape[-1]} features, not {FEATURES}")
    return Timbre(mean.astype(np.float32), axes.astype(np.float32))


def fit(features: Float32, voices: list[str], axes: int) -> Timbre:
    """Fit the projection.

    Args:
        features: (N, FEATURES) of recordings.
        voices: N names; those with one recording only say nothing of how recordings of a voice differ.
        axes: number K of coordinates.

    Raises:
        InputError: not more voices than coordinates.
    """
    names = sorted(set(voices))
    if len(names) <= axes:
        raise InputError(f"{axes} axes need more than {axes} voices, got {len(names)}")
    mean = np.nanmean(features, axis=0)
    centred = np.where(np.isfinite(features), features, mean).astype(np.float64) - mean
    scale = centred.std(axis=0) + 1e-9
    centred /= scale
    member = np.array([names.index(voice) for voice in voices])
    centres = np.stack([centred[member == i].mean(axis=0) for i in range(len(names))])
    rest = centred - centres[member]
    within = rest.T @ rest / max(len(rest) - len(names), 1)
    within += _SHRINKAGE * np.trace(within) / len(within) * np.eye(len(within))
    between = np.cov(centres.T, bias=True)
    lower = np.linalg.inv(np.linalg.cholesky(within))
    _, vectors = np.linalg.eigh(lower @ between @ lower.T)
    best = vectors[:, ::-1][:, :axes].T @ lower
    # Every voice counts alike, however many recordings there are of it.
    spread = np.sqrt(((best @ (between + within)) * best).sum(axis=1))
    return Timbre(mean.astype(np.float32), (best / spread[:, None] / scale).astype(np.float32))
