"""The bricks of a lattice that hold a field's surface, on the GPU; see csrc/cuda/field_band.cuh."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from facetalk.ops.field import OffsetWeight
from facetalk.ops.field_cuda_run import FieldRunner

_SAMPLES = 512
OUTSIDE, INSIDE = -1, -2


@dataclasses.dataclass(frozen=True)
class FieldBricks:
    """A sampled field of which only the bricks near the surface are stored; see csrc/core/brick_volume.h.

    Attributes:
        table: (T, bx, by, bz) int32: number of a stored brick, -1 where all is outside, -2 inside.
        samples: (stored, 8, 8, 8) float32 of all frames, z fastest; those beyond the lattice repeat its last.
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
    """Find and evaluate the bricks that hold the surface.

    Args:
        runner: the bound field.
        axes: sample positions along x, y, z, on the device.
        frames: packed biases (T, bias_count), or None for the canonical field.
        weight: spatial weight of the offset.
        lipschitz: how much steeper than a distance the field may be where a brick is left out.
        most_points: points in flight at a time.
    """
    shape = (len(axes[0]), len(axes[1]), len(axes[2]))
    count = 1 if frames is None else len(frames)
    core, stream, device = runner.core, runner.stream(), runner.device
    bricks = core.Bricks(axes=[a.data_ptr() for a in axes], shape=list(shape), frames=count)
    sides = tuple((n + 7) // 8 for n in shape)
    nodes = [
        a[torch.arange(0, 8 * b + 1, 8, device=device).clamp_(max=len(a) - 1)]
        for a, b in zip(axes, sides, strict=True)
    ]
    corners = torch.cartesian_prod(*nodes)
    at_nodes = {name: runner.empty(count, len(corners)) for name in ("sdf", "raw_sdf")}
    step = max(1, most_points // len(corners))
    for t in range(0, count, step):
        rows = None if frames is None else frames[t : t + step]
        for a in range(0, len(corners), most_points):
            here = {name: value[t : t + step, a : a + most_points] for name, value in at_nodes.items()}
            _evaluate(runner, corners[None, a : a + most_points], None, rows, weight, here)
    table = torch.empty((count, *sides), dtype=torch.int32, device=device)
    core.classify(
        bricks,
        stream,
        node_sdf=at_nodes["sdf"].data_ptr(),
        node_raw=at_nodes["raw_sdf"].data_ptr(),
        lipschitz=lipschitz,
        table=table.data_ptr(),
    )
    samples = runner.empty(0, _SAMPLES)
    flat = table.view(-1)
    wanted = (flat == core.brick_wanted).to(torch.uint8)
    while len(found := torch.nonzero(wanted).view(-1)) > 0:
        flat[found] = torch.arange(len(samples), len(samples) + len(found), dtype=torch.int32, device=device)
        fresh = runner.empty(len(found), _SAMPLES)
        step = max(1, most_points // _SAMPLES)
        for a in range(0, len(found), step):
            part = found[a : a + step]
            points = runner.empty(len(part), _SAMPLES, 3)
            row = torch.empty(len(part), dtype=torch.int32, device=device)
            core.brick_points(
                bricks,
                stream,
                list=part.data_ptr(),
                listed=len(part),
                points=points.data_ptr(),
                frame=row.data_ptr(),
            )
            _evaluate(runner, points, row, frames, weight, {"sdf": fresh[a : a + step]})
        samples = fresh if len(samples) == 0 else torch.cat([samples, fresh])
        core.contradictions(
            bricks, stream, table=table.data_ptr(), samples=samples.data_ptr(), wanted=wanted.data_ptr()
        )
    evaluated = at_nodes["sdf"].numel() + samples.numel()
    return FieldBricks(table, samples.view(-1, 8, 8, 8), shape, evaluated)


def _evaluate(
    runner: FieldRunner,
    points: Tensor,
    row: Tensor | None,
    frames: Tensor | None,
    weight: OffsetWeight | None,
    out: dict[str, Tensor],
) -> None:
    """The field at points (S, L, 3) in the frames that `row` (S,) names, or (1, L, 3) in every frame."""
    y, _ = runner.deform(points.contiguous(), row, frames, weight, {}, derive=False)
    runner.blend(y, out, None)
