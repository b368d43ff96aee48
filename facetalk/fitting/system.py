"""The equations of a Gauss-Newton step: each frame's own, and what ties it to the frame before."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from facetalk.fitting.frame import LOWER, UPPER, Frame, Limits, mark_slopes, shows_lips
from facetalk.fitting.marks import FaceMarks
from facetalk.fitting.options import MM, FitOptions
from facetalk.fitting.pose import Pose
from facetalk.fitting.robust import TUKEY, even, rare, scale_of, weights

__all__ = ["System"]

_LEAST_MM = 0.05  # spread of residuals below which they say nothing more
_REACH = 0.4  # head units; from the head's middle to its surface, where a turn is felt as a shift
_CONTACT_MM = 1.5  # gap between inner lips at which half of what contact says is lost
_STILL = 4.0  # the largest change of a code is that many scales where a face moves


class System:
    """Normal equations of T frames with E + 6 unknowns each.

    A frame is tied to the one before alone, number by number, so that the matrix is block tridiagonal with
    diagonal blocks beside its diagonal: memory and time grow with the frames, not with their square or cube.

    Args:
        frames: T.
        codes: E.
        options: weights; without poses there are E unknowns.
    """

    def __init__(self, frames: int, codes: int, options: FitOptions) -> None:
        self.codes, self.options = codes, options
        self.each = codes + (6 if options.pose else 0)
        self.matrix = torch.zeros(frames, self.each, self.each, dtype=torch.float64)
        self.vector = torch.zeros(frames, self.each, dtype=torch.float64)
        self.beside = torch.zeros(frames, self.each, dtype=torch.float64)
        """(T, E + 6) of each frame's numbers with those of the frame before."""

    def observe(
        self, t: int, frame: Frame, residual: Tensor, slopes: Tensor, farthest: float, near: float = 0.0
    ) -> None:
        """Add distances (N,) of a frame, their derivatives (N, E + 6), and what its code is expected to be.

        Distances of `farthest` head units or more count for nothing; those below `near` count, though most
        points lie much nearer: an open mouth is a small part of a head.
        """
        self.matrix[t].diagonal()[: self.codes] += 1 / self.options.code_spread**2
        self.vector[t, : self.codes] += frame.code / self.options.code_spread**2
        if not len(residual):
            return
        scale = max(scale_of(residual[residual.abs() <= farthest], _LEAST_MM * MM), near / TUKEY)
        weight = self.options.point_share * weights(residual, scale, farthest) / scale**2
        self.matrix[t] += (slopes.T @ (weight[:, None] * slopes)).double()
        self.vector[t] += (slopes.T @ (weight * residual)).double()

    def observe_marks(self, t: int, frame: Frame, marks: FaceMarks) -> None:
        """Add what landmarks of a frame say, by Cauchy's weights of their distances."""
        found = None if frame.marks is None else mark_slopes(frame, marks, self.options.landmark_mm * MM)
        if found is None:
            return
        off, slopes, weight = found
        slopes = slopes[:, :, : self.each]
        self.matrix[t] += torch.einsum("nai,n,naj->ij", slopes, weight, slopes)
        self.vector[t] += torch.einsum("nai,n,na->i", slopes, weight, off)

    def close(self, t: int, frame: Frame, marks: FaceMarks) -> None:
        """Add that lips which nearly touch are likely to touch, where no landmarks tell.

        Shut lips hide their inner sides, so that noise, not points, would say how far they are apart; and
        noise can only open them. The weights are Geman's and McClure's, of a loss that is bounded.
        """
        if not self.options.contact or shows_lips(frame):
            return
        places, by_code = marks.carried(frame.code)
        gap = float((places[UPPER, 1] - places[LOWER, 1]).mean())
        slope = (by_code[UPPER, 1] - by_code[LOWER, 1]).mean(0)
        scale = (_CONTACT_MM * MM) ** 2
        weight = 2 * self.options.contact * scale / (scale + gap**2) ** 2
        self.matrix[t, : self.codes, : self.codes] += weight * torch.outer(slope, slope)
        self.vector[t, : self.codes] += weight * gap * slope

    def smooth(self, frames: list[Frame], before: Frame | None, loose: float = 0.0) -> None:
        """Add that codes and poses change little from frame to frame, in most of their numbers.

        The scale of a code's changes is at least `loose`: frames that begin as equals would be held together.
        """
        near = self.options.pose_speed_mm * MM
        for t in range(0 if before is not None else 1, len(frames)):
            last = frames[t - 1] if t else before
            assert last is not None
            change = frames[t].code - last.code
            speed = self.options.code_speed
            if not shows_lips(frames[t]):
                # A face at rest is tied more: what moves a little in all of its numbers is noise.
                speed = min(max(float(change.abs().max()) / _STILL, self.options.still_speed), speed)
            speed = max(speed, loose)
            self._tie(t, 0, change, rare(change, speed) / speed**2)
            if not self.options.pose:
                continue
            turn = _turn_between(last.pose, frames[t].pose)
            shift = frames[t].pose.shift - last.pose.shift
            moved = torch.cat([turn, shift])
            allowed = torch.tensor([near / _REACH] * 3 + [near] * 3, dtype=torch.float64)
            self._tie(t, self.codes, moved, even(moved / allowed, 1.0) / allowed**2)

    def _tie(self, t: int, first: int, change: Tensor, weight: Tensor) -> None:
        numbers = slice(first, first + len(change))
        self.matrix[t].diagonal()[numbers] += weight
        self.vector[t, numbers] += weight * change
        if t:  # the frame before is one of these, too
            self.matrix[t - 1].diagonal()[numbers] += weight
            self.vector[t - 1, numbers] -= weight * change
            self.beside[t, numbers] -= weight

    def solve(self, codes: Tensor, limits: Limits) -> Tensor:
        """Changes (T, E + 6); numbers of codes (T, E) that are at a limit and would pass it stay there."""
        stuck = torch.zeros(self.vector.shape, dtype=torch.bool)
        if limits is not None:
            slope = self.vector[:, : self.codes]
            stuck[:, : self.codes] = ((codes <= limits[0]) & (slope > 0)) | (
                (codes >= limits[1]) & (slope < 0)
            )
        free = (~stuck).double()
        diagonal = self.matrix.diagonal(dim1=1, dim2=2)
        matrix = self.matrix + torch.diag_embed(1e-4 * diagonal + 1e-9)
        matrix = free[:, :, None] * matrix * free[:, None] + torch.diag_embed(1 - free)
        return banded(matrix, self.beside * free * free.roll(1, 0), -self.vector * free)


