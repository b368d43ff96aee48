"""A tongue for models of random weights, with a mouth of a few vertices to move in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from facetalk.nphm.head.regions import Region
from facetalk.nphm.head.template_mesh import Seam, TemplateMesh
from facetalk.nphm.head.tongue import Mouth, Reach, neutral_mean
from facetalk.tongue import TongueNetwork

MM = 0.004
"""Of a head unit."""


def small_network(features: int, seed: int = 0) -> TongueNetwork:
    """Random layers, whose contacts are seldom none or whole."""
    rng = np.random.default_rng(seed)
    shapes = ((7, features), (7,), (2, 7), (2,))
    return TongueNetwork(*((0.3 * rng.normal(size=shape)).astype(np.float32) for shape in shapes))


def small_mouth(names: list[str], seed: int = 0) -> tuple[TemplateMesh, np.ndarray]:
    """A mouth and its weights at rest: a tongue of a row and a floor, teeth, gum and lips."""
    rng = np.random.default_rng(seed)
    rows = [(Region.TONGUE, 2.5, (0.3 * i, 0.02 * i * i, 3.0 * i)) for i in range(14)]
    rows += [(Region.TONGUE, 2.1, (0.3 * i, -5.0, 3.0 * i)) for i in range(6)]
    for region, height in ((Region.UPPER_TEETH, 4.0), (Region.LOWER_TEETH, 2.0)):
        rows += [(region, 3.5, (x, height + abs(x), 46.0)) for x in (-7.0, -1.0, 0.5, 3.0)]
    rows += [(Region.UPPER_GUM, 2.2, (x, 14.0, 38.0 - abs(x))) for x in (-2.0, 0.0, 2.0)]
    rows += [(Region.SKIN, 0.5, (x, y, 52.0)) for y in (8.0, 1.0) for x in (-2.0, 0.0, 2.0)]
    place = np.array([point for _, _, point in rows]) + rng.normal(size=(len(rows), 3)) * 0.1
    region = np.array([kind for kind, _, _ in rows], np.uint8)
    landmarks = np.zeros(68, np.int32)
    landmarks[[61, 62, 63, 67, 66, 65]] = range(len(rows) - 6, len(rows))
    falls = np.isin(region, (Region.TONGUE, Region.LOWER_TEETH)) | (np.arange(len(rows)) >= len(rows) - 3)
    moves = []
    for name in names:
        some = np.flatnonzero(falls if name == "jawOpen" else rng.random(len(rows)) < 0.4)
        by = rng.normal(size=(len(some), 3)) + ([0.0, -25.0, -4.0] if name == "jawOpen" else [0.0, 0.0, 0.0])
        moves.append((some.astype(np.int32), (by * MM).astype(np.float32)))
    none, bytes_ = np.zeros(0, np.int32), np.zeros((len(rows), 3), np.uint8)
    seam = Seam(none, none, none, none, none, none, none)  # type: ignore[arg-type]
    corners = np.array([[i, i + 1, 14 + i // 2] for i in range(0, 11)], np.int32)
    mesh = TemplateMesh(
        vertices=(place * MM).astype(np.float32), corners=(corners,),
        uv=np.array([[u, 0.5] for _, u, _ in rows], np.float32),
        uv_vertex=np.arange(len(rows), dtype=np.int32), part=np.zeros(len(rows), np.uint8),
        colors=bytes_, region=region, landmarks=landmarks,
        identity_codes=bytes_[None], identity_scale=np.zeros((1, 1), np.float32),
        identity_offset=np.zeros((1, 1, 3), np.float32),
        shape_starts=np.cumsum([0, *(len(some) for some, _ in moves)]).astype(np.int32),
        shape_rows=np.concatenate([some for some, _ in moves]),
        shape_values=np.concatenate([by for _, by in moves]),
        lips=seam, lid_left=seam, lid_right=seam, lid_vertices=none,
    )  # fmt: skip
    rest = np.where(np.array(names) == "jawOpen", 0.2, 0.0).astype(np.float32)
    return mesh, rest


def add_small_tongue(folder: Path, features: int, names: list[str], seed: int = 0) -> Reach:
    """Write ``tongue/`` and what of ``head/`` it goes by; gives the reach that Python makes of it."""
    small_network(features, seed).save(folder / "tongue", {})
    mesh, rest = small_mouth(names, seed)
    head = folder / "head"
    head.mkdir()
    config = {
        "format": "facetalk-head", "version": 1, "expression_names": names, "rest_expression": rest.tolist(),
        "forward": {"parts": 4, "expressions": len(names)},
    }  # fmt: skip
    (head / "config.json").write_text(json.dumps(config))
    tensors = {
        key: getattr(mesh, key) for key in ("vertices", "uv", "uv_vertex", "part", "region", "landmarks")
    }
    tensors |= {key: getattr(mesh, key) for key in ("shape_starts", "shape_rows", "shape_values")}
    save_file(tensors | {"corners_0": mesh.corners[0]}, head / "template.safetensors")
    neutral = neutral_mean(mesh, rest)
    mouth = Mouth.of(mesh, neutral)
    assert mouth is not None
    return Reach.of(mesh, mouth, neutral, tuple(names))
