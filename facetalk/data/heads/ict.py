"""The ICT-FaceKit Light morphable head as training data: shapes, parts and exact signed distances.

ICT-FaceKit Light (Li et al., "Learning Formation of Physically-Based Face Attributes", CVPR 2020; MIT) is
a linear model: ``vertices = neutral + sum_i w_i identity_i + sum_j e_j expression_j``. It is read from one
``.npz`` without pickled objects. Everything here is in head space (see ``facetalk.units``); the file itself
is in centimetres and carries the similarity transform.

The solid head is the union of closed parts: the skin with mouth cavity and eye sockets as one sheet (capped
at the bust), the eyeballs, the teeth, gums with tongue, and fillers behind the eyeballs, cut at the neck
plane. Signs come from winding numbers of each part (Barill et al., "Fast Winding Numbers for Soups and
Clouds", SIGGRAPH 2018), so hidden interior surfaces and small self-intersections do no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetalk.arrays import Float32, Int64, UInt8
from facetalk.errors import InputError
from facetalk.nphm.head.parts import Part
from facetalk.reading import read_arrays, usable

__all__ = ["BUILT_IN", "NO_PART", "MorphableHead", "Solid", "read_fields"]

BUILT_IN = Path(__file__).with_name("ict_facekit_light.npz")
"""The copy that travels with the package (MIT, docs/head-data.md)."""

NO_PART = 255
"""What stands for a part where a vertex or a face belongs to none."""

SHEET = ("face", "head_and_neck", "mouth_socket", "eye_socket_left", "eye_socket_right")
"""Parts of the skin, which hang together."""
_REQUIRED = (
    "neutral", "identity_deltas", "expression_deltas", "expression_names", "faces", "geometry_names",
    "geometry_vertex_range", "geometry_face_range", "eyeball_part_names", "eyeball_part_vertex_range",
    "eyeball_part_face_range", "tooth_vertex_range", "landmarks68", "skin_mirror_vertex_ids",
    "face_visibility", "neck_cut_point", "neck_cut_normal", "nphm_scale", "nphm_rotation", "nphm_translation",
    "anchor_vertex_ids_39", "nphm_canonical_jaw_open",
)  # fmt: skip


def read_fields(path: str | Path) -> dict[str, NDArray[Any]]:
    """The arrays of a packed head; docs/head-data.md says what each is.

    Raises:
        InputError: no such file, not an ``.npz`` of plain arrays, or fields are missing.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no head data at {path}; make it with `facetalk data head`")
    data = read_arrays(path)
    missing = [name for name in _REQUIRED if name not in data]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; give the packed ICT-FaceKit Light file")
    return {name: data[name] for name in _REQUIRED}


@dataclass(frozen=True)
class Solid:
    """One closed (or nearly closed) part of the head.

    Attributes:
        name: for messages.
        faces: (F, 3) int64, into the vertices of the head, outward.
    """

    name: str
    faces: Int64


