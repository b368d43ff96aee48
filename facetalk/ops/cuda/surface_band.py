"""The bricks of a lattice that hold a field's surface, on the GPU; see csrc/cuda/surface/field_band.cuh."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from facetalk.ops.cuda.field_launch import FieldRunner
from facetalk.ops.field.kernels import constants
from facetalk.ops.field.source import OffsetWeight

_BLOCK = 4
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
    """Find and evaluate the samples near the surface, in blocks of 4^3 that are put together as bricks.

    Args:
        runner: the bound field.
        axes: sample positions along x, y, z, on the device.
        frames: packed biases (T, bias_count), or None for the canonical field.
        weight: spatial weight of the offset.
        lipschitz: how much steeper than a distance the field may be where samples are left out.
        most_points: points in flight at a time.
    """
    return _Search(runner, axes, frames, weight, lipschitz, most_points).run()


def per_frame(frame: Tensor, frames: int) -> Tensor:
    """How often each of frames is named in an ascending list (n,) int64: (frames,) int64."""
    numbers = torch.arange(frames + 1, device=frame.device)
    return torch.searchsorted(frame, numbers).diff()


def by_frame(found: Tensor, frame: Tensor, frames: int, together: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lists numbers (n,) that belong to frames (n,), ascending, so that each group of `together` is of one.

    Returns:
        the numbers, each frame's filled up with -1 to a multiple of `together`; the frame (int32) of each
        group; the place (int32) of each number.
    """
    device = found.device
    counts = per_frame(frame, frames)
    groups = (counts + together - 1) // together
    before = (groups.cumsum(0) - groups) * together - (counts.cumsum(0) - counts)
    slot = torch.arange(len(found), device=device) + before[frame]
    row = torch.repeat_interleave(torch.arange(frames, dtype=torch.int32, device=device), groups)
    slots = torch.full((len(row) * together,), -1, dtype=torch.int64, device=device)
    slots[slot] = found
    return slots, row, slot.to(torch.int32)


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
        where, shape = [a.data_ptr() for a in axes], list(self.shape)
        make = runner.core.Bricks
        self.bricks = make(axes=where, shape=shape, frames=self.count, side=self.brick)
        self.blocks = make(axes=where, shape=shape, frames=self.count, side=_BLOCK)
        self.evaluated = 0

    def run(self) -> FieldBricks:
        table = self._coarse()
        blocks = table
        for axis, n in enumerate(self.shape):
            # A block that is not looked at has the sign of its brick.
            blocks = blocks.repeat_interleave(2, dim=axis + 1).narrow(axis + 1, 0, -(-n // _BLOCK))
        blocks = blocks.contiguous()
        self._fine(table, blocks)
        samples = self._follow(blocks)
        return self._together(blocks, samples)

    def _coarse(self) -> Tensor:
        """The table of bricks, from every eighth sample."""
        runner, device = self.runner, self.runner.device
        nodes = []
        for axis in self.axes:
            bricks = -(-len(axis) // self.brick)
            at = torch.arange(bricks + 1, device=device) * self.brick
            nodes.append(axis[at.clamp_(max=len(axis) - 1)])
        corners = torch.cartesian_prod(*nodes)
        at_nodes = {name: runner.empty(self.count, len(corners)) for name in ("sdf", "raw_sdf")}
        step = max(1, self.most_points // len(corners))
        for t in range(0, self.count, step):
            rows = None if self.frames is None else self.frames[t : t + step]
            for a in range(0, len(corners), self.most_points):
                end = a + self.most_points
                part = corners[None, a:end].contiguous()
                y, _ = runner.deform(part, None, rows, self.weight, {}, derive=False)
                runner.blend(y, {name: value[t : t + step, a:end] for name, value in at_nodes.items()}, None)
        self.evaluated += self.count * len(corners)
        table = torch.empty((self.count, *(len(n) - 1 for n in nodes)), dtype=torch.int32, device=device)
        runner.core.classify(
            self.bricks,
            self.stream,
            node_sdf=at_nodes["sdf"].data_ptr(),
            node_raw=at_nodes["raw_sdf"].data_ptr(),
            lipschitz=self.lipschitz,
            table=table.data_ptr(),
        )
        return table

    def _fine(self, table: Tensor, blocks: Tensor) -> None:
        """Fills the table of blocks where bricks are wanted, from every fourth sample."""
        # Four bricks' 27 nodes come close to the 128 points that the kernels take together.
        slots, row, _ = self._slots(table.view(-1) == self.runner.core.brick_wanted, table, 4)
        for part, values in self._evaluate(self.bricks, slots, row, 3, _BLOCK, ("sdf", "raw_sdf")):
            self.runner.core.classify_blocks(
                self.bricks,
                self.blocks,
                self.stream,
                list=part.data_ptr(),
                listed=part.numel(),
                node_sdf=values["sdf"].data_ptr(),
                node_raw=values["raw_sdf"].data_ptr(),
                lipschitz=self.lipschitz,
                table=blocks.data_ptr(),
            )

    def _follow(self, blocks: Tensor) -> Tensor:
        """Evaluates wanted blocks until nothing contradicts, and numbers them in the table: (stored, 64)."""
        runner = self.runner
        samples = runner.empty(0, _BLOCK**3)
        flat = blocks.view(-1)
        wanted = (flat == runner.core.brick_wanted).to(torch.uint8)
        while True:
            slots, row, slot_of = self._slots(wanted != 0, blocks, 2)
            if len(slots) == 0:
                return samples
            flat[slots[slots >= 0]] = slot_of + len(samples)
            fresh = [
                values["sdf"].view(-1, _BLOCK**3)
                for _, values in self._evaluate(self.blocks, slots, row, _BLOCK, 1, ("sdf",))
            ]
            samples = torch.cat([samples, *fresh])
            runner.core.contradictions(
                self.blocks,
                self.stream,
                table=blocks.data_ptr(),
                samples=samples.data_ptr(),
                wanted=wanted.data_ptr(),
            )

    def _slots(self, mask: Tensor, table: Tensor, together: int) -> tuple[Tensor, Tensor, Tensor]:
        """Lists the masked entries of a table: their numbers, each frame's filled up with -1 to a multiple of
        `together`; the frame (int32) of each group of `together`; the place (int32) of each entry.
        """
        found = torch.nonzero(mask).view(-1)
        return by_frame(found, found // (table.numel() // self.count), self.count, together)

    def _evaluate(
        self, bricks: Any, slots: Tensor, row: Tensor, side: int, step: int, names: Sequence[str]
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """The field at side^3 samples of each slot, part by part: the slots of one, and their values."""
        runner = self.runner
        if len(row) == 0:
            return
        together = len(slots) // len(row)
        length = together * side**3
        groups = max(1, self.most_points // length)
        for a in range(0, len(row), groups):
            part, frame = slots[a * together : (a + groups) * together], row[a : a + groups]
            points = runner.empty(len(frame), length, 3)
            runner.core.brick_points(
                bricks,
                self.stream,
                list=part.data_ptr(),
                listed=len(part),
                side=side,
                step=step,
                points=points.data_ptr(),
            )
            y, _ = runner.deform(points, frame, self.frames, self.weight, {}, derive=False)
            values = {name: runner.empty(len(part), side**3) for name in names}
            runner.blend(y, values, None)
            self.evaluated += len(y)
            yield part, values

    def _together(self, blocks: Tensor, samples: Tensor) -> FieldBricks:
        """Bricks of 8^3 from blocks; one that was left out of a stored brick is +1 or -1 everywhere."""
        device = self.runner.device
        sides = [-(-n // self.brick) for n in self.shape]
        whole = torch.full((self.count, *(2 * n for n in sides)), OUTSIDE, dtype=torch.int32, device=device)
        whole[:, : blocks.shape[1], : blocks.shape[2], : blocks.shape[3]] = blocks
        for axis in (1, 2, 3):  # blocks beyond the lattice are like their neighbours before it
            if blocks.shape[axis] < whole.shape[axis]:
                last = whole.select(axis, blocks.shape[axis] - 1)
                whole.select(axis, blocks.shape[axis]).copy_(torch.where(last >= 0, OUTSIDE, last))
        parts = whole.view(self.count, sides[0], 2, sides[1], 2, sides[2], 2).permute(0, 1, 3, 5, 2, 4, 6)
        parts = parts.reshape(-1, 8)
        stored = (parts >= 0).any(1)
        # All blocks of a brick that is not stored have one sign, or they would contradict each other.
        table = torch.where(stored, (stored.cumsum(0) - 1).to(torch.int32), parts[:, 0])
        ends = torch.ones(2, _BLOCK**3, device=device)
        ends[0] = -1.0
        children = torch.cat([samples, ends])[parts[stored].long()]  # -1 and -2 count from the end
        cubes = children.view(-1, 2, 2, 2, _BLOCK, _BLOCK, _BLOCK).permute(0, 1, 4, 2, 5, 3, 6)
        made = cubes.reshape(-1, self.brick, self.brick, self.brick)
        return FieldBricks(table.view(self.count, *sides), made, self.shape, self.evaluated)
