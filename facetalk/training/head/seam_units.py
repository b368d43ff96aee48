"""Units of a backward network that know from the start on which side of lips and lids a point lies.

Closed lips touch, and on the canonical head they are 8 mm apart: the network has to change by that much
within a fraction of a millimetre, along a line that jaw, lips and identity move about. A network that begins
with smooth units finds such lines slowly or not at all. The lines are known, though: landmarks lie on them
and are linear in expression weights and identity. So the first layer gets pairs of units on either side of
each line, and the second one their difference, a step from 0 to 2 over 0.8 mm. Nothing reads the steps at
first; what to do with them is learned, and they are trained like all other weights.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from facetalk.arrays import Float32, Float64
from facetalk.data.heads.ict import MorphableHead
from facetalk.multi_pie import LOWER_LIDS, LOWER_LIP_LINE, UPPER_LIDS, UPPER_LIP_LINE
from facetalk.nphm.networks import DeformationNetwork
from facetalk.units import HEAD_UNIT_MM

__all__ = ["SEAM_CODES", "Seams", "plant"]

SEAM_CODES = 16
"""Numbers of the compressed identity that say where the lines of a head lie."""
_HALF_MM = 0.4
"""Half the width of a step."""
_SIZE = 0.03
"""Value of a first-layer unit at its own end of the step; small, since it grows with the distance."""
_DEVIATION = 0.8  # of identity coefficients that heads are drawn with

_Place = dict[int, float]


def _mean(*places: _Place) -> _Place:
    out: _Place = {}
    for place in places:
        for landmark, weight in place.items():
            out[landmark] = out.get(landmark, 0.0) + weight / len(places)
    return out


def _lines() -> list[tuple[_Place, _Place, _Place]]:
    """A place on each line as a mean of landmarks, and the places that it goes on to on both sides."""
    middle = [_mean({a: 1.0}, {b: 1.0}) for a, b in zip(UPPER_LIP_LINE, LOWER_LIP_LINE, strict=True)]
    fine = [middle[0]]
    for before, after in itertools.pairwise(middle):
        fine += [_mean(before, after), after]
    out = [(p, fine[max(i - 1, 0)], fine[min(i + 1, len(fine) - 1)]) for i, p in enumerate(fine)]
    for row in (UPPER_LIP_LINE, LOWER_LIP_LINE):
        out += [({row[i]: 1.0}, {row[i - 1]: 1.0}, {row[i + 1]: 1.0}) for i in (1, 2, 3)]
    for lids in UPPER_LIDS:
        a, b, c, d = ({landmark: 1.0} for landmark in lids)
        out += [(_mean(a, b), a, b), (b, a, c), (_mean(b, c), b, c), (c, b, d), (_mean(c, d), c, d)]
    for lids in LOWER_LIDS:
        out.append(({lids[1]: 1.0}, {lids[0]: 1.0}, {lids[2]: 1.0}))
    return out


@dataclass(frozen=True)
class Seams:
    """Lines along lips and lids: point x is above line k by ``normal_k x - height_k``, head units.

    Attributes:
        normals: (K, 3) unit vectors across the lines, up.
        heights: (K,) at zero weights on the mean head.
        by_expression: (K, E) change of the height by a weight.
        by_seam_code: (K, C) change by each number of the seams' own identity code.
        seam_codes: (C, L) that code, of deviation 1 or so, from an identity code.
    """

    normals: Float64
    heights: Float64
    by_expression: Float64
    by_seam_code: Float64
    seam_codes: Float64

    @classmethod
    def of(cls, head: MorphableHead, encoder: Float32) -> Seams:
        """The lines of a morphable head whose codes are ``encoder`` (L, I) times its coefficients."""
        shape, ids = head.canonical().astype(np.float64), head.landmark_ids
        normals, heights, expression, identity = [], [], [], []
        for place, before, after in _lines():
            tangent = sum(w * shape[ids[i]] for i, w in after.items())
            tangent = tangent - sum(w * shape[ids[i]] for i, w in before.items())
            normal = np.array([-tangent[1], tangent[0], 0.0])
            normal *= np.where(normal[1] < 0.0, -1.0, 1.0) / max(float(np.linalg.norm(normal)), 1e-12)
            normals.append(normal)
            heights.append(sum(w * shape[ids[i]] for i, w in place.items()) @ normal)
            expression.append(sum(w * head.expression_basis[:, ids[i]] for i, w in place.items()) @ normal)
            identity.append(sum(w * head.identity_basis[:, ids[i]] for i, w in place.items()) @ normal)
        by_expression = np.array(expression)
        rest = np.array(heights, np.float64) - by_expression @ head.canonical_expression.astype(np.float64)
        left, size, right = np.linalg.svd(np.array(identity), full_matrices=False)
        kept = min(SEAM_CODES, len(size))
        codes = (right[:kept] / _DEVIATION) @ np.linalg.pinv(encoder.astype(np.float64))
        return cls(np.array(normals), rest, by_expression, left[:, :kept] * size[:kept] * _DEVIATION, codes)


@torch.no_grad()
def plant(network: DeformationNetwork, seams: Seams) -> int:
    """Give a network that has just been initialised its seam units, the last of both layers.

    They take the last numbers of the compressed identity. A network that is too small for all gets those of
    the first lines, at most half of either layer.

    Args:
        network: changed in place.
        seams: of the head that it is for.

    Returns:
        how many lines it knows.
    """
    config, body = network.config, network.defDeepSDF
    first, second, third = (getattr(body, f"lin{i}") for i in range(3))
    skips = config.layers // 2  # the layer that reads the inputs again
    codes = len(seams.seam_codes)
    count = min(len(seams.normals), len(first.bias) // 4, len(second.bias) // 2)
    if config.layers < 3 or skips == 1 or codes >= config.compressed_dim or count < 1:
        return 0
    compressor, start = network.compressor[0], config.compressed_dim - codes
    assert isinstance(compressor, nn.Linear)
    compressor.weight[start:] = 0.0
    compressor.weight[start:, : config.code_dim] = torch.from_numpy(seams.seam_codes).float()
    compressor.bias[start:] = 0.0
    rows = np.zeros((count, first.in_features))
    rows[:, :3] = seams.normals[:count]
    rows[:, 3 + start : 3 + config.compressed_dim] = -seams.by_seam_code[:count]
    rows[:, 3 + config.compressed_dim :] = -seams.by_expression[:count]
    steep = _SIZE * HEAD_UNIT_MM / _HALF_MM
    for half, side in enumerate((1.0, -1.0)):
        units = slice(len(first.bias) - (2 - half) * count, len(first.bias) - (1 - half) * count)
        first.weight[units] = torch.from_numpy(steep * rows).float()
        first.bias[units] = torch.from_numpy(_SIZE * side - steep * seams.heights[:count]).float()
    pair = len(first.bias) - 2 * count
    second.weight[:, pair:] = 0.0
    step = len(second.bias) - count
    second.weight[step:], second.bias[step:] = 0.0, 0.0
    for k in range(count):
        second.weight[step + k, pair + k] = 1.0 / _SIZE
        second.weight[step + k, pair + count + k] = -1.0 / _SIZE
    third.weight[:, step : step + count] = 0.0
    return count
