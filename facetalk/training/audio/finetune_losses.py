"""What a fine-tuned encoder is held to: today's features, the lips a frozen student reads, phones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from facetalk.arrays import Float64
from facetalk.audio.encoder import AudioEncoder, encode_frames
from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.data.visemes import AT_TEETH_ROLL
from facetalk.diffusion import MotionModel
from facetalk.errors import InputError
from facetalk.nphm.head.head import HeadModel
from facetalk.training.audio.finetune_batches import Batches
from facetalk.training.audio.targets import CURVES
from facetalk.training.audio.train import Heads, loss_terms
from facetalk.training.openings import lips_of
from facetalk.units import DEFAULT_FPS, SAMPLE_RATE

_AHEAD_S = (0.05, 0.1, 0.34, 0.6)
_AHEAD = (0.1, 1.5, 3.5, 1.5, 0.3)
"""Weights of frames of cut sound by what is heard after them: what live use takes counts most. With less the
sound is not there yet, with more it is as if it were whole."""
_TRUST_MM = 1.5
"""Up to this far from the phones' reading the lips of today are right, and features are held to them."""
_LEAST_TRUST = 0.03
_HEADS_ALONE = 200
"""Steps until the fresh heads pull at the features."""
_SHUT_MM, _OPEN_STILL = 0.5, 9.0
"""Lips that should be shut count so much more for each millimetre that they are not. Who is unsure closes
them: a viewer misses a p that is not there before he sees one too many."""
_WIDE_MM, _SHORT = 4.0, 1.8
"""And lips that open too little so many times as much as those that open too far: who is unsure would else
meet in the middle and neither close nor open."""
_NEAR_MM, _TOUCH = 1.0, 4.0
"""In f and v a lower lip further than the first from its place at the teeth counts so much a millimetre."""
_BEYOND = 0.1
"""Slope of expressions outside 0 to 1, where nothing is shown: none would leave them there."""
_GUIDANCE = 1.5
_LATEST = 999
WEIGHTS = {
    "features": 0.25,
    "motion": 0.2,
    "lips": 1.2,
    "teeth": 1.5,
    "phones": 1.0,
    "live": 1.5,
    "taught": 3.0,
}
"""What each term of the loss counts: what is heard before what it was until now, since a student that reads
the new features less well can be taught on them (``facetalk distill --life 1 --mouth 1``)."""


