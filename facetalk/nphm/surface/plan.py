"""Deciding how the frames of a call are found: the same facts and rules for CPU and CUDA."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from torch import Tensor

from facetalk.arrays import Float32
from facetalk.nphm.bound import Bound
from facetalk.nphm.lattice import Bounds
from facetalk.nphm.surface import slopes
from facetalk.nphm.surface.bake import FIRST_SPACING, BakedField
from facetalk.nphm.surface.identity import CanonicalKnowledge
from facetalk.nphm.surface.options import DEFAULT_TOLERANCE_MM, ExtractionInfo, ExtractionOptions
from facetalk.ops.field.bounds import SlopeBounds
from facetalk.ops.field.kernels import ExtractionCounts, power_of_two
from facetalk.units import HEAD_UNIT_MM

CACHE_SHARE = 0.65
"""Share of the tolerance for the cached identity; the rest is for the interpolated deformation, whose error
falls faster with a finer lattice."""
BOX_MARGIN = 0.12
"""How far around the bounds the canonical field is known, head units: posed points are taken there by offsets
of a few hundredths. Beyond, the networks are asked."""
WIDEST_STRETCH = 1.2
"""Largest stretch of the deformation that the width of the cache provides for."""
COARSE_OFFSETS = 0.08
"""Step of the first lattice of offsets, head units."""
# Rough costs in points that go through the networks, from measurements on the official sizes and the built-in
# model (benchmarks/bench_extract.py): a band takes this many per (1 / spacing of the lattice)^2, times the
# stretch of the deformation, a cache per (1 / spacing of its bricks)^2.
BAND_POINTS = 18.0
BAKE_POINTS = 220.0
_AROUND = 1
"""Level of the local bounds whose reach is about a block of the first lattice of bands."""


@dataclasses.dataclass(frozen=True)
class Guide:
    """What guided frames are found from; distances in head units.

    Attributes:
        baked: the cache.
        bounds: of the canonical field and the deformations of all frames.
        exact: the cache only guides; values at the surface are the networks'.
        tolerance: of interpolated offsets; 0: none are.
        cache_tolerance: of cached values.
        spacing: samples between nodes of the first lattice of offsets.
    """

    baked: BakedField
    bounds: SlopeBounds
    exact: bool
    tolerance: float
    cache_tolerance: float
    spacing: int


class Plan:
    """The frames of a call, and how they are found. What costs the networks something is found when asked.

    Args:
        bound: the bound head.
        knowledge: what was learned of it; grows.
        biases: per deformation layer (T, out), or None for the canonical field.
        axes: sample positions along x, y, z.
        bounds: their ends.
        options: what may be used.
        around: box that the identity is known in, where it is not that of the lattice: one that a part of it
            is looked at again in learns nothing new.

    Attributes:
        frames: how many.
        points: samples of the lattice.
        edges: (3,) between samples, head units.
        spacing: the mean of them.
        wide: (2, 3) the box in which the canonical field is known.
    """

    def __init__(
        self,
        bound: Bound,
        knowledge: CanonicalKnowledge,
        biases: Sequence[Tensor] | None,
        axes: Sequence[Float32],
        bounds: Bounds,
        options: ExtractionOptions,
        around: Bounds | None = None,
    ) -> None:
        self._bound, self._knowledge, self._biases, self._options = bound, knowledge, biases, options
        sizes = np.array([len(axis) for axis in axes])
        box = np.asarray(bounds, dtype=np.float64)
        self.frames = 1 if biases is None else len(biases[0])
        self.points = int(sizes.prod())
        self.edges = (box[1] - box[0]) / (sizes - 1)
        self.spacing = float(np.mean(self.edges))
        known = box if around is None else np.asarray(around, dtype=np.float64)
        self.wide = np.stack([known[0] - BOX_MARGIN, known[1] + BOX_MARGIN])

    @cached_property
    def near(self) -> Tensor:
        """(N, 3) points near the canonical surface, in the CPU's memory."""
        return self._knowledge.slopes(self.wide)[1]

    @cached_property
    def known(self) -> SlopeBounds:
        """Bounds on the slope of the canonical field, and of the deformations of all frames, by place.

        Bands know stretches in all of the box. What is found from a cache looks near the surface alone, and
        does not pay for the rest.
        """
        bounds = self._knowledge.slopes(self.wide)[0]
        if self._stretches is None:
            return bounds
        if self._use_cache:
            return slopes.with_stretch(bounds, self._stretches, None)
        return self._known_everywhere

    @cached_property
    def _known_everywhere(self) -> SlopeBounds:
        bound, bounds = self._bound, self._knowledge.slopes(self.wide)[0]
        assert self._stretches is not None
        return slopes.with_stretch(bounds, self._stretches, bound.kernels, bound.weight)

    @cached_property
    def _stretches(self) -> slopes.Stretches | None:
        if self._biases is None:
            return None
        bound = self._bound
        return slopes.sample_stretches(bound.kernels, self._biases, self.near, bound.weight)

    @cached_property
    def guide(self) -> Guide | None:
        """What guided frames need, baked if need be; None: the frames are found by bands."""
        if not self._use_cache:
            return None
        options = self._options
        smooth_mm = (1.0 - CACHE_SHARE) * self._tolerance_mm
        return Guide(
            baked=self._knowledge.baked(self.wide, self._width, self._share_mm, self.frames),
            bounds=self.known,
            exact=options.tolerance_mm == 0.0,
            tolerance=smooth_mm / HEAD_UNIT_MM if options.coarse else 0.0,
            cache_tolerance=self._share_mm / HEAD_UNIT_MM,
            spacing=power_of_two(COARSE_OFFSETS / self.spacing, 4),
        )

    def info(self, counts: ExtractionCounts | None) -> ExtractionInfo:
        """How a frame with these counts was found."""
        if self._options.exact:
            return ExtractionInfo("dense", self.points)
        if self.guide is None:
            return ExtractionInfo("band", self.points, counts)
        return ExtractionInfo(
            "cache", self.points, counts, self._options.tolerance_mm, self.guide.baked.error_mm
        )

    @property
    def _tolerance_mm(self) -> float:
        """Where no error is accepted, what guides is as good as by default."""
        return self._options.tolerance_mm or DEFAULT_TOLERANCE_MM

    @property
    def _share_mm(self) -> float:
        return CACHE_SHARE * self._tolerance_mm

    @cached_property
    def _width(self) -> float:
        """Width of the cache around the surface, head units.

        A corner of a cell that the surface cuts is no farther from it than this, with room for errors. Where
        the deformation stretches more (it does around the lips), the networks are asked.
        """
        assert self._stretches is not None
        stretch = min(self._stretches.greatest, WIDEST_STRETCH)
        return 1.05 * float(np.linalg.norm(self.edges)) * stretch + 2 * DEFAULT_TOLERANCE_MM / HEAD_UNIT_MM

    @property
    def _usual_stretch(self) -> float:
        """What bands cost goes by: the mean over places, each the steepest around it.

        The steepest of all is but a line between lips or lids.
        """
        known = self._known_everywhere
        return known.stretch if known.stretches is None else float(np.mean(known.stretches.values[_AROUND]))

    @cached_property
    def _use_cache(self) -> bool:
        if self.frames == 0 or self._biases is None or self._bound.coords != 3:
            return False
        if self._options.cache is not None:
            return self._options.cache
        found = self._knowledge.found(self.wide)
        if found is not None and found.fits(self._width, self._share_mm):
            return True
        kernels = self._bound.kernels
        stretch = self._usual_stretch if kernels.bounded_bands else 1.0
        bands = self.frames * BAND_POINTS * stretch / self.spacing**2
        return bands > kernels.bake_price * BAKE_POINTS / FIRST_SPACING**2
