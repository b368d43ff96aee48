"""A person's identity code from a few near neutral scans, by Gauss-Newton steps.

Of the built-in head its morphable model's coefficients are looked for, whose derivatives are differences of
bound fields; of any NPHM the code itself, every point's derivative by it by autograd through the networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from facetalk.ambient import plainly
from facetalk.arrays import Float32
from facetalk.fitting.align import align, placed
from facetalk.fitting.differentiable import DifferentiableField, Slopes
from facetalk.fitting.options import MM, FitOptions
from facetalk.fitting.pose import pose_slopes
from facetalk.fitting.robust import scale_of, weights
from facetalk.fitting.sequence import checked
from facetalk.fitting.window import Frame, Limits, solve
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.plain_head import PlainHead

__all__ = ["fit_identity"]

_WIDTH = 0.25  # of a coefficient, whose deviation is 1, for differences
_STEPS = 2  # of a round
_SIZE = 0.03  # standard deviation of a change of size
_LEAST_MM, _FAR_MM = 0.3, 60.0
_DAMPING = 0.3  # of steps of an NPHM's code: share of the curvature that is added to it
_SPREAD = 0.1  # standard deviation that the numbers of an NPHM's code are expected to have
_MOST = 1500  # points of a scan whose derivatives by an NPHM's code are taken
_TOGETHER = 64  # of them at a time, which bounds memory


@plainly
def fit_identity(
    frames: Sequence[ArrayLike],
    head: HeadModel | PlainHead,
    *,
    coefficients: int = 30,
    rounds: int = 4,
    options: FitOptions | None = None,
    unit: str | None = None,
    progress: Callable[[int], None] = lambda rounds: None,
) -> Float32:
    """The identity code (L,) that explains scans of one person best.

    Each round fits every frame's expression and pose with the identity as it is, and then takes Gauss-Newton
    steps of the identity, together with every frame's code, pose and size, with all frames' points at once.
    The built-in head's coefficients are standard normal among people; the numbers of an NPHM's code are
    expected to be small.

    Args:
        frames: (N, 3) points of each scan, as near to neutral as there are.
        head: the head.
        coefficients: how many of the built-in head's leading ones are looked for.
        rounds: of both.
        options: of the expressions' part.
        unit: of the points, None to find it.
        progress: called with how many rounds are done.

    Raises:
        InputError: points that are not finite or too few, or that do not lie on the head.
    """
    options = options or FitOptions()
    generator = torch.Generator().manual_seed(options.seed)
    scans = [checked(points, f"frame {t}") for t, points in enumerate(frames)]
    person = _Coefficients(head, coefficients) if isinstance(head, HeadModel) else _Code(head)
    field = person.field()
    rest = torch.zeros(field.expression_dim, dtype=torch.float64)
    limits: Limits = (0.0, 1.0) if isinstance(head, HeadModel) else None
    solved = [
        Frame(scan, rest, placed(unit) if options.aligned else align(field, scan.numpy(), rest, unit))
        for scan in scans
    ]
    for done in range(rounds):
        for frame in solved:
            solve(field, [frame], None, limits, options, generator)
        # Points far off pull at first, as a stranger's face may be anywhere; then near ones decide.
        farthest = MM * max(2 * options.outlier_mm, _FAR_MM * 0.5**done)
        most = min(person.most, max(500, options.points // len(solved)))
        for _ in range(_STEPS):
            points = [frame.drawn(most, generator) for frame in solved]
            here, by = person.slopes(points, [frame.code.float() for frame in solved])
            expected = (*person.expected(), person.damping)
            person.move(_change(here, by, points, solved, expected, farthest, limits, options))
        field = person.field()
        progress(done + 1)
    return person.code()


class _Coefficients:
    """The built-in head's person as leading coefficients."""

    most, damping = 1 << 30, 0.0

    def __init__(self, head: HeadModel, count: int) -> None:
        self._head, self._count = head, min(count, head.coefficient_dim)
        self._values = np.zeros(head.coefficient_dim, np.float32)

    def code(self) -> Float32:
        return self._head.encode_identity(self._values)

    def field(self) -> DifferentiableField:
        return DifferentiableField(self._head.nphm, self.code())

    def move(self, change: Tensor) -> None:
        self._values[: self._count] += change.float().numpy()

    def expected(self) -> tuple[Tensor, Tensor]:
        """Inverse variance (n,) of what is looked for, and its distance (n,) from the mean."""
        return torch.ones(self._count, dtype=torch.float64), torch.zeros(self._count, dtype=torch.float64)

    def slopes(self, points: list[Tensor], codes: list[Tensor]) -> tuple[list[Slopes], list[Tensor]]:
        """Distances of every frame's points, and their derivatives (N, n)."""

        def at(values: Float32) -> list[Slopes]:
            field = DifferentiableField(self._head.nphm, self._head.encode_identity(values))
            return [field.slopes(*pair) for pair in zip(points, codes, strict=True)]

        by = []
        for i in range(self._count):
            ends = []
            for sign in (1.0, -1.0):
                moved = self._values.copy()
                moved[i] += sign * _WIDTH
                ends.append([found.value for found in at(moved)])
            by.append([(more - less) / (2 * _WIDTH) for more, less in zip(*ends, strict=True)])
        return at(self._values), [torch.stack([row[t] for row in by], 1) for t in range(len(points))]


