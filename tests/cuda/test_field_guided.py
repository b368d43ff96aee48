"""The canonical cache and guided frames by the CUDA kernels, run on the host, against the CPU's."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from field_host import emulated_core, random_head
from safetensors.torch import load_file
from test_field_band import crossed

from facetalk.nphm import load_checkpoint
from facetalk.nphm.surface import slopes
from facetalk.nphm.surface.bake import _Bricks, _distances
from facetalk.ops.cuda.canonical_cache import CudaCanonicalCache
from facetalk.ops.cuda.field import CudaField
from facetalk.ops.field.bounds import SlopeBounds
from facetalk.ops.field.cpu import PackedField
from facetalk.ops.field.source import FieldSource, OffsetWeight
from facetalk.ops.field.surface import BrickVolume, CanonicalCache
from facetalk.ops.field.surface import guided as guided_cpu
from facetalk.ops.marching_cubes import marching_cubes

AXES = [np.linspace(-0.6, 0.6, n).astype(np.float32) for n in (24, 16, 21)]
CACHE_TOLERANCE = 0.004
GOLDEN = Path(__file__).parents[1] / "golden" / "nphm_tiny"


def cuda_field(source: FieldSource, **options: object) -> CudaField:
    return CudaField(source, precision="float32", device="cpu", _core=emulated_core().cuda_field, **options)


def cuda_cache(arrays: dict[str, Any]) -> CudaCanonicalCache:
    return CudaCanonicalCache(**arrays, device="cpu", _core=emulated_core().cuda_guided)


@dataclasses.dataclass
class Case:
    source: FieldSource
    packed: PackedField
    biases: list[torch.Tensor]
    bounds: SlopeBounds
    arrays: dict[str, Any]


def make_case(seed: int) -> Case:
    """A head, two expressions of it, and a cache with gaps, refined bricks and errors of all sizes."""
    source, biases, rng = random_head(seed, frames=2)
    packed = PackedField(source)
    bounds, near = slopes.estimate_slopes(packed, np.full(3, -0.8), np.full(3, 0.8))
    bounds = slopes.with_stretch(bounds, slopes.sample_stretches(packed, biases, near, None), packed)
    low, spacing, shape = np.full(3, -0.8), 0.04, np.full(3, 10)
    far, _ = _distances(packed, bounds, low, spacing, shape)
    table = np.full(shape, -1, dtype=np.int32)
    places = np.argwhere(rng.uniform(size=shape) > 0.1)
    rough = rng.uniform(size=len(places)) < 0.2
    table[tuple(places[~rough].T)] = np.arange((~rough).sum())
    table[tuple(places[rough].T)] = -2 - np.arange(rough.sum())
    steps = np.array(list(np.ndindex(2, 2, 2)))
    coarse = _Bricks(packed, low, spacing, places[~rough]).data
    fine = _Bricks(packed, low, spacing / 2, (2 * places[rough][:, None] + steps).reshape(-1, 3)).data
    children = (len(coarse) + np.arange(len(fine), dtype=np.int32)).reshape(-1, 8)
    data = np.concatenate([coarse, fine]).astype(np.float32)
    arrays = {
        "origin": low.tolist(), "spacing": spacing, "table": table, "children": children, "data": data,
        "error": rng.uniform(0, 1.3 * CACHE_TOLERANCE, len(data)).astype(np.float32),
        "far_origin": low.tolist(), "far_spacing": 2 * spacing, "far": far,
    }  # fmt: skip
    return Case(source, packed, biases, bounds, arrays)


@pytest.fixture(scope="module")
def case() -> Case:
    return make_case(12)


def test_lookups_are_the_cpus(case: Case) -> None:
    """Whether cached, distances and errors exactly; values to rounding, as compilers may fuse."""
    rng = np.random.default_rng(3)
    points = rng.uniform(-0.9, 0.9, (3000, 3)).astype(np.float32)
    # Corners of bricks and of cells, where a lookup changes from one to the next, and points that are none.
    points[:1000] = np.float32(-0.8) + np.float32(0.02) * rng.integers(-2, 84, (1000, 3)).astype(np.float32)
    points[1000:1003] = np.float32([[np.nan, 0, 0], [0, np.inf, 0], [0, 0, -np.inf]])
    values, covered, far, error = (a.numpy() for a in cuda_cache(case.arrays).query(torch.from_numpy(points)))
    wanted, there, distance, bound = CanonicalCache(**case.arrays).look_up(points)
    assert 0.3 < there.mean() < 0.9
    assert np.array_equal(covered, there) and np.array_equal(far, distance)
    assert np.array_equal(error, bound)
    assert np.abs(values - wanted).max() <= 4e-6 * np.abs(case.arrays["data"]).max()


def agree(dense: torch.Tensor, volume: BrickVolume) -> None:
    """One frame against the CPU's. A rounding may take a sample to the other side of a threshold, and so its
    value to another source: a few may.
    """
    expected = volume.dense()
    corner = crossed(expected[None])[0]
    assert corner.any()
    assert (dense < 0).ne(expected < 0).sum() <= 2
    assert ((dense - expected)[corner].abs() > 2e-5).sum() <= 3
    ends = [[float(axis[e]) for axis in AXES] for e in (0, -1)]
    faces = marching_cubes(dense.numpy(), bounds=ends)[1]
    assert abs(len(faces) - len(marching_cubes(expected.numpy(), bounds=ends)[1])) <= 8


OPTIONS = [
    {"tolerance": 0.0, "spacing": 8},
    {"tolerance": 0.03, "spacing": 8},
    {"tolerance": 0.04, "spacing": 16},
    {"tolerance": 0.04, "spacing": 4},
    {"tolerance": 0.03, "spacing": 8, "exact": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_frames_are_the_cpus(case: Case, options: dict[str, Any], weighted: bool) -> None:
    weight = OffsetWeight((0.0, 0.1, 0.2), (0.5, 0.6, 0.7)) if weighted else None
    options = {**options, "weight": weight, "cache_tolerance": CACHE_TOLERANCE}
    field = cuda_field(case.source)
    bricks, counts = field.guided(AXES, case.biases, cuda_cache(case.arrays), case.bounds, **options)
    dense = bricks.dense()
    assert len(counts) == 2 and bricks.evaluated == sum(frame.evaluated for frame in counts)
    for t, here in enumerate(counts):
        one = [b[t : t + 1] for b in case.biases]
        cache = CanonicalCache(**case.arrays)
        volume, mine = guided_cpu(case.packed, AXES, one, cache, case.bounds, **options)
        agree(dense[t], volume)
        assert (here.bricks, here.direct) == (mine.bricks, mine.direct)
        # The CPU also asks about samples beyond the lattice, where a brick reaches over its end.
        assert mine.deformed * 0.6 <= here.deformed <= mine.deformed + 2
        assert mine.evaluated * 0.6 <= here.evaluated <= mine.evaluated + 2
    if options.get("exact"):
        grid = field.grid(AXES, case.biases, weight=weight)
        corners = crossed(dense)
        assert torch.equal(dense[corners], grid[corners])


def test_the_golden_head_as_extraction_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its baked cache and its frames, recorded from the CPU's extraction, and both frames at once."""
    arrays: dict[str, Any] = {}
    asked: list[tuple[Any, ...]] = []

    class Recorded(CanonicalCache):
        def __init__(self, **given: Any) -> None:
            arrays.update(given)
            super().__init__(**given)

    def record(*args: Any, **options: Any) -> Any:
        found = guided_cpu(*args, **options)
        asked.append((args, options, *found))
        return found

    monkeypatch.setattr("facetalk.ops.field.cpu.CanonicalCache", Recorded)
    monkeypatch.setattr("facetalk.ops.field.cpu.guided", record)
    golden = load_file(GOLDEN / "golden.safetensors")
    head = load_checkpoint(GOLDEN, family="nphm").bind(golden["lat_id"])
    head.extract(golden["lat_expr"][:2], 44, cache=True, tolerance_mm=0.5)
    axes, options = asked[0][0][1], asked[0][1]
    biases = [torch.cat(layer) for layer in zip(*(call[0][2] for call in asked), strict=True)]
    bounds = asked[0][0][4]
    bricks, counts = cuda_field(head.source).guided(axes, biases, cuda_cache(arrays), bounds, **options)
    assert any(frame.direct < frame.bricks for frame in counts) and (bricks.table < 0).any()
    for t, (_, _, volume, mine) in enumerate(asked):
        agree(bricks.dense()[t], volume)
        assert (counts[t].bricks, counts[t].direct) == (mine.bricks, mine.direct)


