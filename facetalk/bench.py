"""What each stage costs on this machine, and the least it could cost: for ``facetalk bench``.

A floor is the larger of two times: the multiply-adds that the result needs over the best rate that was
measured here, and the bytes that have to move over the bandwidth of a copy here, both with the threads that
the stages use. Work that a short cut saves is not needed work: the floor of a surface is the samples on
both sides of it, each through the deformation and the members that matter there.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from facetalk import ops
from facetalk.arrays import Float32
from facetalk.errors import InputError
from facetalk.nphm.field import Field
from facetalk.nphm.lattice import lattice_axes
from facetalk.nphm.routing_bound import left_out
from facetalk.ops.field.cpu import PackedField
from facetalk.ops.field.source import DEFAULT_CULL, FieldSource
from facetalk.units import SAMPLE_RATE

if TYPE_CHECKING:
    from facetalk.pipeline import FaceTalk

__all__ = ["Peaks", "StageCost", "audio_stages", "field_stages", "mesh_stages", "peaks"]

Bounds = tuple[tuple[float, float, float], tuple[float, float, float]]
# 0.05 mm is what a viewer cannot see; 0 asks for the mesh of the dense volume. Caches pay for a sequence, so
# they are asked for, although one frame alone would do without.
_MODES: dict[str, dict[str, Any]] = {
    "band": {"tolerance_mm": 0.0, "cache": False},
    "within 0.05 mm": {"tolerance_mm": 0.05, "cache": True},
}
_FORWARD_MODES: dict[str, dict[str, Any]] = {"posed field": {"posed": True}, "neutral mesh moved": {}}
_SAMPLED = 4096  # points of a dense frame that are timed; the rest is extrapolated


@dataclasses.dataclass(frozen=True)
class Peaks:
    """What the processor gives.

    Attributes:
        gflops: 10^9 operations a second, of a 1536^3 float32 product in torch or of the package's own kernel
            on a network 512 wide, whichever is faster here.
        gbytes: 10^9 bytes a second, read and written by a copy of 128 MiB.
    """

    gflops: float
    gbytes: float

    def best(self, other: Peaks) -> Peaks:
        """The better of two measurements: whatever else ran can only have made one slower."""
        return Peaks(max(self.gflops, other.gflops), max(self.gbytes, other.gbytes))


@dataclasses.dataclass(frozen=True)
class StageCost:
    """The cost of one stage.

    Attributes:
        name: the stage.
        unit: what the seconds are for: "frame", "clip" or "head" (once per identity).
        seconds: fastest run, per unit.
        gflop: 10^9 operations (2 per multiply-add) that a unit needs, or 0.
        gbyte: 10^9 bytes that a unit has to move, or 0.
        floor: seconds, see the module; 0 where there is none.
        note: what was counted.
    """

    name: str
    unit: str
    seconds: float
    gflop: float
    gbyte: float
    floor: float
    note: str

    @property
    def above(self) -> float:
        """How many times the floor the stage takes."""
        return self.seconds / self.floor if self.floor > 0 else float("nan")

    def at(self, rates: Peaks) -> StageCost:
        """The same stage with its floor at other rates."""
        floor = max(self.gflop / rates.gflops, self.gbyte / rates.gbytes)
        return dataclasses.replace(self, floor=floor)


def peaks() -> Peaks:
    """Measure both rates with torch on as many threads as the stages use (half a second)."""
    a, b = torch.randn(1536, 1536), torch.randn(1536, 1536)
    out = torch.empty(1536, 1536)
    product = min(fastest(lambda: torch.mm(a, b, out=out), 0.3) for _ in range(2))
    source, target = torch.ones(1 << 25), torch.ones(1 << 25)  # ones: memory that is really there
    copy = min(fastest(lambda: target.copy_(source), 0.3) for _ in range(2))
    flops = max(2 * 1536**3 / product, _kernel_rate(0.3))
    return Peaks(flops / 1e9, 2 * source.nbytes / copy / 1e9)


def _kernel_rate(budget: float) -> float:
    """Operations a second of the compiled field's kernel on a wide network, activations not counted."""
    wide, points = 512, 8192
    random = torch.Generator().manual_seed(0)

    def weights(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random) / shape[-1] ** 0.5

    deformation = [
        (None, weights(1, wide, 3)),
        *[(weights(1, wide, wide), None)] * 3,
        (weights(1, 3, wide), None),
    ]
    source = FieldSource(
        identity=[(None, weights(1, 4, 3)), (weights(1, 1, 4), None)],
        identity_bias=[torch.zeros(2, 4), torch.zeros(2, 1)],
        anchors=torch.zeros(1, 3),
        member_set=torch.zeros(2, dtype=torch.long),
        mirror=torch.ones(2),
        deformation=deformation,
    )
    packed = PackedField(source)
    biases = [torch.zeros(1, n) for n in (wide, wide, wide, wide, 3)]
    at = weights(points, 3)
    seconds = fastest(lambda: packed.query(at, biases, outputs=("offsets",)), budget)
    return 2.0 * points * macs(deformation) / seconds


