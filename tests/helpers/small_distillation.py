"""A small motion model, and a teacher of it that has heard noise."""

from __future__ import annotations

import numpy as np
import torch

from facetalk.diffusion import Denoiser, DenoiserConfig, MotionModel, Representation
from facetalk.diffusion.lip_contact import LipContact
from facetalk.training.motion.distill import SHARES
from facetalk.training.motion.distill_cache import Teacher, grid, teacher_timesteps

DIM, AUDIO, CLIPS, FRAMES = 3, 5, 2, 24


def motion_model() -> MotionModel:
    torch.manual_seed(0)
    config = DenoiserConfig(
        motion_dim=DIM, audio_dim=AUDIO, layers=2, heads=2, width=16, feedforward=24, history=6, dropout=0.0
    )
    return MotionModel(
        Denoiser(config), Representation.identity(DIM), expression_names=["a", "b", "c"],
        feature_mean=torch.full((AUDIO,), 0.2), contact=LipContact(0.5, np.array([5.0, -5.0, 0.0]), 1),
    )  # fmt: skip


def make_teacher(model: MotionModel, guidance: tuple[float, float] = (1.0, 2.5)) -> Teacher:
    rng = np.random.default_rng(0)
    heard = [rng.normal(size=(length, AUDIO)).astype(np.float16) for length in (30, 80, 10)]
    states = grid(model.schedule, tuple(SHARES))
    return Teacher(
        model, heard, states, timesteps=teacher_timesteps(states, 1, 4), guidance=guidance, clips=CLIPS,
        frames=FRAMES,
    )  # fmt: skip
