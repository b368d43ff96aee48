"""Eyes and lips by marching cubes beside the rig: pictures, and how far their colours are from the rig's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.common.portrait import close, picture
from facetalk.arrays import Float32
from facetalk.mesh import Mesh
from facetalk.mesh.borrow import Paint
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk

__all__ = ["compare"]

_FACES: dict[str, dict[str, float]] = {
    "rest": {},
    "o": {"jawOpen": 0.25, "mouthFunnel": 0.2},
    "smile, half a blink": {"jawOpen": 0.1, "mouthSmile": 0.4, "eyeBlink": 0.5},
}
_EYE, _MOUTH = (0.0325, 0.018, 0.035), (0.0, -0.053, 0.045)
_SIZE = (300, 260)
_POINTS = 20_000
_PLAINLY = 40.0
"""Difference of a colour, of 255, that anyone sees."""


def compare(face: FaceTalk, folder: Path, resolutions: tuple[int, ...] = (128, 256)) -> dict[str, Any]:
    """Write ``cubes.png`` (the rig above, then each resolution) and return the figures at rest.

    Returns:
        by resolution, for eyes and for lips: mean difference of colours, of 255, between the mesh as drawn
        and the rig's closest point, and the share of points where anyone would see it; "vertices alone" is
        the same lattice without vertices where the paint changes.
    """
    names = face.head.expression_names
    weights = np.zeros((len(_FACES), len(names)), np.float32)
    for row, values in zip(weights, _FACES.values(), strict=True):
        for name, value in values.items():
            row[[known in (name, f"{name}_L", f"{name}_R") for known in names]] = value
    motion = Motion(weights, 25.0, np.zeros(0, np.float32), {})
    rig = list(face.decode(motion))
    worn = face.head.tables.mesh
    assert worn is not None
    paint = Paint(rig[0], face.head.bind().lenders())
    rows, figures = [_row(rig)], {}
    for resolution in resolutions:
        found = list(face.decode(motion, topology="marching-cubes", resolution=resolution))
        rows.append(_row(found))
        lattice = face.head.nphm.bind(face.head.default_identity, facial_smoothing=face.facial_smoothing)
        bare = lattice.extract(weights[:1], resolution, face.config.bounds)[0]
        colors, part = paint.at(bare.vertices, bare.normals)
        before = Mesh(bare.vertices, bare.faces, bare.normals, colors, part)
        figures[str(resolution)] = {
            place: {
                name: _off(mesh, paint, rig[0].vertices[worn.landmarks[marks]])
                for name, mesh in (("vertices alone", before), ("as decoded", found[0]))
            }
            for place, marks in (("eyes", slice(36, 48)), ("lips", slice(48, 60)))
        } | {"vertices": [len(before), len(found[0])]}
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(folder / "cubes.png")
    return figures


def _row(meshes: list[Mesh]) -> np.ndarray:
    cells = []
    for mesh in meshes:
        cells += [picture(mesh, close(_EYE, 10.0, 0.0, 0.06), _SIZE)]
        cells += [picture(mesh, close(_MOUTH, 0.0, 0.0, 0.09), _SIZE)]
    return np.concatenate(cells, axis=1)


def _off(mesh: Mesh, paint: Paint, marks: Float32) -> dict[str, float]:
    rng = np.random.default_rng(0)
    assert mesh.colors is not None
    corners = mesh.vertices[mesh.faces]
    facing = mesh.normals[mesh.faces].mean(axis=1)[:, 2] > 0.3
    near = np.linalg.norm(corners.mean(axis=1)[:, None] - marks, axis=2).min(axis=1) < 0.008
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    odds = area * (near & facing)
    chosen = rng.choice(len(area), _POINTS, p=odds / odds.sum())
    weights = rng.dirichlet(np.ones(3), _POINTS)
    place, normal, color = (
        np.einsum("nc,ncx->nx", weights, values[mesh.faces[chosen]])
        for values in (mesh.vertices, mesh.normals, mesh.colors.astype(float))
    )
    difference = np.abs(color - paint.at(np.float32(place), np.float32(normal))[0]).mean(axis=1)
    return {
        "difference": round(float(difference.mean()), 1),
        "plainly": round(float((difference > _PLAINLY).mean()), 4),
    }
