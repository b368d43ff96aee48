"""Vertex normals of torch tensors, on the CPU and on CUDA devices, traced too."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.utils.dlpack
from torch import Tensor

from facetalk.ops._arrays import Array, as_array, is_cupy
from facetalk.ops._triangles import check_shapes, compiled, frames_of
from facetalk.ops.cuda import normals as cuda_normals


def vertex_normals(vertices: Array, faces: Array) -> Any:
    """:func:`facetalk.ops.vertex_normals` where one of the two is a tensor or a CuPy array."""
    if is_cupy(vertices) or is_cupy(faces):
        # Torch shares the memory; each side waits for the other's stream, not the host.
        shared: list[Any] = [torch.utils.dlpack.from_dlpack(array) for array in (vertices, faces)]  # type: ignore[arg-type]
        return sys.modules["cupy"].from_dlpack(vertex_normals(*shared))
    points, triangles = _array(vertices, "vertices"), _array(faces, "faces")
    on = [array.device if isinstance(array, Tensor) else torch.device("cpu") for array in (points, triangles)]
    if on[0] != on[1]:
        raise TypeError(f"faces: expected the device of the vertices, {on[0]}, got {on[1]}")
    check_shapes(points, triangles)
    if isinstance(points, Tensor) and isinstance(triangles, Tensor):
        return _normals(points, triangles)
    return _on_device(points, triangles)


def _on_device(points: Array, triangles: Array) -> Any:
    if isinstance(points, Tensor) and points.is_cuda:
        return cuda_normals.vertex_normals(*frames_of(points, triangles)).reshape(points.shape)
    return compiled(points, triangles)


@torch.library.custom_op("facetalk::vertex_normals", mutates_args=())
def _normals(vertices: Tensor, faces: Tensor) -> Tensor:
    return _on_device(vertices.detach(), faces)


@_normals.register_fake
def _(vertices: Tensor, faces: Tensor) -> Tensor:
    return vertices.new_empty(vertices.shape, dtype=torch.float32)


def _array(value: Any, name: str) -> Array:
    if isinstance(value, Tensor) and value.is_cuda and value.layout == torch.strided:
        return value.detach()
    return as_array(value, name)
