"""Marching cubes on a CUDA device: torch's memory, the caller's stream, one look at the counts."""

from __future__ import annotations

import functools
import itertools
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.utils.dlpack
from torch import Tensor

from facetalk.ops._device import cuda_core, current_stream

Meshes = tuple[Tensor, Tensor, Tensor | None, list[tuple[int, int]]]
"""Vertices (V, 3), faces (F, 3) and normals (V, 3) or None of all frames, one after the other; then for each
frame, and once more behind the last, how many vertices and faces lie before it."""


def extract(volumes: Tensor, level: float, origin: list[float], step: list[float], normals: bool) -> Meshes:
    """Extract the surfaces of dense volumes.

    Args:
        volumes: (T, nx, ny, nz) float32, contiguous, on a CUDA device.
        level: the value on the surface.
        origin: position of sample (0, 0, 0).
        step: distance between samples along each axis.
        normals: also make unit normals.

    Returns:
        the meshes; faces count from 0 in each frame.

    Raises:
        ValueError: for samples that are not finite, or a frame of 2**31 vertices or faces or more.
    """
    core = cuda_core("volume", volumes.device)
    return run(core, volumes, None, tuple(volumes.shape), level, origin, step, normals)


def extract_bricks(
    samples: Tensor,
    table: Tensor,
    shape: tuple[int, int, int],
    level: float,
    origin: list[float],
    step: list[float],
    normals: bool = False,
) -> Meshes:
    """Extract the surfaces of fields of which only the bricks near a surface are stored.

    Args:
        samples: (B, 8, 8, 8) float32, contiguous, on a CUDA device: bricks of all frames.
        table: (T, ceil(nx / 8), ceil(ny / 8), ceil(nz / 8)) int32: the number of a brick, or -1 where all is
            outside and -2 where all is inside. The corners of every cell that is cut must be stored.
        shape: (nx, ny, nz), samples of a frame.
        level: as in `extract`.
        origin: as in `extract`.
        step: as in `extract`.
        normals: also make unit normals; a missing neighbour counts as a sample at the level.

    Returns:
        the meshes, the same as `extract` makes of the dense volumes.

    Raises:
        ValueError: as `extract`.
    """
    core = cuda_core("samples", samples.device)
    return run(core, samples, table, (int(table.shape[0]), *shape), level, origin, step, normals)


def extract_into(
    samples: Tensor,
    table: Tensor | None,
    shape: tuple[int, ...],
    level: float,
    origin: list[float],
    step: list[float],
    vertices: Tensor,
    faces: Tensor,
    normals: Tensor | None = None,
    *,
    _core: ModuleType | None = None,
) -> Tensor:
    """Extract surfaces into memory that is there already: nothing waits, so a CUDA graph can hold the call.

    Args:
        samples: as in `extract` (table None) or `extract_bricks`.
        table: as in `extract_bricks`, or None for dense volumes.
        shape: (T, nx, ny, nz).
        level: as in `extract`.
        origin: as in `extract`.
        step: as in `extract`.
        vertices: room for the vertices of all frames, (most, 3) float32, contiguous, on the samples' device.
        faces: room for the faces, (most, 3) int32.
        normals: room for the normals, or None.

    Returns:
        (4 + 2 T,) int64 on the device: how many samples are not finite; a number that tells the first; then
        for each frame, and once more behind the last, how many vertices and faces lie before it. Where a room
        is smaller than the last two say, nothing at all was written: ask again with more.
    """
    core = _core or cuda_core("samples", samples.device)
    problem = _problem(core, samples, table, shape, level, origin, step)
    core.marching_cubes_count(*problem)
    core.marching_cubes_emit(*problem, vertices, normals, faces)
    return problem[8]  # type: ignore[no-any-return]


def run(
    core: ModuleType,
    samples: Tensor,
    table: Tensor | None,
    shape: tuple[int, ...],
    level: float,
    origin: list[float],
    step: list[float],
    normals: bool,
) -> Meshes:
    """Count, look at the counts, make room, emit.

    `core` has the kernels; see csrc/cuda/marching_cubes/marching_cubes.h.
    """
    device = samples.device
    problem = _problem(core, samples, table, shape, level, origin, step)
    core.marching_cubes_count(*problem)
    found = problem[8].tolist()  # the one wait for the device: how much room the meshes need
    if found[0]:
        raise ValueError(_not_finite(found[0], 2**63 - 1 - found[1], table, shape))
    starts = list(zip(found[2::2], found[3::2], strict=True))
    for (v0, f0), (v1, f1) in itertools.pairwise(starts):
        if max(v1 - v0, f1 - f0) >= 2**31:
            raise ValueError(
                "volume: expected a surface of less than 2^31 vertices and faces (faces are int32; cut the "
                f"volume up), got {v1 - v0} vertices and {f1 - f0} faces"
            )
    vertex_count, face_count = starts[-1]
    vertices = torch.empty((vertex_count, 3), dtype=torch.float32, device=device)
    faces = torch.empty((face_count, 3), dtype=torch.int32, device=device)
    directions = torch.empty_like(vertices) if normals else None
    if vertex_count:
        core.marching_cubes_emit(*problem, vertices, directions, faces)
    return vertices, faces, directions, starts


def _problem(
    core: ModuleType,
    samples: Tensor,
    table: Tensor | None,
    shape: tuple[int, ...],
    level: float,
    origin: list[float],
    step: list[float],
) -> tuple[Any, ...]:
    """What both kernels' launchers take, with fresh workspace and header."""
    device = samples.device
    workspace = torch.empty(core.marching_cubes_workspace(shape), dtype=torch.uint8, device=device)
    header = torch.empty(4 + 2 * shape[0], dtype=torch.int64, device=device)
    stream = current_stream(device)
    return (samples, table, shape, _cases(core, device), level, origin, step, workspace, header, stream)


@functools.cache
def _cases(core: ModuleType, device: torch.device) -> Tensor:
    """The case table in the device's memory: 14 KB, for every call on every stream, never given back."""
    return torch.utils.dlpack.from_dlpack(core.marching_cubes_cases()).to(device)


def _not_finite(count: int, first: int, table: Tensor | None, shape: tuple[int, ...]) -> str:
    where = "in a brick"
    if table is None:
        index = np.unravel_index(first, shape)
        text = ", ".join(str(int(n)) for n in (index if shape[0] > 1 else index[1:]))
        where = f"the first at index ({text})"
    return (
        f"volume: expected finite samples, got {count} that {'is' if count == 1 else 'are'} NaN or infinite, "
        f"{where}"
    )
