"""Bound neural head fields on the GPU: the verbs of `facetalk.ops.field.PackedField`, by the kernels of csrc/cuda.

Weights are repacked once per identity and precision and stay on the device; a call allocates its workspace from
torch's own allocator, runs on the current stream of the device and waits for nothing. Points, frames and results stay
on the device.

Guarantees: a point's result does not depend on the other points of the call or on how they are grouped, and is the
same at every call. `precision` says what hidden units and weights are rounded to between layers; sums, coordinates,
biases and blending are always float32. Derivatives are always computed in float32.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from facetalk.ops._extension import load
from facetalk.ops.field import DEFAULT_CULL, FieldSource, LayerWeights, OffsetWeight, cull_to_cut

Precision = Literal["float32", "float16", "bfloat16"]

# Base-2 softplus of the networks' softplus with beta 100; see csrc/core/field.h.
_UNITS = 100.0 * math.log2(math.e)
# Points that are in flight at a time: their pairs of point and member take 8 bytes each.
_MOST_POINTS = 1 << 18
_OUTPUTS = ("sdf", "raw_sdf", "gradient", "offsets", "jacobian")


def _pad(count: int, step: int) -> int:
    return -(-count // step) * step


def fragments(weights: Tensor, chunks: int) -> Tensor:
    """Lay weights (U, out, in) out as B fragments of mma.m16n8k16: (U, elements), see FieldDeviceMlp."""
    sets, outputs, inputs = weights.shape
    tiles, steps = _pad(outputs, 8) // 8, _pad(inputs, 16) // 16
    padded = weights.new_zeros(sets, tiles * 8, steps * 16)
    padded[:, :outputs, :inputs] = weights
    # out = 8 * tile + g; in = 16 * step + 8 * high + 2 * t + low
    split = padded.reshape(sets, tiles, 8, steps, 2, 4, 2).permute(0, 3, 1, 2, 5, 4, 6)
    bounds = [tiles * c // chunks for c in range(chunks + 1)]
    parts = [split[:, :, a:b].reshape(sets, -1) for a, b in zip(bounds, bounds[1:], strict=False)]
    return torch.cat(parts, dim=1)


@dataclasses.dataclass(frozen=True)
class _Network:
    """A packed network: the kernels' description, and the tensors that it points into."""

    mlp: Any
    coord_weights: Tensor
    weights: Tensor


def _pack(core: Any, layers: Sequence[LayerWeights], precision: Precision, device: torch.device) -> _Network:
    dtype = getattr(torch, precision)
    outputs = [int((h if h is not None else c).shape[1]) for h, c in layers]  # type: ignore[union-attr]
    first = layers[0][1]
    assert first is not None
    sets, coords = int(first.shape[0]), int(first.shape[2])
    wide = max(outputs[1:-1], default=0) > 8 * core.chunk_tiles
    chunks = 2 if wide and precision != "float32" else 1
    table, coord_parts, weight_parts = [], [], []
    bias = coord_count = weight_count = 0
    for i, (hidden, inputs) in enumerate(layers):
        last, rows = i == len(layers) - 1, _pad(outputs[i], 8)
        coord_at, weight_at = -1, weight_count
        if inputs is not None:
            block = torch.zeros(sets, rows, coords, device=device)
            block[:, : outputs[i]] = inputs.to(device, torch.float32) * (1.0 if last else _UNITS)
            coord_parts.append(block.reshape(sets, -1))
            coord_at, coord_count = coord_count, coord_count + rows * coords
        if hidden is not None:
            values = hidden.to(device, torch.float32)
            if precision == "float32":
                block = torch.zeros(sets, values.shape[2], rows, device=device)
                block[:, :, : outputs[i]] = values.transpose(1, 2)
                flat = block.reshape(sets, -1)
            else:
                flat = fragments(values, 1 if last else chunks)
            weight_parts.append(flat)
            weight_count += flat.shape[1]
        table.append((0 if hidden is None else int(hidden.shape[2]), outputs[i], bias, coord_at, weight_at))
        bias += rows
    coord_weights = torch.cat(coord_parts, dim=1).contiguous()
    weights = torch.cat(weight_parts, dim=1).to(dtype).contiguous()
    mlp = core.Mlp(
        layers=table,
        coords=coords,
        chunks=chunks,
        bias_count=bias,
        coord_count=coord_count,
        weight_count=weight_count,
        coord_weights=coord_weights.data_ptr(),
        weights=weights.data_ptr(),
    )
    return _Network(mlp, coord_weights, weights)


