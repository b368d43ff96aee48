"""Samplers: a schedule, a step rule, a loop.

The step rules are pure functions with explicit noise, so that the same inputs give the same output
everywhere. All of them take the network's prediction of the clean sample, as the paper's denoiser gives it
("x0" or "sample" prediction), and agree step by step with the ``diffusers`` schedulers of the same name.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal, cast

import torch

from facetalk.diffusion.schedule import CLEAN, SPACINGS, NoiseSchedule, Spacing
from facetalk.errors import InputError

Kind = Literal["ddpm", "ddim", "dpm++"]
KINDS: tuple[Kind, ...] = ("ddpm", "ddim", "dpm++")

Predict = Callable[[int, int, torch.Tensor], torch.Tensor]
"""(index of the step, timestep, x_t) -> predicted x_0, of x_t's shape."""


def ddpm_step(
    schedule: NoiseSchedule,
    sample: torch.Tensor,
    clean: torch.Tensor,
    timestep: int,
    previous: int,
    noise: torch.Tensor,
) -> torch.Tensor:
    """Draw x_previous from the posterior q(x_previous | x_t, x_0).

    Ho et al., "Denoising Diffusion Probabilistic Models" (2020), eqs. 6 and 7, for a step that may skip
    timesteps; variance "fixed small". The paper's "noise θ_0 back to t − 1" is this step with ``previous =
    timestep - 1``.

    Args:
        schedule: the noise schedule.
        sample: x_t.
        clean: the predicted x_0.
        timestep: t.
        previous: the next cleaner timestep, or ``CLEAN``.
        noise: standard normal, of the sample's shape; not used when ``previous`` is ``CLEAN``.
    """
    power, power_prev = schedule.signal_power(timestep), schedule.signal_power(previous)
    # 1. Signal and noise of the (possibly long) step from `previous` to `timestep`.
    alpha = power / power_prev
    beta = 1.0 - alpha
    # 2. Posterior mean, eq. 7.
    mean = (math.sqrt(power_prev) * beta * clean + math.sqrt(alpha) * (1.0 - power_prev) * sample) / (
        1.0 - power
    )
    if previous == CLEAN:
        return mean
    # 3. Posterior variance, eq. 7.
    return mean + math.sqrt(beta * (1.0 - power_prev) / (1.0 - power)) * noise


def ddim_step(
    schedule: NoiseSchedule,
    sample: torch.Tensor,
    clean: torch.Tensor,
    timestep: int,
    previous: int,
    noise: torch.Tensor | None = None,
    eta: float = 0.0,
) -> torch.Tensor:
    """Move from x_t to x_previous along the deterministic path, or partly at random for ``eta`` > 0.

    Song et al., "Denoising Diffusion Implicit Models" (2021), eqs. 12 and 16. ``eta = 1`` is ``ddpm_step``.

    Args:
        schedule: the noise schedule.
        sample: x_t.
        clean: the predicted x_0.
        timestep: t.
        previous: the next cleaner timestep, or ``CLEAN``.
        noise: standard normal of the sample's shape; needed when ``eta`` > 0.
        eta: 0 (deterministic) to 1.
    """
    power, power_prev = schedule.signal_power(timestep), schedule.signal_power(previous)
    # 1. The noise that the prediction implies.
    implied = (sample - math.sqrt(power) * clean) / math.sqrt(1.0 - power)
    # 2. Standard deviation of fresh noise, eq. 16.
    sigma = eta * math.sqrt((1.0 - power_prev) / (1.0 - power) * (1.0 - power / power_prev))
    # 3. Eq. 12.
    moved = math.sqrt(power_prev) * clean + math.sqrt(max(0.0, 1.0 - power_prev - sigma**2)) * implied
    if sigma == 0.0:
        return moved
    if noise is None:
        raise ValueError("ddim_step needs noise when eta > 0")
    return moved + sigma * noise


