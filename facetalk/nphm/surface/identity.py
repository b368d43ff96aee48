"""What is learned of an identity once, to find its surfaces faster: bounds on its slope, and baked caches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facetalk.nphm.surface import slopes
from facetalk.nphm.surface.bake import DEEPEST, BakedField, bake
from facetalk.ops.field.bounds import SlopeBounds
from facetalk.ops.field.kernels import FieldKernels

MANY_FRAMES = 250
"""Frames from which a finer cache pays."""
SPARE_WIDTH = 1.1
"""How much wider than asked a cache is made, so that the next expression does not ask for another one."""


class CanonicalKnowledge:
    """What was learned of the identity that kernels are bound to, on their device.

    What takes the networks is asked of these kernels, in float32; sorting the answers is the CPU's work, on
    whichever device. Both are done once per identity and box, and no frame waits for it again.
    """

    def __init__(self, kernels: FieldKernels) -> None:
        self._kernels = kernels
        self._slopes: dict[bytes, tuple[SlopeBounds, Tensor]] = {}
        self._baked: dict[bytes, BakedField] = {}

    def slopes(self, box: NDArray[np.float64]) -> tuple[SlopeBounds, Tensor]:
        """Bounds in a box (2, 3), and points near the surface, in the CPU's memory."""
        key = box.tobytes()
        if key not in self._slopes:
            self._slopes[key] = slopes.estimate_slopes(self._kernels, box[0], box[1])
        return self._slopes[key]

    def found(self, box: NDArray[np.float64]) -> BakedField | None:
        """The cache of a box, if there is one already."""
        return self._baked.get(box.tobytes())

    def baked(self, box: NDArray[np.float64], width: float, tolerance_mm: float, frames: int) -> BakedField:
        """A cache of values up to `width` from the surface, baked if need be, the finer the more frames."""
        found = self.found(box)
        if found is None or not found.fits(width, tolerance_mm):
            bounds, _ = self.slopes(box)
            found = self._baked[box.tobytes()] = bake(
                self._kernels, bounds, box[0], box[1], width=SPARE_WIDTH * width, tolerance_mm=tolerance_mm,
                deepest=DEEPEST + (frames > MANY_FRAMES),
            )  # fmt: skip
        return found
