"""Training of the forward deformation: template map, blendshape field and part field.

A linear morphable head gives every expression's displacement at every point, so each sample supervises all
expressions at once, and minutes are enough. Errors count most at lips and lid margins: there a tenth of a
millimetre decides whether a mouth closes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetalk.arrays import Int64
from facetalk.data.heads.ict import MorphableHead
from facetalk.data.heads.samples import SurfacePoints, SurfaceSampler, random_identities, speech_expressions
from facetalk.nphm.head.parts import Part, SurfaceClass
from facetalk.nphm.head.rig import BlendshapeField, PartField, TemplateMap
from facetalk.nphm.networks import IdentityNetwork
from facetalk.training.head.backward import Budget
from facetalk.training.head.identity_codes import HeadCodes
from facetalk.training.loop import TrainingLoop
from facetalk.training.processes import step_generator
from facetalk.units import HEAD_UNIT_MM

__all__ = ["surface_pool", "train_blendshapes", "train_parts", "train_template"]

# Network vertices lie a fraction of a millimetre off the true surface; training points do the same.
_JITTER = 0.3 / HEAD_UNIT_MM
# A weight's error counts by how large and how visible its motion in speech is.
_EMPHASIS = {
    "jawOpen": 5.0, "mouthClose": 5.0, "eyeBlink_L": 3.0, "eyeBlink_R": 3.0, "mouthFunnel": 2.0,
    "mouthPucker": 2.0, "mouthPress_L": 2.0, "mouthPress_R": 2.0, "mouthRollLower": 2.0,
    "mouthUpperUp_L": 2.0, "mouthUpperUp_R": 2.0, "mouthLowerDown_L": 2.0, "mouthLowerDown_R": 2.0,
}  # fmt: skip


def surface_pool(
    head: MorphableHead, sampler: SurfaceSampler, count: int, rng: np.random.Generator
) -> tuple[SurfacePoints, Int64]:
    """About ``count`` points on the outside of the mean canonical head, and their surface classes."""
    points = sampler.draw(int(count * 1.5), rng)
    shape = head.canonical()
    keep = np.flatnonzero(np.abs(head.signed_distance(points.of(shape), shape, cut=False)) < 4e-4)[:count]
    points = SurfacePoints(points.corners[keep], points.weights[keep], points.part[keep])
    vertex_class = np.zeros(len(shape), np.int64)
    vertex_class[head.part_vertices("mouth_socket")] = SurfaceClass.MOUTH_CAVITY
    vertex_class[head.vertex_part == Part.EYEBALLS] = SurfaceClass.EYEBALL
    vertex_class[head.vertex_part == Part.UPPER_TEETH] = SurfaceClass.UPPER_GUM
    vertex_class[head.vertex_part == Part.LOWER_TEETH] = SurfaceClass.LOWER_GUM_TONGUE
    teeth = head.part_vertices("teeth")
    upper = head.vertex_part[teeth] == Part.UPPER_TEETH
    vertex_class[teeth] = np.where(upper, SurfaceClass.UPPER_TEETH, SurfaceClass.LOWER_TEETH)
    # Vertices on the lips' seam are numbered as face; a triangle with any socket vertex is socket.
    corner_class = vertex_class[points.corners]
    return points, np.where(points.part == Part.SKIN, corner_class.max(1), corner_class[:, 0])


def _subset(pool: SurfacePoints, chosen: Int64) -> SurfacePoints:
    return SurfacePoints(pool.corners[chosen], pool.weights[chosen], pool.part[chosen])


def train_blendshapes(
    field: BlendshapeField, head: MorphableHead, sampler: SurfaceSampler, pool: SurfacePoints, out: Path,
    budget: Budget, *, rate: float = 2e-3, batch: int = 2048,
) -> dict[str, Any]:  # fmt: skip
    """Fit all expression displacements on the mean head, separately and in sums as speech has them."""
    optimizer = torch.optim.Adam(field.parameters(), lr=rate)
    loop = TrainingLoop("blendshapes", out, {"blendshapes": field}, optimizer, budget.options())
    device = next(field.parameters()).device  # where the loop has put it
    basis = np.ascontiguousarray(head.expression_basis.transpose(1, 0, 2))  # (V, E, 3)
    shape = head.canonical()
    emphasis = torch.tensor([_EMPHASIS.get(name, 1.0) for name in head.expression_names])[:, None]
    closeness = np.maximum(sampler.lips, sampler.lids)
    chosen_parts = np.flatnonzero(pool.part != Part.EYEBALLS)  # eyeballs turn by a formula

    def step(index: int) -> dict[str, Tensor]:
        rng = step_generator(budget.seed, index)
        points = _subset(pool, chosen_parts[rng.integers(0, len(chosen_parts), batch)])
        x = points.of(shape) + _JITTER * rng.standard_normal((batch, 3)).astype(np.float32)
        target = torch.from_numpy(points.of(basis)).to(device)
        close = torch.from_numpy(points.of(closeness)).to(device)
        weight = 1.0 + 5.0 * close.square()
        part = torch.from_numpy(points.part.astype(np.int64)).to(device)
        error = field(torch.from_numpy(x).to(device), part) - target
        single = (error.abs() * emphasis.to(device)).mean(dim=(1, 2))
        codes = torch.from_numpy(speech_expressions(head, 24, rng) - head.canonical_expression).to(device)
        posed = torch.einsum("ke,nec->nkc", codes, error)
        loss = ((single + posed.abs().mean(dim=(1, 2)) * 2.0) * weight).mean()
        length = torch.linalg.vector_norm(posed.detach(), dim=-1).mean(1) * HEAD_UNIT_MM
        near = (close > 0.6).float()
        return {
            "loss": loss * 100.0, "posed_mm": length.mean(),
            "posed_lips_lids_mm": (length * near).sum() / near.sum().clamp_min(1.0),
        }  # fmt: skip

    return loop.run(step)


def train_template(
    template: TemplateMap, identity: IdentityNetwork, head: MorphableHead, sampler: SurfaceSampler,
    pool: SurfacePoints, codes: HeadCodes, out: Path, budget: Budget, *,
    rate: float = 2e-3, batch: tuple[int, int] = (8, 320),
) -> dict[str, Any]:  # fmt: skip
    """Fit the map from canonical points of random identities to the mean head."""
    optimizer = torch.optim.Adam(template.parameters(), lr=rate)
    loop = TrainingLoop("template", out, {"template": template}, optimizer, budget.options())
    device = next(template.parameters()).device  # where the loop has put it
    heads, count = batch
    basis = np.ascontiguousarray(head.identity_basis.transpose(1, 0, 2))  # (V, I, 3)
    shape = head.canonical()
    identity.to(device)
    encoder = torch.from_numpy(codes.encoder)
    closeness = np.maximum(sampler.lips, sampler.lids)

    def step(index: int) -> dict[str, Tensor]:
        rng = step_generator(budget.seed, index)
        drawn = random_identities(head, heads, int(rng.integers(2**31)))
        picks = [_subset(pool, rng.integers(0, len(pool.corners), count)) for _ in range(heads)]
        jitter = _JITTER * rng.standard_normal((heads, count, 3)).astype(np.float32)
        goal = np.stack([p.of(shape) for p in picks])
        moved = np.stack([np.einsum("i,nic->nc", w, p.of(basis)) for w, p in zip(drawn, picks, strict=True)])
        close = torch.from_numpy(np.stack([p.of(closeness) for p in picks])).to(device)
        part = torch.from_numpy(np.stack([p.part for p in picks]).astype(np.int64)).to(device)
        code = (torch.from_numpy(drawn) @ encoder.T).to(device)
        with torch.no_grad():
            anchors = identity.anchors(code)
        x = torch.from_numpy(goal + moved + jitter).to(device)
        got = template(x, part, code, anchors, identity.anchors_mean)
        error = torch.linalg.vector_norm(got - torch.from_numpy(goal + jitter).to(device), dim=-1)
        near = (close > 0.6).float()
        return {
            "loss": (error * (1.0 + 3.0 * close)).mean() * 100.0,
            "template_mm": error.detach().mean() * HEAD_UNIT_MM,
            "lips_lids_mm": (error.detach() * near).sum() / near.sum().clamp_min(1.0) * HEAD_UNIT_MM,
        }  # fmt: skip

    return loop.run(step)


def train_parts(
    parts: PartField, head: MorphableHead, pool: SurfacePoints, classes: Int64, out: Path,
    budget: Budget, *, rate: float = 2e-3, batch: int = 4096,
) -> dict[str, Any]:  # fmt: skip
    """Fit the surface class of template points."""
    optimizer = torch.optim.Adam(parts.parameters(), lr=rate)
    loop = TrainingLoop("parts", out, {"parts": parts}, optimizer, budget.options(clip_norm=None))
    device = next(parts.parameters()).device  # where the loop has put it
    shape = head.canonical()

    def step(index: int) -> dict[str, Tensor]:
        rng = step_generator(budget.seed, index)
        chosen = rng.integers(0, len(classes), batch)
        x = _subset(pool, chosen).of(shape) + _JITTER * rng.standard_normal((batch, 3)).astype(np.float32)
        target = torch.from_numpy(classes[chosen]).to(device)
        logits = parts(torch.from_numpy(x).to(device))
        loss = torch.nn.functional.cross_entropy(logits, target)
        return {"loss": loss, "wrong": (logits.detach().argmax(-1) != target).float().mean()}

    return loop.run(step)