def _pack_biases(layers: Sequence[Tensor], device: torch.device) -> Tensor:
    """Rows of biases (rows, bias_count) from per-layer (rows, out), hidden layers in softplus units."""
    parts = []
    for i, bias in enumerate(layers):
        block = torch.zeros(bias.shape[0], _pad(bias.shape[1], 8), device=device)
        block[:, : bias.shape[1]] = bias.to(device, torch.float32) * (1.0 if i == len(layers) - 1 else _UNITS)
        parts.append(block)
    return torch.cat(parts, dim=1).contiguous()


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


class CudaField:
    """A head field in the GPU kernels' form. See the module's guarantees.

    Args:
        source: the folded head, on any device; see :class:`facetalk.ops.field.FieldSource`.
        cull: fraction of the nearest anchor's blending weight below which a member is left out at a point.
        precision: of hidden units and weights: "float32" (plain multiply-adds), "float16" or "bfloat16" (tensor
            cores). 16 bit takes networks of up to 512 hidden units.
        device: a CUDA device.

    Raises:
        RuntimeError: the core was built without CUDA, or a launch failed (the message names the kernel).
        ValueError: shapes that do not fit, a network too wide for the device; numbers that are not finite.
    """

    def __init__(
        self,
        source: FieldSource,
        *,
        cull: float = DEFAULT_CULL,
        precision: Precision = "float16",
        device: torch.device | str | int = "cuda",
        _core: Any = None,
        _shared_limit: int = 0,
        _most_points: int = _MOST_POINTS,
    ) -> None:
        if precision not in ("float32", "float16", "bfloat16"):
            raise ValueError(f"precision: expected float32, float16 or bfloat16, got {precision!r}")
        self._core = _core if _core is not None else _load_core()
        self._shared_limit, self._most_points = _shared_limit, _most_points
        self.device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.source, self.precision = source, precision
        self.cut = cull_to_cut(cull)
        _check(source)
        self.deforms = source.deformation is not None
        self.coords = int(source.identity[0][1].shape[-1])  # type: ignore[union-attr]
        with self._guard():
            self.anchors = self._floats(source.anchors, "anchors")
            self._mirror = self._floats(source.mirror, "mirror")
            self._member_set = source.member_set.to(self.device, torch.int32).contiguous()
            self._member_bias = _pack_biases(source.identity_bias, self.device)
        self._networks: dict[tuple[str, Precision], _Network] = {}
        self._plans: dict[tuple[str, Precision, bool], Any] = {}

    # Points ---------------------------------------------------------------------------------------------

    def query(
        self,
        points: Tensor,
        biases: Sequence[Tensor] | None = None,
        *,
        weight: OffsetWeight | None = None,
        outputs: Sequence[str] = ("sdf",),
    ) -> dict[str, Tensor]:
        """Evaluate at points.

        Args:
            points: (N, 3) float32 on the device, head space; canonical queries of MonoNPHM also (N, 3 + m).
            biases: per deformation layer (T, out), one row per frame; None: the canonical field, T = 1.
            weight: spatial weight of the offset.
            outputs: any of "sdf" (T, N), "raw_sdf" (T, N), "gradient" (T, N, 3) ((1, N, 3 + m) for canonical queries
                with hyper-coordinates), "offsets" (T, N, 3 + m), "jacobian" (T, N, 3 + m, 3); see
                :meth:`facetalk.ops.field.PackedField.query`.

        Returns:
            the outputs by name, float32, on the device.

        Raises:
            TypeError: not a float32 tensor on the field's device. ValueError: wrong shape or an unknown output.
        """
        for name in outputs:
            if name not in _OUTPUTS:
                raise ValueError(f"outputs: expected any of {_OUTPUTS}, got {name!r}")
        points = self._points(points, "points")
        if biases is None and ("offsets" in outputs or "jacobian" in outputs):
            raise ValueError("biases: expected frames to deform by, got None")
        columns = points.shape[1]
        if biases is not None and columns != 3:
            raise ValueError(f"points: expected shape (N, 3), got {tuple(points.shape)}")
        with self._guard():
            frames = self.frames(biases)
            count = 1 if frames is None else len(frames)
            made = {name: self._empty(count, len(points), *self._tail(name, columns)) for name in outputs}
            if points.shape[0] == 0 or count == 0:
                return made
            for t, a, b, slices in self._batches(count, points, made):
                rows = None if frames is None else frames[t : t + slices]
                self._run(
                    points[a:b], rows, slices, weight, {k: v[t : t + slices, a:b] for k, v in made.items()}
                )
            return made

    def evaluate_segments(
        self,
        points: Tensor,
        frames: Tensor | None,
        row: Tensor,
        weight: OffsetWeight | None,
        names: Sequence[str],
    ) -> dict[str, Tensor]:
        """Evaluate segments of points (S, L, 3), each in the frame that `row` (S,) int32 names: sdf and raw_sdf (S, L).

        `frames` are packed biases, see :meth:`frames`.
        """
        with self._guard():
            count, length = points.shape[:2]
            made = {name: self._empty(count, length) for name in names}
            step = max(1, self._most_points // length)
            for s in range(0, count, step):
                part = points[s : s + step]
                y = self._deform(part, row[s : s + step], frames, weight, {}, derive=False)[0]
                self._blend(y, {name: value[s : s + step] for name, value in made.items()}, None)
            return made

    def grid(
        self,
        axes: Sequence[Any],
        biases: Sequence[Tensor] | None = None,
        *,
        weight: OffsetWeight | None = None,
    ) -> Tensor:
        """Signed distances (T, nx, ny, nz) on the lattice of three axes of sample positions."""
        x, y, z = (self._floats(torch.as_tensor(a, dtype=torch.float32), "axes") for a in axes)
        with self._guard():
            frames = self.frames(biases)
            count = 1 if frames is None else len(frames)
            out = self._empty(count, len(x), len(y), len(z))
            flat = out.view(count, len(x), -1)
            plane = torch.cartesian_prod(y, z).reshape(-1, 2)
            slab = max(1, self._most_points // max(1, len(plane)))
            for a in range(0, len(x), slab):
                here = x[a : a + slab]
                points = torch.cat(
                    [here.repeat_interleave(len(plane))[:, None], plane.repeat(len(here), 1)], dim=1
                ).contiguous()
                for t in range(count):
                    rows = None if frames is None else frames[t : t + 1]
                    for b in range(0, len(points), self._most_points):
                        piece = flat[t, a : a + slab].view(1, -1)[:, b : b + self._most_points]
                        self._run(points[b : b + self._most_points], rows, 1, weight, {"sdf": piece})
            return out

    def frames(self, biases: Sequence[Tensor] | None) -> Tensor | None:
        """Pack frames: per deformation layer (T, out) to rows (T, bias_count) on the device.

        Raises:
            ValueError: the field has no deformation, or a shape does not fit a layer (named).
        """
        if biases is None:
            return None
        if self.source.deformation is None:
            raise ValueError("biases: expected None, as this field has no deformation")
        layers = self.source.deformation
        if len(biases) != len(layers):
            raise ValueError(f"biases: expected {len(layers)} layers, got {len(biases)}")
        for i, (bias, (hidden, coords)) in enumerate(zip(biases, layers, strict=True)):
            outputs = (hidden if hidden is not None else coords).shape[1]  # type: ignore[union-attr]
            if bias.ndim != 2 or bias.shape[1] != outputs or len(bias) != len(biases[0]):
                raise ValueError(
                    f"biases[{i}]: expected shape ({len(biases[0])}, {outputs}), got {tuple(bias.shape)}"
                )
        return _pack_biases(biases, self.device)

    # Inside ---------------------------------------------------------------------------------------------

    def _tail(self, name: str, columns: int) -> tuple[int, ...]:
        made = self.coords
        return {"gradient": (columns,), "offsets": (made,), "jacobian": (made, 3)}.get(name, ())

    def _batches(
        self, frames: int, points: Tensor, made: dict[str, Tensor]
    ) -> Iterator[tuple[int, int, int, int]]:
        """(first frame, first point, end, frames) of parts that fit the workspace and are contiguous in the outputs."""
        n = len(points)
        if n >= self._most_points:
            for t in range(frames):
                for a in range(0, n, self._most_points):
                    yield t, a, min(n, a + self._most_points), 1
            return
        step = self._most_points // n
        for t in range(0, frames, step):
            yield t, 0, n, min(step, frames - t)

    def _run(
        self,
        points: Tensor,
        frames: Tensor | None,
        count: int,
        weight: OffsetWeight | None,
        out: dict[str, Tensor],
    ) -> None:
        """Evaluates one part: points (n, C), `count` frames; outputs contiguous (count, n, ...)."""
        derive = "gradient" in out or "jacobian" in out
        seed: Tensor | None = None
        if frames is None:
            y = points.new_zeros(len(points), self.coords)
            y[:, : points.shape[1]] = points
        else:
            y, seed = self._deform(points[None], None, frames, weight, out, derive=derive)
        if frames is None and "gradient" in out:
            columns = []
            values = {k: v for k, v in out.items() if k != "gradient"}
            for first in range(0, points.shape[1], 3):
                eye = points.new_zeros(self.coords, 3)
                for d in range(min(3, self.coords - first)):
                    eye[first + d, d] = 1.0
                part = self._empty(len(y), 3)
                self._blend(y, {**values, "gradient": part}, eye.expand(len(y), -1, -1).contiguous())
                columns.append(part)
            out["gradient"].copy_(torch.cat(columns, dim=1)[:, : points.shape[1]].view_as(out["gradient"]))
        elif "sdf" in out or "raw_sdf" in out or "gradient" in out:
            self._blend(y, out, seed if "gradient" in out else None)

    def _deform(
        self,
        points: Tensor,
        row: Tensor | None,
        frames: Tensor | None,
        weight: OffsetWeight | None,
        out: dict[str, Tensor],
        *,
        derive: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Canonical queries (n, C) of segments (S or 1, L, 3), and with `derive` their derivatives (n, C, 3)."""
        if frames is None:
            y = points.new_zeros(points.shape[0] * points.shape[1], self.coords)
            y[:, :3] = points.reshape(-1, 3)
            return y, None
        shared = row is None
        count = len(frames) if row is None else len(row)
        n = count * points.shape[1]
        y = self._empty(n, self.coords)
        seed = self._empty(n, self.coords, 3) if derive else None
        network, plan = self._network("deformation", derive), self._plan("deformation", derive)
        self._core.deform(
            network.mlp,
            plan,
            self._stream(),
            points=points.data_ptr(),
            point_stride=0 if shared else 3 * points.shape[1],
            length=points.shape[1],
            count=count,
            row=_address(row),
            bias=frames.data_ptr(),
            smoothing=None if weight is None else weight.packed(),
            y=y.data_ptr(),
            offsets=_address(out.get("offsets")),
            jacobian=_address(out.get("jacobian")),
            seed=_address(seed),
        )
        return y, seed

    def _blend(self, y: Tensor, out: dict[str, Tensor], seed: Tensor | None) -> None:
        """The identity ensemble at canonical queries (n, C)."""
        n, source = len(y), self.source
        members, blocks = len(self.anchors) + 1, _pad(n, self._core.route_block) // self._core.route_block
        near = min(source.neighbours, members - 1) if source.blending == "mononphm" else members - 1
        network, plan = self._network("identity", seed is not None), self._plan("identity", seed is not None)
        whole = lambda *shape: torch.empty(shape, dtype=torch.int32, device=self.device)  # noqa: E731
        mask = whole(members, blocks, self._core.route_block // 32)
        block_start, total = whole(members, blocks), whole(members)
        start, tile_start, point = whole(members + 1), whole(members + 1), whole(n * (near + 1))
        inverse, unshrink, sigma, scale_from = self._empty(n), self._empty(n), self._empty(n), whole(n)
        value = self._empty(n * (near + 1))
        slope = None if seed is None else self._empty(n * (near + 1), 3)
        stream = self._stream()
        route = self._core.Route(
            blending=source.blending,
            anchors=members - 1,
            coords=self.coords,
            neighbours=source.neighbours,
            blend_std=source.blend_std,
            cut=self.cut,
            anchor=self.anchors.data_ptr(),
            y=y.data_ptr(),
            n=n,
            mask=mask.data_ptr(),
            block_start=block_start.data_ptr(),
            member_total=total.data_ptr(),
            start=start.data_ptr(),
            tile_start=tile_start.data_ptr(),
            point=point.data_ptr(),
            inverse=inverse.data_ptr(),
            unshrink=unshrink.data_ptr(),
            sigma=sigma.data_ptr(),
            scale_from=scale_from.data_ptr(),
        )
        self._core.route(route, plan.points, stream)
        self._core.members(
            network.mlp,
            plan,
            stream,
            route,
            seed=_address(seed),
            mirror=self._mirror.data_ptr(),
            member_set=self._member_set.data_ptr(),
            bias=self._member_bias.data_ptr(),
            value=value.data_ptr(),
            slope=_address(slope),
        )
        self._core.combine(
            route,
            stream,
            value=value.data_ptr(),
            slope=_address(slope),
            seed=_address(seed),
            sdf=_address(out.get("sdf")),
            raw_sdf=_address(out.get("raw_sdf")),
            gradient=_address(out.get("gradient")),
        )

    def _network(self, name: str, derive: bool) -> _Network:
        precision: Precision = "float32" if derive else self.precision
        if (name, precision) not in self._networks:
            layers = self.source.identity if name == "identity" else self.source.deformation
            assert layers is not None
            self._networks[name, precision] = _pack(self._core, layers, precision, self.device)
        return self._networks[name, precision]

    def _plan(self, name: str, derive: bool) -> Any:
        precision: Precision = "float32" if derive else self.precision
        key = (name, precision, derive)
        if key not in self._plans:
            self._plans[key] = self._core.Plan(
                self._network(name, derive).mlp,
                precision=precision,
                tangents=derive,
                members=name == "identity",
                shared_limit=self._shared_limit,
            )
        return self._plans[key]

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=self.device)

    def _stream(self) -> int:
        return int(torch.cuda.current_stream(self.device).cuda_stream) if self.device.type == "cuda" else 0

    def _guard(self) -> contextlib.AbstractContextManager[Any]:
        return torch.cuda.device(self.device) if self.device.type == "cuda" else contextlib.nullcontext()

    def _floats(self, value: Tensor, name: str) -> Tensor:
        tensor = value.detach().to(self.device, torch.float32).contiguous()
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name}: expected finite numbers")
        return tensor

    def _points(self, points: object, name: str) -> Tensor:
        if not isinstance(points, Tensor) and hasattr(points, "__dlpack__"):
            points = torch.from_dlpack(points)
        if not isinstance(points, Tensor):
            raise TypeError(f"{name}: expected a tensor on {self.device}, got {type(points).__name__}")
        if points.device != self.device or points.dtype != torch.float32:
            raise TypeError(
                f"{name}: expected float32 on {self.device}, got {points.dtype} on {points.device}"
            )
        if points.ndim != 2 or points.shape[1] not in (3, self.coords):
            raise ValueError(f"{name}: expected shape (N, 3), got {tuple(points.shape)}")
        return points.detach().contiguous()


def _check(source: FieldSource) -> None:
    """Shapes that the kernels rely on; the messages name the layer."""
    members = len(source.anchors) + 1
    if source.anchors.ndim != 2 or source.anchors.shape[1] != 3 or not 2 <= members <= 4096:
        raise ValueError(f"anchors: expected shape (1 to 4095, 3), got {tuple(source.anchors.shape)}")
    if len(source.member_set) != members or len(source.mirror) != members:
        raise ValueError(f"member_set, mirror: expected {members} members")
    if source.blending == "mononphm" and (source.neighbours < 1 or not source.blend_std > 0.0):
        raise ValueError("neighbours, blend_std: expected both above 0")
    made: dict[str, int] = {}
    for name, layers in (("identity", source.identity), ("deformation", source.deformation)):
        if layers is None:
            continue
        before, coords = 0, None if layers[0][1] is None else int(layers[0][1].shape[-1])
        for i, (hidden, inputs) in enumerate(layers):
            label = f"{name} layer {i}"
            part = hidden if hidden is not None else inputs
            if part is None or (i == 0) == (hidden is not None) or coords is None:
                raise ValueError(f"{label}: expected {'coordinates only' if i == 0 else 'hidden units'}")
            want = (part.shape[0], part.shape[1])
            for tensor, columns in ((hidden, before), (inputs, coords)):
                if tensor is not None and tuple(tensor.shape) != (*want, columns):
                    raise ValueError(f"{label}: expected shape {(*want, columns)}, got {tuple(tensor.shape)}")
                if tensor is not None and not torch.isfinite(tensor).all():
                    raise ValueError(f"{label}: expected finite numbers")
            before = int(part.shape[1])
        made[name] = before
    sets = int(source.identity[0][1].shape[0])  # type: ignore[union-attr]
    if made["identity"] != 1 or not 0 <= int(source.member_set.min()) <= int(source.member_set.max()) < sets:
        raise ValueError(f"identity: expected one output and member sets below {sets}")
    for i, bias in enumerate(source.identity_bias):
        outputs = (source.identity[i][0] if i else source.identity[i][1]).shape[1]  # type: ignore[union-attr]
        if tuple(bias.shape) != (members, outputs) or not torch.isfinite(bias).all():
            raise ValueError(f"identity bias {i}: expected finite numbers of shape ({members}, {outputs})")
    coords = int(source.identity[0][1].shape[-1])  # type: ignore[union-attr]
    if source.deformation is not None and made["deformation"] != coords:
        raise ValueError(f"deformation: expected {coords} outputs, got {made['deformation']}")


def _load_core() -> Any:
    core = getattr(load(), "cuda_field", None)
    if core is None:
        raise RuntimeError("field: facetalk's compiled core was built without CUDA; use device='cpu'")
    return core