def banded(matrix: Tensor, beside: Tensor, right: Tensor) -> Tensor:
    """The solution (T, n) of a block tridiagonal system, positive definite, by block Cholesky.

    Args:
        matrix: (T, n, n) blocks of the diagonal.
        beside: (T, n) diagonals of the blocks that tie row t to row t - 1; the first counts for nothing.
        right: (T, n) right-hand side.
    """
    factors: list[Tensor] = []
    found = right.clone()
    for t in range(len(matrix)):
        block = matrix[t]
        if t:
            tie = beside[t]
            block = block - tie[:, None] * torch.cholesky_inverse(factors[-1]) * tie
            found[t] -= tie * torch.cholesky_solve(found[t - 1][:, None], factors[-1])[:, 0]
        factors.append(torch.linalg.cholesky(block))
    for t in range(len(matrix) - 1, -1, -1):
        ahead = beside[t + 1] * found[t + 1] if t + 1 < len(matrix) else 0.0
        found[t] = torch.cholesky_solve((found[t] - ahead)[:, None], factors[t])[:, 0]
    return found


def _turn_between(first: Pose, second: Pose) -> Tensor:
    """Rotation vector (3,) of a small turn from one pose to another."""
    turn = second.turn @ first.turn.T
    vector = torch.stack([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2
    sine = float(vector.norm())
    angle = math.atan2(sine, (float(turn.trace()) - 1) / 2)
    return vector * (angle / sine if sine > 1e-12 else 1.0)
