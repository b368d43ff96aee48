"""The field on a GPU: what the emulation of the kernels cannot show. Skipped where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from field_host import converted, random_head
from random_heads import some_points
from torch import Tensor

from facetalk.ops.cuda.field import CudaField
from facetalk.ops.field.cpu import PackedField
from facetalk.ops.field.source import FieldSource
from facetalk.ops.reference.field import field as reference
from facetalk.ops.reference.field import field_offsets

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")

OFFICIAL = dict(
    anchors=39, pairs=16, identity=(200, 101, 200, 200), identity_skip=2,
    deformation=(512, 512, 277, 512, 512, 512), deformation_skip=3,
)  # fmt: skip
MONO = dict(
    family="mononphm", coords=5, anchors=65, pairs=30, neighbours=12, identity=(200, 200, 200, 200),
    identity_skip=None, deformation=(400, 400, 400, 400, 400, 400), deformation_skip=3,
)  # fmt: skip
SMALL = dict(identity=(37, 5, 64), identity_skip=2, deformation=(64, 37, 64), deformation_skip=2)
POINTS, SIDES = 3000, (33, 40, 29)
HEADS = {"official": OFFICIAL, "mono": MONO, "small": SMALL}


def on_gpu(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.cuda() for tensor in tensors]


def formula(source: FieldSource, points: Tensor, biases: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    x, frames = points.to("cuda", dtype), [b.to("cuda", dtype) for b in biases]
    head = converted(source, dtype, "cuda")
    return [made.double().cpu() for made in (reference(head, x, frames), field_offsets(head, x, frames))]


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("head", HEADS)
def test_matches_the_formula(head: str, precision: str) -> None:
    source, biases, rng = random_head(20, **HEADS[head])
    points = some_points(rng, POINTS // 3 + 3)
    field = CudaField(source, precision=precision)
    result = field.query(points.cuda(), on_gpu(biases), outputs=("sdf", "offsets"))
    exact = formula(source, points, biases, torch.float64)
    other = formula(source, points, biases, getattr(torch, precision))
    for name, wanted, theirs in zip(("sdf", "offsets"), exact, other, strict=True):
        error = (result[name].cpu().double() - wanted).abs()
        if precision == "float32":
            assert error.max() <= 2e-5 * (1.0 + wanted.abs().max()), name
        else:
            assert error.max() <= 2 * (theirs - wanted).abs().max(), name


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_same_bits_at_every_call_and_in_any_company(precision: str) -> None:
    source, biases, rng = random_head(21, **OFFICIAL)
    points, frames = some_points(rng, 5000).cuda(), on_gpu(biases)
    field = CudaField(source, precision=precision)
    first = field.query(points, frames)["sdf"]
    for _ in range(5):
        assert torch.equal(field.query(points, frames)["sdf"], first)
    order = torch.from_numpy(rng.permutation(5000)).cuda()
    assert torch.equal(field.query(points[order], frames)["sdf"], first[:, order])
    assert torch.equal(
        CudaField(source, precision=precision, _most_points=777).query(points, frames)["sdf"], first
    )


def test_runs_on_the_current_stream_and_in_a_graph() -> None:
    source, biases, rng = random_head(22, **SMALL)
    points, frames = some_points(rng, POINTS).cuda(), on_gpu(biases)
    field = CudaField(source)
    expected = field.query(points, frames)["sdf"]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        held = torch.zeros_like(points)
        torch.cuda._sleep(20_000_000)  # work of another stream would read the zeros
        held.copy_(points)
        result = field.query(held, frames)["sdf"]
    stream.synchronize()
    assert torch.equal(result, expected)
    graph = torch.cuda.CUDAGraph()
    held.zero_()
    with torch.cuda.graph(graph):
        replayed = field.query(held, frames)["sdf"]
    held.copy_(points)
    graph.replay()
    assert torch.equal(replayed, expected)


def test_a_graph_may_hold_the_first_call() -> None:
    """Weights are packed when the field is made; where derivatives need others, it says so."""
    source, biases, rng = random_head(24, **SMALL)
    points, frames = some_points(rng, POINTS // 3).cuda(), on_gpu(biases)
    expected = CudaField(source).query(points, frames)["sdf"]
    field, graph = CudaField(source), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = field.query(points, frames)["sdf"]
        with pytest.raises(RuntimeError, match=r"deformation's weights in float32 .* call it once before"):
            field.query(points, frames, outputs=("gradient",))
    graph.replay()
    assert torch.equal(captured, expected)


def test_bricks_derivatives_and_roots_agree_with_the_cpu() -> None:
    source, biases, rng = random_head(23, **SMALL)
    frames, cpu = on_gpu(biases), PackedField(source)
    field = CudaField(source, precision="float32")
    axes = [np.linspace(-0.7, 0.7, n).astype(np.float32) for n in SIDES]
    bricks = field.bricks(axes, frames)
    dense = field.grid(axes, frames)
    here = bricks.dense().abs() != 1.0
    assert torch.equal(bricks.dense()[here], dense[here])
    torch.testing.assert_close(dense.cpu(), cpu.grid(axes, biases), rtol=2e-5, atol=2e-5)
    points = some_points(rng, POINTS // 6)
    names = ("gradient", "jacobian")
    result = field.query(points.cuda(), frames, outputs=names)
    expected = cpu.query(points, biases, outputs=names)
    for name in names:
        scale = expected[name].abs().max().clamp_min(1.0)
        assert (result[name].cpu() - expected[name]).abs().max() <= 2e-3 * scale, name
    x, residual = field.invert((points * 0.3).cuda(), frames, tolerance=2e-6)
    roots, left = cpu.invert(points * 0.3, biases, tolerance=2e-6)
    both = (residual.cpu() <= 2e-6) & (left <= 2e-6)
    assert both.float().mean() > 0.9
    assert (x.cpu() - roots)[both].abs().max() < 1e-3
