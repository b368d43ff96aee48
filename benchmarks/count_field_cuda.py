"""Counts what the GPU's search for a frame's surface asks of the networks, on the CPU: no GPU, no figure of
time.

    python benchmarks/count_field_cuda.py                    # the official weights at 256^3: FACETALK_GOLDEN
    python benchmarks/count_field_cuda.py --resolution 128 --check
    python benchmarks/count_field_cuda.py --head built-in    # this package's, in the middle of a word

The search is the one of facetalk/ops/cuda/surface_band.py, line by line; its kernels are their slow twins
and the networks are the CPU's, in float32. Beside it stands the search by two levels of blocks and one
slope for all, which it replaced, as far as its counts go; and how many members of the ensemble a point near
the surface has, by the rule for float32 and by the one for 16 bit. --check also evaluates every sample, and
counts those whose sign is not found.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_extract import built_in
from safetensors.torch import load_file
from torch import Tensor

from facetalk.nphm import load_checkpoint
from facetalk.nphm.lattice import DEFAULT_BOUNDS, lattice_axes
from facetalk.ops.cuda.surface_band import FieldBricks, find_bricks
from facetalk.ops.field.cpu import PackedField
from facetalk.ops.field.source import DEFAULT_CULL, HALF_CULL, FieldSource, cull_to_cut
from facetalk.ops.reference import band

GOLDEN = Path(os.environ.get("FACETALK_GOLDEN") or Path(__file__).parents[2] / "shared/golden/nphm_public")
BUILT_IN = Path("built-in")


def at(address: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The memory that a kernel would be given, as a tensor."""
    size = math.prod(shape) * dtype.itemsize
    return torch.frombuffer((ctypes.c_char * size).from_address(address), dtype=dtype).view(shape)


