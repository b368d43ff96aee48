"""A window of frames solved together: codes and poses from points, by damped Gauss-Newton steps or Adam."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from facetalk.fitting.differentiable import DifferentiableField
from facetalk.fitting.marks import USED, FaceMarks, across_rays
from facetalk.fitting.options import MM, FitOptions
from facetalk.fitting.pose import Pose, pose_slopes, rotation
from facetalk.fitting.robust import even, rare, scale_of, weights
from facetalk.metrics.landmarks import LOWER_LIP, UPPER_LIP

_LEAST_MM = 0.05  # spread of residuals below which they say nothing more
_FAR_MM = 40.0  # points farther off count for nothing even at first
_REACH = 0.4  # head units; from the head's middle to its surface, where a turn is felt as a shift
_CONTACT_MM = 1.5  # gap between inner lips at which half of what contact says is lost
_STILL = 4.0  # the largest change of a code is that many scales where a face moves
_STEP = 0.4  # most that a number of a code changes in a step
_DONE = 2e-3
_UPPER, _LOWER = ([index - USED.start for index in lip] for lip in (UPPER_LIP, LOWER_LIP))
# FaceTalk, CVPR 2024, supplementary material: weights of distance, change and size, and the rates.
_DISTANCE, _CHANGE, _SIZE, _RATES = 10.0, 0.1, 0.0025, (1e-3, 1e-4)


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
        _adam(field, frames, before, limits, options, generator)
        return
    for step in range(options.steps):
        share = step / max(1, options.steps - 1)
        most = options.points if share >= 0.4 else max(200, options.points // 4)
        farthest = MM * max(options.outlier_mm, _FAR_MM * (1 - 2 * share))
        system = _System(len(frames), field.expression_dim, options)
        for t, frame in enumerate(frames):
            system.observe(t, frame, field, frame.drawn(most, generator), farthest)
            if marks is None:
                continue
            if frame.marks is not None:
                system.observe_marks(t, frame, marks)
            if options.contact and not _shows_lips(frame):
                system.close(t, frame, marks)
        system.smooth(frames, before)
        change = system.solve(torch.stack([frame.code for frame in frames]), limits)
        for frame, row in zip(frames, change, strict=True):
            frame.code = _limited(frame.code + row[: field.expression_dim].clamp(-_STEP, _STEP), limits)
            if options.pose:
                turn, shift = row[field.expression_dim :].clamp(-0.2, 0.2).split(3)
                frame.pose = frame.pose.moved(turn, shift)
        if share >= 0.5 and float(change[:, : field.expression_dim].abs().max()) < _DONE:
            break


def _limited(code: Tensor, limits: Limits) -> Tensor:
    return code if limits is None else code.clamp(*limits)


class _System:
    """Normal equations of a window: (frames, E + 6) unknowns."""

    def __init__(self, frames: int, codes: int, options: FitOptions) -> None:
        self.codes, self.options = codes, options
        self.each = codes + (6 if options.pose else 0)
        size = frames * self.each
        self.matrix = torch.zeros(size, size, dtype=torch.float64)
        self.vector = torch.zeros(size, dtype=torch.float64)

    def _rows(self, t: int, first: int = 0, last: int | None = None) -> slice:
        start = t * self.each
        return slice(start + first, start + (self.each if last is None else last))

    def observe(
        self, t: int, frame: Frame, field: DifferentiableField, points: Tensor, farthest: float
    ) -> None:
        """Add what points (N, 3) of a frame say, and what its code is expected to be."""
        codes = self._rows(t, 0, self.codes)
        self.matrix[codes, codes] += torch.eye(self.codes, dtype=torch.float64) / self.options.code_spread**2
        self.vector[codes] += frame.code / self.options.code_spread**2
        if not len(points):
            return
        found = field.slopes(points, frame.code.float())
        slopes = found.by_expression
        if self.options.pose:
            slopes = torch.cat([slopes, pose_slopes(points, found.by_point)[:, :6]], 1)
        residual = found.value
        scale = scale_of(residual[residual.abs() <= farthest], _LEAST_MM * MM)
        weight = self.options.point_share * weights(residual, scale, farthest) / scale**2
        rows = self._rows(t)
        self.matrix[rows, rows] += (slopes.T @ (weight[:, None] * slopes)).double()
        self.vector[rows] += (slopes.T @ (weight * residual)).double()

    def observe_marks(self, t: int, frame: Frame, marks: FaceMarks) -> None:
        """Add what landmarks of a frame say, by Cauchy's weights of their distances."""
        assert frame.marks is not None
        seen = torch.isfinite(frame.marks).all(dim=1)
        if not bool(seen.any()):
            return
        places, by_code = marks.carried(frame.code)
        there = frame.pose.apply(frame.marks[seen]).double()
        off = there - places[seen]
        across = None
        if frame.eye is not None:
            # Of a ray its point nearest to the landmark counts, which does not move along it.
            across = across_rays(there, frame.pose.apply(frame.eye[None]).double()[0])
            off = torch.einsum("nab,nb->na", across, off)
            there = places[seen] + off
        scale = self.options.landmark_mm * MM
        weight = rare(off.norm(dim=1), 2 * scale) / scale**2
        slopes = -by_code[seen]
        if self.options.pose:
            x, y, z = there.unbind(1)
            zero = torch.zeros_like(x)
            # A turn w moves p by w x p.
            turned = torch.stack([zero, z, -y, -z, zero, x, y, -x, zero], 1).view(-1, 3, 3)
            shifted = torch.eye(3, dtype=torch.float64).expand(len(x), 3, 3)
            slopes = torch.cat([slopes, turned, shifted], 2)
        if across is not None:
            slopes = across @ slopes
        rows = self._rows(t)
        self.matrix[rows, rows] += torch.einsum("nai,n,naj->ij", slopes, weight, slopes)
        self.vector[rows] += torch.einsum("nai,n,na->i", slopes, weight, off)

    def close(self, t: int, frame: Frame, marks: FaceMarks) -> None:
        """Add that lips which nearly touch are likely to touch.

        Shut lips hide their inner sides, so that noise, not points, would say how far they are apart; and
        noise can only open them. The weights are Geman's and McClure's, of a loss that is bounded.
        """
        places, by_code = marks.carried(frame.code)
        gap = float((places[_UPPER, 1] - places[_LOWER, 1]).mean())
        slope = (by_code[_UPPER, 1] - by_code[_LOWER, 1]).mean(0)
        scale = (_CONTACT_MM * MM) ** 2
        weight = 2 * self.options.contact * scale / (scale + gap**2) ** 2
        codes = self._rows(t, 0, self.codes)
        self.matrix[codes, codes] += weight * torch.outer(slope, slope)
        self.vector[codes] += weight * gap * slope

    def smooth(self, frames: list[Frame], before: Frame | None) -> None:
        """Add that codes and poses change little from frame to frame, in most of their numbers."""
        near = self.options.pose_speed_mm * MM
        for t in range(0 if before is not None else 1, len(frames)):
            last = frames[t - 1] if t else before
            assert last is not None
            change = frames[t].code - last.code
            speed = self.options.code_speed
            if not _shows_lips(frames[t]):
                # A face at rest is tied more: what moves a little in all of its numbers is noise.
                speed = min(max(float(change.abs().max()) / _STILL, self.options.still_speed), speed)
            self._tie(t, 0, change, rare(change, speed) / speed**2, t > 0)
            if not self.options.pose:
                continue
            turn = _turn_between(last.pose, frames[t].pose)
            shift = frames[t].pose.shift - last.pose.shift
            moved = torch.cat([turn, shift])
            allowed = torch.tensor([near / _REACH] * 3 + [near] * 3, dtype=torch.float64)
            self._tie(t, self.codes, moved, even(moved / allowed, 1.0) / allowed**2, t > 0)

    def _tie(self, t: int, first: int, change: Tensor, weight: Tensor, both: bool) -> None:
        now = torch.arange(len(change)) + t * self.each + first
        self.matrix[now, now] += weight
        self.vector[now] += weight * change
        if both:  # the frame before is of this window, too
            then = now - self.each
            self.matrix[then, then] += weight
            self.matrix[now, then] -= weight
            self.matrix[then, now] -= weight
            self.vector[then] -= weight * change

    def solve(self, codes: Tensor, limits: Limits) -> Tensor:
        """Changes (frames, E + 6); numbers that are at a limit and would pass it stay there."""
        free = torch.ones(len(self.vector), dtype=torch.bool)
        if limits is not None:
            slope = self.vector.view(len(codes), self.each)[:, : self.codes]
            stuck = ((codes <= limits[0]) & (slope > 0)) | ((codes >= limits[1]) & (slope < 0))
            free.view(len(codes), self.each)[:, : self.codes] = ~stuck
        matrix = self.matrix[free][:, free]
        matrix = matrix + torch.diag(1e-4 * matrix.diag() + 1e-9)
        change = torch.zeros_like(self.vector)
        change[free] = -torch.cholesky_solve(self.vector[free][:, None], torch.linalg.cholesky(matrix))[:, 0]
        return change.view(len(codes), self.each)


