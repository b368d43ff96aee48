"""Fixed topology per frame, beside the official root finder written in torch.

    FACETALK_GOLDEN=folder python -m pytest benchmarks/bench_track.py

Every group is one head and one mesh. ``track`` carries the mesh through a motion; the peer is Broyden's
method as the NPHM project uses it (exact Jacobians at the start, then rank-one updates; at most 15 steps down
to 1e-6) on the same folded network in torch, run on a slab of vertices and extrapolated; how many, the column
``measured_vertices`` says. ``evaluation`` is one pass of all vertices through the network: the floor, since
fewer than one per frame cannot tell whether a vertex has arrived. ``ms_per_frame`` and ``frames_per_s`` are
in the extra columns.

The official-size weights are not part of the repository; without FACETALK_GOLDEN those groups are skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from safetensors.torch import load_file
from torch import Tensor

import facetalk
from facetalk import ops
from facetalk.data.visemes import curves
from facetalk.nphm import load_checkpoint
from facetalk.nphm.canonical_mesh import canonical_mesh
from facetalk.nphm.field import Field
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.root_search import official_search
from facetalk.ops.field.source import FieldSource
from facetalk.ops.reference.field import field_offsets

VERTICES = {"10k": 10_000, "50k": 50_000}
SLAB = {"built-in": 4096, "official": 1024}
FRAMES = {"built-in": 50, "official": 6}


def motion(frames: int, codes: np.ndarray) -> np.ndarray:
    """A smooth walk between codes (C, E), one every eight frames: as fast as speech."""
    at = np.arange(frames) / 8
    low = at.astype(int) % len(codes)
    share = (0.5 - 0.5 * np.cos(np.pi * (at % 1)))[:, None]
    return ((1 - share) * codes[low] + share * codes[(low + 1) % len(codes)]).astype(np.float32)


class Case:
    """A bound head, a canonical mesh of about as many vertices as asked for, and a motion."""

    def __init__(self, model: str, vertices: int) -> None:
        if model == "built-in":
            head = HeadModel.load(Path(facetalk.__file__).parent / "models" / "default" / "head")
            self.field: Field = head.nphm.bind(head.default_identity)
            # The face of somebody who says "hello world, this is how", with blinks.
            said = ["HH", "AH", "L", "OW", "W", "ER", "L", "D", "DH", "IH", "S", "IH", "Z", "HH", "AW", "W"]
            phones = [(p, 0.09 * i, 0.09 * (i + 1)) for i, p in enumerate(said)]
            length = FRAMES[model] / 25
            self.codes = curves(phones, length, 25.0, alphabet="arpabet", rng=np.random.default_rng(0))
        else:
            folder = Path(os.environ.get("FACETALK_GOLDEN", "")) / "nphm_official"
            if not (folder / "golden.safetensors").exists():
                pytest.skip("nphm_official: set FACETALK_GOLDEN to the folder that holds it")
            arrays = load_file(folder / "golden.safetensors")
            self.field = load_checkpoint(folder, direction="backward").bind(arrays["lat_id"])
            self.codes = motion(FRAMES[model], arrays["lat_expr"].numpy())
        resolution = 208 if vertices > 20_000 else 128
        mesh = canonical_mesh(self.field, 2 * vertices, resolution=resolution)
        self.vertices, self.faces = mesh.vertices, mesh.faces
        self.slab = torch.from_numpy(self.vertices[:: max(1, len(self.vertices) // SLAB[model])])
        self.biases = [b.detach().contiguous() for b in self.field.bound.biases(self.codes)]


@pytest.fixture(scope="module", params=["built-in", "official"])
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=list(VERTICES))
def case(request: pytest.FixtureRequest, model: str) -> Case:
    return Case(model, VERTICES[request.param])


def broyden(source: FieldSource, biases: list[Tensor], targets: Tensor) -> tuple[Tensor, Tensor]:
    """The official root finder: x (N, 3) with x + offsets(x) = targets, and |residual| (N,).

    The network is evaluated for the points that have not arrived only, as the official code does.
    """

    def offsets(x: Tensor) -> Tensor:
        return field_offsets(source, x, biases)[0]

    def jacobian(x: Tensor) -> Tensor:
        with torch.enable_grad():
            at = x.clone().requires_grad_()
            moved = offsets(at)
            rows = [torch.autograd.grad(moved[:, c].sum(), at, retain_graph=c < 2)[0] for c in range(3)]
        return torch.stack(rows, dim=1)

    with torch.no_grad():
        return official_search(offsets, jacobian, targets)


@pytest.mark.parametrize("how", ["track", "track, 0.05 mm", "evaluation", "torch Broyden"])
def test_track(benchmark: BenchmarkFixture, model: str, case: Case, how: str) -> None:
    count, frames = len(case.vertices), len(case.codes)
    benchmark.group = f"track {model}, {count} vertices, {ops.threads()} threads"
    measured, scale = count, 1.0 / frames
    if how == "torch Broyden":
        measured, scale = len(case.slab), count / len(case.slab)
        source, middle = case.field.source, frames // 2
        one = [b[middle : middle + 1] for b in case.biases]

        def call() -> object:
            return broyden(source, one, case.slab)

    elif how == "evaluation":

        def call() -> object:
            return case.field.bound.packed.query(case.vertices, case.biases, outputs=("offsets",))

    else:
        tolerance = 2e-4 if "mm" in how else 1e-5
        info = case.field.tracked(case.codes, vertices=case.vertices, faces=case.faces, tolerance=tolerance)
        benchmark.extra_info["largest_residual"] = float(info.residual[info.converged].max())
        benchmark.extra_info["not_converged"] = round(float((~info.converged).mean()), 6)

        def call() -> object:
            return case.field.track(case.codes, vertices=case.vertices, faces=case.faces, tolerance=tolerance)

    benchmark.pedantic(call, rounds=2 if model == "official" else 3, warmup_rounds=1)
    seconds = benchmark.stats.stats.min * scale
    benchmark.extra_info["vertices"] = count
    benchmark.extra_info["measured_vertices"] = measured
    benchmark.extra_info["ms_per_frame"] = round(1e3 * seconds, 3)
    benchmark.extra_info["frames_per_s"] = round(1 / seconds, 2)


def test_both_find_the_same_roots(case: Case) -> None:
    """The peer solves the same problem: where both converge, they agree."""
    one = [b[3:4] for b in case.biases]
    targets = case.slab[:500]
    theirs, left = broyden(case.field.source, one, targets)
    ours, residual = case.field.bound.packed.invert(targets, one)
    both = (left < 2e-6) & (residual[0] < 2e-6)
    assert both.float().mean() > 0.9
    assert (theirs - ours[0])[both].abs().max() < 1e-4
