"""The canonical surface of any bound head as a mesh of a chosen number of triangles.

The surface is extracted finely, simplified by quadric edge collapse (pyfqmr) with a larger budget for eyes
and mouth than for the rest, and moved back onto the zero level of the field. What ``track`` then carries to
every frame costs as much as it has vertices.

The built-in head has a mesh of its own with parts, colours and whole eyeballs, ``Person.canonical``; this
works for every checkpoint. Texture coordinates are not made: neither family of models knows any.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from facetalk.arrays import Bool, Float32, Int32, Int64, UInt8
from facetalk.errors import InputError
from facetalk.mesh.mesh import CanonicalMesh
from facetalk.mesh.surgery import compact, drop_small_pieces, relax, simplify_zones
from facetalk.nphm.field import Field
from facetalk.nphm.lattice import DEFAULT_BOUNDS, Bounds

__all__ = ["BudgetMesh", "MeshCheck", "canonical_mesh", "check_mesh", "crowded_anchors"]


_LEAST = 200  # triangles below which a head is no head
_RADIUS = 0.06  # head units around a point of the focus that stay dense, 15 mm
_NEWTON = 3


@dataclasses.dataclass(frozen=True)
class MeshCheck:
    """What the edges of a mesh say about it.

    Attributes:
        boundary: edges of one face only; a head that leaves the box has a rim there.
        non_manifold: edges of more than two faces, or of two that run through it in the same direction.
        degenerate: faces with two equal corners or without area.
        pieces: connected pieces.
    """

    boundary: int
    non_manifold: int
    degenerate: int
    pieces: int

    @property
    def manifold(self) -> bool:
        """Whether every edge has one face, or two of opposite direction."""
        return self.non_manifold == 0 and self.degenerate == 0


@dataclasses.dataclass(frozen=True)
class BudgetMesh:
    """A canonical mesh of a chosen size.

    Attributes:
        vertices: (V, 3) float32, head space.
        faces: (F, 3) int32, counter-clockwise from outside.
        dense: (V,) bool, in the region that kept more triangles.
        distance: (V,) float32 |field| left at the vertices, head units.
        part: (V,) uint8 part of the nearest vertex of the mesh that was given for it, or None.
        colors: (V, 3) uint8 likewise, or None.
        check: its edges.
    """

    vertices: Float32
    faces: Int32
    dense: Bool
    distance: Float32
    part: UInt8 | None
    colors: UInt8 | None
    check: MeshCheck


def canonical_mesh(
    field: Field,
    triangles: int = 20000,
    *,
    focus: ArrayLike | None = None,
    radius: float = _RADIUS,
    share: float = 0.4,
    resolution: int = 192,
    bounds: Bounds | None = None,
    labels: CanonicalMesh | None = None,
) -> BudgetMesh:
    """Extract and simplify the canonical surface.

    Args:
        field: a bound head.
        triangles: faces wanted; the result has at most this many, and fewer by a few per cent.
        focus: (P, 3) points around which triangles are kept, such as the landmarks of eyes and mouth (36 to
            67 of ``Person.landmarks``). None: where the model's anchors crowd, which is where its makers
            wanted detail.
        radius: reach of a point of the focus, head units.
        share: part of the triangles that goes to the focus, 0 to 1.
        resolution: of the extraction before simplification.
        bounds: ((x0, y0, z0), (x1, y1, z1)) of the extraction, head space; None: the default box.
        labels: a mesh that parts and colours are taken from, such as ``Person.canonical()``.

    Raises:
        InputError: an option out of range, a surface that is not there, or one with too few triangles at this
            resolution to simplify.
    """
    if isinstance(triangles, bool) or not isinstance(triangles, int | np.integer) or triangles < _LEAST:
        raise InputError(f"triangles: expected a whole number of at least {_LEAST}, got {triangles!r}")
    if not 0.0 <= share <= 1.0:
        raise InputError(f"share: expected a part from 0 to 1, got {share!r}")
    if not (np.isfinite(radius) and radius > 0):
        raise InputError(f"radius: expected a length above 0, got {radius!r}")
    points = crowded_anchors(field.anchors.numpy()) if focus is None else np.asarray(focus, np.float32)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
        raise InputError(f"focus: expected finite points (P, 3), got shape {points.shape}")
    box = DEFAULT_BOUNDS if bounds is None else bounds
    mesh = field.extract(None, resolution, box, units="head")[0]
    if not len(mesh.faces):
        raise InputError("bounds: the canonical field has no surface inside them")
    vertices, faces = drop_small_pieces(mesh.vertices, mesh.faces)
    if len(faces) < triangles:
        raise InputError(
            f"triangles: the surface has {len(faces)} at a resolution of {resolution}; ask for fewer "
            f"than that or for a higher resolution"
        )
    # The border between the regions stays as fine as it was, so a second pass with another border thins out
    # the first one. What is asked for is a little less than the budget, which the simplifier may exceed.
    tree = cKDTree(points)
    for reach, spare in ((1.0, 1.5), (1.3, 0.97)):
        near = tree.query(vertices)[0] < reach * radius
        # What the focus cannot use goes to the rest.
        inner = min(int(spare * share * triangles), int(near[faces].any(axis=1).sum()))
        targets = (inner, int(spare * triangles) - inner)
        vertices, faces = simplify_zones(vertices, faces, np.where(near, 0, 1), targets)
    for _ in range(3):
        # One zone, without a border: what the borders kept above the budget is taken from everywhere.
        if len(faces) <= triangles:
            break
        whole = np.zeros(len(vertices), int)
        vertices, faces = simplify_zones(vertices, faces, whole, (int(0.98 * triangles),))
    vertices, faces = _only_manifold(vertices, faces)
    rim = _on_the_box(vertices, box)
    smooth = relax(vertices, faces)
    vertices, distance = _onto_the_surface(field, np.where(rim[:, None], vertices, smooth), rim)
    part = colors = None
    if labels is not None:
        nearest = cKDTree(labels.vertices).query(vertices)[1]
        part, colors = labels.part[nearest], labels.colors[nearest]
    dense = tree.query(vertices)[0] < radius
    return BudgetMesh(vertices, faces, dense, distance, part, colors, check_mesh(vertices, faces))


def crowded_anchors(anchors: Float32) -> Float32:
    """The half (at least one) of the anchors (K, 3) that has its third neighbour nearest: eyes and mouth."""
    neighbour = min(3, len(anchors) - 1)
    if neighbour < 1:
        return np.asarray(anchors, np.float32)
    distance = cKDTree(anchors).query(anchors, k=neighbour + 1)[0][:, -1]
    return np.asarray(anchors[np.argsort(distance, kind="stable")[: (len(anchors) + 1) // 2]], np.float32)


def check_mesh(vertices: Float32, faces: Int32) -> MeshCheck:
    """Count what is wrong with the edges and faces of a mesh."""
    edges, count, wrong, _ = _edges(faces)
    corner = vertices[faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(vertices),) * 2)
    pieces = connected_components(graph, directed=False)[1][faces[:, 0]] if len(faces) else faces
    return MeshCheck(
        boundary=int((count == 1).sum()),
        non_manifold=int(wrong.sum()),
        degenerate=int((area == 0).sum()),
        pieces=len(np.unique(pieces)),
    )


def _edges(
    faces: Int32,
) -> tuple[Int64, Int64, Bool, Int64]:
    """Half edges (3 F, 2); per edge its faces and whether they misfit; the edge of each half edge."""
    half = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    ordered = np.sort(half, axis=1)
    _, inverse, count = np.unique(ordered, axis=0, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    forward = np.where(half[:, 0] < half[:, 1], 1, -1)
    balance = np.bincount(inverse, forward, minlength=len(count))
    return half, count, (count > 2) | ((count == 2) & (balance != 0)), inverse


def _only_manifold(vertices: Float32, faces: Int32) -> tuple[Float32, Int32]:
    """Take out the smallest faces at edges whose faces do not fit together, until there are none."""
    for _ in range(8):
        _, _, wrong, edge = _edges(faces)
        crowded = wrong[edge].reshape(3, -1).any(axis=0)
        if not crowded.any():
            break
        corner = vertices[faces].astype(np.float64)
        area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
        worst = np.flatnonzero(crowded)[area[crowded].argsort()[: max(1, int(crowded.sum()) // 3)]]
        faces = np.delete(faces, worst, axis=0)
    vertices, faces, _ = compact(vertices, faces)
    return vertices, faces


def _on_the_box(vertices: Float32, bounds: Bounds) -> Bool:
    """(V,) vertices on the faces of the box, where the surface was cut off."""
    low, high = np.asarray(bounds, np.float32)
    close = 1e-4 * (high - low)
    return np.asarray(((vertices < low + close) | (vertices > high - close)).any(axis=1))


def _onto_the_surface(field: Field, vertices: Float32, fixed: Bool) -> tuple[Float32, Float32]:
    """Newton steps along the gradient, none longer than a hundredth of the head; and |field| at the end."""
    points = np.ascontiguousarray(vertices, np.float32)
    for _ in range(_NEWTON):
        result = field.bound.packed.query(points, outputs=("sdf", "gradient"))
        value, slope = result["sdf"][0].numpy(), result["gradient"][0].numpy()[:, :3]
        steep = np.maximum((slope**2).sum(1), 0.05)
        step = -(value / steep)[:, None] * slope
        length = np.linalg.norm(step, axis=1, keepdims=True)
        step *= np.minimum(1.0, 0.01 / np.maximum(length, 1e-12))
        points = np.where(fixed[:, None], points, points + step).astype(np.float32)
    return points, np.abs(field.bound.packed.query(points)["sdf"][0].numpy())
