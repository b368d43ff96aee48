"""The compiled field beside torch: points and multiply-adds per second.

Run ``pytest benchmarks/bench_field.py``. Every group has the same multiply-adds done three ways: by the
compiled field (activations, blending and gathering included), by ``torch.mm`` alone on random matrices of the
layers' shapes (no
activations: what the processor gives a plain matrix product), and by the dense torch formula. ``gmac_per_s``
    in the
extra columns is the rate; for the formula and with routing it counts the folded network's multiply-adds of
every member, so a routed figure says how fast it would have to be without routing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from facetalk.nphm import NPHM
from facetalk.nphm.networks import DeformationConfig, DeformationNetwork, IdentityConfig, IdentityNetwork
from facetalk.ops import set_threads, threads
from facetalk.ops.field.cpu import PackedField
from facetalk.ops.field.source import LayerWeights
from facetalk.ops.reference.field import field as reference
from facetalk.ops.reference.field import field_offsets

POINTS = 8192
SIZES = {
    "official": (IdentityConfig(), {"expression_dim": 200, "hidden": 512, "layers": 6}),
    "small": (
        IdentityConfig(anchors=44, pairs=18, global_dim=32, local_dim=16, hidden=64, layers=3),
        {"expression_dim": 53, "hidden": 128, "layers": 5},
    ),
}


class Case:
    """A random model with anchors strewn over an ellipsoid of a head's size, and points near its surface."""

    def __init__(self, name: str) -> None:
        config, moving = SIZES[name]
        torch.manual_seed(0)
        rng = np.random.default_rng(0)
        axes = np.array([0.35, 0.5, 0.45])
        direction = rng.normal(size=(config.anchors, 3))
        direction[:, 2] = np.abs(direction[:, 2])  # most anchors lie on the face
        surface = direction / np.linalg.norm(direction, axis=1, keepdims=True) * axes
        identity = IdentityNetwork(config, torch.from_numpy(surface).float())
        deformation = DeformationNetwork(
            DeformationConfig(code_dim=config.code_dim, anchors=config.anchors, **moving)
        )
        for network in (identity, deformation):
            network.requires_grad_(False)
        self.model = NPHM(identity, deformation)
        self.code = torch.randn(config.code_dim) * 0.1
        self.expression = torch.randn(1, moving["expression_dim"]) * 0.1
        self.field = self.model.bind(self.code)
        self.exact = PackedField(self.field.source, cull=0.0)
        self.biases = self.field.bound.biases(self.expression)
        shell = rng.normal(size=(POINTS, 3))
        shell /= np.linalg.norm(shell, axis=1, keepdims=True)
        points = shell * axes + rng.normal(0, 0.02, (POINTS, 3))
        self.points = torch.from_numpy(points[np.lexsort(np.round(points / 0.1).T)].astype(np.float32))

    @property
    def identity_macs(self) -> int:
        return macs(self.field.source.identity) * (len(self.field.anchors) + 1)

    @property
    def deformation_macs(self) -> int:
        assert self.field.source.deformation is not None
        return macs(self.field.source.deformation)


def shapes(layers: list[LayerWeights]) -> list[tuple[int, int]]:
    """(outputs, inputs) of every folded layer."""
    return [
        (next(p.shape[1] for p in pair if p is not None), sum(p.shape[2] for p in pair if p is not None))
        for pair in layers
    ]


def macs(layers: list[LayerWeights]) -> int:
    """Multiply-adds of one point and one weight set."""
    return sum(out * inputs for out, inputs in shapes(layers))


def matrix_products(layers: list[LayerWeights], times: int) -> Callable[[], None]:
    """The same multiply-adds as plain matrix products."""
    pairs = [(torch.randn(POINTS, i), torch.randn(i, o), torch.empty(POINTS, o)) for o, i in shapes(layers)]

    def run() -> None:
        for _ in range(times):
            for a, b, out in pairs:
                torch.mm(a, b, out=out)

    return run


@pytest.fixture(scope="module", params=list(SIZES))
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.fixture(params=[1, 0], ids=["one-thread", "every-thread"])
def cores(request: pytest.FixtureRequest):
    before, torch_before = threads(), torch.get_num_threads()
    if request.param:
        set_threads(1)
        torch.set_num_threads(1)
    yield threads()
    set_threads(before)
    torch.set_num_threads(torch_before)


def measure(
    benchmark: BenchmarkFixture, call: Callable[[], object], macs_per_point: int, rounds: int = 7
) -> None:
    benchmark.pedantic(call, rounds=rounds, warmup_rounds=1)
    seconds = benchmark.stats.stats.min
    benchmark.extra_info["points_per_s"] = round(POINTS / seconds)
    benchmark.extra_info["gmac_per_s"] = round(POINTS * macs_per_point / seconds / 1e9, 1)


@pytest.mark.parametrize("how", ["compiled", "torch.mm", "reference"])
def test_deformation(benchmark: BenchmarkFixture, case: Case, cores: int, how: str) -> None:
    benchmark.group = f"deformation {case.model.deformation.config.hidden}, {cores} threads"
    layers = case.field.source.deformation
    call = {
        "compiled": lambda: case.exact.query(case.points, case.biases, outputs=("offsets",)),
        "torch.mm": matrix_products(layers, 1),
        "reference": lambda: field_offsets(case.field.source, case.points, case.biases),
    }[how]
    measure(benchmark, call, case.deformation_macs)


@pytest.mark.parametrize("how", ["compiled, every member", "compiled, routed", "torch.mm", "reference"])
def test_identity(benchmark: BenchmarkFixture, case: Case, cores: int, how: str) -> None:
    benchmark.group = f"identity {case.model.identity.config.hidden}, {cores} threads"
    layers = case.field.source.identity
    call = {
        "compiled, every member": lambda: case.exact.query(case.points),
        "compiled, routed": lambda: case.field.bound.packed.query(case.points),
        "torch.mm": matrix_products(layers, len(case.field.anchors) + 1),
        "reference": lambda: reference(case.field.source, case.points),
    }[how]
    measure(benchmark, call, case.identity_macs, 3)


@pytest.mark.parametrize("level", ["baseline", "avx2", "avx512"])
def test_instruction_sets(benchmark: BenchmarkFixture, case: Case, level: str) -> None:
    from facetalk.ops._extension import load

    core = load()
    if level not in core.build_info()["simd_compiled"]:
        pytest.skip(f"not built for {level}")
    before = core.build_info()["simd"]
    core.set_simd_level(level)
    try:
        if core.build_info()["simd"] != level:
            pytest.skip(f"this CPU has no {level}")
        packed = PackedField(case.field.source)
    finally:
        core.set_simd_level(before)
    benchmark.group = f"instruction sets, deformation {case.model.deformation.config.hidden}"
    measure(
        benchmark,
        lambda: packed.query(case.points, case.biases, outputs=("offsets",)),
        case.deformation_macs,
        3,
    )
