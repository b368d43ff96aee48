"""Lattices of a deformation's offsets in the memory of a GPU, as guided frames use them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetalk.arrays import Float64
from facetalk.ops.field.kernels import constants


@dataclasses.dataclass(frozen=True)
class OffsetNodes:
    """A lattice of offsets of all frames.

    Attributes:
        packed: what the kernels take.
        shape: nodes along x, y, z; they reach beyond the samples, as far as cubic interpolation reads.
        nodes: of a frame.
        offset: (frames * nodes + 1, 3); the last row is for what nobody listed.
        error: (frames * nodes,) of interpolation where probed, else -1.
        known: (frames, nodes) uint8: 0 not wanted yet, 1 wanted, 2 evaluated.
        probed: the same of cells.
    """

    packed: Any
    shape: list[int]
    nodes: int
    offset: Tensor
    error: Tensor
    known: Tensor
    probed: Tensor

    def longest(self) -> Tensor:
        """(frames,) of the offsets evaluated so far."""
        return torch.linalg.vector_norm(self.offset[:-1].view(len(self.known), self.nodes, 3), dim=-1).amax(
            dim=1
        )


def make_nodes(
    core: Any,
    device: torch.device,
    samples: Sequence[int],
    front: Float64,
    steps: Float64,
    frames: int,
    spacing: int,
) -> OffsetNodes:
    """A lattice of which nothing is known yet.

    Args:
        core: `facetalk._C.cuda_guided`.
        device: of the tensors.
        samples: of the lattice of values, along x, y, z.
        front: (3,) the first of them.
        steps: (3,) between them.
        frames: how many.
        spacing: samples between nodes.
    """
    step, brick = steps * spacing, constants().brick
    shape = [(-(-n // brick) * brick - 1) // spacing + 4 for n in samples]
    nodes = int(np.prod(shape))
    offset = torch.zeros(frames * nodes + 1, 3, device=device)
    error = torch.full((frames * nodes,), -1.0, device=device)
    flags = torch.zeros(2, frames, nodes, dtype=torch.uint8, device=device)
    packed = core.Nodes(
        origin=(front - step).tolist(), step=step.tolist(), shape=shape, spacing=spacing,
        offset=offset.data_ptr(), error=error.data_ptr(),
    )  # fmt: skip
    return OffsetNodes(packed, shape, nodes, offset, error, flags[0], flags[1])
