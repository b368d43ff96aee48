"""How fast a bound field can change: what lets a value keep space free of surface.

The bounds are estimates from samples, with a margin, not proofs: the networks' own Lipschitz constants are
larger by orders of magnitude. So whoever uses them checks them against every sample that is evaluated, and
says what rests on a bound that did not hold (`ExtractionCounts.uncertified`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.ndimage
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetalk.arrays import Float32, Float64
from facetalk.ops.field.bounds import LocalBounds, SlopeBounds
from facetalk.ops.field.kernels import FieldKernels
from facetalk.ops.field.source import OffsetWeight

MARGIN = 1.1
"""Factor on sampled slopes, which are means over a step of the lattice: the field may be steeper between. A
place also takes the greatest slope of its neighbours."""
STRETCH_MARGIN = 1.25
"""Factor on sampled stretches of the deformation, beyond the identity."""
_STEEPEST, _AROUND = 128, 16
"""Around so many of the steepest points so many more are looked at, in all of a call's frames together."""
_AROUND_REACHES = (0.02, 0.01, 0.005)
"""How far from them, head units, in turns."""
_STEEPER = 1.1
"""A turn that finds a deformation no steeper than so many times what was known, beyond the identity, is the
last: it is smooth there."""
SPACING = 0.03
"""Step of the lattice that slopes are sampled on, head units: under half of the 0.07 over which NPHM's
blending weights change."""
CELL = 0.06
"""Size of the cells by which stretches are known, head units."""
_FAR_CELLS = 2
"""So many of them are between the nodes where offsets are looked at in all of a box: far from the surface a
deformation is smooth."""
REACHES = (1, 2, 4, 8)
"""How far the levels of local bounds reach, in steps."""
LEAST = 0.5
"""Smallest local bound; a flat spot of the samples is not a flat field."""


def estimate_slopes(field: FieldKernels, low: Float64, high: Float64) -> tuple[SlopeBounds, Tensor]:
    """Bounds on the slope of the canonical field in a box, and points near its surface.

    Args:
        field: the kernels of a bound head.
        low, high: (3,) corners of the box, head space.

    Returns:
        the bounds, of whichever of "sdf" and "raw_sdf" is the flatter: NPHM's fade to 0 far from the anchors
        makes one field steep where another's members, trained through the fade, are; and (N, 3) points.
    """
    counts = np.maximum(np.ceil((high - low) / SPACING).astype(int), 2) + 1
    axes = [np.linspace(a, b, n) for a, b, n in zip(low, high, counts, strict=True)]
    step = [float(axis[1] - axis[0]) for axis in axes]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    points = torch.from_numpy(lattice.astype(np.float32))
    asked = field.query_float32(points, outputs=("sdf", "raw_sdf"))
    values = {name: value[0].cpu() for name, value in asked.items()}
    bounds = {}
    for name in ("sdf", "raw_sdf"):
        volume = values[name].numpy().reshape(*counts, 1).astype(np.float64)
        bounds[name] = np.maximum(MARGIN * _over_cells(volume, step), LEAST)
    name = min(bounds, key=lambda key: float(np.mean(bounds[key])))
    near = points[values["raw_sdf"].abs() < 1.5 * SPACING]
    if len(near) == 0:
        near = points
    by_place = LocalBounds(_point(low), _point(step), _reaches(step), _levels(bounds[name]))
    return SlopeBounds(float(bounds[name].max()), by_place, raw=name == "raw_sdf"), near


def _over_cells(volume: Float64, step: Sequence[float]) -> Float64:
    """How steep samples (nx, ny, nz, channels) are over each cell between them: (nx - 1, ny - 1, nz - 1).

    Along each axis it is the steepest of the cell's four edges.
    """
    total = 0.0
    for axis in range(3):
        rise = np.sqrt((np.diff(volume, axis=axis) ** 2).sum(axis=-1)) / step[axis]
        for other in {0, 1, 2} - {axis}:
            low_side = [slice(None)] * 3
            high_side = [slice(None)] * 3
            low_side[other], high_side[other] = slice(None, -1), slice(1, None)
            rise = np.maximum(rise[tuple(low_side)], rise[tuple(high_side)])
        total = total + rise**2
    return np.sqrt(total)


def _point(values: Sequence[float] | Float64) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def _reaches(step: Sequence[float]) -> tuple[float, ...]:
    return tuple(n * min(step) for n in REACHES)


def _levels(slopes: Float64) -> Float32:
    """Greatest slope within each reach of a cell: (levels, nx, ny, nz)."""
    wide = [scipy.ndimage.maximum_filter(slopes, size=2 * n + 1, mode="nearest") for n in REACHES]
    return np.stack(wide).astype(np.float32)


