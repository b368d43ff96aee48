"""What the student should answer, and what an error costs.

Notation: x_t = alpha_t x_0 + sigma_t noise. A student's answer X moves x_t to x_s by DDIM's rule,
x_s = alpha_s X + (sigma_s / sigma_t) (x_t - alpha_t X); s = -1 is clean, where alpha = 1 and sigma = 0.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from facetalk.diffusion.model import MotionModel
from facetalk.diffusion.schedule import NoiseSchedule
from facetalk.training.openings import Opening

VISIBLE_MM = (1.0, 3.0)
"""A coordinate's error counts by its size in mm within these limits. The teacher's training begins at 0.3: a
student told so little of gaze, which is small on the skin, makes too much of it, the more the more steps."""
_SOFT_MM = 1.0
"""Errors of an opening count relative to (opening + this): they matter most where it is closed."""
_SOFT_ACCELERATION = 0.05
GAP_WEIGHT, LID_WEIGHT, VELOCITY_WEIGHT, ACCELERATION_WEIGHT, POWER_WEIGHT = 1.0, 1.0, 1.0, 0.1, 2.0
_POWER_ORDERS = 4
"""Position, velocity, acceleration and jerk."""
WIDE, NARROW = 1.0, 0.17
"""Where the loss turns from a square to a modulus, in units of variance 1: early on and later."""


class Steps:
    """The rule of a step, for batches in which each example has its own timesteps.

    Args:
        schedule: the noise schedule.
        device: where the batches are.
    """

    def __init__(self, schedule: NoiseSchedule, device: torch.device | str = "cpu") -> None:
        # The last entry stands for CLEAN = -1, which is how Python indexes it.
        power = torch.from_numpy(np.append(schedule.alphas_cumprod, 1.0)).to(device)
        self._alpha, self._sigma = power.sqrt(), (1.0 - power).sqrt()

    def _of(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        shape = (-1, *[1] * (like.ndim - 1))
        return self._alpha[timesteps].reshape(shape), self._sigma[timesteps].reshape(shape)

    def move(self, sample: Tensor, answer: Tensor, timesteps: Tensor, ends: Tensor) -> Tensor:
        """x_t (B, ...) and X -> x_s, for timesteps and ends (B,)."""
        (a, b), (a_end, b_end) = self._of(timesteps, sample), self._of(ends, sample)
        ratio = b_end / b
        return ((a_end - ratio * a) * answer + ratio * sample).to(sample.dtype)

    def target(self, sample: Tensor, end: Tensor, timesteps: Tensor, ends: Tensor) -> Tensor:
        """The X* that moves x_t exactly to x_s (Salimans and Ho, 2022, over any stretch of a trajectory)."""
        (a, b), (a_end, b_end) = self._of(timesteps, sample), self._of(ends, sample)
        ratio = b_end / b
        return ((end - ratio * sample) / (a_end - ratio * a)).to(sample.dtype)

    def importance(self, timesteps: Tensor, ends: Tensor) -> Tensor:
        """(B,): how much an error of X weighs: its square in x_s, but at least 0.1."""
        a, b = self._alpha[timesteps], self._sigma[timesteps]
        factor = self._alpha[ends] - self._sigma[ends] / b * a
        return factor.square().clamp(0.1, 1.0).float()


class DistillLoss:
    """Errors of a batch of answers, as a sum and in parts.

    Args:
        model: the motion model, for its coordinates and lips.
        lids: openings of the eyes.
        warm_up: frames at the start of a crop without a say: they lack the past that they have in use.
        keep: (K, K), what of answers and targets is compared, as ``x @ keep``; None = all.
        device: where the batches are.
    """

    def __init__(
        self,
        model: MotionModel,
        lids: list[Opening],
        *,
        warm_up: int,
        keep: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._keep = None if keep is None else keep.to(device)
        scale = model.representation.scale_mm.clip(*VISIBLE_MM)
        self.weight = torch.from_numpy(scale / scale.mean()).float().to(device)
        self.warm_up = warm_up
        mean, decode = model.representation.mean, model.representation.decode_matrix
        lips = [] if model.contact is None else [Opening(model.contact.bias_mm, model.contact.per_unit_mm)]

        def linear(openings: list[Opening]) -> tuple[Tensor, Tensor]:
            rows = [opening.per_unit_mm @ decode for opening in openings]
            rest = [opening.rest_mm + opening.per_unit_mm @ mean for opening in openings]
            matrix = np.stack(rows, axis=1) if rows else np.zeros((decode.shape[1], 0))
            return torch.from_numpy(matrix).float().to(device), torch.tensor(rest, device=device).float()

        self._lips, self._lids = linear(lips), linear(lids)

    @property
    def lids_mm(self) -> Tensor:
        """(K, lids): apertures in mm that one unit of each coordinate makes."""
        return self._lids[0]

    def __call__(
        self, answer: Tensor, target: Tensor, importance: Tensor, to_clean: Tensor, *, width: float
    ) -> dict[str, Tensor]:
        """Compare answers X with targets X*.

        Args:
            answer: (B, L, K).
            target: (B, L, K).
            importance: (B,) from :meth:`Steps.importance`.
            to_clean: (B,) whether the step ends at the clean sample, so that the answer is a face.
            width: error beyond which the loss grows like a modulus, see :data:`WIDE`.

        Returns:
            "loss" and its parts "error", "gap", "lid", "velocity", "acceleration", "power", unweighted.
        """
        answer, target = answer[:, self.warm_up :], target[:, self.warm_up :]
        if self._keep is not None:
            answer, target = answer @ self._keep, target @ self._keep
        error = answer - target
        rows = importance[:, None]
        size = (error.square() * self.weight).mean(-1)
        # Divided by the width: near zero it is half the square whatever the width.
        parts = {"error": (rows * ((size + width**2).sqrt() - width) * (2.0 * width)).mean()}
        faces = to_clean.to(error.dtype)[:, None, None]
        parts["gap"] = _opening_loss(error, target, faces, *self._lips)
        parts["lid"] = _opening_loss(error, target, faces, *self._lids)
        speed = (error.diff(dim=1).square() * self.weight).mean(-1)
        parts["velocity"] = (rows * speed).mean()
        bent, bend = (self._norm(x.diff(n=2, dim=1)) for x in (answer, target))
        parts["acceleration"] = (rows * (bent - bend).abs() / (bend + _SOFT_ACCELERATION)).mean()
        parts["power"] = self._power(answer, target)
        loss = (
            parts["error"]
            + GAP_WEIGHT * parts["gap"]
            + LID_WEIGHT * parts["lid"]
            + VELOCITY_WEIGHT * parts["velocity"]
            + ACCELERATION_WEIGHT * parts["acceleration"]
            + POWER_WEIGHT * parts["power"]
        )
        return {"loss": loss, **parts}

    def _power(self, answer: Tensor, target: Tensor) -> Tensor:
        """How far each crop's motion, and its differences in time, are from being as strong as the target's.

        Where a student cannot follow the noise, squares teach it the mean, which moves less and more
        smoothly than any motion; how much moves is known even where it is not known when.
        """
        total = answer.new_zeros(())
        for order in range(_POWER_ORDERS):
            mine, theirs = (x.diff(n=order, dim=1) if order else x for x in (answer, target))
            strong, wanted = ((x.var(dim=1) + 1e-8).sqrt() for x in (mine, theirs))
            relative = (strong - wanted) / (wanted.mean(0, keepdim=True) + 1e-3)
            total = total + (relative.square() * self.weight).mean()
        return total / _POWER_ORDERS

    def _norm(self, x: Tensor) -> Tensor:
        # The root of 0 has no slope.
        return ((x.square() * self.weight).mean(-1) + 1e-8).sqrt()


def _opening_loss(error: Tensor, target: Tensor, faces: Tensor, matrix: Tensor, rest: Tensor) -> Tensor:
    if not matrix.shape[1]:
        return error.new_zeros(())
    opening = (target @ matrix + rest).clamp_min(0.0)
    relative = faces * (error @ matrix) / (opening + _SOFT_MM)
    return huber_loss(relative, torch.zeros_like(relative), delta=1.0)
