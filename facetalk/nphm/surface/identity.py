"""What is learned of an identity once, to find its surfaces faster: bounds on its slope, and baked caches."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from torch import Tensor

from facetalk.arrays import Float64
from facetalk.nphm.surface import slopes, store
from facetalk.nphm.surface.bake import DEEPEST, BakedField, bake, restore
from facetalk.nphm.surface.options import Surface
from facetalk.ops.field.bounds import SlopeBounds
from facetalk.ops.field.kernels import FieldKernels
from facetalk.ops.field.source import FieldSource

MANY_FRAMES = 250
"""Frames from which a finer cache pays."""
WORTH_KEEPING_S = 1.0
"""A bake that took less is not kept on disk."""
SPARE_WIDTH = 1.1
"""How much wider than asked a cache is made, so that the next expression does not ask for another one."""


class CanonicalKnowledge:
    """What was learned of the identity that kernels are bound to, on their device.

    What takes the networks is asked of these kernels, in float32; sorting the answers is the CPU's work, on
    whichever device. Both are done once per identity and box, and no frame waits for it again.

    Args:
        kernels: of the bound head.
        source: what they were bound to, by which bakes of earlier processes are found; None: they are not
            looked for, nor kept for later ones.
        cull: that they were bound with.
    """

    surfaces: dict[Any, Surface]
    """Canonical surfaces by lattice, kept by :mod:`facetalk.nphm.surface.forward`."""

    def __init__(self, kernels: FieldKernels, source: FieldSource | None = None, cull: float = 0.0) -> None:
        self._kernels, self._source, self._cull = kernels, source, cull
        self._slopes: dict[bytes, tuple[SlopeBounds, Tensor]] = {}
        self._baked: dict[bytes, BakedField] = {}
        self.surfaces = {}

    def slopes(self, box: Float64) -> tuple[SlopeBounds, Tensor]:
        """Bounds in a box (2, 3), and points near the surface, in the CPU's memory."""
        key = box.tobytes()
        if key not in self._slopes:
            self._slopes[key] = slopes.estimate_slopes(self._kernels, box[0], box[1])
        return self._slopes[key]

    def found(self, box: Float64) -> BakedField | None:
        """The cache of a box, if there is one already."""
        return self._baked.get(box.tobytes())

    def baked(self, box: Float64, width: float, tolerance_mm: float, frames: int) -> BakedField:
        """A cache of values up to `width` from the surface, baked if need be, the finer the more frames."""
        found = self.found(box)
        if found is None or not found.fits(width, tolerance_mm):
            deepest = DEEPEST + (frames > MANY_FRAMES)
            found = self._baked[box.tobytes()] = self._bake(box, SPARE_WIDTH * width, tolerance_mm, deepest)
        return found

    def _bake(self, box: Float64, width: float, tolerance_mm: float, deepest: int) -> BakedField:
        """A cache from an earlier process, or made and kept for later ones."""
        # The width depends on the frames that ask; rounded up, so that other motions find it too.
        width = 2.0 ** (np.ceil(4.0 * np.log2(width)) / 4.0)
        key = None
        if self._source is not None and store.cache_folder() is not None:
            kind = self._kernels.device.type
            key = store.fingerprint(
                self._source, self._cull, box.tolist(), float(width), float(tolerance_mm), deepest, kind
            )
            kept = store.read(key)
            if kept is not None:
                try:
                    return restore(self._kernels, kept)
                except (TypeError, ValueError, KeyError):
                    pass  # whole, but no bake: made anew and replaced
        bounds, _ = self.slopes(box)
        begun = time.monotonic()

        def keep(baking: store.Baking) -> None:
            if key is not None and time.monotonic() - begun > WORTH_KEEPING_S:
                store.write(key, baking)

        return bake(
            self._kernels, bounds, box[0], box[1], width=float(width), tolerance_mm=tolerance_mm,
            deepest=deepest, keep=keep,
        )  # fmt: skip
