"""Surfaces of models whose deformation goes forward.

As their authors do it, the neutral field is meshed once and its vertices are moved (``moved``). On request
the surface is that of the posed field, whose values come through roots: from every sample of the lattice, or
from those near the moved mesh and wherever an evaluated sample contradicts the sign that its neighbour was
given (``posed``). The latter is the dense mesh but for pieces that no moved mesh comes near; a root costs
several evaluations, so few samples count.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor

from facetalk.arrays import Bool, Float32
from facetalk.nphm.bound import Bound
from facetalk.nphm.lattice import Bounds, lattice_axes
from facetalk.nphm.posed import moved_points, posed_grid, posed_samples
from facetalk.nphm.root_search import warn_of
from facetalk.nphm.surface import find
from facetalk.nphm.surface.identity import CanonicalKnowledge
from facetalk.nphm.surface.options import ExtractionInfo, ExtractionOptions, Surface
from facetalk.nphm.surface.plan import BOX_MARGIN
from facetalk.ops.field.kernels import ExtractionCounts

_REACH = 1
"""Samples beyond the corners of a moved vertex's cell that are evaluated at first: sides of moved triangles
are longer than a cell where the deformation stretches."""


def neutral_surface(
    bound: Bound,
    knowledge: CanonicalKnowledge,
    axes: Sequence[Float32],
    bounds: Bounds,
    options: ExtractionOptions,
) -> Surface:
    """The surface of the canonical field, found once per lattice and kept with what is known of it."""
    key = (options.exact, *(axis.tobytes() for axis in axes))
    if key not in knowledge.surfaces:
        (knowledge.surfaces[key],) = find.surfaces(bound, knowledge, None, axes, bounds, options)
    return knowledge.surfaces[key]


def surfaces(
    bound: Bound,
    knowledge: CanonicalKnowledge,
    biases: Sequence[Tensor],
    axes: Sequence[Float32],
    bounds: Bounds,
    options: ExtractionOptions,
) -> Iterator[Surface]:
    """The surface of every frame, one at a time; the arguments are those of :func:`find.surfaces`."""
    points = int(np.prod([len(axis) for axis in axes]))
    frames = [[bias[t : t + 1] for bias in biases] for t in range(len(biases[0]))]
    if options.posed and options.exact:
        for frame in frames:
            volume, lost = posed_grid(bound.kernels, axes, frame, bound.weight)
            counts = ExtractionCounts(deformed=points, evaluated=points, lost=lost)
            yield _meshed(bound, volume[0], bounds, ExtractionInfo("dense", points, counts))
    elif options.posed:
        # What is moved into the bounds may come from outside.
        neutral = neutral_surface(bound, knowledge, *_wider(axes, bounds), options)
        for frame in frames:
            moved = moved_points(bound.kernels, _tensor(neutral.vertices), frame, bound.weight)[0]
            near = _cells(moved.cpu().numpy(), [len(axis) for axis in axes], bounds)
            volume, counts = _evaluated(bound, frame, axes, near)
            yield _meshed(bound, volume, bounds, ExtractionInfo("posed", points, counts))
    else:
        neutral = neutral_surface(bound, knowledge, axes, bounds, options)
        evaluated = 0 if neutral.info.counts is None else neutral.info.counts.evaluated
        for frame in frames:
            moved = moved_points(bound.kernels, _tensor(neutral.vertices), frame, bound.weight)[0]
            info = ExtractionInfo("moved", points, ExtractionCounts(len(moved), evaluated))
            yield Surface(bound.kernels.mesh_array(moved), neutral.faces, info)
            evaluated = 0  # the neutral head was asked once


def _meshed(bound: Bound, volume: Tensor, bounds: Bounds, info: ExtractionInfo) -> Surface:
    assert info.counts is not None
    warn_of(info.counts.lost, info.counts.deformed)
    (mesh,) = bound.kernels.volume_meshes(volume[None], bounds)
    return Surface(mesh.vertices, mesh.faces, info)


def _tensor(vertices: Any) -> Tensor:
    return vertices if isinstance(vertices, Tensor) else torch.from_numpy(np.array(vertices))


def _wider(axes: Sequence[Float32], bounds: Bounds) -> tuple[list[Float32], Bounds]:
    """A lattice as fine that reaches farther by `BOX_MARGIN`, and its box."""
    low, high = np.asarray(bounds, dtype=np.float64)
    counts = np.array([len(axis) for axis in axes])
    edges = (high - low) / (counts - 1)
    extra = np.ceil(BOX_MARGIN / edges).astype(int)
    box = [(low - extra * edges).tolist(), (high + extra * edges).tolist()]
    return lattice_axes((counts + 2 * extra).tolist(), box), box


def _cells(vertices: Float32, shape: Sequence[int], bounds: Bounds) -> Bool:
    """The samples (nx, ny, nz) around cells of the lattice that hold a vertex."""
    low, high = np.asarray(bounds, dtype=np.float64)
    cell = np.floor((vertices - low) / (high - low) * (np.array(shape) - 1)).astype(np.int64)
    reach = range(-_REACH, _REACH + 2)
    near = np.zeros(tuple(shape), dtype=bool)
    for offset in itertools.product(reach, reach, reach):
        at = cell + offset
        near[tuple(at[((at >= 0) & (at < shape)).all(axis=1)].T)] = True
    return near


def _evaluated(
    bound: Bound, frame: list[Tensor], axes: Sequence[Float32], fresh: Bool
) -> tuple[Tensor, ExtractionCounts]:
    """A volume with the posed field at the samples `fresh` and where signs contradict, elsewhere +-1."""
    values, known = np.ones(fresh.shape, dtype=np.float32), np.zeros_like(fresh)
    lost = 0
    while fresh.any():
        index = np.nonzero(fresh)
        points = torch.from_numpy(np.stack([axis[i] for axis, i in zip(axes, index, strict=True)], axis=1))
        found, failed = posed_samples(bound.kernels, points.to(bound.device), frame, bound.weight)
        values[index] = found.cpu().numpy()
        lost += failed
        known |= fresh
        fresh = _contradictions(known, values)
    asked = int(known.sum())
    counts = ExtractionCounts(deformed=asked, evaluated=asked, lost=lost)
    return torch.from_numpy(values).to(bound.device), counts


def _contradictions(known: Bool, values: Float32) -> Bool:
    """Gives samples that are not known the sign that most known ones around their piece of space have.

    Returns:
        those of them that have a known neighbour of the other sign.
    """
    pieces, count = scipy.ndimage.label(~known)
    pairs = []
    for axis in range(3):
        sides = [[slice(None)] * 3, [slice(None)] * 3]
        sides[0][axis], sides[1][axis] = slice(None, -1), slice(1, None)
        pairs += [(tuple(sides[0]), tuple(sides[1])), (tuple(sides[1]), tuple(sides[0]))]
    votes = np.zeros(count + 1)
    for here, there in pairs:
        border = known[here] & ~known[there]
        signs = np.where(values[here][border] < 0, -1.0, 1.0)
        votes += np.bincount(pieces[there][border], signs, count + 1)
    sign = np.where(votes < 0, -1.0, 1.0).astype(np.float32)
    values[~known] = sign[pieces[~known]]
    fresh = np.zeros_like(known)
    for here, there in pairs:
        fresh[there] |= known[here] & ~known[there] & ((values[here] < 0) != (values[there] < 0))
    return fresh
