"""The canonical field of one identity, baked once onto a sparse lattice.

An identity does not change over a sequence, so its ensemble of networks need not be asked again for every
frame: near the surface the signed distance is sampled on a lattice and interpolated (tricubic). Every brick
is compared with the network at random points; where the error is more than the tolerance, the brick is
replaced by eight of half the spacing. A brick knows its error, so that where it is still too large, the
networks are asked. What is left is measured at points that no decision looked at.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from facetalk.ops.field.kernels import Kernels, Lattice, distances, inside, look_up, make_lattice
from facetalk.ops.field.surface import SlopeBounds
from facetalk.units import HEAD_UNIT_METRES

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

UNIT_MM = 1000.0 * HEAD_UNIT_METRES
CELLS = 4  # of a brick along each axis, and
NODES = CELLS + 3  # its samples: cubic interpolation reads one before and two behind a cell
FIRST_SPACING = 0.01
"""Of the coarsest bricks at the default tolerance, head units: a seventh of the width of NPHM's blending
weights, at which most bricks of a head are good enough."""
DEEPEST = 1
"""Halvings of the spacing for a short sequence. What is rougher than that (the slit of the mouth, the rims of
the lids) costs more to store than to ask the networks about, frame by frame."""
NEAR_ENOUGH = 1.3
"""A finer brick whose samples are all farther from 0 than this many widths is not made."""
PROBES = 20
"""Points of a brick where it is compared with the network."""
PROBE_MARGIN = 1.25
"""The worst probe of a brick and of its six neighbours is taken to understate the brick's worst error by this
factor. What is narrower than a brick (the slit of the mouth) may pass beside its own probes alone."""
FLATTEST = 0.1
"""Slope of the field below which its error is not weighed any more."""
HELD_OUT = 4096


@dataclasses.dataclass(frozen=True)
class BakedField:
    """A canonical field on a lattice, and how far it is from the network.

    Attributes:
        lattice: what the kernels look up, on their device.
        width: distance from the surface up to which values are cached, head units.
        tolerance_mm: error asked for.
        error_mm: largest error of the signed distance at held-out points within `width` whose brick is within
            the tolerance, millimetres.
        mean_error_mm: mean error there.
        rough: share of the bricks that are not.
        bricks: number of bricks.
        evaluated: points that were asked of the networks.
    """

    lattice: Lattice
    width: float
    tolerance_mm: float
    error_mm: float
    mean_error_mm: float
    rough: float
    bricks: int
    evaluated: int

    def fits(self, width: float, tolerance_mm: float) -> bool:
        """Whether this serves somebody who asks for that width and tolerance."""
        return self.width >= width and self.tolerance_mm <= tolerance_mm


class _Bricks:
    """Bricks of one spacing: where they are, and their samples."""

    def __init__(self, field: Kernels, origin: Float64, spacing: float, at: NDArray[np.int64]) -> None:
        self.origin, self.spacing, self.at = origin, spacing, at
        # Neighbours share samples: every one is asked once.
        steps = np.stack(np.meshgrid(*[np.arange(NODES)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        nodes = (at[:, None] * CELLS + steps).reshape(-1, 3)
        extent = nodes.max(axis=0) + 1 if len(nodes) else np.ones(3, dtype=np.int64)
        named, inverse = np.unique(np.ravel_multi_index(nodes.T, extent), return_inverse=True)
        index = np.stack(np.unravel_index(named, extent), axis=1)
        points = origin + (index - 1) * spacing
        self.evaluated = len(points)
        values = distances(field, points)
        self.data = values[inverse].reshape(len(at), NODES, NODES, NODES)


def bake(
    field: Kernels,
    bounds: SlopeBounds,
    low: Float64,
    high: Float64,
    *,
    width: float,
    tolerance_mm: float,
    deepest: int = DEEPEST,
    seed: int = 0,
) -> BakedField:
    """Sample the canonical field near its surface.

    Args:
        field: the kernels of a bound head; canonical queries have three coordinates.
        bounds: of its slope, see :func:`facetalk.nphm.surface.slopes.estimate_slopes`.
        low, high: (3,) corners of the box, head space.
        width: distance from the surface up to which values are wanted, head units.
        tolerance_mm: error of the signed distance that is accepted, millimetres.
        deepest: most halvings of the spacing. One more takes longer to bake and leaves less to ask per frame.
        seed: of the points where bricks are compared with the network.
    """
    rng = np.random.default_rng(seed)
    tolerance = tolerance_mm / UNIT_MM
    # The error of cubic interpolation grows with the fourth power of the spacing.
    spacing = FIRST_SPACING * float(np.clip((tolerance_mm / 0.03) ** 0.25, 0.4, 2.0))
    shape = np.ceil((high - low) / (CELLS * spacing)).astype(np.int64)
    far, evaluated = _distances(field, bounds, low, spacing, shape)
    table = np.full(shape, -1, dtype=np.int32)
    near = _least(far, CELLS // 2) <= width
    children: list[NDArray[np.int32]] = []
    data: list[Float32] = []
    errors: list[Float64] = []
    at = np.argwhere(near)
    slots: list[tuple[NDArray[np.int32], tuple[int, ...]]] = [(table, tuple(b)) for b in at]
    count = 0
    origin = low.astype(np.float64)
    for depth in range(deepest + 1):
        bricks = _Bricks(field, origin, spacing / 2**depth, at)
        evaluated += bricks.evaluated
        error, asked = _probe(field, bricks, far, origin, 2 * spacing, width, rng)
        evaluated += asked
        rough = (PROBE_MARGIN * error > tolerance) & (depth < deepest)
        finer: list[NDArray[np.int64]] = []
        finer_slots: list[tuple[NDArray[np.int32], tuple[int, ...]]] = []
        for n in range(len(at)):
            array, place = slots[n]
            if not rough[n]:
                array[place] = count
                count += 1
                continue
            group = np.full(8, -1, dtype=np.int32)
            array[place] = -2 - len(children)
            children.append(group)
            for child in range(8):
                corner = 2 * at[n] + np.array([child >> 2 & 1, child >> 1 & 1, child & 1])
                # Three of the brick's samples along each axis bound or halve the smaller one.
                around = tuple(slice(1 + 2 * (child >> a & 1), 4 + 2 * (child >> a & 1)) for a in (2, 1, 0))
                if np.abs(bricks.data[n][around]).min() > NEAR_ENOUGH * width:
                    continue
                finer.append(corner)
                finer_slots.append((group, (child,)))
        data.append(bricks.data[~rough])
        errors.append(PROBE_MARGIN * error[~rough])
        if not finer:
            break
        at, slots = np.array(finer), finer_slots
    lattice = make_lattice(
        field,
        origin=origin.tolist(),
        spacing=spacing,
        table=table,
        children=np.array(children, dtype=np.int32).reshape(-1, 8),
        data=np.concatenate(data).astype(np.float32),
        error=np.concatenate(errors).astype(np.float32),
        far_origin=origin.tolist(),
        far_spacing=2 * spacing,
        far=far,
    )
    worst, mean = _held_out(field, lattice, low, high, width, tolerance, rng)
    rough_share = float((np.concatenate(errors) > tolerance).mean()) if count else 0.0
    return BakedField(
        lattice, width, tolerance_mm, worst * UNIT_MM, mean * UNIT_MM, rough_share, count,
        evaluated + HELD_OUT,
    )  # fmt: skip


def _distances(
    field: Kernels, bounds: SlopeBounds, low: Float64, spacing: float, shape: NDArray[np.int64]
) -> tuple[Float32, int]:
    """Signed lower bounds of the distance to the surface over cells of twice the spacing."""
    axes = [
        (a + spacing * np.arange(CELLS * n + 1)).astype(np.float32) for a, n in zip(low, shape, strict=True)
    ]
    within, evaluated = inside(field, axes, bounds)
    corners = np.zeros(tuple(n - 1 for n in within.shape), dtype=np.uint8)
    for c in range(8):
        corners += within[tuple(slice(c >> a & 1, n - 1 + (c >> a & 1)) for a, n in enumerate(within.shape))]
    crossed = (corners > 0) & (corners < 8)
    # From box to box: the distance between centres, to a surface grown by one cell.
    grown = scipy.ndimage.binary_dilation(crossed, structure=np.ones((3, 3, 3), dtype=bool))
    if crossed.any():
        distance = scipy.ndimage.distance_transform_edt(~grown, sampling=spacing)
    else:
        distance = np.full(crossed.shape, float(np.linalg.norm(shape * CELLS * spacing)))
    least = _least(distance.astype(np.float32), 2)
    return np.where(corners[::2, ::2, ::2] > 0, -least, least).astype(np.float32), evaluated


def _least(values: Float32, size: int) -> Float32:
    """Smallest absolute value of blocks of size^3."""
    x, y, z = (n // size for n in values.shape)
    blocks = np.abs(values).reshape(x, size, y, size, z, size)
    return blocks.min(axis=(1, 3, 5))


def _probe(
    field: Kernels,
    bricks: _Bricks,
    far: Float32,
    origin: Float64,
    far_spacing: float,
    width: float,
    rng: np.random.Generator,
) -> tuple[Float64, int]:
    """(bricks,) largest error at random points within the width, of each and its neighbours; points asked."""
    n = len(bricks.at)
    unit = rng.uniform(0, CELLS, (n, PROBES, 3))
    points = bricks.origin + (bricks.at[:, None] * CELLS + unit) * bricks.spacing
    place = np.clip(((points - origin) / far_spacing).astype(int), 0, np.array(far.shape) - 1)
    wanted = np.abs(far[tuple(np.moveaxis(place, -1, 0))]) <= width
    of, which = np.nonzero(wanted)
    truth = distances(field, points[of, which])
    value, gradient = _with_gradient(bricks.data, of, unit[of, which])
    # Where the field is flat, an error moves the surface farther.
    slope = np.linalg.norm(gradient, axis=1) / bricks.spacing
    error = np.abs(value - truth) / np.clip(slope, FLATTEST, 1.0)
    worst = np.zeros(n)
    np.maximum.at(worst, of, error)
    return _with_neighbours(bricks.at, worst), len(of)


def _with_neighbours(at: NDArray[np.int64], values: Float64) -> Float64:
    """(n,) the greatest of each brick's value (n,) and those of its six neighbours; places (n, 3)."""
    if len(at) == 0:
        return values
    first = at.min(axis=0)
    dense = np.zeros(at.max(axis=0) - first + 1)
    where = tuple((at - first).T)
    dense[where] = values
    around = scipy.ndimage.generate_binary_structure(3, 1)
    return np.asarray(scipy.ndimage.maximum_filter(dense, footprint=around, mode="nearest")[where])


