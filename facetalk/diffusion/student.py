"""The few-step student: a denoiser that knows where its step ends, and carries guidance within itself.

A flow map in the sense of Boffi et al., "Flow Map Matching" (2024), and Kim et al., "Consistency Trajectory
Models" (2024): X(x_t, t, s, w) is the x_0-like vector with which one DDIM step from t lands where the guided
teacher's whole trajectory lands at s. It is trained by ``facetalk distill``; see docs/distillation.md.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from facetalk.diffusion.denoiser import Denoiser, DenoiserConfig, waves

GUIDANCE_WAVE = 1000.0
"""Guidance is embedded as this times (w - 1), so that its range is as wide as that of the timesteps."""


@dataclasses.dataclass(frozen=True)
class StudentRange:
    """What a student was trained for.

    Attributes:
        steps: numbers of steps, ascending.
        guidance: smallest and largest weight of guidance.
        default_steps: the number that is taken when none is asked for.
        notes: how it was trained, and the figures that chose ``default_steps``.
    """

    steps: tuple[int, ...] = (1, 2, 4, 8)
    guidance: tuple[float, float] = (1.0, 2.5)
    default_steps: int = 2
    notes: dict[str, object] = dataclasses.field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Check the settings."""
        object.__setattr__(self, "steps", tuple(int(n) for n in self.steps))
        low, high = (float(w) for w in self.guidance)
        object.__setattr__(self, "guidance", (low, high))
        if self.default_steps not in self.steps:
            raise ValueError(f"the student's default of {self.default_steps} steps is not among {self.steps}")
        if not low <= high:
            raise ValueError(f"the student's guidance range is empty: {self.guidance}")

    def covers(self, guidance: float) -> bool:
        """Whether the weight lies in the trained range."""
        return self.guidance[0] <= guidance <= self.guidance[1]


class Student(Denoiser):
    """The teacher's network with two more inputs: the timestep s at which the step ends, and guidance w.

    Each is embedded by the sinusoids of the timestep and added to its embedding through a linear layer that
    starts at zero, so a fresh student that got the teacher's weights *is* the teacher without guidance.
    Everything else, causality and the keys and values of a stream among it, is the denoiser's.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__(config)
        self.end_in = nn.Linear(config.width, config.width, bias=False)
        self.guidance_in = nn.Linear(config.width, config.width, bias=False)
        nn.init.zeros_(self.end_in.weight)
        nn.init.zeros_(self.guidance_in.weight)

    @classmethod
    def of(cls, teacher: Denoiser) -> Student:
        """A fresh student with the teacher's weights."""
        student = cls(teacher.config)
        student.load_state_dict(teacher.state_dict(), strict=False)
        return student.to(teacher.motion_in.weight)

    def guided(self, guidance: float) -> bool:
        """Never: guidance is an input."""
        return False

    def at(self, timestep: int, previous: int, guidance: float) -> Tensor:
        """(1, 3): the timestep, where the step ends (-1 = clean), and the weight of guidance."""
        return torch.tensor([[timestep, previous, guidance]], device=self.motion_in.weight.device)

    def embed(self, timesteps: Tensor) -> Tensor:
        """(B, 3) timesteps, ends and weights of guidance -> (B, C)."""
        timestep, end, guidance = timesteps.to(torch.float32).unbind(-1)
        kind = self.end_in.weight.dtype
        extra = self.end_in(waves(end, self.config.width).to(kind))
        extra = extra + self.guidance_in(waves(GUIDANCE_WAVE * (guidance - 1.0), self.config.width).to(kind))
        return super().embed(timestep) + extra