class _Code:
    """An NPHM's person as its code."""

    most, damping = _MOST, _DAMPING

    def __init__(self, head: PlainHead) -> None:
        self._nphm, self._values = head.nphm, torch.zeros(head.identity_dim)

    def code(self) -> Float32:
        return np.asarray(self._values.numpy().copy(), np.float32)

    def field(self) -> DifferentiableField:
        return DifferentiableField(self._nphm, self._values)

    def move(self, change: Tensor) -> None:
        self._values = self._values + change.float()

    def expected(self) -> tuple[Tensor, Tensor]:
        precision = torch.full((len(self._values),), _SPREAD**-2, dtype=torch.float64)
        return precision, self._values.double()

    def slopes(self, points: list[Tensor], codes: list[Tensor]) -> tuple[list[Slopes], list[Tensor]]:
        field, here, by = self.field(), [], []
        for some, code in zip(points, codes, strict=True):
            here.append(field.slopes(some, code))
            by.append(torch.cat([self._by_code(field, part, code) for part in some.split(_TOGETHER)]))
        return here, by

    def _by_code(self, field: DifferentiableField, points: Tensor, expression: Tensor) -> Tensor:
        """(N, L) derivatives of posed distances at points (N, 3) by the identity code.

        Every point has a code of its own, so that one pass back gives all of their derivatives. Of a forward
        model the distance at p is f at the root x of x + F(x) = p, which moves with the code by the implicit
        function theorem: -(I + dF/dx)^-1 dF.
        """
        identity, deformation = self._nphm.identity, self._nphm.deformation
        assert deformation is not None
        with torch.enable_grad():
            own = self._values.expand(len(points), -1).clone().requires_grad_()
            anchors = identity.anchors(own)
            codes = expression.expand(len(points), -1)
            if self._nphm.direction == "backward":
                moved = deformation(points[:, None], own, codes, anchors)
                y = torch.cat([points[:, None] + moved[..., :3], moved[..., 3:]], -1)
                total = identity(y, own, anchors=anchors).sum()
            else:
                x, carried = field.roots(points, expression)
                offsets = deformation(x[:, None], own, codes, anchors)[:, 0]
                total = identity(x[:, None], own, anchors=anchors).sum() - (carried * offsets).sum()
            (slope,) = torch.autograd.grad(total, own)
        return slope


def _change(
    here: list[Slopes],
    by: list[Tensor],
    points: list[Tensor],
    frames: list[Frame],
    expected: tuple[Tensor, Tensor, float],
    farthest: float,
    limits: Limits,
    options: FitOptions,
) -> Tensor:
    """The change (n,) of the identity's numbers; codes and poses of the frames change along with it.

    Each frame's own unknowns, its code, its pose and its size, are solved for together with the identity's
    (by the Schur complement), as they could otherwise explain most of a person away.
    """
    matrix, vector = torch.diag(expected[0]), expected[0] * expected[1]
    kept = []
    for found, ours, some, frame in zip(here, by, points, frames, strict=True):
        ours, size = ours.double(), len(frame.code)
        own = torch.cat([found.by_expression, pose_slopes(some, found.by_point)], 1).double()
        residual = found.value.double()
        scale = scale_of(residual[residual.abs() <= farthest], _LEAST_MM * MM)
        weight = weights(residual, scale, farthest)[:, None] / scale**2
        alone = torch.full((own.shape[1],), 1e-6, dtype=torch.float64)
        alone[:size] = 1 / options.code_spread**2
        alone[-1] = 1 / _SIZE**2
        inner = own.T @ (weight * own) + torch.diag(alone)
        pull = own.T @ (weight[:, 0] * residual)
        pull[:size] += frame.code / options.code_spread**2
        across = own.T @ (weight * ours)
        solved = torch.linalg.solve(inner, torch.cat([across, pull[:, None]], 1))
        matrix += ours.T @ (weight * ours) - across.T @ solved[:, :-1]
        vector += ours.T @ (weight[:, 0] * residual) - across.T @ solved[:, -1]
        kept.append(solved)
    matrix += expected[2] * torch.diag(matrix.diag())
    change = -torch.linalg.solve(matrix, vector).clamp(-1.0, 1.0)
    for frame, solved in zip(frames, kept, strict=True):
        own = (-solved[:, -1] - solved[:, :-1] @ change).clamp(-0.3, 0.3)
        size = len(frame.code)
        code = frame.code + own[:size]
        frame.code = code if limits is None else code.clamp(*limits)
        turn, shift, stretch = own[size:].split((3, 3, 1))
        frame.pose = frame.pose.moved(turn, shift, float(stretch.clamp(-0.05, 0.05)))
    return change