def _shows_lips(frame: Frame) -> bool:
    """Whether landmarks tell how far its lips are apart."""
    return frame.marks is not None and bool(torch.isfinite(frame.marks[[*_UPPER, *_LOWER]]).all(dim=1).any())


def _turn_between(first: Pose, second: Pose) -> Tensor:
    """Rotation vector (3,) of a small turn from one pose to another."""
    turn = second.turn @ first.turn.T
    vector = torch.stack([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2
    sine = float(vector.norm())
    angle = math.atan2(sine, (float(turn.trace()) - 1) / 2)
    return vector * (angle / sine if sine > 1e-12 else 1.0)


def _adam(
    field: DifferentiableField,
    frames: list[Frame],
    before: Frame | None,
    limits: Limits,
    options: FitOptions,
    generator: torch.Generator,
) -> None:
    """The paper's way; poses, which it knows, are moved along where they are asked for."""
    codes = torch.stack([frame.code for frame in frames]).float().requires_grad_()
    twists = torch.zeros(len(frames), 6, requires_grad=options.pose)
    optimizer = torch.optim.Adam([codes, twists] if options.pose else [codes], lr=_RATES[0])
    first = None if before is None else before.code.float()[None]
    for step in range(options.adam_steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATES[step >= 0.6 * options.adam_steps]
        optimizer.zero_grad()
        for t, frame in enumerate(frames):
            points = frame.drawn(options.points, generator)
            if options.pose:
                points = points @ rotation(twists[t, :3]).T + twists[t, 3:]
            loss = _DISTANCE * field.distance(points, codes[t]).abs().mean() / len(frames)
            loss.backward()  # type: ignore[no-untyped-call]
        row = codes if first is None else torch.cat([first, codes])
        change = row.diff(dim=0)
        rest = _SIZE * codes.square().sum(1).mean()
        if len(change):
            rest = rest + _CHANGE * torch.nn.functional.huber_loss(change, torch.zeros_like(change))
        rest.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if limits is not None:
            with torch.no_grad():
                codes.clamp_(*limits)
    for frame, code, twist in zip(frames, codes.detach().double(), twists.detach().double(), strict=True):
        frame.code = code
        if options.pose:
            frame.pose = frame.pose.moved(twist[:3], twist[3:])
