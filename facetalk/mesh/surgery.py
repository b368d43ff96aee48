"""Surgery on triangle meshes: thinning out, relaxing, cutting and splitting them.

Meshes are plain arrays here, vertices (V, 3) float32 and faces (F, 3) int32, counter-clockwise from outside,
in whatever unit they come.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from facetalk.arrays import AnyInt, Bool, Float32, Float64, Int32, Int64, UInt8

__all__ = [
    "boundary_edges",
    "compact",
    "cut_level",
    "drop_islands",
    "drop_small_pieces",
    "relax",
    "simplify_zones",
    "smooth_rim",
    "split_parts",
    "without_flaps",
]


def compact(vertices: Float32, faces: Int32) -> tuple[Float32, Int32, Int64]:
    """Leave out vertices that no face uses; the third result holds the old numbers of the kept."""
    used, inverse = np.unique(faces, return_inverse=True)
    return vertices[used], inverse.reshape(-1, 3).astype(np.int32), used.astype(np.int64)


def drop_small_pieces(vertices: Float32, faces: Int32, *, share: float = 0.004) -> tuple[Float32, Int32]:
    """Keep connected pieces that have at least ``share`` of all faces and enclose volume.

    Voids inside the head do not: their faces look inwards.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(len(vertices),) * 2)
    count, label = connected_components(graph, directed=False)
    piece = label[faces[:, 0]]
    corner = vertices[faces].astype(np.float64)
    volume = np.einsum("ij,ij->i", corner[:, 0], np.cross(corner[:, 1], corner[:, 2])) / 6.0
    inside = np.bincount(piece, volume, minlength=count)
    size = np.bincount(piece, minlength=count)
    keep = (size >= share * len(faces)) & (inside > 0)
    vertices, faces, _ = compact(vertices, faces[keep[piece]])
    return vertices, faces


def simplify_zones(
    vertices: Float32, faces: Int32, zone: AnyInt, targets: tuple[int, ...]
) -> tuple[Float32, Int32]:
    """Quadric edge collapse (Garland and Heckbert, SIGGRAPH 1997), a budget of faces for each zone.

    Args:
        vertices: (V, 3).
        faces: (F, 3).
        zone: (V,) zone of each vertex, 0 .. len(targets) - 1; a face belongs to its corners' lowest.
        targets: faces to keep in each zone.
    """
    import pyfqmr  # only heads other than the default need it

    of_face = zone[faces].min(1)
    points: list[Float32] = []
    corners: list[Int64] = []
    offset = 0
    for index, target in enumerate(targets):
        part, local, _ = compact(vertices, faces[of_face == index])
        if not len(local):
            continue
        if len(local) > target:
            simplifier = pyfqmr.Simplify()
            simplifier.setMesh(part.astype(np.float64), local)
            # Borders stay, so that the zones still fit together.
            simplifier.simplify_mesh(
                target_count=target, aggressiveness=5, preserve_border=True, verbose=False
            )
            part, local, _ = simplifier.getMesh()
        points.append(np.asarray(part, np.float32))
        corners.append(np.asarray(local, np.int64) + offset)
        offset += len(part)
    joined, merged = np.concatenate(points), np.concatenate(corners)
    _, first, inverse = np.unique(joined, axis=0, return_index=True, return_inverse=True)
    merged = inverse.reshape(-1)[merged]
    whole = (merged[:, 0] != merged[:, 1]) & (merged[:, 1] != merged[:, 2]) & (merged[:, 2] != merged[:, 0])
    vertices, faces, _ = compact(joined[first], without_flaps(merged[whole].astype(np.int32)))
    return vertices, faces


def without_flaps(faces: Int32) -> Int32:
    """Drop pairs of faces with the same three corners, flaps without thickness that edge collapse leaves."""
    _, inverse, counts = np.unique(np.sort(faces, axis=1), axis=0, return_inverse=True, return_counts=True)
    return faces[counts[inverse.reshape(-1)] == 1]


