"""A picture of a mesh, for sheets that people look at."""

from __future__ import annotations

import numpy as np

from facetalk.arrays import UInt8
from facetalk.mesh import Mesh
from facetalk.mesh.gltf import split_by_material
from facetalk.mesh.materials import MATERIALS, srgb_to_linear
from facetalk.ops.raster import draw
from facetalk.render.studio import Camera, Look

__all__ = ["close", "picture"]

_FOCAL = 85.0 / 24.0


def close(target: tuple[float, float, float], azimuth: float, elevation: float, width: float) -> Camera:
    """A camera on a place (metres) from some degrees, to which ``width`` metres are as wide as a picture is
    high.
    """
    return Camera(target, azimuth, elevation, distance=_FOCAL * width, focal=_FOCAL)


def picture(mesh: Mesh, camera: Camera, size: tuple[int, int]) -> UInt8:
    """Draw a painted mesh, (height, width, 3) uint8, for ``size`` of width and height."""
    look, materials = Look(), list(MATERIALS.values())
    assert mesh.colors is not None
    pieces = split_by_material(mesh)
    return draw(
        mesh.vertices,
        mesh.normals,
        srgb_to_linear(mesh.colors),
        np.concatenate([piece.rows[piece.faces] for piece in pieces]).astype(np.int32),
        np.concatenate([np.full(len(p.faces), materials.index(p.material), np.uint8) for p in pieces]),
        background=look.backdrop(*size),
        palette=[[m.roughness, m.specular, m.subsurface, m.coat] for m in materials],
        lights=[[*direction, *color] for direction, color in look.lights],
        ambient=[look.sky, look.ground],
        camera=camera.matrix(),
        focal=camera.focal * size[1],
        exposure=look.exposure,
    )
