"""Neural fields with odd weights at odd places: query, grid, inversion, and the searches for a surface."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engine import Wrong
from mutate import integer, pick, real, real32, spoil_array, values
from random_heads import random_layers

from facetalk.ops.field.bounds import LocalBounds, SlopeBounds
from facetalk.ops.field.cpu import PackedField
from facetalk.ops.field.source import FieldSource, OffsetWeight
from facetalk.ops.field.surface import CanonicalCache, guided
from facetalk.ops.field.surface import band as find_band

Run = Callable[[np.random.Generator], None]
Head = tuple[PackedField, list[torch.Tensor]]

_HEADS = 24  # sound ones, made once: packing costs more than asking


def _head(number: int) -> tuple[FieldSource, list[torch.Tensor]]:
    """A sound head of either family, with sizes that leave odd numbers over everywhere."""
    rng = np.random.default_rng(number)
    mono = number % 3 == 2
    coords = 3 if not mono else int(rng.integers(3, 6))
    anchors = int(rng.integers(1, 14))
    sets = int(rng.integers(1, anchors + 2))
    hidden = rng.integers(1, 24, int(rng.integers(1, 4))).tolist()
    identity, sizes = random_layers(rng, sets, coords, hidden, 1, int(rng.integers(1, len(hidden) + 1)))
    deformation, moves = random_layers(rng, 1, 3, hidden[::-1], coords, None)
    bias = lambda rows, n: torch.from_numpy(rng.normal(0, 0.1, (rows, n)).astype(np.float32))  # noqa: E731
    source = FieldSource(
        identity=identity,
        identity_bias=[bias(anchors + 1, n) for n in sizes],
        anchors=torch.from_numpy(rng.uniform(-0.5, 0.5, (anchors, 3)).astype(np.float32)),
        member_set=torch.from_numpy(rng.integers(0, sets, anchors + 1)),
        mirror=torch.from_numpy(rng.choice([-1.0, 1.0], anchors + 1)),
        deformation=None if number % 5 == 4 else deformation,
        blending="mononphm" if mono else "nphm",
        neighbours=int(rng.integers(1, anchors + 1)) if mono else 0,
        blend_std=2.0 if mono else 0.0,
    )
    return source, [bias(2, n) for n in moves]


def _spoil_tensor(rng: np.random.Generator, tensor: torch.Tensor) -> torch.Tensor:
    found = tensor.clone()
    if found.numel():
        found.view(-1)[int(rng.integers(found.numel()))] = real32(rng)
    return found


def _spoilt(rng: np.random.Generator, number: int) -> Head:
    """A head with something wrong in it; most are refused."""
    source, biases = _head(number)
    kind = int(rng.integers(8))
    change: dict[str, Any] = {}
    if kind == 0:
        change["neighbours"] = integer(rng) % 2**31 - 2**30
    elif kind == 1:
        change["blend_std"] = real(rng)
    elif kind == 2:
        change["member_set"] = source.member_set + int(pick(rng, [-1, 1, 1000]))
    elif kind == 3:
        change["anchors"] = _spoil_tensor(rng, source.anchors)
    elif kind == 4:
        change["identity_bias"] = [_spoil_tensor(rng, bias) for bias in source.identity_bias]
    elif kind == 5:
        change["identity"] = [
            tuple(None if part is None else _spoil_tensor(rng, part) for part in layer)
            for layer in source.identity
        ]
    elif kind == 6:
        change["identity"] = list(source.identity)[:: int(pick(rng, [-1, 2]))]
    else:
        biases = [_spoil_tensor(rng, bias) for bias in biases]
    return PackedField(dataclasses.replace(source, **change), cull=float(pick(rng, [0.0, 1e-7, 0.5]))), biases


class Heads:
    """Heads to ask: sound ones most of the time."""

    def __init__(self) -> None:
        self.sound = [(PackedField(source), biases) for source, biases in map(_head, range(_HEADS))]

    def any(self, rng: np.random.Generator) -> Head:
        """One of them."""
        number = int(rng.integers(_HEADS))
        return self.sound[number] if rng.random() < 0.8 else _spoilt(rng, number)


def _weight(rng: np.random.Generator) -> OffsetWeight | None:
    if rng.random() < 0.7:
        return None
    one = lambda: float(rng.uniform(0.1, 2.0)) if rng.random() < 0.8 else abs(real(rng)) + 1e-40  # noqa: E731
    return OffsetWeight((one(), one(), one()), (one(), one(), one()), one(), one())


def _axes(rng: np.random.Generator, most: int) -> list[np.ndarray]:
    axes = []
    for _ in range(3):
        axis = np.linspace(-1.0, 1.0, int(rng.integers(2, most)), dtype=np.float32)
        kind = rng.random()
        with np.errstate(over="ignore"):
            if kind < 0.1:
                axis = axis * np.float32(real(rng))
            elif kind < 0.15:
                axis = values(rng, axis.shape)
            elif kind < 0.17:
                axis = axis[::-1]
            elif kind < 0.19:
                axis = axis[: int(rng.integers(0, 2))]
        axes.append(axis)
    return axes


def _require_finite(results: dict[str, Any]) -> None:
    for name, result in results.items():
        if not torch.isfinite(torch.as_tensor(result)).all():
            raise Wrong(f"{name} has a number that is not finite")


def query(folder: Path) -> Run:
    """Points anywhere, all outputs."""
    heads = Heads()

    def run(rng: np.random.Generator) -> None:
        field, biases = heads.any(rng)
        columns = field.coords if rng.random() < 0.3 else 3
        points = spoil_array(rng, values(rng, (int(rng.integers(0, 80)), columns)))
        outputs = [n for n in ("sdf", "raw_sdf", "gradient", "offsets", "jacobian") if rng.random() < 0.5]
        frames = biases if field.deforms and rng.random() < 0.8 else None
        _require_finite(field.query(points, frames, weight=_weight(rng), outputs=outputs))

    return run


def grid(folder: Path) -> Run:
    """Lattices anywhere."""
    heads = Heads()

    def run(rng: np.random.Generator) -> None:
        field, biases = heads.any(rng)
        frames = biases if field.deforms and rng.random() < 0.7 else None
        _require_finite({"sdf": field.grid(_axes(rng, 9), frames, weight=_weight(rng))})

    return run


def invert(folder: Path) -> Run:
    """Targets anywhere."""
    heads = Heads()

    def run(rng: np.random.Generator) -> None:
        field, biases = heads.any(rng)
        count = int(rng.integers(0, 40))
        starts = None if rng.random() < 0.7 else spoil_array(rng, values(rng, (count, 3)))
        found = field.invert(
            spoil_array(rng, values(rng, (count, 3))),
            biases,
            starts=starts,
            weight=_weight(rng),
            tolerance=1e-6 if rng.random() < 0.8 else real(rng),
            iterations=int(pick(rng, [0, 1, 8, 30])) if rng.random() < 0.95 else integer(rng),
        )
        _require_finite(dict(zip(("positions", "residuals"), found, strict=True)))

    return run


def _local(rng: np.random.Generator) -> LocalBounds | None:
    if rng.random() < 0.5:
        return None
    levels, shape = int(rng.integers(1, 4)), rng.integers(1, 4, 3)
    array = np.abs(values(rng, (levels, *shape))) + np.float32(1e-3)
    at = values(rng, (2, 3))
    reach = tuple(float(r) for r in np.sort(np.abs(values(rng, (levels,)))))
    return LocalBounds(tuple(at[0].tolist()), tuple(at[1].tolist()), reach, array)


def _bounds(rng: np.random.Generator) -> SlopeBounds:
    slope = float(rng.uniform(0.5, 20.0)) if rng.random() < 0.9 else real(rng)
    stretch = float(rng.uniform(0.5, 3.0)) if rng.random() < 0.9 else real(rng)
    return SlopeBounds(slope, _local(rng), bool(rng.random() < 0.5), stretch, _local(rng))


def band(folder: Path) -> Run:
    """A surface refined from a coarse lattice, and its mesh."""
    heads = Heads()

    def run(rng: np.random.Generator) -> None:
        field, biases = heads.any(rng)
        axes = _axes(rng, 24)
        spacing = int(pick(rng, [8, 16, 32])) if rng.random() < 0.9 else integer(rng) % 2**31
        frames = [bias[:1] for bias in biases] if field.deforms and rng.random() < 0.8 else None
        volume, _ = find_band(field, axes, frames, _bounds(rng), weight=_weight(rng), spacing=spacing)
        volume.dense()
        vertices, faces = volume.mesh()
        if faces.size and not 0 <= faces.min() <= faces.max() < len(vertices):
            raise Wrong("a face names a vertex that is not there")

    return run


def _cache(rng: np.random.Generator) -> CanonicalCache:
    """Entries that may name anything, in a lattice that may lie anywhere."""
    bricks, groups = int(rng.integers(0, 5)), int(rng.integers(0, 4))
    low = -2 - groups if groups else -1
    table = rng.integers(low, max(1, bricks), rng.integers(0, 4, 3)).astype(np.int32)
    children = np.full((groups, 8), -1, np.int32)
    for group in range(groups):
        # A group names later ones; one in twenty names any.
        first = group + 1 if rng.random() < 0.95 else 0
        least = -1 - groups if first < groups else -1
        children[group] = np.minimum(rng.integers(least, max(1, bricks), 8), bricks - 1)
        children[group] = np.where(
            children[group] < -2 - first, children[group], np.maximum(children[group], -1)
        )
    if rng.random() < 0.05 and table.size:
        table.reshape(-1)[0] = integer(rng) % 2**31 - 2**30
    return CanonicalCache(
        origin=values(rng, (3,)).tolist(),
        spacing=0.1 if rng.random() < 0.8 else real(rng),
        table=table,
        children=children,
        data=values(rng, (bricks, 7, 7, 7)),
        error=np.abs(values(rng, (bricks,))),
        far_origin=values(rng, (3,)).tolist(),
        far_spacing=0.5 if rng.random() < 0.8 else real(rng),
        far=values(rng, tuple(rng.integers(0, 5, 3))),
    )


def cache(folder: Path) -> Run:
    """A lookup table asked anywhere, and a surface found by it."""
    heads = Heads()

    def run(rng: np.random.Generator) -> None:
        table = _cache(rng)
        table.look_up(values(rng, (int(rng.integers(0, 50)), 3)))
        field, biases = heads.any(rng)
        if not field.deforms:
            return
        volume, _ = guided(
            field,
            _axes(rng, 20),
            [bias[:1] for bias in biases],
            table,
            _bounds(rng),
            weight=_weight(rng),
            exact=bool(rng.random() < 0.5),
            tolerance=float(pick(rng, [0.0, 1e-3, real(rng)])),
            cache_tolerance=float(pick(rng, [0.0, 1e-3, real(rng)])),
            spacing=int(pick(rng, [4, 8, 16])) if rng.random() < 0.95 else integer(rng) % 2**31,
        )
        volume.mesh()

    return run


TARGETS = {
    "field_query": query,
    "field_grid": grid,
    "field_invert": invert,
    "field_band": band,
    "canonical_cache": cache,
}