def once(call: Callable[[], object]) -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def fastest(call: Callable[[], object], budget: float, least: int = 2) -> float:
    """Fastest of as many runs as fit into ``budget`` seconds, at least ``least``, after one to warm up."""
    best = warm = once(call)
    spent, runs = 0.0, 0
    # A call that takes longer than the whole budget is not repeated: its first run stands.
    while warm <= budget and (runs < least or spent < budget) and runs < 50:
        seconds = once(call)
        best, spent, runs = min(best, seconds), spent + seconds, runs + 1
    return best


def _cost(
    name: str, unit: str, seconds: float, rates: Peaks, note: str, *, flop: float = 0.0, bytes_: float = 0.0
) -> StageCost:
    floor = max(flop / rates.gflops, bytes_ / rates.gbytes) / 1e9
    return StageCost(name, unit, seconds, flop / 1e9, bytes_ / 1e9, floor, note)


class _Operations(TorchDispatchMode):
    """Counts the operations of matrix products and convolutions by torch's own formulas.

    ``torch.utils.flop_counter.FlopCounterMode`` also follows modules, which those with parametrisations (the
    encoder's position convolution) do not survive.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flop = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count it, or those that it is made of."""
        kwargs = kwargs or {}
        count = flop_registry.get(func._overloadpacket)
        if count is None:
            with self:
                out = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if out is NotImplemented else out
        out = func(*args, **kwargs)
        self.flop += float(count(*args, **kwargs, out_val=out))
        return out


def audio_stages(model: FaceTalk, rates: Peaks, frames: int, budget: float) -> Iterator[StageCost]:
    """Audio features and the sampler, for a clip of ``frames`` frames (noise: content costs nothing)."""
    fps = model.config.fps
    samples = (0.05 * np.random.default_rng(0).standard_normal(int(frames / fps * SAMPLE_RATE))).astype(
        np.float32
    )
    encoder, motion = model.audio_encoder, model.motion_model
    features = encoder.features(samples, fps=fps)

    def encode() -> object:
        return encoder.features(samples, fps=fps)

    def sample() -> object:
        return motion.sample(features, seed=0)

    for name, call in (("audio features", encode), ("sampler", sample)):
        with _Operations() as counter:
            call()
        note = f"{len(samples) / SAMPLE_RATE:.1f} s of sound" if call is encode else f"{frames} frames"
        yield _cost(
            name,
            "clip",
            fastest(call, budget),
            rates,
            f"{note}, operations that torch counts",
            flop=counter.flop,
        )


def macs(layers: Any) -> int:
    """Multiply-adds of one point through one weight set of a folded network.

    Args:
        layers: the weights of hidden units and of coordinates of each, (sets, outputs, inputs), or None.
    """
    return sum(part[0].numel() for pair in layers for part in pair if part is not None)


def _needed_samples(vertices: Float32, axes: list[Float32]) -> Float32:
    """Lattice samples at the ends of the edges that the surface cuts: no fewer could give the mesh."""
    low = np.array([a[0] for a in axes], np.float64)
    step = np.array([a[1] - a[0] for a in axes], np.float64)
    at = (vertices - low) / step
    near = np.round(at)
    # A vertex lies on a lattice edge: two of its coordinates are whole, but for rounding.
    ends = [np.where(np.abs(at - near) < 1e-3, near, f(at)) for f in (np.floor, np.ceil)]
    index = np.unique(np.concatenate(ends).astype(np.int64), axis=0)
    index = index.clip(0, np.array([len(a) - 1 for a in axes]))
    return (low + index * step).astype(np.float32)


