"""The denoiser as a step: one frame at one denoising step, with the keys and values of the past as caches."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facetalk.convert.encoder_step import UNSEEN
from facetalk.diffusion import MotionModel
from facetalk.diffusion.attention import join_heads, rotate, rotation
from facetalk.diffusion.denoiser import Block, Denoiser, modulate
from facetalk.diffusion.student import Student
from facetalk.errors import InputError


class DenoiserStep(nn.Module):
    """Predicts the clean coordinates of a frame from noisy ones, in the operations that every runtime has.

    Args:
        model: the motion model; its student where it has one.

    Attributes:
        at_columns: columns of ``at``: timestep, where the step ends and guidance for a student, the timestep
            alone otherwise.
        guided: whether guidance takes a second row, with ``heard`` 0.

    Raises:
        InputError: the network sees all of the past, or more of the sound than its own frame.
    """

    def __init__(self, model: MotionModel) -> None:
        super().__init__()
        network: Denoiser = model.denoiser if model.student is None else model.student
        config = network.config
        if config.history is None or config.window != (0, 0):
            raise InputError(
                "only motion models with a bounded history and the alignment mask (window 0, 0) have a step "
                "of a fixed size"
            )
        self.network, self.history = network.float().cpu(), config.history
        self.at_columns, self.guided = (3, False) if isinstance(network, Student) else (1, True)
        depth = config.width // config.heads
        self.shape = config.layers, config.heads, config.history, depth
        turn = rotation(config.history + 1, depth, torch.zeros(1))
        self.register_buffer("cos", turn.cos)
        self.register_buffer("sin", turn.sin)
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", model.feature_mean.float().cpu())
        self.register_buffer("scale", model.feature_scale.float().cpu())

    def start(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Empty caches."""
        layers, heads, history, depth = self.shape
        empty = torch.zeros(batch, layers, heads, history, depth)
        return empty, empty.clone(), torch.zeros(batch, history)

    def forward(
        self,
        noisy: Tensor,
        at: Tensor,
        features: Tensor,
        heard: Tensor,
        key: Tensor,
        value: Tensor,
        seen: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Take a step.

        Args:
            noisy: (B, K) coordinates x_t.
            at: (B, at_columns).
            features: (B, A) of the frame, from the encoder.
            heard: (B, 1) 1, or 0 for the null condition of guidance.
            key: (B, layers, heads, history, D) of the frames before, at this denoising step.
            value: likewise.
            seen: (B, history) 1 where there is such a frame.

        Returns:
            (B, K) predicted x_0, and the three caches for the next frame.
        """
        network = self.network
        audio = network.audio_in((features - self.mean) / self.scale)
        audio = (audio * heard + network.null_audio * (1.0 - heard))[:, None]
        x = network.motion_in(noisy)[:, None]
        time = network.embed(at if self.at_columns > 1 else at[:, 0])
        seen = torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1)
        mask = ((1.0 - seen) * UNSEEN)[:, None, None]
        keys, values = [], []
        for number, block in enumerate(network.blocks):
            assert isinstance(block, Block)
            own = [film(time) for film in block.films]
            mixed, new_key, new_value = self._attend(
                block, block.norms[0](x), key[:, number], value[:, number], mask
            )
            x = x + modulate(mixed, own[0])
            x = x + modulate(block.audio_attention.prepare(audio), own[1])  # type: ignore[arg-type]
            fed = block.feed_out(F.gelu(block.feed_in(block.norms[2](x)), approximate="tanh"))
            x = x + modulate(fed, own[2])
            keys.append(new_key)
            values.append(new_value)
        return network.motion_out(x)[:, 0], torch.stack(keys, 1), torch.stack(values, 1), seen[:, 1:]

    def _attend(
        self, block: Block, x: Tensor, key: Tensor, value: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        attention = block.self_attention
        parts = attention.project_in(x).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
        query, own_key, own_value = parts[0], parts[1], parts[2]
        key, value = torch.cat([key, own_key], 2), torch.cat([value, own_value], 2)
        turn = (self.cos, self.sin)
        turned = rotate(query, turn, self.history), rotate(key, turn, 0)  # type: ignore[arg-type]
        logits = turned[0] @ turned[1].transpose(-1, -2) / math.sqrt(query.shape[-1]) + mask
        mixed = attention.project_out(join_heads(logits.softmax(-1) @ value))
        return mixed, key[:, :, 1:], value[:, :, 1:]


class Curves(nn.Module):
    """Clean coordinates to the weights of the face: the linear map, clipping, and lips that do not cross.

    Args:
        model: the motion model.
    """

    def __init__(self, model: MotionModel) -> None:
        super().__init__()
        self.matrix: Tensor
        self.mean: Tensor
        self.slope: Tensor
        self.only: Tensor
        matrix, mean = model.representation.decode_matrix, model.representation.mean
        self.register_buffer("matrix", torch.tensor(matrix.T.copy(), dtype=torch.float32))
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.contact, self.limits = model.contact, model.limits
        if self.contact is not None:
            slope = self.contact.per_unit_mm
            self.register_buffer("slope", torch.tensor(slope, dtype=torch.float32)[:, None])
            self.register_buffer("only", torch.eye(len(slope))[self.contact.close][None])
            self.steepness = float(-slope[self.contact.close])

    def forward(self, clean: Tensor) -> Tensor:
        """(B, K) coordinates -> (B, E) weights within the model's limits."""
        weights = clean @ self.matrix + self.mean
        if self.limits is not None:
            weights = weights.clamp(*self.limits)
        if self.contact is None:
            return weights
        gap = weights @ self.slope + self.contact.bias_mm
        excess = (self.contact.lowest_mm - gap).clamp(min=0.0) / self.steepness
        return torch.maximum(weights - excess * self.only, torch.zeros_like(weights))
