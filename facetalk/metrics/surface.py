"""How far one surface is from another."""

from __future__ import annotations

import numpy as np
import scipy.spatial

from facetalk.arrays import AnyFloat, AnyInt, Float64


def surface_distance(
    points: AnyFloat,
    vertices: AnyFloat,
    faces: AnyInt,
    *,
    nearest: int = 16,
) -> Float64:
    """Distance of every point from a triangle mesh.

    Args:
        points: (N, 3).
        vertices: (V, 3), in the same unit.
        faces: (F, 3), F above 0.
        nearest: triangles that are measured for a point, those with the nearest centres; so the result is
            exact for meshes whose triangles are of a size (as marching cubes makes them), else an upper
            bound.

    Returns:
        (N,) distances, in the unit of the points.
    """
    corners = np.asarray(vertices, dtype=np.float64)[faces]
    tree = scipy.spatial.cKDTree(corners.mean(axis=1))
    query = np.asarray(points, dtype=np.float64)
    index = tree.query(query, min(nearest, len(corners)))[1].reshape(len(query), -1)
    best = np.full(len(query), np.inf)
    for column in index.T:
        best = np.minimum(best, _triangle_distance(query, corners[column]))
    return best


def two_sided(a: tuple[AnyFloat, AnyInt], b: tuple[AnyFloat, AnyInt]) -> Float64:
    """Distances of the vertices of each of two meshes (vertices, faces) from the other mesh."""
    return np.concatenate([surface_distance(a[0], *b), surface_distance(b[0], *a)])


def _triangle_distance(p: Float64, triangle: Float64) -> Float64:
    """Of points (N, 3) from one triangle each, (N, 3 corners, 3)."""
    a, b, c = triangle[:, 0], triangle[:, 1], triangle[:, 2]
    normal = np.cross(b - a, c - a)
    square = (normal**2).sum(axis=1)
    has_inside = square > 1e-30  # marching cubes makes triangles that are lines or points, too
    square = np.maximum(square, 1e-30)
    # Barycentric coordinates of the foot of the perpendicular.
    v = (np.cross(p - a, c - a) * normal).sum(axis=1) / square
    w = (np.cross(b - a, p - a) * normal).sum(axis=1) / square
    above = np.abs(((p - a) * normal).sum(axis=1)) / np.sqrt(square)
    edges = np.minimum(
        np.minimum(_segment_distance(p, a, b), _segment_distance(p, b, c)), _segment_distance(p, a, c)
    )
    return np.asarray(np.where(has_inside & (v >= 0) & (w >= 0) & (v + w <= 1), above, edges))


def _segment_distance(p: Float64, a: Float64, b: Float64) -> Float64:
    along = b - a
    t = ((p - a) * along).sum(axis=1) / np.maximum((along**2).sum(axis=1), 1e-30)
    return np.asarray(np.linalg.norm(p - a - np.clip(t, 0.0, 1.0)[:, None] * along, axis=1))
