"""Finding surfaces without evaluating volumes, against dense volumes, on random heads."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_heads import heads, random_head

from facetalk.nphm.surface import slopes
from facetalk.nphm.surface.tricubic import interpolate
from facetalk.ops import set_threads, threads
from facetalk.ops.field.bounds import LocalBounds, SlopeBounds
from facetalk.ops.field.cpu import PackedField
from facetalk.ops.field.kernels import constants
from facetalk.ops.field.source import FieldSource
from facetalk.ops.field.surface import CanonicalCache, band, guided
from facetalk.ops.marching_cubes import marching_cubes

SHORT = settings(max_examples=25, deadline=None)
CELLS, NODES = constants().cache_cells, constants().cache_nodes


def lattice(rng: np.random.Generator, low: int = 2, high: int = 24) -> list[np.ndarray]:
    return [np.linspace(-0.7, 0.7, n).astype(np.float32) for n in rng.integers(low, high, 3)]


def crossing_cells(volume: np.ndarray) -> np.ndarray:
    """Cells with corners of both signs."""
    inside = volume < 0
    corners = np.zeros(tuple(n - 1 for n in volume.shape), dtype=int)
    for c in np.ndindex(2, 2, 2):
        corners += inside[tuple(slice(o, o + n) for o, n in zip(c, corners.shape, strict=True))]
    return (corners > 0) & (corners < 8)


def same_surface(volume, axes: list[np.ndarray], dense: np.ndarray) -> None:
    """The mesh of the bricks is that of the dense volume, to the last bit."""
    ends = [[float(a[0]) for a in axes], [float(a[-1]) for a in axes]]
    vertices, faces = volume.mesh(ends)
    expected, triangles = marching_cubes(dense, bounds=ends)
    assert np.array_equal(vertices, expected) and np.array_equal(faces, triangles)


def steep_bounds(source: FieldSource) -> SlopeBounds:
    """Bounds far above anything a random head of these sizes does, so that nothing is left to luck."""
    return SlopeBounds(everywhere=200.0, stretch=20.0)


def estimated(packed: PackedField, biases: list[torch.Tensor]) -> tuple[SlopeBounds, torch.Tensor]:
    bounds, near = slopes.estimate_slopes(packed, np.full(3, -0.8), np.full(3, 0.8))
    return slopes.with_stretch(bounds, slopes.sample_stretches(packed, biases, near, None), packed), near


@SHORT
@given(heads(), st.sampled_from([8, 16, 64]), st.floats(0.05, 50.0))
def test_a_band_is_complete_where_it_changes_sign(head, spacing: int, slope: float) -> None:
    """With any bound: cells with a change of sign hold the grid's values, and most meshes are the grid's."""
    source, biases, rng = head
    one = [b[:1] for b in biases]
    packed = PackedField(source)
    axes = lattice(rng)
    dense = packed.grid(axes, one)[0].numpy()
    volume, counts = band(packed, axes, one, SlopeBounds(everywhere=slope), spacing=spacing)
    found = volume.dense().numpy()
    assert counts.evaluated > 0 and np.isfinite(found).all()
    mixed = crossing_cells(found)
    for c in np.ndindex(2, 2, 2):
        cell = tuple(slice(o, o + n) for o, n in zip(c, mixed.shape, strict=True))
        assert np.array_equal(found[cell][mixed], dense[cell][mixed])


@SHORT
@given(heads())
def test_a_band_with_true_bounds_is_the_dense_surface(head) -> None:
    source, biases, rng = head
    one = [b[:1] for b in biases]
    packed = PackedField(source)
    axes = lattice(rng, 9, 33)
    volume, _ = band(packed, axes, one, steep_bounds(source), spacing=8)
    same_surface(volume, axes, packed.grid(axes, one)[0].numpy())


def rod(slant: float) -> FieldSource:
    """|x - slant z| + |y| less a radius: a rod.

    Its deformation takes points beyond x = t back by 3 (x - t), where -t is the one bias of a hidden unit, so
    that the rod appears once more, thinner, at x = 1.5 t.
    """
    # Two hidden units of opposite slope make an absolute value.
    hidden = torch.tensor([[[1.0, 0, -slant], [-1.0, 0, slant], [0, 1.0, 0], [0, -1.0, 0]]]).repeat(2, 1, 1)
    return FieldSource(
        identity=[(None, hidden), (torch.ones(2, 1, 4), None)],
        identity_bias=[torch.zeros(2, 4), torch.full((2, 1), -0.06)],
        anchors=torch.tensor([[50.0, 0.0, 0.0]]),  # far away, so that the member without anchor decides alone
        member_set=torch.tensor([0, 1]),
        mirror=torch.ones(2),
        deformation=[(None, torch.tensor([[[1.0, 0, 0]]])), (torch.tensor([[[-3.0], [0], [0]]]), None)],
    )


def folded_at(t: float) -> list[torch.Tensor]:
    return [torch.tensor([[-t]]), torch.zeros(1, 3)]


def test_a_band_follows_the_surface_where_the_bound_is_wrong() -> None:
    """A thin slanted rod that only one coarse sample sees, and no margin: only following it finds it."""
    size = 65
    axes = [np.linspace(-0.5, 0.5, size).astype(np.float32)] * 3
    packed = PackedField(rod(slant=1 / 3), cull=0.0)
    dense = packed.grid(axes)[0].numpy()
    assert (dense[::16, ::16, ::16] < 0).sum() == 1 and (dense < 0).sum() > 4 * size
    # Three times too small: the check against neighbours finds out, and the frame is done again.
    volume, counts = band(packed, axes, None, SlopeBounds(everywhere=0.5, raw=True), spacing=16)
    assert np.array_equal(volume.dense().numpy() < 0, dense < 0)
    assert counts.uncertified == 0 and counts.evaluated < 0.2 * dense.size
    # A bound that means nothing is raised to what the evaluated neighbours show.
    volume, counts = band(packed, axes, None, SlopeBounds(everywhere=1e-9, raw=True), spacing=16)
    assert counts.steepest <= 1 and np.array_equal(volume.dense().numpy() < 0, dense < 0)


def test_a_bound_that_just_fails_opens_again_what_it_left_out() -> None:
    """Where no sign was wrong, nothing is evaluated twice, and what is left out is what a bound that holds
    leaves out.
    """
    source = rod(slant=0.0)
    assert source.identity[0][1] is not None
    source.identity[0][1][:, 2:] = 0.0
    source.identity_bias[1][:] = -0.19  # a plate: everywhere as steep as along x
    packed = PackedField(source, cull=0.0)
    axes = [np.linspace(-0.5, 0.5, size).astype(np.float32) for size in (77, 40, 33)]
    dense = packed.grid(axes)[0].numpy()
    for everywhere in (1.0 - 1e-4, 1.0 - 1e-3):
        volume, counts = band(packed, axes, None, SlopeBounds(everywhere=everywhere, raw=True), spacing=16)
        held = band(packed, axes, None, SlopeBounds(everywhere=1.05 + 1e-6, raw=True), spacing=16)[1]
        assert np.array_equal(volume.dense().numpy() < 0, dense < 0)
        assert 0.9 < counts.steepest < 1.0 and counts.uncertified == 0
        assert counts.evaluated == held.evaluated, (counts, held)


def random_cache(rng: np.random.Generator) -> tuple[CanonicalCache, np.ndarray, np.ndarray]:
    """Four coarse bricks in a row, the third refined (with one of its eight empty), the fourth empty."""
    data = rng.normal(size=(9, NODES, NODES, NODES)).astype(np.float32)
    children = np.array([[2, 3, 4, -1, 5, 6, 7, 8]], dtype=np.int32)
    cache = CanonicalCache(
        origin=(0.0, 0.0, 0.0), spacing=0.25, table=np.array([0, 1, -2, -1], dtype=np.int32).reshape(4, 1, 1),
        children=children, data=data, error=np.arange(9, dtype=np.float32), far_origin=(0, 0, 0),
        far_spacing=1.0, far=np.array([1.0, -2.0], dtype=np.float32).reshape(2, 1, 1),
    )  # fmt: skip
    return cache, data, children


@SHORT
@given(st.integers(0, 2**16))
def test_cache_lookup(seed: int) -> None:
    """Against the plain formula in double precision; float32 weights of cubics err by a few 1e-6."""
    rng = np.random.default_rng(seed)
    cache, data, children = random_cache(rng)
    points = rng.uniform((-0.2, -0.2, -0.2), (4.2, 1.2, 1.2), (200, 3)).astype(np.float32)
    values, covered, far, error = cache.look_up(points)
    for p, value, there, distance, bound in zip(points, values, covered, far, error, strict=True):
        inside = (p >= 0).all() and (p < (4, 1, 1)).all()
        cell = int(p[0]) if inside else 3
        unit = (p - (cell, 0, 0)).astype(np.float64) * CELLS
        brick = cell
        if cell == 2:
            upper = unit >= CELLS / 2
            brick = int(children[0][int(upper @ [4, 2, 1])])
            unit = 2 * unit - CELLS * upper
        known = inside and cell < 3 and brick >= 0
        assert there == known
        near = (p >= 0).all() and (p < (2, 1, 1)).all()
        assert distance == ((1.0, -2.0)[int(p[0])] if near else 0.0)
        if known:
            assert abs(value - interpolate(data, np.array([brick]), unit[None])[0][0]) < 2e-5
            assert bound == brick


def test_cache_refuses_what_would_read_elsewhere() -> None:
    rng = np.random.default_rng(0)
    good = {
        "origin": (0, 0, 0), "spacing": 1.0, "table": np.zeros((1, 1, 1), np.int32),
        "children": np.zeros((0, 8), np.int32), "data": rng.normal(size=(1, 7, 7, 7)).astype(np.float32),
        "error": np.zeros(1, np.float32), "far_origin": (0, 0, 0), "far_spacing": 1.0,
        "far": np.zeros((1, 1, 1), np.float32),
    }  # fmt: skip
    CanonicalCache(**good)
    circle = np.full((1, 8), -2, np.int32)
    for change in (
        {"table": np.ones((1, 1, 1), np.int32)},
        {"table": np.full((1, 1, 1), -2, np.int32)},
        {"table": np.full((1, 1, 1), -2, np.int32), "children": circle},
        {"error": np.zeros(2, np.float32)},
        {"spacing": 0.0},
    ):
        with pytest.raises(ValueError):
            CanonicalCache(**{**good, **change})
    with pytest.raises(TypeError):
        CanonicalCache(**{**good, "data": good["data"].astype(np.float64)})


def test_threads_do_not_change_a_surface() -> None:
    source, biases, _ = random_head(7)
    packed = PackedField(source)
    one = [b[:1] for b in biases]
    bounds, _ = estimated(packed, one)
    axes = [np.linspace(-0.65, 0.65, 40).astype(np.float32)] * 3
    before, results = threads(), []
    try:
        for count in (1, 2, 5):
            set_threads(count)
            results.append(band(packed, axes, one, bounds, spacing=16)[0].mesh())
    finally:
        set_threads(before)
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_refuses_what_it_cannot_do() -> None:
    source, biases, rng = random_head(7)
    packed, bounds = PackedField(source), SlopeBounds(everywhere=9.0)
    cache, _, _ = random_cache(rng)
    axes = [np.linspace(-0.5, 0.5, 9).astype(np.float32)] * 3
    one = [b[:1] for b in biases]
    with pytest.raises(ValueError, match="spacing"):
        band(packed, axes, one, bounds, spacing=12)
    with pytest.raises(ValueError, match="two samples"):
        band(packed, [axes[0], axes[1], axes[2][:1]], one, bounds)
    three = [b[:1].repeat(3, 1) for b in biases]
    with pytest.raises(ValueError, match="one frame"):
        band(packed, axes, three, bounds)
    with pytest.raises(ValueError, match="one frame"):
        guided(packed, axes, three, cache, bounds)
    with pytest.raises(ValueError, match="above 0"):
        band(packed, axes, one, SlopeBounds(everywhere=0.0))
    flat = LocalBounds((0, 0, 0), (1, 1, 1), (1.0,), np.zeros((1, 2, 2, 2), np.float32))
    with pytest.raises(ValueError, match="above 0"):
        band(packed, axes, one, SlopeBounds(everywhere=1.0, slope=flat))
    with pytest.raises(ValueError, match="levels"):
        bounds = SlopeBounds(everywhere=1.0, slope=dataclasses.replace(flat, reach=(1.0, 2.0)))
        band(packed, axes, one, bounds)
    box = ((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="bounds: expected those"):
        packed.band_meshes(axes, box, one, None)
    with pytest.raises(TypeError, match="cache: expected one in the CPU's memory"):
        packed.guided_meshes(axes, box, one, None, bounds)
