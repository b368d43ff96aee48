"""Meshes of a field's frames from its samples on the device, by marching cubes there."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor

from facetalk.ops.cuda import marching_cubes
from facetalk.ops.cuda.surface_band import FieldBricks
from facetalk.ops.field.kernels import Box, ExtractionCounts, FrameMesh, place


def dense_meshes(volumes: Tensor, box: Box) -> list[FrameMesh]:
    """Surfaces of volumes (T, nx, ny, nz) between the ends of a box."""
    found = marching_cubes.extract(volumes, 0.0, *place(box, volumes.shape[1:]), False)
    return _split(found, [None] * len(volumes))


def brick_meshes(bricks: FieldBricks, box: Box, counts: Sequence[ExtractionCounts]) -> list[FrameMesh]:
    """Surfaces of frames of which only bricks are stored."""
    origin, step = place(box, bricks.shape)
    found = marching_cubes.extract_bricks(bricks.samples, bricks.table, bricks.shape, 0.0, origin, step)
    return _split(found, counts)


def _split(found: marching_cubes.Meshes, counts: Sequence[ExtractionCounts | None]) -> list[FrameMesh]:
    vertices, faces, _, starts = found
    return [
        FrameMesh(vertices[v0:v1], faces[f0:f1], each)
        for ((v0, f0), (v1, f1)), each in zip(itertools.pairwise(starts), counts, strict=True)
    ]
