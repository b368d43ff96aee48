"""Coarser levels of detail of the template mesh, over the vertices of the full one."""

from __future__ import annotations

import numpy as np
import pyfqmr
from scipy.spatial import cKDTree

from facetalk.arrays import Float32, Int32, Int64, UInt8
from facetalk.mesh.surgery import without_flaps
from facetalk.nphm.head.albedo import eyeball_faces
from facetalk.nphm.head.regions import Region

__all__ = ["thinned"]

_LEVELS = (
    (12000, tuple(range(21)), 24),
    (5000, (1, 2, 4, 6, 7, 10, 13, 16, 19), 16),
)
"""Vertices, and rings and sectors of an eyeball, of the coarser levels of detail."""


def thinned(
    vertices: Float32, corners: Int32, uv: Float32, uv_vertex: Int32, region: UInt8, landmarks: Int32
) -> list[Int32]:
    """Corners of coarser levels, over the same texture vertices.

    Quadric edge collapse in groups of what moves together, each result put onto the nearest vertices of the
    full mesh, so that morph targets and texture coordinates are shared.
    """
    faces = uv_vertex[corners].astype(np.int64)
    groups = {
        (Region.SKIN, Region.MOUTH, Region.EYE_SOCKET): 0.68,
        (Region.UPPER_GUM,): 0.03,
        (Region.LOWER_GUM, Region.TONGUE): 0.06,
        (Region.UPPER_TEETH,): 0.07,
        (Region.LOWER_TEETH,): 0.06,
    }
    levels = []
    detail = np.linalg.norm(vertices[:, None] - vertices[landmarks[36:68]], axis=2).min(1)
    marks = vertices[landmarks[17:27]]
    line = np.concatenate([marks, 0.5 * (marks[:4] + marks[1:5]), 0.5 * (marks[5:9] + marks[6:])])
    brow = cKDTree(line).query(vertices)[0]  # colour lies on vertices, so brows need theirs
    for budget, rings, sectors in _LEVELS:
        # The neck's cap stays: its rim is the border of the skin.
        parts = [faces[(region[faces] == Region.NECK_CAP).all(1)]]
        for regions, share in groups.items():
            mine = np.isin(region[faces], regions).all(1)
            zones, wanted = [mine], [2 * budget * share]
            if Region.SKIN in regions:
                painted, close = (brow[faces] < 0.03).any(1), (detail[faces] < 0.05).any(1)
                zones = [mine & painted, mine & close & ~painted, mine & ~close & ~painted]
                wanted = [part * budget * share for part in (0.4, 0.95, 0.65)]
            for zone, target in zip(zones, wanted, strict=True):
                used, local = np.unique(faces[zone], return_inverse=True)
                simplifier = pyfqmr.Simplify()
                simplifier.setMesh(vertices[used].astype(np.float64), local.reshape(-1, 3).astype(np.int32))
                simplifier.simplify_mesh(
                    target_count=int(target), aggressiveness=4, preserve_border=True, verbose=False
                )
                point, kept, _ = simplifier.getMesh()
                parts.append(_snapped(point, kept, vertices[used], used))
        eyes = np.flatnonzero(region == Region.EYEBALL).reshape(2, -1)
        parts += [eye[eyeball_faces(rings, sectors)] for eye in eyes]
        levels.append(_with_texture(np.concatenate(parts), uv, uv_vertex))
    return levels


def _snapped(point: Float32, kept: Int32, vertices: Float32, used: Int64) -> Int64:
    """Triangles over the nearest vertices of the full mesh, the flattened ones dropped."""
    thin = used[cKDTree(vertices).query(point)[1]][kept]
    whole = (thin[:, 0] != thin[:, 1]) & (thin[:, 1] != thin[:, 2]) & (thin[:, 2] != thin[:, 0])
    return without_flaps(thin[whole].astype(np.int32)).astype(np.int64)


def _with_texture(thin: Int64, uv: Float32, uv_vertex: Int32) -> Int32:
    """Texture vertices for triangles over vertices: of those of each corner the ones that lie together."""
    order = np.argsort(uv_vertex, kind="stable")
    starts = np.searchsorted(uv_vertex[order], np.arange(int(uv_vertex.max()) + 2))
    out = np.zeros_like(thin)
    for index, triangle in enumerate(thin):
        options = [order[starts[v] : starts[v + 1]] for v in triangle]
        best = None
        for a in options[0]:
            for b in options[1]:
                for c in options[2]:
                    size = (
                        np.abs(uv[a] - uv[b]).sum()
                        + np.abs(uv[b] - uv[c]).sum()
                        + np.abs(uv[c] - uv[a]).sum()
                    )
                    if best is None or size < best[0]:
                        best = (size, a, b, c)
        assert best is not None
        out[index] = best[1:]
    return out.astype(np.int32)
