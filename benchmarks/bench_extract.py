"""A frame's surface by marching cubes: the dense formula, and one short cut more in every row.

    FACETALK_GOLDEN=folder python -m pytest benchmarks/bench_extract.py

Every group is one head at one resolution, two cores or what there is. Rows, from the top:

* ``reference``: the official formula written densely in torch; hours, so it runs on a sample of the lattice
  and is extrapolated (``measured_points`` says how many);
* ``folded``: every member at every sample, compiled; extrapolated too;
* ``routing``: the members that matter, at every sample; extrapolated too;
* ``bands``: `Field.extract(tolerance_mm=0, cache=False)`, the dense mesh cell for cell;
* ``cache``: the identity from its cache, the deformation's network where it is needed;
* ``coarse``: with coarsely sampled offsets too, at the default tolerance.

``certified``: values from both networks where the cache says that the surface is (`cache=True` without
tolerance); the same mesh as ``bands``. In the extra columns: points that went through the deformation and
through the ensemble per frame, the largest and mean distance of the mesh from that of ``bands`` in
millimetres (of the dense mesh at 64^3, by test), cells that could not be certified, and how long the cache
took to bake, once per identity. ``floor_ms`` is what the multiply-adds of those points would take at the rate
of a large torch.mm on the same cores.

The official-size weights are not part of the repository; without FACETALK_GOLDEN those groups are skipped.
"""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from safetensors.torch import load_file

import facetalk
from facetalk.data.visemes import curves
from facetalk.mesh import Mesh
from facetalk.metrics.surface import two_sided
from facetalk.nphm import load_checkpoint
from facetalk.nphm.field import Field
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.lattice import DEFAULT_BOUNDS, lattice_axes
from facetalk.nphm.surface.options import ExtractionInfo, ExtractionOptions
from facetalk.ops.field.cpu import PackedField
from facetalk.ops.reference.field import field as reference

FRAMES = 4
SAMPLED = {"reference": 16384, "folded": 65536, "routing": 131072}
SAID = ["HH", "AH", "L", "OW", "W", "ER", "L", "D", "DH", "IH", "S", "IH", "Z", "HH", "AW", "W"]
ROWS = ["reference", "folded", "routing", "bands", "certified", "cache", "coarse"]
WAYS: dict[str, dict[str, Any]] = {
    "bands": {"tolerance_mm": 0.0, "cache": False},
    "certified": {"tolerance_mm": 0.0, "cache": True},
    "cache": {"cache": True, "coarse": False},
    "coarse": {"cache": True},
}


def built_in() -> tuple[Field, torch.Tensor]:
    """The built-in head in the middle of a sentence, at 25 frames a second."""
    head = HeadModel.load(Path(facetalk.__file__).parent / "models" / "default" / "head")
    phones = [(p, 0.09 * i, 0.09 * (i + 1)) for i, p in enumerate(SAID)]
    codes = curves(phones, 1.4, 25.0, alphabet="arpabet", rng=np.random.default_rng(0))
    moved = codes[8 : 8 + FRAMES] - head.rest_expression
    return head.nphm.bind(head.default_identity), torch.from_numpy(moved.astype(np.float32))


def official() -> tuple[Field, torch.Tensor]:
    """The golden weights; at 25 frames a second from one of their expressions to another in two seconds."""
    folder = Path(os.environ.get("FACETALK_GOLDEN", "")) / "nphm_official"
    if not (folder / "golden.safetensors").exists():
        pytest.skip("nphm_official: set FACETALK_GOLDEN to the folder that holds it")
    arrays = load_file(folder / "golden.safetensors")
    share = torch.linspace(0, 0.06, FRAMES)[:, None]
    codes = arrays["lat_expr"]
    return load_checkpoint(folder, direction="backward").bind(arrays["lat_id"]), codes[:1] * (
        1 - share
    ) + codes[1:2] * share


