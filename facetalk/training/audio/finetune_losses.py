"""What a fine-tuned encoder is held to: today's features, the lips a frozen student reads, phones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from facetalk.audio.encoder import AudioEncoder, encode_frames
from facetalk.diffusion import MotionModel
from facetalk.errors import InputError
from facetalk.training.audio.finetune_batches import Batches
from facetalk.training.audio.targets import CURVES
from facetalk.training.audio.train import Heads, loss_terms
from facetalk.units import DEFAULT_FPS, SAMPLE_RATE

_AHEAD_S = (0.05, 0.6)
"""Look-aheads that count most: what live use takes. With less the sound is not there yet."""
_TRUST_MM = 1.5
"""Up to this far from the phones' reading the lips of today are right, and features are held to them."""
_LEAST_TRUST = 0.1
_HEADS_ALONE = 200
"""Steps until the fresh heads pull at the features."""
_SHUT_MM, _OPEN_STILL = 0.5, 4.5
"""Lips that should be shut count so much more for each millimetre that they are not."""
_WIDE_MM, _SHORT = 4.0, 1.8
"""And lips that open too little so many times as much as those that open too far: who is unsure would else
meet in the middle and neither close nor open."""
_GUIDANCE = 1.5
_LATEST = 999
_WEIGHTS = {"features": 1.0, "motion": 0.5, "lips": 1.0, "phones": 0.35}


class LipReader(nn.Module):
    """The few-step student in one step, differentiable: features to coordinates of motion and the lip gap.

    Args:
        motion: the motion model.

    Raises:
        InputError: it has no student, or no lip contact to read a gap with.
    """

    def __init__(self, motion: MotionModel) -> None:
        super().__init__()
        if motion.student is None or motion.contact is None:
            raise InputError(
                "fine-tuning reads lips with the motion model's few-step student, and this model has none; "
                "make one with `facetalk distill`, or train without --init"
            )
        space = motion.representation
        self.student = motion.student
        self.mean: Tensor
        self.scale: Tensor
        self.gap: Tensor
        self.matters: Tensor
        self.at: Tensor
        self.register_buffer("mean", motion.feature_mean)
        self.register_buffer("scale", motion.feature_scale)
        per_unit = np.asarray(motion.contact.per_unit_mm)
        self.bias = float(motion.contact.bias_mm + space.mean @ per_unit)
        gap = torch.from_numpy((per_unit @ space.decode_matrix).astype(np.float32))
        self.register_buffer("gap", gap)
        self.register_buffer("matters", torch.from_numpy(space.scale_mm.astype(np.float32)))
        self.register_buffer("at", motion.student.at(_LATEST, -1, _GUIDANCE))

    def forward(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, A) features and (B, T, K) noise -> (B, T, K) coordinates in mm, and (B, T) the gap in mm."""
        standard = (features - self.mean) / self.scale
        coordinates = self.student(noise, self.at, self.student.condition(standard))[0]
        return coordinates * self.matters, self.bias + coordinates @ self.gap


class Losses:
    """What the new encoder is held to.

    Args:
        teacher: the encoder of today.
        reader: the student that reads lips.
    """

    def __init__(self, teacher: AudioEncoder, reader: LipReader, batches: Batches) -> None:
        self.teacher, self.reader, self.batches = teacher.model, reader, batches
        self.span = teacher.span(DEFAULT_FPS)
        self.silence = self._silence()

    def encode(self, model: Any, waves: Tensor, frames: int) -> Tensor:
        """(B, N) sound, its left margin before it -> (B, frames, A)."""
        positions = (torch.arange(frames, device=waves.device) + 0.5) / DEFAULT_FPS * SAMPLE_RATE
        extracted = model.feature_extractor(waves).transpose(1, 2)
        return encode_frames(model, extracted, positions / self.batches.stride - 0.5, self.span)

    @torch.no_grad()
    def _silence(self) -> Tensor:
        """(A,) what today's encoder makes of a quiet room."""
        rng = np.random.default_rng(0)
        wave = torch.from_numpy(rng.normal(0.0, 0.02, (1, 4 * SAMPLE_RATE)).astype(np.float32))
        features = self.encode(self.teacher, wave, 90)
        return features[0, 20:80].mean(0)

    @torch.no_grad()
    def targets(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features, coordinates and gap of today's encoder on the clean sound, and the noise."""
        spoken = batch["spoken"][:, None, None] > 0.5
        features = self.encode(self.teacher, batch["clean"], self.batches.frames)
        features = torch.where(spoken, features, self.silence)
        generator = torch.Generator().manual_seed(int(batch["seed"]))
        width = self.reader.matters.shape[0]
        noise = torch.randn(*features.shape[:2], width, generator=generator).to(features)
        return features, *self.reader(features, noise), noise

    def __call__(self, model: Any, heads: Heads, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """All terms and their weighted sum under ``loss``."""
        wanted, motion, gap, noise = self.targets(batch)
        samples, frames = (int(value) for value in batch["cut"])
        waves = batch["spoilt"]
        if samples >= 0:
            waves = waves[:, : self.batches.margin + samples]
        found = self.encode(model, waves, frames)
        count = min(frames, self.batches.frames)
        weight = self._ahead(samples, count).to(found)[None]
        found, wanted, motion, gap, noise = (x[:, :count] for x in (found, wanted, motion, gap, noise))
        truth = batch["curves"][:, :count, 0] * CURVES[0][2]
        truth = torch.where(batch["spoken"][:, None] > 0.5, truth.clamp(min=0.0), gap)
        wrong = (gap - truth).abs()
        trust = torch.exp(-(wrong - _TRUST_MM).clamp(min=0.0) / _TRUST_MM).clamp(min=_LEAST_TRUST)
        seen, lips = self.reader(found, noise)
        error = (((found - wanted) / self.reader.scale) ** 2).mean(-1)
        away = ((seen - motion) ** 2).sum(-1) / (self.reader.matters**2).sum()
        shut = (truth < _SHUT_MM).float() * batch["spoken"][:, None]
        short = (lips < truth) & (truth > _WIDE_MM)
        pressed = functional.smooth_l1_loss(lips, truth, reduction="none", beta=1.0) / 3.0
        pressed = pressed * torch.where(short, _SHORT, 1.0)
        open_still = _OPEN_STILL * shut * (lips - 0.4).clamp(min=0.0)
        phones = loss_terms(
            heads(found if step >= _HEADS_ALONE else found.detach()),
            batch["classes"][:, :count], batch["curves"][:, :count],
        )  # fmt: skip
        terms = {
            "features": (error * trust * weight).mean(),
            "motion": (away * trust * weight).mean(),
            "lips": ((pressed + open_still) * weight).mean(),
            "phones": phones["loss"],
        }
        total = torch.stack([_WEIGHTS[name] * value for name, value in terms.items()]).sum()
        return {
            "loss": total, **terms,
            "gap_error_mm": (lips - truth).abs().mean(), "gap_error_before_mm": wrong.mean(),
        }  # fmt: skip

    def _ahead(self, samples: int, count: int) -> Tensor:
        """(count,) weight of each frame by the sound that is heard after its middle."""
        if samples < 0:
            return torch.ones(count)
        ahead = samples / SAMPLE_RATE - (torch.arange(count) + 0.5) / DEFAULT_FPS
        low, high = _AHEAD_S
        weight = torch.where(ahead > high, 0.7, 2.5)
        return torch.where(ahead < low, 0.1, weight)
