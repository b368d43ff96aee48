"""Lip contact: what linear blendshapes do not know."""

from __future__ import annotations

import dataclasses

import numpy as np

from facetalk.arrays import AnyFloat, Float32, Float64


@dataclasses.dataclass
class LipGap:
    """Linear model of the inner-lip gap.

    Attributes:
        bias_mm: gap of the face of weights 0.
        per_unit_mm: (E,) change of the gap at weight 1.
    """

    bias_mm: float
    per_unit_mm: Float64

    def gap(self, weights: AnyFloat) -> Float64:
        """(..., E) weights -> (...) gap in mm."""
        return self.bias_mm + np.asarray(weights, np.float64) @ self.per_unit_mm


@dataclasses.dataclass
class LipContact(LipGap):
    """The gap, used to keep lips from passing through each other.

    Blendshapes add up without knowing of contact: a little too much mouthClose drives one lip into the other.
    After sampling, ``close`` is lowered until the gap is at least ``lowest_mm``. It never closes a mouth, it
    only stops lips.

    Attributes:
        bias_mm, per_unit_mm: see :class:`LipGap`.
        close: index of the weight that closes the mouth.
        lowest_mm: smallest gap let through; slightly negative, because soft lips press.
    """

    close: int
    lowest_mm: float = -0.6

    def apply(self, weights: Float32) -> Float32:
        """Weights with as little less mouth closing as contact asks for, (..., E)."""
        excess = np.maximum(self.lowest_mm - self.gap(weights), 0.0) / -self.per_unit_mm[self.close]
        out = weights.copy()
        out[..., self.close] = np.maximum(out[..., self.close] - excess, 0.0)
        return out
