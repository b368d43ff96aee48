"""The 68 landmarks of a head while it is fitted: where a code puts them, and how they move with it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from facetalk.arrays import Float32
from facetalk.fitting.differentiable import DifferentiableField
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.plain_head import PlainHead

__all__ = ["USED", "FaceMarks", "across_rays", "marks_of"]

USED = slice(17, 68)
"""Without the jaw line, which is another line of the face from every camera."""


class FaceMarks(Protocol):
    """Landmarks of one person."""

    def carried(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Places (51, 3) in head space, of the used ones, and derivatives (51, 3, E) by a code (E,)."""


def across_rays(points: Tensor, eye: Tensor) -> Tensor:
    """(N, 3, 3) projections that take off what lies along the rays from an eye (3,) through points (N, 3)."""
    way = torch.nn.functional.normalize(points - eye, dim=1)
    return torch.eye(3, dtype=points.dtype) - way[:, :, None] * way[:, None]


def marks_of(head: HeadModel | PlainHead, identity: Float32, field: DifferentiableField) -> FaceMarks:
    """Landmarks of an identity, as :func:`facetalk.posing.landmarks` has them."""
    if isinstance(head, HeadModel):
        return _Rigged(head, identity)
    return _Tracked(field, torch.from_numpy(head.neutral_landmarks(head.field(identity))[USED].copy()))


class _Rigged:
    """Of the built-in head, by its linear rig."""

    def __init__(self, head: HeadModel, identity: Float32) -> None:
        person = head.bind(identity)
        points = person.landmarks()
        basis = person.forward_basis(points, np.zeros(len(points), np.uint8))
        still = points - np.tensordot(head.rest_expression, basis, 1)
        self._still = torch.from_numpy(still[USED].astype(np.float64))
        self._basis = torch.from_numpy(basis[:, USED].astype(np.float64)).permute(1, 2, 0).contiguous()

    def carried(self, code: Tensor) -> tuple[Tensor, Tensor]:
        return self._still + self._basis @ code.double(), self._basis


class _Tracked:
    """Of any NPHM, by its deformation."""

    def __init__(self, field: DifferentiableField, neutral: Tensor) -> None:
        self._field, self._neutral = field, neutral

    def carried(self, code: Tensor) -> tuple[Tensor, Tensor]:
        places, by_code = self._field.carried(self._neutral, code.float())
        return places.double(), by_code.double()
