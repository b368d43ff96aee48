"""Guided frames on a GPU, up to their meshes. Skipped where there is none."""

from __future__ import annotations

import pytest
import torch
from test_field_band import crossed
from test_field_guided import AXES, CACHE_TOLERANCE, Case, make_case

from facetalk.ops.cuda import marching_cubes as cuda_cubes
from facetalk.ops.cuda.canonical_cache import CudaCanonicalCache
from facetalk.ops.cuda.field import CudaField
from facetalk.ops.field.surface import CanonicalCache
from facetalk.ops.field.surface import guided as guided_cpu

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")

OPTIONS = {"tolerance": 0.03, "cache_tolerance": CACHE_TOLERANCE}

POINTS = 20000


@pytest.fixture(scope="module")
def case() -> Case:
    return make_case(12)


def test_lookups_are_the_cpus(case: Case) -> None:
    points = 1.8 * torch.rand(POINTS, 3, generator=torch.Generator().manual_seed(1)) - 0.9
    found = [a.cpu() for a in CudaCanonicalCache(**case.arrays).query(points.cuda())]
    wanted = [torch.from_numpy(a) for a in CanonicalCache(**case.arrays).look_up(points.numpy())]
    # Where a division is rounded the other way, a point on the border of a brick is its neighbour's.
    same = found[1] == wanted[1]
    assert same.float().mean() > 0.999
    both = same & (found[3] == wanted[3])
    assert both.float().mean() > 0.999
    most = max(abs(float(case.arrays["data"].min())), float(case.arrays["data"].max()))
    assert ((found[0] - wanted[0])[both].abs() <= 1e-5 * most).all()


@pytest.mark.parametrize("exact", [False, True])
def test_frames_and_meshes(case: Case, exact: bool) -> None:
    field, cache = CudaField(case.source, precision="float32"), CudaCanonicalCache(**case.arrays)
    biases = [b.cuda() for b in case.biases]
    bricks, counts = field.guided(AXES, biases, cache, case.bounds, exact=exact, **OPTIONS)
    dense = bricks.dense()
    for t in range(2):
        one = [b[t : t + 1] for b in case.biases]
        volume, _ = guided_cpu(
            case.packed, AXES, one, CanonicalCache(**case.arrays), case.bounds, exact=exact, **OPTIONS
        )  # fmt: skip
        expected = volume.dense()
        corner = crossed(expected[None])[0]
        assert (dense[t].cpu() < 0).ne(expected < 0).sum() <= 10
        assert ((dense[t].cpu() - expected)[corner].abs() > 1e-4).sum() <= 20
    origin = [float(axis[0]) for axis in AXES]
    step = [float(axis[-1] - axis[0]) / (len(axis) - 1) for axis in AXES]
    mesh = cuda_cubes.extract_bricks(bricks.samples, bricks.table, bricks.shape, 0.0, origin, step)
    whole = cuda_cubes.extract(dense, 0.0, origin, step, False)
    assert mesh[3] == whole[3] and len(mesh[1]) > 1000
    assert torch.equal(mesh[0], whole[0]) and torch.equal(mesh[1], whole[1])
    if exact:
        here, grid = crossed(dense.cpu()), field.grid(AXES, biases).cpu()
        assert torch.equal(dense.cpu()[here], grid[here])
    again, once_more = field.guided(AXES, biases, cache, case.bounds, exact=exact, **OPTIONS)
    assert torch.equal(again.samples, bricks.samples) and torch.equal(again.table, bricks.table)
    assert once_more == counts
