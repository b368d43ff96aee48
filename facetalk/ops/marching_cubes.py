"""Isosurface extraction, on the CPU and on CUDA devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from facetalk.ops._arrays import Array, as_array, contiguous, describe, give_back, is_cupy, is_tensor
from facetalk.ops._extension import load
from facetalk.ops._samples import Bounds, finite_level, frame
from facetalk.optional import needed_for

if TYPE_CHECKING:
    from torch import Tensor


@overload
def marching_cubes(
    volume: Array, level: float = ..., *, bounds: Bounds | None = ..., normals: Literal[False] = ...
) -> tuple[Any, Any]: ...
@overload
def marching_cubes(
    volume: Array, level: float = ..., *, bounds: Bounds | None = ..., normals: Literal[True]
) -> tuple[Any, Any, Any]: ...
def marching_cubes(
    volume: Array, level: float = 0.0, *, bounds: Bounds | None = None, normals: bool = False
) -> tuple[Any, ...]:
    """Extract the surface on which a sampled field has a given value.

    The mesh is closed and manifold wherever the surface does not leave the grid, for every input. Faces of a
    cell whose corner signs alternate are cut as the asymptotic decider says (Nielson and Hamann, IEEE
    Visualization 1991); the few loops that no triangulation inside the cell could close without touching a
    neighbour's edge get a vertex inside the cell, as in Chernyaev's Marching Cubes 33 (CERN CN/95-17, 1995).
    A sample at the level counts as outside. The result does not depend on the number of threads.

    Args:
        volume: (nx, ny, nz) float32 samples, each size at least 2; float64 is converted. Negative (below the
            level) is inside.
        level: the value on the surface.
        bounds: positions of samples (0, 0, 0) and (nx - 1, ny - 1, nz - 1); None means index coordinates.
        normals: also give unit normals, from central differences of the samples, interpolated along the cut
            edges; they point towards growing values, that is outward.

    Returns:
        vertices (V, 3) float32 and faces (F, 3) int32, counter-clockwise seen from outside; with `normals`
        also normals (V, 3) float32. Of the kind that `volume` is: torch tensors or CuPy arrays on its device,
        else NumPy arrays. A field that is inside or outside everywhere gives empty arrays. CUDA devices give
        the mesh of the CPU, vertex by vertex; the call waits for the device once, to learn the sizes.

    Raises:
        TypeError: if `volume` is not an array of float32 or float64, or lives on a device that this build or
            this machine cannot use; the message says why.
        ValueError: for a wrong shape, level or bounds; for samples that are NaN or infinite (says how many
            and where the first is); for a surface of 2**31 vertices or faces or more.
    """
    if is_tensor(volume) or is_cupy(volume):
        with needed_for("an operation on CuPy arrays"):  # tensors have it with them
            from facetalk.ops.torch_ops import marching_cubes as of_tensors
        return of_tensors.marching_cubes(volume, level, bounds, bool(normals))
    array = as_array(volume, "volume")
    if array.ndim != 3 or min(array.shape) < 2:
        raise ValueError(
            f"volume: expected shape (nx, ny, nz) of at least 2 samples each, got {describe(array)}"
        )
    samples = contiguous(array, "volume", "float32", convert=("float64",))
    origin, step = frame(bounds, tuple(array.shape))
    vertices, faces, directions = load().marching_cubes(
        samples, finite_level(level), origin, step, bool(normals)
    )
    results = (vertices, faces, directions) if normals else (vertices, faces)
    return tuple(give_back(result, array) for result in results)


def marching_cubes_frames(
    volumes: Tensor, level: float = 0.0, *, bounds: Bounds | None = None, normals: bool = False
) -> list[tuple[Tensor, ...]]:
    """Extract the surface of each frame; on a CUDA device all of them in one set of launches.

    Args:
        volumes: (T, nx, ny, nz) torch tensor, otherwise as in `marching_cubes`.
        level: as in `marching_cubes`.
        bounds: as in `marching_cubes`, of every frame.
        normals: as in `marching_cubes`.

    Returns:
        for each frame what `marching_cubes` gives for it: (vertices, faces) or (vertices, faces, normals).
        The tensors of one call share their memory.

    Raises:
        TypeError: as `marching_cubes`.
        ValueError: as `marching_cubes`.
    """
    if not is_tensor(volumes):
        as_array(volumes, "volumes")  # which has more to say of what is no array at all
        raise TypeError(f"volumes: expected a torch tensor, got {type(volumes).__name__}")
    from facetalk.ops.torch_ops import marching_cubes as of_tensors

    return of_tensors.marching_cubes_frames(volumes, level, bounds, bool(normals))
