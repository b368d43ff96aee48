"""Whether a head is whole: what shows between lips and lids, measured by looking from the front.

A picture of regions, not of colours: every sample holds the region of the surface that is nearest to the
viewer, seen along -z. What shows of the mouth's inside at rest, and of an eyeball at a full blink, is counted
in it, so the measure knows nothing of how seams are closed.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from facetalk.arrays import Float32, Int32, Int64, UInt8
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.head.parts import Part
from facetalk.nphm.head.regions import Region
from facetalk.nphm.head.template_mesh import TemplateMesh
from facetalk.units import HEAD_UNIT_MM

__all__ = ["measure", "regions_in_front", "rim_edges"]

_STEP = 0.0012  # of the picture of regions, head units (0.3 mm)
_INSIDE = (
    Region.MOUTH,
    Region.UPPER_TEETH,
    Region.LOWER_TEETH,
    Region.UPPER_GUM,
    Region.LOWER_GUM,
    Region.TONGUE,
)
_BLINK = ("eyeBlink_L", "eyeBlink_R")


def regions_in_front(
    vertices: Float32, faces: Int32, region: UInt8, low: Float32, high: Float32, step: float = _STEP
) -> Int64:
    """(rows, columns) region of the surface nearest to a viewer in front, -1 where there is none.

    Args:
        vertices: (V, 3) head space.
        faces: (F, 3), of which those count that look at the viewer; each is of most corners' region.
        region: (V,) region of each vertex.
        low, high: (2,) corners of the window, x and y.
        step: distance of samples.
    """
    columns, rows = (np.ceil((high - low) / step).astype(int) + 1).tolist()
    depth = np.full((rows, columns), -np.inf)
    out = np.full((rows, columns), -1, np.int64)
    corner = vertices[faces]
    first_edge, second_edge = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    turned = first_edge[:, 0] * second_edge[:, 1] - first_edge[:, 1] * second_edge[:, 0]
    reach = (turned > 0) & (corner[:, :, :2].max(1) >= low).all(1) & (corner[:, :, :2].min(1) <= high).all(1)
    kinds = region[faces].astype(np.int64)
    kind = np.where(kinds[:, 1] == kinds[:, 2], kinds[:, 1], kinds[:, 0])
    for index in np.flatnonzero(reach):
        a, b, c = corner[index].astype(np.float64)
        first = np.maximum(np.ceil((np.minimum(np.minimum(a, b), c)[:2] - low) / step), 0).astype(int)
        last = np.floor((np.maximum(np.maximum(a, b), c)[:2] - low) / step).astype(int)
        last = np.minimum(last, (columns - 1, rows - 1))
        if (last < first).any():
            continue
        x = low[0] + step * np.arange(first[0], last[0] + 1)
        y = low[1] + step * np.arange(first[1], last[1] + 1)[:, None]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        if abs(area) < 1e-14:
            continue
        u = ((x - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (y - a[1])) / area
        v = ((b[0] - a[0]) * (y - a[1]) - (x - a[0]) * (b[1] - a[1])) / area
        z = a[2] + u * (b[2] - a[2]) + v * (c[2] - a[2])
        window = (slice(first[1], last[1] + 1), slice(first[0], last[0] + 1))
        seen = (u >= 0) & (v >= 0) & (u + v <= 1) & (z > depth[window])
        depth[window][seen] = z[seen]
        out[window][seen] = kind[index]
    return out


def rim_edges(mesh: TemplateMesh, vertices: Float32) -> tuple[int, float]:
    """Open edges of the sheet of skin, mouth, sockets and the neck's cap, and its widest crack in mm.

    Vertices that lie together on the mean head are one, as the doubled rim of the cap; a crack is how far an
    identity draws them apart.
    """
    sheet = (Region.SKIN, Region.MOUTH, Region.EYE_SOCKET, Region.NECK_CAP)
    faces = mesh.faces()
    faces = faces[np.isin(mesh.region[faces], sheet).all(1)]
    _, first, place = np.unique(np.round(mesh.vertices, 6), axis=0, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    edges = place[faces]
    edges = np.sort(np.concatenate([edges[:, [0, 1]], edges[:, [1, 2]], edges[:, [2, 0]]]), axis=1)
    used = np.unique(faces)
    crack = np.linalg.norm(vertices[used] - vertices[first[place[used]]], axis=1).max() * HEAD_UNIT_MM
    return int((np.unique(edges, axis=0, return_counts=True)[1] == 1).sum()), float(crack)


def measure(
    head: HeadModel, code: Float32, *, lids: Int32 | None = None, surface: bool = False
) -> dict[str, Any]:
    """Figures of one identity.

    Args:
        head: with a template mesh.
        code: (L,) identity code.
        lids: vertices of lids; None takes those that the template mesh keeps in front of the eyeballs.
        surface: also the distance of the skin from the network's zero set, which takes a second.

    Returns:
        ``rim_edges`` and ``crack_mm`` of the sheet; ``mouth_open_mm2`` seen of the mouth's inside at rest;
        ``eye_open_percent`` of the eye's opening still seen at a full blink; ``lid_overlap_mm`` of upper over
        lower lids then;
        ``lid_in_eye_mm``, the deepest that the skin of a lid gets into an eyeball at any of five weights;
        ``seconds`` to bind; with ``surface`` ``distance_mm`` mean and 95th percentile.
    """
    mesh = head.content.mesh
    assert mesh is not None
    begun = time.perf_counter()
    canonical, basis = head.bind(code).rig()
    seconds = time.perf_counter() - begun
    names, rest = head.expression_names, head.rest_expression
    neutral = canonical.vertices - np.tensordot(rest, basis, 1)
    blink = sum(basis[names.index(name)] for name in _BLINK)
    marks, faces = neutral[mesh.landmarks], canonical.faces
    opened = 0
    closed = 0
    for ids in (slice(36, 42), slice(42, 48)):
        low, high = marks[ids, :2].min(0) - 0.012, marks[ids, :2].max(0) + 0.012
        near = np.abs(neutral[faces[:, 0], :2] - 0.5 * (low + high)).max(1) < 0.15
        some = faces[near & ~np.isin(mesh.region[faces[:, 0]], (Region.LASH,))]
        for shape, closing in ((neutral, False), (neutral + blink, True)):
            count = int((regions_in_front(shape, some, mesh.region, low, high) == Region.EYEBALL).sum())
            opened, closed = (opened, closed + count) if closing else (opened + count, closed)
    low, high = marks[48:60, :2].min(0) - 0.01, marks[48:60, :2].max(0) + 0.01
    near = np.abs(neutral[faces[:, 0], :2] - 0.5 * (low + high)).max(1) < 0.25
    # What lies behind a slit's edge is the inner lip, which is the mouth's as well: deep places count.
    deep = np.where(np.isin(mesh.region, _INSIDE) & (neutral[:, 2] < marks[48:60, 2].max() - 0.05), 1, 0)
    seen = regions_in_front(neutral, faces[near], deep.astype(np.uint8), low, high)
    edges, crack = rim_edges(mesh, canonical.vertices)
    figures: dict[str, Any] = {
        "rim_edges": edges,
        "crack_mm": round(crack, 3),
        "mouth_open_mm2": round(float((seen == 1).sum()) * (_STEP * HEAD_UNIT_MM) ** 2, 2),
        "eye_open_percent": round(100.0 * closed / max(opened, 1), 2),
        "lid_overlap_mm": round(_overlap(mesh, neutral, basis, names), 2),
        "lid_in_eye_mm": round(
            _deepest(head, code, mesh, mesh.lid_vertices if lids is None else lids, neutral, blink), 2
        ),
        "seconds": round(seconds, 2),
    }
    if surface:
        skin = np.flatnonzero(mesh.region == Region.SKIN)[::4]
        distance = np.abs(head.bind(code).distance(canonical.vertices[skin])) * HEAD_UNIT_MM
        figures["distance_mm"] = [
            round(float(distance.mean()), 3),
            round(float(np.quantile(distance, 0.95)), 3),
        ]
    return figures


def _overlap(mesh: TemplateMesh, neutral: Float32, basis: Float32, names: tuple[str, ...]) -> float:
    """How far upper lids go past the lower ones at a full blink, at most, mm; negative for a gap."""
    worst = 0.0
    for name, seam in zip(_BLINK, (mesh.lid_left, mesh.lid_right), strict=True):
        y = (neutral + basis[names.index(name)])[:, 1]
        below = y[seam.other[:, 0]] * (1 - seam.blend) + y[seam.other[:, 1]] * seam.blend
        worst = max(worst, float((below - y[seam.vertex]).max()) * HEAD_UNIT_MM)
    return worst


def _deepest(
    head: HeadModel, code: Float32, mesh: TemplateMesh, lids: Int32, neutral: Float32, blink: Float32
) -> float:
    """How far the skin of lids gets into the eyeball that is shown, at most, mm."""
    rows = lids[mesh.region[lids] == Region.SKIN]
    canonical, _ = head.bind(code).rig()
    eyes = canonical.vertices[mesh.part == Part.EYEBALLS].reshape(2, -1, 3)
    worst = 0.0
    for eye in eyes:
        centre = head.bind(code).eyeballs()[0]
        middle = centre[np.linalg.norm(centre - eye.mean(0), axis=1).argmin()]
        radius = np.median(np.linalg.norm(eye - middle, axis=1))
        mine = rows[(neutral[rows, 0] > 0) == (middle[0] > 0)]
        for weight in (0.2, 0.4, 0.6, 0.8, 1.0):
            distance = np.linalg.norm(neutral[mine] + weight * blink[mine] - middle, axis=1)
            worst = max(worst, float((radius - distance).max()) * HEAD_UNIT_MM)
    return worst
