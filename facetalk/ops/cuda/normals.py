"""Vertex normals on CUDA devices: which corners meet at a vertex, then one kernel."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from facetalk.ops._device import cuda_core, current_stream


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Normals (T, V, 3) of vertices (T, V, 3) float32 and faces (F, 3) int32, contiguous, on one CUDA device.

    Raises:
        TypeError: if this build or this machine cannot run CUDA kernels; the message says why.
    """
    return run(cuda_core("vertices", vertices.device), vertices, faces)


def run(core: ModuleType, vertices: Tensor, faces: Tensor) -> Tensor:
    """The same, by the kernels of ``core``."""
    # A stable sort keeps the corners of a vertex in the order of the faces, which fixes the order of the sum.
    named, corners = faces.flatten().sort(stable=True)
    vertex = torch.arange(vertices.shape[1] + 1, device=faces.device, dtype=faces.dtype)
    start = torch.searchsorted(named, vertex)
    normals = torch.empty_like(vertices)
    core.vertex_normals_cuda(vertices, faces, corners, start, normals, current_stream(vertices.device))
    return normals