class MorphableHead:
    """A linear morphable head in head space.

    Attributes:
        expression_names: names of the E expressions.
        neutral: (V, 3) mean head with a closed mouth.
        identity_basis: (I, V, 3) displacement at coefficient 1.
        expression_basis: (E, V, 3) displacement at weight 1.
        faces: (F, 3) int64 triangles, counter-clockwise from outside.
        vertex_part: (V,) uint8 :class:`Part`; ``NO_PART`` where a vertex belongs to no solid part.
        face_part: (F,) uint8 likewise.
        landmark_ids: (68,) Multi-PIE landmarks.
        canonical_jaw: weight of ``jawOpen`` in the canonical shape.
    """

    def __init__(self, data: dict[str, NDArray[Any]]) -> None:
        scale, rotation = float(data["nphm_scale"]), data["nphm_rotation"].astype(np.float32)
        self._turn = (scale * rotation.T).astype(np.float32)
        self._shift = data["nphm_translation"].astype(np.float32)
        self.expression_names = tuple(str(name) for name in data["expression_names"])
        self.neutral: Float32 = data["neutral"].astype(np.float32) @ self._turn + self._shift
        self.identity_basis: Float32 = data["identity_deltas"].astype(np.float32) @ self._turn
        self.expression_basis: Float32 = data["expression_deltas"].astype(np.float32) @ self._turn
        self.faces = data["faces"].astype(np.int64)
        self.landmark_ids = data["landmarks68"].astype(np.int64)
        self.mirror_ids = data["skin_mirror_vertex_ids"].astype(np.int64)
        self.anchor_ids = data["anchor_vertex_ids_39"].astype(np.int64)
        self.visibility = data["face_visibility"].astype(np.uint8)
        self.canonical_jaw = float(data["nphm_canonical_jaw_open"])
        self.tooth_ranges = data["tooth_vertex_range"].astype(np.int64)
        self.neck_point: Float32 = data["neck_cut_point"].astype(np.float32) @ self._turn + self._shift
        normal = data["neck_cut_normal"].astype(np.float32) @ rotation.T
        self.neck_normal: Float32 = normal / np.linalg.norm(normal)
        self._vertex_range = dict(
            zip(map(str, data["geometry_names"]), data["geometry_vertex_range"], strict=True)
        )
        self._face_range = dict(
            zip(map(str, data["geometry_names"]), data["geometry_face_range"], strict=True)
        )
        self._eye_vertices = dict(
            zip(map(str, data["eyeball_part_names"]), data["eyeball_part_vertex_range"], strict=True)
        )
        self._eye_faces = dict(
            zip(map(str, data["eyeball_part_names"]), data["eyeball_part_face_range"], strict=True)
        )
        self.vertex_part = self._vertex_parts()
        self.face_part = self._face_parts()

    @classmethod
    def load(cls, path: str | Path) -> MorphableHead:
        """Read the packed model.

        Raises:
            InputError: no such file, not an ``.npz`` of plain arrays, or fields are missing.
        """
        fields = read_fields(path)
        with usable(path, "give the packed ICT-FaceKit Light file"):
            return cls(fields)

    # Shapes ---------------------------------------------------------------------------------------------

    @property
    def identity_dim(self) -> int:
        """Number of identity coefficients (standard normal)."""
        return len(self.identity_basis)

    @property
    def expression_dim(self) -> int:
        """Number of expression weights (nominally 0..1)."""
        return len(self.expression_basis)

    @cached_property
    def canonical_expression(self) -> Float32:
        """(E,) weights of the canonical shape: jaw slightly open, so that the lips do not touch."""
        weights = np.zeros(self.expression_dim, np.float32)
        weights[self.expression_names.index("jawOpen")] = self.canonical_jaw
        return weights

    def vertices(self, identity: Float32 | None = None, expression: Float32 | None = None) -> Float32:
        """Vertices (V, 3) of identity coefficients (I,) and expression weights (E,); None means zeros."""
        shape = self.neutral.copy()
        if identity is not None:
            shape += np.tensordot(np.asarray(identity, np.float32), self.identity_basis, 1)
        if expression is not None:
            shape += np.tensordot(np.asarray(expression, np.float32), self.expression_basis, 1)
        return shape

    def canonical(self, identity: Float32 | None = None) -> Float32:
        """Vertices (V, 3) of the canonical shape of an identity."""
        return self.vertices(identity, self.canonical_expression)

    def weights(self, **values: float) -> Float32:
        """(E,) expression weights by name; a name without its ``_L``/``_R`` sets both sides."""
        out = np.zeros(self.expression_dim, np.float32)
        for name, value in values.items():
            found = [
                i
                for i, known in enumerate(self.expression_names)
                if known in (name, name + "_L", name + "_R")
            ]
            if not found:
                raise InputError(f"unknown expression {name!r}")
            out[found] = value
        return out

    # Parts ----------------------------------------------------------------------------------------------

    def part_vertices(self, name: str) -> slice:
        """Vertices of a named geometry part or eyeball part."""
        return slice(*map(int, {**self._vertex_range, **self._eye_vertices}[name]))

    def part_faces(self, name: str) -> slice:
        """Triangles of a named geometry part or eyeball part."""
        return slice(*map(int, {**self._face_range, **self._eye_faces}[name]))

    def _vertex_parts(self) -> UInt8:
        part = np.full(len(self.neutral), NO_PART, np.uint8)
        for name in SHEET:
            part[self.part_vertices(name)] = Part.SKIN
        for name in ("sclera_left", "sclera_right"):
            part[self.part_vertices(name)] = Part.EYEBALLS
        jaw = np.linalg.norm(self.expression_basis[self.expression_names.index("jawOpen")], axis=1)
        # Teeth are rigid; the one mesh of gums, palate and tongue is split where it starts to follow the jaw.
        for name in ("teeth", "gums_and_tongue"):
            span = self.part_vertices(name)
            part[span] = np.where(
                jaw[span] > 0.25 * jaw[self.part_vertices("teeth")].max(), Part.LOWER_TEETH, Part.UPPER_TEETH
            )
        return part

    def _face_parts(self) -> UInt8:
        corners = self.vertex_part[self.faces]
        return np.where(corners[:, 0] == corners[:, 1], corners[:, 0], corners[:, 2]).astype(np.uint8)

    @cached_property
    def solids(self) -> tuple[Solid, ...]:
        """Closed parts whose union is the head: capped skin sheet, two eyeballs, teeth, gums with tongue."""
        sheet = np.concatenate([self.faces[self.part_faces(name)] for name in SHEET])
        solids = [Solid("skin", np.concatenate([sheet, _caps(sheet)]))]
        for name in ("sclera_left", "sclera_right", "teeth", "gums_and_tongue"):
            faces = self.faces[self.part_faces(name)]
            solids.append(Solid(name, np.concatenate([faces, _caps(faces)])))
        return tuple(solids)

    def eyeballs(self, vertices: Float32) -> tuple[Float32, Float32]:
        """Centres (2, 3) and radii (2,) of the eyeballs, left first: spheres that fit the back of each."""
        centres, radii = [], []
        for name in ("sclera_left", "sclera_right"):
            x = vertices[self.part_vertices(name)].astype(np.float64)
            x = x[x[:, 2] < np.quantile(x[:, 2], 0.6)]  # without the cornea's bulge
            lhs = np.concatenate([2.0 * x, np.ones((len(x), 1))], axis=1)
            fit = np.linalg.lstsq(lhs, (x * x).sum(1), rcond=None)[0]
            centres.append(fit[:3])
            radii.append(np.sqrt(fit[3] + fit[:3] @ fit[:3]))
        return np.array(centres, np.float32), np.array(radii, np.float32)

    # Signed distance ------------------------------------------------------------------------------------

    def signed_distance(self, points: NDArray[Any], vertices: Float32, *, cut: bool = True) -> Float32:
        """Signed distance (N,) from points (N, 3) to the solid head with the given vertices, negative inside.

        Outside it is exact; inside it is the largest depth in any one part, which is at most the true depth.
        ``cut`` removes everything below the neck plane.
        """
        igl = _igl()
        points = np.ascontiguousarray(points, np.float64)
        shape = vertices.astype(np.float64)
        result = np.full(len(points), np.inf)
        for solid in self.solids:
            used = shape[np.unique(solid.faces)]
            below, above = used.min(0), used.max(0)
            gap = np.maximum(np.maximum(below - points, points - above), 0.0)
            # A part cannot lower the minimum where even its box is farther away.
            near = np.flatnonzero(np.linalg.norm(gap, axis=1) <= np.maximum(result, 0.0))
            if len(near):
                faces = np.ascontiguousarray(solid.faces)
                value = igl.signed_distance(
                    points[near], shape, faces, igl.SIGNED_DISTANCE_TYPE_FAST_WINDING_NUMBER
                )[0]
                result[near] = np.minimum(result[near], value)
        for centre, radius in zip(*self.eyeballs(vertices), strict=True):
            # Between eyeball and socket is a cavity that nobody sees: fill it up to a plane behind the lids.
            offset = points - centre
            filler = np.maximum(np.linalg.norm(offset, axis=1) - 1.08 * radius, offset[:, 2] - 0.2 * radius)
            result = np.minimum(result, filler)
        if cut:
            result = np.maximum(result, (self.neck_point - points) @ self.neck_normal)
        return result.astype(np.float32)


def _igl() -> ModuleType:
    """Libigl, which only the making of training data needs."""
    try:
        import igl
    except ImportError as error:
        raise InputError("exact distances to meshes need libigl; pip install 'facetalk[train]'") from error
    return igl


def _caps(faces: Int64) -> Int64:
    """Fans of triangles that close the boundary loops of an oriented mesh, with its orientation."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    known = {(int(a), int(b)) for a, b in edges}
    following = {b: a for a, b in known if (b, a) not in known}  # the cap runs along the edges backwards
    caps = []
    while following:
        start, vertex = following.popitem()
        loop = [start]
        while vertex != start and vertex in following:
            loop.append(vertex)
            vertex = following.pop(vertex)
        caps += [(loop[0], loop[i], loop[i + 1]) for i in range(1, len(loop) - 1)]
    return np.array(caps, np.int64).reshape(-1, 3)
