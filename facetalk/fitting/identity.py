"""A person's identity code from a few near neutral frames, by Gauss-Newton steps.

Of the built-in head its morphable model's coefficients are looked for, whose derivatives are differences of
bound fields; of any NPHM the code itself, every point's derivative by it by autograd through the networks
(:mod:`facetalk.fitting.people`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from facetalk.ambient import plainly
from facetalk.arrays import Float32
from facetalk.errors import InputError
from facetalk.fitting.align import UNITS, align, align_marks, placed
from facetalk.fitting.differentiable import DifferentiableField, Slopes
from facetalk.fitting.frame import Frame, Limits, mark_slopes
from facetalk.fitting.marks import FaceMarks, marks_of
from facetalk.fitting.options import MM, FitOptions
from facetalk.fitting.people import Code, Coefficients
from facetalk.fitting.pose import Pose, pose_slopes
from facetalk.fitting.robust import scale_of, weights
from facetalk.fitting.sequence import checked, checked_marks
from facetalk.fitting.window import solve
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.plain_head import PlainHead
from facetalk.units import HEAD_UNIT_METRES

__all__ = ["fit_identity"]

_STEPS = 2  # of a round
_SIZE = 0.03  # standard deviation of a head's size about its unit's
_UNIT = 0.15  # share by which the size of landmarks may be off a unit's, and it is theirs all the same
_LEAST_MM, _FAR_MM = 0.3, 60.0


@plainly
def fit_identity(
    frames: Sequence[ArrayLike] | None,
    head: HeadModel | PlainHead,
    *,
    coefficients: int = 30,
    rounds: int = 4,
    options: FitOptions | None = None,
    unit: str | None = None,
    progress: Callable[[int], None] = lambda rounds: None,
    marks: ArrayLike | None = None,
    start: ArrayLike | None = None,
) -> Float32:
    """The identity code (L,) that explains frames of one person best.

    Each round fits every frame's expression and pose with the identity as it is, and then takes Gauss-Newton
    steps of the identity, together with every frame's code, pose and size, with all frames' points and
    landmarks at once. The built-in head's coefficients are standard normal among people; the numbers of an
    NPHM's code are expected to be small.

    Args:
        frames: (N, 3) points of each frame, as near to neutral as there are; with landmarks some may have
            none, or it may be None altogether.
        head: the head.
        coefficients: how many of the built-in head's leading ones are looked for.
        rounds: of both.
        options: of the expressions' part; `point_share` and `landmark_mm` stand for the identity's, too.
        unit: of the points, None to find it.
        progress: called with how many rounds are done.
        marks: (T, 68, 3) landmarks in the points' space, see :func:`facetalk.fitting.fit_sequence`.
        start: (L,) code to begin with, None for the head's default one.

    Raises:
        InputError: points that are not finite or too few, or that do not lie on the head.
    """
    options = options or FitOptions()
    generator = torch.Generator().manual_seed(options.seed)
    seen = checked_marks(marks, frames, options)
    if frames is None and seen is None:
        raise InputError("frames: expected points or landmarks of a person, got none")
    count = len(frames) if frames is not None else len(seen if seen is not None else ())
    first = None if start is None else np.asarray(start, np.float32)
    person = Coefficients(head, coefficients, first) if isinstance(head, HeadModel) else Code(head, first)
    field = person.field()
    limits: Limits = (0.0, 1.0) if isinstance(head, HeadModel) else None
    face = None if seen is None else marks_of(head, person.code(), field)
    solved = []
    for t in range(count):
        points = _points(frames, t, seen is not None)
        mark = None if seen is None else seen[t]
        pose = _placed(field, points, mark, face, options, unit)
        if pose is not None:
            rest = torch.zeros(field.expression_dim, dtype=torch.float64)
            solved.append(Frame(points, rest, pose, mark))
    if not solved:
        raise InputError("the first frames show no face to find a person by")
    nominal = [_nominal(frame.pose.scale, unit) for frame in solved]
    for done in range(rounds):
        for frame in solved:
            solve(field, [frame], None, limits, options, generator, face)
        # Points far off pull at first, as a stranger's face may be anywhere; then near ones decide.
        farthest = MM * max(2 * options.outlier_mm, _FAR_MM * 0.5**done)
        most = min(person.most, max(500, options.points // len(solved)))
        for _ in range(_STEPS):
            points_of = [frame.drawn(most, generator) for frame in solved]
            here, by = person.slopes(points_of, [frame.code.float() for frame in solved])
            system = _System(*person.expected(), person.damping, limits, options)
            for found, ours, some, frame, size in zip(here, by, points_of, solved, nominal, strict=True):
                told = None if face is None else (face, person.mark_slopes())
                system.observe(found, ours, some, frame, size, farthest, told)
            person.move(system.change(solved))
            if seen is not None:
                face = marks_of(head, person.code(), person.field())
        field = person.field()
        progress(done + 1)
    return person.code()


def _points(frames: Sequence[ArrayLike] | None, t: int, blind: bool) -> Tensor:
    if frames is None:
        return torch.zeros(0, 3, dtype=torch.float64)
    if blind and not len(points := np.asarray(frames[t], np.float64)):
        return torch.from_numpy(points.reshape(0, 3))
    return checked(frames[t], f"frame {t}")


def _placed(
    field: DifferentiableField,
    points: Tensor,
    mark: Tensor | None,
    face: FaceMarks | None,
    options: FitOptions,
    unit: str | None,
) -> Pose | None:
    """Where a frame lies; None where it shows nothing."""
    rest = torch.zeros(field.expression_dim, dtype=torch.float64)
    if options.aligned:
        return placed(unit)
    if face is not None and mark is not None and int(torch.isfinite(mark).all(dim=1).sum()) >= _SHOWN:
        return align_marks(field, face.carried(rest)[0], mark, points, rest, unit)
    return align(field, points.numpy(), rest, unit) if len(points) else None


_SHOWN = 20  # landmarks that place a frame


def _nominal(scale: float, unit: str | None) -> float:
    """Head units per unit of the points that a head's size is expected about."""
    if unit is not None:
        return placed(unit).scale
    near = min(
        (metres / HEAD_UNIT_METRES for metres in UNITS.values()), key=lambda x: abs(math.log(scale / x))
    )
    return near if abs(math.log(scale / near)) < _UNIT else scale


