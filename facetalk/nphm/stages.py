"""The stages of training a head: identity, backward deformation, forward deformation, parts.

Every stage is one call of :func:`facetalk.training.train_loop` with its own output folder, so each resumes on
its own. All targets are exact (distances, correspondences), so plain L1 losses do, without eikonal terms and
second derivatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetalk.data.head_samples import DistancePool
from facetalk.nphm.codes import HeadCodes
from facetalk.nphm.networks import IdentityNetwork
from facetalk.training import train_loop
from facetalk.units import HEAD_UNIT_MM

__all__ = ["Budget", "train_identity"]

# Points within this distance (1 mm in head units) are what the figures called "near" are about.
NEAR = 1.0 / HEAD_UNIT_MM


@dataclass(frozen=True)
class Budget:
    """What a stage may spend.

    Attributes:
        steps: optimizer steps.
        minutes: limit on time, None for none.
        seed: of sampling.
        resume: continue a broken run.
        save_every_s: seconds between checkpoints.
    """

    steps: int
    minutes: float | None = None
    seed: int = 0
    resume: bool = True
    save_every_s: float = 120.0

    def options(self) -> dict[str, Any]:
        """Keyword arguments of ``train_loop``."""
        return {
            "steps": self.steps, "max_minutes": self.minutes, "seed": self.seed, "resume": self.resume,
            "save_every_s": self.save_every_s,
        }  # fmt: skip


def train_identity(
    network: IdentityNetwork,
    pool: DistancePool,
    codes: HeadCodes,
    out: Path,
    budget: Budget,
    *,
    rate: float = 2e-3,
    batch: tuple[int, int, int] = (2, 4, 600),
    cull: float = 1e-3,
) -> dict[str, Any]:
    """Fit the members of the identity network to signed distances; anchors and codes stay as they are.

    Args:
        network: initialised by :func:`facetalk.nphm.codes.initialise`.
        pool: distances; row 0 is the mean head.
        codes: the encoder that made the codes.
        out: folder of the stage.
        budget: steps and minutes.
        rate: peak learning rate of Adam.
        batch: rows of the mean head, rows of other heads, points a row.
        cull: members with less blending weight are neither evaluated nor trained at a point.
    """
    of_mean, of_others, count = batch
    table = torch.from_numpy(pool.coefficients @ codes.encoder.T)
    stacked = network.stacked()
    members = [weight for weight, _ in stacked] + [bias for _, bias in stacked]
    optimizer = torch.optim.Adam(members, lr=rate, betas=(0.9, 0.99))
    for parameter in network.mlp_pos.parameters():
        parameter.requires_grad_(False)

    def step(index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((budget.seed, index))
        rows = np.concatenate([np.zeros(of_mean, int), rng.integers(1, max(len(table), 2), of_others)])
        rows = np.minimum(rows, len(table) - 1)
        picks = [rng.integers(0, len(pool.points[row]), count) for row in rows]
        device = members[0].device
        x = torch.from_numpy(np.stack([pool.points[r][i] for r, i in zip(rows, picks, strict=True)])).to(device)
        target = torch.from_numpy(np.stack([pool.distances[r][i] for r, i in zip(rows, picks, strict=True)]))
        target = target.to(device)
        value = network(x, table[rows].to(device), cull=cull)
        error = (value - target).abs()
        # What lies within millimetres counts fully; far away a rough distance is enough to skip empty space.
        loss = (error / (1.0 + target.abs() / (2.5 * NEAR))).mean()
        near = (target.abs() < NEAR).float()
        mm = (error.detach() * near).sum(1) / near.sum(1).clamp_min(1.0) * HEAD_UNIT_MM
        return {
            "loss": loss * 100.0,
            "near_mean_mm": mm[:of_mean].mean(),
            "near_others_mm": mm[of_mean:].mean(),
            "wrong_sign": ((value.detach() * target < 0).float() * near).sum() / near.sum().clamp_min(1.0),
        }

    return train_loop(
        name="identity", out=out, modules={"identity": network}, optimizer=optimizer, step=step, warmup=100,
        clip_norm=1.0, **budget.options(),
    )  # fmt: skip
