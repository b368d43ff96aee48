"""Choosing how to find a frame's surface, from every sample of the volume to a cached identity.

From slow to fast; each takes one more short cut, and says what it rests on:

=========  ==========================================================================================
dense      every sample (`exact=True`).
band       samples near the surface, found by bounds on the field's slope; the dense mesh, cell for cell,
           as far as the bounds hold. They are checked against all that is evaluated.
coherence  the band of a frame starts from the frame before, grown by a bound on the motion between.
cache      the identity is baked once (:mod:`facetalk.nphm.cache`); a frame costs its deformation. With a
           tolerance of 0 the cache only guides, and values at the surface are the networks'.
coarse     the deformation is interpolated where it is smooth.
=========  ==========================================================================================
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facetalk.errors import InputError
from facetalk.nphm import slopes
from facetalk.nphm.cache import DEEPEST, FIRST_SPACING, UNIT_MM, BakedField, bake
from facetalk.ops.extraction import ExtractionCounts, FieldBand, Motion, SlopeBounds, guided
from facetalk.ops.marching_cubes import marching_cubes

if TYPE_CHECKING:
    from facetalk.nphm.field import Field
    from facetalk.nphm.lattice import Bounds

Float32 = NDArray[np.float32]

DEFAULT_TOLERANCE_MM = 0.05
CACHE_SHARE = 0.65
"""Of the tolerance, for the cached identity; the rest is for the interpolated deformation, whose error falls
faster with a finer lattice."""
BOX_MARGIN = 0.12
"""How far around the bounds the canonical field is known, head units: posed points are taken there by offsets
of a few hundredths. Beyond, the networks are asked."""
WIDEST_STRETCH = 1.2
"""Of the deformation, that the width of the cache provides for."""
COARSE_BAND = 0.15
"""Step of a band's first lattice, head units."""
COARSE_OFFSETS = 0.08
"""Step of the first lattice of offsets, head units."""
MANY_FRAMES = 250
"""Frames from which a finer cache pays."""
# Rough costs in points that go through the networks, from measurements on the official sizes and the built-in
# model (benchmarks/bench_extract.py): a band takes this many per (1 / spacing of the lattice)^2, a cache per
# (1 / spacing of its bricks)^2.
BAND_POINTS = 18.0
BAKE_POINTS = 70.0


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