def _some(points: Tensor, count: int) -> Tensor:
    return points[:: max(1, len(points) // count)]


@dataclasses.dataclass(frozen=True)
class Stretches:
    """How much frames' deformations stretch, where it was looked at.

    Attributes:
        frames: the frames that were looked at, as biases of the deformation's layers.
        points: (N, 3) posed places.
        values: (N,) the greatest stretch there of any of those frames, with its margin.
    """

    frames: Sequence[Tensor]
    points: Float32
    values: Float64

    @property
    def greatest(self) -> float:
        """The greatest of them."""
        return float(self.values.max())


def sample_stretches(
    field: FieldKernels, biases: Sequence[Tensor], points: Tensor, weight: OffsetWeight | None
) -> Stretches:
    """Look at how much the deformations of a few of the frames stretch.

    A deformation all but jumps where lips or lids meet, within less than the step of any lattice of points:
    so it is sampled at some of points (N, 3), and then around those where it was steepest, nearer and nearer
    for as long as it is steeper there.
    """
    frames = [b[:: max(1, len(b) // 4)] for b in biases]
    count = min(len(frames[0]), 4)

    def stretches(places: Tensor) -> Tensor:
        asked = field.query_float32(places, frames, weight=weight, outputs=("jacobian",))["jacobian"]
        eye = torch.eye(3, device=asked.device)
        return torch.linalg.matrix_norm(asked[..., :3, :] + eye, 2).amax(dim=0).cpu()

    some = _some(points, 2048 // count)
    norms = stretches(some)
    generator = torch.Generator().manual_seed(0)
    for reach in _AROUND_REACHES:
        steepest = some[norms.topk(min(_STEEPEST, len(some))).indices]
        steps = torch.randn(_AROUND // count, len(steepest), 3, generator=generator)
        around = (steepest + reach * steps).reshape(-1, 3)
        more, before = stretches(around), float(norms.max())
        some, norms = torch.cat([some, around]), torch.cat([norms, more])
        if float(more.max()) - 1.0 <= _STEEPER * (before - 1.0):
            break
    known = 1.0 + STRETCH_MARGIN * np.maximum(norms.numpy().astype(np.float64) - 1.0, 0.0)
    return Stretches(frames, some.numpy(), known)


def with_stretch(
    bounds: SlopeBounds,
    known: Stretches,
    field: FieldKernels | None,
    weight: OffsetWeight | None = None,
) -> SlopeBounds:
    """The bounds with those of frames' deformations, by place.

    Args:
        bounds: of the canonical field.
        known: what was sampled of the deformations.
        field: the kernels of a bound head: in all of the box that the slopes are of, however far from the
            surface, the deformations are sampled on a lattice too. Bands need that, since what is known of
            no place but the steepest would leave nothing out there. None: a place that was not looked at is
            as the steepest around it.
        weight: of the offsets.
    """
    assert bounds.slope is not None
    low = np.asarray(bounds.slope.origin)
    size = np.asarray(bounds.slope.spacing) * bounds.slope.values.shape[1:]
    if field is None:
        lattice = np.full(_FAR_CELLS * _far_cells(size), -np.inf)
    else:
        lattice = _far_stretches(field, known.frames, weight, low, size)
    cells = np.floor((known.points - low) / CELL).astype(int)
    np.maximum.at(lattice, tuple(np.clip(cells, 0, np.array(lattice.shape) - 1).T), known.values)
    greatest = float(lattice.max())
    levels = _levels(lattice)
    for level, wider in zip(levels[::-1], [np.float32(greatest), *levels[:0:-1]], strict=True):
        np.copyto(level, wider, where=np.isneginf(level))
    local = LocalBounds(_point(low), _point([CELL] * 3), _reaches([CELL] * 3), levels)
    return dataclasses.replace(bounds, stretch=greatest, stretches=local)


def _far_cells(size: Float64) -> NDArray[np.int64]:
    """(3,) cells of the lattice on which offsets are looked at in all of a box."""
    return np.ceil(size / (_FAR_CELLS * CELL)).astype(np.int64)


def _far_stretches(
    field: FieldKernels, frames: Sequence[Tensor], weight: OffsetWeight | None, low: Float64, size: Float64
) -> Float64:
    """Stretches in the cells of a box, from offsets at the nodes of a lattice coarser than they are.

    At most what the identity stretches and what the offset does, by the norm of its derivatives together.
    """
    step = _FAR_CELLS * CELL
    counts = _far_cells(size) + 1
    nodes = np.stack(np.meshgrid(*(np.arange(n) for n in counts), indexing="ij"), axis=-1).reshape(-1, 3)
    points = torch.from_numpy((low + step * nodes).astype(np.float32))
    offsets = field.query_float32(points, frames, weight=weight, outputs=("offsets",))["offsets"]
    volumes = offsets[..., :3].cpu().numpy().reshape(-1, *counts, 3).astype(np.float64)
    steepest = np.max([_over_cells(volume, [step] * 3) for volume in volumes], axis=0)
    fine = 1.0 + STRETCH_MARGIN * steepest
    for axis in range(3):
        fine = np.repeat(fine, _FAR_CELLS, axis=axis)
    return fine
