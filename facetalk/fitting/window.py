"""Windows of frames solved together: codes and poses from points, by damped Gauss-Newton steps.

A pass through the networks costs a hundred times what a step costs with what it gave. So a step goes on from
the last linearisation of the distances, but with new weights, and the networks are asked again every few
steps only.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from facetalk.fitting.differentiable import DifferentiableField
from facetalk.fitting.frame import Frame, Limits
from facetalk.fitting.marks import FaceMarks
from facetalk.fitting.options import MM, FitOptions
from facetalk.fitting.paper import adam
from facetalk.fitting.pose import pose_slopes
from facetalk.fitting.system import System

__all__ = ["follow", "solve"]

_FAR_MM = 40.0  # points farther off count for nothing even at first
_NEAR_MM, _LOOSE = 20.0, 0.1  # at first, distances that count and the scale of changes of a code
_LIPS = 0.5  # from when on lips that nearly touch are taken to
_ROUGH = 0.4  # share of the steps that look at a quarter of the points
_AGAIN = (2, 3)  # steps after which the networks are asked again, at first and then
_FOLLOW, _FEW = 4, 400  # steps that a frame goes on from the one before with, and points of each
_STEP = 0.4  # most that a number of a code changes in a step
_DONE = 2e-3
_SAME_MM = 0.1  # mean change of the distances up to which they are taken to be linear


def solve(
    field: DifferentiableField,
    frames: list[Frame],
    before: Frame | None,
    limits: Limits,
    options: FitOptions,
    generator: torch.Generator,
    marks: FaceMarks | None = None,
) -> None:
    """Fit frames in place; `before` is the frame in front of them, which stays as it is.

    `marks` are the person's landmarks, for frames that have them, and for lips that touch.
    """
    if options.method == "adam":
        adam(field, frames, before, limits, options, generator)
        return
    last, first = max(1, options.steps - 1), _first_fine(options.steps)
    seen: list[_Seen] = []
    for step in range(options.steps):
        rough = step / last < _ROUGH
        again = step % _AGAIN[0] == 0 if rough else (step - first) % _AGAIN[1] == 0
        if again:
            most = max(200, options.points // 4) if rough else options.points
            kept = seen if not rough and step > first else [None] * len(frames)
            seen = [
                found if found is not None and found.near() else
                _Seen.of(field, frame, frame.drawn(most, generator), options)
                for frame, found in zip(frames, kept, strict=True)
            ]  # fmt: skip
        farthest = MM * max(options.outlier_mm, _FAR_MM * (1 - 2 * step / last))
        unsettled = max(0.0, 1 - step / first)
        change = _step(
            field.expression_dim, frames, seen, before, limits, options, marks, farthest, unsettled
        )
        if not rough and again and step >= 0.5 * last and change < _DONE:
            break


def follow(
    field: DifferentiableField,
    frame: Frame,
    before: Frame,
    limits: Limits,
    options: FitOptions,
    generator: torch.Generator,
    marks: FaceMarks | None = None,
) -> None:
    """Take a frame that begins as the one before it to about where it is."""
    if options.method == "adam":
        return
    for step in range(_FOLLOW):
        seen = [_Seen.of(field, frame, frame.drawn(min(_FEW, options.points), generator), options)]
        farthest = MM * max(options.outlier_mm, _FAR_MM * 0.5**step)
        unsettled = 1 - step / _FOLLOW
        _step(field.expression_dim, [frame], seen, before, limits, options, marks, farthest, unsettled)


def _first_fine(steps: int) -> int:
    """The first step that looks at all points."""
    return next(step for step in range(steps + 1) if step / max(1, steps - 1) >= _ROUGH)


def _step(
    codes: int,
    frames: list[Frame],
    seen: list[_Seen],
    before: Frame | None,
    limits: Limits,
    options: FitOptions,
    marks: FaceMarks | None,
    farthest: float,
    unsettled: float = 0.0,
) -> float:
    """Change codes and poses by one solution; the largest change of a code's number.

    While frames are `unsettled`, from 1 to 0, points that are far off pull, codes may change much from frame
    to frame, and lips are not taken to touch because they nearly do: a mouth that opens within a frame would
    not be seen to.
    """
    system = System(len(frames), codes, options)
    for t, (frame, found) in enumerate(zip(frames, seen, strict=True)):
        system.observe(t, frame, found.residual(), found.slopes, farthest, _NEAR_MM * MM * unsettled)
        if marks is not None:
            system.observe_marks(t, frame, marks)
            if unsettled <= _LIPS:
                system.close(t, frame, marks)
    system.smooth(frames, before, _LOOSE * unsettled)
    change = system.solve(torch.stack([frame.code for frame in frames]), limits)
    largest = 0.0
    for frame, found, row in zip(frames, seen, change, strict=True):
        code = frame.code + row[:codes].clamp(-_STEP, _STEP)
        code = code if limits is None else code.clamp(*limits)
        largest = max(largest, float((code - frame.code).abs().max()))
        found.moved[:codes] += code - frame.code
        frame.code = code
        if options.pose:
            twist = row[codes:].clamp(-0.2, 0.2)
            found.moved[codes:] += twist
            frame.pose = frame.pose.moved(*twist.split(3))
    return largest


@dataclasses.dataclass
class _Seen:
    """Distances of a frame's points where the networks were asked last, and how they change from there.

    Attributes:
        value: (N,) distances.
        slopes: (N, E + 6) their derivatives by code and pose.
        moved: (E + 6,) how far code and pose have gone since.
    """

    value: Tensor
    slopes: Tensor
    moved: Tensor

    @classmethod
    def of(cls, field: DifferentiableField, frame: Frame, points: Tensor, options: FitOptions) -> _Seen:
        """At points (N, 3) of a frame in head space."""
        size = field.expression_dim + (6 if options.pose else 0)
        moved = torch.zeros(size, dtype=torch.float64)
        if not len(points):
            return cls(torch.zeros(0), torch.zeros(0, size), moved)
        found = field.slopes(points, frame.code.float())
        slopes = found.by_expression
        if options.pose:
            slopes = torch.cat([slopes, pose_slopes(points, found.by_point)[:, :6]], 1)
        return cls(found.value, slopes, moved)

    def near(self) -> bool:
        """Whether code and pose are so near to where they were that the networks would say the same."""
        changed = (self.slopes @ self.moved.float()).abs()
        return not len(changed) or float(changed.mean()) < _SAME_MM * MM

    def residual(self) -> Tensor:
        """(N,) distances as they are now, to first order."""
        return self.value + self.slopes @ self.moved.float()
