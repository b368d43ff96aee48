"""Training of the identity network on tens of thousands of heads: every row of every step picks one anew.

The members learn signed distances that are measured on the device (:mod:`facetalk.training.head.distances`),
their slopes, and with them the codes: which ten or so directions of the identity a member should be told is
better found by what it makes of them than in closed form. What else takes the codes goes on as it was, since
it takes them by a linear layer (:func:`recode`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facetalk.arrays import Float32
from facetalk.data.heads.ict import MorphableHead
from facetalk.data.heads.samples import DistancePool, SurfaceSampler, random_identities
from facetalk.nphm.head.parts import Part
from facetalk.nphm.head.rig import TemplateMap
from facetalk.nphm.networks import SOFTPLUS_BETA, DeformationNetwork, IdentityNetwork
from facetalk.training.head.backward import NEAR, Budget
from facetalk.training.head.distances import STEP, DistanceSource
from facetalk.training.loop import TrainingLoop
from facetalk.training.processes import step_generator
from facetalk.training.soap import Soap
from facetalk.units import HEAD_UNIT_MM

__all__ = ["LEAST_POINTS", "Encoder", "IdentityValidation", "recode", "train_identity_anew"]

_SLOPES = 0.5
"""Weight of errors of the slope beside errors of the distance."""
_PEOPLE, _PLACES = 1 << 16, 1 << 20
"""Identities and surface points that are drawn once; every step picks from them."""
_POOLED = 8
"""One row in so many is of the pool, whose distances are exact in the depth of the mouth as well."""
_MEAN = 4
"""One row in so many is the mean head."""
LEAST_POINTS = 40
"""Points a head; of fewer, none would lie on the neck's cut."""
_SEED, HEADS, POINTS = 987_656, 24, 4000
"""Of the validation: heads that no training and no figure uses, and points on each."""


class Encoder(nn.Module):
    """Identity codes (B, L) of coefficients (B, I); the global part stays as it is.

    Args:
        encoder: (L, I) to begin with.
        fixed: size of the global code.
    """

    globally: Tensor

    def __init__(self, encoder: Float32, fixed: int) -> None:
        super().__init__()
        self.register_buffer("globally", torch.from_numpy(encoder[:fixed].copy()))
        self.local = nn.Parameter(torch.from_numpy(encoder[fixed:].copy()))

    def matrix(self) -> Tensor:
        """(L, I)."""
        return torch.cat([self.globally, self.local])

    def forward(self, coefficients: Tensor) -> Tensor:
        """Codes (B, L)."""
        return coefficients @ self.matrix().T


def dense(network: IdentityNetwork, points: Tensor, code: Tensor) -> Tensor:
    """What ``network(points, code)`` gives, by few and large products, as a GPU likes them."""
    anchors, folded = network.anchors(code), network.fold(code)
    members, rows, count = len(network.member_set), *points.shape[:2]
    local = network._local(points, anchors).flatten(1, 2)  # (A, B * N, 3)
    h = torch.zeros(0)
    for i, layer in enumerate(folded.layers):
        if layer.coords is not None:
            value = local @ layer.coords[network.member_set].mT
            if layer.hidden is not None:
                value = torch.baddbmm(value, h, layer.hidden[network.member_set].mT)
        else:
            assert layer.hidden is not None
            value = h @ layer.hidden[network.member_set].mT
        value = value.unflatten(1, (rows, count)) + layer.bias.transpose(0, 1)[:, :, None]
        value = value.flatten(1, 2)
        h = value if i == len(folded.layers) - 1 else F.softplus(value, beta=SOFTPLUS_BETA)
    weight = network.blend(points, anchors)
    return (weight * h.reshape(members, rows, count).permute(1, 2, 0)).sum(-1)


