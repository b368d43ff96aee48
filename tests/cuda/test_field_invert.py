"""Inverting a deformation by the CUDA kernels, run on the host."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from field_host import converted, emulated_core, random_head
from random_heads import some_points
from torch import Tensor

from facetalk.ops.cuda.field import CudaField
from facetalk.ops.cuda.field_invert import _segments
from facetalk.ops.field.cpu import PackedField
from facetalk.ops.field.source import FieldSource, OffsetWeight
from facetalk.ops.reference.field import field_offsets


def cuda_field(source: FieldSource, **options: object) -> CudaField:
    return CudaField(source, precision="float16", device="cpu", _core=emulated_core().cuda_field, **options)


def scaled(source: FieldSource, factor: float) -> FieldSource:
    """The head with its offsets times a factor; well below one there is one root for each target."""
    assert source.deformation is not None
    hidden, coords = source.deformation[-1]
    assert hidden is not None
    last = (hidden * factor, None if coords is None else coords * factor)
    return dataclasses.replace(source, deformation=[*source.deformation[:-1], last])


def left(source: FieldSource, biases: list[Tensor], x: Tensor, targets: Tensor, weight=None) -> Tensor:
    """|x + offset(x) - target| (T, N) in float64, for positions (T, N, 3)."""
    head = converted(source, torch.float64)
    rows = []
    for t in range(len(x)):
        frame = [b[t : t + 1].double() for b in biases]
        moved = field_offsets(head, x[t].double(), frame, weight)[0, :, :3]
        rows.append(torch.linalg.vector_norm(x[t].double() + moved - targets.double(), dim=-1))
    return torch.stack(rows)


@pytest.mark.parametrize("family", ["nphm", "mononphm"])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_root_of_a_gentle_deformation_is_found(family: str, weighted: bool) -> None:
    head = random_head(13, family=family, coords=3 if family == "nphm" else 5, frames=3)
    source, biases, rng = scaled(head[0], 0.3), head[1], head[2]
    weight = OffsetWeight((0.0, 0.1, 0.2), (0.3, 0.4, 0.5)) if weighted else None
    targets = some_points(rng, 45) * 0.5
    x, residual = cuda_field(source).invert(targets, biases, weight=weight, tolerance=2e-6)
    assert x.shape == (3, 45, 3) and residual.shape == (3, 45)
    assert (residual <= 2e-6).all()
    assert (left(source, biases, x, targets, weight) <= 4e-6).all()
    expected, _ = PackedField(source).invert(targets, biases, weight=weight, tolerance=2e-6)
    assert (x - expected).abs().max() < 2e-5
    parted, _ = cuda_field(source, _most_points=50).invert(targets, biases, weight=weight, tolerance=2e-6)
    assert torch.equal(parted, x)
    # Nothing is left to do from there.
    again, _ = cuda_field(source).invert(targets, [b[:1] for b in biases], starts=x[0], weight=weight,
                                         tolerance=2e-6)  # fmt: skip
    assert torch.equal(again[0], x[0])


def test_what_has_no_root_says_so_and_is_no_worse_than_its_start() -> None:
    """A steep deformation folds: some steps fail, inverses are refreshed, some walkers get stuck."""
    source, biases, rng = random_head(14, frames=2)
    source, targets = scaled(source, 6.0), some_points(rng, 200)
    x, residual = cuda_field(source).invert(targets, biases, tolerance=1e-6, iterations=40)
    actual = left(source, biases, x, targets)
    assert (residual - actual).abs().max() < 2e-5  # whatever was found, it says how good it is
    start = left(source, biases, targets.expand(2, -1, -1), targets)
    assert (actual <= start + 1e-5).all()
    assert 0 < (residual > 1e-6).sum() < residual.numel()
    # The CPU walks the first frame from the same starts by the same steps, shortened where they fail.
    _, expected = PackedField(source).invert(targets, [b[:1] for b in biases], tolerance=1e-6, iterations=40)
    assert abs(residual[0].mean() - expected[0].mean()) < 0.01
    assert abs((residual[0] <= 2e-6).sum() - (expected[0] <= 2e-6).sum()) <= 2
    none, untouched = cuda_field(source).invert(targets, biases, iterations=0)
    assert torch.equal(none, targets.expand(2, -1, -1)) and (untouched - start).abs().max() < 1e-4


def test_segments_hold_each_walker_once_beside_its_own_frame() -> None:
    mask = torch.rand(5, 70, generator=torch.Generator().manual_seed(0)) < 0.4
    mask[2] = False
    walkers, row = _segments(mask)
    real = walkers[walkers >= 0]
    assert torch.equal(real, torch.nonzero(mask.view(-1)).view(-1))
    assert torch.equal((walkers // 70)[walkers >= 0], row[:, None].expand_as(walkers)[walkers >= 0].long())
    assert _segments(torch.zeros(3, 4, dtype=torch.bool))[0].shape == (0, 32)


def test_wrong_arguments_and_no_targets() -> None:
    source, biases, rng = random_head(15)
    field, targets = cuda_field(source), some_points(rng, 4)
    with pytest.raises(ValueError, match=r"starts: expected shape \(4, 3\)"):
        field.invert(targets, biases, starts=targets[:2])
    with pytest.raises(ValueError, match="biases: expected frames"):
        field.invert(targets, None)  # type: ignore[arg-type]
    x, residual = field.invert(targets[:0], biases)
    assert x.shape == (2, 0, 3) and residual.shape == (2, 0)
