"""The denoiser of FaceTalk: a causal transformer that predicts clean motion from noisy motion and audio.

Aneja et al., "FaceTalk: Audio-Driven Motion Diffusion for Neural Parametric Head Models" (CVPR 2024), section
3; block design after Tseng et al., "EDGE: Editable Dance Generation From Music" (CVPR 2023). Widths, layer
count and positional encoding are not published; ours are settings, and the encoding is rotary (see
``facetalk.diffusion.attention``).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facetalk.diffusion.attention import AudioAttention, KeyValue, Rotation, SelfAttention, rotation
from facetalk.errors import InputError


@dataclasses.dataclass(frozen=True)
class DenoiserConfig:
    """Sizes of a denoiser.

    Attributes:
        motion_dim: values per motion frame, E.
        audio_dim: values per audio frame, A.
        layers: decoder blocks.
        heads: attention heads.
        width: channels; a multiple of twice the heads.
        feedforward: hidden channels of a block's feed-forward part.
        window: audio frames (before, after) that a motion frame sees; (0, 0) is the paper's alignment mask.
        history: past motion frames that a frame sees in self-attention; None = all, as in the paper.
        dropout: in training, after each sub-layer.
    """

    motion_dim: int
    audio_dim: int
    layers: int = 8
    heads: int = 8
    width: int = 512
    feedforward: int = 1024
    window: tuple[int, int] = (0, 0)
    history: int | None = None
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Check the settings."""
        object.__setattr__(self, "window", tuple(self.window))
        for name in ("motion_dim", "audio_dim", "layers", "heads", "width", "feedforward"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"denoiser setting {name} must be a positive whole number, got {value!r}")
        if self.width % (2 * self.heads):
            raise InputError(
                f"denoiser width {self.width} must be a multiple of 2 x heads = {2 * self.heads}"
            )
        if len(self.window) != 2 or not all(isinstance(n, int) and n >= 0 for n in self.window):
            raise InputError(
                f"denoiser window must be two whole numbers (before, after), got {self.window!r}"
            )
        counted = isinstance(self.history, int) and not isinstance(self.history, bool)
        if self.history is not None and not (counted and self.history >= 1):
            raise InputError(f"denoiser history must be at least 1 whole frame or null, got {self.history!r}")
        if not 0.0 <= self.dropout < 1.0:
            raise InputError(f"denoiser dropout must lie in [0, 1), got {self.dropout!r}")

    @classmethod
    def paper(cls, **changes: Any) -> DenoiserConfig:
        """NPHM's 200 expression values, Wav2Vec 2.0 base, and EDGE's sizes (the paper gives none)."""
        return cls(**{"motion_dim": 200, "audio_dim": 768, **changes})

    @classmethod
    def mini(cls, **changes: Any) -> DenoiserConfig:
        """A small one for CPUs: about 1 M parameters, a bounded history, the 53 ICT-FaceKit weights."""
        small = dict(motion_dim=53, audio_dim=256, layers=4, heads=4, width=128, feedforward=256, history=24)
        return cls(**{**small, "dropout": 0.0, **changes})


@dataclasses.dataclass
class Condition:
    """What the blocks need to know of the audio, computed once per clip or chunk.

    Attributes:
        layers: per layer, the finished (B, T, C) term for the window (0, 0), else keys and values.
        offset: frames of left context in them.
    """

    layers: list[Tensor | KeyValue]
    offset: int = 0