def test_levels_are_all_of_use(case: Case) -> None:
    """The tolerances of the comparison above leave bricks to each lattice and to the network."""
    direct = []
    for tolerance in (0.0, 0.03, 0.04, 1.0):
        _, counts = cuda_field(case.source).guided(
            AXES, case.biases, cuda_cache(case.arrays), case.bounds, tolerance=tolerance,
            cache_tolerance=CACHE_TOLERANCE,
        )  # fmt: skip
        direct.append(sum(frame.direct for frame in counts) / sum(frame.bricks for frame in counts))
    assert direct[0] == 1.0 and direct[3] == 0.0
    assert 1.0 > direct[1] > direct[2] > 0.0


def test_neither_parts_nor_company_change_a_frame(case: Case) -> None:
    options = {"tolerance": 0.03, "cache_tolerance": CACHE_TOLERANCE}
    cache = cuda_cache(case.arrays)
    both, counts = cuda_field(case.source).guided(AXES, case.biases, cache, case.bounds, **options)
    parts = cuda_field(case.source, _most_points=300)
    small, same = parts.guided(AXES, case.biases, cache, case.bounds, **options)
    assert torch.equal(both.table, small.table) and torch.equal(both.samples, small.samples)
    assert counts == same and counts[0] != counts[1]
    last = [b[1:] for b in case.biases]
    second, alone = cuda_field(case.source).guided(AXES, last, cache, case.bounds, **options)
    assert torch.equal(second.dense()[0], both.dense()[1]) and alone == counts[1:]
    none, counts = cuda_field(case.source).guided(AXES, [b[:0] for b in case.biases], cache, case.bounds)
    assert none.table.shape == (0, 3, 2, 3) and counts == []


