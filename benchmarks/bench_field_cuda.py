"""The field on the GPU beside the dense torch formula: points per second, and the part of a product's rate.

    python -m pytest benchmarks/bench_field_cuda.py -s

The first two tables take a random head of the official size, anchors over an ellipsoid of a head's size; the
others heads that move as faces do, the built-in one and, where FACETALK_GOLDEN is set, the official weights:
what they cost hangs on how much surface there is. Five tables:

kernels     points near the surface through the deformation alone and the ensemble alone, in each precision.
            Operations are those of the folded networks at the points and members that are computed (softplus,
            blending and routing are in the time, not in the count), beside torch's product of two matrices.
            "ours, hopper" is the deformation by warpgroup products, where they can be had; the tables below
            name this path in their rows.
formula     the dense formula in torch, float32 and float16, plain and compiled, measured on a slab of
            SLAB points of the lattice; frames per second of the whole lattice are *extrapolated* from it.
bricks      a lattice of 256 samples along each axis by bricks around the surface, 1 and 32 frames, until the
            bricks are there (what the host waits for between the rounds of the search is in the time);
meshes      the same and marching cubes over the bricks, until vertices and faces are in device memory;
surfaces    from expression codes to such meshes by `Field.surfaces`, without and with the identity cached.
            `first_s` is the first call, which bakes; rows without a cache are the peer.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import pytest
import torch
from _gpu import Gpu
from bench_extract import built_in, official
from bench_field import Case
from torch import Tensor

from facetalk.bench import macs
from facetalk.errors import InputError
from facetalk.nphm.field import Field
from facetalk.nphm.lattice import DEFAULT_BOUNDS, lattice_axes
from facetalk.nphm.surface.options import ExtractionOptions
from facetalk.ops.cuda.field import CudaField
from facetalk.ops.cuda.marching_cubes import extract_bricks
from facetalk.ops.field.source import DEFAULT_CULL, HALF_CULL, FieldSource, LayerWeights, cull_to_cut
from facetalk.ops.reference.field import field as formula

DEVICE = "cuda"
POINTS, SLAB, RESOLUTION = 1 << 18, 1 << 16, 256
PRECISIONS = ("float16", "bfloat16", "float32")
PATHS = ("hopper", "portable")
WAYS = {
    "bands": ExtractionOptions(cache=False),
    "certified": ExtractionOptions(tolerance_mm=0.0, cache=True),
    "cache": ExtractionOptions(cache=True, coarse=False),
    "coarse": ExtractionOptions(cache=True),
}


class Head:
    """The head, its frames, and points near its surface, on the device."""

    def __init__(self, name: str = "official", frames: int = 32) -> None:
        case = Case(name)
        self.source = case.field.source
        generator = torch.Generator().manual_seed(0)
        codes = torch.randn(frames, case.expression.shape[1], generator=generator) * 0.1
        self.biases: list[Tensor] = [b.to(DEVICE) for b in case.field.bound.biases(codes)]
        axes = torch.tensor([0.35, 0.5, 0.45])
        direction = torch.nn.functional.normalize(torch.randn(POINTS, 3, generator=generator), dim=1)
        distance = 1.0 + 0.02 * torch.randn(POINTS, 1, generator=generator)
        self.points = (direction * axes * distance).to(DEVICE).contiguous()

    def frames(self, count: int) -> list[Tensor]:
        return [b[:count] for b in self.biases]

    def pairs(self, y: Tensor, precision: str) -> int:
        """How many (point, member) pairs the cull rule of a precision keeps at canonical points."""
        anchors = self.source.anchors.to(y)
        exponent = (torch.cdist(y[:, :3], anchors) + 1e-5) ** 2
        limit = exponent.amin(1) + cull_to_cut(DEFAULT_CULL if precision == "float32" else HALF_CULL) * 0.01
        kept = (exponent <= limit[:, None]).sum() + (limit >= 0.2).sum()
        return int(kept)


@pytest.fixture(scope="module")
def head() -> Head:
    Gpu.or_skip()
    return Head()


def time_deformation(gpu: Gpu, head: Head, field: CudaField, peer: str) -> Tensor:
    """Report the deformation of the head's points; returns them where they then are."""
    frames = field._runner.pack_frames(head.frames(1))
    assert head.source.deformation is not None

    def deform() -> Tensor:
        return field._runner.deform(head.points[None], None, frames, None, {}, derive=False)[0]

    timing = gpu.time(deform)
    case, rate = {"points": POINTS, "precision": field.precision}, getattr(torch, field.precision)
    work = 2.0 * POINTS * macs(head.source.deformation)
    extra = {"points_per_s": POINTS / (1e-3 * timing.median_ms)}
    gpu.report("field deformation", case, peer, timing, flops=work, dtype=rate, extra=extra)
    return deform()


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_hopper(head: Head, precision: str) -> None:
    gpu = Gpu.or_skip()
    time_deformation(gpu, head, bound(head.source, precision, "hopper"), "ours, hopper")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_kernels(head: Head, precision: str) -> None:
    gpu = Gpu.or_skip()
    field = CudaField(head.source, precision=precision, device=DEVICE)
    y, sdf = time_deformation(gpu, head, field, "ours"), torch.empty(POINTS, device=DEVICE)
    runner, rate = field._runner, getattr(torch, precision)
    case = {"points": POINTS, "precision": precision}
    timing = gpu.time(lambda: runner.blend(y, {"sdf": sdf}, None))
    pairs = head.pairs(y, precision)
    extra = {"points_per_s": POINTS / (1e-3 * timing.median_ms), "members_per_point": pairs / POINTS}
    work = 2.0 * pairs * macs(head.source.identity)
    gpu.report("field ensemble", case, "ours", timing, flops=work, dtype=rate, extra=extra)


