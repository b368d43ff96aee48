"""Short cuts of `Field.extract` against dense volumes: on the official formats and on the built-in head, with
codes that no bound or cache was made from.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch
from extraction import told
from golden import GOLDEN

import facetalk
from facetalk.errors import InputError
from facetalk.mesh import Mesh
from facetalk.metrics.surface import surface_distance, two_sided
from facetalk.nphm.canonical_mesh import canonical_mesh
from facetalk.nphm.field import Field
from facetalk.nphm.lattice import DEFAULT_BOUNDS
from facetalk.nphm.surface import slopes
from facetalk.nphm.surface.options import ExtractionOptions
from facetalk.nphm.surface.plan import Plan
from facetalk.ops.field.bounds import SlopeBounds

RESOLUTION = 48
MM = 250.0  # a head unit


def walk(expressions: torch.Tensor, frames: int, step: float, seed: int) -> torch.Tensor:
    """Codes of a moving face: a random walk around a code, as far apart as frames of speech."""
    rng = np.random.default_rng(seed)
    spread = float(expressions.std()) if len(expressions) > 1 else 1.0
    moves = rng.normal(0, step * spread, (frames, expressions.shape[1])).cumsum(axis=0)
    return expressions[:1] + torch.from_numpy(moves.astype(np.float32))


@pytest.fixture(scope="module")
def head() -> tuple[Field, torch.Tensor]:
    """The built-in head and a few faces, among them a wide open mouth and closed lids."""
    talk = facetalk.FaceTalk.from_pretrained("default")
    model = talk.head
    field = model.nphm.bind(torch.as_tensor(model.default_identity))
    rng = np.random.default_rng(3)
    codes = rng.uniform(0, 0.5, (3, model.expression_dim)) * (
        rng.uniform(size=(3, model.expression_dim)) < 0.2
    )
    codes[0, model.expression_names.index("jawOpen")] = 0.9
    for name in ("eyeBlink_L", "eyeBlink_R"):
        codes[1, model.expression_names.index(name)] = 1.0
    return field, torch.from_numpy(codes.astype(np.float32))


@pytest.fixture(scope="module")
def field(tiny) -> Field:
    return tiny.model.bind(tiny.lat_id)


def same(a: Mesh, b: Mesh) -> bool:
    return np.array_equal(a.vertices, b.vertices) and np.array_equal(a.faces, b.faces)


def crossing_corners(field: Field, code: torch.Tensor, resolution: int) -> int:
    """Samples that are corners of a cell which the surface crosses."""
    inside = field.grid(code[None], resolution)[0].numpy() < 0
    n = resolution - 1
    cells = np.zeros((n, n, n), dtype=int)
    corners = np.zeros(inside.shape, dtype=bool)
    parts = [tuple(slice(o, o + n) for o in c) for c in np.ndindex(2, 2, 2)]
    for part in parts:
        cells += inside[part]
    for part in parts:
        corners[part] |= (cells > 0) & (cells < 8)
    return int(corners.sum())


@pytest.mark.parametrize("seed", [1])
def test_no_tolerance_gives_the_dense_mesh(tiny, seed) -> None:
    """Cell for cell, on identities and expressions that are new to it; with and without every short cut."""
    rng = np.random.default_rng(seed)
    noise = torch.from_numpy(rng.normal(0, 0.3, tiny.lat_id.shape).astype(np.float32))
    field = tiny.model.bind(tiny.lat_id + noise * tiny.lat_id.std())
    codes = walk(tiny.lat_expr, 3, 0.1, seed)
    dense = field.extract(codes, RESOLUTION, exact=True)
    ways = [{"cache": False}]
    if not tiny.mono:
        ways.append({"cache": True})
    for way in ways:
        meshes, infos = told(field, codes, RESOLUTION, tolerance_mm=0.0, **way)
        assert all(len(mesh.faces) > 1000 for mesh in meshes)
        for mesh, expected, info in zip(meshes, dense, infos, strict=True):
            assert same(mesh, expected) or info.uncertified > 0
        assert sum(info.uncertified == 0 for info in infos) >= 2
        assert infos[0].method == ("cache" if way["cache"] else "band")


def test_bands_are_narrow(tiny, field) -> None:
    if tiny.mono:
        pytest.skip("its field jumps where a neighbour comes in, so its bounds are wide")
    corners = crossing_corners(field, tiny.lat_expr[0], 96)
    _, (info,) = told(field, tiny.lat_expr[:1], 96, tolerance_mm=0.0, cache=False)
    assert corners <= info.counts.evaluated < 4 * corners


def test_the_cache_asks_the_ensemble_for_nothing_but_the_surface(tiny, field) -> None:
    if tiny.mono:
        pytest.skip("a canonical field of more than space is not cached")
    corners = crossing_corners(field, tiny.lat_expr[0], 96)
    _, (info,) = told(field, tiny.lat_expr[:1], 96, tolerance_mm=0.0, cache=True)
    assert corners <= info.counts.evaluated < 1.1 * corners
    _, (quick,) = told(field, tiny.lat_expr[:1], 96, cache=True)
    assert quick.counts.evaluated < 0.05 * corners
    _, (direct,) = told(field, tiny.lat_expr[:1], 96, cache=True, coarse=False)
    assert corners <= direct.counts.deformed < 1.5 * corners


@pytest.mark.parametrize("tolerance", [0.05, 0.2])
def test_the_mesh_keeps_to_the_tolerance(tiny, tolerance) -> None:
    """On an identity and expressions that nothing was set by."""
    if tiny.mono:
        pytest.skip("a canonical field of more than space is not cached")
    rng = np.random.default_rng(9)
    noise = torch.from_numpy(rng.normal(0, 0.3, tiny.lat_id.shape).astype(np.float32))
    field = tiny.model.bind(tiny.lat_id + noise * tiny.lat_id.std())
    codes = walk(tiny.lat_expr[1:], 2, 0.3, 9)
    dense = field.extract(codes, 96, exact=True, units="head")
    quick, infos = told(field, codes, 96, units="head", cache=True, tolerance_mm=tolerance)
    for mesh, expected, info in zip(quick, dense, infos, strict=True):
        away = MM * two_sided((mesh.vertices, mesh.faces), (expected.vertices, expected.faces))
        assert np.quantile(away, 0.999) <= tolerance and away.max() <= 2 * tolerance
        assert 0.0 < info.cache_error_mm <= tolerance and info.tolerance_mm == tolerance


def test_the_built_in_head_keeps_to_the_tolerance(head) -> None:
    """Everywhere, sharp as its lips and lids are."""
    field, codes = head
    certified, infos = told(field, codes, 80, tolerance_mm=0.0, cache=False, units="head")
    assert all(info.uncertified == 0 for info in infos)
    quick, infos = told(field, codes, 80, cache=True, units="head")
    for mesh, expected, info in zip(quick, certified, infos, strict=True):
        away = MM * two_sided((mesh.vertices, mesh.faces), (expected.vertices, expected.faces))
        assert away.max() <= 0.05 and away.mean() < 0.01
        # By both short cuts: offsets of some bricks are interpolated, most corners come from the cache.
        assert 0 < info.counts.direct < info.counts.bricks
        assert info.counts.evaluated < len(mesh.vertices)
        # Between lips the deformation all but jumps: a few signs that were taken for certain are found wrong
        # there, mended and counted.
        assert info.uncertified < 0.005 * info.counts.evaluated


NASTY: dict[str, dict[str, float]] = {
    "blink": {"eyeBlink_L": 1.0, "eyeBlink_R": 1.0},
    "pressed lips": {"mouthPress_L": 1.0, "mouthPress_R": 1.0, "mouthRollLower": 1.0, "mouthRollUpper": 1.0},
    "wide jaw": {"jawOpen": 1.0, "mouthStretch_L": 1.0, "mouthStretch_R": 1.0, "eyeBlink_L": 0.95},
}


def nasty_codes() -> torch.Tensor:
    """Full blinks, closed lips and a wide jaw, from rest: where the deformation all but jumps."""
    model = facetalk.FaceTalk.from_pretrained("default").head
    codes = torch.zeros(len(NASTY), model.expression_dim)
    for code, weights in zip(codes, NASTY.values(), strict=True):
        for name, weight in weights.items():
            code[model.expression_names.index(name)] = weight
    return codes - torch.as_tensor(np.asarray(model.rest_expression, dtype=np.float32))


def test_the_built_in_head_is_certified(head) -> None:
    """To the last bit, and from a fraction of the samples: how steep lips and lids are says nothing of the
    rest.
    """
    field, codes = head
    codes = torch.cat([codes[:1], nasty_codes()])
    dense = field.extract(codes, 64, exact=True)
    meshes, infos = told(field, codes, 64, tolerance_mm=0.0, cache=False)
    for mesh, expected, info in zip(meshes, dense, infos, strict=True):
        assert same(mesh, expected) and info.uncertified == 0
        assert info.counts.evaluated < 0.5 * info.points


def test_stretches_hold_where_they_were_not_sampled(head) -> None:
    """In all of the box, far from the surface too, and they are no more than that there."""
    field, _ = head
    codes = nasty_codes()[2:]
    low, high = (np.asarray(c, dtype=np.float64) for c in DEFAULT_BOUNDS)
    kernels, biases = field.bound.kernels, field.bound.biases(codes)
    bounds, near = slopes.estimate_slopes(kernels, low, high)
    known = slopes.with_stretch(bounds, slopes.sample_stretches(kernels, biases, near, None), kernels)
    rng = np.random.default_rng(5)
    a = rng.uniform(low, high, (4000, 3)).astype(np.float32)
    step = rng.normal(size=a.shape)
    step = (0.01 * step / np.linalg.norm(step, axis=1, keepdims=True)).astype(np.float32)
    ends = [p + kernels.query(p, biases, outputs=("offsets",))["offsets"][0].numpy() for p in (a, a + step)]
    stretch = np.linalg.norm(ends[1] - ends[0], axis=1) / 0.01
    cell = ((a - np.array(known.stretches.origin)) / np.array(known.stretches.spacing)).astype(int)
    assert (cell >= 0).all() and (cell < known.stretches.values.shape[1:]).all()
    local = known.stretches.values[0][tuple(cell.T)]
    # A step's ends are rounded, and where nothing moves the bound is the identity's own 1.
    assert (stretch <= 1.0001 * local).mean() > 0.995 and stretch.max() <= known.stretch
    far = np.abs(kernels.query(a, biases)["sdf"][0].numpy()) > 0.1
    assert (stretch[far] <= 1.01 * local[far]).mean() > 0.995 and far.mean() > 0.3
    assert np.median(local) < 1.5 < known.stretch


def test_stretches_near_the_surface_alone(head) -> None:
    """What a cache guides knows them near the surface, without the networks, and elsewhere no less."""
    field, _ = head
    low, high = (np.asarray(c, dtype=np.float64) for c in DEFAULT_BOUNDS)
    kernels, biases = field.bound.kernels, field.bound.biases(nasty_codes()[2:])
    bounds, near = slopes.estimate_slopes(kernels, low, high)
    sampled = slopes.sample_stretches(kernels, biases, near, None)
    known = slopes.with_stretch(bounds, sampled, None)
    everywhere = slopes.with_stretch(bounds, sampled, kernels)
    assert known.stretches is not None and everywhere.stretches is not None
    values, others = known.stretches.values, everywhere.stretches.values
    assert np.isfinite(values).all() and values.shape == others.shape
    assert known.stretch == sampled.greatest <= everywhere.stretch and values.max() <= known.stretch
    cells = ((sampled.points - low) / np.array(known.stretches.spacing)).astype(int)
    at = tuple(np.clip(cells, 0, np.array(values.shape[1:]) - 1).T)
    assert (sampled.values <= values[(0, *at)] + 1e-5).all()
    # A wider reach knows no less, and is what is known where nearer nobody looked.
    assert (np.diff(values, axis=0) >= 0.0).all()
    looked = np.zeros(values.shape[1:])
    looked[at] = 1.0
    for level, reach in enumerate(slopes.REACHES):
        unseen = scipy.ndimage.maximum_filter(looked, size=2 * reach + 1, mode="nearest") == 0.0
        wider = values[level + 1] if level + 1 < len(values) else np.full_like(values[level], known.stretch)
        assert (values[level][unseen] == wider[unseen]).all() and (level > 0 or unseen.any())


def test_a_smooth_deformation_is_looked_at_once(head, tiny, field) -> None:
    """Around its steepest places; one that all but jumps is followed nearer and nearer."""
    low, high = (np.asarray(c, dtype=np.float64) for c in DEFAULT_BOUNDS)

    def looked_at(one: Any, codes: Any) -> int:
        kernels, biases = one.bound.kernels, one.bound.biases(codes)
        near = slopes.estimate_slopes(kernels, low, high)[1]
        return len(slopes.sample_stretches(kernels, biases, near, None).points) - len(
            near[:: max(1, len(near) // (2048 // len(biases[0])))]
        )

    assert looked_at(field, tiny.lat_expr[:1]) == 2048 < looked_at(head[0], nasty_codes()[2:3])


def test_slopes_hold_where_they_were_not_sampled(tiny, field) -> None:
    low, high = (np.asarray(c, dtype=np.float64) for c in DEFAULT_BOUNDS)
    bounds, near = slopes.estimate_slopes(field.bound.packed, low, high)
    assert bounds.slope is not None and len(near) > 100
    rng = np.random.default_rng(4)
    a = rng.uniform(low, high, (4000, 3)).astype(np.float32)
    name = "raw_sdf" if bounds.raw else "sdf"
    step = rng.normal(size=a.shape)
    step = (step / np.linalg.norm(step, axis=1, keepdims=True) * 0.01).astype(np.float32)
    ends = [
        field.bound.packed.query(p, outputs=(name,))[name][0].numpy() for p in (a - step / 2, a + step / 2)
    ]
    rise = np.abs(ends[1] - ends[0]) / 0.01
    cell = ((a - low) / np.array(bounds.slope.spacing)).astype(int)
    cell = np.clip(cell, 0, np.array(bounds.slope.values.shape[1:]) - 1)
    local = bounds.slope.values[0][tuple(cell.T)]
    assert (rise <= local).mean() > 0.999
    assert rise.max() <= bounds.everywhere


def test_the_choice_is_told(tiny, field) -> None:
    _, (info,) = told(field, None, 24)
    assert info.method == "band" and info.points == 24**3
    _, (info,) = told(field, tiny.lat_expr[0], 24, exact=True)
    assert info.method == "dense" and info.counts is None and info.uncertified == 0
    _, (info,) = told(field, tiny.lat_expr[0], 24)
    assert info.method == "band" and info.tolerance_mm == 0.0  # one small frame does not pay for a cache
    assert field.extract(tiny.lat_expr[:0], 24) == []


def test_a_cache_pays_the_sooner_the_more_a_deformation_stretches() -> None:
    """As many frames fewer as bands have more to ask; not on a device whose bands take no bounds."""
    bounds = ((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5))
    axes = [np.linspace(-0.5, 0.5, 129).astype(np.float32)] * 3

    def fewest(stretch: float, bounded: bool = True) -> int:
        kernels = SimpleNamespace(bounded_bands=bounded, bake_price=1.0)
        unknown: Any = SimpleNamespace(found=lambda box: None)
        bound: Any = SimpleNamespace(coords=3, kernels=kernels)
        for frames in range(1, 200):
            biases = [torch.zeros(frames, 1)]
            plan = Plan(bound, unknown, biases, axes, bounds, ExtractionOptions())
            plan.__dict__["_known_everywhere"] = SlopeBounds(everywhere=1.0, stretch=stretch)
            plan.__dict__["_stretches"] = SimpleNamespace(greatest=stretch)
            if plan._use_cache:
                return frames
        raise AssertionError("a cache never pays")

    assert 1 < fewest(4.0) < fewest(1.0) and abs(4 * fewest(4.0) - fewest(1.0)) <= 4
    assert fewest(4.0, bounded=False) == fewest(1.0)


def test_refuses_tolerances_that_are_none(tiny, field) -> None:
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="tolerance_mm"):
            field.extract(tiny.lat_expr[0], 24, tolerance_mm=wrong)


def test_a_mesh_of_a_budget_comes_from_the_field(tiny, field) -> None:
    mesh = canonical_mesh(field, 3000, resolution=48)
    assert 1500 < len(mesh.faces) <= 3000
    moved, faces = field.track(tiny.lat_expr[:1], vertices=mesh.vertices, faces=mesh.faces)
    assert moved.shape == (1, *mesh.vertices.shape) and np.array_equal(faces, mesh.faces)


def test_distance_of_surfaces() -> None:
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=np.float64)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    points = np.array([[0.5, 0.2, 0.3], [2.0, 0.5, 0.0], [-3.0, -4.0, 0.0], [0.7, 0.7, 0.0]])
    assert np.allclose(surface_distance(points, square, faces), [0.3, 1.0, 5.0, 0.0])


SMALL = """
import sys
from pathlib import Path
from safetensors.torch import load_file
from facetalk.nphm import load_checkpoint
from facetalk.nphm.surface.options import ExtractionOptions
golden = load_file(sys.argv[1] + "/golden.safetensors")
field = load_checkpoint(sys.argv[1]).bind(golden["lat_id"])
code = golden["lat_expr"][:1]
((mesh, info),) = field.iterate(code, 512, options=ExtractionOptions(tolerance_mm=0.0, cache=False))
most = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
print(most, len(mesh.faces))
"""


def test_512_cubed_fits_in_a_gigabyte() -> None:
    """The dense volume alone would be half of that, and its signs and states more."""
    command = [sys.executable, "-c", SMALL, str(GOLDEN / "nphm_tiny")]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kilobytes, faces = map(int, out.split())
    assert faces > 1_000_000 and kilobytes < 1_000_000  # with Python and torch


def resident() -> int:
    """Memory of this process, kilobytes."""
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])


def test_frames_leave_nothing_behind(tiny, field) -> None:
    codes = walk(tiny.lat_expr, 25, 0.05, 0)

    def frames(way: dict) -> None:
        for _ in field.iterate(codes, 24, options=ExtractionOptions(**way)):
            pass

    ways = [{"tolerance_mm": 0.0, "cache": False}] + ([] if tiny.mono else [{"cache": True}])
    for way in ways:
        frames(way)
    settled = resident()
    for _ in range(4):
        for way in ways:
            frames(way)
    # Of a hundred frames and more; one frame's bricks alone are 200 kilobytes.
    assert resident() - settled < 6000
