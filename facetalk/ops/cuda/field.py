"""Bound neural head fields on the GPU: the verbs of `facetalk.ops.field.cpu.PackedField`, by csrc/cuda.

Weights are repacked once per identity and precision and stay on the device; a call allocates its workspace
from torch's own allocator and runs on the current stream of the device. Points, frames and results stay on
the device; only `bricks` and `invert` wait for counts.

Guarantees: a point's result does not depend on the other points of the call or on how they are grouped, and
is the same at every call. `precision` says what hidden units and weights are rounded to between layers; sums,
coordinates, biases and blending are always float32, and so is everything where derivatives are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from facetalk.arrays import Bool, Float32
from facetalk.ops._device import floats_on
from facetalk.ops.cuda.canonical_cache import CudaCanonicalCache
from facetalk.ops.cuda.field_query import FieldQueries
from facetalk.ops.cuda.surface_band import FieldBricks, find_bricks
from facetalk.ops.cuda.surface_guided import GuidedSearch
from facetalk.ops.cuda.surface_mesh import brick_meshes, dense_meshes
from facetalk.ops.field.bounds import SlopeBounds
from facetalk.ops.field.kernels import Box, ExtractionCounts, FieldCache, FrameMesh
from facetalk.ops.field.source import OffsetWeight

CHUNK_FRAMES = 32
CHUNK_SAMPLES = 32 * 256**3
"""Samples of the lattices of a chunk. Of 2 GB only the bricks near the surface are stored."""
CHUNK_DENSE = 8 * 256**3
"""The same where every sample is stored."""


class CudaField(FieldQueries):
    """A head field in the GPU kernels' form. See the module's guarantees.

    Args:
        source: the folded head, on any device; see :class:`facetalk.ops.field.cpu.FieldSource`.
        cull: fraction of the nearest anchor's blending weight below which a member is left out at a point.
            None: 1e-7 where members are computed in float32, and 1e-4 in 16 bit, whose rounding is far more.
        precision: of hidden units and weights: "float32" (plain multiply-adds), "float16" or "bfloat16"
            (tensor cores). 16 bit takes networks of up to 512 hidden units; float16 overflows where a hidden
            unit exceeds 454.
        path: how the deformation's products are made. "portable": warps' tensor-core instructions, on every
            GPU. "hopper": warpgroups', on compute capability 9.0, in 16 bit, where the core was built for
            architecture 90a. "auto": the latter where it can be had.
        device: a CUDA device.

    Raises:
        RuntimeError: the core was built without CUDA, or a launch failed (the message names the kernel).
        ValueError: shapes that do not fit, a network too wide for the device; a path that cannot be had;
            numbers that are not finite.
    """

    bounded_bands = False
    bake_price = 30.0
    """A point of the cache is computed in float32, not in 16 bit on tensor cores, and sorted by the CPU.
    Assumed, not measured: it makes `cache=None` bake from about 90 frames of 256^3."""

    # Samples near the surface ---------------------------------------------------------------------------

    def bricks(
        self,
        axes: Sequence[Any],
        biases: Sequence[Tensor] | None = None,
        *,
        weight: OffsetWeight | None = None,
        lipschitz: float = 1.5,
    ) -> FieldBricks:
        """Signed distances near the surface of every frame, in bricks of 8 x 8 x 8 samples.

        Samples are left out, in blocks of 8^3, 4^3 and then 2^3, where the field at a block's corners
        agrees in sign and what is free of surface around them, by the slope measured there or at most
        `lipschitz`, covers the block; what contradicts a sign is evaluated until nothing does. See
        csrc/cuda/surface/field_band.cuh.
        """
        with self._runner.guard():
            frames = self._runner.pack_frames(biases)
            made = self._axes(axes).tensors
            return find_bricks(self._runner, made, frames, weight, lipschitz, self._most_points)

    def guided(
        self,
        axes: Sequence[Any],
        biases: Sequence[Tensor],
        cache: CudaCanonicalCache,
        bounds: SlopeBounds,
        *,
        weight: OffsetWeight | None = None,
        exact: bool = False,
        tolerance: float = 0.0,
        cache_tolerance: float = 0.0,
        spacing: int = 8,
    ) -> tuple[FieldBricks, list[ExtractionCounts]]:
        """The samples near the surface of every frame, found from the canonical cache.

        The arguments are those of :func:`facetalk.ops.field.surface.guided`, but for any number of frames;
        bounds hold for all of them. The networks run in the field's precision: in 16 bit their offsets and
        values have its rounding, which is in no tolerance.

        Returns:
            the bricks, ready for marching cubes on the device, and what each frame took.

        Raises:
            ValueError: a field that deforms to more than three coordinates, or numbers that do not fit.
        """
        with self._runner.guard():
            frames, made = self._runner.pack_frames(biases), self._axes(axes)
            search = GuidedSearch(
                self._runner, made, frames, cache, bounds, weight, spacing, self._most_points
            )
            return search.run(exact, tolerance, cache_tolerance)

    # What `facetalk.ops.field.kernels.FieldKernels` has besides ------------------------------------------

    def put(self, array: Any, name: str) -> Tensor:
        """An array of floats, in the CPU's memory or on the device, as a tensor there."""
        return floats_on(self.device, array, name)

    def mesh_array(self, array: Tensor) -> Tensor:
        """The tensor on the device."""
        return array.to(self.device)

    def query_float32(
        self,
        points: Tensor,
        biases: Sequence[Tensor] | None = None,
        *,
        weight: OffsetWeight | None = None,
        outputs: Sequence[str] = ("sdf",),
    ) -> dict[str, Tensor]:
        """The same as `query` in float32, at points in the CPU's memory; answers stay on the device."""
        return self.in_float32().query(points.to(self.device), biases, weight=weight, outputs=outputs)

    def inside(self, axes: Sequence[Float32], bounds: SlopeBounds) -> tuple[Bool, int]:
        """Where samples are inside the canonical surface; `bricks` needs no bounds."""
        found = self.in_float32().bricks(axes)
        return (found.dense()[0] < 0).cpu().numpy(), found.evaluated

    def make_cache(self, **arrays: Any) -> CudaCanonicalCache:
        """A cache on the device."""
        return CudaCanonicalCache(**arrays, device=self.device)

    def frames_together(self, points: int, *, exact: bool) -> int:
        """As many as memory holds the samples of."""
        return max(1, min(CHUNK_FRAMES, (CHUNK_DENSE if exact else CHUNK_SAMPLES) // points))

    def volume_meshes(self, volumes: Tensor, box: Box) -> list[FrameMesh]:
        """Surfaces at level 0 of volumes (T, nx, ny, nz) on the device."""
        return dense_meshes(volumes, box)

    def dense_meshes(
        self,
        axes: Sequence[Float32],
        box: Box,
        biases: Sequence[Tensor] | None,
        *,
        weight: OffsetWeight | None = None,
    ) -> list[FrameMesh]:
        """Surfaces of all frames from every sample of the lattice."""
        return self.volume_meshes(self.grid(axes, biases, weight=weight), box)

    def band_meshes(
        self,
        axes: Sequence[Float32],
        box: Box,
        biases: Sequence[Tensor] | None,
        bounds: SlopeBounds | None,
        *,
        weight: OffsetWeight | None = None,
    ) -> list[FrameMesh]:
        """The same from `bricks`, without bounds; the counts of each frame are their mean."""
        bricks = self.bricks(axes, biases, weight=weight)
        count = len(bricks.table)
        asked = round(bricks.evaluated / max(1, count))
        counts = ExtractionCounts(deformed=0 if biases is None else asked, evaluated=asked)
        return brick_meshes(bricks, box, [counts] * count)

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
        """The same from a cache, see `guided`."""
        if not isinstance(cache, CudaCanonicalCache):
            raise TypeError(f"cache: expected one on {self.device}, got {type(cache).__name__}")
        bricks, counts = self.guided(
            axes, biases, cache, bounds, weight=weight, exact=exact, tolerance=tolerance,
            cache_tolerance=cache_tolerance, spacing=spacing,
        )  # fmt: skip
        return brick_meshes(bricks, box, counts)
