"""The values of a bound field on the GPU: queries, lattices and inversion of the deformation."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from facetalk.ops._extension import load
from facetalk.ops.cuda.device_axes import DeviceAxes
from facetalk.ops.cuda.field_invert import Inversion
from facetalk.ops.cuda.field_launch import FieldRunner, parts
from facetalk.ops.cuda.field_pack import PRECISIONS, FieldPath, Precision
from facetalk.ops.field.source import FieldSource, OffsetWeight

# Points that are in flight at a time: each of their pairs of point and member takes 8 bytes.
_MOST_POINTS = 1 << 18
_OUTPUTS = ("sdf", "raw_sdf", "gradient", "offsets", "jacobian")


class FieldQueries:
    """Values of a head field on the GPU; :class:`facetalk.ops.cuda.field.CudaField` has the arguments."""

    def __init__(
        self,
        source: FieldSource,
        *,
        cull: float | None = None,
        precision: Precision = "float16",
        path: FieldPath | Literal["auto"] = "portable",
        device: torch.device | str | int = "cuda",
        _core: Any = None,
        _shared_limit: int = 0,
        _most_points: int = _MOST_POINTS,
    ) -> None:
        if precision not in PRECISIONS.values():
            raise ValueError(f"precision: expected float32, float16 or bfloat16, got {precision!r}")
        core = _core if _core is not None else _load_core()
        where = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        if where.type == "cuda" and where.index is None:
            where = torch.device("cuda", torch.cuda.current_device())
        if path not in ("auto", "portable", "hopper"):
            raise ValueError(f"path: expected auto, portable or hopper, got {path!r}")
        missing = "" if path == "portable" else _why_not_hopper(precision, source, core, where)
        if missing and path == "hopper":
            raise ValueError(f"path: expected portable{missing}")
        self.precision, self.device, self.source = precision, where, source
        self._most_points = _most_points
        self.path: FieldPath = "portable" if missing or path == "portable" else "hopper"
        try:
            self._runner = FieldRunner(source, cull, precision, self.path, where, core, _shared_limit)
        except ValueError:
            if path != "auto" or self.path == "portable":
                raise
            self.path = "portable"  # which takes networks that are too wide for the other
            self._runner = FieldRunner(source, cull, precision, self.path, where, core, _shared_limit)
        self.deforms = source.deformation is not None
        self.coords, self.anchors = self._runner.coords, self._runner.anchors

    def in_float32(self) -> Self:
        """The same field with everything computed in float32; weights of both are kept once."""
        twin = copy.copy(self)
        twin._runner = copy.copy(self._runner)
        twin.precision = twin._runner.precision = "float32"
        return twin

    def query(
        self,
        points: object,
        biases: Sequence[Tensor] | None = None,
        *,
        weight: OffsetWeight | None = None,
        outputs: Sequence[str] = ("sdf",),
    ) -> dict[str, Tensor]:
        """Evaluate at points.

        Args:
            points: (N, 3) float32 on the device, head space; canonical queries of MonoNPHM also (N, 3 + m).
                One that is not finite gives NaN: looking for it would make every call wait.
            biases: per deformation layer (T, out), one row per frame; None: the canonical field, T = 1.
            weight: spatial weight of the offset.
            outputs: any of "sdf" (T, N), "raw_sdf" (T, N), "gradient" (T, N, 3) ((1, N, 3 + m) for canonical
                queries with hyper-coordinates), "offsets" (T, N, 3 + m), "jacobian" (T, N, 3 + m, 3); see
                :meth:`facetalk.ops.field.cpu.PackedField.query`.

        Returns:
            the outputs by name, float32, on the device.

        Raises:
            TypeError: not a float32 array on the field's device.
            ValueError: a wrong shape or an unknown output.
        """
        for name in outputs:
            if name not in _OUTPUTS:
                raise ValueError(f"outputs: expected any of {_OUTPUTS}, got {name!r}")
        array = self._array(points, "points", (3, self.coords) if biases is None else (3,))
        if biases is None and ("offsets" in outputs or "jacobian" in outputs):
            raise ValueError("biases: expected frames to deform by, got None")
        with self._runner.guard():
            frames = self._runner.pack_frames(biases)
            count = 1 if frames is None else len(frames)
            tails = {"gradient": (array.shape[1],), "offsets": (self.coords,), "jacobian": (self.coords, 3)}
            made = {k: self._runner.empty(count, len(array), *tails.get(k, ())) for k in outputs}
            for t, frame_end, a, b in parts(count, len(array), self._most_points):
                rows = None if frames is None else frames[t:frame_end]
                part = {k: v[t:frame_end, a:b] for k, v in made.items()}
                self._runner.evaluate(array[a:b], rows, weight, part)
            return made

    def grid(
        self,
        axes: Sequence[Any],
        biases: Sequence[Tensor] | None = None,
        *,
        weight: OffsetWeight | None = None,
    ) -> Tensor:
        """Signed distances (T, nx, ny, nz) on the lattice of three axes of sample positions."""
        with self._runner.guard():
            runner, (x, y, z) = self._runner, self._axes(axes).tensors
            frames = self._runner.pack_frames(biases)
            count = 1 if frames is None else len(frames)
            out = runner.empty(count, len(x), len(y), len(z))
            slab = max(1, self._most_points // (len(y) * len(z)))
            for first in range(0, len(x), slab):
                points = torch.cartesian_prod(x[first : first + slab], y, z)
                values = runner.empty(count, len(points))
                for t, frame_end, a, b in parts(count, len(points), self._most_points):
                    rows = None if frames is None else frames[t:frame_end]
                    self._runner.evaluate(points[a:b], rows, weight, {"sdf": values[t:frame_end, a:b]})
                out[:, first : first + slab] = values.view(count, -1, len(y), len(z))
            return out

    def invert(
        self,
        targets: object,
        biases: Sequence[Tensor],
        *,
        starts: object = None,
        weight: OffsetWeight | None = None,
        tolerance: float = 1e-6,
        iterations: int = 30,
    ) -> tuple[Tensor, Tensor]:
        """Solve x + offset(x) = target for every target and frame, all frames at the same time, in float32.

        Arguments and results are those of :meth:`facetalk.ops.field.cpu.PackedField.invert`, on the device,
        but that every frame's search begins at `starts`, and not where the frame before ended.
        """
        goal = self._array(targets, "targets", (3,))
        first = goal if starts is None else self._array(starts, "starts", (3,))
        if first.shape != goal.shape:
            raise ValueError(f"starts: expected shape {tuple(goal.shape)}, got {tuple(first.shape)}")
        with self._runner.guard():
            frames = self._runner.pack_frames(biases)
            if frames is None:
                raise ValueError("biases: expected frames to invert, got None")
            if len(frames) == 0 or len(goal) == 0:
                return self._runner.empty(len(frames), len(goal), 3), self._runner.empty(
                    len(frames), len(goal)
                )
            walk = Inversion(self._runner, goal, first, frames, weight, self._most_points)
            walk.run(tolerance, iterations)
            return walk.state[..., :3].contiguous(), walk.state[..., 6].contiguous()

    def _array(self, value: object, name: str, columns: tuple[int, ...]) -> Tensor:
        if not isinstance(value, Tensor) and hasattr(value, "__dlpack__"):
            value = from_dlpack(value)
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected an array on {self.device}, got {type(value).__name__}")
        if value.device != self.device or value.dtype != torch.float32:
            raise TypeError(f"{name}: expected float32 on {self.device}, got {value.dtype} on {value.device}")
        if value.ndim != 2 or value.shape[1] not in columns:
            raise ValueError(f"{name}: expected shape (N, 3), got {tuple(value.shape)}")
        return value.detach().contiguous()

    def _axes(self, axes: Sequence[Any]) -> DeviceAxes:
        if len(axes) != 3:
            raise ValueError(f"axes: expected three arrays of sample positions, got {len(axes)}")
        return self._runner.axes([torch.as_tensor(a).detach().reshape(-1) for a in axes])


def _why_not_hopper(precision: Precision, source: FieldSource, core: Any, device: torch.device) -> str:
    """What stands in the way of warpgroup products, as the rest of a sentence; empty where nothing does."""
    if precision == "float32":
        return " in float32, got 'hopper', which is for 16 bit"
    if source.deformation is None:
        return " without a deformation, got 'hopper', which is for that alone"
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        missing = core.wgmma_missing()
    return f", got 'hopper', but {missing}" if missing else ""


def _load_core() -> Any:
    core = getattr(load(), "cuda_field", None)
    if core is None:
        raise RuntimeError("field: facetalk's compiled core was built without CUDA; use device='cpu'")
    return core
