"""Surfaces on a CUDA device: the frames of a chunk in one set of launches, from codes to meshes there.

Samples away from the surface are left out by the field's values at corners of blocks (see
:meth:`facetalk.ops.field_cuda.CudaField.bricks`); with `exact` none is. Caches, coarse offsets and what is
known of the frame before are short cuts of the CPU: these options change nothing here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facetalk.mesh.mesh import Mesh
from facetalk.nphm.extraction import ExtractionInfo, ExtractionOptions, Surface
from facetalk.ops import _cuda_marching_cubes
from facetalk.ops.extraction import ExtractionCounts
from facetalk.ops.field_cuda import CudaField
from facetalk.ops.normals import vertex_normals

if TYPE_CHECKING:
    from facetalk.nphm.field import Field
    from facetalk.nphm.lattice import Bounds

CHUNK_FRAMES = 32
CHUNK_SAMPLES = 32 * 256**3
"""Samples of the lattices of a chunk. Of 2 GB only the bricks near the surface are stored."""
CHUNK_DENSE = 8 * 256**3
"""The same where every sample is stored."""


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
        options: `exact` counts alone.

    Yields:
        surfaces; the counts of one are the mean of its chunk.
    """
    kernels = field.kernels
    assert isinstance(kernels, CudaField)
    sizes = [len(axis) for axis in axes]
    points = int(np.prod(sizes))
    ends = np.asarray(bounds, dtype=np.float64)
    origin, step = ends[0].tolist(), ((ends[1] - ends[0]) / (np.array(sizes) - 1)).tolist()
    frames = 1 if biases is None else len(biases[0])
    together = chunk_frames(points, options.exact)
    for first in range(0, frames, together):
        part = None if biases is None else [bias[first : first + together] for bias in biases]
        count = min(together, frames - first)
        info = ExtractionInfo("dense", points)
        if options.exact:
            volumes = kernels.grid(axes, part, weight=field.weight)
            found = _cuda_marching_cubes.extract(volumes, 0.0, origin, step, False)
        else:
            bricks = kernels.bricks(axes, part, weight=field.weight)
            found = _cuda_marching_cubes.extract_bricks(
                bricks.samples, bricks.table, bricks.shape, 0.0, origin, step
            )
            asked = round(bricks.evaluated / count)
            counts = ExtractionCounts(deformed=0 if part is None else asked, evaluated=asked)
            info = ExtractionInfo("band", points, counts)
        vertices, faces, _, starts = found
        for (v0, f0), (v1, f1) in itertools.pairwise(starts):
            yield Surface(vertices[v0:v1], faces[f0:f1], info)


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