class Case:
    """A head and a face in motion, with what each way of extraction made of it."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.field, self.codes = {"built-in": built_in, "official": official}[model]()
        self.every = PackedField(self.field.source, cull=0.0)
        self.meshes: dict[int, list[Mesh]] = {}
        self.bake_s: dict[int, float] = {}

    @functools.cached_property
    def macs(self) -> tuple[int, float]:
        """Multiply-adds of the folded deformation, and of the members that a point at the surface visits."""
        source = self.field.source
        assert source.deformation is not None
        sizes = [
            sum(part.shape[1] * part.shape[2] for pair in layers for part in pair if part is not None)
            for layers in (source.deformation, source.identity)
        ]
        # Unnormalised weights as the kernels cut them, at vertices.
        points = self.field.extract(None, 48, units="head")[0].vertices
        square = (np.linalg.norm(points[:, None] - source.anchors.numpy(), axis=2) + 1e-5) ** 2
        members = (square <= square.min(axis=1, keepdims=True) + 0.01 * np.log(1e7)).sum(axis=1).mean()
        return sizes[0], sizes[1] * float(members)

    @functools.cached_property
    def peak(self) -> float:
        """Multiply-adds per second of a large torch.mm."""
        a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
        out = torch.empty(2048, 2048)
        best = float("inf")
        for _ in range(6):
            start = time.perf_counter()
            torch.mm(a, b, out=out)
            best = min(best, time.perf_counter() - start)
        return 2048**3 / best

    def sample(self, resolution: int, count: int) -> torch.Tensor:
        """Runs of 64 neighbouring samples, evenly strewn over the lattice."""
        axes = lattice_axes(resolution, DEFAULT_BOUNDS)
        starts = np.linspace(0, resolution**3 - 64, count // 64).astype(np.int64)
        index = np.unravel_index((starts[:, None] + np.arange(64)).ravel(), (resolution,) * 3)
        return torch.from_numpy(np.stack([a[i] for a, i in zip(axes, index, strict=True)], axis=1))

    def extract(
        self, resolution: int, way: str, codes: torch.Tensor
    ) -> tuple[list[Mesh], list[ExtractionInfo]]:
        options = ExtractionOptions(**WAYS[way])
        frames = list(self.field.iterate(codes, resolution, options=options, units="head"))
        return [mesh for mesh, _ in frames], [info for _, info in frames]


@pytest.fixture(scope="module", params=["built-in", "official"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(str(request.param))


@pytest.mark.parametrize("resolution", [64, 128, 256])
@pytest.mark.parametrize("how", ROWS)
def test_frame(benchmark: BenchmarkFixture, case: Case, resolution: int, how: str) -> None:
    benchmark.group = f"{case.model}, {resolution}^3"
    extra = benchmark.extra_info
    if how in SAMPLED:
        points = case.sample(resolution, SAMPLED[how])
        biases = case.field.bound.biases(case.codes[:1])
        assert biases is not None
        call = {
            "reference": lambda: reference(case.field.source, points, biases),
            "folded": lambda: case.every.query(points, biases),
            "routing": lambda: case.field.bound.packed.query(points, biases),
        }[how]
        benchmark.pedantic(call, rounds=2, warmup_rounds=1)
        scale = resolution**3 / len(points)
        extra["ms_per_frame"] = 1000 * benchmark.stats.stats.min * scale
        extra["measured_points"] = len(points)
        extra["deformed"] = extra["evaluated"] = resolution**3
        return
    cached = WAYS[how]["cache"]
    codes = case.codes[:1] if how == "bands" else case.codes
    if cached and resolution not in case.bake_s:
        # The bake, told apart from the frames that use it.
        start = time.perf_counter()
        case.extract(resolution, "coarse", case.codes[:1])
        first = time.perf_counter() - start
        start = time.perf_counter()
        case.extract(resolution, "coarse", case.codes[:1])
        case.bake_s[resolution] = max(0.0, first - (time.perf_counter() - start))
    result: list[tuple[list[Mesh], list[ExtractionInfo]]] = []
    benchmark.pedantic(
        lambda: result.append(case.extract(resolution, how, codes)), rounds=1 if resolution > 128 else 2,
        warmup_rounds=1 if how == "bands" and resolution == 64 else 0,
    )  # fmt: skip
    meshes, infos = result[-1]
    extra["ms_per_frame"] = 1000 * benchmark.stats.stats.min / len(codes)
    counts = [info.counts for info in infos if info.counts is not None]
    extra["deformed"] = round(np.mean([c.deformed for c in counts]))
    extra["evaluated"] = round(np.mean([c.evaluated for c in counts]))
    deformation, identity = case.macs
    work = extra["deformed"] * deformation + extra["evaluated"] * identity
    extra["floor_ms"] = 1000 * work / case.peak
    extra["uncertified"] = sum(c.uncertified for c in counts)
    if how == "bands":
        case.meshes[resolution] = case.extract(resolution, "bands", case.codes)[0]
    elif resolution in case.meshes:
        away = 250 * np.concatenate(
            [
                two_sided((a.vertices, a.faces), (b.vertices, b.faces))
                for a, b in zip(meshes[::3], case.meshes[resolution][::3], strict=True)
            ]
        )
        extra["max_mm"], extra["mean_mm"] = float(away.max()), float(away.mean())
        extra["p999_mm"] = float(np.quantile(away, 0.999))
    if cached:
        extra["bake_s"] = case.bake_s[resolution]


@pytest.mark.parametrize("resolution", [64, 128, 256, 512])
def test_growth_with_resolution(benchmark: BenchmarkFixture, resolution: int) -> None:
    """With the square, not the cube."""
    benchmark.group = "growth with resolution, built-in, coarse"
    case = Case("built-in")
    case.extract(resolution, "coarse", case.codes[:1])
    benchmark.pedantic(lambda: case.extract(resolution, "coarse", case.codes[:2]), rounds=3)
    benchmark.extra_info["ms_per_frame"] = 1000 * benchmark.stats.stats.min / 2
    benchmark.extra_info["ns_per_square"] = 1e9 * benchmark.stats.stats.min / 2 / resolution**2


@pytest.mark.parametrize("frames", [1, 4, 16])
def test_growth_with_frames(benchmark: BenchmarkFixture, frames: int) -> None:
    benchmark.group = "growth with frames, built-in, 128^3, coarse"
    case = Case("built-in")
    codes = case.codes[np.arange(frames) % len(case.codes)]
    case.extract(128, "coarse", codes[:1])
    benchmark.pedantic(lambda: case.extract(128, "coarse", codes), rounds=3)
    benchmark.extra_info["ms_per_frame"] = 1000 * benchmark.stats.stats.min / frames


@pytest.mark.parametrize("count", [1, 2])
def test_growth_with_threads(benchmark: BenchmarkFixture, count: int) -> None:
    benchmark.group = "threads, built-in, 128^3, coarse"
    case = Case("built-in")
    case.extract(128, "coarse", case.codes[:1])
    before = facetalk.ops.threads()
    facetalk.ops.set_threads(count)
    try:
        benchmark.pedantic(lambda: case.extract(128, "coarse", case.codes), rounds=3)
    finally:
        facetalk.ops.set_threads(before)
    benchmark.extra_info["ms_per_frame"] = 1000 * benchmark.stats.stats.min / len(case.codes)
