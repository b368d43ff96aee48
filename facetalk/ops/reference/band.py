"""The search for samples near a surface, slow and plain: what csrc/cuda/surface/field_band.cuh is tested
against.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

WANTED, OUTSIDE, INSIDE = -3, -1, -2
COVER, MARGIN, LEAST, SCALE = 8, 1.1, 1.1, 0.07
_AT_A_TIME = 4096


def classify(
    nodes: Tensor, axes: Sequence[Tensor], side: int, parents: Tensor | None, lipschitz: float
) -> Tensor:
    """The signs of blocks of samples, or WANTED where the surface may be.

    Args:
        nodes: (T, m0, m1, m2) float32, the field at every second sample along each axis and the last, with
        its
            sign.
        axes: (n,) float32 each, sample positions along x, y, z. side: samples along the edge of a block,
        even. parents: (T, ...) int32, the same of blocks of twice the side; a sign there stays. None: all
        are looked
            at.
        lipschitz: the steepest that the field may be.

    Returns:
        (T, ceil(n0 / side), ceil(n1 / side), ceil(n2 / side)) int32.
    """
    counts = [-(-len(axis) // side) for axis in axes]
    table = torch.full((len(nodes), *counts), WANTED, dtype=torch.int32)
    if parents is not None:
        for axis, count in enumerate(counts):
            parents = parents.repeat_interleave(2, dim=axis + 1).narrow(axis + 1, 0, count)
        table = parents.clone()
    where = torch.nonzero(table == WANTED)
    for first in range(0, len(where), _AT_A_TIME):
        part = where[first : first + _AT_A_TIME]
        table[tuple(part.unbind(1))] = _blocks(nodes, axes, side, part, lipschitz)
    return table


def _blocks(nodes: Tensor, axes: Sequence[Tensor], side: int, where: Tensor, lipschitz: float) -> Tensor:
    """Of blocks (n, 4), by frame and place."""
    corners = torch.cartesian_prod(*[torch.arange(2)] * 3)  # (8, 3)
    at = (where[:, None, 1:] + corners) * (side // 2)
    at = torch.minimum(at, torch.tensor(nodes.shape[1:]) - 1)
    value = nodes[where[:, :1], at[..., 0], at[..., 1], at[..., 2]]  # (n, 8)
    edges = []
    for axis, place in zip(axes, where[:, 1:].unbind(1), strict=True):
        edges.append(axis[(place * side + side).clamp(max=len(axis) - 1)] - axis[place * side])
    edge = torch.stack(edges, dim=1)  # (n, 3)
    cube = value.view(-1, 2, 2, 2)
    rise = torch.stack([cube.diff(dim=a + 1).abs().flatten(1).amax(1) for a in range(3)], dim=1)
    slope = torch.where(edge > 0, rise / edge, rise).square().sum(1).sqrt() * MARGIN
    slope = torch.where((edge <= SCALE).all(1), slope.clamp(min=LEAST).clamp(max=lipschitz), lipschitz)
    reach = value.abs() / slope[:, None] - 0.5 / COVER * edge.square().sum(1, keepdim=True).sqrt()
    middle = (torch.arange(COVER) + 0.5) / COVER
    cells = torch.cartesian_prod(middle, middle, middle)  # (COVER^3, 3)
    distance = ((cells[None, :, None] - corners) * edge[:, None, None]).norm(dim=-1)
    covered = (distance <= reach[:, None]).any(2).all(1)
    inside = torch.signbit(value)
    one_sign = inside.all(1) | ~inside.any(1)
    sign = torch.where(inside[:, 0], INSIDE, OUTSIDE)
    return torch.where(covered & one_sign, sign, WANTED).to(torch.int32)


def contradictions(table: Tensor, samples: Tensor, shape: Sequence[int]) -> Tensor:
    """Which blocks that were left out have a sample of another sign beside them.

    Args:
        table: (T, b0, b1, b2) int32: numbers of evaluated blocks, OUTSIDE or INSIDE.
        samples: (stored, side, side, side) float32 of evaluated blocks.
        shape: samples of the lattice along x, y, z.

    Returns:
        (T, b0, b1, b2) bool.
    """
    side = samples.shape[1]
    ends = torch.tensor([-1.0, 1.0])[:, None, None, None].expand(2, side, side, side)
    blocks = torch.cat([samples, ends])[table.long()]  # OUTSIDE and INSIDE count from the end
    frames, sides = len(table), [side * n for n in table.shape[1:]]
    inside = (blocks < 0).permute(0, 1, 4, 2, 5, 3, 6).reshape(frames, *sides)
    known = (table >= 0)[..., None, None, None].expand(blocks.shape)
    known = known.permute(0, 1, 4, 2, 5, 3, 6).reshape(frames, *sides).clone()
    for axis, n in enumerate(shape):
        known.narrow(axis + 1, n, sides[axis] - n).zero_()
    wrong = torch.zeros(table.shape, dtype=torch.bool)
    for sign, number in ((True, INSIDE), (False, OUTSIDE)):
        other = (known & (inside != sign)).float()[:, None]
        # Blocks with such a sample, or with one a sample beyond their faces, edges and corners.
        seen = torch.nn.functional.max_pool3d(other, side + 2, side, 1)[:, 0] > 0
        wrong |= seen & (table == number)
    return wrong
