"""Surfaces on a CUDA device from codes to meshes by the cached identity, over kernels on the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from field_host import emulated_core, random_head
from test_marching_cubes_face import EmulatedCore

from facetalk.metrics.surface import two_sided
from facetalk.nphm.surface import bake as cache
from facetalk.nphm.surface import find, slopes
from facetalk.nphm.surface import plan as extraction_plan
from facetalk.nphm.surface.identity import CanonicalKnowledge
from facetalk.nphm.surface.options import ExtractionOptions, Surface
from facetalk.ops.cuda import canonical_cache as field_cuda_cache
from facetalk.ops.cuda import field as cuda_field
from facetalk.ops.cuda import marching_cubes as cuda_marching_cubes
from facetalk.ops.cuda.canonical_cache import CudaCanonicalCache
from facetalk.ops.cuda.field import CudaField
from facetalk.ops.field.cpu import PackedField
from facetalk.ops.field.source import FieldSource, OffsetWeight
from facetalk.ops.field.surface import CanonicalCache
from facetalk.units import HEAD_UNIT_MM

BOUNDS = ((-0.3, -0.25, -0.3), (0.3, 0.3, 0.25))
SIZES = (19, 12, 16)
AXES = [np.linspace(a, b, n).astype(np.float32) for a, b, n in zip(*BOUNDS, SIZES, strict=True)]
FRAMES = 3
WEIGHT = OffsetWeight((0.0, 0.1, 0.2), (0.5, 0.6, 0.7))
TOLERANCE_MM = 1.0
QUICK = {
    (extraction_plan, "BOX_MARGIN"): 0.06, (cache, "FIRST_SPACING"): 0.03, (cache, "PROBES"): 4,
    (cache, "HELD_OUT"): 128, (slopes, "SPACING"): 0.1,
}  # fmt: skip
"""A small cache: the emulation takes a few thousand points a second."""


class Counted(CudaField):
    """The field over emulated kernels; counts the frames of each call."""

    def __init__(self, source: Any, **options: Any) -> None:
        self.calls: list[tuple[str, int]] = []
        super().__init__(source, device="cpu", _core=emulated_core().cuda_field, **options)

    def bricks(self, axes: Any, biases: Any = None, **options: Any) -> Any:
        self.calls.append(("bricks", 0 if biases is None else len(biases[0])))
        return super().bricks(axes, biases, **options)

    def grid(self, axes: Any, biases: Any = None, **options: Any) -> Any:
        self.calls.append(("grid", 0 if biases is None else len(biases[0])))
        return super().grid(axes, biases, **options)


def bound(field: Any, packed: PackedField) -> Any:
    """What surfaces are found of, without its model, and what was learned of it."""
    return SimpleNamespace(
        kernels=field, packed=packed, weight=WEIGHT, coords=packed.coords, knowledge=CanonicalKnowledge(field)
    )


def smooth_head() -> tuple[FieldSource, list[torch.Tensor]]:
    """A head whose offsets can be interpolated."""

    def slower(layers: Any, factor: float) -> Any:
        return [(hidden, None if coords is None else factor * coords) for hidden, coords in layers]

    source, biases, _ = random_head(1, frames=FRAMES)
    return dataclasses.replace(
        source, identity=slower(source.identity, 0.4), deformation=slower(source.deformation, 0.1)
    ), biases


@pytest.fixture(scope="module")
def heads(emulated: Any) -> Iterator[SimpleNamespace]:
    """A head on the emulated device and on the CPU; the identity is baked once by each."""
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), value in QUICK.items():
            patch.setattr(module, name, value)
        core = EmulatedCore(emulated("marching_cubes"))
        patch.setattr(cuda_marching_cubes, "cuda_core", lambda name, where: core)
        patch.setattr(cuda_marching_cubes, "current_stream", lambda device: 7)
        patch.setattr(field_cuda_cache, "_load_core", lambda: emulated_core().cuda_guided)
        source, biases = smooth_head()
        packed = PackedField(source)
        yield SimpleNamespace(
            cuda=bound(Counted(source, precision="float32"), packed),
            cpu=bound(packed, packed),
            source=source,
            biases=biases,
        )


def found(field: Any, biases: Any, **options: Any) -> list[Surface]:
    return list(find.surfaces(field, field.knowledge, biases, AXES, BOUNDS, ExtractionOptions(**options)))


def apart_mm(a: Surface, b: Surface) -> np.ndarray:
    first, second = ((torch.as_tensor(s.vertices).cpu(), torch.as_tensor(s.faces).cpu()) for s in (a, b))
    return HEAD_UNIT_MM * two_sided(*((v.numpy(), f.numpy()) for v, f in (first, second)))


@pytest.mark.parametrize("tolerance", [0.0, TOLERANCE_MM])
@pytest.mark.parametrize("coarse", [True, False])
def test_frames_are_the_cpus_guided_ones(heads: Any, tolerance: float, coarse: bool) -> None:
    options = {"tolerance_mm": tolerance, "cache": True, "coarse": coarse}
    ours = found(heads.cuda, heads.biases, **options)
    theirs = found(heads.cpu, heads.biases, **options)
    dense = found(heads.cpu, heads.biases, exact=True)
    assert len(ours) == FRAMES
    for surface, wanted, whole in zip(ours, theirs, dense, strict=True):
        assert isinstance(surface.vertices, torch.Tensor) and isinstance(surface.faces, torch.Tensor)
        assert len(wanted.faces) > 300 and np.array_equal(surface.faces.numpy(), wanted.faces)
        assert np.abs(surface.vertices.numpy() - wanted.vertices).max() < 1e-4
        mine, other = surface.info, wanted.info
        assert (mine.method, mine.points, mine.tolerance_mm) == ("cache", int(np.prod(SIZES)), tolerance)
        assert 0.0 < mine.cache_error_mm == pytest.approx(other.cache_error_mm, rel=1e-2)
        assert (mine.counts.bricks, mine.counts.direct) == (other.counts.bricks, other.counts.direct)
        assert mine.uncertified == other.uncertified
        if tolerance == 0.0:
            assert np.array_equal(surface.faces.numpy(), whole.faces)
            assert np.abs(surface.vertices.numpy() - whole.vertices).max() < 1e-4
        else:
            # Where the field is nearly flat, or a sheet ends, nothing is promised.
            assert 0.0 < np.quantile(apart_mm(surface, whole), 0.99) <= tolerance


def test_what_each_frame_took_depends_on_the_options(heads: Any) -> None:
    counts = {
        (tolerance, coarse): [
            surface.info.counts
            for surface in found(heads.cuda, heads.biases, cache=True, tolerance_mm=tolerance, coarse=coarse)
        ]
        for tolerance in (0.0, TOLERANCE_MM)
        for coarse in (True, False)
    }
    for guided, cached, direct in zip(
        counts[0.0, True], counts[TOLERANCE_MM, True], counts[TOLERANCE_MM, False], strict=True
    ):
        assert cached.evaluated < guided.evaluated  # the networks' own values at the surface
        assert cached.direct < cached.bricks == direct.direct == direct.bricks
    assert len({c.deformed for c in counts[TOLERANCE_MM, True]}) > 1  # each frame's own, no mean


def test_chunks_change_no_frame(heads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"tolerance_mm": TOLERANCE_MM, "cache": True}
    whole = found(heads.cuda, heads.biases, **options)
    sizes: list[int] = []
    guided = CudaField.guided

    def counted(self: Any, axes: Any, biases: Any, *args: Any, **given: Any) -> Any:
        sizes.append(len(biases[0]))
        return guided(self, axes, biases, *args, **given)

    monkeypatch.setattr(CudaField, "guided", counted)
    for together, expected in ((1, [1, 1, 1]), (2, [2, 1]), (32, [3])):
        monkeypatch.setattr(cuda_field, "CHUNK_SAMPLES", together * int(np.prod(SIZES)))
        sizes.clear()
        parts = found(heads.cuda, heads.biases, **options)
        assert sizes == expected
        for part, one in zip(parts, whole, strict=True):
            assert torch.equal(part.vertices, one.vertices) and torch.equal(part.faces, one.faces)
            assert part.info == one.info


def test_nothing_of_a_frame_visits_the_host(heads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """But counts, and, once a call, how much the deformation stretches at some points of the identity, and
    up to three times at some around those where it does so most."""
    options = {"tolerance_mm": TOLERANCE_MM, "cache": True}
    found(heads.cuda, heads.biases, **options)
    copied: list[int] = []

    def noted(real: Any) -> Any:
        def copy(self: torch.Tensor) -> Any:
            copied.append(self.numel())
            return real(self)

        return copy

    for name in ("cpu", "tolist"):  # NumPy and Python see a GPU's tensor in no other way
        monkeypatch.setattr(torch.Tensor, name, noted(getattr(torch.Tensor, name)))
    surfaces = found(heads.cuda, heads.biases, **options)
    points = len(heads.cuda.knowledge.slopes(plan_of(heads.cuda).wide)[1])
    first, *around = (count for count in copied if count >= 32)
    assert first <= min(points, 2048) and 1 <= len(around) <= 3 and max(around) <= 2048
    counts = [count for count in copied if count < 32]
    assert counts and min(len(surface.vertices) for surface in surfaces) > 32


def test_which_way_is_taken(heads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rules as on the CPU, and no cache for what it does not serve."""

    def way(biases: Any = heads.biases, field: Any = heads.cuda, **options: Any) -> str:
        field.kernels.calls.clear()
        first, *_ = found(field, biases, **options)
        return first.info.method

    way(cache=True)  # Baked now, if no test before has asked for it.
    assert way(cache=False) == "band" and heads.cuda.kernels.calls == [("bricks", FRAMES)]
    assert way(exact=True, cache=True) == "dense" and heads.cuda.kernels.calls == [("grid", FRAMES)]
    assert way(None, cache=True) == "band" and heads.cuda.kernels.calls == [("bricks", 0)]
    assert way(cache=True) == "cache" and heads.cuda.kernels.calls == []
    assert way() == "cache"  # it is there
    wide, frames, _ = random_head(3, family="mononphm", coords=5)
    mono = bound(Counted(wide, precision="float32"), PackedField(wide))
    assert way(frames, mono, cache=True) == "band" and mono.kernels.calls == [("bricks", 2)]
    assert found(mono, [b[:0] for b in frames], cache=True) == []
    # Of an identity that nobody baked: by the price of baking alone.
    fresh = bound(Counted(heads.source, precision="float32"), heads.cpu.packed)
    assert way(field=fresh) == "band" and fresh.knowledge.found(plan_of(fresh).wide) is None
    assert way(field=fresh, exact=True, cache=True) == "dense"
    assert not fresh.knowledge._slopes  # nor did anybody ask for bounds
    baked = heads.cuda.knowledge.found(plan_of(fresh).wide)
    monkeypatch.setattr(fresh.kernels, "bake_price", 0.0)
    monkeypatch.setattr(fresh.knowledge, "baked", lambda *asked: baked)
    assert way(field=fresh) == "cache"
    assert found(heads.cuda, [b[:0] for b in heads.biases], cache=True) == []


