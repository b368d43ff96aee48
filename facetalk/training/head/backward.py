"""Training of the identity network and of the backward deformation, and what a stage may spend.

Every stage is one call of :class:`facetalk.training.loop.TrainingLoop` with its own output folder, so each
resumes on its own. All targets are exact (distances, correspondences), so plain L1 losses do, without
eikonal terms and second derivatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetalk.arrays import AnyFloat, Bool, Float32, UInt8
from facetalk.data.heads.ict import MorphableHead
from facetalk.data.heads.samples import DistancePool, SurfaceSampler, random_identities, speech_expressions
from facetalk.nphm.head.parts import Part
from facetalk.nphm.networks import DeformationNetwork, IdentityNetwork
from facetalk.training.head.identity_codes import HeadCodes
from facetalk.training.loop import LoopOptions, TrainingLoop
from facetalk.training.processes import step_generator
from facetalk.units import HEAD_UNIT_MM

__all__ = ["Budget", "initialise_backward", "train_backward", "train_identity"]

# Points within this distance (1 mm in head units) are what the figures called "near" are about.
NEAR = 1.0 / HEAD_UNIT_MM
_SQUARE_FROM = 2.0 / HEAD_UNIT_MM


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


def hidden_places(head: MorphableHead) -> Float32:
    """(V,) 1 inside the eye sockets, 0.5 inside the mouth, 0 on the outside."""
    place = np.zeros(len(head.neutral), np.float32)
    for name in ("eye_socket_left", "eye_socket_right"):
        place[head.part_vertices(name)] = 1.0
    for name in ("mouth_socket", "gums_and_tongue", "teeth"):
        place[head.part_vertices(name)] = 0.5
    return place


def visible_points(
    points: AnyFloat,
    part: UInt8,
    place: AnyFloat,
    close: AnyFloat,
    landmarks: AnyFloat,
) -> Bool:
    """Which posed points can be seen from the front between lids and lips; all of the outside can.

    Args:
        points: (N, 3) posed.
        part: (N,) moving part.
        place: (N,) ``hidden_places`` at the points.
        close: (N,) closeness to lips and lids; the lips' inner edge always counts.
        landmarks: (68, 3) posed.
    """

    def between(upper: list[int], lower: list[int], margin: float) -> Bool:
        bounds = []
        for ids in (upper, lower):
            line = landmarks[ids][np.argsort(landmarks[ids, 0])]
            bounds.append(np.interp(points[:, 0], line[:, 0], line[:, 1]))
        x = landmarks[[*upper, *lower], 0]
        across = (points[:, 0] > x.min()) & (points[:, 0] < x.max())
        opened = bounds[0] - bounds[1] > margin
        return across & opened & (points[:, 1] < bounds[0] + margin) & (points[:, 1] > bounds[1] - margin)

    seen = place < 0.25
    eyes = between([36, 37, 38, 39], [36, 41, 40, 39], 0.002)
    eyes |= between([42, 43, 44, 45], [42, 47, 46, 45], 0.002)
    seen[part == Part.EYEBALLS] = eyes[part == Part.EYEBALLS]
    mouth = (place >= 0.25) & (place < 0.75)
    inside = between([60, 61, 62, 63, 64], [60, 67, 66, 65, 64], 0.006)
    seen[mouth] = (inside | ((close > 0.8) & (part == Part.SKIN)))[mouth]
    return seen


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
    batch: tuple[int, int] = (10, 300),
) -> dict[str, Any]:
    """Fit offsets from posed to canonical space to exact correspondences.

    Both ends of a pair are moved off the surface by the same amount along their own normals. Half of the rows
    show the mean head. What lies behind closed lids or lips counts for nothing: there one place would have to
    go to two, an eyeball that stays and a lid that has come down on it.

    Args:
        network: backward deformation network.
        identity: for the anchors.
        head: the morphable head.
        sampler: of its surface.
        codes: the encoder.
        out: folder of the stage.
        budget: steps and minutes.
        rate: peak learning rate of Adam.
        batch: rows (a head with an expression) and points a row.
    """
    rows, count = batch
    optimizer = torch.optim.Adam(network.parameters(), lr=rate, betas=(0.9, 0.99))
    identities = np.ascontiguousarray(head.identity_basis.transpose(1, 0, 2))  # (V, I, 3)
    expressions = np.ascontiguousarray(head.expression_basis.transpose(1, 0, 2))  # (V, E, 3)
    shape = head.canonical()
    encoder = torch.from_numpy(codes.encoder)
    closeness = np.maximum(sampler.lips, sampler.lids)
    device = next(network.parameters()).device
    by_identity = head.identity_basis[:, head.landmark_ids]
    by_expression = head.expression_basis[:, head.landmark_ids]
    hidden = hidden_places(head)

    def pairs(
        coefficients: NDArray[Any], weights: NDArray[Any], rng: np.random.Generator
    ) -> tuple[NDArray[Any], ...]:
        points = sampler.draw(count, rng)
        corners = points.corners
        rest = shape[corners] + np.einsum("i,ncix->ncx", coefficients, identities[corners])
        posed = rest + np.einsum("e,ncex->ncx", weights - head.canonical_expression, expressions[corners])
        kind = rng.random(count)
        sigma = np.where(kind < 0.6, 0.004, np.where(kind < 0.85, 0.012, 0.08))
        off = sigma * rng.standard_normal(count)
        off = np.where(sigma > 0.05, np.abs(off), off)[:, None]
        ends = []
        for corner in (rest, posed):
            normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
            normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
            ends.append((np.einsum("nc,ncx->nx", points.weights, corner) + off * normal).astype(np.float32))
        close = points.of(closeness)
        motion = weights - head.canonical_expression
        landmarks = shape[head.landmark_ids] + np.tensordot(coefficients, by_identity, 1)
        landmarks = landmarks + np.tensordot(motion, by_expression, 1)
        seen = visible_points(ends[1], points.part, points.of(hidden), close, landmarks)
        return ends[0], ends[1], close, np.abs(off[:, 0]) < 0.004, seen

    def step(index: int) -> dict[str, Tensor]:
        rng = step_generator(budget.seed, index)
        drawn = random_identities(head, rows, int(rng.integers(2**31)))
        drawn[: rows // 2] = 0.0
        weights = speech_expressions(head, rows, rng)
        columns = zip(*(pairs(w, e, rng) for w, e in zip(drawn, weights, strict=True)), strict=True)
        rest, posed, close, surface, seen = (
            torch.from_numpy(np.stack(column)).to(device) for column in columns
        )
        surface = surface & seen
        code = (torch.from_numpy(drawn) @ encoder.T).to(device)
        with torch.no_grad():
            anchors = identity.anchors(code)
        offset = network(posed, code, torch.from_numpy(weights).to(device), anchors)
        error = torch.linalg.vector_norm(posed + offset - rest, dim=-1)
        near = surface & (close > 0.6)
        mm = error.detach() * HEAD_UNIT_MM
        return {
            # The square counts from 2 mm on: with a plain L1 loss the field rests at the median, which at the
            # lids is "no blink", its units die there, and the eyes never close.
            "loss": (error * (1.0 + error / _SQUARE_FROM) * (1.0 + 4.0 * close) * seen).mean() * 100.0,
            "surface_mm": (mm * surface).sum() / surface.sum().clamp_min(1),
            "lips_lids_mm": (mm * near).sum() / near.sum().clamp_min(1),
        }

    return TrainingLoop("backward", out, {"backward": network}, optimizer, budget.options()).run(step)
