"""The canonical field of one identity, baked once onto a sparse lattice.

An identity does not change over a sequence, so its ensemble of networks need not be asked again for every
frame: near the surface the signed distance is sampled on a lattice and interpolated (tricubic). Every brick
is compared with the network at random points; where the error is more than the tolerance, the brick is
replaced by eight of half the spacing. A brick knows its error, so that where it is still too large, the
networks are asked. What is left is measured at points that no decision looked at.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from facetalk.arrays import Bool, Float32, Float64, Int32, Int64
from facetalk.nphm.surface.store import Baking
from facetalk.nphm.surface.tricubic import interpolate
from facetalk.ops.field.bounds import SlopeBounds
from facetalk.ops.field.kernels import FieldCache, FieldKernels, constants
from facetalk.units import HEAD_UNIT_MM

Slot = tuple[Int32, tuple[int, ...]]
Bar = Any  # tqdm is no generic class at run time

FIRST_SPACING = 0.01
"""Spacing of the coarsest bricks at the default tolerance, head units: a seventh of the width of NPHM's
blending weights, at which most bricks of a head are good enough."""
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
QUERY = 1 << 16
"""Points that are asked of the networks between two movements of the bar."""
HELD_OUT = 4096
"""Points at which the error is measured that no decision looked at."""


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

    lattice: FieldCache
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

    def __init__(
        self, field: FieldKernels, origin: Float64, spacing: float, at: Int64, bar: Bar | None = None
    ) -> None:
        self.origin, self.spacing, self.at = origin, spacing, at
        cells, side = constants().cache_cells, constants().cache_nodes
        # Neighbours share samples: every one is asked once.
        steps = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        nodes = (at[:, None] * cells + steps).reshape(-1, 3)
        extent = nodes.max(axis=0) + 1 if len(nodes) else np.ones(3, dtype=np.int64)
        named, inverse = np.unique(np.ravel_multi_index(nodes.T, extent), return_inverse=True)
        index = np.stack(np.unravel_index(named, extent), axis=1)
        points = origin + (index - 1) * spacing
        self.evaluated = len(points)
        values = _values(field, points, bar)
        self.data = values[inverse].reshape(len(at), side, side, side)


class _Tree:
    """The table of bricks, and the bricks that took the place of rough ones.

    Args:
        near: (nx, ny, nz) where there are bricks of the first spacing.
    """

    def __init__(self, near: Bool) -> None:
        self.table = np.full(near.shape, -1, dtype=np.int32)
        self.children: list[Int32] = []
        self.data: list[Float32] = []
        self.errors: list[Float64] = []
        self.count = 0
        self.at: Int64 = np.argwhere(near)
        # Where the number of each of these bricks is written.
        self._slots: list[Slot] = [(self.table, tuple(b)) for b in self.at]

    def store(self, bricks: _Bricks, error: Float64, rough: Bool, width: float) -> None:
        """Keeps the bricks at `at` that are good enough; `at` are then those that replace the others."""
        finer: list[Int64] = []
        slots: list[Slot] = []
        for n, (array, place) in enumerate(self._slots):
            if not rough[n]:
                array[place] = self.count
                self.count += 1
                continue
            group = np.full(constants().cache_children, -1, dtype=np.int32)
            array[place] = -2 - len(self.children)
            self.children.append(group)
            for child in range(len(group)):
                # Three of the brick's samples along each axis bound or halve the smaller one.
                around = tuple(slice(1 + 2 * (child >> a & 1), 4 + 2 * (child >> a & 1)) for a in (2, 1, 0))
                if np.abs(bricks.data[n][around]).min() > NEAR_ENOUGH * width:
                    continue
                finer.append(2 * self.at[n] + np.array([child >> 2 & 1, child >> 1 & 1, child & 1]))
                slots.append((group, (child,)))
        self.data.append(bricks.data[~rough])
        self.errors.append(error[~rough])
        self.at, self._slots = np.array(finer, dtype=np.int64).reshape(-1, 3), slots

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a cache is made of, see :class:`facetalk.ops.field.surface.CanonicalCache`."""
        children = np.array(self.children, dtype=np.int32).reshape(-1, constants().cache_children)
        data = np.concatenate(self.data).astype(np.float32)
        error = np.concatenate(self.errors).astype(np.float32)
        return {"table": self.table, "children": children, "data": data, "error": error}


