"""Eyes and lips by marching cubes beside the rig: pictures, and how far surface and colours are off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import igl
import numpy as np
from PIL import Image

from experiments.common.portrait import close, picture
from facetalk.arrays import Bool, Float32, Int32
from facetalk.mesh import Mesh
from facetalk.mesh.borrow import Paint
from facetalk.motion import Motion
from facetalk.nphm.head.regions import Region
from facetalk.pipeline import FaceTalk

__all__ = ["compare"]

_MOUTHS: dict[str, dict[str, float]] = {
    "rest": {},
    "p": {"jawOpen": 0.1, "mouthClose": 0.1, "mouthPress": 0.2},
    "slightly open": {"jawOpen": 0.08},
    "f": {"jawOpen": 0.12, "mouthRollLower": 0.5, "mouthUpperUp": 0.2, "mouthShrugLower": 0.2},
    "o": {"jawOpen": 0.25, "mouthFunnel": 0.2},
}
_EYES: dict[str, dict[str, float]] = {
    "open": {},
    "half a blink": {"eyeBlink": 0.5},
    "blink": {"eyeBlink": 1.0},
}
_EYE, _MOUTH = (0.0325, 0.018, 0.035), (0.0, -0.053, 0.045)
_SIZE = (300, 260)
_POINTS = 20_000
_NEAR = 0.006
"""How far from the marks of lips and lids the surfaces are compared, metres."""
_PLAINLY = 40.0
"""Difference of a colour, of 255, that anyone sees."""


def compare(face: FaceTalk, folder: Path, resolutions: tuple[int, ...] = (128, 256)) -> dict[str, Any]:
    """Write ``cubes.png`` (the rig above, then each resolution) and return the figures.

    Returns:
        by resolution: "colours at rest" for eyes and for lips, the mean difference of colours, of 255,
        between the mesh as drawn and the rig's closest point, and the share of points where anyone would see
        it ("vertices alone" is the same lattice without vertices where the paint changes); "surface" for each
        mouth and eye, mean and 95th percentile of how far the rig's skin in sight is from the mesh, mm.
    """
    names = face.head.expression_names
    weights = np.zeros((len(_MOUTHS) + len(_EYES), len(names)), np.float32)
    for row, values in zip(weights, [*_MOUTHS.values(), *_EYES.values()], strict=True):
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
        marks = [worn.landmarks[48:68]] * len(_MOUTHS) + [worn.landmarks[36:48]] * len(_EYES)
        figures[str(resolution)] = {
            "colours at rest": {
                place: {
                    name: _off(mesh, paint, rig[0].vertices[worn.landmarks[ids]])
                    for name, mesh in (("vertices alone", before), ("as decoded", found[0]))
                }
                for place, ids in (("eyes", slice(36, 48)), ("lips", slice(48, 60)))
            },
            "surface": {
                name: _gap(posed, mesh, ids, worn.region == Region.SKIN)
                for name, posed, mesh, ids in zip([*_MOUTHS, *_EYES], rig, found, marks, strict=True)
            },
            "vertices": [len(before), len(found[0])],
        }
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(folder / "cubes.png")
    return figures


def _row(meshes: list[Mesh]) -> np.ndarray:
    mouth, eye = close(_MOUTH, 0.0, 0.0, 0.07), close(_EYE, 10.0, 0.0, 0.045)
    views = [mouth] * len(_MOUTHS) + [eye] * len(_EYES)
    return np.concatenate(
        [picture(mesh, view, _SIZE) for mesh, view in zip(meshes, views, strict=True)], axis=1
    )


def _gap(rig: Mesh, mesh: Mesh, marks: Int32, skin: Bool) -> dict[str, float]:
    """How far skin that faces the viewer near marks of the rig is from a mesh."""
    near = np.linalg.norm(rig.vertices[:, None] - rig.vertices[marks], axis=2).min(axis=1) < _NEAR
    points = rig.vertices[near & skin & (rig.normals[:, 2] > 0.3)]
    apart = 1000.0 * np.sqrt(
        igl.point_mesh_squared_distance(
            points.astype(np.float64), mesh.vertices.astype(np.float64), mesh.faces.astype(np.int64)
        )[0]
    )
    return {"mean": round(float(apart.mean()), 2), "p95": round(float(np.quantile(apart, 0.95)), 2)}


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
