"""Making the template mesh of a head from the morphable head: cut, seams, lashes, eyeballs, levels of detail.

Everything is a linear combination of the morphable head's vertices (:class:`_Builder`), so that the
displacements of identities and expressions come along. Only eyeballs are new: spheres that turn.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix

from facetalk.arrays import Float32, Int32, Int64, UInt8
from facetalk.data.heads.ict import SHEET, MorphableHead
from facetalk.data.heads.ict_uv import TextureLayout
from facetalk.multi_pie import LOWER_LIDS, UPPER_LIDS
from facetalk.nphm.head.albedo import eyeball
from facetalk.nphm.head.complexion import paint_template
from facetalk.nphm.head.parts import Part
from facetalk.nphm.head.regions import Region
from facetalk.nphm.head.template_mesh import BLOCK, TemplateMesh
from facetalk.training.head.template_levels import thinned
from facetalk.training.head.template_seams import Seams

__all__ = ["build_template"]

_EYE_SIZE, _CORNEA = 0.985, 1.045
"""Eyeballs are a little smaller than the data's and their corneas flatter (the data's reaches 1.14 radii):
lids take a straight way from open to closed, across the sphere."""
_STILL = 2e-4 * 0.04
"""Displacements of an expression that are left out, head units (2 micrometres)."""
_MM = 0.004


def build_template(head: MorphableHead, layout: TextureLayout, eyes: Float32, axes: Float32) -> TemplateMesh:
    """The template mesh.

    Args:
        head: the morphable head.
        layout: its texture coordinates.
        eyes: (2, 4) centres and radii of the mean head's eyeballs, left first.
        axes: (2, 3) their optical axes.
    """
    iron = _Iron(head)
    mean = iron(head.canonical())
    builder = _Builder(head, layout)
    builder.skin(mean)
    builder.inside()
    for side in ("left", "right"):
        builder.lashes(side)
    combine, corners, uv, uv_vertex, region, part = builder.finish()
    vertices = (combine @ mean).astype(np.float32)
    skinned = len(vertices)
    blocks = [(vertices, corners, uv, uv_vertex, region, part)]
    for eye, axis, tile in zip(eyes, axes, (4.0, 4.5), strict=True):
        x, f, place = _eye(eye, axis, tile)
        count, textured = sum(len(b[0]) for b in blocks), sum(len(b[2]) for b in blocks)
        own = (count + np.arange(len(x))).astype(np.int32)
        kind = np.full(len(x), Region.EYEBALL, np.uint8)
        moving = np.full(len(x), Part.EYEBALLS, np.uint8)
        blocks.append((x, (f + textured).astype(np.int32), place, own, kind, moving))
    vertices, corners, uv, uv_vertex, region, part = (np.concatenate(c) for c in zip(*blocks, strict=True))
    combine = csr_matrix(
        (combine.data, combine.indices, np.r_[combine.indptr, np.full(len(vertices) - skinned, combine.nnz)]),
        shape=(len(vertices), len(mean)),
    )
    landmarks = builder.number[head.landmark_ids].astype(np.int32)
    faces = uv_vertex[corners]
    shapes = np.stack([np.asarray(combine @ iron(basis), np.float32) for basis in head.expression_basis])
    moved = [np.flatnonzero(np.abs(shape).max(1) > _STILL) for shape in shapes]
    codes, scale, offset = _quantised(combine, [iron(basis) for basis in head.identity_basis], len(vertices))
    neutral = vertices - np.tensordot(head.canonical_expression, shapes, 1)
    seam = Seams(head, neutral, faces, region, shapes, landmarks)
    mesh = TemplateMesh(
        vertices=vertices.astype(np.float32),
        corners=(corners.astype(np.int32), *thinned(vertices, corners, uv, uv_vertex, region, landmarks)),
        uv=uv.astype(np.float32),
        uv_vertex=uv_vertex.astype(np.int32),
        part=part,
        colors=np.zeros((len(vertices), 3), np.uint8),
        region=region,
        landmarks=landmarks,
        identity_codes=codes,
        identity_scale=scale,
        identity_offset=offset,
        shape_starts=np.r_[0, np.cumsum([len(rows) for rows in moved])].astype(np.int32),
        shape_rows=np.concatenate(moved).astype(np.int32),
        shape_values=np.concatenate([shape[rows] for shape, rows in zip(shapes, moved, strict=True)]),
        lips=seam.lips(),
        lid_left=seam.lid(UPPER_LIDS[1], LOWER_LIDS[1], "eyeBlink_L"),
        lid_right=seam.lid(UPPER_LIDS[0], LOWER_LIDS[0], "eyeBlink_R"),
        lid_vertices=seam.lid_vertices(eyes),
    )
    return dataclasses.replace(mesh, colors=paint_template(mesh, vertices[landmarks]))


def _eye(eye: Float32, axis: Float32, tile: float) -> tuple[Float32, Int32, Float32]:
    """Vertices, triangles and texture coordinates of an eyeball, the pupil in the middle of its half tile."""
    x, faces, _ = eyeball(eye[:3], float(_EYE_SIZE * eye[3]), axis, cornea=_CORNEA)
    arm = x - eye[:3]
    side = np.cross([0.0, 1.0, 0.0], axis)
    side /= np.linalg.norm(side)
    polar = np.arccos(np.clip(arm @ axis / np.linalg.norm(arm, axis=1), -1.0, 1.0)) / np.pi
    turn = np.arctan2(arm @ np.cross(axis, side), arm @ side)
    place = 0.25 + 0.25 * polar[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    place[:, 0] += tile
    return x.astype(np.float32), faces, place.astype(np.float32)


class _Iron:
    """Takes the upright folds out that the data has under its lower lip, from shapes and displacements.

    Smoothing that does not shrink (Taubin, "A Signal Processing Approach to Fair Surface Design", SIGGRAPH
    1995), weighted by the distance from there on the mean head, so that it is linear in what it is given.
    """

    def __init__(self, head: MorphableHead) -> None:
        mean = head.canonical()
        faces = head.faces[head.part_faces("face")]
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        edges = np.unique(np.sort(edges, axis=1), axis=0)
        below = mean[head.landmark_ids[57]] + np.array([0.0, -0.6 * _MM, 0.0], np.float32)
        reach = np.array([16 * _MM, 5 * _MM, 12 * _MM])
        weight = np.exp(-(((mean - below) / reach) ** 4).sum(1))
        ring = edges[(weight[edges] > 1e-4).any(1)]
        self._used, local = np.unique(ring, return_inverse=True)
        local = local.reshape(-1, 2)
        graph = coo_matrix((np.ones(len(local)), (local[:, 0], local[:, 1])), shape=(len(self._used),) * 2)
        graph = (graph + graph.T).tocsr()
        degree = np.maximum(np.asarray(graph.sum(1)), 1.0)
        # The outermost ring stays: it lacks some of its neighbours.
        mine = np.where(weight[self._used] > 1e-4, weight[self._used], 0.0)[:, None]
        operator = np.eye(len(self._used))
        for _ in range(12):
            for amount in (0.5, -0.52):
                operator = operator + amount * mine * ((graph @ operator) / degree - operator)
        self._operator = operator

    def __call__(self, shape: Float32) -> Float32:
        """Shape or displacement (V, 3) with its folds taken out."""
        out = shape.copy()
        out[self._used] = self._operator @ shape[self._used]
        return out


class _Builder:
    """Collects triangles over texture vertices; each vertex is a combination of the head's."""

    def __init__(self, head: MorphableHead, layout: TextureLayout) -> None:
        self.head, self.layout = head, layout
        self.corners = layout.corners(head.faces)
        self.uv: list[Float32] = []
        self.uv_vertex: list[int] = []
        self.triangles: list[Int64] = []
        self.region: list[int] = []
        self.part: list[int] = []
        self.rows: list[dict[int, float]] = []
        self.number = np.full(len(head.neutral), -1, np.int64)  # of the head's vertices here
        self._known: dict[tuple[object, ...], int] = {}
        self._textured: dict[tuple[object, ...], int] = {}

    def vertex(self, key: tuple[object, ...], row: dict[int, float], region: int, part: int) -> int:
        if key not in self._known:
            self._known[key] = len(self.rows)
            self.rows.append(row)
            self.region.append(region)
            self.part.append(part)
        return self._known[key]

    def textured(self, vertex: int, uv: Float32) -> int:
        key = (vertex, *np.round(np.asarray(uv, np.float64), 6))
        if key not in self._textured:
            self._textured[key] = len(self.uv)
            self.uv.append(np.asarray(uv, np.float32))
            self.uv_vertex.append(vertex)
        return self._textured[key]

    def own(self, vertex: int, region: int, part: int, twin: str = "") -> int:
        number = self.vertex(("own", vertex, twin), {vertex: 1.0}, region, part)
        if not twin or self.number[vertex] < 0:
            self.number[vertex] = number
        return number

    def skin(self, mean: Float32) -> None:
        """The sheet of skin, mouth and eye sockets, cut flat at the neck."""
        head = self.head
        level = (mean - (head.neck_point + 0.01 * head.neck_normal)) @ head.neck_normal
        # Vertices that all but lie on the plane would leave slivers.
        level = np.where(np.abs(level) < 5e-4, 5e-4, level)
        region_of = np.full(len(mean), Region.SKIN, np.int64)
        region_of[head.part_vertices("mouth_socket")] = Region.MOUTH
        for side in ("left", "right"):
            region_of[head.part_vertices(f"eye_socket_{side}")] = Region.EYE_SOCKET
        rim: list[tuple[int, int]] = []

        def corner(u: int) -> int:
            v = int(self.layout.uv_vertex[u])
            return self.textured(self.own(v, int(region_of[v]), Part.SKIN), self.layout.uv[u])

        def crossing(a: int, b: int) -> int:
            a, b = sorted((a, b), key=lambda u: (int(self.layout.uv_vertex[u]), u))
            va, vb = int(self.layout.uv_vertex[a]), int(self.layout.uv_vertex[b])
            t = float(level[va] / (level[va] - level[vb]))
            number = self.vertex(("cut", va, vb), {va: 1 - t, vb: t}, Region.SKIN, Part.SKIN)
            return self.textured(number, (1 - t) * self.layout.uv[a] + t * self.layout.uv[b])

        for name in SHEET:
            for triangle in self.corners[head.part_faces(name)]:
                above = [level[self.layout.uv_vertex[u]] > 0 for u in triangle]
                if all(above):
                    self.triangles.append(np.array([corner(u) for u in triangle]))
                elif sum(above) == 1:
                    k = above.index(True)
                    a, b, c = (int(triangle[(k + i) % 3]) for i in range(3))
                    new = [corner(a), crossing(a, b), crossing(a, c)]
                    self.triangles.append(np.array(new))
                    rim.append((new[1], new[2]))
                elif sum(above) == 2:
                    k = above.index(False)
                    c, a, b = (int(triangle[(k + i) % 3]) for i in range(3))
                    p, q = crossing(b, c), crossing(a, c)
                    self.triangles += [np.array([corner(a), corner(b), p]), np.array([corner(a), p, q])]
                    rim.append((p, q))
        self._cap(rim)

    def _cap(self, rim: list[tuple[int, int]]) -> None:
        """Close the neck with a flat fan, whose rim is doubled so that its edge stays sharp."""
        ring = sorted({self.uv_vertex[u] for edge in rim for u in edge})
        middle: dict[int, float] = {}
        for number in ring:
            for vertex, weight in self.rows[number].items():
                middle[vertex] = middle.get(vertex, 0.0) + weight / len(ring)
        centre = self.vertex(("cap",), middle, Region.NECK_CAP, Part.SKIN)
        # Its own corner of the tile that holds the back of the head.
        place = np.array([1.02, 0.995], np.float32)
        hub = self.textured(centre, place)

        def twin(u: int) -> int:
            number = self.uv_vertex[u]
            copy = self.vertex(("cap", number), dict(self.rows[number]), Region.NECK_CAP, Part.SKIN)
            return self.textured(copy, place)

        for a, b in rim:
            self.triangles.append(np.array([twin(b), twin(a), hub]))

    def inside(self) -> None:
        """Gums, tongue and teeth; the one mesh of gums is split where it starts to follow the jaw."""
        head = self.head
        tongue = self.layout.tongue(self.corners[head.part_faces("gums_and_tongue")])
        for name in ("gums_and_tongue", "teeth"):
            for index, triangle in enumerate(self.corners[head.part_faces(name)]):
                vertex = self.layout.uv_vertex[triangle]
                lower = int((head.vertex_part[vertex] == Part.LOWER_TEETH).sum()) >= 2
                part = Part.LOWER_TEETH if lower else Part.UPPER_TEETH
                if name == "teeth":
                    region = Region.LOWER_TEETH if lower else Region.UPPER_TEETH
                else:
                    region = Region.LOWER_GUM if lower else Region.UPPER_GUM
                    if lower and tongue[index]:
                        region = Region.TONGUE
                new = [
                    self.textured(self.own(int(v), int(region), int(part), part.name), self.layout.uv[u])
                    for v, u in zip(vertex, triangle, strict=True)
                ]
                self.triangles.append(np.array(new))

    def lashes(self, side: str) -> None:
        """Single hairs along the middle one of each lid's three cards of lashes."""
        head = self.head
        for card, hairs, reach in ((1, 44, 0.8), (4, 30, 0.55)):
            grid = self.layout.lash_card(head, side, card)  # (rows from the root, columns)
            rows, columns = grid.shape
            rng = np.random.default_rng(card)
            for hair in range(hairs):
                at = (hair + 0.5 + 0.35 * rng.uniform(-1, 1)) / hairs
                length = (
                    reach
                    * rng.uniform(0.75, 1.0)
                    * (0.35 + 0.65 * np.sin(np.pi * min(at * 1.05, 1.0)) ** 0.5)
                )
                # Within the card: what lies beyond it would be pulled to its edge, and have no area.
                lean = np.clip(at + 0.02 * rng.uniform(-1, 1) + 0.06 * (at - 0.5), 0.02, 0.98)
                at = np.clip(at, 0.02, 0.98)

                def point(
                    along: float, out: float, grid: Int64 = grid, rows: int = rows, columns: int = columns
                ) -> dict[int, float]:
                    x, y = np.clip(along, 0, 1) * (columns - 1), np.clip(out, 0, 1) * (rows - 1)
                    i, j = min(int(x), columns - 2), min(int(y), rows - 2)
                    s, t = x - i, y - j
                    row: dict[int, float] = {}
                    for dy, wy in ((0, 1 - t), (1, t)):
                        for dx, wx in ((0, 1 - s), (1, s)):
                            vertex = int(grid[j + dy, i + dx])
                            row[vertex] = row.get(vertex, 0.0) + float(wx * wy)
                    return row

                wide, half = 0.0055, 0.5 * length
                spots = [
                    (at - wide, 0.0), (at + wide, 0.0),
                    (0.5 * (at + lean) - 0.7 * wide, half), (0.5 * (at + lean) + 0.7 * wide, half),
                    (lean, length),
                ]  # fmt: skip
                numbers = []
                for k, (along, out) in enumerate(spots):
                    v = self.vertex(("lash", side, card, hair, k), point(along, out), Region.LASH, Part.SKIN)
                    place = np.array(
                        [6.0 + 0.5 * (side == "right") + 0.5 * np.clip(along, 0, 1), 0.1 * card + 0.1 * out]
                    )
                    numbers.append(self.textured(v, place.astype(np.float32)))
                for triangle in ((0, 1, 3), (0, 3, 2), (2, 3, 4)):
                    self.triangles.append(np.array([numbers[k] for k in triangle]))

    def finish(self) -> tuple[csr_matrix, Int32, Float32, Int32, UInt8, UInt8]:
        """Combination (V, head's vertices), corners, texture coordinates, their vertices, regions, parts."""
        row = np.repeat(np.arange(len(self.rows)), [len(r) for r in self.rows])
        column = np.array([c for r in self.rows for c in r])
        value = np.array([w for r in self.rows for w in r.values()])
        combine = csr_matrix((value, (row, column)), shape=(len(self.rows), len(self.head.neutral)))
        return (
            combine, np.array(self.triangles, np.int32), np.array(self.uv, np.float32),
            np.array(self.uv_vertex, np.int32), np.array(self.region, np.uint8),
            np.array(self.part, np.uint8),
        )  # fmt: skip


def _quantised(combine: csr_matrix, bases: list[Float32], count: int) -> tuple[UInt8, Float32, Float32]:
    """Displacements of the identity coefficients in blocks of vertices, one byte a number."""
    blocks = -(-count // BLOCK)
    codes = np.zeros((len(bases), count, 3), np.uint8)
    scale = np.zeros((len(bases), blocks), np.float32)
    offset = np.zeros((len(bases), blocks, 3), np.float32)
    for index, basis in enumerate(bases):
        move = np.asarray(combine @ basis, np.float64)
        padded = np.concatenate([move, np.repeat(move[-1:], blocks * BLOCK - count, 0)])
        local = padded.reshape(blocks, BLOCK, 3)
        middle = (0.5 * (local.min(1) + local.max(1))).astype(np.float16).astype(np.float64)
        reach = np.abs(local - middle[:, None]).max((1, 2))
        scale[index] = np.maximum(reach / 127.0, 1e-12)
        offset[index] = middle
        code = np.rint((local - middle[:, None]) / scale[index].astype(np.float64)[:, None, None]) + 128.0
        codes[index] = np.clip(code, 0, 255).reshape(-1, 3)[:count]
    return codes, scale, offset