def field_stages(
    field: Field, codes: Float32, resolution: int, bounds: Bounds, rates: Peaks, budget: float
) -> Iterator[StageCost]:
    """A frame of the field by every mode of ``Field.extract``, and ``Field.track``.

    The floors of a forward model count one evaluation of its deformation a sample, which no search for a root
    can do without, and of a moved mesh one a vertex.

    Args:
        field: bound head with a deformation.
        codes: (T, E) expression codes; modes are timed over as many of them as fit into ``budget`` seconds.
        resolution: samples along every axis.
        bounds: of the extraction.
        rates: the floor's.
        budget: seconds for each mode.
    """
    source = field.source
    moving = macs(source.deformation) if source.deformation is not None else 0
    member, members = macs(source.identity), len(source.member_set)
    axes = lattice_axes(resolution, bounds)
    forward = field.direction == "forward"
    posed = field.extract(codes[:1], resolution, bounds, units="head", posed=True if forward else None)[0]
    if not len(posed.vertices):
        raise InputError("the field has no surface inside the bounds, so there is nothing to time")
    needed = _needed_samples(posed.vertices, axes)
    if forward:
        moved = field.roots(needed, codes[:1]).points[0]
    else:
        moved = needed + np.asarray(field.offsets(needed, codes[:1]))[0, :, :3]
    kept = members - (left_out(source, moved, DEFAULT_CULL) > 0).sum(axis=1)
    if source.blending == "mononphm":
        kept = np.minimum(kept, source.neighbours + 1)
    work = 2.0 * len(needed) * (moving + float(kept.mean()) * member)
    note = f"{len(needed)} samples at the surface, {kept.mean():.1f} of {members} members each"

    rng = np.random.default_rng(0)
    some = np.stack([axis[rng.integers(0, len(axis), _SAMPLED)] for axis in axes], axis=1)
    exact = PackedField(source, cull=0.0)
    biases = [b[:1].contiguous() for b in field.bound.biases(codes[:1]) or []]

    def ask() -> object:
        if forward:
            return field.query(some, codes[:1])
        return exact.query(some, biases, weight=field.bound.weight)

    each = "through roots" if forward else f"{members} members each"
    seconds = fastest(ask, 0.5 * budget)
    dense = float(resolution) ** 3 / _SAMPLED
    yield _cost(
        f"field {resolution}^3, every sample", "frame", seconds * dense, rates,
        f"{resolution**3} samples, {each}; {_SAMPLED} timed",
        flop=2.0 * resolution**3 * (moving + members * member),
    )  # fmt: skip
    for name, options in (_FORWARD_MODES if forward else _MODES).items():
        if source.blending == "mononphm":  # no cache for heads with hyper-coordinates
            options = {**options, "cache": False}
        extract = functools.partial(field.extract, resolution=resolution, bounds=bounds, **options)
        once_only, seconds = _per_frame(extract, codes, budget)
        if forward and not options:  # the vertices of the neutral mesh, once through the deformation
            count = len(posed.vertices)
            note, work = f"about {count} vertices, one evaluation each", 2.0 * count * moving
        yield _cost(f"field {resolution}^3, {name}", "frame", seconds, rates, note, flop=work)
        if once_only > seconds:
            told = "what is learned of the identity by the first frame"
            yield _cost(f"  its first frame, {name}", "head", once_only, rates, told)

    mesh = field.extract(None, min(resolution, 128), bounds, units="head")[0]
    vertices, faces = mesh.vertices, mesh.faces
    _, seconds = _per_frame(lambda part: field.track(part, vertices=vertices, faces=faces), codes, budget)
    yield _cost(
        "track", "frame", seconds, rates, f"{len(vertices)} vertices, one evaluation each",
        flop=2.0 * len(vertices) * moving,
    )  # fmt: skip


def _per_frame(call: Callable[[Float32], object], codes: Float32, budget: float) -> tuple[float, float]:
    """What the first frame cost on top, and seconds per frame of as many as fit into the budget.

    What is learned of the identity once, by the first call, is not the cost of a frame.
    """
    first = once(lambda: call(codes[:1]))
    again = once(lambda: call(codes[:1]))
    count = int(min(len(codes), max(1.0, budget / max(again, 1e-6))))
    if count == 1:
        return first - again, again
    call(codes[:count])
    return first - again, once(lambda: call(codes[:count])) / count


def mesh_stages(
    field: Field, code: Float32, resolution: int, bounds: Bounds, rates: Peaks, budget: float
) -> Iterator[StageCost]:
    """Marching cubes of a dense volume of that resolution, and normals."""
    coarse = np.asarray(field.grid(code[None], 48, bounds))[0]
    from scipy.ndimage import zoom

    # The volume is the field on a coarse lattice, refined: the same surface without hours of evaluation.
    volume = np.ascontiguousarray(zoom(coarse, resolution / 48, order=1), np.float32)
    seconds = fastest(lambda: ops.marching_cubes(volume), budget)
    vertices, faces = ops.marching_cubes(volume)
    size = volume.nbytes + vertices.nbytes + faces.nbytes
    yield _cost(
        f"marching cubes {resolution}^3", "frame", seconds, rates,
        f"{len(faces)} triangles; volume read once, mesh written once", bytes_=size,
    )  # fmt: skip
    seconds = fastest(lambda: ops.vertex_normals(vertices, faces), budget)
    size = 2 * vertices.nbytes + faces.nbytes
    yield _cost("normals", "frame", seconds, rates, f"{len(vertices)} vertices", bytes_=size)


def rig_stages(model: FaceTalk, codes: Float32, rates: Peaks, budget: float) -> Iterator[StageCost]:
    """The built-in head's rig (fixed topology) and the export of a clip."""
    from facetalk.mesh import RiggedSequence
    from facetalk.mesh.export import export
    from facetalk.motion import Motion

    motion = Motion(codes, model.config.fps, model.head.default_identity, {})
    rig = model.decode(motion, topology="fixed")
    assert isinstance(rig, RiggedSequence)
    seconds = fastest(lambda: rig.positions(), budget) / len(codes)
    count, shapes = len(rig.base.vertices), len(rig.basis)
    size = rig.basis.nbytes / len(codes) + 12.0 * count
    yield _cost(
        "rig", "frame", seconds, rates, f"{count} vertices, {shapes} shapes",
        flop=2.0 * 3 * count * shapes, bytes_=size,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "talk.glb"
        seconds = fastest(lambda: export(path, rig, fps=motion.fps), budget, least=1)
        size = path.stat().st_size
    # No floor: what an optimal reduction of the morph basis would cost is not known.
    yield _cost("export .glb", "clip", seconds, rates, f"{len(codes)} frames, {size / 1e6:.1f} MB")
