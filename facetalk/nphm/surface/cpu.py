"""Choosing how to find a frame's surface, from every sample of the volume to a cached identity.

From slow to fast; each takes one more short cut, and says what it rests on:

=========  ==========================================================================================
dense      every sample (`exact=True`).
band       samples near the surface, found by bounds on the field's slope; the dense mesh, cell for cell,
           as far as the bounds hold. They are checked against all that is evaluated.
coherence  the band of a frame starts from the frame before, grown by a bound on the motion between.
cache      the identity is baked once (:mod:`facetalk.nphm.surface.bake`); a frame costs its deformation. With a
           tolerance of 0 the cache only guides, and values at the surface are the networks'.
coarse     the deformation is interpolated where it is smooth.
=========  ==========================================================================================

This is the CPU's way; :mod:`facetalk.nphm.surface.plan` decides for it and for CUDA
(:mod:`facetalk.nphm.surface.cuda`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facetalk.errors import InputError
from facetalk.nphm.surface import slopes
from facetalk.nphm.surface.plan import DEFAULT_TOLERANCE_MM, Guide, Plan, power_of_two
from facetalk.ops.field.surface import CanonicalCache, ExtractionCounts, FieldBand, Motion, guided
from facetalk.ops.marching_cubes import marching_cubes

if TYPE_CHECKING:
    from facetalk.nphm.field import Field
    from facetalk.nphm.lattice import Bounds

Float32 = NDArray[np.float32]

COARSE_BAND = 0.15
"""Step of a band's first lattice, head units."""


@dataclasses.dataclass(frozen=True)
class ExtractionInfo:
    """How a frame was found.

    Attributes:
        method: "dense", "band" or "cache".
        points: samples of the lattice.
        counts: what the networks were asked, and what could not be certified; None for "dense".
        tolerance_mm: error that was accepted, millimetres; 0: the networks' values.
        cache_error_mm: largest error of the cached field at held-out points, millimetres; None without one.
    """

    method: Literal["dense", "band", "cache"]
    points: int
    counts: ExtractionCounts | None = None
    tolerance_mm: float = 0.0
    cache_error_mm: float | None = None

    @property
    def uncertified(self) -> int:
        """Cells whose sign rests on a bound that evaluated samples contradict."""
        return 0 if self.counts is None else self.counts.uncertified


@dataclasses.dataclass(frozen=True)
class Surface:
    """One frame: vertices (V, 3) float32, head space, faces (F, 3) int32, and how they were found.

    The arrays are NumPy's, or torch's on the CUDA device of the field.
    """

    vertices: Any
    faces: Any
    info: ExtractionInfo


@dataclasses.dataclass(frozen=True)
class ExtractionOptions:
    """What may be used. `cache=None` decides by cost."""

    tolerance_mm: float = DEFAULT_TOLERANCE_MM
    exact: bool = False
    cache: bool | None = None
    coarse: bool = True
    coherence: bool = True

    def __post_init__(self) -> None:
        """Refuses a tolerance that is none."""
        if not (np.isfinite(self.tolerance_mm) and self.tolerance_mm >= 0):
            raise InputError(f"tolerance_mm: expected millimetres, 0 or more, got {self.tolerance_mm!r}")


def surfaces(
    field: Field,
    biases: Sequence[Tensor] | None,
    axes: Sequence[Float32],
    bounds: Bounds,
    options: ExtractionOptions,
) -> Iterator[Surface]:
    """The surface of every frame, one at a time.

    Args:
        field: the bound head.
        biases: per deformation layer (T, out), or None for the canonical field.
        axes: sample positions along x, y, z.
        bounds: their ends.
        options: what may be used.
    """
    frames: list[list[Tensor] | None] = (
        [None] if biases is None else [[b[t : t + 1] for b in biases] for t in range(len(biases[0]))]
    )
    plan = Plan(field, biases, axes, bounds, options)
    if options.exact:
        for frame in frames:
            dense = field.packed.grid(axes, frame, weight=field.weight)[0]
            vertices, faces = marching_cubes(dense.numpy(), bounds=bounds)
            yield Surface(vertices, faces, ExtractionInfo("dense", plan.points))
        return
    if not frames:
        return
    guide = plan.guide
    if guide is None:
        yield from _banded(field, frames, axes, bounds, plan, options)
        return
    lattice = guide.baked.lattice
    assert isinstance(lattice, CanonicalCache)
    for frame in frames:
        assert frame is not None
        volume, counts = guided(
            field.packed, axes, frame, lattice, guide.bounds, weight=field.weight, exact=guide.exact,
            tolerance=guide.tolerance, cache_tolerance=guide.cache_tolerance, spacing=guide.spacing,
        )  # fmt: skip
        vertices, faces = volume.mesh(bounds)
        yield Surface(vertices, faces, cached_info(plan, guide, options, counts))


def cached_info(
    plan: Plan, guide: Guide, options: ExtractionOptions, counts: ExtractionCounts
) -> ExtractionInfo:
    """Of a frame that was found from the cache."""
    return ExtractionInfo("cache", plan.points, counts, options.tolerance_mm, guide.baked.error_mm)


def _banded(
    field: Field,
    frames: Sequence[list[Tensor] | None],
    axes: Sequence[Float32],
    bounds: Bounds,
    plan: Plan,
    options: ExtractionOptions,
) -> Iterator[Surface]:
    band = FieldBand(field.packed, axes, power_of_two(COARSE_BAND / plan.spacing, 8))
    before: list[Tensor] | None = None
    for frame in frames:
        moved: Motion | None = None
        if options.coherence and before is not None and frame is not None:
            moved = slopes.motion(field.packed, before, frame, plan.near, field.weight)
            # A face that moved by most of a cell nearly everywhere left too little to start from.
            if moved.typical > 0.6 * plan.spacing:
                moved = None
        volume, counts = band.frame(frame, plan.known, weight=field.weight, motion=moved)
        before = frame
        vertices, faces = volume.mesh(bounds)
        yield Surface(vertices, faces, ExtractionInfo("band", plan.points, counts))
