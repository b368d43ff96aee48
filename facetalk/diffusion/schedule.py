"""The forward process of diffusion: how much noise a timestep holds, and which timesteps a sampler visits."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch

from facetalk.arrays import Float64
from facetalk.errors import InputError

Spacing = Literal["leading", "linspace", "trailing"]
SPACINGS: tuple[Spacing, ...] = ("leading", "linspace", "trailing")

CLEAN = -1
"""The timestep that stands for "no noise at all", where every sampler ends."""


class NoiseSchedule:
    """Cosine noise schedule over ``train_steps`` discrete timesteps, 0 (almost clean) to ``train_steps - 1``.

    The cumulative signal power is cos²((t/T + s)/(1 + s) · π/2) with s = 0.008 and each beta capped at 0.999
    (Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models", 2021, eq. 17), the same numbers
    as ``diffusers``' ``squaredcos_cap_v2``. They are computed and kept in double precision: near t = T the
    signal power is 1e-9 and a sampler divides by its square root.

    Attributes:
        train_steps: number of timesteps T.
        betas: (T,) noise variance added by each timestep.
        alphas_cumprod: (T,) signal power left at each timestep.
    """

    def __init__(self, train_steps: int = 1000) -> None:
        if not 1 <= train_steps <= 100_000:
            raise InputError(f"train_steps must lie in 1..100000, got {train_steps}")
        self.train_steps = int(train_steps)
        betas = np.array(
            [1.0 - _signal((i + 1) / train_steps) / _signal(i / train_steps) for i in range(train_steps)]
        )
        self.betas: Float64 = np.minimum(betas, 0.999)
        self.alphas_cumprod: Float64 = np.cumprod(1.0 - self.betas)

    def signal_power(self, timestep: int) -> float:
        """Signal power at a timestep; 1 at ``CLEAN``."""
        if timestep == CLEAN:
            return 1.0
        if not 0 <= timestep < self.train_steps:
            raise ValueError(f"timestep must lie in -1..{self.train_steps - 1}, got {timestep}")
        return float(self.alphas_cumprod[timestep])

    def timesteps(self, steps: int, spacing: Spacing = "trailing") -> list[int]:
        """The timesteps that a sampler with ``steps`` steps visits, noisiest first.

        The spacings are those of Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed"
        (2023), table 2. Only ``trailing`` starts at pure noise for any number of steps, so it is the default.

        Raises:
            InputError: ``steps`` is not in 1..T, or ``spacing`` is unknown.
        """
        if isinstance(steps, bool) or int(steps) != steps or not 1 <= steps <= self.train_steps:
            raise InputError(f"steps must be a whole number in 1..{self.train_steps}, got {steps}")
        total, count = self.train_steps, int(steps)
        if spacing == "trailing":
            visited = np.round(np.arange(total, 0, -total / count)[:count]) - 1
        elif spacing == "leading":
            visited = np.arange(count)[::-1] * (total // count)
        elif spacing == "linspace":
            visited = np.linspace(0, total - 1, count).round()[::-1]
        else:
            raise InputError(f"spacing must be one of {', '.join(SPACINGS)}, got {spacing!r}")
        return [int(t) for t in visited]

    def transitions(self, steps: int, spacing: Spacing = "trailing") -> list[tuple[int, int]]:
        """Pairs (timestep, next cleaner timestep), ending at ``CLEAN``.

        The second of each pair is looked up in the visited list, never computed as ``t - T // steps``: that
        formula misses the end of the schedule whenever ``steps`` does not divide T.
        """
        visited = self.timesteps(steps, spacing)
        return list(zip(visited, [*visited[1:], CLEAN], strict=True))

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Sample q(x_t | x_0): √ᾱ_t · x_0 + √(1 − ᾱ_t) · noise.

        Args:
            clean: (B, ...) x_0.
            noise: (B, ...) standard normal.
            timesteps: (B,) integers in 0..T-1.
        """
        power = torch.as_tensor(self.alphas_cumprod, device=clean.device)[timesteps]
        power = power.reshape(-1, *[1] * (clean.ndim - 1))
        return power.sqrt().to(clean.dtype) * clean + (1.0 - power).sqrt().to(clean.dtype) * noise


def _signal(fraction: float) -> float:
    return math.cos((fraction + 0.008) / 1.008 * math.pi / 2.0) ** 2
