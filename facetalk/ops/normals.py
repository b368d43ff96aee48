"""Vertex normals of triangle meshes, for one frame or many."""

from typing import Any

import torch
from torch import Tensor

from facetalk.ops._arrays import Array, as_array, contiguous, describe, give_back
from facetalk.ops._extension import load


def vertex_normals(vertices: Array, faces: Array) -> Any:
    """Unit normals at the vertices: the sum of the cross products of a vertex's faces, so weighted by their
    area.

    They point to the side from which faces run counter-clockwise. The sum runs over the faces in their order:
    the result does not depend on the number of threads.

    Args:
        vertices: (V, 3) or (T, V, 3) float32 (float64 is converted).
        faces: (F, 3) int32 (int64 is converted), the same for all frames.

    Returns:
        Array of the shape of `vertices`, float32, of the kind of `vertices`. Vertices without a face, or
        whose faces have no area or cancel, get (0, 0, 0). Not differentiable.

    Raises:
        TypeError: for arguments that are not arrays of these dtypes on the CPU.
        ValueError: for wrong shapes or a face that names a vertex that is not there.
    """
    points = as_array(vertices, "vertices")
    triangles = as_array(faces, "faces")
    if points.ndim not in (2, 3) or points.shape[-1] != 3:
        raise ValueError(f"vertices: expected shape (V, 3) or (T, V, 3), got {describe(points)}")
    if triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"faces: expected shape (F, 3), got {describe(triangles)}")
    if isinstance(points, torch.Tensor) and isinstance(triangles, torch.Tensor):
        return _normals(vertices, triangles)
    return _compiled(points, triangles)


def _compiled(points: Array, triangles: Array) -> Any:
    floats = contiguous(points, "vertices", "float32", convert=("float64",))
    frames = floats.reshape(1 if points.ndim == 2 else points.shape[0], *points.shape[-2:])
    index = contiguous(triangles, "faces", "int32", convert=("int64",))
    return give_back(load().vertex_normals(frames, index), points).reshape(points.shape)


@torch.library.custom_op("facetalk::vertex_normals", mutates_args=(), device_types="cpu")
def _normals(vertices: Tensor, faces: Tensor) -> Tensor:
    return _compiled(vertices.detach(), faces)


@_normals.register_fake
def _(vertices: Tensor, faces: Tensor) -> Tensor:
    return vertices.new_empty(vertices.shape, dtype=torch.float32)
