"""A folded head, in the form in which the compiled fields on either device and the reference take it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch import Tensor

DEFAULT_CULL = 1e-7
"""Fraction of the nearest anchor's weight below which a member is left out; below float32 rounding."""
HALF_CULL = 1e-4
"""The same where hidden units are rounded to 16 bit: what it leaves out is far below that rounding."""

LayerWeights = tuple[Tensor | None, Tensor | None]
"""(hidden (U, out, in) or None, coords (U, out, C) or None) of a folded layer."""


@dataclasses.dataclass(frozen=True)
class FieldSource:
    """A folded head, the form in which both the compiled and the reference field take it.

    Attributes:
        identity: weights of the ensemble's layers; U weight sets.
        identity_bias: per layer (A, out): biases of the members, latent codes included.
        anchors: (K, 3) anchor positions, head space; A = K + 1 members, the last without an anchor.
        member_set: (A,) weight set of each member.
        mirror: (A,) +1 or -1: sign of the x coordinate in a member's frame.
        deformation: weights of the deformation's layers (one weight set), or None.
        blending: "nphm" or "mononphm".
        neighbours: MonoNPHM: anchors evaluated at a point.
        blend_std: MonoNPHM: blending constant.
    """

    identity: Sequence[LayerWeights]
    identity_bias: Sequence[Tensor]
    anchors: Tensor
    member_set: Tensor
    mirror: Tensor
    deformation: Sequence[LayerWeights] | None = None
    blending: Literal["nphm", "mononphm"] = "nphm"
    neighbours: int = 0
    blend_std: float = 0.0


@dataclasses.dataclass(frozen=True)
class OffsetWeight:
    """Spatial weight of the offset: clip(exp(-|(p - centre) / sigma|^2 / 2) * scale + shift, 0, 1)."""

    centre: tuple[float, float, float]
    sigma: tuple[float, float, float]
    scale: float = 1.0
    shift: float = 0.0

    def packed(self) -> tuple[list[float], list[float], float, float]:
        """The weight as the extension takes it."""
        return list(self.centre), [1.0 / s for s in self.sigma], self.scale, self.shift


def cull_to_cut(cull: float) -> float:
    """Turns a fraction of the nearest anchor's weight into a difference of exponents."""
    if not 0.0 <= cull < 1.0:
        raise ValueError(f"cull: expected a fraction from 0 (exact) to below 1, got {cull!r}")
    return math.inf if cull == 0.0 else -math.log(cull)


def as_axes(axes: Sequence[np.ndarray]) -> list[list[float]]:
    """Three arrays of finite sample positions, as the extension takes them."""
    if len(axes) != 3:
        raise ValueError(f"axes: expected three arrays of sample positions, got {len(axes)}")
    arrays = [np.asarray(a, dtype=np.float32).reshape(-1) for a in axes]
    for name, array in zip("xyz", arrays, strict=True):
        if array.size == 0:
            raise ValueError(f"axes: expected sample positions along {name}, got none")
        if not np.isfinite(array).all():
            at = int(np.argmin(np.isfinite(array)))
            raise ValueError(f"axes: expected finite sample positions along {name}, got {array[at]} at {at}")
    return [array.tolist() for array in arrays]
