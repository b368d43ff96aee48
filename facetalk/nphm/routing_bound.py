"""How far a field can be from the exact one because members of the ensemble were left out.

With exact weights p_k (normalised over all members) and f' the field of the members that were kept,

    f - f' = sum over the members left out of p_k (f_k - f'),

because f' is the blend of the kept ones with the denominator of the kept ones alone. So the error is at most
the weight left out times the farthest that a member left out can be from f'. The weights are computed at each
point; how far a member can be is its range over a shell of distances from its anchor (:func:`member_ranges`).

A range is proven or measured. Proven: branch and bound with a Lipschitz constant that holds everywhere, the
product of the layers' spectral norms (softplus has slopes between 0 and 1). At official size that constant is
several hundred where the steepest slope is about three, so the bound comes out thousands of times wider than
the error. Measured, the default: values on a lattice, plus what twice the steepest slope between neighbouring
samples can add between samples. Twice, since a slope between samples is an average; tests hold it against
fields that it was not made with.

The bound is about routing alone. Both fields are rounded to float32 as well, which adds up to 2e-6.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetalk.arrays import Float64
from facetalk.nphm.field import Field
from facetalk.nphm.lattice import DEFAULT_BOUNDS, Bounds
from facetalk.nphm.networks import (
    MONO_BACKGROUND,
    MONO_DENOMINATOR,
    MONO_SCALE_RANK,
    NPHM_BACKGROUND_EXPONENT,
    NPHM_DENOMINATOR,
    NPHM_DISTANCE_BIAS,
    NPHM_VARIANCE,
)
from facetalk.ops.field.source import DEFAULT_CULL, FieldSource, cull_to_cut

__all__ = ["MemberRanges", "box_bound", "field_routing_bound", "left_out", "member_ranges", "routing_bound"]


# The kernel compares exponents in float32; a member this near the limit may fall on either side.
_ROUNDING = 4e-6
_LIMIT_SLACK = 1.02  # what that can do to the largest weight left out
# Evaluating a member in float32 is off by less than this.
_EVALUATION = 1e-5
_FIRST_CELLS = 8  # along every axis
_MOST_WORK = 2e8  # multiply-adds spent on one member's cells at a time, about 5 ms
_TOLERANCE = 0.05  # by which an enclosure may exceed what was found
_SAFETY = 2.0  # see the module
# Edges of the shells around a member's anchor, head units. Beyond the last, a weight is below 1e-15.
_SHELLS = np.array([0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6])


@dataclasses.dataclass(frozen=True)
class MemberRanges:
    """Ranges of the members of an ensemble over a box, by distance from their anchor, hyper-coordinates zero.

    The member without an anchor is taken by the distance to the nearest one.

    Attributes:
        low: (A, S) no member is below this in shell s.
        high: (A, S) nor above this.
        steepness: (A,) Lipschitz constant by position.
        hyper: (A,) Lipschitz constant by the hyper-coordinates (0 where there are none); always proven.
        bounds: (2, 3) the box, head space.
        proven: whether low, high and steepness are, or measured.
    """

    low: Float64
    high: Float64
    steepness: Float64
    hyper: Float64
    bounds: Float64
    proven: bool


def member_ranges(
    source: FieldSource, bounds: Bounds | None = None, *, samples: int = 20, proven: bool = False
) -> MemberRanges:
    """Enclose every member's output over a box.

    Args:
        source: a folded head.
        bounds: ((x0, y0, z0), (x1, y1, z1)), canonical head space; None: the default extraction box.
        samples: along every axis, for measured ranges.
        proven: whether the ranges are to be proven, see the module.
    """
    box = np.asarray(DEFAULT_BOUNDS if bounds is None else bounds, np.float64)
    if box.shape != (2, 3) or not np.isfinite(box).all() or not (box[0] < box[1]).all():
        raise ValueError(f"bounds: expected two corners growing along every axis, got {bounds!r}")
    if samples < 4:
        raise ValueError(f"samples: expected at least 4 along every axis, got {samples}")
    members = len(source.member_set)
    low, high = np.zeros((members, len(_SHELLS) + 1)), np.zeros((members, len(_SHELLS) + 1))
    steep, hyper = np.zeros(members), np.zeros(members)
    norms = [_steepness(source, u) for u in range(int(source.member_set.max()) + 1)]
    size = (box[1] - box[0]) / (samples - 1)
    grid = np.indices((samples,) * 3).reshape(3, -1).T * size + box[0]
    distance = np.linalg.norm(grid[:, None] - source.anchors.double().numpy(), axis=2)
    half = 0.5 * float(np.linalg.norm(size))
    for k, u in enumerate(source.member_set.tolist()):
        steep[k], hyper[k] = norms[u]
        if proven:
            low[k], high[k] = _enclose(source, k, steep[k], box)
            continue
        value = _member(source, k, grid).reshape((samples,) * 3)
        # Slope at a sample: the steeper of its two differences along every axis.
        slope = np.zeros_like(value)
        for axis in range(3):
            change = np.abs(np.diff(value, axis=axis)) / size[axis]
            pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
            wide = np.pad(change, pad)
            ends = [np.take(wide, range(start, start + samples), axis=axis) for start in (0, 1)]
            slope += np.maximum(*ends) ** 2
        steepest = np.sqrt(slope).ravel()
        flat = value.ravel()
        steep[k] = _SAFETY * steepest.max()
        from_anchor = distance[:, k] if k < distance.shape[1] else distance.min(axis=1)
        edges = np.concatenate([[0.0], _SHELLS, [np.inf]])
        for s, (inner, outer) in enumerate(itertools.pairwise(edges)):
            # Every point of the shell has a sample within half a diagonal, which may lie outside of it.
            here = (from_anchor >= inner - half) & (from_anchor < outer + half)
            if here.any():
                margin = _SAFETY * steepest[here].max() * half + _EVALUATION
                low[k, s], high[k, s] = flat[here].min() - margin, flat[here].max() + margin
    return MemberRanges(low, high, steep, hyper, box, proven)


def _steepness(source: FieldSource, u: int) -> tuple[float, float]:
    """Lipschitz constants of a weight set by the position and by the hyper-coordinates."""
    position = hyper = 0.0
    for hidden, coords in source.identity:
        gain = 0.0 if hidden is None else float(torch.linalg.matrix_norm(hidden[u].double(), 2))
        position, hyper = gain * position, gain * hyper
        if coords is not None:
            columns = coords[u].double()
            position += float(torch.linalg.matrix_norm(columns[:, :3], 2))
            if columns.shape[1] > 3:
                hyper += float(torch.linalg.matrix_norm(columns[:, 3:], 2))
    return position, hyper


@torch.no_grad()
def _member(source: FieldSource, k: int, points: Float64) -> Float64:
    """Output (N,) of member k at canonical positions (N, 3), hyper-coordinates zero; float32 inside."""
    u = int(source.member_set[k])
    local = torch.from_numpy(points)
    if k < len(source.anchors):
        local = local - source.anchors[k].double()
    local = local.clone()
    local[:, 0] *= float(source.mirror[k])
    x = local.float()
    h = x
    last = len(source.identity) - 1
    for i, ((hidden, coords), bias) in enumerate(zip(source.identity, source.identity_bias, strict=True)):
        value = bias[k].float()
        if hidden is not None:
            value = value + h @ hidden[u].float().T
        if coords is not None:
            value = value + x @ coords[u, :, :3].float().T
        h = value if i == last else torch.nn.functional.softplus(value, beta=100.0, threshold=20.0)
    return np.asarray(h[:, 0].double().numpy())


def _enclose(
    source: FieldSource, k: int, steepness: float, box: Float64, tolerance: float = _TOLERANCE
) -> tuple[float, float]:
    """Range of member k over the box: cells that could hold more than what was found are split."""
    size = (box[1] - box[0]) / _FIRST_CELLS
    grid = np.indices((_FIRST_CELLS,) * 3).reshape(3, -1).T
    centre = box[0] + (grid + 0.5) * size
    corners = np.array([[i, j, m] for i in (-1, 1) for j in (-1, 1) for m in (-1, 1)]) / 4.0
    found_low, found_high = np.inf, -np.inf
    work = sum(part[0].numel() for pair in source.identity for part in pair if part is not None)
    most = int(min(max(_MOST_WORK / work, 8192), 262144))
    while True:
        value = _member(source, k, centre)
        margin = 0.5 * float(np.linalg.norm(size)) * steepness + _EVALUATION
        found_low, found_high = min(found_low, value.min()), max(found_high, value.max())
        # Cells that were dropped reach at most `tolerance` beyond what was found.
        open_ = (value - margin < found_low - tolerance) | (value + margin > found_high + tolerance)
        if not open_.any():
            return found_low - tolerance, found_high + tolerance
        if 8 * int(open_.sum()) > most:
            return (
                min(found_low - tolerance, float(value[open_].min()) - margin),
                max(found_high + tolerance, float(value[open_].max()) + margin),
            )
        centre = (centre[open_][:, None] + corners * size).reshape(-1, 3)
        size = size / 2


def left_out(source: FieldSource, points: Any, cull: float) -> Float64:
    """Exact weights (N, A) that routing leaves out at canonical points (N, 3 or more); 0 where it does not.

    A member whose weight is within rounding of the limit counts as left out.

    Args:
        source: a folded head.
        points: canonical positions (N, 3), head space; further columns (hyper-coordinates) have no part in
            the blending.
        cull: as of ``PackedField``.
    """
    cut = cull_to_cut(cull)
    xyz = np.asarray(points, np.float64)
    if xyz.ndim != 2 or xyz.shape[1] < 3 or not np.isfinite(xyz).all():
        raise ValueError(f"points: expected finite canonical points (N, 3), got shape {xyz.shape}")
    if np.isinf(cut):
        return np.zeros((len(xyz), len(source.anchors) + 1))
    xyz = xyz[:, :3]
    anchors = source.anchors.double().numpy()
    distance = np.linalg.norm(xyz[:, None] - anchors, axis=2)
    scale: float | Float64
    if source.blending == "nphm":
        exponent = (distance + NPHM_DISTANCE_BIAS) ** 2 / NPHM_VARIANCE
        far = np.full((len(xyz), 1), NPHM_BACKGROUND_EXPONENT / NPHM_VARIANCE)
        floor, scale = NPHM_DENOMINATOR, 1.0 / NPHM_VARIANCE
    else:
        count = min(source.neighbours, len(anchors))
        nearest = np.sort(distance, axis=1)[:, :count]
        reach = nearest[:, min(count, MONO_SCALE_RANK) - 1]
        if count < MONO_SCALE_RANK:
            reach = np.maximum(reach, MONO_BACKGROUND)
        sigma = (reach / source.blend_std)[:, None]
        exponent = np.where(distance <= nearest[:, -1:], (distance / sigma) ** 2 / 2, np.inf)
        far = (MONO_BACKGROUND / sigma) ** 2 / 2
        floor, scale = MONO_DENOMINATOR, 0.5 / sigma**2
    limit = exponent.min(axis=1, keepdims=True) + cut
    exponent = np.concatenate([exponent, far], axis=1)
    weight = np.exp(-exponent)
    kept = exponent <= limit - _ROUNDING * (scale + limit)
    weight /= weight.sum(axis=1, keepdims=True) + floor
    return np.where(kept, 0.0, weight)


def routing_bound(
    source: FieldSource,
    points: Any,
    cull: float = DEFAULT_CULL,
    *,
    ranges: MemberRanges | None = None,
    values: Any = None,
) -> Float64:
    """Largest difference (N,) that leaving members out can make to the distance at canonical points.

    Args:
        source: a folded head.
        points: canonical points (N, 3), or (N, 3 + m) with hyper-coordinates, head space. For a posed field
            these are the points after the deformation, see :func:`field_routing_bound`.
        cull: as of ``PackedField``.
        ranges: of :func:`member_ranges`; they depend on the head alone, so keep them for many calls.
        values: (N,) the culled field at the points, where it is known; makes the bound about twice tighter.

    Returns:
        (N,) float64, head units; 0 where nothing is left out. Outside the ranges' box the members are
        followed with their Lipschitz constants.
    """
    ranges = member_ranges(source) if ranges is None else ranges
    share = left_out(source, points, cull)
    at = np.asarray(points, np.float64)
    outside = np.linalg.norm(at[:, :3] - np.clip(at[:, :3], *ranges.bounds), axis=1)[:, None]
    slack = outside * ranges.steepness + np.linalg.norm(at[:, 3:], axis=1)[:, None] * ranges.hyper
    distance = np.linalg.norm(at[:, None, :3] - source.anchors.double().numpy(), axis=2)
    distance = np.concatenate([distance, distance.min(axis=1, keepdims=True)], axis=1)
    shell = np.digitize(distance, _SHELLS)
    member = np.arange(len(ranges.low))
    low, high = ranges.low[member, shell] - slack, ranges.high[member, shell] + slack
    if values is None:
        # The blend of the kept members lies between the lowest and the highest of them and zero.
        kept = share == 0.0
        if source.blending == "mononphm":
            # Anchors beyond the neighbours have no part in either field.
            count = min(source.neighbours, len(source.anchors))
            kept[:, :-1] &= distance[:, :-1] <= np.sort(distance[:, :-1], axis=1)[:, count - 1 : count]
        blend_low = np.minimum(np.where(kept, low, 0.0).min(axis=1, keepdims=True), 0.0)
        blend_high = np.maximum(np.where(kept, high, 0.0).max(axis=1, keepdims=True), 0.0)
    else:
        blend_low = blend_high = np.asarray(values, np.float64).reshape(-1, 1)
    apart = np.maximum(high - blend_low, blend_high - low)
    return np.asarray((share * np.maximum(apart, 0.0)).sum(axis=1))


def box_bound(
    source: FieldSource,
    cull: float = DEFAULT_CULL,
    *,
    reach: float = 0.35,
    ranges: MemberRanges | None = None,
) -> float:
    """Largest difference that leaving members out can make anywhere in the ranges' box, from ``cull`` alone.

    A member left out has less than ``cull`` times the weight of the nearest anchor's, whose share is below 1.
    With NPHM's blending its weight also falls with the distance to its own anchor.

    Args:
        source: a folded head.
        cull: as of ``PackedField``.
        reach: NPHM: counts points whose nearest anchor is at most this far; beyond 0.37 the field fades to 0
            whatever its members say.
        ranges: of :func:`member_ranges`.
    """
    cull_to_cut(cull)
    ranges = member_ranges(source) if ranges is None else ranges
    low, high = min(ranges.low.min(), 0.0), max(ranges.high.max(), 0.0)
    share = np.full(ranges.low.shape, cull * _LIMIT_SLACK)
    if source.blending == "nphm":
        near = np.digitize(reach, _SHELLS) + 1
        # The kept members are as near as their weight demands, the others as far as their shell begins.
        nearest = (reach + NPHM_DISTANCE_BIAS) ** 2 / NPHM_VARIANCE
        begin = np.concatenate([[0.0], _SHELLS])
        share[:-1] = np.minimum(share[:-1], np.exp(np.minimum(nearest - begin**2 / NPHM_VARIANCE, 0.0)))
        cut = min(nearest + cull_to_cut(cull) if cull else np.inf, 1e4)
        kept = np.digitize(np.sqrt(cut * NPHM_VARIANCE), _SHELLS) + 1
        low, high = min(ranges.low[:, :kept].min(), 0.0), max(ranges.high[:, :kept].max(), 0.0)
        share[-1, near:] = 0.0
    apart = np.maximum(ranges.high - low, high - ranges.low)
    worst = np.sort((share * apart).max(axis=1))
    others = len(worst) - 1 if source.blending == "nphm" else min(source.neighbours, len(worst) - 1)
    return float(worst[len(worst) - others :].sum())


def field_routing_bound(
    field: Field, points: Any, expressions: Any = None, *, ranges: MemberRanges | None = None, cull: float
) -> Float64:
    """The bound (T, N) for points (N, 3) of a bound head in posed space, one row an expression."""
    ranges = member_ranges(field.source) if ranges is None else ranges
    given = np.asarray(points.detach() if isinstance(points, Tensor) else points, np.float32)
    if expressions is None:
        return routing_bound(field.source, given, cull, ranges=ranges)[None]
    rows = []
    for offset in np.asarray(field.offsets(given, expressions)):
        canonical = np.concatenate([given + offset[:, :3], offset[:, 3:]], axis=1)
        rows.append(routing_bound(field.source, canonical, cull, ranges=ranges))
    return np.stack(rows)
