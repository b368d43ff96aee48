"""The compiled field against the dense torch formula, on random heads of random sizes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_heads import heads, random_head, some_points

from facetalk.ops import set_threads, threads
from facetalk.ops._extension import load
from facetalk.ops.field.cpu import PackedField
from facetalk.ops.field.source import FieldSource, OffsetWeight, cull_to_cut
from facetalk.ops.reference.field import field as reference
from facetalk.ops.reference.field import field_offsets as reference_offsets

SHORT = settings(max_examples=25, deadline=None)


def doubled(source: FieldSource) -> FieldSource:
    two = lambda pair: tuple(None if part is None else part.double() for part in pair)  # noqa: E731
    return FieldSource(
        identity=[two(pair) for pair in source.identity],
        identity_bias=[b.double() for b in source.identity_bias],
        anchors=source.anchors.double(),
        member_set=source.member_set,
        mirror=source.mirror.double(),
        deformation=[two(pair) for pair in source.deformation],
        blending=source.blending,
        neighbours=source.neighbours,
        blend_std=source.blend_std,
    )


def close(result: torch.Tensor, expected: torch.Tensor, tolerance: float, jumps: int = 0) -> None:
    """Equal but for `jumps` points on the wrong side of one of MonoNPHM's discontinuities."""
    assert result.shape == expected.shape
    scale = 1.0 + expected.abs()
    beyond = ((result.double() - expected).abs() > tolerance * scale).sum().item()
    assert beyond <= jumps, f"{beyond} beyond {tolerance}: {(result.double() - expected).abs().max():.2e}"


@SHORT
@given(heads(), st.integers(0, 300), st.sampled_from([0.0, 1e-7]))
def test_matches_the_dense_formula(head, n: int, cull: float) -> None:
    source, biases, rng = head
    packed, exact = PackedField(source, cull=cull), doubled(source)
    points = some_points(rng, n)
    jumps = 0 if source.blending == "nphm" else 1
    close(packed.query(points)["sdf"], reference(exact, points.double()), 2e-5, jumps)
    frames = [b.double() for b in biases]
    result = packed.query(points, biases, outputs=("sdf", "offsets"))
    close(result["offsets"], reference_offsets(exact, points.double(), frames), 1e-5)
    close(result["sdf"], reference(exact, points.double(), frames), 4e-5, jumps * len(biases[0]))


@SHORT
@given(heads(), st.integers(1, 90), st.booleans())
def test_derivatives_match_autograd(head, n: int, weighted: bool) -> None:
    source, biases, rng = head
    weight = OffsetWeight((0.0, 0.1, 0.2), (0.3, 0.4, 0.5), 1.2, -0.1) if weighted else None
    packed, exact = PackedField(source), doubled(source)
    frames = [b.double() for b in biases]
    result = packed.query(
        some := some_points(rng, n), biases, weight=weight, outputs=("gradient", "jacobian")
    )
    x = some.double().requires_grad_()
    moved = reference_offsets(exact, x, frames, weight)
    rows = []
    for output in range(moved.shape[-1]):
        for t in range(moved.shape[0]):
            (row,) = torch.autograd.grad(moved[t, :, output].sum(), x, retain_graph=True)
            rows.append(row)
    jacobian = torch.stack(rows).reshape(moved.shape[-1], moved.shape[0], n, 3).permute(1, 2, 0, 3)
    # Where the offset's weight is clamped its slope jumps; a point on that edge may land on either side.
    edge = 2 if weighted else 0
    close(result["jacobian"], jacobian, 2e-3, edge * 3 * moved.shape[-1])
    values = reference(exact, x, frames, weight)
    gradient = torch.stack([torch.autograd.grad(v.sum(), x, retain_graph=True)[0] for v in values])
    scale = gradient.abs().max().clamp_min(1.0)
    jumps = 0 if source.blending == "nphm" else 3
    close(result["gradient"] / scale, gradient / scale, 2e-3, jumps * len(values) + edge * 3)


