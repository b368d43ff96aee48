"""The field's CUDA kernels, run on the host: every branch of them on heads that take a moment."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from field_host import converted, emulated_core, random_head
from random_heads import some_points

from facetalk.ops.cuda.field import CudaField
from facetalk.ops.field.cpu import PackedField
from facetalk.ops.field.source import DEFAULT_CULL, HALF_CULL, FieldSource, OffsetWeight
from facetalk.ops.reference.field import field as reference
from facetalk.ops.reference.field import field_offsets as reference_offsets

# Shared memory of a block on compute capability 9.0, 8.0 and 8.6: each takes other kernels.
SHARED = {"sm_90": 232448, "sm_80": 166912, "sm_86": 101376}
WIDTHS = {
    "tiny": dict(identity=(5,), identity_skip=None, deformation=(5,), deformation_skip=1),
    "odd": dict(identity=(37, 5, 64), identity_skip=2, deformation=(64, 37, 64, 64), deformation_skip=2),
    "growing": dict(identity=(5, 24, 40), identity_skip=1, deformation=(8, 24, 56, 72), deformation_skip=2),
    "narrow": dict(deformation=(200, 160, 200), deformation_skip=2),
    "broad": dict(identity=(300, 260), identity_skip=1, anchors=4, pairs=1, frames=1),
    "hyper": dict(family="mononphm", coords=5, anchors=12, identity=(37, 64, 40), identity_skip=None,
                  deformation=(64, 33, 40), deformation_skip=2),
    "official": dict(identity=(200, 101, 200), identity_skip=2, deformation=(512, 277, 300),
                     deformation_skip=2, frames=1),
}  # fmt: skip


def cuda_field(source: FieldSource, precision: str = "float32", **options: object) -> CudaField:
    core = emulated_core()
    return CudaField(source, precision=precision, device="cpu", _core=core.cuda_field, **options)


def run(call, *args, **options):
    """Call it; where a kernel fails, say what the emulation found."""
    try:
        return call(*args, **options)
    except RuntimeError as error:
        pytest.fail(f"{error}; {emulated_core().error()}")


def in_torch(source: FieldSource, points, biases, dtype: torch.dtype, weight=None):
    """(sdf, offsets) by the dense formula in the given dtype."""
    head, x, frames = converted(source, dtype), points.to(dtype), [b.to(dtype) for b in biases]
    return reference(head, x, frames, weight).double(), reference_offsets(head, x, frames, weight).double()


@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("widths", WIDTHS)
def test_float32_matches_the_formula(widths: str, shared: str) -> None:
    source, biases, rng = random_head(3, **WIDTHS[widths])
    points = some_points(rng, 45)
    field = cuda_field(source, _shared_limit=SHARED[shared])
    result = run(field.query, points, biases, outputs=("sdf", "offsets"))
    sdf, offsets = in_torch(source, points, biases, torch.float64)
    assert (result["offsets"] - offsets).abs().max() <= 1e-5
    assert (result["sdf"] - sdf).abs().max() <= 1e-5 * (1.0 + sdf.abs().max())


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("widths", WIDTHS)
def test_half_precision_errs_at_most_twice_what_torch_errs(widths: str, shared: str, precision: str) -> None:
    source, biases, rng = random_head(4, **WIDTHS[widths])
    points = some_points(rng, 45 if widths == "official" else 150)
    field = cuda_field(source, precision, _shared_limit=SHARED[shared])
    result = run(field.query, points, biases, outputs=("sdf", "offsets"))
    sdf, offsets = in_torch(source, points, biases, torch.float64)
    other_sdf, other_offsets = in_torch(source, points, biases, getattr(torch, precision))
    assert (result["offsets"] - offsets).abs().max() <= 2 * (other_offsets - offsets).abs().max()
    # The formula in 16 bit also rounds coordinates and blending, so that bound alone would be an easy one.
    size = sdf.abs().max()
    error = (result["sdf"] - sdf).abs().max()
    assert error <= 2 * (other_sdf - sdf).abs().max()
    assert error <= (1e-2 if precision == "float16" else 8e-2) * size


def test_the_kernels_meant_for_each_device_are_taken() -> None:
    source, _, _ = random_head(0, **WIDTHS["official"])
    kinds = {}
    for name, limit in SHARED.items():
        runner = cuda_field(source, "float16", _shared_limit=limit)._runner
        plans = [runner._kernel(network, False)[1] for network in ("identity", "deformation")]
        assert all(plan.shared_bytes <= limit for plan in plans)
        kinds[name] = [plan.stages for plan in plans] + [plan.points for plan in plans]
    assert kinds["sm_90"] == [0, 3, 32, 128]  # members' weights stay; the deformation's stream
    assert kinds["sm_80"] == [0, 3, 32, 64]
    assert kinds["sm_86"] == [3, 3, 128, 64]
    full, _, _ = random_head(0, identity=(200, 101, 200, 200), identity_skip=2)
    narrow, _, _ = random_head(0, **WIDTHS["narrow"])
    for name, stages in (("sm_90", 0), ("sm_86", 3)):
        runner = cuda_field(narrow, "float16", _shared_limit=SHARED[name])._runner
        assert runner._kernel("deformation", False)[1].stages == stages
    for name, stages in (("sm_90", 0), ("sm_80", 3)):
        runner = cuda_field(full, "float16", _shared_limit=SHARED[name])._runner
        assert runner._kernel("identity", False)[1].stages == stages


@pytest.mark.parametrize("n", [0, 1, 129, 257])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_numbers_of_points(n: int, precision: str) -> None:
    source, biases, rng = random_head(5)
    points = some_points(rng, n)
    result = run(cuda_field(source, precision).query, points, biases)["sdf"]
    assert result.shape == (2, n)
    sdf, _ = in_torch(source, points, biases, torch.float64)
    tolerance = 1e-5 if precision == "float32" else 4e-3
    torch.testing.assert_close(result.double(), sdf, rtol=tolerance, atol=tolerance * 2)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_point_does_not_depend_on_its_company(precision: str) -> None:
    source, biases, rng = random_head(6, anchors=9, pairs=3)
    points = some_points(rng, 300)
    core = emulated_core()
    core.seed(1)
    whole = run(cuda_field(source, precision).query, points, biases)["sdf"]
    core.seed(2)  # another order of blocks, warps and lanes
    assert torch.equal(run(cuda_field(source, precision).query, points, biases)["sdf"], whole)
    order = torch.from_numpy(rng.permutation(300))
    assert torch.equal(
        run(cuda_field(source, precision).query, points[order], biases)["sdf"], whole[:, order]
    )
    for most in (64, 300, 350):  # parts of a frame; one frame; both
        parted = cuda_field(source, precision, _most_points=most)
        assert torch.equal(run(parted.query, points, biases)["sdf"], whole)
    axes = [np.sort(rng.uniform(-0.7, 0.7, n)).astype(np.float32) for n in (4, 5, 6)]
    lattice = torch.from_numpy(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3))
    flat = run(cuda_field(source, precision).query, lattice, biases)["sdf"]
    grid = run(cuda_field(source, precision, _most_points=70).grid, axes, biases)
    assert torch.equal(grid.reshape(flat.shape), flat)


@pytest.mark.parametrize("family", ["nphm", "mononphm"])
@pytest.mark.parametrize("cull", [0.0, 1e-7, 1e-2])
def test_routes_as_the_cpu_does(family: str, cull: float) -> None:
    """Under a coarse cull, where leaving out the wrong member would be seen, the two backends agree."""
    source, biases, rng = random_head(7, family=family, anchors=14, neighbours=10)
    points = some_points(rng, 200) * 0.7
    result = run(cuda_field(source, cull=cull).query, points, biases, outputs=("sdf", "raw_sdf"))
    expected = PackedField(source, cull=cull).query(points, biases, outputs=("sdf", "raw_sdf"))
    for name in ("sdf", "raw_sdf"):
        torch.testing.assert_close(result[name], expected[name], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_members_left_out_in_16_bit_are_below_its_rounding(precision: str) -> None:
    """The error against float64 is the same, to 5 %, whether members of 1e-7 of the weight stay or not."""
    source, biases, rng = random_head(9, anchors=30, pairs=10, frames=1)
    points = some_points(rng, 200) * 0.7
    exact, _ = in_torch(source, points, biases, torch.float64)
    errors = []
    for cull in (None, HALF_CULL, DEFAULT_CULL):
        values = run(cuda_field(source, precision, cull=cull).query, points, biases)["sdf"]
        errors.append(float((values - exact).square().mean().sqrt()))
    assert errors[0] == errors[1] and abs(errors[1] - errors[2]) <= 0.05 * errors[2]
    float32 = [
        run(cuda_field(source, cull=cull).query, points, biases)["sdf"] for cull in (None, DEFAULT_CULL)
    ]
    assert torch.equal(*float32)
    # Derivatives, and what is asked of a 16-bit field in float32, keep float32's rule.
    half = cuda_field(source, precision)
    assert torch.equal(run(half.in_float32().query, points, biases)["sdf"], float32[0])


@pytest.mark.parametrize("neighbours", [1, 7, 8, 12, 14])
def test_mononphm_neighbours(neighbours: int) -> None:
    """Below, at and above the eighth, whose distance is the scale; all of them; equal distances."""
    source, _, rng = random_head(8, family="mononphm", anchors=14, neighbours=neighbours)
    source = dataclasses.replace(
        source, anchors=torch.cat([source.anchors[:7], source.anchors[:7] * torch.tensor([-1.0, 1.0, 1.0])])
    )
    points = some_points(rng, 60)
    points[:10, 0] = 0.0  # on the plane of symmetry: every distance twice
    result = run(cuda_field(source).query, points)["sdf"]
    torch.testing.assert_close(result, PackedField(source).query(points)["sdf"], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("family", ["nphm", "mononphm"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shared", ["sm_90", "tight"])
def test_derivatives(family: str, weighted: bool, shared: str) -> None:
    coords = 3 if family == "nphm" else 5
    source, biases, rng = random_head(9, family=family, coords=coords, anchors=10, neighbours=9)
    weight = OffsetWeight((0.0, 0.1, 0.2), (0.3, 0.4, 0.5), 1.2, -0.1) if weighted else None
    points = some_points(rng, 37)
    # "tight" leaves room for 16 columns of the deformation only, and for no kernel in 16 bit at all.
    precision, limit = ("float16", SHARED["sm_90"]) if shared == "sm_90" else ("float32", 9000)
    field = cuda_field(source, precision, _shared_limit=limit)
    plan = field._runner._kernel("deformation", derive=True)[1]
    assert plan.points == (8 if shared == "sm_90" else 4)  # a point takes four columns
    names = ("gradient", "jacobian", "offsets")
    result = run(field.query, points, biases, weight=weight, outputs=names)
    expected = PackedField(source).query(points, biases, weight=weight, outputs=names)
    for name in names:
        scale = expected[name].abs().max().clamp_min(1.0)
        assert (result[name] - expected[name]).abs().max() <= 2e-3 * scale, name


def test_canonical_queries_with_hyper_coordinates() -> None:
    source, _, rng = random_head(10, family="mononphm", coords=5, anchors=10, neighbours=9)
    for columns in (3, 5):
        points = some_points(rng, 50, columns)
        result = run(cuda_field(source).query, points, outputs=("sdf", "gradient"))
        expected = PackedField(source).query(points, outputs=("sdf", "gradient"))
        torch.testing.assert_close(result["sdf"], expected["sdf"], rtol=2e-5, atol=2e-5)
        assert result["gradient"].shape == (1, 50, columns)
        scale = expected["gradient"].abs().max().clamp_min(1.0)
        assert (result["gradient"] - expected["gradient"]).abs().max() <= 2e-3 * scale


@pytest.mark.parametrize("family", ["nphm", "mononphm"])
def test_points_that_are_not_finite_harm_only_themselves(family: str) -> None:
    source, biases, rng = random_head(16, family=family, anchors=10, neighbours=9)
    points = some_points(rng, 40)
    broken = points.clone()
    broken[7, 1], broken[31, 2] = float("nan"), float("inf")
    names = ("sdf", "gradient")
    good = run(cuda_field(source).query, points, biases, outputs=names)
    result = run(cuda_field(source).query, broken, biases, outputs=names)
    keep = torch.ones(40, dtype=torch.bool)
    keep[[7, 31]] = False
    for name in names:
        assert torch.equal(result[name][:, keep], good[name][:, keep])
        assert not torch.isfinite(result[name][:, ~keep]).any()


def test_wrong_arguments_are_named() -> None:
    source, biases, rng = random_head(11)
    field, points = cuda_field(source), some_points(rng, 4)
    with pytest.raises(ValueError, match="outputs: expected"):
        field.query(points, outputs=("colour",))
    with pytest.raises(TypeError, match="points: expected float32"):
        field.query(points.double())
    with pytest.raises(ValueError, match=r"points: expected shape \(N, 3\)"):
        field.query(points[:, :2])
    with pytest.raises(ValueError, match=r"biases\[1\]: expected shape"):
        field.query(points, [biases[0], biases[1][:, :5], biases[2]])
    with pytest.raises(ValueError, match="biases: expected frames"):
        field.query(points, outputs=("offsets",))
    with pytest.raises(ValueError, match="precision: expected"):
        cuda_field(source, "float64")
    wide, _, _ = random_head(11, deformation=(520, 8))
    with pytest.raises(ValueError, match="at most 512 hidden units in 16 bit"):
        cuda_field(wide, "float16").query(points, random_head(11, deformation=(520, 8))[1])
    broken = dataclasses.replace(source, anchors=source.anchors * float("nan"))
    with pytest.raises(ValueError, match="anchors: expected finite"):
        cuda_field(broken)
