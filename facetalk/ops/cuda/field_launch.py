"""Launches the CUDA field's kernels on one batch of points, with memory and streams from torch."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from facetalk.ops.cuda.device_axes import AxesCache
from facetalk.ops.cuda.field_pack import (
    FieldPath,
    PackedNetwork,
    Precision,
    check_source,
    pack_biases,
    pack_network,
    pad,
)
from facetalk.ops.cuda.lifetime import Kept
from facetalk.ops.field.source import (
    DEFAULT_CULL,
    HALF_CULL,
    FieldSource,
    OffsetWeight,
    cull_to_cut,
)


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def parts(frames: int, n: int, most_points: int) -> Iterator[tuple[int, int, int, int]]:
    """(frame, end, point, end) of parts that fit the workspace and lie in one piece in the outputs."""
    if n == 0:
        return
    step = max(1, most_points // n)
    for t in range(0, frames, step):
        for a in range(0, n, most_points):
            yield t, min(frames, t + step), a, min(n, a + most_points)


class FieldRunner:
    """A bound head on a device, ready to be launched; see `facetalk.ops.cuda.field.CudaField`."""

    def __init__(
        self,
        source: FieldSource,
        cull: float | None,
        precision: Precision,
        path: FieldPath,
        device: torch.device,
        core: Any,
        shared_limit: int,
    ) -> None:
        check_source(source)
        self.source, self.precision, self.device = source, precision, device
        # By whether members are computed in float32: then what is left out is below that.
        self._cuts = {
            exactly: cull_to_cut(default if cull is None else cull)
            for exactly, default in ((True, DEFAULT_CULL), (False, HALF_CULL))
        }
        self.core, self._shared_limit, self._path = core, shared_limit, path
        self.coords = int(source.identity[0][1].shape[-1])  # type: ignore[union-attr]
        self.kept = Kept()
        self.axes = AxesCache(device, self.kept.add).take
        self._lock = threading.Lock()
        self._networks: dict[tuple[str, Precision], PackedNetwork] = {}
        self._plans: dict[tuple[str, Precision, bool], Any] = {}
        with self.guard():
            self.anchors = self.floats(source.anchors, "anchors")
            self.mirror = self.floats(source.mirror, "mirror")
            self.member_set = source.member_set.to(device, torch.int32).contiguous()
            self.member_bias = pack_biases(source.identity_bias, device)
            self.kept.add(self.anchors, self.mirror, self.member_set, self.member_bias)
            # Packing waits for the device, so it is done now and not at a first call that may be captured.
            for name in ("identity", "deformation")[: 1 if source.deformation is None else 2]:
                self._kernel(name, derive=False)
            self._wait()

    def pack_frames(self, biases: Sequence[Tensor] | None) -> Tensor | None:
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

    def evaluate(
        self, points: Tensor, frames: Tensor | None, weight: OffsetWeight | None, out: dict[str, Tensor]
    ) -> None:
        """Evaluates one part: points (n, C) in all of `frames`; outputs (T, n, ...) in one piece."""
        derive = "gradient" in out or "jacobian" in out
        wanted = {k: v for k, v in out.items() if k in ("sdf", "raw_sdf", "gradient")}
        if frames is not None:
            y, seed = self.deform(points[None], None, frames, weight, out, derive=derive)
            if wanted:
                self.blend(y, wanted, seed if "gradient" in out else None)
            return
        y = points.new_zeros(len(points), self.coords)
        y[:, : points.shape[1]] = points
        gradient = wanted.pop("gradient", None)
        if gradient is None:
            self.blend(y, wanted, None)
            return
        # The kernels carry three tangents at a time; hyper-coordinates take another round.
        for first in range(0, points.shape[1], 3):
            eye = points.new_zeros(self.coords, 3)
            for d in range(min(3, self.coords - first)):
                eye[first + d, d] = 1.0
            part = self.empty(len(y), 3)
            self.blend(y, {**wanted, "gradient": part}, eye.expand(len(y), -1, -1).contiguous())
            columns = gradient[0, :, first : first + 3]
            columns.copy_(part[:, : columns.shape[1]])

    def deform(
        self,
        points: Tensor,
        row: Tensor | None,
        frames: Tensor | None,
        weight: OffsetWeight | None,
        out: dict[str, Tensor],
        *,
        derive: bool,
        exact: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Run the deformation.

        Args:
            points: (S, L, 3), or (1, L, 3) shared by all frames where `row` is None.
            row: (S,) int32: the frame of each segment.
            frames: packed biases (T, bias_count); None: no deformation.
            weight: spatial weight of the offset.
            out: may hold "offsets" and "jacobian" to be filled, contiguous.
            derive: also return the derivatives; float32.
            exact: compute in float32 whatever the field's precision.

        Returns:
            canonical queries (n, C), and their derivatives by the point (n, C, 3) or None.
        """
        if frames is None:
            y = points.new_zeros(points.shape[0] * points.shape[1], self.coords)
            y[:, :3] = points.reshape(-1, 3)
            return y, None
        shared = row is None
        count = len(frames) if row is None else len(row)
        n = count * points.shape[1]
        y = self.empty(n, self.coords)
        seed = self.empty(n, self.coords, 3) if derive else None
        network, plan = self._kernel("deformation", derive, exact)
        self.core.deform(
            network.mlp,
            plan,
            self.stream(),
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

    def blend(self, y: Tensor, out: dict[str, Tensor], seed: Tensor | None) -> None:
        """Run the identity ensemble at canonical queries (n, C).

        `out` may hold "sdf", "raw_sdf" and "gradient" to be filled, contiguous; the last needs `seed`
        (n, C, 3), the derivatives of the queries by the point.
        """
        n, source = len(y), self.source
        members, blocks = len(self.anchors) + 1, pad(n, self.core.route_block) // self.core.route_block
        near = min(source.neighbours, members - 1) if source.blending == "mononphm" else members - 1
        network, plan = self._kernel("identity", seed is not None)
        whole = lambda *shape: torch.empty(shape, dtype=torch.int32, device=self.device)  # noqa: E731
        mask = whole(members, blocks, self.core.route_block // 32)
        block_start, total = whole(members, blocks), whole(members)
        start, tile_start, point = whole(members + 1), whole(members + 1), whole(n * (near + 1))
        inverse, unshrink, sigma, scale_from = self.empty(n), self.empty(n), self.empty(n), whole(n)
        value = self.empty(n * (near + 1))
        slope = None if seed is None else self.empty(n * (near + 1), 3)
        stream = self.stream()
        route = self.core.Route(
            blending=source.blending,
            anchors=members - 1,
            coords=self.coords,
            neighbours=source.neighbours,
            blend_std=source.blend_std,
            cut=self._cuts[seed is not None or self.precision == "float32"],
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
        self.core.route(route, plan.points, stream)
        self.core.members(
            network.mlp,
            plan,
            stream,
            route,
            seed=_address(seed),
            mirror=self.mirror.data_ptr(),
            member_set=self.member_set.data_ptr(),
            bias=self.member_bias.data_ptr(),
            value=value.data_ptr(),
            slope=_address(slope),
        )
        self.core.combine(
            route,
            stream,
            value=value.data_ptr(),
            slope=_address(slope),
            seed=_address(seed),
            sdf=_address(out.get("sdf")),
            raw_sdf=_address(out.get("raw_sdf")),
            gradient=_address(out.get("gradient")),
        )

    def _kernel(self, name: str, derive: bool, exact: bool = False) -> tuple[PackedNetwork, Any]:
        """The packed network of a name, and how it runs; both are made once."""
        precision: Precision = "float32" if derive or exact else self.precision
        with self._lock:  # two threads would pack twice, each on its own stream
            if (name, precision) not in self._networks:
                if self.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
                    raise RuntimeError(
                        f"field: the {name}'s weights in {precision} are packed at their first use, which a "
                        "CUDA graph cannot hold; call it once before"
                    )
                layers = self.source.identity if name == "identity" else self.source.deformation
                assert layers is not None
                staged = self._path == "hopper" and name == "deformation" and precision != "float32"
                self._networks[name, precision] = pack_network(
                    self.core, layers, precision, self.device, staged=staged
                )
                self.kept.add(self._networks[name, precision].coord_weights)
                self.kept.add(self._networks[name, precision].weights)
                self._wait()
        network = self._networks[name, precision]
        key = (name, precision, derive)
        if key not in self._plans:
            self._plans[key] = self.core.Plan(
                network.mlp,
                precision=precision,
                tangents=derive,
                shared_limit=self._shared_limit,
            )
        return network, self._plans[key]

    def _wait(self) -> None:
        """Waits for what this thread's stream makes, because the next call may be on another one."""
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()

    def empty(self, *shape: int) -> Tensor:
        """An uninitialised float32 tensor on the field's device."""
        return torch.empty(shape, dtype=torch.float32, device=self.device)

    def stream(self) -> int:
        """The current stream of the field's device, as the kernels take it."""
        return self.kept.use(self.device)

    def guard(self) -> contextlib.AbstractContextManager[Any]:
        """Makes the field's device the current one for a while."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else contextlib.nullcontext()

    def floats(self, value: Tensor, name: str) -> Tensor:
        """`value` as finite float32 on the field's device; the message names it."""
        tensor = value.detach().to(self.device, torch.float32).contiguous()
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name}: expected finite numbers")
        return tensor