def dpm_step(
    schedule: NoiseSchedule,
    sample: torch.Tensor,
    clean: torch.Tensor,
    timestep: int,
    previous: int,
    before: tuple[int, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Move from x_t to x_previous by DPM-Solver++ (2M), second order in the logarithm of signal over noise.

    Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models" (2022),
    algorithm 2. The first step, for want of a ``before``, and the last one, whose logarithm has no end, are
    of first order, which is DDIM.

    Args:
        schedule: the noise schedule.
        sample: x_t.
        clean: the predicted x_0.
        timestep: t.
        previous: the next cleaner timestep, or ``CLEAN``.
        before: the step before this one, its timestep and its predicted x_0.
    """
    if previous == CLEAN:
        return clean
    power, power_next = schedule.signal_power(timestep), schedule.signal_power(previous)
    half_log = _half_log_ratio(power)
    h = _half_log_ratio(power_next) - half_log
    direction = clean
    if before is not None:
        # The trend of x_0 since the step before, carried to the middle of this one.
        ratio = (half_log - _half_log_ratio(schedule.signal_power(before[0]))) / h
        direction = clean + (clean - before[1]) / (2.0 * ratio)
    keep = math.sqrt((1.0 - power_next) / (1.0 - power))
    return keep * sample - math.sqrt(power_next) * math.expm1(-h) * direction


def _half_log_ratio(power: float) -> float:
    """Half the logarithm of signal power over noise power, the papers' lambda."""
    return 0.5 * math.log(power / (1.0 - power))


def guide(
    conditional: torch.Tensor, unconditional: torch.Tensor, weight: float | torch.Tensor
) -> torch.Tensor:
    """Classifier-free guidance in x_0: weight · conditional + (1 − weight) · unconditional (FaceTalk).

    ``weight`` is one number or a tensor with one for each example. 1 is the conditional
    prediction alone, larger values follow the audio more strictly.
    """
    return weight * conditional + (1.0 - weight) * unconditional


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A step rule and how often to apply it.

    Attributes:
        kind: "ddpm", "ddim" or "dpm++" (DPM-Solver++ 2M: deterministic, DDIM's end in fewer steps).
        steps: 1 to the schedule's number of timesteps.
        eta: share of fresh noise in DDIM, 0 to 1; DDPM has its own noise.
        spacing: which timesteps are visited, see :meth:`NoiseSchedule.timesteps`.
        schedule: the noise schedule that the denoiser was trained with.

    Raises:
        InputError: a setting is out of range, or the kind is not available.
    """

    kind: Kind = "ddim"
    steps: int = 25
    eta: float = 0.0
    spacing: Spacing = "trailing"
    schedule: NoiseSchedule = dataclasses.field(default_factory=NoiseSchedule, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.kind not in KINDS:
            raise InputError(f"unknown sampler {self.kind!r}; use {', '.join(KINDS)}")
        if self.spacing not in SPACINGS:
            raise InputError(f"spacing must be one of {', '.join(SPACINGS)}, got {self.spacing!r}")
        if not 0.0 <= self.eta <= 1.0:
            raise InputError(f"eta must lie in 0..1, got {self.eta}")
        if self.eta > 0.0 and self.kind == "dpm++":
            raise InputError("the sampler 'dpm++' adds no fresh noise, so eta must be 0; use 'ddim' for that")
        self.schedule.timesteps(self.steps, self.spacing)

    @property
    def transitions(self) -> list[tuple[int, int]]:
        """The (timestep, next cleaner timestep) pairs of this sampler, noisiest first."""
        return self.schedule.transitions(self.steps, self.spacing)

    def needs_noise(self, previous: int) -> bool:
        """Whether the step to ``previous`` adds fresh noise."""
        return previous != CLEAN and (self.kind == "ddpm" or (self.kind == "ddim" and self.eta > 0.0))

    def step(
        self,
        sample: torch.Tensor,
        clean: torch.Tensor,
        timestep: int,
        previous: int,
        noise: torch.Tensor | None,
        before: tuple[int, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """One step of this sampler's rule from ``timestep`` to ``previous``; ``before`` as in `dpm_step`."""
        if self.kind == "dpm++":
            return dpm_step(self.schedule, sample, clean, timestep, previous, before)
        if self.kind == "ddpm":
            fresh = cast(torch.Tensor, noise) if self.needs_noise(previous) else torch.zeros_like(sample)
            return ddpm_step(self.schedule, sample, clean, timestep, previous, fresh)
        return ddim_step(self.schedule, sample, clean, timestep, previous, noise, self.eta)

    def run(
        self,
        predict: Predict,
        noise: Callable[[int], torch.Tensor],
        progress: Callable[[int, int], None] | None = None,
    ) -> torch.Tensor:
        """Sample from noise to x_0.

        Args:
            predict: the denoiser, called once per step.
            noise: standard normal noise by index: 0 is the start, ``k + 1`` goes into step ``k`` (asked for
                only when the rule needs it).
            progress: called with (steps done, steps in all) after each step.

        Returns:
            The sample, of the shape that ``noise`` gives.
        """
        sample = noise(0)
        pairs = self.transitions
        before: tuple[int, torch.Tensor] | None = None
        for index, (timestep, previous) in enumerate(pairs):
            clean = predict(index, timestep, sample)
            fresh = noise(index + 1) if self.needs_noise(previous) else None
            sample = self.step(sample, clean, timestep, previous, fresh, before)
            before = (timestep, clean)
            if progress is not None:
                progress(index + 1, len(pairs))
        return sample