@SHORT
@given(heads(family="mononphm"), st.integers(1, 60))
def test_canonical_hyper_coordinates(head, n: int) -> None:
    source, _, rng = head
    columns = source.identity[0][1].shape[-1]
    points = some_points(rng, n, columns)
    result = PackedField(source).query(points, outputs=("sdf", "gradient"))
    x = points.double().requires_grad_()
    value = reference(doubled(source), x)
    close(result["sdf"], value.detach(), 2e-5, 1)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    scale = gradient.abs().max().clamp_min(1.0)
    close(result["gradient"][0] / scale, gradient / scale, 2e-3, 6)


@SHORT
@given(heads(), st.integers(2, 12), st.integers(2, 9), st.integers(2, 20))
def test_a_point_does_not_depend_on_its_company(head, nx: int, ny: int, nz: int) -> None:
    source, biases, rng = head
    packed = PackedField(source)
    axes = [np.sort(rng.uniform(-0.7, 0.7, n)).astype(np.float32) for n in (nx, ny, nz)]
    volume = packed.grid(axes, biases)
    points = torch.from_numpy(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3))
    flat = packed.query(points, biases)["sdf"]
    assert torch.equal(volume.reshape(flat.shape), flat)
    order = torch.from_numpy(rng.permutation(len(points)))
    assert torch.equal(packed.query(points[order], biases)["sdf"], flat[:, order])
    alone = torch.cat([packed.query(points[i : i + 1], biases)["sdf"] for i in range(min(5, len(points)))], 1)
    assert torch.equal(alone, flat[:, :5])


@SHORT
@given(heads(), st.integers(1, 400))
def test_inverse(head, n: int) -> None:
    source, biases, rng = head
    hidden, coords = source.deformation[-1]
    gentle = (
        hidden * 0.1,
        None if coords is None else coords * 0.1,
    )  # slopes well below 1: there is one root
    source = dataclasses.replace(source, deformation=[*source.deformation[:-1], gentle])
    packed = PackedField(source)
    targets = some_points(rng, n) * 0.5
    positions, residual = packed.invert(targets, biases, tolerance=2e-6)
    moved = reference_offsets(doubled(source), positions[0].double(), [b[:1].double() for b in biases])[
        0, :, :3
    ]
    actual = torch.linalg.vector_norm(positions[0].double() + moved - targets.double(), dim=-1)
    assert (residual[0].double() - actual).abs().max() < 1e-5  # whatever it found, it says how good it is
    assert (residual <= 2e-6).all()
    assert positions.shape == (len(biases[0]), n, 3)


def test_inverse_reports_what_is_left_and_learns_from_its_steps() -> None:
    source, biases, rng = random_head(3)
    packed, targets = PackedField(source), some_points(rng, 200) * 0.5
    offsets = packed.query(targets, biases, outputs=("offsets",))["offsets"][:1]
    positions, residual = packed.invert(targets, [b[:1] for b in biases], iterations=0)
    assert torch.equal(positions[0], targets)
    assert (residual - torch.linalg.vector_norm(offsets, dim=-1)).abs().max() < 1e-6
    # Too few steps for a second exact Jacobian, too many digits for a fixed one: the updates have to be
    # right.

    last = source.deformation[-1][0] * 0.3
    gentle = dataclasses.replace(source, deformation=[*source.deformation[:-1], (last, None)])
    _, residual = PackedField(gentle).invert(targets, biases, iterations=7)
    assert (residual <= 1e-6).double().mean() > 0.97


def test_threads_do_not_change_the_result() -> None:
    source, biases, rng = random_head(3)
    points = some_points(rng, 3000)
    axes = [np.linspace(-0.6, 0.6, 33).astype(np.float32)] * 3
    packed, before = PackedField(source), threads()
    results = []
    try:
        for count in (1, 2, 5):
            set_threads(count)
            parts = packed.query(points, biases, outputs=("sdf", "gradient", "offsets", "jacobian"))
            one = [b[:1] for b in biases]
            results.append([*parts.values(), packed.grid(axes, one),
                            *packed.invert(points * 0.5, biases)])  # fmt: skip
    finally:
        set_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def each_level(source: FieldSource) -> list[PackedField]:
    """The field packed for every instruction set that this machine has."""
    core = load()
    levels = ["baseline", "avx2", "avx512"]
    before, fields = core.build_info()["simd"], []
    try:
        for level in levels[: levels.index(core.build_info()["simd_detected"]) + 1]:
            core.set_simd_level(level)
            fields.append(PackedField(source))
            assert fields[-1].simd == level
    finally:
        core.set_simd_level(before)
    return fields


