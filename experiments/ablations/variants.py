"""The rows: those of the paper's ablation in its order, then parts that are ours."""

from __future__ import annotations

from experiments.ablations.networks import (
    UNBOUNDED,
    RegressionDenoiser,
    SquaredError,
    UnalignedDenoiser,
    UnmodulatedDenoiser,
    Unscaled,
    WithoutGap,
    WithoutVelocity,
)
from experiments.common.corpus import VoiceCorpus, one_face
from experiments.common.variants import Variant, raw_weights, standardised_weights
from facetalk.training.motion.dataset import MotionData


def _one_face(corpus: VoiceCorpus) -> MotionData:
    return one_face(corpus.everything())


FULL = Variant("full", "full", "as `facetalk train motion`", paper=(11.27, 0.34))
PAPER = (
    FULL,
    Variant(
        "no-augmentation", "no augmentation", "expression codes are not scaled",
        training=Unscaled, paper=(11.62, 1.6e-8),
    ),
    Variant(
        "no-smoothing", "no smoothing", "the weights of `full`, decoded without facial smoothing",
        trained_as="full", smoothing=False, paper=(11.35, 0.34),
    ),
    Variant(
        "no-film", "no FiLM", "the timestep's embedding is added once and never scales",
        denoiser=UnmodulatedDenoiser, paper=(12.03, 0.006),
    ),
    Variant(
        "no-alignment", "no alignment mask", "every frame attends to all sound, with rotary positions",
        denoiser=UnalignedDenoiser, window=(UNBOUNDED, UNBOUNDED), paper=(13.72, 5.2e-8),
    ),
    Variant(
        "no-diffusion", "no diffusion", "regression: neither noise nor timestep, one pass, no guidance",
        denoiser=RegressionDenoiser, steps=1, guidance=1.0, paper=(11.32, 0.0),
    ),
)  # fmt: skip
OURS = (
    Variant(
        "raw-weights", "no geometric metric", "blendshape weights diffused as they are",
        representation=raw_weights,
    ),
    Variant(
        "no-gap", "no lip-gap loss", "its weight is 0", training=WithoutGap,
    ),
    Variant(
        "one-face", "no augmentation, one face", "one draw of the face per recording, not scaled",
        data=_one_face, training=Unscaled,
    ),
    Variant(
        "no-guidance", "no guidance", "the weights of `full`, sampled with guidance 1",
        trained_as="full", guidance=1.0,
    ),
    Variant(
        "standardised", "standardised weights", "blendshape weights of mean 0 and variance 1, no metric",
        representation=standardised_weights,
    ),
    Variant(
        "no-velocity", "no velocity loss", "its weight is 0", training=WithoutVelocity,
    ),
    Variant(
        "squared-error", "squared error alone", "neither lip-gap nor velocity loss", training=SquaredError,
    ),
)  # fmt: skip
VARIANTS = (*PAPER, *OURS)
