"""Bound neural head fields on the GPU: the verbs of `facetalk.ops.field.cpu.PackedField`, by csrc/cuda.

Weights are repacked once per identity and precision and stay on the device; a call allocates its workspace
from torch's own allocator and runs on the current stream of the device. Points, frames and results stay on
the device; only `bricks` and `invert` wait for counts.

Guarantees: a point's result does not depend on the other points of the call or on how they are grouped, and
is the same at every call. `precision` says what hidden units and weights are rounded to between layers; sums,
coordinates, biases and blending are always float32, and so is everything where derivatives are asked for.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from facetalk.ops._extension import load
from facetalk.ops.cuda.field_invert import Inversion
from facetalk.ops.cuda.field_launch import FieldRunner
from facetalk.ops.cuda.field_pack import FieldPath, Precision, pack_biases
from facetalk.ops.cuda.surface_band import FieldBricks, find_bricks
from facetalk.ops.field.cpu import DEFAULT_CULL, FieldSource, OffsetWeight, cull_to_cut

# Points that are in flight at a time: each of their pairs of point and member takes 8 bytes.
_MOST_POINTS = 1 << 18
_OUTPUTS = ("sdf", "raw_sdf", "gradient", "offsets", "jacobian")


class CudaField:
    """A head field in the GPU kernels' form. See the module's guarantees.

    Args:
        source: the folded head, on any device; see :class:`facetalk.ops.field.cpu.FieldSource`.
        cull: fraction of the nearest anchor's blending weight below which a member is left out at a point.
        precision: of hidden units and weights: "float32" (plain multiply-adds), "float16" or "bfloat16"
            (tensor cores). 16 bit takes networks of up to 512 hidden units; float16 overflows where a hidden
            unit exceeds 454.
        path: how the deformation's products are made. "portable": warps' tensor-core instructions, on every
            GPU. "hopper": warpgroups', on compute capability 9.0, in 16 bit, where the core was built for
            architecture 90a.
        device: a CUDA device.

    Raises:
        RuntimeError: the core was built without CUDA, or a launch failed (the message names the kernel).
        ValueError: shapes that do not fit, a network too wide for the device; a path that cannot be had;
            numbers that are not finite.
    """

    def __init__(
        self,
        source: FieldSource,
        *,
        cull: float = DEFAULT_CULL,
        precision: Precision = "float16",
        path: FieldPath = "portable",
        device: torch.device | str | int = "cuda",
        _core: Any = None,
        _shared_limit: int = 0,
        _most_points: int = _MOST_POINTS,
    ) -> None:
        if precision not in ("float32", "float16", "bfloat16"):
            raise ValueError(f"precision: expected float32, float16 or bfloat16, got {precision!r}")
        core = _core if _core is not None else _load_core()
        where = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        if where.type == "cuda" and where.index is None:
            where = torch.device("cuda", torch.cuda.current_device())
        _check_path(path, precision, source, core, where)
        self.precision, self.path, self.device, self.source = precision, path, where, source
        self._most_points = _most_points
        self._runner = FieldRunner(source, cull_to_cut(cull), precision, path, where, core, _shared_limit)
        self.deforms = source.deformation is not None
        self.coords, self.anchors = self._runner.coords, self._runner.anchors

    def in_float32(self) -> CudaField:
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
            frames = self.frames(biases)
            count = 1 if frames is None else len(frames)
            tails = {"gradient": (array.shape[1],), "offsets": (self.coords,), "jacobian": (self.coords, 3)}
            made = {k: self._runner.empty(count, len(array), *tails.get(k, ())) for k in outputs}
            for t, frame_end, a, b in self._parts(count, len(array)):
                rows = None if frames is None else frames[t:frame_end]
                self._run(array[a:b], rows, weight, {k: v[t:frame_end, a:b] for k, v in made.items()})
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
            runner, (x, y, z) = self._runner, self._axes(axes)
            frames = self.frames(biases)
            count = 1 if frames is None else len(frames)
            out = runner.empty(count, len(x), len(y), len(z))
            slab = max(1, self._most_points // (len(y) * len(z)))
            for first in range(0, len(x), slab):
                points = torch.cartesian_prod(x[first : first + slab], y, z)
                values = runner.empty(count, len(points))
                for t, frame_end, a, b in self._parts(count, len(points)):
                    rows = None if frames is None else frames[t:frame_end]
                    self._run(points[a:b], rows, weight, {"sdf": values[t:frame_end, a:b]})
                out[:, first : first + slab] = values.view(count, -1, len(y), len(z))
            return out

    def bricks(
        self,
        axes: Sequence[Any],
        biases: Sequence[Tensor] | None = None,
        *,
        weight: OffsetWeight | None = None,
        lipschitz: float = 1.5,
    ) -> FieldBricks:
        """Signed distances near the surface of every frame, in bricks of 8 x 8 x 8 samples.

        Samples are left out, in blocks of 8^3 and then of 4^3, where the field at a block's corners agrees in
        sign and is, on average, more than `lipschitz` times as far from zero as a point of the block can be
        from them; what contradicts a sign is evaluated until nothing does. See csrc/cuda/surface/field_band.cuh.
        """
        with self._runner.guard():
            return find_bricks(
                self._runner, self._axes(axes), self.frames(biases), weight, lipschitz, self._most_points
            )

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

        Arguments and results are those of :meth:`facetalk.ops.field.cpu.PackedField.invert`, on the device, but
        that every frame's search begins at `starts`, and not where the frame before ended.
        """
        goal = self._array(targets, "targets", (3,))
        first = goal if starts is None else self._array(starts, "starts", (3,))
        if first.shape != goal.shape:
            raise ValueError(f"starts: expected shape {tuple(goal.shape)}, got {tuple(first.shape)}")
        with self._runner.guard():
            frames = self.frames(biases)
            if frames is None:
                raise ValueError("biases: expected frames to invert, got None")
            if len(frames) == 0 or len(goal) == 0:
                return self._runner.empty(len(frames), len(goal), 3), self._runner.empty(
                    len(frames), len(goal)
                )
            walk = Inversion(self._runner, goal, first, frames, weight, self._most_points)
            walk.run(tolerance, iterations)
            return walk.state[..., :3].contiguous(), walk.state[..., 6].contiguous()

    def frames(self, biases: Sequence[Tensor] | None) -> Tensor | None:
        """Pack frames: per deformation layer (T, out) to rows (T, bias_count) on the device.

        Raises:
            ValueError: the field has no deformation, or a shape does not fit a layer (named).
        """
        if biases is None:
            return None
        layers = self.source.deformation
        if layers is None:
            raise ValueError("biases: expected None, as this field has no deformation")
        if len(biases) != len(layers):
            raise ValueError(f"biases: expected {len(layers)} layers, got {len(biases)}")
        for i, (bias, (hidden, coords)) in enumerate(zip(biases, layers, strict=True)):
            outputs = (hidden if hidden is not None else coords).shape[1]  # type: ignore[union-attr]
            if bias.ndim != 2 or bias.shape[1] != outputs or len(bias) != len(biases[0]):
                raise ValueError(
                    f"biases[{i}]: expected shape ({len(biases[0])}, {outputs}), got {tuple(bias.shape)}"
                )
        return pack_biases(biases, self.device)

    def _parts(self, frames: int, n: int) -> Iterator[tuple[int, int, int, int]]:
        """(frame, end, point, end) of parts that fit the workspace and lie in one piece in the outputs."""
        if n == 0:
            return
        step = max(1, self._most_points // n)
        for t in range(0, frames, step):
            for a in range(0, n, self._most_points):
                yield t, min(frames, t + step), a, min(n, a + self._most_points)

    def _run(
        self, points: Tensor, frames: Tensor | None, weight: OffsetWeight | None, out: dict[str, Tensor]
    ) -> None:
        """Evaluates one part: points (n, C) in all of `frames`; outputs (T, n, ...) in one piece."""
        runner = self._runner
        derive = "gradient" in out or "jacobian" in out
        wanted = {k: v for k, v in out.items() if k in ("sdf", "raw_sdf", "gradient")}
        if frames is not None:
            y, seed = runner.deform(points[None], None, frames, weight, out, derive=derive)
            if wanted:
                runner.blend(y, wanted, seed if "gradient" in out else None)
            return
        y = points.new_zeros(len(points), self.coords)
        y[:, : points.shape[1]] = points
        gradient = wanted.pop("gradient", None)
        if gradient is None:
            runner.blend(y, wanted, None)
            return
        # The kernels carry three tangents at a time; hyper-coordinates take another round.
        for first in range(0, points.shape[1], 3):
            eye = points.new_zeros(self.coords, 3)
            for d in range(min(3, self.coords - first)):
                eye[first + d, d] = 1.0
            part = runner.empty(len(y), 3)
            runner.blend(y, {**wanted, "gradient": part}, eye.expand(len(y), -1, -1).contiguous())
            columns = gradient[0, :, first : first + 3]
            columns.copy_(part[:, : columns.shape[1]])

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

    def _axes(self, axes: Sequence[Any]) -> list[Tensor]:
        if len(axes) != 3:
            raise ValueError(f"axes: expected three arrays of sample positions, got {len(axes)}")
        made = [self._runner.floats(torch.as_tensor(a).reshape(-1), "axes") for a in axes]
        if min(len(a) for a in made) == 0:
            raise ValueError("axes: expected at least one sample along every axis")
        return made


def _check_path(
    path: FieldPath, precision: Precision, source: FieldSource, core: Any, device: torch.device
) -> None:
    if path not in ("portable", "hopper"):
        raise ValueError(f"path: expected portable or hopper, got {path!r}")
    if path == "portable":
        return
    if precision == "float32":
        raise ValueError("path: expected portable in float32, got 'hopper', which is for 16 bit")
    if source.deformation is None:
        raise ValueError(
            "path: expected portable without a deformation, got 'hopper', which is for that alone"
        )
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        if missing := core.wgmma_missing():
            raise ValueError(f"path: expected portable, got 'hopper', but {missing}")


def _load_core() -> Any:
    core = getattr(load(), "cuda_field", None)
    if core is None:
        raise RuntimeError("field: facetalk's compiled core was built without CUDA; use device='cpu'")
    return core
