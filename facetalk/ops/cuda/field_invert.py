"""Inverting a deformation on the GPU; see csrc/cuda/field/field_invert.cuh."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facetalk.ops.cuda.field_launch import FieldRunner
from facetalk.ops.field.source import OffsetWeight

# Listed walkers of a frame are filled up to whole segments of this many, each with the biases of its frame.
_SEGMENT = 32


class Inversion:
    """Walkers (frames, targets) on their way from `starts` (N, 3) to x with x + offset(x) = `targets` (N, 3).

    Args:
        runner: the bound field.
        targets: (N, 3) on the device.
        starts: (N, 3) on the device.
        frames: packed biases (T, bias_count).
        weight: spatial weight of the offset.
        most_points: points in flight at a time.
    """

    def __init__(
        self,
        runner: FieldRunner,
        targets: Tensor,
        starts: Tensor,
        frames: Tensor,
        weight: OffsetWeight | None,
        most_points: int,
    ) -> None:
        self._runner, self._targets, self._frames, self._weight = runner, targets, frames, weight
        self._most = max(1, most_points // _SEGMENT)
        self.state = runner.empty(len(frames), len(targets), runner.core.walker_floats)
        every = max(1, most_points // len(targets))
        for t in range(0, len(frames), every):
            rows = frames[t : t + every]
            shape = (len(rows), len(targets), runner.coords)
            out = {"offsets": runner.empty(*shape), "jacobian": runner.empty(*shape, 3)}
            runner.deform(starts[None], None, rows, weight, out, derive=True)
            walk = self._walk(self.state[t : t + every], None, out)
            runner.core.invert_start(walk, runner.stream(), starts=starts.data_ptr())

    def run(self, tolerance: float, iterations: int) -> None:
        """Steps until every walker is at rest, at most `iterations` times."""
        runner = self._runner
        due = torch.empty(self.state.shape[:2], dtype=torch.uint8, device=runner.device)
        for step in range(1, iterations + 1):
            walk = self._walk(self.state, None, {})
            runner.core.invert_plan(walk, runner.stream(), step=step, tolerance=tolerance, due=due.data_ptr())
            # This number, and the lengths of the lists below, are all that the host waits for.
            if due.count_nonzero().item() == 0:
                return
            self._visit(due == 3, derive=True)
            self._visit(due != 0, derive=False)

    def _visit(self, mask: Tensor, *, derive: bool) -> None:
        """Sharpens (`derive`) or advances the walkers in the mask (T, N)."""
        walkers, row = _segments(mask)
        runner = self._runner
        for s in range(0, len(row), self._most):
            part, frame = walkers[s : s + self._most], row[s : s + self._most]
            points = runner.empty(*part.shape, 3)
            out = {"offsets": runner.empty(*part.shape, runner.coords)}
            if derive:
                out["jacobian"] = runner.empty(*part.shape, runner.coords, 3)
            walk = self._walk(self.state, part, out)
            stream = runner.stream()
            runner.core.invert_points(walk, stream, ahead=not derive, points=points.data_ptr())
            runner.deform(points, frame, self._frames, self._weight, out, derive=derive, exact=True)
            if derive:
                runner.core.invert_sharpen(walk, stream)
            else:
                runner.core.invert_advance(walk, stream, points=points.data_ptr())

    def _walk(self, state: Tensor, part: Tensor | None, out: dict[str, Tensor]) -> Any:
        offsets, jacobian = out.get("offsets"), out.get("jacobian")
        return self._runner.core.Walk(
            state=state.data_ptr(),
            count=state.shape[0] * state.shape[1],
            target=self._targets.data_ptr(),
            targets=len(self._targets),
            list=0 if part is None else part.data_ptr(),
            listed=0 if part is None else part.numel(),
            outputs=self._runner.coords,
            offsets=0 if offsets is None else offsets.data_ptr(),
            jacobian=0 if jacobian is None else jacobian.data_ptr(),
        )


def _segments(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Lists the walkers in a mask (T, N): their numbers, frame by frame in segments (S, _SEGMENT) filled up
    with -1, and the frame of each segment (S,) int32.
    """
    frames, targets = mask.shape
    rank = mask.cumsum(1)
    segments = (rank[:, -1] + _SEGMENT - 1) // _SEGMENT
    first = segments.cumsum(0) - segments
    where = torch.nonzero(mask)
    slot = first[where[:, 0]] * _SEGMENT + rank[mask] - 1
    row = torch.repeat_interleave(torch.arange(frames, dtype=torch.int32, device=mask.device), segments)
    walkers = torch.full((len(row) * _SEGMENT,), -1, dtype=torch.int64, device=mask.device)
    walkers[slot] = where[:, 0] * targets + where[:, 1]
    return walkers.view(-1, _SEGMENT), row
