"""What vertex normals are asked for, checked, and the compiled kernel of the CPU."""

from __future__ import annotations

from typing import Any

from facetalk.ops._arrays import Array, contiguous, describe, give_back
from facetalk.ops._extension import load


def check_shapes(points: Array, triangles: Array) -> None:
    """Refuse vertices and faces that are none.

    Raises:
        ValueError: wrong shapes.
    """
    if points.ndim not in (2, 3) or points.shape[-1] != 3:
        raise ValueError(f"vertices: expected shape (V, 3) or (T, V, 3), got {describe(points)}")
    if triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"faces: expected shape (F, 3), got {describe(triangles)}")


def frames_of(points: Array, triangles: Array) -> tuple[Any, Any]:
    """Vertices (T, V, 3) float32 and faces (F, 3) int32, contiguous.

    Raises:
        TypeError: other dtypes.
    """
    floats = contiguous(points, "vertices", "float32", convert=("float64",))
    frames: Any = floats.reshape(1 if points.ndim == 2 else points.shape[0], *points.shape[-2:])
    return frames, contiguous(triangles, "faces", "int32", convert=("int64",))


def compiled(points: Array, triangles: Array) -> Any:
    """Normals of arrays in the CPU's memory, of the shape and the kind of the vertices."""
    frames, index = frames_of(points, triangles)
    return give_back(load().vertex_normals(frames, index), points).reshape(points.shape)
