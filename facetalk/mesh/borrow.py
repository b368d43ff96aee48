"""Colours and parts for a mesh that has none, from one that stands in the same place."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from facetalk.arrays import AnyFloat, Float32, UInt8
from facetalk.mesh.materials import linear_to_srgb, srgb_to_linear

__all__ = ["borrow"]

_NEIGHBOURS = 6
_FACING = 0.2
"""Least cosine between normals of surfaces that look at the same viewer: lips and lids have another side."""


def borrow(
    vertices: Float32, normals: Float32, lender: Float32, lender_normals: Float32, colors: UInt8, part: UInt8
) -> tuple[UInt8, UInt8]:
    """Colours (N, 3) and parts (N,) for vertices from a painted mesh.

    The part is that of the nearest vertex that faces the same way, and the colour is interpolated between the
    nearest of that part, by inverse squared distance and in linear light, so that a coarser lender shows no
    mosaic and no part bleeds into another.

    Args:
        vertices, normals: (N, 3) of the mesh to paint.
        lender, lender_normals: (V, 3) of the painted one, in the same unit and place.
        colors: (V, 3) sRGB of the painted one.
        part: (V,) its parts.
    """
    if not len(vertices):
        return np.zeros((0, 3), np.uint8), np.zeros(0, np.uint8)
    count = min(_NEIGHBOURS, len(lender))
    distance, near = cKDTree(lender).query(vertices, k=count)
    distance, near = distance.reshape(-1, count), near.reshape(-1, count)
    facing = np.einsum("nc,nkc->nk", normals, lender_normals[near])
    # One that looks away is taken only where none looks the same way.
    away = facing < _FACING
    penalty = np.where(away, 10.0 * distance[:, -1:], 0.0)
    best = (distance + penalty).argmin(1)
    mine = part[near[np.arange(len(near)), best]]
    weight: AnyFloat = 1.0 / (distance**2 + 1e-4 * distance[:, -1:] ** 2 + 1e-18)
    weight *= (part[near] == mine[:, None]) & (~away | away.all(1)[:, None])
    weight[np.arange(len(near)), best] += 1e-12  # one is always there
    weight /= weight.sum(1, keepdims=True)
    light = np.einsum("nk,nkc->nc", weight, srgb_to_linear(colors)[near])
    return linear_to_srgb(light), mine
