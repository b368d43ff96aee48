"""Training data of the motion model from captures: audio features beside the codes that were fitted.

A piece of a capture is a session of its own: joining two would make a face jump. One recording has one
face, so that variants differ in their sound alone: but for the first, it is heard through other microphones,
in other rooms and with noise.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from facetalk.arrays import Float32
from facetalk.data.captured import CodeSpace, Stretch
from facetalk.diffusion.denoiser import Denoiser, DenoiserConfig
from facetalk.diffusion.lip_contact import LipGap
from facetalk.diffusion.model import MotionModel
from facetalk.diffusion.representation import Representation
from facetalk.errors import InputError
from facetalk.training.audio.augment import spoil
from facetalk.training.motion.dataset import Encoder, MotionData, cache_key, store
from facetalk.units import frame_count

__all__ = ["build_captured", "lips_of", "prepare_learned"]

_LEVEL = 0.1  # of sound that was spoiled, which has unit variance


def build_captured(
    stretches: Sequence[Stretch],
    encoder: Encoder,
    cache: Path,
    *,
    fps: float,
    variants: int,
    seed: int,
    share: float = 1.0,
    keep_going: Callable[[], bool] = lambda: True,
) -> MotionData:
    """Encode a corpus, or read what an earlier run encoded.

    Args:
        stretches: the corpus, or a split of it.
        encoder: the frozen audio encoder.
        cache: folder for the arrays, one file per variant; made if missing.
        fps: frame rate of the model; codes are brought to it.
        variants: passes over the corpus; one of its pieces is in each, its sound as it is in the first.
        seed: seed of everything random here.
        share: how much of the corpus each variant takes, at random.
        keep_going: asked before each variant but the first; False stops early.

    Raises:
        InputError: there are no pieces, or one cannot be read.
    """
    if not stretches:
        raise InputError("the corpus has no captures for this split; `facetalk fit --takes` makes one")
    cache.mkdir(parents=True, exist_ok=True)
    data = MotionData([], [])
    # A corpus that was built anew has the same names: its codes tell it apart.
    content = [[piece.id, piece.codes.stat().st_size, piece.codes.stat().st_mtime_ns] for piece in stretches]
    for variant in range(variants):
        file = cache / f"captured{variant}-{cache_key(content, encoder, fps, seed, variant, share)}.npz"
        if not file.is_file():
            if variant and not keep_going():
                break
            rng = np.random.default_rng((seed, variant))
            chosen = rng.permutation(len(stretches))[: max(1, round(share * len(stretches)))]
            features: list[NDArray[np.float16]] = []
            codes: list[NDArray[np.float16]] = []
            pieces = (stretches[i] for i in chosen)
            bar = tqdm(pieces, file.stem, len(chosen), unit="piece", disable=not sys.stderr.isatty())
            for piece in bar:
                samples, rows = _read(piece, fps)
                if variant:
                    samples = np.clip(_LEVEL * spoil(samples, rng), -1.0, 1.0).astype(np.float32)
                features.append(np.asarray(encoder.features(samples, fps=fps)).astype(np.float16))
                codes.append(rows[None].astype(np.float16))
            store(file, features, codes)
        data.read(file)
    return data


def _read(piece: Stretch, fps: float) -> tuple[Float32, Float32]:
    """Sound (N,) and the codes (T, E) of its frames."""
    motion, samples = piece.motion(), piece.samples()
    count = frame_count(len(samples), fps)
    return samples, motion.at((np.arange(count) + 0.5) / fps, fps=fps)


def prepare_learned(
    data: MotionData, space: CodeSpace, preset: str, feature_mean: Tensor, feature_scale: Tensor
) -> MotionModel:
    """A model to train, of the codes of a learned space, whose numbers have no names and no limits.

    Args:
        data: training data.
        space: what its codes do.
        preset: "mini" or "paper", the denoiser's size.
        feature_mean: (A,) of the audio features.
        feature_scale: (A,) of them.

    Raises:
        InputError: the codes are not of that space, or never change.
    """
    codes = np.concatenate([part.reshape(-1, part.shape[-1]) for part in data.weights]).astype(np.float32)
    if codes.shape[1] != space.size:
        raise InputError(f"the corpus has codes of {codes.shape[1]} numbers and a space of {space.size}")
    try:
        representation = Representation.fit(codes[:: max(1, len(codes) // 100_000)], space.metric)
    except ValueError as error:
        raise InputError(f"the corpus: {error}; a motion model is trained on faces that speak") from error
    config = getattr(DenoiserConfig, preset)(motion_dim=representation.dim, audio_dim=len(feature_mean))
    return MotionModel(
        Denoiser(config),
        representation,
        expression_names=[f"code_{index}" for index in range(space.size)],
        feature_mean=feature_mean,
        feature_scale=feature_scale,
        limits=None,
        notes={"head": space.head},
    )


def lips_of(space: CodeSpace) -> LipGap:
    """The gap of its lips."""
    return LipGap(space.gap_mm, space.gap_per_unit_mm)
