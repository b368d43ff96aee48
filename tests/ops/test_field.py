"""The compiled field against the dense torch formula, on random heads of random sizes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk.ops import set_threads, threads
from facetalk.ops._extension import load
from facetalk.ops.field import FieldSource, OffsetWeight, PackedField, cull_to_cut
from facetalk.ops.reference_field import field as reference
from facetalk.ops.reference_field import field_offsets as reference_offsets

SHORT = settings(max_examples=25, deadline=None)


def random_layers(
    rng: np.random.Generator, sets: int, coords: int, hidden: list[int], outputs: int, skip: int | None
) -> tuple[list, list[int]]:
    """Weights of a folded network; a layer `skip` also reads the coordinates."""
    layers, sizes = [], [*hidden, outputs]
    for i, size in enumerate(sizes):
        before = sizes[i - 1] if i else 0
        gain = 1.4 / math.sqrt(before + coords)
        take = lambda n: torch.from_numpy(rng.normal(0, gain, (sets, size, n)).astype(np.float32))  # noqa: E731, B023
        layers.append((take(before) if i else None, take(coords) * 3 if i in (0, skip) else None))
    return layers, sizes


@st.composite
def heads(
    draw: st.DrawFn, family: str | None = None
) -> tuple[FieldSource, list[torch.Tensor], np.random.Generator]:
    """A random head, the biases of a few frames, and a generator for points."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    family = family or draw(st.sampled_from(["nphm", "mononphm"]))
    coords = 3 if family == "nphm" else draw(st.integers(3, 6))
    anchors = draw(st.integers(1, 14))
    pairs = draw(st.integers(0, anchors // 2))
    members = anchors + 1
    widths = st.lists(st.integers(1, 37), min_size=1, max_size=4)
    hidden = draw(widths)
    identity, sizes = random_layers(
        rng, members - pairs, coords, hidden, 1, draw(st.integers(1, len(hidden)))
    )
    member = np.arange(members)
    bias = lambda rows, n: torch.from_numpy(rng.normal(0, 0.1, (rows, n)).astype(np.float32))  # noqa: E731
    moving = draw(widths)
    deformation, moves = random_layers(rng, 1, 3, moving, coords, draw(st.integers(1, len(moving))))
    deformation[-1] = (deformation[-1][0] * 0.1, deformation[-1][1])
    if deformation[-1][1] is not None:
        deformation[-1] = (deformation[-1][0], deformation[-1][1] * 0.03)
    source = FieldSource(
        identity=identity,
        identity_bias=[bias(members, n) for n in sizes],
        anchors=torch.from_numpy(rng.uniform(-0.5, 0.5, (anchors, 3)).astype(np.float32)),
        member_set=torch.from_numpy(np.where(member < 2 * pairs, member // 2, member - pairs)),
        mirror=torch.from_numpy(
            np.where((member < 2 * pairs) & (member % 2 == 1), -1.0, 1.0).astype(np.float32)
        ),
        deformation=deformation,
        blending=family,
        neighbours=draw(st.integers(1, anchors)),
        blend_std=draw(st.floats(1.0, 4.0)),
    )
    frames = draw(st.integers(1, 3))
    return source, [bias(frames, n) for n in moves], rng


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


def some_points(rng: np.random.Generator, n: int, columns: int = 3) -> torch.Tensor:
    return torch.from_numpy(rng.uniform(-0.8, 0.8, (n, columns)).astype(np.float32))


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
@given(heads(), st.integers(1, 4), st.sampled_from([2, 8, 16]), st.floats(0.0, 3.0))
def test_band_has_the_signs_and_the_values_of_the_grid(
    head, frame: int, spacing: int, lipschitz: float
) -> None:
    """With any margin: what it evaluates equals the grid, and cells with a change of sign are complete."""
    source, biases, rng = head
    one = [b[:1] for b in biases]
    packed = PackedField(source)
    axes = [np.linspace(-0.7, 0.7, n).astype(np.float32) for n in rng.integers(2, 24, 3)]
    dense = packed.grid(axes, one)[0].numpy()
    volume, count = packed.band(axes, one, spacing=spacing, lipschitz=lipschitz)
    band = volume.numpy()
    assert 0 < count <= dense.size and np.isfinite(band).all()
    inside = band < 0
    corner = np.zeros(tuple(n - 1 for n in band.shape), dtype=int)
    cells = [
        tuple(slice(o, o + n) for o, n in zip(c, corner.shape, strict=True)) for c in np.ndindex(2, 2, 2)
    ]
    for cell in cells:
        corner += inside[cell]
    mixed = (corner > 0) & (corner < 8)
    for cell in cells:
        assert np.array_equal(band[cell][mixed], dense[cell][mixed])


def test_band_follows_the_surface_where_the_margin_is_wrong() -> None:
    """A thin slanted rod that only one coarse sample sees, and no margin: only following it finds it."""
    size = 65
    axes = [np.linspace(-0.5, 0.5, size).astype(np.float32)] * 3
    # Two hidden units of opposite slope make an absolute value; |x - z / 3| + |y| less a radius is a rod.
    slant = 1 / 3
    hidden = torch.tensor([[[1.0, 0, -slant], [-1.0, 0, slant], [0, 1.0, 0], [0, -1.0, 0]]]).repeat(2, 1, 1)
    last = torch.ones(2, 1, 4)
    source = FieldSource(
        identity=[(None, hidden), (last, None)],
        identity_bias=[torch.zeros(2, 4), torch.full((2, 1), -0.06)],
        anchors=torch.tensor([[50.0, 0.0, 0.0]]),  # far away, so that the member without anchor decides alone
        member_set=torch.tensor([0, 1]),
        mirror=torch.ones(2),
    )
    packed = PackedField(source, cull=0.0)
    dense = packed.grid(axes)[0].numpy()
    band, count = packed.band(axes, spacing=16, lipschitz=0.0)
    coarse = dense[::16, ::16, ::16]
    assert (coarse < 0).sum() == 1 and (dense < 0).sum() > 4 * size
    assert np.array_equal(band.numpy() < 0, dense < 0)
    assert count < 0.5 * dense.size


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
            results.append([*parts.values(), packed.grid(axes, one), packed.band(axes, one)[0],
                            *packed.invert(points * 0.5, biases)])  # fmt: skip
    finally:
        set_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def random_head(seed: int) -> tuple[FieldSource, list[torch.Tensor], np.random.Generator]:
    """A fixed head of uneven sizes."""
    rng = np.random.default_rng(seed)
    identity, sizes = random_layers(rng, 7, 3, [13, 21, 30], 1, 1)
    deformation, moves = random_layers(rng, 1, 3, [17, 9, 40], 3, 2)
    bias = lambda rows, n: torch.from_numpy(rng.normal(0, 0.1, (rows, n)).astype(np.float32))  # noqa: E731
    source = FieldSource(
        identity=identity,
        identity_bias=[bias(9, n) for n in sizes],
        anchors=torch.from_numpy(rng.uniform(-0.5, 0.5, (8, 3)).astype(np.float32)),
        member_set=torch.tensor([0, 0, 1, 1, 2, 3, 4, 5, 6]),
        mirror=torch.tensor([1.0, -1, 1, -1, 1, 1, 1, 1, 1]),
        deformation=[(h, c) for h, c in deformation[:-1]] + [(deformation[-1][0] * 0.1, None)],
    )
    return source, [bias(2, n) for n in moves], rng


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
    with pytest.raises(ValueError, match="spacing"):
        packed.band([np.zeros(2)] * 3, [b[:1] for b in biases], spacing=3)
    with pytest.raises(ValueError, match="one frame"):
        packed.band([np.zeros(2)] * 3, biases)
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
