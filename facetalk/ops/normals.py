"""Vertex normals of triangle meshes, for one frame or many."""

import sys
from typing import Any

import torch
import torch.utils.dlpack
from torch import Tensor

from facetalk.ops._arrays import Array, as_array, contiguous, describe, give_back
from facetalk.ops._extension import load
from facetalk.ops.cuda import normals as cuda_normals


def vertex_normals(vertices: Array, faces: Array) -> Any:
    """Unit normals at the vertices: the sum of the cross products of a vertex's faces, so weighted by their
    area.

    They point to the side from which faces run counter-clockwise. The sum runs over the faces in their order:
    the result does not depend on the number of threads.

    Args:
        vertices: (V, 3) or (T, V, 3) float32 (float64 is converted).
        faces: (F, 3) int32 (int64 is converted), the same for all frames, on the device of the vertices.

    Returns:
        Array of the shape of `vertices`, float32, of the kind of `vertices` (a torch tensor or CuPy array on
        its device, else a NumPy array). Vertices without a face, or whose faces have no area, cancel, or
        reach to infinity, get (0, 0, 0). CUDA devices give the CPU's bits. Not differentiable.

    Raises:
        TypeError: for arguments that are not arrays of these dtypes on one device, or on a device that this
            build or this machine cannot use; the message says why.
        ValueError: for wrong shapes or, on the CPU, a face that names a vertex that is not there. On a CUDA
            device the call does not wait to learn of such faces: they add nothing.
    """
    if any(type(array).__module__.partition(".")[0] == "cupy" for array in (vertices, faces)):
        # Torch shares the memory; each side waits for the other's stream, not the host.
        shared: list[Any] = [torch.utils.dlpack.from_dlpack(array) for array in (vertices, faces)]  # type: ignore[arg-type]
        return sys.modules["cupy"].from_dlpack(vertex_normals(*shared))
    points = _array(vertices, "vertices")
    triangles = _array(faces, "faces")
    on = [array.device if isinstance(array, Tensor) else torch.device("cpu") for array in (points, triangles)]
    if on[0] != on[1]:
        raise TypeError(f"faces: expected the device of the vertices, {on[0]}, got {on[1]}")
    if points.ndim not in (2, 3) or points.shape[-1] != 3:
        raise ValueError(f"vertices: expected shape (V, 3) or (T, V, 3), got {describe(points)}")
    if triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"faces: expected shape (F, 3), got {describe(triangles)}")
    if isinstance(points, torch.Tensor) and isinstance(triangles, torch.Tensor):
        return _normals(points, triangles)
    return _compiled(points, triangles)


def _compiled(points: Array, triangles: Array) -> Any:
    floats = contiguous(points, "vertices", "float32", convert=("float64",))
    frames: Any = floats.reshape(1 if points.ndim == 2 else points.shape[0], *points.shape[-2:])
    index: Any = contiguous(triangles, "faces", "int32", convert=("int64",))
    if isinstance(frames, Tensor) and frames.is_cuda:
        return cuda_normals.vertex_normals(frames, index).reshape(points.shape)
    return give_back(load().vertex_normals(frames, index), points).reshape(points.shape)


@torch.library.custom_op("facetalk::vertex_normals", mutates_args=())
def _normals(vertices: Tensor, faces: Tensor) -> Tensor:
    return _compiled(vertices.detach(), faces)


@_normals.register_fake
def _(vertices: Tensor, faces: Tensor) -> Tensor:
    return vertices.new_empty(vertices.shape, dtype=torch.float32)


def _array(value: Any, name: str) -> Array:
    if isinstance(value, Tensor) and value.is_cuda and value.layout == torch.strided:
        return value.detach()
    return as_array(value, name)