def plan_of(field: Any) -> extraction_plan.Plan:
    return extraction_plan.Plan(field, field.knowledge, None, AXES, BOUNDS, ExtractionOptions())


def test_the_identity_is_learned_by_the_devices_kernels(heads: Any) -> None:
    """Once, in float32 whatever the frames' precision, with the CPU's result."""
    found(heads.cuda, heads.biases, cache=True)
    found(heads.cpu, heads.biases, cache=True)
    box = plan_of(heads.cuda).wide
    ours, theirs = heads.cuda.knowledge.found(box), heads.cpu.knowledge.found(box)
    assert isinstance(ours.lattice, CudaCanonicalCache) and isinstance(theirs.lattice, CanonicalCache)
    assert (ours.bricks, ours.width) == (theirs.bricks, pytest.approx(theirs.width, rel=1e-4))
    points = np.random.default_rng(0).uniform(*BOUNDS, (500, 3)).astype(np.float32)
    mine, wanted = (baked.lattice.look_up(points) for baked in (ours, theirs))
    assert np.array_equal(mine[1], wanted[1]) and mine[1].any()
    assert np.abs(mine[0] - wanted[0]).max() < 1e-4
    found(heads.cuda, heads.biases, cache=True)
    assert heads.cuda.knowledge.found(box) is ours
    for field in (heads.cuda, heads.cpu):
        bounds, near = field.knowledge.slopes(box)
        sampled = slopes.sample_stretches(field.packed, heads.biases, near, WEIGHT)
        known = slopes.with_stretch(bounds, sampled, None)  # as a cache needs it
        plan = extraction_plan.Plan(field, field.knowledge, heads.biases, AXES, BOUNDS, ExtractionOptions())
        assert 1.0 < plan.known.stretch == pytest.approx(known.stretch, rel=1e-4)

    half = Counted(heads.source, precision="float16")
    at = torch.from_numpy(points)
    exact = heads.cuda.kernels.query(at)["sdf"]
    assert torch.equal(half.in_float32().query(at)["sdf"], exact)
    assert np.array_equal(cache._values(half, points), exact[0].numpy())
    assert half.precision == "float16" and not torch.equal(half.query(at)["sdf"], exact)
