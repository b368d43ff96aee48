"""Isosurface extraction of torch tensors, on the CPU and on CUDA devices, traced too."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.utils.dlpack
from torch import Tensor

from facetalk.ops._arrays import as_array, contiguous, describe, give_back, is_cupy
from facetalk.ops._extension import load
from facetalk.ops._samples import Bounds, finite_level, frame
from facetalk.ops.cuda import marching_cubes as cuda_marching_cubes


def marching_cubes(volume: Any, level: float, bounds: Bounds | None, normals: bool) -> tuple[Any, ...]:
    """:func:`facetalk.ops.marching_cubes` of a tensor or a CuPy array."""
    if is_cupy(volume):
        # Torch shares the memory; each side waits for the other's stream, not the host.
        shared = torch.utils.dlpack.from_dlpack(volume)
        found = marching_cubes(shared, level, bounds, normals)
        return tuple(sys.modules["cupy"].from_dlpack(result) for result in found)
    array = _array(volume, "volume")
    if array.ndim != 3 or min(array.shape) < 2:
        raise ValueError(
            f"volume: expected shape (nx, ny, nz) of at least 2 samples each, got {describe(array)}"
        )
    samples: Any = contiguous(array, "volume", "float32", convert=("float64",))
    level = finite_level(level)
    origin, step = frame(bounds, tuple(array.shape))
    if samples.is_cuda or _is_traced(samples):
        vertices, faces, directions, _ = _surfaces(samples[None], level, origin, step, normals)
        return (vertices, faces, directions) if normals else (vertices, faces)
    vertices, faces, directions = load().marching_cubes(samples, level, origin, step, normals)
    results = (vertices, faces, directions) if normals else (vertices, faces)
    return tuple(give_back(result, array) for result in results)


def marching_cubes_frames(
    volumes: Tensor, level: float, bounds: Bounds | None, normals: bool
) -> list[tuple[Tensor, ...]]:
    """:func:`facetalk.ops.marching_cubes_frames`."""
    array = _array(volumes, "volumes")
    if array.ndim != 4 or min(array.shape[1:]) < 2 or len(array) == 0:
        raise ValueError(
            f"volumes: expected shape (T, nx, ny, nz) of at least 2 samples each, got {describe(array)}"
        )
    samples: Any = contiguous(array, "volumes", "float32", convert=("float64",))
    origin, step = frame(bounds, tuple(array.shape[1:]))
    vertices, faces, directions, starts = _surfaces(samples, finite_level(level), origin, step, normals)
    frames: list[tuple[Tensor, ...]] = []
    for (v0, f0), (v1, f1) in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        mesh = (vertices[v0:v1], faces[f0:f1])
        frames.append((*mesh, directions[v0:v1]) if normals else mesh)
    return frames


def _array(volume: Tensor, name: str) -> Any:
    if volume.is_cuda and volume.layout == torch.strided:
        return volume.detach()
    return as_array(volume, name)


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