def _interpolate(data: Float32, brick: NDArray[np.int64], unit: Float64) -> Float64:
    """Tricubic (Lagrange) interpolation at points given in cells of their brick: what the kernels compute."""
    return _with_gradient(data, brick, unit)[0]


def _with_gradient(data: Float32, brick: NDArray[np.int64], unit: Float64) -> tuple[Float64, Float64]:
    """The same, and its gradient (N, 3) per cell."""
    cell = np.minimum(unit.astype(int), CELLS - 1)
    t = unit - cell
    weights = np.stack(
        [-t * (t - 1) * (t - 2) / 6, (t + 1) * (t - 1) * (t - 2) / 2, -(t + 1) * t * (t - 2) / 2,
         (t + 1) * t * (t - 1) / 6], axis=-1)  # fmt: skip
    slopes = np.stack(
        [-(3 * t**2 - 6 * t + 2) / 6, (3 * t**2 - 4 * t - 1) / 2, -(3 * t**2 - 2 * t - 2) / 2,
         (3 * t**2 - 1) / 6], axis=-1)  # fmt: skip
    first = np.ravel_multi_index((brick, *cell.T), data.shape)
    steps = np.ravel_multi_index(np.indices((4, 4, 4)).reshape(3, -1), (NODES,) * 3)
    block = data.reshape(-1)[first[:, None] + steps].reshape(-1, 16, 4).astype(np.float64)
    # One axis after the other: values and slopes along z, then y, then x.
    along_z = block @ np.stack([weights[:, 2], slopes[:, 2]], axis=-1)  # (N, 16, 2)
    along_z = along_z.reshape(-1, 4, 4, 2)
    plane = np.einsum("nijz,nj->niz", along_z, weights[:, 1])
    leaning = np.einsum("nij,nj->ni", along_z[..., 0], slopes[:, 1])
    value = np.einsum("ni,ni->n", plane[..., 0], weights[:, 0])
    gradient = np.stack(
        [
            np.einsum("ni,ni->n", plane[..., 0], slopes[:, 0]),
            np.einsum("ni,ni->n", leaning, weights[:, 0]),
            np.einsum("ni,ni->n", plane[..., 1], weights[:, 0]),
        ],
        axis=1,
    )
    return value, gradient


def _held_out(
    field: Kernels,
    lattice: Lattice,
    low: Float64,
    high: Float64,
    width: float,
    tolerance: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Largest and mean error at fresh points that the lattice covers."""
    found: list[Float32] = []
    for _ in range(64):
        points = rng.uniform(low, high, (65536, 3)).astype(np.float32)
        _, covered, distance, error = look_up(lattice, points)
        found.append(points[covered & (np.abs(distance) <= width) & (error <= tolerance)])
        if sum(map(len, found)) >= HELD_OUT:
            break
    points = np.concatenate(found)[:HELD_OUT]
    if len(points) == 0:
        return 0.0, 0.0
    values, _, _, _ = look_up(lattice, points)
    error = np.abs(values - distances(field, points))
    return float(error.max()), float(error.mean())