def test_instruction_sets_agree() -> None:
    source, biases, rng = random_head(3)
    points = some_points(rng, 700)
    wanted = ("sdf", "gradient", "offsets", "jacobian")
    results = [packed.query(points, biases, outputs=wanted) for packed in each_level(source)]
    if len(results) == 1:
        pytest.skip("this machine has one instruction set")
    for other in results[1:]:
        for name, tolerance in {"sdf": 2e-6, "offsets": 1e-6, "gradient": 2e-4, "jacobian": 2e-5}.items():
            assert (other[name] - results[0][name]).abs().max() < tolerance, name


def test_the_activation_is_accurate() -> None:
    """A head that is one softplus of x: what the polynomials leave is below float32 rounding at 0.5."""
    one = torch.ones(2, 1, 1)
    source = FieldSource(
        identity=[(None, torch.tensor([[[1.0, 0.0, 0.0]]] * 2)), (one, None)],
        identity_bias=[torch.zeros(2, 1), torch.zeros(2, 1)],
        anchors=torch.tensor([[50.0, 0.0, 0.0]]),  # far away: the member without anchor is alone
        member_set=torch.tensor([0, 1]),
        mirror=torch.ones(2),
    )
    x = torch.cat([torch.linspace(-0.5, 0.5, 4001), torch.tensor([-30.0, -1e-6, 0.0, 1e-6, 30.0])])
    points = torch.stack([x, torch.zeros_like(x), torch.zeros_like(x)], dim=1)
    exact = torch.nn.functional.softplus(x.double(), beta=100.0)
    slope = torch.sigmoid(100.0 * x.double())
    for packed in each_level(source):
        result = packed.query(points, outputs=("raw_sdf", "gradient", "sdf"))
        error = (result["raw_sdf"][0].double() - exact).abs()
        assert (error <= 6e-8 + 1.2e-7 * exact).all(), (packed.simd, error.max())
        # The gradient is of the blended value, which the 1e-6 in the denominator scales down.
        shrink = math.exp(-20.0) / (math.exp(-20.0) + 1e-6)
        assert (result["gradient"][0, :, 0].double() / shrink - slope).abs().max() < 5e-6


def test_no_points_and_no_frames() -> None:
    source, biases, _ = random_head(0)
    packed = PackedField(source)
    none = [b[:0] for b in biases]
    assert packed.query(torch.zeros(0, 3))["sdf"].shape == (1, 0)
    assert packed.query(torch.zeros(0, 3), biases)["sdf"].shape == (2, 0)
    assert packed.query(torch.zeros(5, 3), none)["sdf"].shape == (0, 5)
    assert packed.grid([np.zeros(1, np.float32)] * 3, none).shape == (0, 1, 1, 1)
    assert packed.invert(torch.zeros(0, 3), biases)[0].shape == (2, 0, 3)


