"""Vertex normals of triangle meshes, for one frame or many."""

from __future__ import annotations

from typing import Any

from facetalk.ops._arrays import Array, as_array, is_cupy, is_tensor
from facetalk.ops._triangles import check_shapes, compiled
from facetalk.optional import needed_for


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
    if any(is_tensor(array) or is_cupy(array) for array in (vertices, faces)):
        with needed_for("an operation on CuPy arrays"):  # tensors have it with them
            from facetalk.ops.torch_ops import normals
        return normals.vertex_normals(vertices, faces)
    points, triangles = as_array(vertices, "vertices"), as_array(faces, "faces")
    check_shapes(points, triangles)
    return compiled(points, triangles)
