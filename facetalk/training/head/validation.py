"""Errors of a backward deformation on heads that no training sees, quick enough to follow a training by.

They are measured on pairs as a training has them, so they differ a little from those of
:mod:`facetalk.training.head.figures`, which look at the outer surface alone and at the whole model.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from facetalk.data.heads.ict import MorphableHead
from facetalk.data.heads.samples import SurfaceSampler, random_identities, speech_expressions
from facetalk.nphm.networks import DeformationNetwork, IdentityNetwork
from facetalk.training.head.pairs import PairSource
from facetalk.units import HEAD_UNIT_MM

__all__ = ["BackwardValidation"]

_SEED = 987_655
"""Of heads, expressions and points; no training and no figure uses it."""
_GROUPS = {"mean": 24, "others": 48}
"""Rows of the mean head and of as many other heads, an expression as speech has them in each."""
_POINTS = 400


class BackwardValidation:
    """Pairs to be asked again and again.

    Args:
        head: the morphable head.
        identity: for the anchors, on the network's device.
        encoder: (L, I) of identity codes, on the same device.
    """

    def __init__(self, head: MorphableHead, identity: IdentityNetwork, encoder: Tensor) -> None:
        device, rng = encoder.device, np.random.default_rng(_SEED)
        coefficients = random_identities(head, sum(_GROUPS.values()), _SEED)
        coefficients[: _GROUPS["mean"]] = 0.0
        drawn = torch.from_numpy(coefficients).to(device)
        self._weights = torch.from_numpy(speech_expressions(head, len(drawn), rng)).to(device)
        source = PairSource(head, SurfaceSampler(head), device=device, pool=_POINTS * len(drawn), seed=_SEED)
        generator = torch.Generator(device).manual_seed(_SEED)
        self._pairs = source.draw(drawn, self._weights, _POINTS, generator)
        self._code = drawn @ encoder.T
        with torch.no_grad():
            self._anchors = identity.anchors(self._code)

    @torch.no_grad()
    def __call__(self, network: DeformationNetwork) -> dict[str, float]:
        """Mean errors within a millimetre of the surface, mm.

        Of all of it, of lips and what is seen between them, of the latter alone, and of lids.
        """
        pairs = self._pairs
        offset = network(pairs.posed, self._code, self._weights, self._anchors)
        error = torch.linalg.vector_norm(pairs.posed + offset - pairs.rest, dim=-1) * HEAD_UNIT_MM
        lips = pairs.surface & (pairs.lips > 0.6)
        regions = {
            "surface": pairs.surface, "lips": lips, "between lips": lips & pairs.inner,
            "lids": pairs.surface & (pairs.lids > 0.6),
        }  # fmt: skip
        found, first = {}, 0
        for group, rows in _GROUPS.items():
            for name, chosen in regions.items():
                chosen = chosen[first : first + rows]
                total = (error[first : first + rows] * chosen).sum() / chosen.sum().clamp_min(1)
                found[f"{group}, {name}"] = round(float(total), 4)
            first += rows
        return found