def relax(vertices: Float32, faces: Int32, amount: float = 0.5) -> Float32:
    """Move every vertex along the surface towards its neighbours' mean, which evens out slivers.

    Args:
        vertices: (V, 3).
        faces: (F, 3).
        amount: share of the way, 0 to 1.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    shape = (len(vertices),) * 2
    graph = coo_matrix((np.ones(len(edges), np.float32), (edges[:, 0], edges[:, 1])), shape=shape).tocsr()
    degree = np.asarray(graph.sum(1)).reshape(-1, 1)
    move = graph @ vertices / np.maximum(degree, 1.0) - vertices
    corner = vertices[faces]
    of_face = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normal = np.zeros_like(vertices)
    for i in range(3):
        np.add.at(normal, faces[:, i], of_face)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    move -= (move * normal).sum(1, keepdims=True) * normal
    return (vertices + amount * move * (degree > 0)).astype(np.float32)


def cut_level(vertices: Float32, faces: Int32, level: Float32) -> tuple[Float32, Int32, Bool]:
    """Keep the part of a mesh where ``level`` is negative, cut along its zero line.

    Args:
        vertices: (V, 3).
        faces: (F, 3).
        level: (V,) a value for each vertex, linear along edges.

    Returns:
        vertices, faces, and which vertices lie on the cut.
    """
    # Vertices almost on the line would leave slivers.
    level = np.where(np.abs(level) < 1e-6, -1e-6, level).astype(np.float64)
    inside = level < 0
    count = inside[faces].sum(1)
    whole, one, two = faces[count == 3], faces[count == 1], faces[count == 2]
    edges: dict[tuple[int, int], int] = {}
    points: list[Float64] = []

    def crossing(a: int, b: int) -> int:
        key = (min(a, b), max(a, b))
        if key not in edges:
            t = np.clip(level[key[0]] / (level[key[0]] - level[key[1]]), 0.03, 0.97)
            points.append(vertices[key[0]] * (1 - t) + vertices[key[1]] * t)
            edges[key] = len(vertices) + len(points) - 1
        return edges[key]

    new: list[tuple[int, int, int]] = []
    for face in one:
        a, b, c = np.roll(face, -int(inside[face].argmax())).tolist()  # a is inside
        new.append((a, crossing(a, b), crossing(a, c)))
    for face in two:
        a, b, c = np.roll(face, -int((~inside[face]).argmax())).tolist()  # a is outside
        ab, ac = crossing(a, b), crossing(a, c)
        new += [(ab, b, c), (ab, c, ac)]
    joined = np.concatenate([vertices, np.array(points, np.float32).reshape(-1, 3)]).astype(np.float32)
    merged = np.concatenate([whole, np.array(new, np.int32).reshape(-1, 3)]).astype(np.int32)
    vertices, merged, used = compact(joined, merged)
    return vertices, merged, used >= len(level)


def boundary_edges(faces: Int32, chosen: Bool) -> Int32:
    """Edges (B, 2) of only one face whose both ends are ``chosen``, in the direction of that face."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = edges[chosen[edges].all(1)]
    _, inverse, counts = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True, return_counts=True)
    return edges[counts[inverse.reshape(-1)] == 1]


def smooth_rim(vertices: Float32, edges: Int32, *, rounds: int = 8) -> Float32:
    """Smooth boundary loops along themselves; all other vertices stay.

    Args:
        vertices: (V, 3).
        edges: (B, 2) from ``boundary_edges``.
        rounds: each moves a vertex half of the way to the middle of its two neighbours on the loop.
    """
    out = vertices.astype(np.float64)
    count = np.bincount(edges.ravel(), minlength=len(vertices))
    inner = np.flatnonzero(count == 2)
    for _ in range(rounds):
        total = np.zeros_like(out)
        np.add.at(total, edges[:, 0], out[edges[:, 1]])
        np.add.at(total, edges[:, 1], out[edges[:, 0]])
        out[inner] = 0.5 * out[inner] + 0.25 * total[inner]
    return out.astype(np.float32)


def drop_islands(faces: Int32, part: UInt8, moving: UInt8, *, size: int = 60) -> UInt8:
    """Give connected patches of one moving part with fewer than ``size`` vertices to the part around them.

    Args:
        faces: (F, 3).
        part: (V,) surface class.
        moving: (classes,) moving part of each class.
        size: vertices of the smallest patch that stays.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    part = part.copy()
    for _ in range(3):
        motion = moving[part]
        same = edges[motion[edges[:, 0]] == motion[edges[:, 1]]]
        shape = (len(part),) * 2
        graph = coo_matrix((np.ones(len(same), np.int8), (same[:, 0], same[:, 1])), shape=shape)
        _, patch = connected_components(graph, directed=False)
        small = np.bincount(patch)[patch] < size
        # Votes of neighbours on patches that stay; a ring is taken over in each round.
        across = np.concatenate([edges, edges[:, ::-1]])
        across = across[small[across[:, 0]] & ~small[across[:, 1]]]
        if not len(across):
            break
        votes = np.zeros((len(part), len(moving)), np.int32)
        np.add.at(votes, (across[:, 0], part[across[:, 1]]), 1)
        voted = votes.any(1)
        part[voted] = votes[voted].argmax(1)
    return part


def split_parts(
    vertices: Float32, faces: Int32, part: UInt8, moving: UInt8
) -> tuple[Float32, Int32, UInt8, Int64]:
    """Cut the mesh where moving parts meet.

    A face goes to the moving part of most of its corners; corners of another part are doubled, so that
    nothing is torn or tied.

    Args:
        vertices: (V, 3).
        faces: (F, 3).
        part: (V,) surface class.
        moving: (classes,) moving part of each class.

    Returns:
        vertices, faces, part, and the source vertex of each vertex.
    """
    corner = part[faces]
    motion = moving[corner].astype(np.int64)
    ordered = np.sort(motion, axis=1)
    majority = np.where(ordered[:, 1] == ordered[:, 2], ordered[:, 1], ordered[:, 0])
    # The class a double takes: that of a corner which already moves with the face.
    first = (motion == majority[:, None]).argmax(1)
    chosen = corner[np.arange(len(faces)), first]
    wanted = np.where(motion == majority[:, None], corner, chosen[:, None])
    key = faces.astype(np.int64) * 256 + wanted
    unique, inverse = np.unique(key, return_inverse=True)
    source = unique // 256
    return vertices[source], inverse.reshape(-1, 3).astype(np.int32), (unique % 256).astype(np.uint8), source