class Bricks:
    """csrc/cuda/field/field.h, FieldBricks"""

    def __init__(self, axes: list[int], shape: list[int], frames: int, side: int) -> None:
        self.axes = [at(axis, (n,), torch.float32) for axis, n in zip(axes, shape, strict=True)]
        self.shape, self.side = shape, side
        self.table = (frames, *(-(-n // side) for n in shape))


class Twins:
    """The kernels of the search, by facetalk/ops/reference/band.py."""

    brick_wanted = band.WANTED
    Bricks = Bricks

    def classify(
        self, blocks: Bricks, _: int, *, nodes: int, parents: int, lipschitz: float, table: int
    ) -> None:
        """See field_classify."""
        shape = (blocks.table[0], *((n + 1) // 2 + 1 for n in blocks.shape))
        above = (blocks.table[0], *((n + 1) // 2 for n in blocks.table[1:]))
        found = band.classify(
            at(nodes, shape, torch.float32), blocks.axes, blocks.side,
            at(parents, above, torch.int32) if parents else None, lipschitz,
        )  # fmt: skip
        at(table, blocks.table, torch.int32).copy_(found)

    def brick_points(
        self, bricks: Bricks, _: int, *, list: int, listed: int, side: int, step: int, points: int
    ) -> None:
        """See field_brick_points."""
        number = at(list, (listed,), torch.int64).clamp(min=0) % math.prod(bricks.table[1:])
        first = torch.stack(torch.unravel_index(number, bricks.table[1:]), dim=1) * bricks.side
        inside = torch.cartesian_prod(*[torch.arange(side) * step] * 3)
        sample = torch.minimum(first[:, None] + inside, torch.tensor(bricks.shape) - 1)
        found = torch.stack([axis[i] for axis, i in zip(bricks.axes, sample.unbind(2), strict=True)], dim=2)
        at(points, (listed, side**3, 3), torch.float32).copy_(found)

    def contradictions(self, blocks: Bricks, _: int, *, table: int, samples: int, wanted: int) -> None:
        """See field_contradictions."""
        numbers = at(table, blocks.table, torch.int32)
        stored = int(numbers.max()) + 1
        values = at(samples, (stored, *[blocks.side] * 3), torch.float32)
        found = band.contradictions(numbers, values, blocks.shape)
        at(wanted, blocks.table, torch.uint8).copy_(found)


class Runner:
    """What a search asks of `facetalk.ops.cuda.field_launch.FieldRunner`, by the CPU, of one frame."""

    device, coords, core = torch.device("cpu"), 3, Twins()

    def __init__(self, field: PackedField, biases: list[Tensor]) -> None:
        self.field, self.biases, self.points = field, biases, 0

    def stream(self) -> int:
        """None."""
        return 0

    def empty(self, *shape: int) -> Tensor:
        """Memory."""
        return torch.empty(shape)

    def deform(self, points: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        """Canonical positions."""
        x = points.reshape(-1, 3).contiguous()
        self.points += len(x)
        return x + self.field.query(x, self.biases, outputs=("offsets",))["offsets"][0], None

    def blend(self, y: Tensor, out: dict[str, Tensor], _: None) -> None:
        """The ensemble."""
        found = self.field.query(y.contiguous(), None, outputs=tuple(out))
        for name, value in out.items():
            value.view(-1).copy_(found[name][0])


def points_before(runner: Runner, axes: list[Tensor], lipschitz: float = 1.5) -> int:
    """Points of the search by blocks of 8^3 and 4^3 with one slope for all, without what contradictions
    add.
    """
    corner_axes = [axis[(torch.arange(-(-len(axis) // 4) + 1) * 4).clamp(max=len(axis) - 1)] for axis in axes]

    def look(of: list[Tensor], at_nodes: Tensor, wanted: Tensor) -> Tensor:
        """Wanted blocks (b0, b1, b2) of those wanted before, from values at their corners."""
        size, inside, reach = 0.0, 0, 0.0
        counts = [n - 1 for n in at_nodes.shape]
        edge = [axis.diff() for axis in of]
        for corner in torch.cartesian_prod(*[torch.arange(2)] * 3).tolist():
            part = at_nodes
            for a, (c, n) in enumerate(zip(corner, counts, strict=True)):
                part = part.narrow(a, c, n)
            size, inside = size + part.abs(), inside + torch.signbit(part).int()
            squares = [c * e**2 for c, e in zip(corner, edge, strict=True)]
            reach = reach + (squares[0][:, None, None] + squares[1][:, None] + squares[2]).sqrt()
        return wanted & ~(((inside == 0) | (inside == 8)) & (size > lipschitz * reach))

    def signed(mask: Tensor, values: Tensor, of: list[Tensor]) -> Tensor:
        where = torch.nonzero(mask)
        x = torch.stack([axis[i] for axis, i in zip(of, where.unbind(1), strict=True)], dim=1)
        out = {name: torch.empty(len(x)) for name in ("sdf", "raw_sdf")}
        runner.blend(runner.deform(x)[0], out, None)
        values[mask] = torch.where(out["sdf"] < 0, -out["raw_sdf"].abs(), out["raw_sdf"].abs())
        return values

    shape = [len(axis) for axis in corner_axes]
    values, mask = torch.full(shape, torch.nan), torch.zeros(shape, dtype=torch.bool)
    mask[::2, ::2, ::2] = True
    values = signed(mask, values, corner_axes)
    coarse = values[::2, ::2, ::2]
    every = torch.ones([n - 1 for n in coarse.shape], dtype=torch.bool)
    bricks = look([axis[::2] for axis in corner_axes], coarse, every)
    wide = bricks
    for axis in range(3):
        wide = wide.repeat_interleave(2, dim=axis)
    near = torch.nn.functional.max_pool3d(wide.float()[None, None], 2, 1, 1)[0, 0] > 0
    values = signed(near & ~mask, values, corner_axes)
    blocks = look(corner_axes, values, wide)
    groups = lambda count, together: -(-int(count) // together) * together  # noqa: E731
    return coarse.numel() + 27 * groups(bricks.sum(), 4) + 64 * groups(blocks.sum(), 2)


def members(source: FieldSource, y: Tensor, cull: float) -> float:
    """Members a point of NPHM's ensemble has by the cull rule (csrc/cuda/field/field_blend.cuh)."""
    exponent = (torch.cdist(y, source.anchors) + 1e-5) ** 2
    limit = exponent.amin(1) + cull_to_cut(cull) * 0.01
    return float((exponent <= limit[:, None]).sum() + (limit >= 0.2).sum()) / len(y)


def count(folder: Path, resolution: int, check: bool) -> dict[str, Any]:
    """Everything, for the head in a folder, or "built-in", and one of its expressions."""
    if folder == BUILT_IN:
        field, codes = built_in()
        bound, biases = field.bound, field.bound.biases(codes[:1])
    else:
        golden = load_file(folder / "golden.safetensors")
        bound = load_checkpoint(folder, family="nphm").bind(golden["lat_id"]).bound
        biases = bound.biases(golden["lat_expr"].reshape(-1, golden["lat_expr"].shape[-1])[:1])
    assert biases is not None
    axes = [torch.as_tensor(np.asarray(a)) for a in lattice_axes(resolution, DEFAULT_BOUNDS)]
    runner = Runner(bound.packed, biases)
    begun = time.monotonic()
    found: FieldBricks = find_bricks(runner, axes, torch.zeros(1, 1), None, 1.5, 1 << 18)  # type: ignore[arg-type]
    near = torch.nonzero(found.samples.abs() < 0.02)
    table = torch.nonzero(found.table >= 0)
    sample = 8 * table[found.table[found.table >= 0].argsort()][near[:, 0], 1:] + near[:, 1:]
    sample = torch.minimum(sample, torch.tensor(found.shape) - 1)[:: max(1, len(near) // 20000)]
    x = torch.stack([axis[i] for axis, i in zip(axes, sample.unbind(1), strict=True)], dim=1)
    y, _ = Runner(bound.packed, biases).deform(x)
    result = {
        "head": folder.name,
        "resolution": resolution,
        "points": found.evaluated,
        "points_before": points_before(Runner(bound.packed, biases), axes),
        "members": round(members(bound.source, y, HALF_CULL), 2),
        "members_float32": round(members(bound.source, y, DEFAULT_CULL), 2),
    }
    if check:
        dense = bound.packed.grid([a.numpy() for a in axes], biases)
        dense = torch.as_tensor(np.asarray(dense))
        result["wrong_signs"] = int(((dense < 0) != (found.dense() < 0)).sum())
    return result | {"seconds": round(time.monotonic() - begun)}


def main() -> None:
    """Print the counts as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--head", type=Path, default=GOLDEN / "nphm_official", help="folder of a golden set, or built-in"
    )
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--check", action="store_true", help="compare signs with every sample's")
    args = parser.parse_args()
    print(json.dumps(count(args.head, args.resolution, args.check), indent=1))


if __name__ == "__main__":
    main()