class TimestepEmbedding(nn.Module):
    """Sinusoidal embedding of a timestep through a three-layer MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, timesteps: Tensor) -> Tensor:
        """(B,) timesteps -> (B, C)."""
        return self.mlp(waves(timesteps, self.width).to(next(self.mlp.parameters()).dtype))


def waves(values: Tensor, width: int) -> Tensor:
    """Sines and cosines of (B,) values at frequencies from 1 down to 1e-4: (B, width) float32."""
    half = width // 2
    frequency = torch.exp(-math.log(10_000.0) * torch.arange(half, device=values.device) / half)
    angle = values.to(torch.float32)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


Modulation = tuple[Tensor, Tensor]
"""What FiLM makes of a timestep: gain and shift, each (B, 1, C)."""


class FiLM(nn.Module):
    """Scale and shift by the timestep (Perez et al., 2018): one linear layer, (1 + scale) x + shift."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * width)

    def forward(self, time: Tensor) -> Modulation:
        """(B, C) -> gain 1 + scale and shift."""
        scale, shift = self.linear(F.silu(time))[:, None].chunk(2, dim=-1)
        return 1.0 + scale, shift


def modulate(x: Tensor, modulation: Modulation) -> Tensor:
    """gain x + shift, over (B, T, C).

    This and the residual after it stay two passes of torch's, on the GPU too. They move about 1 MB that lies
    in L2 (250 frames, 512 channels, with guidance) beside a projection of 0.3 GFLOP; to put them into the
    projection would mean a matrix product of our own against cuBLAS's, for a small part of the time.
    """
    gain, shift = modulation
    return torch.addcmul(shift, x, gain)


@dataclasses.dataclass
class Steady:
    """What a forward pass makes of its timestep and its length alone: the same for every clip.

    Attributes:
        modulation: per block, that of its three sub-layers.
        turn: rotary encoding of all positions, past ones too.
    """

    modulation: list[list[Modulation]]
    turn: Rotation


class Block(nn.Module):
    """Self-attention, cross-attention and feed-forward, each normed, modulated by FiLM, and residual."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        width = config.width
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])
        self.films = nn.ModuleList([FiLM(width) for _ in range(3)])
        self.self_attention = SelfAttention(width, config.heads, config.history)
        self.audio_attention = AudioAttention(width, config.heads, config.window)
        self.feed_in = nn.Linear(width, config.feedforward)
        self.feed_out = nn.Linear(config.feedforward, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        modulation: list[Modulation],
        turn: Rotation,
        audio: Tensor | KeyValue,
        offset: int,
        past: KeyValue | None,
    ) -> tuple[Tensor, KeyValue]:
        """x (B, T, C) -> (B, T, C) and this layer's keys and values for the next chunk."""
        mixed, kept = self.self_attention(self.norms[0](x), turn, past)
        x = x + modulate(self.dropout(mixed), modulation[0])
        heard = self.audio_attention(self.norms[1](x) if isinstance(audio, KeyValue) else x, audio, offset)
        x = x + modulate(self.dropout(heard), modulation[1])
        fed = self.feed_out(F.gelu(self.feed_in(self.norms[2](x)), approximate="tanh"))
        return x + modulate(self.dropout(fed), modulation[2]), kept


