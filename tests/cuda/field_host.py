"""Compiles the field's kernels with their binding for the host, and makes heads to try them on."""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pybind11
import pytest
import torch
from host_kernels import CSRC, FLAGS, HERE
from torch import Tensor

from facetalk.ops.field.source import FieldSource


@functools.cache
def emulated_core() -> ModuleType:
    """The module `field_emulated`; its `cuda_field` is what the extension has under that name."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler: the kernels' logic cannot be tested on the host")
    target = Path(tempfile.mkdtemp(prefix="facetalk-field-")) / "field_emulated.so"
    include = [CSRC, HERE, Path(pybind11.get_include()), Path(sysconfig.get_path("include"))]
    command = [*compiler.split(), *FLAGS, "-fvisibility=hidden", "-DFACETALK_EMULATE_CUDA"]
    command += [f"-I{folder}" for folder in include] + [str(HERE / "field_entry.cpp"), "-o", str(target)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        pytest.fail(f"{' '.join(command)}:\n{result.stderr[:6000]}", pytrace=False)
    spec = importlib.util.spec_from_file_location("field_emulated", target)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_layers(
    rng: np.random.Generator, sets: int, coords: int, hidden: list[int], outputs: int, skip: int | None
) -> tuple[list[tuple[Tensor | None, Tensor | None]], list[int]]:
    """Weights of a folded network; the layer `skip` also reads the coordinates."""
    layers: list[tuple[Tensor | None, Tensor | None]] = []
    sizes = [*hidden, outputs]
    for i, size in enumerate(sizes):
        before = sizes[i - 1] if i else 0

        def take(n: int, size: int = size, before: int = before) -> Tensor:
            gain = 1.4 / math.sqrt(before + coords)
            return torch.from_numpy(rng.normal(0, gain, (sets, size, n)).astype(np.float32))

        layers.append((take(before) if i else None, take(coords) * 3 if i in (0, skip) else None))
    return layers, sizes


def random_head(
    seed: int,
    *,
    family: str = "nphm",
    coords: int = 3,
    anchors: int = 7,
    pairs: int = 2,
    identity: tuple[int, ...] = (24, 24),
    identity_skip: int | None = 1,
    deformation: tuple[int, ...] = (40, 40),
    deformation_skip: int | None = 1,
    frames: int = 2,
    neighbours: int = 5,
) -> tuple[FieldSource, list[Tensor], np.random.Generator]:
    """A random head, the biases of a few frames, and a generator for points."""
    rng = np.random.default_rng(seed)
    members = anchors + 1
    layers, sizes = random_layers(rng, members - pairs, coords, list(identity), 1, identity_skip)
    moving, moves = random_layers(rng, 1, 3, list(deformation), coords, deformation_skip)
    moving[-1] = tuple(None if part is None else part * 0.1 for part in moving[-1])  # type: ignore[assignment]
    member = np.arange(members)

    def bias(rows: int, n: int) -> Tensor:
        return torch.from_numpy(rng.normal(0, 0.1, (rows, n)).astype(np.float32))

    source = FieldSource(
        identity=layers,
        identity_bias=[bias(members, n) for n in sizes],
        anchors=torch.from_numpy(rng.uniform(-0.5, 0.5, (anchors, 3)).astype(np.float32)),
        member_set=torch.from_numpy(np.where(member < 2 * pairs, member // 2, member - pairs)),
        mirror=torch.from_numpy(
            np.where((member < 2 * pairs) & (member % 2 == 1), -1.0, 1.0).astype(np.float32)
        ),
        deformation=moving,
        blending=family,  # type: ignore[arg-type]
        neighbours=min(neighbours, anchors),
        blend_std=2.0,
    )
    return source, [bias(frames, n) for n in moves], rng


def converted(source: FieldSource, dtype: torch.dtype, device: str = "cpu") -> FieldSource:
    """The head with every number of the given dtype, on a device."""

    def two(pair: tuple[Tensor | None, Tensor | None]) -> tuple[Tensor | None, Tensor | None]:
        hidden, coords = pair
        return (
            None if hidden is None else hidden.to(device, dtype),
            None if coords is None else coords.to(device, dtype),
        )

    assert source.deformation is not None
    return FieldSource(
        identity=[two(pair) for pair in source.identity],
        identity_bias=[b.to(device, dtype) for b in source.identity_bias],
        anchors=source.anchors.to(device, dtype),
        member_set=source.member_set.to(device),
        mirror=source.mirror.to(device, dtype),
        deformation=[two(pair) for pair in source.deformation],
        blending=source.blending,
        neighbours=source.neighbours,
        blend_std=source.blend_std,
    )
