"""Heights on a picture to normals in tangent space."""

from __future__ import annotations

import numpy as np

from facetalk.arrays import Float32, Float64, UInt8
from facetalk.mesh.strips import in_strips, strips_of
from facetalk.nphm.head.maps.layout import Ground
from facetalk.nphm.head.template_mesh import TemplateMesh
from facetalk.units import HEAD_UNIT_METRES

__all__ = ["NORMAL_LEVELS", "normals"]

NORMAL_LEVELS = 15
"""Values that each of two components of a normal takes: with 15 by 15 a texel is one byte."""
_STEEPEST = 0.42
"""Largest component that is told; noise beyond is cut."""


def normals(mesh: TemplateMesh, uv: Float32, under: Ground, height: Float32) -> UInt8:
    """(h, w, 3) normals of heights (h, w) in millimetres; +x along u, +y along v, +z outwards.

    Slopes are as steep as the heights are on the mean head: a texel is as long as what it covers.
    """
    h, w = under.shape
    right, up = _stretch(mesh, uv)
    stretch = under.picture(under.of(np.stack([right, up], axis=1)))
    half = NORMAL_LEVELS // 2
    out = np.empty((h, w, 3), np.uint8)

    def put(rows: slice) -> None:
        # The picture goes on at its other edge, where nothing of it is shown.
        some = height.take(range(rows.start - 1, rows.stop + 1), axis=0, mode="wrap")
        per_x, per_y = stretch[rows, :, 0] / w, stretch[rows, :, 1] / h  # mm a texel
        here = some[1:-1]
        slope_x = 0.5 * (np.roll(here, -1, axis=1) - np.roll(here, 1, axis=1)) / np.maximum(per_x, 1e-3)
        slope_y = 0.5 * (some[:-2] - some[2:]) / np.maximum(per_y, 1e-3)
        length = np.sqrt(1.0 + slope_x**2 + slope_y**2)
        x, y = (
            _STEEPEST * (np.rint(np.clip(-s / length / _STEEPEST, -1.0, 1.0) * half) / half)
            for s in (slope_x, slope_y)
        )
        z = np.sqrt(np.maximum(0.0, 1.0 - x**2 - y**2))
        out[rows] = np.rint(127.5 + 127.5 * np.stack([x, y, z], axis=2)).astype(np.uint8)

    for _ in in_strips(put, strips_of(h, w)):
        pass
    return out


def _stretch(mesh: TemplateMesh, uv: Float32) -> tuple[Float64, Float64]:
    """(V,) millimetres on the mean head that the picture's whole width, and its height, would be there."""
    corners = mesh.corners[0]
    faces = mesh.uv_vertex[corners]
    p, q = mesh.vertices[faces].astype(np.float64) * (HEAD_UNIT_METRES * 1e3), uv[corners].astype(np.float64)
    e1, e2, d1, d2 = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0], q[:, 1] - q[:, 0], q[:, 2] - q[:, 0]
    twice = d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]
    good = np.abs(twice) > 1e-12
    twice = np.where(good, twice, 1.0)[:, None]
    along_u = np.linalg.norm((e1 * d2[:, 1:] - e2 * d1[:, 1:]) / twice, axis=1)
    along_v = np.linalg.norm((e2 * d1[:, :1] - e1 * d2[:, :1]) / twice, axis=1)
    out = []
    weight = np.zeros(len(mesh.vertices))
    for column in range(3):
        np.add.at(weight, faces[good, column], 1.0)
    for value in (along_u, along_v):
        total = np.zeros(len(mesh.vertices))
        for column in range(3):
            np.add.at(total, faces[good, column], value[good])
        out.append(np.where(weight > 0, total / np.maximum(weight, 1.0), 1e3))
    return out[0], out[1]