def test_refuses_what_it_cannot_use() -> None:
    source, biases, _ = random_head(0)
    packed = PackedField(source)
    bad = torch.zeros(7, 3)
    bad[4, 1] = math.nan
    with pytest.raises(ValueError, match=r"points\[4\].*finite"):
        packed.query(bad)
    with pytest.raises(ValueError, match=r"targets.*finite"):
        packed.invert(bad, biases)
    with pytest.raises(ValueError, match=r"points: expected shape \(N, 3\), got float32 \(3,\)"):
        packed.query(torch.zeros(3))
    with pytest.raises(ValueError, match=r"\(N, 3\)"):
        packed.query(torch.zeros(3, 4))
    with pytest.raises(TypeError, match=r"points: expected float32.*int64"):
        packed.query(torch.zeros(3, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match="points: expected a NumPy array or a torch tensor, got list"):
        packed.query([[0.0, 0.0, 0.0]])
    with pytest.raises(TypeError, match="on the CPU"):
        packed.query(torch.zeros(3, 3, device="meta"))
    with pytest.raises(ValueError, match="deformation layer 1 bias"):
        packed.query(torch.zeros(3, 3), [biases[0], biases[1][:, :-1], *biases[2:]])
    with pytest.raises(ValueError, match="deformation biases: expected 4 layers, got 3"):
        packed.query(torch.zeros(3, 3), biases[:3])
    with pytest.raises(ValueError, match="outputs"):
        packed.query(torch.zeros(3, 3), outputs=("colour",))
    with pytest.raises(ValueError, match="biases: expected frames"):
        packed.query(torch.zeros(3, 3), outputs=("offsets",))
    with pytest.raises(ValueError, match="cull"):
        cull_to_cut(1.0)


def test_refuses_networks_that_do_not_fit() -> None:
    source, _, _ = random_head(0)
    wrong = list(source.identity)
    wrong[2] = (wrong[2][0][:, :, :-1], wrong[2][1])
    with pytest.raises(ValueError, match="identity layer 2: expected 21 hidden inputs"):
        PackedField(dataclasses.replace(source, identity=wrong))
    broken = [b.clone() for b in source.identity_bias]
    broken[1][3, 2] = math.inf
    with pytest.raises(ValueError, match=r"identity bias 1: expected finite numbers, got inf at \[3, 2\]"):
        PackedField(dataclasses.replace(source, identity_bias=broken))
    with pytest.raises(ValueError, match="member_set"):
        PackedField(dataclasses.replace(source, member_set=source.member_set + 1))
    with pytest.raises(ValueError, match="blending"):
        PackedField(dataclasses.replace(source, blending="flame"))
    with pytest.raises(ValueError, match="3 coordinates, 3 outputs"):
        last = (source.deformation[-1][0][:, :2], None)
        PackedField(dataclasses.replace(source, deformation=[*source.deformation[:-1], last]))


FAR = [1e9, 1e14, 1e16, 1e19, 1e30, 3e38, -3e38]


@pytest.mark.parametrize("family", ["nphm", "mononphm"])
@pytest.mark.parametrize("far", FAR)
def test_far_away_there_is_the_right_number_or_a_name(family: str, far: float) -> None:
    """Squares of distances overflow, and a sum without members must not pass for a distance of 0."""
    source, biases, _ = random_head(1)
    if family == "mononphm":
        source = dataclasses.replace(source, blending="mononphm", neighbours=5, blend_std=2.0)
    field = PackedField(source)
    points = torch.zeros(70, 3)
    points[67, 1] = far
    axis = np.float32(sorted([0.0, far]))
    calls = {
        r"points\[67\]": [
            lambda: field.query(points, outputs=("sdf", "raw_sdf", "gradient")),
            lambda: field.query(points, biases, outputs=("sdf", "offsets", "jacobian", "gradient")),
        ],
        "x axis": [
            lambda: {"sdf": field.grid([axis, np.float32([0, 1]), np.float32([0, 1])])},
            lambda: {"sdf": field.grid([axis, np.float32([0, 1]), np.float32([0, 1])], biases)},
        ],
        r"targets\[67\]": [lambda: dict(enumerate(field.invert(points, biases)))],
    }
    if abs(far) > 1e15:
        for message, asked in calls.items():
            for call in asked:
                with pytest.raises(ValueError, match=message):
                    call()
        return
    for asked in calls.values():
        for call in asked:
            assert all(torch.isfinite(array).all() for array in call().values())
    if family == "mononphm":  # float32 cannot tell there which anchors are the nearest
        return
    expected = reference(doubled(source), points[[67]].double())
    assert torch.allclose(field.query(points)["sdf"][:, [67]].double(), expected, rtol=1e-4)


@pytest.mark.parametrize("size", [1e30, 3e38])
def test_weights_that_overflow_are_named(size: float) -> None:
    source, biases, _ = random_head(1)
    layers = [list(layer) for layer in source.deformation]
    layers[-1][0] = layers[-1][0] * size
    field = PackedField(dataclasses.replace(source, deformation=[tuple(layer) for layer in layers]))
    points = torch.zeros(3, 3)
    for call in (
        lambda: field.query(points, biases),
        lambda: field.grid([np.float32([0, 1])] * 3, biases),
        lambda: field.invert(points, biases),
    ):
        with pytest.raises(ValueError, match="overflow"):
            call()
