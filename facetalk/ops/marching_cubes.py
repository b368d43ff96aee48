"""Isosurface extraction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np

from facetalk.ops._arrays import Array, as_array, contiguous, describe, give_back
from facetalk.ops._extension import load

Bounds = Sequence[Sequence[float]]
"""((x0, y0, z0), (x1, y1, z1)): positions of the first and the last sample."""


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
        also normals (V, 3) float32. Torch tensors if `volume` is one, else NumPy arrays. A field that is
        inside or outside everywhere gives empty arrays.

    Raises:
        TypeError: if `volume` is not an array of float32 or float64 on the CPU.
        ValueError: for a wrong shape, level or bounds; for samples that are NaN or infinite (says how many
            and where the first is); for a surface of 2**31 vertices or faces or more.
    """
    array = as_array(volume, "volume")
    if array.ndim != 3 or min(array.shape) < 2:
        raise ValueError(
            f"volume: expected shape (nx, ny, nz) of at least 2 samples each, got {describe(array)}"
        )
    samples = contiguous(array, "volume", "float32", convert=("float64",))
    if not isinstance(level, (int, float, np.number)) or not math.isfinite(float(level)):
        raise ValueError(f"level: expected a finite number, got {level!r}")
    if abs(float(level)) > float(np.finfo(np.float32).max):
        raise ValueError(f"level: expected a number that float32 can hold, got {level!r}")
    origin, step = _frame(bounds, tuple(array.shape))
    vertices, faces, directions = load().marching_cubes(samples, float(level), origin, step, bool(normals))
    results = (vertices, faces, directions) if normals else (vertices, faces)
    return tuple(give_back(result, array) for result in results)


def _frame(bounds: Bounds | None, shape: tuple[int, ...]) -> tuple[list[float], list[float]]:
    if bounds is None:
        return [0.0] * 3, [1.0] * 3
    try:
        ends = np.asarray(bounds, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"bounds: expected ((x0, y0, z0), (x1, y1, z1)), got {bounds!r}") from error
    if ends.shape != (2, 3) or not np.isfinite(ends).all() or not (ends[0] < ends[1]).all():
        raise ValueError(
            f"bounds: expected ((x0, y0, z0), (x1, y1, z1)), finite, growing along each axis, got {bounds!r}"
        )
    return ends[0].tolist(), ((ends[1] - ends[0]) / (np.asarray(shape) - 1)).tolist()
