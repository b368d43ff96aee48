"""Both paths of the field's deformation on a GPU of compute capability 9.0. Skipped where there is none."""

from __future__ import annotations

import pytest
import torch
from field_host import random_head
from random_heads import some_points
from test_field_device import MONO, OFFICIAL, formula, on_gpu

from facetalk.ops._extension import load
from facetalk.ops.cuda.field import CudaField


def missing() -> str:
    """Why the path cannot be had here."""
    if not torch.cuda.is_available():
        return "torch sees no GPU"
    core = getattr(load(), "cuda_field", None)
    return "the core was built without CUDA" if core is None else core.wgmma_missing()


pytestmark = pytest.mark.skipif(missing() != "", reason=missing())

COLUMNS = dict(deformation=(40, 256, 144, 145, 64, 65), deformation_skip=4)
HEADS = {"official": OFFICIAL, "mono": MONO, "columns": COLUMNS}


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("head", HEADS)
def test_both_paths_err_at_most_twice_what_torch_errs(head: str, precision: str) -> None:
    source, biases, rng = random_head(30, **HEADS[head])
    points, frames = some_points(rng, 1003), on_gpu(biases)
    _, exact = formula(source, points, biases, torch.float64)
    _, other = formula(source, points, biases, getattr(torch, precision))
    made = {}
    for path in ("portable", "hopper"):
        field = CudaField(source, precision=precision, path=path)
        made[path] = field.query(points.cuda(), frames, outputs=("offsets",))["offsets"].cpu()
        assert (made[path] - exact).abs().max() <= 2 * (other - exact).abs().max(), path
    # They round alike and differ in the order of sums alone.
    near = (made["hopper"] - made["portable"]).abs().mean()
    assert near <= 0.5 * (made["portable"] - exact).abs().mean()


def test_same_bits_at_every_call_and_in_any_company() -> None:
    source, biases, rng = random_head(31, **OFFICIAL)
    points, frames = some_points(rng, 40_000).cuda(), on_gpu(biases)
    field = CudaField(source, path="hopper")
    first = field.query(points, frames, outputs=("offsets",))["offsets"]
    for _ in range(5):
        assert torch.equal(field.query(points, frames, outputs=("offsets",))["offsets"], first)
    order = torch.from_numpy(rng.permutation(40_000)).cuda()
    shuffled = field.query(points[order], frames, outputs=("offsets",))["offsets"]
    assert torch.equal(shuffled, first[:, order])
    few = field.query(points[:129], frames, outputs=("offsets",))["offsets"]
    assert torch.equal(few, first[:, :129])