def bake(
    field: FieldKernels,
    bounds: SlopeBounds,
    low: Float64,
    high: Float64,
    *,
    width: float,
    tolerance_mm: float,
    deepest: int = DEEPEST,
    seed: int = 0,
    keep: Callable[[Baking], None] | None = None,
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
        keep: called with what :func:`restore` needs to do without the networks.
    """
    # Shown from the start, and in a file as well: somebody is waiting for a first frame.
    with tqdm(
        total=0, desc="bake the identity, once", unit="point", unit_scale=True, leave=False,
        mininterval=0.2 if sys.stderr.isatty() else 5.0,
    ) as bar:  # fmt: skip
        baking = _bake(
            field, bounds, low, high, bar, width=width, tolerance_mm=tolerance_mm, deepest=deepest, seed=seed
        )
    if keep is not None:
        keep(baking)
    return restore(field, baking)


def restore(field: FieldKernels, baking: Baking) -> BakedField:
    """A baked field from what :func:`bake` handed to ``keep``, on the device of these kernels.

    Raises:
        TypeError, ValueError, KeyError: the arrays are not those of a bake.
    """
    figures = dict(baking.figures)
    places = {name: figures.pop(name) for name in ("origin", "spacing", "far_origin", "far_spacing")}
    return BakedField(lattice=field.make_cache(**places, **baking.arrays), **figures)


def _bake(
    field: FieldKernels, bounds: SlopeBounds, low: Float64, high: Float64, bar: Bar, *,
    width: float, tolerance_mm: float, deepest: int, seed: int,
) -> Baking:  # fmt: skip
    rng = np.random.default_rng(seed)
    tolerance = tolerance_mm / HEAD_UNIT_MM
    cells = constants().cache_cells
    # The error of cubic interpolation grows with the fourth power of the spacing.
    spacing = FIRST_SPACING * float(np.clip((tolerance_mm / 0.03) ** 0.25, 0.4, 2.0))
    shape = np.ceil((high - low) / (cells * spacing)).astype(np.int64)
    far, evaluated = _distances(field, bounds, low, spacing, shape)
    origin = low.astype(np.float64)
    tree = _Tree(_least(far, cells // 2) <= width)
    for depth in range(deepest + 1):
        bricks = _Bricks(field, origin, spacing / 2**depth, tree.at, bar)
        error, asked = _probe(field, bricks, far, origin, 2 * spacing, width, rng, bar)
        evaluated += bricks.evaluated + asked
        error = PROBE_MARGIN * error
        tree.store(bricks, error, (error > tolerance) & (depth < deepest), width)
        if not len(tree.at):
            break
    place = origin.tolist()
    places = {"origin": place, "spacing": spacing, "far_origin": place, "far_spacing": 2 * spacing}
    arrays = {"far": far, **tree.arrays()}
    lattice = field.make_cache(**places, **arrays)
    worst, mean = _held_out(field, lattice, low, high, width, tolerance, rng)
    figures = {
        "width": width,
        "tolerance_mm": tolerance_mm,
        "error_mm": worst * HEAD_UNIT_MM,
        "mean_error_mm": mean * HEAD_UNIT_MM,
        "rough": float((np.concatenate(tree.errors) > tolerance).mean()) if tree.count else 0.0,
        "bricks": tree.count,
        "evaluated": evaluated + HELD_OUT,
    }
    return Baking(arrays, {**places, **figures})


def _values(field: FieldKernels, points: NDArray[Any], bar: Bar | None = None) -> Float32:
    """Canonical signed distances (N,) at points (N, 3)."""
    if bar is not None:  # how many there will be is known level by level
        bar.total += len(points)
    found: list[Float32] = []
    for first in range(0, max(len(points), 1), QUERY):
        part = points[first : first + QUERY]
        asked = field.query_float32(torch.from_numpy(part.astype(np.float32)))
        found.append(asked["sdf"][0].cpu().numpy())
        if bar is not None:
            bar.update(len(part))
    return np.concatenate(found)


def _distances(
    field: FieldKernels, bounds: SlopeBounds, low: Float64, spacing: float, shape: Int64
) -> tuple[Float32, int]:
    """Signed lower bounds of the distance to the surface over cells of twice the spacing."""
    counts = shape * constants().cache_cells
    axes = [(a + spacing * np.arange(n + 1)).astype(np.float32) for a, n in zip(low, counts, strict=True)]
    within, evaluated = field.inside(axes, bounds)
    corners = np.zeros(tuple(n - 1 for n in within.shape), dtype=np.uint8)
    for c in range(8):
        corners += within[tuple(slice(c >> a & 1, n - 1 + (c >> a & 1)) for a, n in enumerate(within.shape))]
    crossed = (corners > 0) & (corners < 8)
    # From box to box: the distance between centres, to a surface grown by one cell.
    grown = scipy.ndimage.binary_dilation(crossed, structure=np.ones((3, 3, 3), dtype=bool))
    if crossed.any():
        distance = scipy.ndimage.distance_transform_edt(~grown, sampling=spacing)
    else:
        distance = np.full(crossed.shape, float(np.linalg.norm(counts * spacing)))
    least = _least(distance.astype(np.float32), 2)
    return np.where(corners[::2, ::2, ::2] > 0, -least, least).astype(np.float32), evaluated


def _least(values: Float32, size: int) -> Float32:
    """Smallest absolute value of blocks of size^3."""
    x, y, z = (n // size for n in values.shape)
    blocks = np.abs(values).reshape(x, size, y, size, z, size)
    return blocks.min(axis=(1, 3, 5))


def _probe(
    field: FieldKernels,
    bricks: _Bricks,
    far: Float32,
    origin: Float64,
    far_spacing: float,
    width: float,
    rng: np.random.Generator,
    bar: Bar | None = None,
) -> tuple[Float64, int]:
    """(bricks,) largest error at random points within the width, of each and its neighbours; points asked."""
    n, cells = len(bricks.at), constants().cache_cells
    unit = rng.uniform(0, cells, (n, PROBES, 3))
    points = bricks.origin + (bricks.at[:, None] * cells + unit) * bricks.spacing
    place = np.clip(((points - origin) / far_spacing).astype(int), 0, np.array(far.shape) - 1)
    wanted = np.abs(far[tuple(np.moveaxis(place, -1, 0))]) <= width
    of, which = np.nonzero(wanted)
    truth = _values(field, points[of, which], bar)
    value, gradient = interpolate(bricks.data, of, unit[of, which])
    # Where the field is flat, an error moves the surface farther.
    slope = np.linalg.norm(gradient, axis=1) / bricks.spacing
    error = np.abs(value - truth) / np.clip(slope, FLATTEST, 1.0)
    worst = np.zeros(n)
    np.maximum.at(worst, of, error)
    return _with_neighbours(bricks.at, worst), len(of)


def _with_neighbours(at: Int64, values: Float64) -> Float64:
    """(n,) the greatest of each brick's value (n,) and those of its six neighbours; places (n, 3)."""
    if len(at) == 0:
        return values
    first = at.min(axis=0)
    dense = np.zeros(at.max(axis=0) - first + 1)
    where = tuple((at - first).T)
    dense[where] = values
    around = scipy.ndimage.generate_binary_structure(3, 1)
    return np.asarray(scipy.ndimage.maximum_filter(dense, footprint=around, mode="nearest")[where])


def _held_out(
    field: FieldKernels,
    lattice: FieldCache,
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
        _, covered, distance, error = lattice.look_up(points)
        found.append(points[covered & (np.abs(distance) <= width) & (error <= tolerance)])
        if sum(map(len, found)) >= HELD_OUT:
            break
    points = np.concatenate(found)[:HELD_OUT]
    if len(points) == 0:
        return 0.0, 0.0
    values, _, _, _ = lattice.look_up(points)
    error = np.abs(values - _values(field, points))
    return float(error.max()), float(error.mean())
