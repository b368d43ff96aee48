"""The bricks of a lattice that hold a field's surface, on the GPU; see csrc/cuda/surface/field_band.cuh."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from facetalk.ops.cuda.field_launch import FieldRunner
from facetalk.ops.field.kernels import constants
from facetalk.ops.field.source import OffsetWeight

_BLOCK = 2
"""Side of the blocks in which samples are evaluated."""
_TOGETHER = 128
"""Points of one frame that the kernels take together; lists are filled up to whole groups."""
OUTSIDE, INSIDE = -1, -2


@dataclasses.dataclass(frozen=True)
class FieldBricks:
    """A sampled field of which only the bricks near the surface are stored; see csrc/core/brick_volume.h.

    Attributes:
        table: (T, bx, by, bz) int32: number of a stored brick, -1 where all is outside, -2 inside.
        samples: (stored, 8, 8, 8) float32 of all frames, z fastest; +1 or -1 where a sample of a stored brick
            is far from the surface. Those beyond the lattice mean nothing.
        shape: samples of the lattice along x, y, z.
        evaluated: points at which the field was evaluated.
    """

    table: Tensor
    samples: Tensor
    shape: tuple[int, int, int]
    evaluated: int

    def dense(self) -> Tensor:
        """All samples (T, nx, ny, nz); +1 and -1 where a brick is not stored."""
        frames, bx, by, bz = self.table.shape
        ends = torch.ones(2, 8, 8, 8, device=self.samples.device)
        ends[0] = -1.0
        bricks = torch.cat([self.samples, ends])[self.table.long()]  # -1 and -2 count from the end
        volume = bricks.permute(0, 1, 4, 2, 5, 3, 6).reshape(frames, 8 * bx, 8 * by, 8 * bz)
        return volume[:, : self.shape[0], : self.shape[1], : self.shape[2]].contiguous()


def find_bricks(
    runner: FieldRunner,
    axes: Sequence[Tensor],
    frames: Tensor | None,
    weight: OffsetWeight | None,
    lipschitz: float,
    most_points: int,
) -> FieldBricks:
    """Find and evaluate the samples near the surface, in blocks of 2^3 that are put together as bricks.

    Args:
        runner: the bound field.
        axes: sample positions along x, y, z, on the device.
        frames: packed biases (T, bias_count), or None for the canonical field.
        weight: spatial weight of the offset.
        lipschitz: the steepest that the field may be where samples are left out.
        most_points: points in flight at a time.
    """
    return _Search(runner, axes, frames, weight, lipschitz, most_points).run()


def per_frame(frame: Tensor, frames: int) -> Tensor:
    """How often each of frames is named in an ascending list (n,) int64: (frames,) int64."""
    numbers = torch.arange(frames + 1, device=frame.device)
    return torch.searchsorted(frame, numbers).diff()


def by_frame(found: Tensor, frame: Tensor, frames: int, together: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lists numbers (n,) that belong to frames (n,), ascending, so that each group of `together` is of one.

    How many groups that makes is known without waiting for the device, but for at most one a frame: those are
    there, and empty.

    Returns:
        the numbers, each frame's filled up with -1 to a multiple of `together`; the frame (int32) of each
        group; the place (int32) of each number.
    """
    device = found.device
    counts = per_frame(frame, frames)
    groups = (counts + together - 1) // together
    ends = groups.cumsum(0)
    before = (ends - groups) * together - (counts.cumsum(0) - counts)
    slot = torch.arange(len(found), device=device) + before[frame]
    most = -(-len(found) // together) + max(0, min(frames - 1, len(found)))
    row = torch.searchsorted(ends, torch.arange(most, device=device), right=True).clamp_(
        max=max(0, frames - 1)
    )
    slots = torch.full((most * together,), -1, dtype=torch.int64, device=device)
    slots[slot] = found
    return slots, row.to(torch.int32), slot.to(torch.int32)


class _Search:
    def __init__(
        self,
        runner: FieldRunner,
        axes: Sequence[Tensor],
        frames: Tensor | None,
        weight: OffsetWeight | None,
        lipschitz: float,
        most_points: int,
    ) -> None:
        self.runner, self.axes, self.frames, self.weight = runner, axes, frames, weight
        self.lipschitz, self.most_points, self.stream = lipschitz, most_points, runner.stream()
        self.brick = constants().brick
        self.shape = (len(axes[0]), len(axes[1]), len(axes[2]))
        self.count = 1 if frames is None else len(frames)
        self.where = [a.data_ptr() for a in axes]
        self.blocks = self._describe(_BLOCK)
        # Of every second sample along an axis, and the last.
        self.node_axes = [
            axis[torch.arange((n + 1) // 2 + 1, device=runner.device).mul_(2).clamp_(max=n - 1)]
            for axis, n in zip(axes, self.shape, strict=True)
        ]
        sizes = [len(axis) for axis in self.node_axes]
        # The last is for what nobody listed, here and in tables.
        self.node_room = runner.empty(self.count * math.prod(sizes) + 1)
        self.nodes = self.node_room[:-1].view(self.count, *sizes)
        self.evaluated = 0

    def run(self) -> FieldBricks:
        table = self._coarse()
        for side in (self.brick // 2, _BLOCK):
            self._between(table, 2 * side)
            table = self._classify(side, table)
        samples = self._follow(table)
        return self._together(table[:-1].view(self.count, *self._sides(_BLOCK)), samples)

    def _sides(self, side: int) -> list[int]:
        """Blocks of a side along each axis."""
        return [-(-n // side) for n in self.shape]

    def _describe(self, side: int) -> Any:
        return self.runner.core.Bricks(axes=self.where, shape=list(self.shape), frames=self.count, side=side)

    def _classify(self, side: int, parents: Tensor | None) -> Tensor:
        """The table of blocks of a side, flat and with the place for what nobody lists, from the nodes that
        are there.
        """
        count = self.count * math.prod(self._sides(side))
        table = torch.empty(count + 1, dtype=torch.int32, device=self.runner.device)
        self.runner.core.classify(
            self._describe(side), self.stream, nodes=self.nodes.data_ptr(),
            parents=0 if parents is None else parents.data_ptr(), lipschitz=self.lipschitz,
            table=table.data_ptr(),
        )  # fmt: skip
        return table

    def _coarse(self) -> Tensor:
        """The table of bricks, from every eighth sample."""
        runner, stride = self.runner, self.brick // 2
        at = [
            torch.arange(-(-n // self.brick) + 1, device=runner.device).mul_(stride).clamp_(max=len(axis) - 1)
            for n, axis in zip(self.shape, self.node_axes, strict=True)
        ]
        corners = torch.cartesian_prod(*(axis[i] for axis, i in zip(self.node_axes, at, strict=True)))
        place = self._flat(*torch.cartesian_prod(*at).unbind(1))
        step = max(1, self.most_points // len(corners))
        for t in range(0, self.count, step):
            rows = None if self.frames is None else self.frames[t : t + step]
            frames = min(step, self.count - t)
            for a in range(0, len(corners), self.most_points):
                end = a + self.most_points
                part = corners[None, a:end].contiguous()
                y, _ = runner.deform(part, None, rows, self.weight, {}, derive=False)
                self.nodes.view(self.count, -1)[t : t + frames, place[a:end]] = self._signed(y).view(
                    frames, -1
                )
        self.evaluated += self.count * len(corners)
        return self._classify(self.brick, None)

    def _between(self, table: Tensor, side: int) -> None:
        """Evaluates the nodes of the wanted blocks of a table that halve their edges."""
        runner = self.runner
        mask = (table[:-1] == runner.core.brick_wanted).view(self.count, *self._sides(side))
        for axis in (1, 2, 3):
            wide = mask.repeat_interleave(2, dim=axis)
            shape = list(wide.shape)
            shape[axis] = 1
            none = wide.new_zeros(shape)
            mask = torch.cat([wide, none], axis) | torch.cat([none, wide], axis)
        mask[:, ::2, ::2, ::2] = False  # their corners, which are there
        frame, *at = torch.nonzero(mask).unbind(1)
        stride = side // 4
        at = [(i * stride).clamp_(max=len(axis) - 1) for i, axis in zip(at, self.node_axes, strict=True)]
        place = frame * (self.nodes.numel() // self.count) + self._flat(*at)
        slots, row, _ = by_frame(place, frame, self.count, _TOGETHER)
        groups = max(1, self.most_points // _TOGETHER)
        for a in range(0, len(row), groups):
            part, of = slots[a * _TOGETHER : (a + groups) * _TOGETHER], row[a : a + groups]
            points = self._points(part).view(len(of), _TOGETHER, 3)
            y, _ = runner.deform(points, of, self.frames, self.weight, {}, derive=False)
            self.node_room[part] = self._signed(y)
            self.evaluated += len(part)

    def _flat(self, i: Tensor, j: Tensor, k: Tensor) -> Tensor:
        """Numbers of nodes of a frame by their places along the axes."""
        return (i * self.nodes.shape[2] + j) * self.nodes.shape[3] + k

    def _points(self, nodes: Tensor) -> Tensor:
        """Positions (n, 3) of nodes by their numbers in all frames; any where it is -1."""
        rest = nodes.clamp(min=0)
        _, y, z = (len(axis) for axis in self.node_axes)
        k = rest % z
        j = rest // z % y
        i = rest // (y * z) % len(self.node_axes[0])
        return torch.stack([axis[at] for axis, at in zip(self.node_axes, (i, j, k), strict=True)], dim=-1)

    def _signed(self, y: Tensor) -> Tensor:
        """Values of nodes (n,): the size without NPHM's fade far from the anchors, and the sign."""
        values = {name: self.runner.empty(len(y)) for name in ("sdf", "raw_sdf")}
        self.runner.blend(y, values, None)
        size = values["raw_sdf"].abs()
        return torch.where(values["sdf"] < 0, -size, size)

    def _follow(self, blocks: Tensor) -> Tensor:
        """Evaluates wanted blocks until nothing contradicts, and numbers them in the table: (stored, 8)."""
        runner = self.runner
        samples = runner.empty(0, _BLOCK**3)
        wanted = (blocks[:-1] == runner.core.brick_wanted).to(torch.uint8)
        together = _TOGETHER // _BLOCK**3
        while True:
            found = torch.nonzero(wanted).view(-1)
            if len(found) == 0:
                return samples
            slots, row, slot = by_frame(found, found // (len(wanted) // self.count), self.count, together)
            blocks[found] = slot + len(samples)
            fresh = [values.view(-1, _BLOCK**3) for values in self._evaluate(slots, row)]
            samples = torch.cat([samples, *fresh])
            runner.core.contradictions(
                self.blocks,
                self.stream,
                table=blocks.data_ptr(),
                samples=samples.data_ptr(),
                wanted=wanted.data_ptr(),
            )

    def _evaluate(self, slots: Tensor, row: Tensor) -> Iterator[Tensor]:
        """The field at the samples of each block listed, part by part: (listed, 8)."""
        runner = self.runner
        together = len(slots) // len(row)
        groups = max(1, self.most_points // _TOGETHER)
        for a in range(0, len(row), groups):
            part, frame = slots[a * together : (a + groups) * together], row[a : a + groups]
            points = runner.empty(len(frame), _TOGETHER, 3)
            runner.core.brick_points(
                self.blocks,
                self.stream,
                list=part.data_ptr(),
                listed=len(part),
                side=_BLOCK,
                step=1,
                points=points.data_ptr(),
            )
            y, _ = runner.deform(points, frame, self.frames, self.weight, {}, derive=False)
            values = runner.empty(len(part), _BLOCK**3)
            runner.blend(y, {"sdf": values}, None)
            self.evaluated += len(y)
            yield values

    def _together(self, blocks: Tensor, samples: Tensor) -> FieldBricks:
        """Bricks of 8^3 from blocks; one that was left out of a stored brick is +1 or -1 everywhere."""
        device, along = self.runner.device, self.brick // _BLOCK
        sides = [-(-n // self.brick) for n in self.shape]
        whole = torch.full(
            (self.count, *(along * n for n in sides)), OUTSIDE, dtype=torch.int32, device=device
        )
        whole[:, : blocks.shape[1], : blocks.shape[2], : blocks.shape[3]] = blocks
        for axis in (1, 2, 3):  # blocks beyond the lattice are like their neighbours before it
            last = whole.narrow(axis, blocks.shape[axis] - 1, 1)
            beyond = whole.narrow(axis, blocks.shape[axis], whole.shape[axis] - blocks.shape[axis])
            beyond.copy_(torch.where(last >= 0, OUTSIDE, last).expand_as(beyond))
        parts = whole.view(self.count, sides[0], along, sides[1], along, sides[2], along)
        parts = parts.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, along**3)
        stored = (parts >= 0).any(1)
        # All blocks of a brick that is not stored have one sign, or they would contradict each other.
        table = torch.where(stored, (stored.cumsum(0) - 1).to(torch.int32), parts[:, 0])
        ends = torch.ones(2, _BLOCK**3, device=device)
        ends[0] = -1.0
        named = parts[torch.nonzero(stored).view(-1)].long()
        children = torch.cat([samples, ends])[named]  # -1 and -2 count from the end
        shape = (-1, along, along, along, _BLOCK, _BLOCK, _BLOCK)
        made = children.view(shape).permute(0, 1, 4, 2, 5, 3, 6).reshape(-1, *[self.brick] * 3)
        return FieldBricks(table.view(self.count, *sides), made, self.shape, self.evaluated)
