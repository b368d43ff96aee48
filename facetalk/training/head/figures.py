"""Measured figures of a head model against the morphable head it was trained on.

    facetalk train nphm --data ict_facekit_light.npz --evaluate HEAD_FOLDER [--json figures.json]

All lengths are millimetres. "Held out" are identities from a seed that no training uses. The backward
deformation is measured on what lids and lips leave in sight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from facetalk.arrays import Float32
from facetalk.data.heads.ict import MorphableHead
from facetalk.data.heads.samples import SurfaceSampler, random_identities, speech_expressions
from facetalk.multi_pie import LOWER_LIDS, LOWER_LIP, UPPER_LIDS, UPPER_LIP
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.head.parts import PART_NAMES, Part
from facetalk.training.head.pairs import hidden_places, visible_points
from facetalk.units import HEAD_UNIT_MM

__all__ = ["EXPRESSIONS", "measure"]

HELD_OUT_SEED = 987_654
EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "jawOpen 0.1": {"jawOpen": 0.1},
    "jawOpen 0.2": {"jawOpen": 0.2},
    "jawOpen 0.3": {"jawOpen": 0.3},
    "closed (jaw 0.1)": {"jawOpen": 0.1, "mouthClose": 0.1},
    "closed (jaw 0.2)": {"jawOpen": 0.2, "mouthClose": 0.18},
    "press": {"mouthPress": 0.5},
    "pucker": {"mouthPucker": 0.9},
    "funnel": {"mouthFunnel": 0.7},
}
_LIPS = tuple(zip(UPPER_LIP, LOWER_LIP, strict=True))
_LIDS = tuple(
    pair
    for upper, lower in zip(UPPER_LIDS, LOWER_LIDS, strict=True)
    for pair in zip(upper[1:-1], lower[1:-1], strict=True)
)


def _gap(landmarks: Float32, pairs: tuple[tuple[int, int], ...]) -> float:
    """Mean signed vertical distance of landmark pairs, mm; negative where they overlap."""
    return float(np.mean([landmarks[a, 1] - landmarks[b, 1] for a, b in pairs]) * HEAD_UNIT_MM)


def measure(head: HeadModel, data: MorphableHead, *, held_out: int = 6, points: int = 4000) -> dict[str, Any]:
    """All figures as one dictionary."""
    sampler = SurfaceSampler(data)
    mean = np.zeros((1, data.identity_dim), np.float32)
    others = random_identities(data, held_out, HELD_OUT_SEED)
    return {
        "mean head": _figures(head, data, sampler, mean, points),
        "held-out heads": _figures(head, data, sampler, others, max(points // 4, 200)),
        "canonical mesh": _mesh_figures(head),
    }


def _figures(
    head: HeadModel, data: MorphableHead, sampler: SurfaceSampler, coefficients: Float32, points: int
) -> dict[str, Any]:
    errors: dict[str, list[Float32]] = {}
    gaps: dict[str, list[float]] = {name: [] for name in EXPRESSIONS}
    lids: list[float] = []
    true_gaps: dict[str, list[float]] = {name: [] for name in EXPRESSIONS}
    rng = np.random.default_rng(5)
    for row in coefficients:
        person = head.bind(head.encode_identity(row))
        shape = data.canonical(row)
        surface = sampler.draw(points, rng)
        x = surface.of(shape)
        outside = np.abs(data.signed_distance(x, shape, cut=False)) < 2e-4
        x, part = x[outside], surface.part[outside].astype(np.int64)
        lip_close, lid_close = surface.of(sampler.lips)[outside], surface.of(sampler.lids)[outside]
        lip, lid = lip_close > 0.6, lid_close > 0.6
        place, close = surface.of(hidden_places(data))[outside], np.maximum(lip_close, lid_close)
        region = {
            "": np.ones(len(x), bool),
            " lips": lip,
            " lids": lid,
            " teeth and gums": part >= Part.UPPER_TEETH,
        }

        def note(name: str, values: Float32, region: dict[str, Float32] = region) -> None:
            for suffix, chosen in region.items():
                errors.setdefault(name + suffix, []).append(values[chosen] * HEAD_UNIT_MM)

        note("distance", np.abs(person.distance(x)))
        basis = person.forward_basis(x, part)
        for weights in speech_expressions(data, 8, rng):
            move = weights - data.canonical_expression
            true = x + np.tensordot(
                move, np.stack([surface.of(b)[outside] for b in data.expression_basis]), 1
            )
            posed = x + np.tensordot(weights - head.rest_expression, basis, 1)
            still = part != Part.EYEBALLS  # the model's eyeballs turn with eyeLook*, the data's do not
            marks = data.vertices(row, weights)[data.landmark_ids]
            row_of = (torch.from_numpy(values)[None] for values in (true, part, place, close, marks))
            seen = still & visible_points(*row_of)[0].numpy()
            for name, chosen, end in (
                ("forward", still, posed - true),
                ("backward", seen, true + head.nphm.offsets(true, person.identity, weights) - x),
                ("cycle", seen, posed + head.nphm.offsets(posed, person.identity, weights) - x),
            ):
                note(name, np.linalg.norm(end, axis=1)[chosen], {k: v[chosen] for k, v in region.items()})
        landmarks = person.landmarks()
        rig = person.forward_basis(landmarks, np.zeros(68, np.uint8))
        for name, values in EXPRESSIONS.items():
            weights = data.weights(**values)
            posed = landmarks + np.tensordot(weights - head.rest_expression, rig, 1)
            true = data.vertices(row, weights)[data.landmark_ids]
            gaps[name].append(_gap(posed, _LIPS))
            true_gaps[name].append(_gap(true, _LIPS))
        blink = data.weights(eyeBlink=1.0)
        posed = landmarks + np.tensordot(blink - head.rest_expression, rig, 1)
        lids.append(_gap(posed, _LIDS) - _gap(data.vertices(row, blink)[data.landmark_ids], _LIDS))
    return {
        "heads": len(coefficients),
        "errors": {
            name: {
                "mean": _round(np.concatenate(values).mean()),
                "p95": _round(np.quantile(np.concatenate(values), 0.95)),
            }
            for name, values in sorted(errors.items())
        },
        "lip gap": {
            name: {
                "model": _round(np.mean(gaps[name])),
                "data": _round(np.mean(true_gaps[name])),
                "error": _round(np.abs(np.subtract(gaps[name], true_gaps[name])).mean()),
            }
            for name in EXPRESSIONS
        },
        "lid gap error at blink": _round(np.abs(lids).mean()),
    }


def _mesh_figures(head: HeadModel) -> dict[str, Any]:
    person = head.bind()
    mesh = person.canonical()
    surface = person.lenders() & (mesh.part != Part.EYEBALLS)
    residual = np.abs(person.distance(mesh.vertices[surface])) * HEAD_UNIT_MM
    return {
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "vertices of each part": {n: int((mesh.part == i).sum()) for i, n in enumerate(PART_NAMES)},
        "distance from the zero set (median)": _round(np.median(residual)),
    }


def _round(value: Any) -> float:
    return round(float(value), 3)
