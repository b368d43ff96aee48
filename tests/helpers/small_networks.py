"""Small audio encoders and motion models with random weights, of sizes that no built-in model has."""

from __future__ import annotations

import numpy as np
import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

from facetalk.diffusion import Denoiser, DenoiserConfig, LipContact, MotionModel, Representation
from facetalk.diffusion.student import Student, StudentRange


def small_encoder(**changes: object) -> Wav2Vec2Model:
    """A random one: original kind (group norm, unlimited attention) unless told otherwise."""
    torch.manual_seed(3)
    settings = dict(
        hidden_size=20, num_hidden_layers=3, num_attention_heads=2, intermediate_size=37, conv_dim=[7, 12, 9],
        conv_kernel=[40, 5, 3], conv_stride=[40, 4, 2], num_conv_pos_embeddings=9,
        num_conv_pos_embedding_groups=5, num_feat_extract_layers=3,
    )  # fmt: skip
    model = Wav2Vec2Model(Wav2Vec2Config(**(settings | changes))).eval()
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim < 2:  # biases and gains that do something
                value += 0.3 * torch.randn_like(value)
    return model


def small_motion(features: int, **changes: object) -> MotionModel:
    torch.manual_seed(5)
    rng = np.random.default_rng(5)
    config = DenoiserConfig(
        **{
            **dict(motion_dim=5, audio_dim=features, layers=2, heads=3, width=18, feedforward=23, history=7),
            "dropout": 0.0, **changes,
        }
    )  # fmt: skip
    representation = Representation(
        np.full(6, 0.4), rng.normal(size=(5, 6)), 0.2 * rng.normal(size=(6, 5)), np.ones(5)
    )
    denoiser, student = Denoiser(config), Student(config)
    with torch.no_grad():
        for module in (denoiser, student):
            for value in module.parameters():
                value += 0.1 * torch.randn_like(value)
    return MotionModel(
        denoiser, representation, expression_names=[f"curve {i}" for i in range(6)],
        feature_mean=torch.randn(features), feature_scale=torch.rand(features) + 0.5, default_steps=3,
        default_guidance=1.7, student=student, student_range=StudentRange(),
        contact=LipContact(0.5, rng.normal(size=6) - 2.0, 2, -0.1),
    )  # fmt: skip
