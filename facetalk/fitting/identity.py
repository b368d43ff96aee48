"""A person's identity code from a few near neutral scans, for the built-in head: a Newton search over its
coefficients, whose derivatives are differences of bound fields.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from facetalk.ambient import plainly
from facetalk.arrays import Float32
from facetalk.fitting.align import align
from facetalk.fitting.differentiable import DifferentiableField
from facetalk.fitting.options import MM, FitOptions
from facetalk.fitting.robust import scale_of, weights
from facetalk.fitting.sequence import checked
from facetalk.fitting.window import Frame, solve
from facetalk.nphm.head.head import HeadModel

_STEP = 0.25  # of a coefficient, whose deviation is 1, for differences
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

    Each round fits every frame's expression and pose with the identity as it is, and then takes a
    Gauss-Newton step of the leading coefficients, which are standard normal among people, with all frames'
    points at once. The size that the first alignment found is kept.

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
            solve(field, [frame], None, (0.0, 1.0), options, generator)
        drawn = [(frame.drawn(max(500, options.points // len(solved)), generator), frame.code.float())
                 for frame in solved]  # fmt: skip
        values[:count] += _change(head, values, count, drawn, options)
        field = DifferentiableField(head.nphm, head.encode_identity(values))
        progress(done + 1)
    return head.encode_identity(values)


def _change(
    head: HeadModel,
    values: Float32,
    count: int,
    drawn: list[tuple[Tensor, Tensor]],
    options: FitOptions,
) -> Float32:
    """The step (count,) of the leading coefficients."""

    def distances(at: Float32) -> Tensor:
        field = DifferentiableField(head.nphm, head.encode_identity(at))
        return torch.cat([field.slopes(points, code).value for points, code in drawn]).double()

    residual = distances(values)
    slopes = torch.empty(len(residual), count, dtype=torch.float64)
    for i in range(count):
        ends = []
        for sign in (1.0, -1.0):
            moved = values.copy()
            moved[i] += sign * _STEP
            ends.append(distances(moved))
        slopes[:, i] = (ends[0] - ends[1]) / (2 * _STEP)
    farthest = 2 * options.outlier_mm * MM
    scale = scale_of(residual[residual.abs() <= farthest], _LEAST_MM * MM)
    weight = weights(residual, scale, farthest) / scale**2
    matrix = slopes.T @ (weight[:, None] * slopes) + torch.eye(count, dtype=torch.float64)
    vector = slopes.T @ (weight * residual) + torch.from_numpy(values[:count]).double()
    step = -torch.linalg.solve(matrix, vector)
    return step.clamp(-1.0, 1.0).float().numpy()
