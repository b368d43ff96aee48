"""Surfaces on a CUDA device: the frames of a chunk in one set of launches, from codes to meshes there.

The short cuts are the CPU's (see :mod:`facetalk.nphm.surface.cpu`), by the same rules, but for two:

* A band is found by the field's values at corners of blocks, without bounds on its slope (see
  :meth:`facetalk.ops.cuda.field.CudaField.bricks`).
* No frame starts from the one before: those of a chunk are found at the same time. `coherence` changes
  nothing.

Points, offsets, samples and lists of a frame never leave the device; the host waits for counts. What it sees
beside them is the identity, once, while the cache is baked, and, once a call, how much the deformation
stretches at a few hundred of its points.

The networks run in the precision that the field was bound with. Rounding to 16 bit is in no tolerance: there
`tolerance_mm` is the distance to the dense mesh of the same rounded networks, but for cached values, which
are baked in float32.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facetalk.mesh.mesh import Mesh
from facetalk.nphm.surface.cpu import ExtractionInfo, ExtractionOptions, Surface, cached_info
from facetalk.nphm.surface.plan import Guide, Plan
from facetalk.ops.cuda import marching_cubes as cuda_marching_cubes
from facetalk.ops.cuda.canonical_cache import CudaCanonicalCache
from facetalk.ops.cuda.field import CudaField
from facetalk.ops.cuda.surface_band import FieldBricks
from facetalk.ops.cuda.surface_guided import guided
from facetalk.ops.field.surface import ExtractionCounts
from facetalk.ops.normals import vertex_normals

if TYPE_CHECKING:
    from facetalk.nphm.field import Field
    from facetalk.nphm.lattice import Bounds

CHUNK_FRAMES = 32
CHUNK_SAMPLES = 32 * 256**3
"""Samples of the lattices of a chunk. Of 2 GB only the bricks near the surface are stored."""
CHUNK_DENSE = 8 * 256**3
"""The same where every sample is stored."""
BAKE_PRICE = 30.0
"""Of a point of the cache, in points of a frame: it is computed in float32, not in 16 bit on tensor cores,
and sorted by the CPU. Assumed, not measured: it makes `cache=None` bake from about 90 frames of 256^3."""


def surfaces(
    field: Field,
    biases: Sequence[Tensor] | None,
    axes: Sequence[NDArray[np.float32]],
    bounds: Bounds,
    options: ExtractionOptions,
) -> Iterator[Surface]:
    """The surface of every frame, as tensors on the device of the field.

    Args:
        field: a head bound on a CUDA device.
        biases: per deformation layer (T, out), or None for the canonical field.
        axes: sample positions along x, y, z.
        bounds: their ends.
        options: what may be used; `coherence` is not.

    Yields:
        surfaces; the counts of a band are the mean of its chunk.
    """
    kernels = field.kernels
    assert isinstance(kernels, CudaField)
    plan = Plan(field, biases, axes, bounds, options, bake_price=BAKE_PRICE, bounded_bands=False)
    origin, step = np.asarray(bounds, dtype=np.float64)[0].tolist(), plan.edges.tolist()
    guide = None if options.exact else plan.guide
    together = chunk_frames(plan.points, options.exact)
    for first in range(0, plan.frames, together):
        part = None if biases is None else [bias[first : first + together] for bias in biases]
        count = min(together, plan.frames - first)
        if options.exact:
            volumes = kernels.grid(axes, part, weight=field.weight)
            infos = [ExtractionInfo("dense", plan.points)] * count
            found = cuda_marching_cubes.extract(volumes, 0.0, origin, step, False)
        else:
            if guide is None:
                bricks = kernels.bricks(axes, part, weight=field.weight)
                asked = round(bricks.evaluated / count)
                counts = ExtractionCounts(deformed=0 if part is None else asked, evaluated=asked)
                infos = [ExtractionInfo("band", plan.points, counts)] * count
            else:
                assert part is not None
                bricks, each = _guided(field, axes, part, guide)
                infos = [cached_info(plan, guide, options, counts) for counts in each]
            found = cuda_marching_cubes.extract_bricks(
                bricks.samples, bricks.table, bricks.shape, 0.0, origin, step
            )
        vertices, faces, _, starts = found
        for ((v0, f0), (v1, f1)), info in zip(itertools.pairwise(starts), infos, strict=True):
            yield Surface(vertices[v0:v1], faces[f0:f1], info)


def _guided(
    field: Field, axes: Sequence[NDArray[np.float32]], part: Sequence[Tensor], guide: Guide
) -> tuple[FieldBricks, list[ExtractionCounts]]:
    kernels, lattice = field.kernels, guide.baked.lattice
    assert isinstance(kernels, CudaField) and isinstance(lattice, CudaCanonicalCache)
    return guided(
        kernels, axes, part, lattice, guide.bounds, weight=field.weight, exact=guide.exact,
        tolerance=guide.tolerance, cache_tolerance=guide.cache_tolerance, spacing=guide.spacing,
    )  # fmt: skip


def chunk_frames(points: int, exact: bool) -> int:
    """How many frames of so many samples go through the device together."""
    return max(1, min(CHUNK_FRAMES, (CHUNK_DENSE if exact else CHUNK_SAMPLES) // points))


def mesh_of(surface: Surface, scale: np.float32) -> Mesh:
    """A surface, wherever it lies, as a mesh in the CPU's memory; `scale` is metres per head unit, or 1."""
    vertices: Any = surface.vertices
    if not isinstance(vertices, Tensor):
        return Mesh(vertices * scale, surface.faces)
    scaled = vertices * float(scale)
    normals = vertex_normals(scaled, surface.faces)  # the CPU's bits, made before the copy
    return Mesh(scaled.cpu().numpy(), surface.faces.cpu().numpy(), normals.cpu().numpy())