class LipReader(nn.Module):
    """The few-step student in one step, differentiable: features to coordinates of motion and the lip gap.

    Args:
        motion: the motion model.
        lower_mm: (E, 3) how far each expression moves the lower lip; without it its place is not read.

    Raises:
        InputError: it has no student, or no lip contact to read a gap with.
    """

    def __init__(self, motion: MotionModel, lower_mm: Float64 | None = None) -> None:
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
        self.decode: Tensor
        self.middle: Tensor
        self.lower: Tensor | None
        self.register_buffer("decode", torch.from_numpy(space.decode_matrix.astype(np.float32)))
        self.register_buffer("middle", torch.from_numpy(space.mean.astype(np.float32)))
        lower = None if lower_mm is None else torch.from_numpy(lower_mm.astype(np.float32))
        self.register_buffer("lower", lower)

    @classmethod
    def of_model(cls, folder: Path) -> tuple[LipReader, Float64 | None]:
        """The frozen reader of a model folder, and how far each expression moves its lower lip, (E, 3) in mm.

        Raises:
            InputError: a part is missing or damaged, or there is no student.
        """
        motion, head = MotionModel.load(folder / "motion"), HeadModel.load(folder / "head")
        # Other expressions than those that phones are read as have no known place at the teeth.
        named = tuple(motion.expression_names) == tuple(EXPRESSION_NAMES)
        lower = lips_of(head).lower_mm if named else None
        return cls(motion, lower).eval().requires_grad_(False), lower

    def forward(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the lips do.

        Args:
            features: (B, T, A).
            noise: (B, T, K).

        Returns:
            (B, T, K) coordinates in mm, (B, T) the gap in mm, and (B, T, 3) the lower lip's place in mm.
        """
        standard = (features - self.mean) / self.scale
        # Without gradients the student would take the compiled attention; nothing here asks for any.
        with torch.enable_grad():
            coordinates = self.student(noise, self.at, self.student.condition(standard))[0]
            lower = None
            if self.lower is not None:
                weights = self.middle + coordinates @ self.decode.T
                shown = weights.clamp(0.0, 1.0)
                lower = (shown + _BEYOND * (weights - shown)) @ self.lower
            return coordinates * self.matters, self.bias + coordinates @ self.gap, lower


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is asked of a batch: what today's encoder gives for the clean sound.

    Attributes:
        features: (B, T, A).
        motion, gap, lower: what the reader makes of them.
        noise: (B, T, K) what it read them with.
    """

    features: Tensor
    motion: Tensor
    gap: Tensor
    lower: Tensor | None
    noise: Tensor


class Losses:
    """What the new encoder is held to.

    Args:
        teacher: the encoder of today.
        reader: the student that reads lips.
        batches: where batches come from.
        device: where the trained modules are; teacher and reader are moved there, and batches with each call.
        weights: what each term counts.
    """

    def __init__(
        self,
        teacher: AudioEncoder,
        reader: LipReader,
        batches: Batches,
        device: torch.device | str = "cpu",
        weights: Mapping[str, float] = WEIGHTS,
    ) -> None:
        self.weights = weights
        self.device, self.batches = torch.device(device), batches
        self.teacher, self.reader = teacher.model, reader
        self.span = teacher.span(DEFAULT_FPS)
        self.silence = self._silence().to(self.device)
        self.teacher.to(self.device)
        self.reader.to(self.device)

    def encode(self, model: Any, waves: Tensor, cuts: Tensor | None = None) -> Tensor:
        """Features of sound, its left margin before it.

        Args:
            model: an encoder.
            waves: (B, N).
            cuts: (B, V, 3) :class:`~facetalk.training.audio.finetune_batches.Cut` of each view.

        Returns:
            (B, T, A), of views (B * V, T, A), a crop's after each other; what lies after a cut means nothing.
        """
        extracted = model.feature_extractor(waves).transpose(1, 2)
        frames = torch.arange(self.batches.frames, device=waves.device)
        positions = (frames + 0.5) / DEFAULT_FPS * SAMPLE_RATE / self.batches.stride - 0.5
        known = None
        if cuts is not None:
            extracted = extracted.repeat_interleave(cuts.shape[1], 0)
            known = cuts[..., 1:].flatten(0, 1)
        return encode_frames(model, extracted, positions, self.span, known)

    @torch.no_grad()
    def _silence(self) -> Tensor:
        """(A,) what today's encoder makes of a quiet room."""
        rng = np.random.default_rng(0)
        wave = torch.from_numpy(rng.normal(0.0, 0.02, (1, 4 * SAMPLE_RATE)).astype(np.float32))
        place = next(self.teacher.parameters()).device
        return self.encode(self.teacher, wave.to(place))[0, 20:60].mean(0)

    def placed(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch on the device; the seed stays with the generator that takes it."""
        return {
            name: value if name == "seed" else value.to(self.device, non_blocking=True)
            for name, value in batch.items()
        }

    @torch.no_grad()
    def targets(self, batch: dict[str, Tensor]) -> Wanted:
        """What is asked of a batch that is on the device; music and noise have the features of silence."""
        spoken = batch["spoken"][:, None, None] > 0.5
        features = self.encode(self.teacher, batch["clean"])
        return self.wanted(torch.where(spoken, features, self.silence), int(batch["seed"]))

    @torch.no_grad()
    def wanted(self, features: Tensor, seed: int) -> Wanted:
        """What is asked where features (B, T, A) are asked for, read with the noise of a seed."""
        # Drawn on the CPU, so that every device has the same.
        generator = torch.Generator().manual_seed(seed)
        width = self.reader.matters.shape[0]
        noise = torch.randn(*features.shape[:2], width, generator=generator).to(features)
        motion, gap, lower = self.reader(features, noise)
        return Wanted(features, motion, gap, lower, noise)

    def __call__(self, model: Any, heads: Heads, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """All terms and their weighted sum under ``loss``."""
        batch = self.placed(batch)
        found = self.encode(model, batch["spoilt"], batch["cuts"])
        return self.judge(found, self.targets(batch), heads, batch, step)

    def judge(
        self, found: Tensor, today: Wanted, heads: Heads, batch: dict[str, Tensor], step: int
    ) -> dict[str, Tensor]:
        """All terms for features that were found.

        Args:
            found: (B * V, T, A), a crop's views after each other.
            today: what is asked.
            heads: linear readers of phones.
            batch: on the device.
            step: of the training.
        """
        cuts = batch["cuts"]
        views = cuts.shape[1]
        weight = self._weights(cuts.flatten(0, 1))
        if "weight" in batch:
            weight = weight * batch["weight"]
        total = weight.sum()

        def each(values: Tensor) -> Tensor:
            """For every view of a crop the same."""
            return values.repeat_interleave(views, 0)

        def mean(values: Tensor) -> Tensor:
            return (values * weight).sum() / total

        spoken = batch["spoken"][:, None] > 0.5
        truth = batch["curves"][..., 0] * CURVES[0][2]
        truth = torch.where(spoken, truth.clamp(min=0.0), today.gap)
        wrong = (today.gap - truth).abs()
        at_teeth = spoken & (batch["curves"][..., -1] * CURVES[-1][2] > AT_TEETH_ROLL)
        if today.lower is not None and "lower" in batch:
            apart = distance(today.lower, batch["lower"])
            wrong = torch.where(at_teeth, torch.maximum(wrong, apart), wrong)
        trust = torch.exp(-(wrong - _TRUST_MM).clamp(min=0.0) / _TRUST_MM).clamp(min=_LEAST_TRUST)
        seen, lips, lower = self.reader(found, each(today.noise))
        error = (((found - each(today.features)) / self.reader.scale) ** 2).mean(-1)
        away = ((seen - each(today.motion)) ** 2).sum(-1) / (self.reader.matters**2).sum()
        phones = loss_terms(
            heads(found if step >= _HEADS_ALONE else found.detach()),
            each(batch["classes"]), each(batch["curves"]), weight,
        )  # fmt: skip
        terms = {
            "features": mean(error * each(trust)),
            "motion": mean(away * each(trust)),
            "lips": mean(pressed(lips, each(truth), each(spoken))),
            "phones": phones["loss"],
        }
        if lower is not None and "lower" in batch:
            far = (distance(lower, each(batch["lower"])) - _NEAR_MM).clamp(min=0.0)
            terms["teeth"] = mean(_TOUCH * each(at_teeth) * far)
        if heads.taught is not None and "taught" in batch:
            told = heads.taught(found if step >= _HEADS_ALONE else found.detach())
            off = functional.smooth_l1_loss(told, each(batch["taught"]), reduction="none").mean(-1)
            terms["taught"] = mean(off * each(batch["told"]))
        if views > 1:
            terms["live"] = self._live(found, lips, weight, views)
        loss = torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()
        return {
            "loss": loss, **terms,
            "gap_error_mm": mean((lips - each(truth)).abs()),
            "gap_error_before_mm": mean(each((today.gap - truth).abs())),
        }  # fmt: skip

    def _live(self, found: Tensor, lips: Tensor, weight: Tensor, views: int) -> Tensor:
        """How far what is heard of a cut crop is from what the same network hears of it as a whole."""
        features, gaps = (values.unflatten(0, (-1, views)) for values in (found, lips))
        weight = weight.unflatten(0, (-1, views))[:, 1:]
        error = (((features[:, 1:] - features[:, :1].detach()) / self.reader.scale) ** 2).mean(-1)
        away = functional.smooth_l1_loss(
            gaps[:, 1:], gaps[:, :1].detach().expand_as(gaps[:, 1:]), reduction="none", beta=0.5
        )
        return ((0.5 * error + away) * weight).sum() / weight.sum()

    def _weights(self, cuts: Tensor) -> Tensor:
        """(V, T) weight of each frame by the sound that is heard after its middle; 0 if it is not given."""
        index = torch.arange(self.batches.frames, device=cuts.device)
        ahead = cuts[:, :1] / SAMPLE_RATE - (index + 0.5) / DEFAULT_FPS
        weight = ahead_weights(ahead)
        weight = torch.where(cuts[:, :1] >= self.batches.length, 1.0, weight)
        return weight * (index < cuts[:, 2:])


def ahead_weights(ahead: Tensor) -> Tensor:
    """What frames of cut sound count, by the seconds that are heard after their middles."""
    bounds = torch.tensor(_AHEAD_S, device=ahead.device)
    return torch.tensor(_AHEAD, device=ahead.device)[torch.bucketize(ahead, bounds)]


def pressed(lips: Tensor, truth: Tensor, spoken: Tensor) -> Tensor:
    """How wrong a lip gap is, both (B, T) in mm: most where lips should be shut or wide and are not."""
    shut = (truth < _SHUT_MM) & spoken
    short = (lips < truth) & (truth > _WIDE_MM)
    error = functional.smooth_l1_loss(lips, truth, reduction="none", beta=1.0) / 3.0
    return error * torch.where(short, _SHORT, 1.0) + _OPEN_STILL * shut * (lips - 0.4).clamp(min=0.0)


def distance(one: Tensor, other: Tensor) -> Tensor:
    """(..., 3) twice -> (...); the root of 0 has no slope."""
    return ((one - other).square().sum(-1) + 1e-6).sqrt()
