"""Denoisers with one thing of the paper taken away, and trainings with one term taken away.

Each is a subclass here and no switch there: nobody who generates motions needs them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facetalk.diffusion.attention import AudioAttention, KeyValue, rotate, rotation
from facetalk.diffusion.denoiser import Condition, Denoiser, DenoiserConfig, Steady
from facetalk.training.motion.train import MotionTraining

UNBOUNDED = 100_000
"""Frames of an audio window that no clip reaches."""


class PlacedAudioAttention(AudioAttention):
    """Cross-attention to all audio frames, with rotary positions on both sides.

    The alignment mask is what tells a frame which sound is its own. Without it, and without positions,
    nothing would; EDGE, whose block the paper follows, turns queries and keys of its cross-attention, so this
    does.
    """

    def prepare(self, audio: Tensor) -> Tensor | KeyValue:
        """As :meth:`AudioAttention.prepare`, with turned keys."""
        prepared = super().prepare(audio)
        assert isinstance(prepared, KeyValue)
        return KeyValue(_turned(prepared.key), prepared.value)

    def forward(self, x: Tensor, prepared: Tensor | KeyValue, offset: int = 0) -> Tensor:
        """As :meth:`AudioAttention.forward`, with turned queries; the clip has to come in one piece."""
        assert isinstance(prepared, KeyValue)
        if offset or prepared.key.shape[2] != x.shape[1]:
            raise ValueError("without an alignment mask a clip is denoised in one piece")
        query = _turned(self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2))
        mixed = nn.functional.scaled_dot_product_attention(query, prepared.key, prepared.value)
        return self.project_out(mixed.transpose(1, 2).flatten(2))


class UnalignedDenoiser(Denoiser):
    """No alignment mask: every motion frame sees the whole sound."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__(config)
        for block in self._blocks:
            block.audio_attention = PlacedAudioAttention(config.width, config.heads, config.window)


class UnmodulatedDenoiser(Denoiser):
    """No FiLM: the timestep's embedding is added to every frame once, in the first block; it never scales."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__(config)
        for block in self._blocks:
            block.films = nn.ModuleList()

    def steady(self, timesteps: Tensor, positions: int) -> Steady:
        """Gain 1 and shift 0 everywhere, but for the embedding as the first shift of all."""
        time = self.time(timesteps)[:, None]
        plain = torch.ones_like(time), torch.zeros_like(time)
        modulation = [[plain] * 3 for _ in self._blocks]
        modulation[0] = [(plain[0], time), plain, plain]
        return Steady(modulation, rotation(positions, self.config.width // self.config.heads, time))


class RegressionDenoiser(Denoiser):
    """No diffusion: the same network sees neither noise nor timestep and gives the motion in one pass.

    With the squared error it learns the mean of all motions that fit the sound.
    """

    def steady(self, timesteps: Tensor, positions: int) -> Steady:
        """That of timestep 0."""
        return super().steady(torch.zeros_like(timesteps), positions)

    def forward(
        self,
        noisy: Tensor,
        timesteps: Tensor | Steady,
        condition: Condition,
        past: list[KeyValue] | None = None,
    ) -> tuple[Tensor, list[KeyValue]]:
        """As :meth:`Denoiser.forward`, blind to ``noisy``."""
        return super().forward(torch.zeros_like(noisy), timesteps, condition, past)


class Unscaled(MotionTraining):
    """No expression augmentation."""

    expression_scale = (1.0, 1.0)


class WithoutGap(MotionTraining):
    """No loss on the inner-lip gap."""

    gap_weight = 0.0


class WithoutVelocity(MotionTraining):
    """No loss on velocities."""

    velocity_weight = 0.0


class SquaredError(WithoutGap, WithoutVelocity):
    """The squared error alone, as in the paper."""


def _turned(x: Tensor) -> Tensor:
    """(B, H, T, D) with rotary positions 0 to T - 1."""
    return rotate(x, rotation(x.shape[2], x.shape[3], x), 0)