class Denoiser(nn.Module):
    """Predicts the clean motion x_0 from (x_t, t, audio).

    Frame i of the prediction depends on the frames up to i of x_t and on the audio features that the window
    lets through, on nothing later. If the weights have another dtype than x_t, the network computes in theirs
    and gives the prediction in x_t's.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        self.motion_in = nn.Linear(config.motion_dim, config.width)
        self.audio_in = nn.Linear(config.audio_dim, config.width)
        self.null_audio = nn.Parameter(torch.randn(config.width) * 0.02)
        self.time = TimestepEmbedding(config.width)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.motion_out = nn.Linear(config.width, config.motion_dim)

    def condition(self, features: Tensor, *, drop: Tensor | None = None, offset: int = 0) -> Condition:
        """Everything about the audio that denoising needs; reuse it for all steps.

        Args:
            features: (B, T, A) audio features at the motion frame rate.
            drop: (B,) booleans: examples whose audio is replaced by the learned null condition.
            offset: number of leading frames that are only context for the alignment window.

        Raises:
            ValueError: the features have another size than the denoiser was made for.
        """
        if features.ndim != 3 or features.shape[-1] != self.config.audio_dim:
            raise ValueError(
                f"features must have shape (B, T, {self.config.audio_dim}), got {tuple(features.shape)}"
            )
        audio = self.audio_in(features.to(self.audio_in.weight.dtype))
        if drop is not None:
            audio = torch.where(drop[:, None, None], self.null_audio, audio)
        return Condition([block.audio_attention.prepare(audio) for block in self._blocks], offset)

    def guided_condition(self, features: Tensor, *, offset: int = 0) -> Condition:
        """Condition of a batch of 2 B: first the audio of :meth:`condition`, then the null condition.

        The null condition is the same in all frames: it is worked out for one and repeated.
        """
        heard = self.condition(features, offset=offset)
        null = self.null_audio.expand(1, 1, -1)
        layers: list[Tensor | KeyValue] = []
        for block, layer in zip(self._blocks, heard.layers, strict=True):
            silent = block.audio_attention.prepare(null)
            if isinstance(layer, Tensor):
                layers.append(torch.cat([layer, cast(Tensor, silent).expand_as(layer)]))
            else:
                silent = cast(KeyValue, silent)
                key = torch.cat([layer.key, silent.key.expand_as(layer.key)])
                layers.append(KeyValue(key, torch.cat([layer.value, silent.value.expand_as(layer.value)])))
        return Condition(layers, offset)

    def guided(self, guidance: float) -> bool:
        """Whether guidance with this weight takes a second pass, with the null condition."""
        return guidance != 1.0

    def at(self, timestep: int, previous: int, guidance: float) -> Tensor:
        """What :meth:`forward` takes as ``timesteps`` in the step from ``timestep`` to ``previous``.

        This network needs the timestep alone, (1,); the few-step student (``facetalk.diffusion.student``)
        wants to know the rest too.
        """
        return torch.tensor([timestep], device=self.motion_in.weight.device)

    def embed(self, timesteps: Tensor) -> Tensor:
        """Timesteps, as :meth:`at` gives them for each example, -> (B, C)."""
        return cast(Tensor, self.time(timesteps))

    def steady(self, timesteps: Tensor, positions: int) -> Steady:
        """The part of a forward pass that only needs the timesteps and the number of frames.

        Args:
            timesteps: (B,) or (1,) timesteps, from :meth:`at`.
            positions: frames of the clip or chunk, and of the past that goes in with it.
        """
        time = self.embed(timesteps)
        config = self.config
        return Steady(
            [[film(time) for film in block.films] for block in self._blocks],
            rotation(positions, config.width // config.heads, time),
        )

    def forward(
        self,
        noisy: Tensor,
        timesteps: Tensor | Steady,
        condition: Condition,
        past: list[KeyValue] | None = None,
    ) -> tuple[Tensor, list[KeyValue]]:
        """Predict the clean motion.

        Args:
            noisy: (B, T, E) x_t.
            timesteps: (B,) or (1,) timesteps, or what :meth:`steady` made of them.
            condition: from :meth:`condition`, for the same frames.
            past: per layer, what the call on the chunk before returned (at the same denoising step).

        Returns:
            (B, T, E) x_0, and per layer what the next chunk needs.
        """
        before = past[0].key.shape[2] if past else 0
        if isinstance(timesteps, Tensor):
            timesteps = self.steady(timesteps, before + noisy.shape[1])
        x = self.motion_in(noisy.to(self.motion_in.weight.dtype))
        kept: list[KeyValue] = []
        for index, block in enumerate(self._blocks):
            x, layer = block(
                x,
                timesteps.modulation[index],
                timesteps.turn,
                condition.layers[index],
                condition.offset,
                past[index] if past else None,
            )
            kept.append(layer)
        return self.motion_out(x).to(noisy.dtype), kept

    @property
    def _blocks(self) -> list[Block]:
        return cast(list[Block], list(self.blocks))
