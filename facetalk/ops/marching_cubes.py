"""Isosurface extraction, on the CPU and on CUDA devices."""

import math
import sys
from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
import torch
import torch.utils.dlpack
from torch import Tensor

from facetalk.ops._arrays import Array, as_array, contiguous, describe, give_back
from facetalk.ops._extension import load
from facetalk.ops.cuda import marching_cubes as cuda_marching_cubes

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
        also normals (V, 3) float32. Of the kind that `volume` is: torch tensors or CuPy arrays on its device,
        else NumPy arrays. A field that is inside or outside everywhere gives empty arrays. CUDA devices give
        the mesh of the CPU, vertex by vertex; the call waits for the device once, to learn the sizes.

    Raises:
        TypeError: if `volume` is not an array of float32 or float64, or lives on a device that this build or
            this machine cannot use; the message says why.
        ValueError: for a wrong shape, level or bounds; for samples that are NaN or infinite (says how many
            and where the first is); for a surface of 2**31 vertices or faces or more.
    """
    if type(volume).__module__.partition(".")[0] == "cupy":
        # Torch shares the memory; each side waits for the other's stream, not the host.
        shared = torch.utils.dlpack.from_dlpack(volume)  # type: ignore[arg-type]
        found = marching_cubes(shared, level, bounds=bounds, normals=bool(normals))  # type: ignore[call-overload]
        return tuple(sys.modules["cupy"].from_dlpack(result) for result in found)
    array = _array(volume)
    if array.ndim != 3 or min(array.shape) < 2:
        raise ValueError(
            f"volume: expected shape (nx, ny, nz) of at least 2 samples each, got {describe(array)}"
        )
    samples = contiguous(array, "volume", "float32", convert=("float64",))
    level = _level(level)
    origin, step = _frame(bounds, tuple(array.shape))
    if isinstance(samples, Tensor) and (samples.is_cuda or _is_traced(samples)):
        vertices, faces, directions, _ = _surfaces(samples[None], level, origin, step, bool(normals))
        return (vertices, faces, directions) if normals else (vertices, faces)
    vertices, faces, directions = load().marching_cubes(samples, level, origin, step, bool(normals))
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
    array = _array(volumes, "volumes")
    if not isinstance(array, Tensor):
        raise TypeError(f"volumes: expected a torch tensor, got {type(volumes).__name__}")
    if array.ndim != 4 or min(array.shape[1:]) < 2 or len(array) == 0:
        raise ValueError(
            f"volumes: expected shape (T, nx, ny, nz) of at least 2 samples each, got {describe(array)}"
        )
    samples: Any = contiguous(array, "volumes", "float32", convert=("float64",))
    origin, step = _frame(bounds, tuple(array.shape[1:]))
    vertices, faces, directions, starts = _surfaces(samples, _level(level), origin, step, bool(normals))
    frames: list[tuple[Tensor, ...]] = []
    for (v0, f0), (v1, f1) in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        mesh = (vertices[v0:v1], faces[f0:f1])
        frames.append((*mesh, directions[v0:v1]) if normals else mesh)
    return frames


def _array(volume: Any, name: str = "volume") -> Array:
    if isinstance(volume, Tensor) and volume.is_cuda and volume.layout == torch.strided:
        return volume.detach()
    return as_array(volume, name)


def _level(level: Any) -> float:
    real = isinstance(level, (int, float, np.number)) and not isinstance(level, np.complexfloating)
    # Integers of any size compare with infinity, where a conversion would overflow.
    if not real or not -math.inf < level < math.inf:
        raise ValueError(f"level: expected a finite number, got {level!r}")
    if not abs(level) <= float(np.finfo(np.float32).max):
        raise ValueError(f"level: expected a number that float32 can hold, got {level!r}")
    return float(level)


def _is_traced(samples: Tensor) -> bool:
    return torch.compiler.is_compiling() or type(samples) is not Tensor


def _surfaces(
    volumes: Tensor, level: float, origin: list[float], step: list[float], normals: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # The operator is for tracing; plain tensors go past the dispatcher, whose first call of a Python operator
    # imports torch's compiler, which takes seconds.
    surfaces = _operator if _is_traced(volumes) else _on_device
    return surfaces(volumes, level, origin, step, normals)


def _on_device(
    volumes: Tensor, level: float, origin: list[float], step: list[float], normals: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(vertices, faces, normals or nothing, starts (T + 1, 2) int64 on the CPU) of all frames."""
    if volumes.is_cuda:
        vertices, faces, directions, starts = cuda_marching_cubes.extract(
            volumes.contiguous(), level, origin, step, normals
        )
        empty = vertices.new_empty((0, 3))
        return vertices, faces, empty if directions is None else directions, torch.tensor(starts)
    frames = [load().marching_cubes(volume, level, origin, step, normals) for volume in volumes.contiguous()]
    parts = [[give_back(part, volumes) for part in frame if part is not None] for frame in frames]
    sizes = torch.tensor([[0, 0], *([len(part[0]), len(part[1])] for part in parts)])
    whole = [torch.cat(pieces) for pieces in zip(*parts, strict=True)]
    return whole[0], whole[1], whole[2] if normals else whole[0].new_empty((0, 3)), sizes.cumsum(0)


@torch.library.custom_op("facetalk::marching_cubes", mutates_args=())
def _operator(
    volumes: Tensor, level: float, origin: list[float], step: list[float], normals: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _on_device(volumes, level, origin, step, normals)


@_operator.register_fake
def _(
    volumes: Tensor, level: float, origin: list[float], step: list[float], normals: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    sizes = torch.library.get_ctx()
    vertex_count, face_count = sizes.new_dynamic_size(), sizes.new_dynamic_size()
    return (
        volumes.new_empty((vertex_count, 3)),
        volumes.new_empty((face_count, 3), dtype=torch.int32),
        volumes.new_empty((vertex_count if normals else 0, 3)),
        volumes.new_empty((volumes.shape[0] + 1, 2), dtype=torch.int64, device="cpu"),
    )


def _frame(bounds: Bounds | None, shape: tuple[int, ...]) -> tuple[list[float], list[float]]:
    if bounds is None:
        return [0.0] * 3, [1.0] * 3
    try:
        ends = np.asarray(bounds, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"bounds: expected ((x0, y0, z0), (x1, y1, z1)), got {bounds!r}") from error
    if ends.shape != (2, 3) or not np.isfinite(ends).all() or not (ends[0] < ends[1]).all():
        raise ValueError(
            f"bounds: expected ((x0, y0, z0), (x1, y1, z1)), finite, growing along each axis, got {bounds!r}"
        )
    # Vertices are float32. Each end fits float64, but their difference need not.
    float32 = np.finfo(np.float32)
    if (np.abs(ends) > float32.max).any() or not (ends[1] - ends[0] >= float32.tiny).all():
        raise ValueError(
            f"bounds: expected ends that float32 can hold, at least {float32.tiny:.3g} apart, got {bounds!r}"
        )
    return ends[0].tolist(), ((ends[1] - ends[0]) / (np.asarray(shape) - 1)).tolist()
