"""Where lids and lips are on a head, as linear functions of the weights: what distillation measures in mm."""

from __future__ import annotations

import dataclasses

import numpy as np

from facetalk.arrays import Float64
from facetalk.multi_pie import LOWER_LIDS, LOWER_LIP, MOUTH, UPPER_LIDS, UPPER_LIP
from facetalk.nphm.head.head import HeadModel
from facetalk.units import HEAD_UNIT_MM


@dataclasses.dataclass(frozen=True)
class Opening:
    """An opening of the face in mm as a linear function of the weights, not below 0.

    Attributes:
        rest_mm: of the face at zero weights.
        per_unit_mm: (E,) change at weight 1.
    """

    rest_mm: float
    per_unit_mm: Float64


@dataclasses.dataclass(frozen=True)
class Lips:
    """The mouth of a head, from its landmarks (Multi-PIE order).

    Attributes:
        points_mm: (E, 20, 3) how far weight 1 moves each landmark of the mouth, mm.
        lower_mm: (E, 3) the same of the middle of the inner lower lip.
        gap: between the inner lips, not cut off at 0.
    """

    points_mm: Float64
    lower_mm: Float64
    gap: Opening


def lid_openings(head: HeadModel) -> list[Opening]:
    """The apertures of both eyes of a head's default identity, from its landmarks (Multi-PIE order)."""
    neutral, moved = _landmarks(head)
    return [
        _opening(neutral, moved, upper[1:-1], lower[1:-1])
        for upper, lower in zip(UPPER_LIDS, LOWER_LIDS, strict=True)
    ]


def lips_of(head: HeadModel) -> Lips:
    """The mouth of a head's default identity."""
    neutral, moved = _landmarks(head)
    return Lips(
        moved[:, list(MOUTH)],
        moved[:, list(LOWER_LIP)].mean(1),
        _opening(neutral, moved, UPPER_LIP, LOWER_LIP),
    )


def _landmarks(head: HeadModel) -> tuple[Float64, Float64]:
    """(68, 3) at zero weights and (E, 68, 3) for each weight alone, mm."""
    person = head.bind()
    points = person.landmarks()
    basis = person.forward_basis(points, np.zeros(len(points), np.uint8))
    neutral = points - np.tensordot(head.rest_expression, basis, axes=1)
    return neutral.astype(np.float64) * HEAD_UNIT_MM, basis.astype(np.float64) * HEAD_UNIT_MM


def _opening(neutral: Float64, moved: Float64, upper: tuple[int, ...], lower: tuple[int, ...]) -> Opening:
    rest = float((neutral[list(upper), 1] - neutral[list(lower), 1]).mean())
    return Opening(rest, (moved[:, list(upper), 1] - moved[:, list(lower), 1]).mean(1))
