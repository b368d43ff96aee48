"""A variant of the training: what is taken from the full one, as small functions and classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from experiments.common.corpus import VoiceCorpus
from facetalk.diffusion.denoiser import Denoiser, DenoiserConfig
from facetalk.diffusion.model import MotionModel
from facetalk.diffusion.representation import Representation
from facetalk.training.motion.dataset import MotionData
from facetalk.training.motion.train import MotionTraining, prepare


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row of an experiment.

    Attributes:
        name: unique, fit for a folder.
        title: what tables call it.
        change: in a sentence, how it differs from the full training.
        data: what of the corpus it sees.
        denoiser: its network.
        window: audio frames (before, after) that a frame sees.
        representation: its coordinates, of those of the full training and the data.
        training: its loss and augmentation.
        trained_as: another variant whose weights it takes; it then differs after training only.
        steps: denoising steps; None = as all.
        guidance: weight of classifier-free guidance; None = as all.
        smoothing: whether the deformation is weighted by the facial smoothing.
        paper: LSE-D and diversity that the paper reports, where it has this row.
    """

    name: str
    title: str
    change: str
    data: Callable[[VoiceCorpus], MotionData] = VoiceCorpus.everything
    denoiser: Callable[[DenoiserConfig], Denoiser] = Denoiser
    window: tuple[int, int] = (0, 0)
    representation: Callable[[Representation, MotionData], Representation] = lambda full, data: full
    training: type[MotionTraining] = MotionTraining
    trained_as: str | None = None
    steps: int | None = None
    guidance: float | None = None
    smoothing: bool = True
    paper: tuple[float, float] | None = None

    def build(self, data: MotionData, head: Path, seed: int) -> MotionModel:
        """A fresh model.

        Args:
            data: what it will be trained on.
            head: ``ict_facekit_light.npz``.
            seed: of the weights; variants with the same layers begin with the same ones.
        """
        full = prepare(data, head, "mini")
        representation = self.representation(full.representation, data)
        config = dataclasses.replace(full.denoiser.config, window=self.window, motion_dim=representation.dim)
        torch.manual_seed(seed)
        return MotionModel(
            self.denoiser(config),
            representation,
            expression_names=full.expression_names,
            feature_mean=full.feature_mean,
            feature_scale=full.feature_scale,
            contact=full.contact,
        )


def raw_weights(full: Representation, data: MotionData) -> Representation:
    """Blendshape weights as they are, as the paper diffuses its codes."""
    return Representation.identity(len(full.mean))


def standardised_weights(full: Representation, data: MotionData) -> Representation:
    """Weights less their mean, over their standard deviation; those that never move are left out."""
    weights = np.concatenate([part.reshape(-1, part.shape[-1]) for part in data.weights]).astype(np.float64)
    mean, spread = weights.mean(0), weights.std(0)
    moved = np.flatnonzero(spread > 1e-3)
    select = np.eye(len(mean))[moved]
    return Representation(mean, select / spread[moved, None], select.T * spread[moved], np.ones(len(moved)))