def test_a_wrong_cache_is_found_out(case: Case) -> None:
    """Values, errors and distances that lie: what an evaluated sample contradicts is evaluated too."""
    rng = np.random.default_rng(0)
    data = case.arrays["data"] + rng.normal(0, 0.05, case.arrays["data"].shape).astype(np.float32)
    lies = {
        **case.arrays, "data": data, "error": np.zeros(len(data), np.float32),
        "far": (100.0 * case.arrays["far"]).astype(np.float32),
    }  # fmt: skip
    field = cuda_field(case.source)
    bricks, counts = field.guided(AXES, case.biases, cuda_cache(lies), case.bounds, exact=True)
    dense, grid = bricks.dense(), field.grid(AXES, case.biases)
    here = crossed(dense)
    assert here.any() and torch.equal(dense[here], grid[here])
    assert all(frame.uncertified > 0 for frame in counts)
    assert len(bricks.samples) > sum(
        frame.bricks for frame in counts
    )  # some that were left out had to be stored
    assert sorted(bricks.table[bricks.table >= 0].tolist()) == list(range(len(bricks.samples)))


def test_wrong_arguments(case: Case) -> None:
    field, cache = cuda_field(case.source), cuda_cache(case.arrays)
    with pytest.raises(ValueError, match="spacing: expected a power of two"):
        field.guided(AXES, case.biases, cache, case.bounds, spacing=12)
    with pytest.raises(ValueError, match="two samples"):
        field.guided([AXES[0][:1], *AXES[1:]], case.biases, cache, case.bounds)
    with pytest.raises(ValueError, match="biases: expected frames"):
        field.guided(AXES, None, cache, case.bounds)  # type: ignore[arg-type]
    wide = random_head(1, family="mononphm", coords=5)
    with pytest.raises(ValueError, match="5 coordinates"):
        cuda_field(wide[0]).guided(AXES, wide[1], cache, case.bounds)
    with pytest.raises(TypeError, match="points: expected float32"):
        cache.query(torch.zeros(2, 3, dtype=torch.float64))
    circle = np.full((1, 8), -2, np.int32)
    for change, kind in (
        ({"table": np.full((1, 1, 1), 10**6, np.int32)}, ValueError),
        ({"table": np.full((1, 1, 1), -2, np.int32), "children": circle}, ValueError),
        ({"error": np.zeros(2, np.float32)}, ValueError),
        ({"spacing": 0.0}, ValueError),
        ({"data": case.arrays["data"].astype(np.float64)}, TypeError),
    ):
        with pytest.raises(kind):
            cuda_cache({**case.arrays, **change})
