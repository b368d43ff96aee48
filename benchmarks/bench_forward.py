"""A forward model at the official sizes: meshes, tracks and posed values, beside the formulas in torch.

    FACETALK_GOLDEN=folder python -m pytest benchmarks/bench_forward.py

Groups named "extract" are frames of one lattice: ``moved`` is `Field.extract` as the authors do it (the
neutral mesh, found once before the clock starts, moved), ``posed field`` the surface of the posed field near
it, ``every sample`` all of its samples through roots, on `measured_points` of them and extrapolated; the peer
``torch roots`` is the same by the official root finder and the official formula, extrapolated too.
``neutral`` is what the neutral mesh costs, once an identity. Groups named "track" move a mesh of so many
vertices; the peer ``torch`` is the official formula on them.

The official-size weights are not part of the repository; without FACETALK_GOLDEN everything is skipped.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_track import broyden, motion
from pytest_benchmark.fixture import BenchmarkFixture
from safetensors.torch import load_file

from facetalk import ops
from facetalk.nphm import load_checkpoint
from facetalk.nphm.canonical_mesh import canonical_mesh
from facetalk.nphm.lattice import DEFAULT_BOUNDS, lattice_axes
from facetalk.ops.reference.field import field as reference
from facetalk.ops.reference.field import field_offsets

FRAMES = 4
SAMPLED = {"every sample": 16384, "torch roots": 2048}
VERTICES = {"10k": 10_000, "50k": 50_000}


class Case:
    """The golden weights bound forward, and a motion."""

    def __init__(self) -> None:
        folder = Path(os.environ.get("FACETALK_GOLDEN", "")) / "nphm_official"
        if not (folder / "golden.safetensors").exists():
            pytest.skip("nphm_official: set FACETALK_GOLDEN to the folder that holds it")
        arrays = load_file(folder / "golden.safetensors")
        model = load_checkpoint(folder, direction="forward")
        self.bind = lambda: model.bind(arrays["lat_id"])
        self.field = self.bind()
        self.codes = motion(FRAMES, arrays["lat_expr"].numpy())
        biases = self.field.bound.biases(self.codes)
        assert biases is not None
        self.frame = [bias[1:2].contiguous() for bias in biases]


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.mark.parametrize("resolution", [64, 128, 256])
@pytest.mark.parametrize("how", ["torch roots", "every sample", "neutral", "posed field", "moved"])
def test_extract(benchmark: BenchmarkFixture, case: Case, resolution: int, how: str) -> None:
    benchmark.group = f"extract forward, official, {resolution}^3"
    extra, field, frames, scale = benchmark.extra_info, case.field, 1, 1.0
    call: Callable[[], object]
    if how in SAMPLED:
        axes, rng = lattice_axes(resolution, DEFAULT_BOUNDS), np.random.default_rng(0)
        count = min(SAMPLED[how], resolution**3)
        points = torch.from_numpy(
            np.stack([axis[rng.integers(0, len(axis), count)] for axis in axes], axis=1)
        )
        scale = resolution**3 / count
        extra["measured_points"] = count
        if how == "every sample":
            call = lambda: field.query(points, case.codes[1])  # noqa: E731
        else:

            def call() -> object:
                roots, _ = broyden(field.source, case.frame, points)
                with torch.no_grad():
                    return reference(field.source, roots)
    elif how == "neutral":
        call = lambda: case.bind().extract(None, resolution)  # noqa: E731
    elif how == "posed field":
        field.extract(
            case.codes[:1], resolution, posed=True
        )  # the neutral mesh is found before the clock starts
        call = lambda: field.extract(case.codes[1:2], resolution, posed=True)  # noqa: E731
    else:
        (mesh,) = field.extract(case.codes[:1], resolution)
        extra["vertices"], frames = len(mesh.vertices), FRAMES
        call = lambda: field.extract(case.codes, resolution)  # noqa: E731
    benchmark.pedantic(call, rounds=1 if resolution > 128 else 2)
    extra["ms_per_frame"] = 1000 * benchmark.stats.stats.min * scale / frames


@pytest.mark.parametrize("size", list(VERTICES))
@pytest.mark.parametrize("how", ["torch", "track with normals", "track"])
def test_track(benchmark: BenchmarkFixture, case: Case, size: str, how: str) -> None:
    mesh = canonical_mesh(case.field, 2 * VERTICES[size], resolution=208 if size == "50k" else 128)
    vertices, faces, frames = mesh.vertices, mesh.faces, FRAMES
    benchmark.group = f"track forward, official, {len(vertices)} vertices, {ops.threads()} threads"
    if how == "torch":
        points, frames = torch.from_numpy(vertices), 1

        def call() -> object:
            with torch.no_grad():
                return field_offsets(case.field.source, points, case.frame)
    else:

        def call() -> object:
            return case.field.tracked(case.codes, vertices=vertices, faces=faces, normals="normals" in how)

    benchmark.pedantic(call, rounds=3, warmup_rounds=1)
    seconds = benchmark.stats.stats.min / frames
    benchmark.extra_info["vertices"] = len(vertices)
    benchmark.extra_info["ms_per_frame"] = round(1e3 * seconds, 3)
    benchmark.extra_info["frames_per_s"] = round(1 / seconds, 2)


def test_both_find_the_same_values(case: Case) -> None:
    """The peers solve the same problem."""
    rng = np.random.default_rng(1)
    low, high = np.asarray(DEFAULT_BOUNDS)
    points = torch.from_numpy(rng.uniform(low, high, (200, 3)).astype(np.float32))
    roots, left = broyden(case.field.source, case.frame, points)
    assert left.max() < 2e-6
    with torch.no_grad():
        theirs = reference(case.field.source, roots)[0]
    assert (case.field.query(points, case.codes[1])[0] - theirs).abs().max() < 1e-5