def moved(source: FieldSource, dtype: torch.dtype) -> FieldSource:
    """The head on the device in a dtype, for the formula."""

    def part(layers: Sequence[LayerWeights]) -> list[LayerWeights]:
        return [(None if h is None else h.to(DEVICE, dtype), None if c is None else c.to(DEVICE, dtype))
                for h, c in layers]  # fmt: skip

    assert source.deformation is not None
    return dataclasses.replace(
        source,
        identity=part(source.identity),
        identity_bias=[b.to(DEVICE, dtype) for b in source.identity_bias],
        anchors=source.anchors.to(DEVICE, dtype),
        mirror=source.mirror.to(DEVICE, dtype),
        deformation=part(source.deformation),
    )


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_formula(head: Head, dtype: torch.dtype, compiled: bool) -> None:
    gpu = Gpu.or_skip()
    if not gpu.peers:
        pytest.skip("peers are left out")
    source, points = moved(head.source, dtype), head.points[:SLAB].to(dtype)
    frames = [b.to(dtype) for b in head.frames(1)]
    call = torch.compile(formula) if compiled else formula
    with torch.no_grad():
        timing = gpu.time(lambda: call(source, points, frames), rounds=10, warmup=3)
    assert head.source.deformation is not None
    members = len(head.source.anchors) + 1
    work = 2.0 * SLAB * (macs(head.source.deformation) + members * macs(head.source.identity))
    per_second = SLAB / (1e-3 * timing.median_ms)
    gpu.report(
        "field formula",
        {"points": SLAB, "dtype": str(dtype).removeprefix("torch."), "compiled": compiled},
        "torch",
        timing,
        flops=work,
        dtype=dtype,
        extra={"points_per_s": per_second, "extrapolated_frames_per_s": per_second / RESOLUTION**3},
    )


def bound(source: FieldSource, precision: str, path: str) -> CudaField:
    """The head by a path, or a skip that says why it cannot be had."""
    try:
        return CudaField(source, precision=precision, path=path, device=DEVICE)
    except ValueError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=["built-in", "official"])
def speaking(request: pytest.FixtureRequest) -> tuple[str, Field, Tensor]:
    """A head on the CPU, and 32 faces of it."""
    Gpu.or_skip()
    field, codes = {"built-in": built_in, "official": official}[request.param]()
    return request.param, field, codes.repeat(-(-32 // len(codes)), 1)[:32]


@pytest.mark.parametrize("frames", [32, 1])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_bricks(speaking: tuple[str, Field, Tensor], precision: str, path: str, frames: int) -> None:
    gpu = Gpu.or_skip()
    name, head, codes = speaking
    field = bound(head.source, precision, path)
    packed = head.bound.biases(codes[:frames])
    assert packed is not None
    biases, axes = [b.to(DEVICE) for b in packed], lattice_axes(RESOLUTION, DEFAULT_BOUNDS)
    found = field.bricks(axes, biases)
    lattice = ([float(a[0]) for a in axes], [float(a[1] - a[0]) for a in axes])

    def meshes() -> object:
        made = field.bricks(axes, biases)
        return extract_bricks(made.samples, made.table, made.shape, 0.0, *lattice)

    for what, work in (("bricks", lambda: field.bricks(axes, biases)), ("meshes", meshes)):
        timing = gpu.wall(work, rounds=10, warmup=2)
        seconds = 1e-3 * timing.median_ms
        gpu.report(
            f"field {what}, {name}",
            {"resolution": RESOLUTION, "frames": frames, "precision": precision, "path": path},
            "ours",
            timing,
            extra={
                "frames_per_s": frames / seconds,
                "points_per_s": found.evaluated / seconds,
                "bricks_per_frame": len(found.samples) / frames,
                "evaluated_of_lattice": found.evaluated / frames / RESOLUTION**3,
            },
        )


@pytest.mark.parametrize("frames", [32, 1])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_surfaces(
    speaking: tuple[str, Field, Tensor], precision: str, way: str, path: str, frames: int
) -> None:
    gpu = Gpu.or_skip()
    name, head, codes = speaking
    try:
        field = head.model.bind(head.identity, device=DEVICE, precision=precision, path=path)
    except InputError as error:
        pytest.skip(str(error))
    codes = codes[:frames].to(field.device)

    def work() -> list[object]:
        return list(field.surfaces(codes, RESOLUTION, options=WAYS[way]))

    start = time.perf_counter()
    infos = [surface.info for surface in field.surfaces(codes, RESOLUTION, options=WAYS[way])]
    torch.cuda.synchronize()
    first_s = time.perf_counter() - start
    timing = gpu.wall(work, rounds=10, warmup=1)
    counts = [info.counts for info in infos if info.counts is not None]
    gpu.report(
        f"field surfaces, {name}",
        {"resolution": RESOLUTION, "frames": frames, "precision": precision, "way": way, "path": path},
        "ours",
        timing,
        extra={
            "frames_per_s": frames / (1e-3 * timing.median_ms),
            "first_s": first_s,
            "deformed_per_frame": sum(c.deformed for c in counts) / frames,
            "evaluated_per_frame": sum(c.evaluated for c in counts) / frames,
            "uncertified": sum(c.uncertified for c in counts),
            "cache_error_mm": infos[0].cache_error_mm or 0.0,
        },
    )
