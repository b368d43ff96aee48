"""Posed values of a bound head whose deformation goes forward: by the root, on whichever device it is bound.

The compiled inversion of a deformation takes the place of the official search, within the same limits; its
slow twin is :mod:`facetalk.nphm.root_search`. Frames are searched one by one, each from the points themselves
as the official search is, so that what is found does not depend on the frames around it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from facetalk.arrays import Float32
from facetalk.nphm.root_search import ARRIVED, STEPS, Roots, converged, inverses, warn_of
from facetalk.ops.field.kernels import FieldKernels
from facetalk.ops.field.source import OffsetWeight

_PATIENCE = 40  # steps for points that the official limits leave
_MOST_POINTS = 1 << 18  # of a lattice at a time; bounds memory
_FARTHEST = 1e15  # head units; what the kernels refuse in queries

Biases = Sequence[Tensor]
"""Per deformation layer (T, out), one row a frame."""


def posed_roots(
    kernels: FieldKernels, points: Tensor, biases: Biases, weight: OffsetWeight | None = None
) -> Roots:
    """Neutral points (T, N, 3) that the frames' deformations move to points (N, 3); tensors on the device.

    Raises:
        ValueError: a wrong shape, or a point in the CPU's memory that is too far away (named).
    """
    _refuse(points)
    frames = [_frame_roots(kernels, points, _one(biases, t), weight) for t in range(len(biases[0]))]
    if not frames:
        empty = points.new_zeros(0, len(points))
        return Roots(points.new_zeros(0, len(points), 3), empty, empty.bool())
    x, residual = (torch.stack(parts) for parts in zip(*frames, strict=True))
    return Roots(x, residual, converged(residual, points))


def _frame_roots(
    kernels: FieldKernels, points: Tensor, biases: Biases, weight: OffsetWeight | None
) -> tuple[Tensor, Tensor]:
    found = kernels.invert(points, biases, weight=weight, tolerance=ARRIVED, iterations=STEPS)
    x, residual = found[0][0], found[1][0]
    lost = torch.nonzero(~converged(residual, points))[:, 0]
    if len(lost):
        again, left = kernels.invert(
            points[lost], biases, weight=weight, tolerance=ARRIVED, iterations=_PATIENCE
        )
        closer = left[0] < residual[lost]
        x[lost[closer]], residual[lost[closer]] = again[0, closer], left[0, closer]
    return x, residual


def posed_values(
    kernels: FieldKernels, points: Tensor, biases: Biases, weight: OffsetWeight | None, output: str
) -> Tensor:
    """ "sdf" (T, N) or "gradient" (T, N, 3) of the posed field at points (N, 3).

    The gradient is that of the neutral field at the root, carried by the inverse of I + dF/dx.

    Warns:
        RootWarning: points without a root; they take the neutral point that comes nearest.
    """
    roots = posed_roots(kernels, points, biases, weight)
    warn_of(roots.failed, roots.residual.numel())
    flat = roots.points.reshape(-1, 3)
    values = kernels.query(flat, None, outputs=(output,))[output][0]
    if output == "sdf":
        return values.reshape(roots.residual.shape)
    return carried_slopes(kernels, roots.points, values.reshape(roots.points.shape), biases, weight)


def carried_slopes(
    kernels: FieldKernels, neutral: Tensor, slopes: Tensor, biases: Biases, weight: OffsetWeight | None
) -> Tensor:
    """Gradients by posed points, of `slopes` by neutral points at `neutral`, all (T, N, 3).

    d f(x) / dp with p = x + F(x) is the neutral gradient times the inverse of I + dF/dx.
    """
    out = torch.empty_like(slopes)
    for t, (x, slope) in enumerate(zip(neutral, slopes, strict=True)):
        asked = kernels.query(x.contiguous(), _one(biases, t), weight=weight, outputs=("jacobian",))
        out[t] = (slope[:, None] @ inverses(asked["jacobian"][0]))[:, 0]
    return out


def moved_points(
    kernels: FieldKernels, neutral: Tensor, biases: Biases, weight: OffsetWeight | None = None
) -> Tensor:
    """Where points (N, 3) of the neutral head are in frames: (T, N, 3) on the device, in float32."""
    asked = kernels.query_float32(neutral, biases, weight=weight, outputs=("offsets",))
    return asked["offsets"] + neutral.to(kernels.device)


def posed_grid(
    kernels: FieldKernels, axes: Sequence[Float32], biases: Biases, weight: OffsetWeight | None
) -> tuple[Tensor, int]:
    """Signed distances (T, nx, ny, nz) on a lattice, and how many of the samples have no root."""
    along = [torch.from_numpy(axis).to(kernels.device) for axis in axes]
    nx, ny, nz = (len(axis) for axis in along)
    out = torch.empty(len(biases[0]), nx, ny, nz, device=kernels.device)
    lost, slab = 0, max(1, _MOST_POINTS // (ny * nz))
    for first in range(0, nx, slab):
        points = torch.cartesian_prod(along[0][first : first + slab], along[1], along[2])
        for t in range(len(out)):
            values, failed = posed_samples(kernels, points, _one(biases, t), weight)
            out[t, first : first + slab] = values.view(-1, ny, nz)
            lost += failed
    return out, lost


def posed_samples(
    kernels: FieldKernels, points: Tensor, biases: Biases, weight: OffsetWeight | None
) -> tuple[Tensor, int]:
    """Signed distances (N,) of one frame at points (N, 3), and how many of them have no root."""
    x, residual = _frame_roots(kernels, points, biases, weight)
    lost = int((~converged(residual, points)).sum())
    return kernels.query(x.contiguous(), None, outputs=("sdf",))["sdf"][0], lost


def _one(biases: Biases, t: int) -> list[Tensor]:
    return [bias[t : t + 1] for bias in biases]


def _refuse(points: Tensor) -> None:
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points: expected shape (N, 3), got {tuple(points.shape)}")
    if points.device.type == "cpu" and not bool((points.abs() <= _FARTHEST).all()):
        row = int(torch.nonzero(~(points.abs() <= _FARTHEST))[0, 0])
        raise ValueError(f"points[{row}]: expected coordinates up to 1e15, got {points[row].tolist()}")
