"""What a bound field asks of its kernels, on whichever device they run.

`facetalk.ops.field.cpu.PackedField` and `facetalk.ops.cuda.field.CudaField` have these verbs. Whoever queries
a field, learns an identity, finds surfaces or tracks a mesh works with them alone and does not ask which of
the two it has.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from facetalk.arrays import Bool, Float32
from facetalk.ops._extension import load
from facetalk.ops.field.bounds import SlopeBounds
from facetalk.ops.field.source import OffsetWeight

Box = Sequence[Sequence[float]]
"""((x0, y0, z0), (x1, y1, z1)): the ends of a lattice, head space."""


@dataclasses.dataclass(frozen=True)
class Constants:
    """Sizes and knobs of the search for surfaces, as they were compiled into the core.

    Attributes:
        brick: samples of a stored brick along an axis.
        cache_cells: cells of a brick of the canonical cache along an axis.
        cache_nodes: samples of it, which cubic interpolation reads: one before and two behind a cell.
        cache_children: finer bricks that take the place of a rough one.
        longest_margin: factor over the longest offset seen on the first nodes.
        first_stride: nodes between those.
        least_share: of the coarsest lattice of offsets, the spacing of the finest one.
        finest_spacing: samples between nodes of a lattice of offsets, at least.
    """

    brick: int
    cache_cells: int
    cache_nodes: int
    cache_children: int
    longest_margin: float
    first_stride: int
    least_share: int
    finest_spacing: int


@functools.cache
def constants() -> Constants:
    """Asks the core."""
    return Constants(**load().surface_constants())


@dataclasses.dataclass(frozen=True)
class ExtractionCounts:
    """What a frame took.

    Attributes:
        deformed: points that went through the deformation network.
        evaluated: points that went through the ensemble of the identity.
        uncertified: cells whose sign rests on a bound that evaluated samples contradict; 0: the mesh has the
            cells of the dense one as far as the bounds hold.
        steepest: largest slope seen between evaluated neighbours, as a fraction of its bound (bands only).
        bricks: bricks guessed sample by sample (guided only).
        direct: of these, where no lattice of offsets was good enough (guided only).
        lost: samples without a root (forward deformations by the posed field only).
    """

    deformed: int = 0
    evaluated: int = 0
    uncertified: int = 0
    steepest: float = 0.0
    bricks: int = 0
    direct: int = 0
    lost: int = 0


@dataclasses.dataclass(frozen=True)
class FrameMesh:
    """One frame's surface, NumPy arrays or tensors on the kernels' CUDA device.

    Attributes:
        vertices: (V, 3) float32, head space.
        faces: (F, 3) int32.
        counts: what it took; None where every sample was evaluated.
    """

    vertices: Any
    faces: Any
    counts: ExtractionCounts | None = None


class FieldCache(Protocol):
    """A canonical signed distance on a sparse lattice, where its kernels look it up."""

    @property
    def bytes(self) -> int:
        """Memory held."""

    def look_up(self, points: Float32) -> tuple[Float32, Bool, Float32, Float32]:
        """At points (N, 3), each (N,): values, whether cached, signed least distances, error bounds."""


class FieldKernels(Protocol):
    """A head field in the form of one device's kernels.

    Biases are per deformation layer (T, out), one row per frame, or None for the canonical field. Boxes are
    the ends of the axes before they were rounded to float32.
    """

    @property
    def device(self) -> torch.device:
        """Where the field is evaluated."""

    @property
    def deforms(self) -> bool:
        """Whether there is a deformation."""

    @property
    def coords(self) -> int:
        """Coordinates of the canonical field: 3, and hyper-coordinates."""

    @property
    def bounded_bands(self) -> bool:
        """Whether bands are found by bounds on the slope, and cost more where a deformation stretches."""

    @property
    def bake_price(self) -> float:
        """Price of a point of the cache, in points of a frame."""

    # Arrays ---------------------------------------------------------------------------------------------

    def put(self, array: Any, name: str) -> Any:
        """An array of floats as these kernels take it; the name is for messages."""

    def mesh_array(self, array: Tensor) -> Any:
        """A tensor as meshes of these kernels are made of: NumPy's, or a tensor on their CUDA device."""

    # Values ---------------------------------------------------------------------------------------------

    def query(
        self,
        points: object,
        biases: Sequence[Tensor] | None = None,
        *,
        weight: OffsetWeight | None = None,
        outputs: Sequence[str] = ("sdf",),
    ) -> dict[str, Tensor]:
        """See :meth:`facetalk.ops.field.cpu.PackedField.query`."""

    def query_float32(
        self,
        points: Tensor,
        biases: Sequence[Tensor] | None = None,
        *,
        weight: OffsetWeight | None = None,
        outputs: Sequence[str] = ("sdf",),
    ) -> dict[str, Tensor]:
        """The same in float32, whatever the precision of frames, at points in the CPU's memory.

        Answers stay on the device. What is learned of an identity is learned so: a cache of rounded values
        would be taken for a rough one.
        """

    def grid(
        self,
        axes: Sequence[Any],
        biases: Sequence[Tensor] | None = None,
        *,
        weight: OffsetWeight | None = None,
    ) -> Tensor:
        """See :meth:`facetalk.ops.field.cpu.PackedField.grid`."""

    def invert(
        self,
        targets: object,
        biases: Sequence[Tensor],
        *,
        starts: object = None,
        weight: OffsetWeight | None = None,
        tolerance: float = 1e-6,
        iterations: int = 30,
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`facetalk.ops.field.cpu.PackedField.invert`."""

    # Learning an identity -------------------------------------------------------------------------------

    def inside(self, axes: Sequence[Float32], bounds: SlopeBounds) -> tuple[Bool, int]:
        """Where a lattice's samples (nx, ny, nz) are inside the canonical surface; how many were asked."""

    def make_cache(self, **arrays: Any) -> FieldCache:
        """A cache for these kernels; the arrays are `facetalk.ops.field.surface.CanonicalCache`'s."""

    # Finding surfaces -----------------------------------------------------------------------------------

    def frames_together(self, points: int, *, exact: bool) -> int:
        """How many frames of so many samples go through together; `exact`: all samples are stored."""

    def volume_meshes(self, volumes: Tensor, box: Box) -> list[FrameMesh]:
        """Surfaces at level 0 of volumes (T, nx, ny, nz) on the device."""

    def dense_meshes(
        self,
        axes: Sequence[Float32],
        box: Box,
        biases: Sequence[Tensor] | None,
        *,
        weight: OffsetWeight | None = None,
    ) -> list[FrameMesh]:
        """Surfaces of all frames from every sample of the lattice."""

    def band_meshes(
        self,
        axes: Sequence[Float32],
        box: Box,
        biases: Sequence[Tensor] | None,
        bounds: SlopeBounds | None,
        *,
        weight: OffsetWeight | None = None,
    ) -> list[FrameMesh]:
        """The same from the samples near them; `bounds` where `bounded_bands`, else None."""

    def guided_meshes(
        self,
        axes: Sequence[Float32],
        box: Box,
        biases: Sequence[Tensor],
        cache: FieldCache,
        bounds: SlopeBounds,
        *,
        weight: OffsetWeight | None = None,
        exact: bool = False,
        tolerance: float = 0.0,
        cache_tolerance: float = 0.0,
        spacing: int = 8,
    ) -> list[FrameMesh]:
        """The same from one of their caches; see :func:`facetalk.ops.field.surface.guided`."""


def place(box: Box, shape: Sequence[int]) -> tuple[list[float], list[float]]:
    """Where a lattice's first sample lies, and the distances between samples, along x, y, z."""
    low, high = np.asarray(box, dtype=np.float64)
    return low.tolist(), ((high - low) / (np.array(shape) - 1)).tolist()


def power_of_two(value: float, least: int) -> int:
    """The nearest power of two on a logarithmic scale, at least `least`."""
    return max(least, 2 ** round(float(np.log2(max(value, 1.0)))))
