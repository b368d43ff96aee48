"""Training of the identity network and of the backward deformation, and what a stage may spend.

Every stage is one call of :class:`facetalk.training.loop.TrainingLoop` with its own output folder, so each
resumes on its own. All targets are exact (distances, correspondences), so plain L1 losses do, without
eikonal terms and second derivatives.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetalk.data.heads.ict import MorphableHead
from facetalk.data.heads.samples import DistancePool, SurfaceSampler, random_identities
from facetalk.nphm.networks import DeformationNetwork, IdentityNetwork
from facetalk.training.head.identity_codes import HeadCodes
from facetalk.training.head.pairs import PairSource, closing_expressions
from facetalk.training.head.validation import BackwardValidation
from facetalk.training.loop import LoopOptions, TrainingLoop
from facetalk.training.processes import step_generator
from facetalk.training.soap import Soap
from facetalk.units import HEAD_UNIT_MM

__all__ = ["Budget", "initialise_backward", "train_backward", "train_identity"]

# Points within this distance (1 mm in head units) are what the figures called "near" are about.
NEAR = 1.0 / HEAD_UNIT_MM
_SQUARE_FROM = 4.0 / HEAD_UNIT_MM
_CLOSE, _INNER = 5.0, 5.0
"""How much more pairs count at the edges of lips and lids, and once more what is seen between lips, their
inner side and teeth: it is seldom in sight, so few pairs teach it, and it shows in every vowel."""
_NEARBY, _FAR = 2.5 / HEAD_UNIT_MM, 0.05
"""Pairs count half at this distance off the surface, and so much at any. Where lips or lids are nearly shut,
places some millimetres off them belong to both: most of a loss that counts them fully would be errors that no
field can avoid, and what shows would drown in them."""
_PEOPLE, _FACES, _PLACES = 1 << 15, 1 << 15, 1 << 19
"""Identities, expressions and surface points that are drawn once, to be combined anew in every step."""


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

    def options(self, clip_norm: float | None = 1.0) -> LoopOptions:
        """What the training loop is told."""
        return LoopOptions(
            steps=self.steps,
            max_minutes=self.minutes,
            warmup=100,
            clip_norm=clip_norm,
            save_every_s=self.save_every_s,
            seed=self.seed,
            resume=self.resume,
        )


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
        network: initialised by :func:`facetalk.training.head.identity_codes.initialise`.
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
        rng = step_generator(budget.seed, index)
        rows = np.concatenate([np.zeros(of_mean, int), rng.integers(1, max(len(table), 2), of_others)])
        rows = np.minimum(rows, len(table) - 1)
        picks = [rng.integers(0, len(pool.points[row]), count) for row in rows]
        device = members[0].device
        x = torch.from_numpy(np.stack([pool.points[r][i] for r, i in zip(rows, picks, strict=True)])).to(
            device
        )
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

    return TrainingLoop("identity", out, {"identity": network}, optimizer, budget.options()).run(step)


@torch.no_grad()
def initialise_backward(network: DeformationNetwork, *, coordinate_scale: float = 14.0) -> None:
    """He initialisation with coordinates scaled up; the last layer starts near zero offset."""
    config = network.config
    for i in range(config.layers + 1):
        linear = getattr(network.defDeepSDF, f"lin{i}")
        bound = (6.0 / linear.in_features) ** 0.5 * (0.05 if i == config.layers else 1.0)
        linear.weight.uniform_(-bound, bound)
        linear.bias.zero_()
        if i in (0, config.layers // 2):
            start = linear.in_features - config.input_dim
            linear.weight[:, start : start + 3] *= coordinate_scale
        if i == 0:
            linear.bias.uniform_(-0.5, 0.5)


def train_backward(
    network: DeformationNetwork,
    identity: IdentityNetwork,
    head: MorphableHead,
    sampler: SurfaceSampler,
    codes: HeadCodes,
    out: Path,
    budget: Budget,
    *,
    rate: float = 2e-3,
    batch: tuple[int, int] = (24, 128),
    turn_every: int = 10,
) -> dict[str, Any]:
    """Fit offsets from posed to canonical space to exact correspondences.

    A third of the rows shows the mean head. Which pairs are taught says :mod:`facetalk.training.head.pairs`.
    With every checkpoint a line of errors on other heads is added to ``out/validation.jsonl``.

    Args:
        network: backward deformation network.
        identity: for the anchors; moved to the network's device.
        head: the morphable head.
        sampler: of its surface, densest at the edges of lips and lids.
        codes: the encoder.
        out: folder of the stage.
        budget: steps and minutes.
        rate: peak learning rate.
        batch: rows (a head with an expression) and points a row.
        turn_every: steps between updates of the optimizer's eigenbases.
    """
    rows, count = batch
    optimizer = Soap(network.parameters(), lr=rate, every=turn_every)
    loop = TrainingLoop("backward", out, {"backward": network}, optimizer, budget.options())
    device = next(network.parameters()).device  # where the loop has put it
    identity.to(device)
    encoder = torch.from_numpy(codes.encoder).to(device)
    seen = min(rows * budget.steps, max(_PEOPLE, _FACES))  # no more is drawn than so many steps look at
    rng = step_generator(budget.seed, 0)
    people = torch.from_numpy(random_identities(head, min(seen, _PEOPLE), int(rng.integers(2**31)))).to(
        device
    )
    faces = torch.from_numpy(closing_expressions(head, min(seen, _FACES), rng)).to(device)
    places = min(_PLACES, rows * count * budget.steps)
    source = PairSource(head, sampler, device=device, pool=places, seed=budget.seed)
    validation = BackwardValidation(head, identity, encoder)
    generator = torch.Generator(device)

    def picked(pool: Tensor) -> Tensor:
        return pool[torch.randint(len(pool), (rows,), generator=generator, device=device)]

    def step(index: int) -> dict[str, Tensor]:
        generator.manual_seed(int(step_generator(budget.seed, index).integers(2**62)))
        drawn, weights = picked(people), picked(faces)
        drawn[::3] = 0.0
        pairs = source.draw(drawn, weights, count, generator)
        code = drawn @ encoder.T
        with torch.no_grad():
            anchors = identity.anchors(code)
        offset = network(pairs.posed, code, weights, anchors)
        error = torch.linalg.vector_norm(pairs.posed + offset - pairs.rest, dim=-1)
        nearby = _FAR + (1.0 - _FAR) / (1.0 + (pairs.off / _NEARBY).square())
        weight = (1.0 + _CLOSE * pairs.close + _INNER * pairs.inner) * nearby * pairs.counts
        mm = error.detach() * HEAD_UNIT_MM

        def mean(chosen: Tensor) -> Tensor:
            return (mm * chosen).sum() / chosen.sum().clamp_min(1)

        return {
            # The square counts from 4 mm on: with a plain L1 loss the field rests at the median, which at the
            # lids is "no blink", its units die there, and the eyes never close.
            "loss": (error * (1.0 + error / _SQUARE_FROM) * weight).mean() * 100.0,
            "surface_mm": mean(pairs.surface),
            "lips_mm": mean(pairs.surface & (pairs.lips > 0.6)),
            "lids_mm": mean(pairs.surface & (pairs.lids > 0.6)),
        }

    def validate(folder: Path) -> None:
        line = {"step": loop.index, **validation(network)}
        with (folder / "validation.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    return loop.run(step, validate)
