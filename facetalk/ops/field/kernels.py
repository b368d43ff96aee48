"""What is asked of an identity's kernels to learn it, on whichever device they run.

Slopes and caches are learned by the same code for CPU and CUDA: these functions say what differs. Answers are
always float32's, whatever the precision of frames: a cache of rounded values would be taken for a rough one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetalk.ops.cuda.canonical_cache import CudaCanonicalCache
from facetalk.ops.cuda.field import CudaField
from facetalk.ops.field.cpu import OffsetWeight, PackedField
from facetalk.ops.field.surface import CanonicalCache, FieldBand, SlopeBounds

Kernels = PackedField | CudaField
Lattice = CanonicalCache | CudaCanonicalCache
Float32 = NDArray[np.float32]


def ask(
    field: Kernels,
    points: Tensor,
    biases: Sequence[Tensor] | None = None,
    *,
    weight: OffsetWeight | None = None,
    outputs: Sequence[str] = ("sdf",),
) -> dict[str, Tensor]:
    """The field's `query` at points (N, 3) in the CPU's memory; answers stay on the field's device."""
    if isinstance(field, CudaField):
        return field.in_float32().query(points.to(field.device), biases, weight=weight, outputs=outputs)
    return field.query(points, biases, weight=weight, outputs=outputs)


def distances(field: Kernels, points: NDArray[Any]) -> Float32:
    """Canonical signed distances (N,) at points (N, 3)."""
    found: Float32 = ask(field, torch.from_numpy(points.astype(np.float32)))["sdf"][0].cpu().numpy()
    return found


def inside(field: Kernels, axes: Sequence[Float32], bounds: SlopeBounds) -> tuple[NDArray[np.bool_], int]:
    """Where a lattice's samples (nx, ny, nz) are inside the canonical surface, and how many were evaluated.

    On a CUDA device blocks are left out by the values at their corners alone, see `CudaField.bricks`.
    """
    if isinstance(field, CudaField):
        bricks = field.in_float32().bricks(axes)
        return (bricks.dense()[0] < 0).cpu().numpy(), bricks.evaluated
    volume, counts = FieldBand(field, axes).frame(None, bounds)
    return volume.dense().numpy() < 0, counts.evaluated


def make_lattice(field: Kernels, **arrays: Any) -> Lattice:
    """The cache where the field's kernels look it up; see `CanonicalCache` for the arrays."""
    if isinstance(field, CudaField):
        return CudaCanonicalCache(**arrays, device=field.device)
    return CanonicalCache(**arrays)


def look_up(lattice: Lattice, points: Float32) -> tuple[Float32, NDArray[np.bool_], Float32, Float32]:
    """The cache at points (N, 3), each (N,): values, whether cached, signed least distances, errors."""
    if isinstance(lattice, CudaCanonicalCache):
        found = lattice.query(torch.from_numpy(points).to(lattice.device))
        values, covered, far, error = (answer.cpu().numpy() for answer in found)
        return values, covered, far, error
    return lattice.query(points)