class _System:
    """Normal equations of a person's n numbers.

    Each frame's own unknowns, its code, its pose and its size, are solved for together with the person's
    (by the Schur complement), as they could otherwise explain most of a person away.
    """

    def __init__(
        self, precision: Tensor, off: Tensor, damping: float, limits: Limits, options: FitOptions
    ) -> None:
        self._matrix, self._vector = torch.diag(precision), precision * off
        self._damping, self._limits, self._options = damping, limits, options
        self._kept: list[Tensor] = []

    def observe(
        self,
        found: Slopes,
        ours: Tensor,
        points: Tensor,
        frame: Frame,
        nominal: float,
        farthest: float,
        told: tuple[FaceMarks, Tensor] | None,
    ) -> None:
        """Add a frame.

        Args:
            found: distances of its points.
            ours: (N, n) their derivatives by the person's numbers.
            points: (N, 3) head space.
            frame: its code, pose and landmarks.
            nominal: what its size is expected about.
            farthest: head units, from which on a point counts for nothing.
            told: the landmarks and their derivatives (51, 3, n), or None.
        """
        options, size = self._options, len(frame.code)
        own = torch.cat([found.by_expression, pose_slopes(points, found.by_point)], 1).double()
        ours, residual = ours.double(), found.value.double()
        alone = torch.full((own.shape[1],), 1e-6, dtype=torch.float64)
        alone[:size] = 1 / options.code_spread**2
        alone[-1] = 1 / _SIZE**2
        inner, pull = torch.diag(alone), torch.zeros(own.shape[1], dtype=torch.float64)
        pull[:size] = frame.code / options.code_spread**2
        pull[-1] = math.log(frame.pose.scale / nominal) / _SIZE**2
        across = torch.zeros(own.shape[1], len(self._vector), dtype=torch.float64)
        rows = []
        if len(points):
            scale = scale_of(residual[residual.abs() <= farthest], _LEAST_MM * MM)
            weight = options.point_share * weights(residual, scale, farthest) / scale**2
            rows.append((own, ours, residual, weight))
        seen = (
            None
            if told is None or frame.marks is None
            else mark_slopes(frame, told[0], options.landmark_mm * MM)
        )
        if told is not None and seen is not None and frame.marks is not None:
            off, by_own, weight = seen
            moved = -told[1][torch.isfinite(frame.marks).all(dim=1)]
            rows.append(
                (by_own.flatten(0, 1), moved.flatten(0, 1), off.flatten(), weight.repeat_interleave(3))
            )
        for own, ours, residual, weight in rows:
            inner += own.T @ (weight[:, None] * own)
            pull += own.T @ (weight * residual)
            across += own.T @ (weight[:, None] * ours)
            self._matrix += ours.T @ (weight[:, None] * ours)
            self._vector += ours.T @ (weight * residual)
        solved = torch.linalg.solve(inner, torch.cat([across, pull[:, None]], 1))
        self._matrix -= across.T @ solved[:, :-1]
        self._vector -= across.T @ solved[:, -1]
        self._kept.append(solved)

    def change(self, frames: list[Frame]) -> Tensor:
        """The change (n,) of the person's numbers; codes and poses of the frames change along with it."""
        matrix = self._matrix + self._damping * torch.diag(self._matrix.diag())
        change = -torch.linalg.solve(matrix, self._vector).clamp(-1.0, 1.0)
        for frame, solved in zip(frames, self._kept, strict=True):
            own = (-solved[:, -1] - solved[:, :-1] @ change).clamp(-0.3, 0.3)
            size = len(frame.code)
            code = frame.code + own[:size]
            frame.code = code if self._limits is None else code.clamp(*self._limits)
            turn, shift, stretch = own[size:].split((3, 3, 1))
            frame.pose = frame.pose.moved(turn, shift, float(stretch.clamp(-0.05, 0.05)))
        return change