class CanonicalKnowledge:
    """What is learned of an identity once: bounds on its slope, and baked caches."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self._slopes: dict[bytes, tuple[SlopeBounds, Tensor]] = {}
        self._baked: dict[bytes, BakedField] = {}

    def slopes(self, box: NDArray[np.float64]) -> tuple[SlopeBounds, Tensor]:
        """Bounds in a box (2, 3), and points near the surface."""
        key = box.tobytes()
        if key not in self._slopes:
            self._slopes[key] = slopes.estimate_slopes(self._field.packed, box[0], box[1])
        return self._slopes[key]

    def has_baked(self, box: NDArray[np.float64], width: float, tolerance_mm: float) -> bool:
        """Whether a fitting cache is there already."""
        found = self._baked.get(box.tobytes())
        return found is not None and found.width >= width and found.tolerance_mm <= tolerance_mm

    def baked(self, box: NDArray[np.float64], width: float, tolerance_mm: float, frames: int) -> BakedField:
        """A cache of values up to `width` from the surface, baked if need be, the finer the more frames."""
        if not self.has_baked(box, width, tolerance_mm):
            bounds, _ = self.slopes(box)
            # A little wider than asked, so that the next expression does not ask for another one.
            self._baked[box.tobytes()] = bake(
                self._field.packed, bounds, box[0], box[1], width=1.1 * width, tolerance_mm=tolerance_mm,
                deepest=DEEPEST + (frames > MANY_FRAMES),
            )  # fmt: skip
        return self._baked[box.tobytes()]


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
    box = np.asarray(bounds, dtype=np.float64)
    frames: list[list[Tensor] | None] = (
        [None] if biases is None else [[b[t : t + 1] for b in biases] for t in range(len(biases[0]))]
    )
    points = int(np.prod([len(axis) for axis in axes]))
    if options.exact:
        for frame in frames:
            dense = field.packed.grid(axes, frame, weight=field.weight)[0]
            vertices, faces = marching_cubes(dense.numpy(), bounds=bounds)
            yield Surface(vertices, faces, ExtractionInfo("dense", points))
        return
    if not frames:
        return
    wide = np.stack([box[0] - BOX_MARGIN, box[1] + BOX_MARGIN])
    known, near = field.knowledge.slopes(wide)
    if biases is not None:
        known = slopes.with_stretch(known, field.packed, biases, near, field.weight)
    edges = (box[1] - box[0]) / (np.array([len(axis) for axis in axes]) - 1)
    spacing = float(np.mean(edges))
    # A corner of a cell that the surface cuts is no farther from it than this, with room for errors. Where
    # the deformation stretches more (it does around the lips), the networks are asked.
    stretch = min(known.stretch, WIDEST_STRETCH)
    width = 1.05 * float(np.linalg.norm(edges)) * stretch + 2 * DEFAULT_TOLERANCE_MM / UNIT_MM
    share_mm = CACHE_SHARE * (options.tolerance_mm or DEFAULT_TOLERANCE_MM)
    use_cache = options.cache
    if biases is None or field.packed.coords != 3:
        use_cache = False
    if use_cache is None:
        use_cache = field.knowledge.has_baked(wide, width, share_mm) or (
            len(frames) * BAND_POINTS / spacing**2 > BAKE_POINTS / FIRST_SPACING**2
        )
    if not use_cache:
        yield from _banded(field, frames, axes, bounds, known, near, options, points, spacing)
        return
    baked = field.knowledge.baked(wide, width, share_mm, len(frames))
    exact = options.tolerance_mm == 0.0
    smooth_mm = (1.0 - CACHE_SHARE) * (options.tolerance_mm or DEFAULT_TOLERANCE_MM)
    for frame in frames:
        assert frame is not None
        volume, counts = guided(
            field.packed, axes, frame, baked.lattice, known, weight=field.weight, exact=exact,
            tolerance=smooth_mm / UNIT_MM if options.coarse else 0.0,
            cache_tolerance=share_mm / UNIT_MM,
            spacing=_power_of_two(COARSE_OFFSETS / spacing, 4),
        )  # fmt: skip
        vertices, faces = volume.mesh(bounds)
        info = ExtractionInfo("cache", points, counts, options.tolerance_mm, baked.error_mm)
        yield Surface(vertices, faces, info)


def _banded(
    field: Field,
    frames: Sequence[list[Tensor] | None],
    axes: Sequence[Float32],
    bounds: Bounds,
    known: SlopeBounds,
    near: Tensor,
    options: ExtractionOptions,
    points: int,
    spacing: float,
) -> Iterator[Surface]:
    band = FieldBand(field.packed, axes, _power_of_two(COARSE_BAND / spacing, 8))
    before: list[Tensor] | None = None
    for frame in frames:
        moved: Motion | None = None
        if options.coherence and before is not None and frame is not None:
            moved = slopes.motion(field.packed, before, frame, near, field.weight)
            # A face that moved by most of a cell nearly everywhere left too little to start from.
            if moved.typical > 0.6 * spacing:
                moved = None
        volume, counts = band.frame(frame, known, weight=field.weight, motion=moved)
        before = frame
        vertices, faces = volume.mesh(bounds)
        yield Surface(vertices, faces, ExtractionInfo("band", points, counts))


def _power_of_two(value: float, least: int) -> int:
    """The nearest power of two on a logarithmic scale, at least `least`."""
    return max(least, 2 ** round(float(np.log2(max(value, 1.0)))))
