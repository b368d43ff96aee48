"""Finding a frame's surface without evaluating its volume: the typed face of the CPU's extraction.

Three things, all over a :class:`facetalk.ops.field.cpu.PackedField`:

* :func:`band` refines a coarse lattice by values and bounds on their slope;
* :class:`CanonicalCache` is the canonical field on a sparse lattice;
* :func:`guided` finds a frame from the cache and a coarsely sampled deformation.

:func:`band` and :func:`guided` give a :class:`BrickVolume`, bricks of 8^3 samples near the surface, whose
mesh is that of the dense volume. The dense twin of all of them is `PackedField.grid`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from facetalk.arrays import Bool, Float32, Int32
from facetalk.ops._extension import load
from facetalk.ops.field.bounds import SlopeBounds
from facetalk.ops.field.kernels import Box, ExtractionCounts, place
from facetalk.ops.field.source import OffsetWeight, as_axes


def _array(array: Any) -> NDArray[Any]:
    """The extension's array as NumPy's."""
    result: NDArray[Any] = np.from_dlpack(array)
    return result


class Packed(Protocol):
    """What of a packed field is searched; :class:`facetalk.ops.field.cpu.PackedField` is one."""

    @property
    def core(self) -> Any:
        """The extension's object."""

    def frame_biases(self, biases: Sequence[Tensor] | None) -> list[Tensor] | None:
        """Biases per deformation layer (T, out) as the extension takes them."""


class BrickVolume:
    """Samples near a surface in bricks of 8^3; elsewhere only the sign is known."""

    def __init__(self, core: Any, axes: Sequence[Float32]) -> None:
        self._core = core
        self._axes = axes

    @property
    def stored(self) -> int:
        """Bricks in memory."""
        return int(self._core.stored)

    def dense(self) -> Tensor:
        """(nx, ny, nz) float32; +-1 where no brick is stored."""
        return from_dlpack(self._core.dense())

    def mesh(self, bounds: Box | None = None) -> tuple[Float32, Int32]:
        """Marching cubes at level 0: vertices (V, 3) float32, head space, and faces (F, 3) int32.

        Bit by bit what `marching_cubes` gives for the dense volume with the same samples and bounds. Without
        bounds, the ends of the axes are taken, which are rounded to float32.
        """
        ends = [[axis[0] for axis in self._axes], [axis[-1] for axis in self._axes]]
        box = ends if bounds is None else bounds
        vertices, faces = self._core.mesh(*place(box, [len(axis) for axis in self._axes]))
        return _array(vertices), _array(faces)


class CanonicalCache:
    """A canonical signed distance sampled once on a sparse, adaptive lattice (tricubic interpolation).

    Bricks of 4^3 cells hold 7^3 samples, from one before the brick to one behind it. See
    :func:`facetalk.nphm.surface.bake.bake`, which makes one and measures its error.

    Args:
        origin: (3,) corner of the first brick, head space.
        spacing: between samples of the coarsest bricks, head units.
        table: (nx, ny, nz) int32: number of a brick of `data`, -1 nothing there, or -2 - g: refined into the
            eight bricks of half the spacing `children[g]` (x slowest).
        children: (G, 8) int32, entries as in `table`; a group names later groups only.
        data: (bricks, 7, 7, 7) float32 signed distances.
        error: (bricks,) float32 bounds of the error of interpolated values, head units.
        far_origin, far_spacing: lattice of `far`.
        far: (mx, my, mz) float32 signed lower bounds of the distance to the surface over whole cells; 0
            where nothing is known.

    Raises:
        TypeError, ValueError: arrays of the wrong dtype or shape, or entries out of range.
    """

    def __init__(
        self,
        *,
        origin: Sequence[float],
        spacing: float,
        table: Int32,
        children: Int32,
        data: Float32,
        error: Float32,
        far_origin: Sequence[float],
        far_spacing: float,
        far: Float32,
    ) -> None:
        self._core = load().CanonicalCache(
            origin=[float(v) for v in origin],
            spacing=float(spacing),
            table=table,
            children=children,
            data=data,
            error=error,
            far_origin=[float(v) for v in far_origin],
            far_spacing=float(far_spacing),
            far=far,
        )

    @property
    def bytes(self) -> int:
        """Memory held."""
        return int(self._core.bytes)

    def look_up(self, points: Float32) -> tuple[Float32, Bool, Float32, Float32]:
        """At points (N, 3), each (N,): values, whether cached, signed least distances, error bounds."""
        answers = self._core.query(np.ascontiguousarray(points, dtype=np.float32))
        values, covered, far, error = (_array(answer) for answer in answers)
        return np.asarray(values), np.asarray(covered).astype(np.bool_), np.asarray(far), np.asarray(error)


