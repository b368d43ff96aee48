"""What the numbers of a code do to a face: the metric and the lips that a motion model is trained with.

Of a head whose numbers are shapes with names this is known. Of a learned space it is found here: skin and
landmarks of the neutral surface, and how each of them moves with every number, about the mean of a corpus.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from facetalk.ambient import plainly
from facetalk.arrays import Float32, Float64
from facetalk.data.captured import CodeSpace
from facetalk.diffusion.representation import face_metric, lip_gap_matrix
from facetalk.errors import InputError
from facetalk.fitting.differentiable import DifferentiableField
from facetalk.multi_pie import LOWER_LIP, UPPER_LIP
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.lattice import DEFAULT_BOUNDS
from facetalk.nphm.plain_head import PlainHead, fingerprint
from facetalk.units import HEAD_UNIT_MM

__all__ = ["code_space"]

_SKIN = 1500  # points of the front of the face
_FRONT = 0.4  # head units around the middle of the landmarks, 10 cm
_COARSE = 2  # level of detail that they are taken from


@plainly
def code_space(head: HeadModel | PlainHead, identities: Sequence[Float32], mean: Float32) -> CodeSpace:
    """The space of a head's codes.

    Args:
        head: the head.
        identities: (L,) codes of people that its metric is the mean over.
        mean: (E,) the code that it is linearised about.

    Raises:
        InputError: a code of a person gives no face.
    """
    if isinstance(head, HeadModel):
        size = head.expression_dim
        # The trainings know what shapes with names do from the head that the names are of.
        nothing = np.zeros((size, size)), 0.0, np.zeros(size)
        return CodeSpace(fingerprint(head.nphm), head.expression_names, *nothing)
    found = [_of(head, identity, mean) for identity in identities]
    metric = np.mean([row[0] for row in found], axis=0)
    gap = float(np.mean([row[1] for row in found]))
    return CodeSpace(head.fingerprint, None, metric, gap, np.mean([row[2] for row in found], axis=0))


def _of(head: PlainHead, identity: Float32, mean: Float32) -> tuple[Float64, float, Float64]:
    """Metric, gap of a code of zeros in mm, and its change with every number."""
    field = head.field(identity)
    marks = head.neutral_landmarks(field)
    vertices, _ = head.surface(field, _COARSE, DEFAULT_BOUNDS)
    front = vertices[np.linalg.norm(vertices - marks[17:].mean(0), axis=1) < _FRONT]
    if len(front) < 10:
        raise InputError(
            "the head's neutral surface is nowhere near the landmarks of a face; put landmarks.npy (68, 3), "
            "head space, into its folder"
        )
    skin = front[np.random.default_rng(0).permutation(len(front))[:_SKIN]]
    points = torch.from_numpy(np.concatenate([skin, marks]).astype(np.float32))
    posed, by_code = DifferentiableField(head.nphm, identity).carried(points, torch.from_numpy(mean))
    moves = by_code.permute(2, 0, 1).double().numpy() * HEAD_UNIT_MM
    places = posed.double().numpy() * HEAD_UNIT_MM
    landmarks = len(skin) + np.arange(68)
    metric = face_metric(moves, places, landmarks, len(skin), [])
    per_unit = lip_gap_matrix(moves, landmarks).mean(0)
    at_mean = (places[landmarks[list(UPPER_LIP)], 1] - places[landmarks[list(LOWER_LIP)], 1]).mean()
    return metric, float(at_mean - per_unit @ mean), per_unit
