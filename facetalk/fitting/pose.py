"""Rigid poses and similarities: how points of a capture lie in head space."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor


def rotation(turn: Tensor) -> Tensor:
    """(..., 3, 3) of rotation vectors (..., 3), by the exponential map."""
    zero = torch.zeros_like(turn[..., 0])
    x, y, z = turn.unbind(-1)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*turn.shape[:-1], 3, 3)
    return torch.linalg.matrix_exp(skew)


@dataclasses.dataclass(frozen=True)
class Pose:
    """head = scale * (turn @ point) + shift.

    Attributes:
        turn: (3, 3) rotation.
        shift: (3,) head units.
        scale: head units per unit of the points.
    """

    turn: Tensor
    shift: Tensor
    scale: float

    def apply(self, points: Tensor) -> Tensor:
        """Head space (N, 3) of a capture's points (N, 3), float32."""
        return ((self.scale * points.double()) @ self.turn.T + self.shift).float()

    def moved(self, turn: Tensor, shift: Tensor, stretch: float = 0.0) -> Pose:
        """After a small turn (3,) about the head's origin, a shift (3,), and a relative change of size."""
        by = rotation(turn.double())
        grown = 1.0 + stretch
        return Pose(by @ self.turn, grown * (by @ self.shift) + shift.double(), grown * self.scale)

    def matrix(self) -> Tensor:
        """(4, 4) from points to head space."""
        out = torch.eye(4, dtype=torch.float64)
        out[:3, :3], out[:3, 3] = self.scale * self.turn, self.shift
        return out


def pose_slopes(points: Tensor, by_point: Tensor) -> Tensor:
    """Derivatives (N, 7) of distances at head-space points (N, 3) by turn, shift and stretch of their pose.

    A turn w moves p by w x p, so that the distance changes by w . (p x g).
    """
    return torch.cat(
        [torch.linalg.cross(points, by_point), by_point, (points * by_point).sum(1, keepdim=True)], 1
    )