def dense_mesh(volume: Tensor, box: Box) -> tuple[Float32, Int32]:
    """The mesh of :meth:`BrickVolume.mesh` from all samples (nx, ny, nz) between the ends of a box."""
    origin, step = place(box, volume.shape)
    vertices, faces, _ = load().marching_cubes(volume, 0.0, origin, step, False)
    return _array(vertices), _array(faces)


def band(
    field: Packed,
    axes: Sequence[Float32],
    biases: Sequence[Tensor] | None,
    bounds: SlopeBounds,
    *,
    weight: OffsetWeight | None = None,
    spacing: int = 16,
) -> tuple[BrickVolume, ExtractionCounts]:
    """The samples near the surface of a frame, found by values and bounds on their slope.

    A coarse lattice is refined where the surface may be; a cell is left out when what is known at its corners
    keeps the surface out of it. Wherever an evaluated sample contradicts the sign that a neighbour was given,
    the neighbour is evaluated too, until nothing contradicts.

    Args:
        field: the packed field.
        axes: sample positions along x, y, z.
        biases: per deformation layer (1, out); None: the canonical field.
        bounds: of the canonical field and this frame's deformation.
        weight: spatial weight of the offset.
        spacing: samples between those of the coarse lattice; a power of two, at least 8.
    """
    volume, counts = load().field_band(
        field.core,
        as_axes(axes),
        field.frame_biases(biases),
        smoothing=None if weight is None else weight.packed(),
        bounds=bounds.packed(),
        spacing=spacing,
    )
    return BrickVolume(volume, axes), ExtractionCounts(**counts)


def guided(
    field: Packed,
    axes: Sequence[Float32],
    biases: Sequence[Tensor],
    cache: CanonicalCache,
    bounds: SlopeBounds,
    *,
    weight: OffsetWeight | None = None,
    exact: bool = False,
    tolerance: float = 0.0,
    cache_tolerance: float = 0.0,
    spacing: int = 8,
) -> tuple[BrickVolume, ExtractionCounts]:
    """The samples near the surface of a frame, found from the canonical cache.

    Args:
        field: the packed field; its deformation has three outputs.
        axes: sample positions along x, y, z, evenly spaced.
        biases: per deformation layer (1, out).
        cache: of the canonical field.
        bounds: of the canonical field and this frame's deformation.
        weight: spatial weight of the offset.
        exact: evaluate both networks where a sign is in doubt and at the corners of every cell that the
            surface cuts; otherwise take the cache's values.
        tolerance: error of the interpolated offset that is accepted, head units; 0: the network's offsets.
        cache_tolerance: error of a cached value that is accepted, head units; where a brick's is larger, the
            networks are asked.
        spacing: samples between nodes of the coarse lattice of offsets; a power of two, at least 4.
    """
    volume, counts = load().field_guided(
        field.core,
        as_axes(axes),
        field.frame_biases(biases),
        smoothing=None if weight is None else weight.packed(),
        bounds=bounds.packed(),
        cache=cache._core,
        exact=exact,
        tolerance=tolerance,
        cache_tolerance=cache_tolerance,
        spacing=spacing,
    )
    return BrickVolume(volume, axes), ExtractionCounts(**counts)
