"""A frame of a capture while it is fitted, and what its landmarks say."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from facetalk.fitting.marks import USED, FaceMarks, across_rays
from facetalk.fitting.pose import Pose
from facetalk.fitting.robust import rare
from facetalk.multi_pie import LOWER_LIP, UPPER_LIP

__all__ = ["LOWER", "UPPER", "Frame", "Limits", "mark_slopes", "shows_lips"]

UPPER, LOWER = ([index - USED.start for index in lip] for lip in (UPPER_LIP, LOWER_LIP))
"""Of the landmarks in use, those of the inner lips."""


@dataclasses.dataclass
class Frame:
    """A frame of a capture while it is fitted.

    Attributes:
        points: (N, 3) float64, as captured.
        code: (E,) float64.
        pose: of its points in head space.
        marks: (51, 3) float64 landmarks as captured, NaN where there is none; None without.
        eye: (3,) float64 where the only camera stands, as captured; landmarks are any points of its rays.
    """

    points: Tensor
    code: Tensor
    pose: Pose
    marks: Tensor | None = None
    eye: Tensor | None = None

    def drawn(self, most: int, generator: torch.Generator) -> Tensor:
        """Some of its points in head space."""
        if len(self.points) <= most:
            return self.pose.apply(self.points)
        chosen = torch.randint(len(self.points), (most,), generator=generator)
        return self.pose.apply(self.points[chosen])


Limits = tuple[float, float] | None
"""Least and largest value of a code's numbers, or None."""


def mark_slopes(frame: Frame, marks: FaceMarks, scale: float) -> tuple[Tensor, Tensor, Tensor] | None:
    """How far a frame's n landmarks are from the head's, head units, and what that changes with.

    Returns:
        (n, 3) from the head's landmark to the captured one, its derivatives (n, 3, E + 7) by code, turn,
        shift and stretch of the pose, and Cauchy's weights (n,) over the square of the scale; None where no
        landmark is seen.
    """
    assert frame.marks is not None
    seen = torch.isfinite(frame.marks).all(dim=1)
    if not bool(seen.any()):
        return None
    places, by_code = marks.carried(frame.code)
    there = frame.pose.apply(frame.marks[seen]).double()
    off = there - places[seen]
    across = None
    if frame.eye is not None:
        # Of a ray its point nearest to the landmark counts, which does not move along it.
        across = across_rays(there, frame.pose.apply(frame.eye[None]).double()[0])
        off = torch.einsum("nab,nb->na", across, off)
        there = places[seen] + off
    weight = rare(off.norm(dim=1), 2 * scale) / scale**2
    x, y, z = there.unbind(1)
    zero = torch.zeros_like(x)
    # A turn w moves p by w x p.
    turned = torch.stack([zero, z, -y, -z, zero, x, y, -x, zero], 1).view(-1, 3, 3)
    shifted = torch.eye(3, dtype=torch.float64).expand(len(x), 3, 3)
    slopes = torch.cat([-by_code[seen], turned, shifted, there[:, :, None]], 2)
    return off, slopes if across is None else across @ slopes, weight


def shows_lips(frame: Frame) -> bool:
    """Whether landmarks tell how far its lips are apart."""
    return frame.marks is not None and bool(torch.isfinite(frame.marks[[*UPPER, *LOWER]]).all(dim=1).any())
