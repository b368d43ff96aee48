"""The field's kernel for compute capability 9.0, run on the host: products, their ring, their plan."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from field_host import emulated_core, random_head
from random_heads import some_points
from test_field import SHARED, cuda_field, in_torch, run

from facetalk.ops.cuda.field import CudaField
from facetalk.ops.field.source import OffsetWeight

# Widths of deformations: one pass and two, every number of columns, inputs that are no multiple of 64, layers
# that grow and shrink, coordinates read again in either pass and in the last layer, no layer in the middle.
WIDTHS = {
    "official": dict(deformation=(512, 512, 277, 512, 512, 512), deformation_skip=3),
    "mono": dict(deformation=(400, 400), deformation_skip=1, coords=5, family="mononphm"),
    "columns": dict(deformation=(40, 256, 144, 145, 64, 65), deformation_skip=4),
    "odd": dict(deformation=(37, 321, 5, 70), deformation_skip=4),
    "short": dict(deformation=(512,), deformation_skip=None),
}


def small_head(seed: int, **options: object):
    return random_head(seed, **(dict(anchors=2, pairs=1, identity=(8,), identity_skip=None) | options))


def deform(field, points, biases, **options: object) -> torch.Tensor:
    return run(field.query, points, biases, outputs=("offsets",), **options)["offsets"]


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("widths", WIDTHS)
def test_errs_at_most_twice_what_torch_errs(widths: str, precision: str) -> None:
    source, biases, rng = small_head(4, **WIDTHS[widths])
    points = some_points(rng, 70)
    weight = OffsetWeight((0.0, 0.1, 0.2), (0.3, 0.4, 0.5), 1.2, -0.1)
    offsets = deform(cuda_field(source, precision, path="hopper"), points, biases, weight=weight)
    _, exact = in_torch(source, points, biases, torch.float64, weight)
    _, other = in_torch(source, points, biases, getattr(torch, precision), weight)
    assert (offsets - exact).abs().max() <= 2 * (other - exact).abs().max()


@pytest.mark.parametrize("seed", range(3))
def test_a_point_does_not_depend_on_its_company(seed: int) -> None:
    """Of several tiles and expressions, the last tile with 44 points; whichever warp runs first."""
    source, biases, rng = small_head(5, deformation=(70, 300, 40), deformation_skip=2, frames=3)
    points = some_points(rng, 300)
    core = emulated_core()
    core.seed(1)
    field = cuda_field(source, "float16", path="hopper")
    whole = deform(field, points, biases)
    assert whole.isfinite().all()
    core.seed(10 + seed)
    assert torch.equal(deform(field, points, biases), whole)
    order = torch.from_numpy(rng.permutation(300))
    assert torch.equal(deform(field, points[order], biases), whole[:, order])
    assert torch.equal(deform(field, points[:1], biases), whole[:, :1])
    last = [bias[2:] for bias in biases]
    assert torch.equal(deform(field, points[64:193], last), whole[2:, 64:193])
    core.seed(1)


def test_only_the_deformation_in_16_bit_takes_the_path() -> None:
    source, biases, rng = small_head(6, deformation=(300, 300), identity=(24, 24))
    points = some_points(rng, 40)
    hopper, portable = (cuda_field(source, "float16", path=path) for path in ("hopper", "portable"))
    plans = [field._runner._kernel("deformation", False)[1] for field in (hopper, portable)]
    assert plans[0].kind != plans[1].kind and plans[0].points == 128
    plans = [field._runner._kernel("identity", False)[1] for field in (hopper, portable)]
    assert plans[0].kind == plans[1].kind
    for names in (("gradient",), ("jacobian",)):  # float32
        results = [run(field.query, points, biases, outputs=names)[names[0]] for field in (hopper, portable)]
        assert torch.equal(*results)
    sdf, _ = in_torch(source, points, biases, torch.float64)
    error = (run(hopper.query, points, biases)["sdf"] - sdf).abs().max()
    assert error <= 1e-2 * sdf.abs().max()


@pytest.mark.parametrize(("width", "stages"), [(512, 3), (400, 3), (256, 5), (64, 6)])
def test_the_ring_takes_what_shared_memory_is_left(width: int, stages: int) -> None:
    source, _, _ = small_head(7, deformation=(width, width, width))
    field = cuda_field(source, "bfloat16", path="hopper", _shared_limit=SHARED["sm_90"])
    plan = field._runner._kernel("deformation", False)[1]
    assert plan.stages == stages
    assert plan.shared_bytes <= SHARED["sm_90"]


class Elsewhere:
    """The core on a machine without the instructions."""

    def __init__(self, core: object) -> None:
        self._core = core

    def __getattr__(self, name: str) -> object:
        return getattr(self._core, name)

    def wgmma_missing(self) -> str:
        return "the device has compute capability 8.0, it needs 9.0"


def test_auto_is_the_path_for_the_device_where_it_can_be_had() -> None:
    source, _, _ = small_head(8)
    core = emulated_core().cuda_field

    def path(precision: str, head: object = source, core: object = core, **options: object) -> str:
        return CudaField(head, precision=precision, path="auto", device="cpu", _core=core, **options).path

    assert path("float16") == path("bfloat16") == "hopper"
    assert path("float32") == path("float16", core=Elsewhere(core)) == "portable"
    assert path("float16", dataclasses.replace(source, deformation=None)) == "portable"
    wide, _, _ = small_head(8, deformation=(512, 512))
    assert path("float16", wide, _shared_limit=SHARED["sm_86"]) == "portable"  # two stages do not fit there
    with pytest.raises(ValueError, match="at most 512 hidden units"):
        path("float16", small_head(8, deformation=(520, 8))[0])


def test_paths_that_cannot_be_had_are_named() -> None:
    source, _, _ = small_head(8)
    with pytest.raises(ValueError, match="path: expected auto, portable or hopper, got 'wgmma'"):
        cuda_field(source, "float16", path="wgmma")
    with pytest.raises(ValueError, match="path: expected portable in float32"):
        cuda_field(source, "float32", path="hopper")
    with pytest.raises(ValueError, match="path: expected portable without a deformation"):
        cuda_field(dataclasses.replace(source, deformation=None), "float16", path="hopper")
    with pytest.raises(ValueError, match="at most 512 hidden units"):
        wide, _, _ = small_head(8, deformation=(520, 8))
        cuda_field(wide, "float16", path="hopper")
    core = emulated_core().cuda_field
    assert core.wgmma_missing() == ""
    with pytest.raises(ValueError, match=r"got 'hopper', but the device has compute capability 8\.0"):
        CudaField(source, precision="float16", path="hopper", device="cpu", _core=Elsewhere(core))
