"""A person's identity code from a few near neutral scans, for the built-in head: a Newton search over its
coefficients, whose derivatives are differences of bound fields.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike

from facetalk.ambient import plainly
from facetalk.arrays import Float32
from facetalk.fitting.align import align
from facetalk.fitting.differentiable import DifferentiableField, Slopes
from facetalk.fitting.options import MM, FitOptions
from facetalk.fitting.pose import pose_slopes
from facetalk.fitting.robust import scale_of, weights
from facetalk.fitting.sequence import checked
from facetalk.fitting.window import Frame, solve
from facetalk.nphm.head.head import HeadModel

_WIDTH = 0.25  # of a coefficient, whose deviation is 1, for differences
_STEPS = 2  # of a round
_SIZE = 0.03  # standard deviation of a change of size
_LIMITS = (0.0, 1.0)  # of the head's expression weights
_LEAST_MM = 0.3


@plainly
def fit_identity(
    frames: Sequence[ArrayLike],
    head: HeadModel,
    *,
    coefficients: int = 30,
    rounds: int = 4,
    options: FitOptions | None = None,
    unit: str | None = None,
    progress: Callable[[int], None] = lambda rounds: None,
) -> Float32:
    """The identity code (L,) of the built-in head that explains scans of one person best.

    Each round fits every frame's expression and pose with the identity as it is, and then takes Gauss-Newton
    steps of the leading coefficients, which are standard normal among people, together with every frame's
    code, pose and size, with all frames' points at once.

    Args:
        frames: (N, 3) points of each scan, as near to neutral as there are.
        head: the built-in head.
        coefficients: how many of the leading ones are looked for.
        rounds: of both.
        options: of the expressions' part.
        unit: of the points, None to find it.
        progress: called with how many rounds are done.

    Raises:
        InputError: points that are not finite or too few, or that do not lie on the head.
    """
    options = options or FitOptions()
    count = min(coefficients, head.coefficient_dim)
    values = np.zeros(head.coefficient_dim, np.float32)
    generator = torch.Generator().manual_seed(options.seed)
    scans = [checked(points, f"frame {t}") for t, points in enumerate(frames)]
    field = DifferentiableField(head.nphm, head.encode_identity(values))
    rest = torch.zeros(field.expression_dim, dtype=torch.float64)
    solved = [Frame(scan, rest, align(field, scan.numpy(), rest, unit)) for scan in scans]
    for done in range(rounds):
        for frame in solved:
            solve(field, [frame], None, _LIMITS, options, generator)
        most = max(500, options.points // len(solved))
        for _ in range(_STEPS):
            values[:count] += _step(head, values, count, solved, most, options, generator)
        field = DifferentiableField(head.nphm, head.encode_identity(values))
        progress(done + 1)
    return head.encode_identity(values)


def _step(
    head: HeadModel,
    values: Float32,
    count: int,
    frames: list[Frame],
    most: int,
    options: FitOptions,
    generator: torch.Generator,
) -> Float32:
    """The change (count,) of the leading coefficients; codes and poses of the frames change along with it.

    Each frame's own unknowns, its code, its pose and its size, are solved for together with the coefficients
    (by the Schur complement), as they could otherwise explain most of a person away.
    """
    points = [frame.drawn(most, generator) for frame in frames]
    codes = [frame.code.float() for frame in frames]

    def slopes(at: Float32) -> list[Slopes]:
        field = DifferentiableField(head.nphm, head.encode_identity(at))
        return [field.slopes(*pair) for pair in zip(points, codes, strict=True)]

    here, by = slopes(values), []
    for i in range(count):
        ends = []
        for sign in (1.0, -1.0):
            moved = values.copy()
            moved[i] += sign * _WIDTH
            ends.append([found.value for found in slopes(moved)])
        by.append([(more - less) / (2 * _WIDTH) for more, less in zip(*ends, strict=True)])
    matrix = torch.eye(count, dtype=torch.float64)
    vector = torch.from_numpy(values[:count]).double()
    farthest, kept = 2 * options.outlier_mm * MM, []
    for t, found in enumerate(here):
        ours = torch.stack([row[t] for row in by], 1).double()
        own = torch.cat([found.by_expression, pose_slopes(points[t], found.by_point)], 1).double()
        residual = found.value.double()
        scale = scale_of(residual[residual.abs() <= farthest], _LEAST_MM * MM)
        weight = weights(residual, scale, farthest)[:, None] / scale**2
        expected = torch.full((own.shape[1],), 1e-6, dtype=torch.float64)
        expected[: len(codes[t])] = 1 / options.code_spread**2
        expected[-1] = 1 / _SIZE**2
        inner = own.T @ (weight * own) + torch.diag(expected)
        pull = own.T @ (weight[:, 0] * residual)
        pull[: len(codes[t])] += codes[t].double() / options.code_spread**2
        across = own.T @ (weight * ours)
        solved = torch.linalg.solve(inner, torch.cat([across, pull[:, None]], 1))
        matrix += ours.T @ (weight * ours) - across.T @ solved[:, :-1]
        vector += ours.T @ (weight[:, 0] * residual) - across.T @ solved[:, -1]
        kept.append(solved)
    change = -torch.linalg.solve(matrix, vector).clamp(-1.0, 1.0)
    for frame, solved in zip(frames, kept, strict=True):
        own = (-solved[:, -1] - solved[:, :-1] @ change).clamp(-0.3, 0.3)
        size = len(frame.code)
        frame.code = (frame.code + own[:size]).clamp(*_LIMITS)
        turn, shift, stretch = own[size:].split((3, 3, 1))
        frame.pose = frame.pose.moved(turn, shift, float(stretch.clamp(-0.05, 0.05)))
    return change.float().numpy()