def train_identity_anew(
    network: IdentityNetwork,
    encoder: Encoder,
    pool: DistancePool | None,
    head: MorphableHead,
    sampler: SurfaceSampler,
    out: Path,
    budget: Budget,
    *,
    rate: float = 2e-3,
    batch: tuple[int, int] = (32, 1024),
    turn_every: int = 20,
) -> dict[str, Any]:
    """Fit members and local codes; anchors and global codes stay as they are.

    Args:
        network: the identity network.
        encoder: of its codes.
        pool: exact distances of some heads, row 0 the mean one; None for none.
        head: the morphable head.
        sampler: of its surface.
        out: folder of the stage.
        budget: steps and minutes.
        rate: peak learning rate.
        batch: heads, and points on each.
        turn_every: steps between updates of the optimizer's eigenbases.
    """
    rows, count = batch
    count += count % 2
    stacked = network.stacked()
    members = [weight for weight, _ in stacked] + [bias for _, bias in stacked]
    for parameter in network.mlp_pos.parameters():
        parameter.requires_grad_(False)
    groups = [{"params": members, "lr": rate}, {"params": [encoder.local], "lr": 0.1 * rate}]
    optimizer = Soap(groups, lr=rate, every=turn_every)
    loop = TrainingLoop(
        "identity", out, {"identity": network, "encoder": encoder}, optimizer, budget.options()
    )
    device = members[0].device
    seen = min(rows * budget.steps, _PEOPLE)
    seed = int(step_generator(budget.seed, 0).integers(2**31))
    people = torch.from_numpy(random_identities(head, seen, seed)).to(device)
    places = min(_PLACES, rows * count * budget.steps)
    source = DistanceSource(head, sampler, device=device, pool=places, seed=budget.seed)
    validation = IdentityValidation(head, device)
    pooled = -(-rows // _POOLED) if pool is not None else 0
    known_heads = known_points = known_distances = torch.zeros(0)
    if pool is not None:
        least = min(len(x) for x in pool.points)
        known_heads = torch.from_numpy(pool.coefficients).to(device)
        known_points = torch.from_numpy(np.stack([x[:least] for x in pool.points])).to(device)
        known_distances = torch.from_numpy(np.stack([x[:least] for x in pool.distances])).to(device)
    generator = torch.Generator(device)

    def draw(size: tuple[int, ...], below: int) -> Tensor:
        return torch.randint(below, size, generator=generator, device=device)

    def step(index: int) -> dict[str, Tensor]:
        generator.manual_seed(int(step_generator(budget.seed, index).integers(2**62)))
        drawn = people[draw((rows,), len(people))]
        drawn[::_MEAN] = 0.0
        with torch.no_grad():
            found = source.draw(drawn, count, generator)
        points, target, known = found.points, found.distances, found.known
        if pooled:
            row = draw((pooled,), len(known_heads))
            pick = draw((pooled, count), known_points.shape[1])
            drawn = torch.cat([drawn, known_heads[row]])
            points = torch.cat([points, known_points[row[:, None], pick]])
            target = torch.cat([target, known_distances[row[:, None], pick]])
            known = torch.cat([known, torch.ones_like(pick, dtype=known.dtype)])
        value = dense(network, points, encoder(drawn))
        wrong = value - target
        error = wrong.abs() * known
        # What lies within millimetres counts fully; far away a rough distance is enough to skip empty space.
        far = 1.0 + target.abs() / (2.5 * NEAR)
        loss = (error / far).mean()
        half = count // 2
        both = known[:rows, :half] * known[:rows, half:] / far[:rows, :half].square()
        slope = ((wrong[:rows, half:] - wrong[:rows, :half]).abs() * both).mean() / STEP
        near = (target.abs() < NEAR) * known
        mm = (error.detach() * near).sum(1) / near.sum(1).clamp_min(1.0) * HEAD_UNIT_MM
        return {
            "loss": (loss + _SLOPES * STEP * slope) * 100.0,
            "near_mean_mm": mm[:rows:_MEAN].mean(),
            "near_others_mm": mm[1:rows:_MEAN].mean(),
            "near_pool_mm": mm[rows:].mean() if pooled else mm.mean(),
            "slope": slope.detach(),
        }

    def validate(folder: Path) -> None:
        line = {"step": loop.index, **validation(network, encoder)}
        with (folder / "validation.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    validate(out)
    return loop.run(step, validate)


class IdentityValidation:
    """Errors of the distance on the surface of the mean head and of heads that no training sees.

    Args:
        head: the morphable head.
        device: of the networks.
    """

    def __init__(self, head: MorphableHead, device: torch.device) -> None:
        self._drawn = torch.from_numpy(random_identities(head, HEADS, _SEED)).to(device)
        self._drawn[0] = 0.0
        source = DistanceSource(head, SurfaceSampler(head), device=device, pool=POINTS, seed=_SEED)
        vertices = source.vertices(self._drawn)
        every = torch.arange(len(source.part), device=device)
        chosen = every.expand(HEADS, -1)
        self._points = source.surface(chosen, vertices)
        blocks = [source.measure(x, self._drawn, vertices) for x in self._points.split(1000, dim=1)]
        distance, known = (torch.cat(values, dim=1) for values in zip(*blocks, strict=True))
        outside = (distance.abs() < 2e-4) & (known > 0)
        self._regions = {
            "surface": outside, "lips": outside & (source.lips > 0.6), "lids": outside & (source.lids > 0.6),
            "teeth": outside & (source.part >= Part.UPPER_TEETH),
        }  # fmt: skip

    @torch.no_grad()
    def __call__(self, network: IdentityNetwork, encoder: Encoder) -> dict[str, float]:
        """Mean errors, mm."""
        code = encoder(self._drawn)
        value = torch.cat([dense(network, x, code) for x in self._points.split(1000, dim=1)], dim=1)
        found = {}
        for group, rows in (("mean", slice(0, 1)), ("others", slice(1, None))):
            for name, chosen in self._regions.items():
                chosen = chosen[rows]
                total = (value[rows].abs() * chosen).sum() / chosen.sum().clamp_min(1) * HEAD_UNIT_MM
                found[f"{group}, {name}"] = round(float(total), 4)
        return found


@torch.no_grad()
def recode(encoder: Float32, old: Float32, backward: DeformationNetwork, template: TemplateMap) -> None:
    """Let networks that took codes ``old @ coefficients`` give the same for ``encoder @ coefficients``.

    Both encoders are (L, I) of full rank, so what a network made of one code it can make of the other.
    """
    turn = old.astype(np.float64) @ np.linalg.pinv(encoder.astype(np.float64))
    for layer in (backward.compressor[0], template.compressor):
        assert isinstance(layer, nn.Linear)
        weight = layer.weight[:, : len(old)].double()
        layer.weight[:, : len(old)] = (weight @ torch.from_numpy(turn).to(weight)).to(layer.weight)
