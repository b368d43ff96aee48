"""Texture coordinates of ICT-FaceKit Light, and what they tell of its parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from facetalk.arrays import Bool, Float32, Int64
from facetalk.data.heads.ict import MorphableHead
from facetalk.errors import InputError
from facetalk.reading import read_arrays

__all__ = ["BUILT_IN_UV", "TextureLayout"]

BUILT_IN_UV = Path(__file__).with_name("ict_facekit_uv.npz")
"""The copy that travels with the package (MIT, docs/head-data.md)."""

_TONGUE_TOP, _TONGUE_BELOW = (2.478, 0.003, 2.952, 0.739), (2.004, 0.099, 2.261, 0.413)
"""Boxes (u0, v0, u1, v1) of the tongue's islands, the back of the throat beside it."""


class TextureLayout:
    """Texture vertices of the head's polygons.

    Args:
        uv: (U, 2) texture coordinates.
        quads: (Q, 4) vertices of the polygons, -1 last in triangles.
        quad_uv: (Q, 4) their texture vertices.

    Attributes:
        uv: the same.
        uv_vertex: (U,) vertex of each texture vertex.
    """

    def __init__(self, uv: Float32, quads: Int64, quad_uv: Int64) -> None:
        self.uv, self._quads, self._quad_uv = uv.astype(np.float32), quads, quad_uv
        known = quads >= 0
        self.uv_vertex = np.full(len(uv), -1, np.int64)
        self.uv_vertex[quad_uv[known]] = quads[known]

    @classmethod
    def load(cls, path: str | Path = BUILT_IN_UV) -> TextureLayout:
        """Read the packed texture coordinates.

        Raises:
            InputError: no such file, or fields are missing.
        """
        data = read_arrays(Path(path))
        missing = [name for name in ("uv", "quads", "quad_uv_ids") if name not in data]
        if missing:
            raise InputError(
                f"{path} lacks {', '.join(missing)}; give the texture coordinates of ICT-FaceKit"
            )
        return cls(data["uv"], data["quads"].astype(np.int64), data["quad_uv_ids"].astype(np.int64))

    def fits(self, head: MorphableHead) -> bool:
        """Whether these are coordinates of the head's mesh."""
        if len(head.neutral) != int(self._quads.max()) + 1:
            return False
        try:
            self.corners(head.faces)
        except InputError:
            return False
        return True

    def corners(self, faces: Int64) -> Int64:
        """(F, 3) texture vertices of triangles (F, 3), each of which lies in a polygon.

        Raises:
            InputError: one does not, so the coordinates are another mesh's.
        """
        table: dict[tuple[int, ...], int] = {}
        for index, quad in enumerate(self._quads.tolist()):
            for drop in range(4):
                rest = [v for k, v in enumerate(quad) if k != drop and v >= 0]
                if len(rest) == 3:
                    table[tuple(sorted(rest))] = index
        out = np.zeros_like(faces)
        for row, face in enumerate(faces.tolist()):
            index = table.get(tuple(sorted(face)), -1)
            if index < 0:
                raise InputError("the texture coordinates are of another mesh than the head data")
            quad, textured = self._quads[index].tolist(), self._quad_uv[index]
            out[row] = [textured[quad.index(v)] for v in face]
        return out

    def tongue(self, corners: Int64) -> Bool:
        """(F,) which triangles of gums and tongue lie in an island of the tongue."""
        edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]]])
        graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(len(self.uv),) * 2)
        label = connected_components(graph, directed=False)[1][corners[:, 0]]
        out = np.zeros(len(corners), bool)
        for island in np.unique(label):
            mine = label == island
            place = self.uv[corners[mine]].reshape(-1, 2)
            for box in (_TONGUE_TOP, _TONGUE_BELOW):
                if np.abs(np.r_[place.min(0), place.max(0)] - box).max() < 0.01:
                    out[mine] = True
        return out

    def lash_card(self, head: MorphableHead, side: str, card: int) -> Int64:
        """(rows, columns) vertices of a card of lashes, roots first: 0 to 2 above the eye, 3 to 5 below."""
        corners = self.corners(head.faces[head.part_faces(f"eyelashes_{side}")])
        edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]]])
        graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(len(self.uv),) * 2)
        label = connected_components(graph, directed=False)[1]
        islands = np.unique(label[corners[:, 0]])
        members = [np.flatnonzero(label == island) for island in islands]
        members.sort(key=lambda rows: -float(self.uv[rows, 1].max()))
        rows = members[card]
        heights = np.unique(np.round(self.uv[rows, 1], 2))
        grid = []
        for height in heights:
            line = rows[np.abs(self.uv[rows, 1] - height) < 0.008]
            grid.append(self.uv_vertex[line[np.argsort(self.uv[line, 0])]])
        table = np.stack(grid)
        # Roots lie nearer to the eyeball's middle than tips.
        eye = head.neutral[head.part_vertices(f"sclera_{side}")].mean(0)
        far = np.linalg.norm(head.neutral[table] - eye, axis=2).mean(1)
        return table if far[0] < far[-1] else table[::-1]
