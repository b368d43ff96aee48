"""The compiled operations with arguments of all kinds, through their Python faces and below them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engine import Wrong
from mutate import integer, pick, real, spoil_array, values

from facetalk import ops
from facetalk.ops import _extension
from facetalk.ops.raster import draw, pack_textures

Run = Callable[[np.random.Generator], None]


def _size(rng: np.random.Generator, most: int = 9) -> int:
    return int(rng.integers(0, most)) if rng.random() < 0.2 else int(rng.integers(2, most))


def _require_finite(name: str, array: Any) -> None:
    found = array.numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
    if not np.isfinite(found).all():
        raise Wrong(f"{name} has a number that is not finite")


def marching_cubes(folder: Path) -> Run:
    """Volumes of a few samples; results must be finite and refer to their own vertices."""

    def run(rng: np.random.Generator) -> None:
        shape = [_size(rng) for _ in range(3)]
        if rng.random() < 0.1:
            shape[2] = int(rng.integers(60, 140))  # words of 64 signs
        volume = spoil_array(rng, values(rng, shape))
        level = real(rng) if rng.random() < 0.2 else float(rng.standard_normal() * 0.3)
        bounds: Any = None
        if rng.random() < 0.6:
            ends = np.sort(rng.standard_normal((2, 3)), axis=0)
            if rng.random() < 0.5:
                ends[int(rng.integers(2)), int(rng.integers(3))] = real(rng)
            if rng.random() < 0.2:
                ends *= abs(real(rng))
            bounds = (
                ends.tolist() if rng.random() < 0.9 else pick(rng, [1, "x", [[0] * 3], [[10**400] * 3] * 2])
            )
        normals = bool(rng.random() < 0.5)
        if rng.random() < 0.1:
            core = _extension.load().marching_cubes
            core(volume, level, [real(rng)] * 3, [abs(real(rng))] * 3, normals)
            return
        found = ops.marching_cubes(volume, level, bounds=bounds, normals=normals)
        for name, array in zip(("vertices", "faces", "normals"), found, strict=False):
            _require_finite(name, array)
        faces = np.asarray(found[1])
        if faces.size and not 0 <= faces.min() <= faces.max() < len(found[0]):
            raise Wrong("a face names a vertex that is not there")

    return run


def attention(folder: Path) -> Run:
    """Windows, lengths and layouts of all kinds."""

    def run(rng: np.random.Generator) -> None:
        batch, heads = _size(rng, 3), _size(rng, 4)
        rows, keys, depth, width = _size(rng, 70), _size(rng, 70), _size(rng, 20), _size(rng, 20)
        parts = [
            spoil_array(rng, values(rng, (batch, heads, *shape)))
            for shape in ((rows, depth), (keys, depth), (keys, width))
        ]
        sides = [pick(rng, [0, 0, 1, 3, None, integer(rng)]) for _ in range(2)]
        scale = pick(rng, [None, 1.0, real(rng)])
        if rng.random() < 0.1:
            bounds = [int(np.clip(s or 0, -(2**63), 2**63 - 1)) for s in sides]
            _extension.load().masked_cross_attention(*parts, *bounds, 1.0 if scale is None else scale)
            return
        if all(isinstance(part, torch.Tensor) for part in parts) and rng.random() < 0.5:
            with torch.inference_mode():
                ops.masked_cross_attention(*parts, window=tuple(sides), scale=scale)
            return
        found = ops.masked_cross_attention(*parts, window=tuple(sides), scale=scale)
        if tuple(found.shape) != (batch, heads, rows, width) and tuple(np.shape(parts[0]))[:3] == (
            batch,
            heads,
            rows,
        ):
            raise Wrong(f"a result of shape {tuple(found.shape)}")

    return run


def normals(folder: Path) -> Run:
    """Faces that name anything; results must be finite."""

    def run(rng: np.random.Generator) -> None:
        count, faces = _size(rng, 40), _size(rng, 60)
        shape = (count, 3) if rng.random() < 0.5 else (_size(rng, 4), count, 3)
        named = rng.integers(0, max(1, count), (faces, 3))
        if rng.random() < 0.3 and named.size:
            named.reshape(-1)[int(rng.integers(named.size))] = integer(rng) % 2**31 - 2**30
        vertices = spoil_array(rng, values(rng, shape, scale=float(pick(rng, [1.0, 1e-30, 1e30]))))
        found = ops.vertex_normals(vertices, spoil_array(rng, named.astype(np.int32)))
        _require_finite("normals", found)

    return run


def raster(folder: Path) -> Run:
    """Scenes of a few triangles, wherever they are."""

    def run(rng: np.random.Generator) -> None:
        count, faces = _size(rng, 30), _size(rng, 40)
        scale = abs(real(rng)) if rng.random() < 0.4 else 1.0
        height, width = (int(rng.integers(1, 40)) for _ in range(2))
        matrix = np.eye(3, 4, dtype=np.float32) if rng.random() < 0.6 else values(rng, (3, 4))
        matrix[2, 3] -= np.float32(pick(rng, [1.0, 0.0, 1e5, scale]))
        named = rng.integers(0, max(1, count), (faces, 3)).astype(np.int32)
        if rng.random() < 0.1 and named.size:
            named.reshape(-1)[0] = integer(rng) % 2**31 - 2**30
        arguments: dict[str, Any] = {
            "positions": values(rng, (count, 3), scale=scale),
            "normals": values(rng, (count, 3)),
            "colors": values(rng, (count, 3)),
            "faces": named,
            "materials": rng.integers(0, 3, faces).astype(np.uint8),
            "background": rng.integers(0, 256, (height, width, 3)).astype(np.uint8),
            "palette": values(rng, (3, 4)),
            "lights": values(rng, (int(rng.integers(0, 3)), 6)),
            "ambient": values(rng, (2, 3)),
            "camera": matrix,
            "focal": real(rng) if rng.random() < 0.3 else 20.0,
            "exposure": real(rng) if rng.random() < 0.2 else 1.0,
            "occlusion_radius": real(rng) if rng.random() < 0.3 else 0.025,
            "samples": int(rng.integers(1, 5)),
            "alone": bool(rng.random() < 0.5),
        }
        if rng.random() < 0.5:
            shapes = [(int(rng.integers(1, 20)), int(rng.integers(1, 20)), 6) for _ in range(3)]
            pictures = [
                rng.integers(0, 256, s).astype(np.uint8) if rng.random() < 0.7 else None for s in shapes
            ]
            arguments["textures"] = pack_textures(pictures)
            arguments["uv"] = values(rng, (count, 2), scale=abs(real(rng)) if rng.random() < 0.2 else 1.0)
        if rng.random() < 0.05:
            arguments["samples"] = integer(rng)
        name = pick(rng, [n for n, a in arguments.items() if isinstance(a, np.ndarray)])
        arguments[name] = spoil_array(rng, arguments[name])
        picture = draw(**arguments)
        if picture.dtype != np.uint8 or picture.ndim != 3:
            raise Wrong(f"a picture of {picture.dtype} {picture.shape}")

    return run


TARGETS = {"marching_cubes": marching_cubes, "attention": attention, "normals": normals, "raster": raster}
