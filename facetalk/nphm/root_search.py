"""Where points of posed space were in the neutral head, for models whose deformation goes forward.

posed = x + F(x) has to be solved for x. This is the search of the NPHM project (`search` in its released
code) in plain torch, in any precision: Broyden's "good" method (C. G. Broyden, Math. Comp. 19, 1965) from the
exact Jacobian at the point itself. Bound fields solve the same equation by compiled kernels
(:mod:`facetalk.nphm.posed`), whose slow twin this is.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from facetalk.nphm.networks import SOFTPLUS_BETA, FoldedNetwork

# The official limits: at most so many updates; a point has arrived at this |x + F(x) - posed| (head units)
# and is given up at the other one.
STEPS = 15
ARRIVED = 1e-6
GIVEN_UP = 0.2
# What float32 leaves of a difference of coordinates near 1, which counts on top far from the origin.
ROUNDING = 2.0**-22

_PATIENCE = 40  # damped steps for what the search above left
_LONGEST = 0.1  # head units; 25 mm, farther than an expression moves a point
_SHORTEST = 1.0 / 32.0  # share of a step below which its direction is given up
_SINGULAR = 1e-6  # determinant below which a Jacobian is not inverted


class RootWarning(UserWarning):
    """Some points of posed space have no point of the neutral head that an expression moves there.

    Their values are those of the neutral point that comes nearest; ``Field.roots`` says which they are.
    """


@dataclasses.dataclass(frozen=True)
class Roots:
    """Neutral points x of posed points p with x + F(x) = p.

    Attributes:
        points: (T, N, 3) neutral points, head space; where not converged, the one that comes nearest.
        residual: (T, N) |x + F(x) - p|, head units.
        converged: (T, N) whether the residual is within the official 1e-6, and float32's rounding of p.
    """

    points: Any
    residual: Any
    converged: Any

    @property
    def failed(self) -> int:
        """Points, over all frames, that no root was found for."""
        return int((~self.converged).sum())


def warn_of(lost: int, points: int) -> None:
    """The :class:`RootWarning` of so many points of so many."""
    if lost:
        warnings.warn(
            f"{lost} of {points} points have no root of x + F(x) = point; they were given the value of the "
            f"neutral point that comes nearest (Field.roots says which they are)",
            RootWarning,
            stacklevel=2,
        )


def converged(residual: Tensor, targets: Tensor) -> Tensor:
    """Whether residuals (..., N) count as arrived for targets (N, 3)."""
    return residual <= ARRIVED + ROUNDING * targets.abs().amax(dim=-1)


def find_roots(
    offsets: Callable[[Tensor], Tensor], jacobian: Callable[[Tensor], Tensor], targets: Tensor
) -> Roots:
    """Solve x + offsets(x) = targets, each from x = target.

    Points at which the official search ends without a root are tried again, with exact Jacobians and steps
    that are halved until they come closer.

    Args:
        offsets: (n, 3) of points (n, 3).
        jacobian: (n, 3, 3) of the offsets by the point.
        targets: (N, 3).

    Returns:
        the roots, of one frame: (N, 3), (N,), (N,).
    """
    with torch.no_grad():
        x, left = official_search(offsets, jacobian, targets)
        lost = torch.nonzero(~converged(left, targets))[:, 0]
        if len(lost):
            again, error = _damped(offsets, jacobian, targets[lost])
            closer = error < left[lost]
            x[lost[closer]], left[lost[closer]] = again[closer], error[closer]
        return Roots(x, left, converged(left, targets))


def official_search(
    offsets: Callable[[Tensor], Tensor], jacobian: Callable[[Tensor], Tensor], targets: Tensor
) -> tuple[Tensor, Tensor]:
    """The released search: best iterates (N, 3) and their residuals (N,).

    The released code means to return the best iterate and returns the last one (its `x_opt` is `x`); where it
    converges they are the same.
    """
    x = targets.clone()
    inverse = inverses(jacobian(x))
    rest = offsets(x)
    best, residual = x.clone(), rest.norm(dim=1)
    active = torch.nonzero((residual > ARRIVED) & (residual < GIVEN_UP))[:, 0]
    for _ in range(STEPS):
        if not len(active):
            break
        step = -(inverse[active] @ rest[active, :, None])[..., 0]
        x[active] += step
        new = x[active] + offsets(x[active]) - targets[active]
        change = new - rest[active]
        rest[active] = new
        distance = new.norm(dim=1)
        closer = distance < residual[active]
        best[active[closer]], residual[active[closer]] = x[active[closer]], distance[closer]
        row = (step[:, None] @ inverse[active])[:, 0]
        below = (row * change).sum(1, keepdim=True)
        below = below + torch.where(below < 0, -1e-6, 1e-6)
        gain = (step - (inverse[active] @ change[..., None])[..., 0]) / below
        inverse[active] += gain[:, :, None] * row[:, None]
        # Written so that what is not a number ends the search.
        active = active[(residual[active] > ARRIVED) & (distance < GIVEN_UP)]
    return best, residual


def _damped(
    offsets: Callable[[Tensor], Tensor], jacobian: Callable[[Tensor], Tensor], targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Newton's method that takes a step only if it comes closer, else halves it."""
    x = targets.clone()
    rest = offsets(x)
    residual = rest.norm(dim=1)
    share = torch.ones_like(residual)
    active = torch.arange(len(x), device=x.device)
    for _ in range(_PATIENCE):
        active = active[(residual[active] > ARRIVED) & (share[active] >= _SHORTEST)]
        if not len(active):
            break
        step = -(inverses(jacobian(x[active])) @ rest[active, :, None])[..., 0]
        step = step * (_LONGEST / step.norm(dim=1, keepdim=True)).clamp(max=1.0)
        tried = x[active] + share[active, None] * step
        new = tried + offsets(tried) - targets[active]
        closer = new.norm(dim=1) < residual[active]
        share[active[~closer]] *= 0.5
        moved = active[closer]
        x[moved], rest[moved], residual[moved], share[moved] = (
            tried[closer], new[closer], new[closer].norm(dim=1), 1.0
        )  # fmt: skip
    return x, residual


def inverses(jacobian: Tensor) -> Tensor:
    """Inverses of I + jacobian (..., 3, 3); the identity where that is singular."""
    eye = torch.eye(3, dtype=jacobian.dtype, device=jacobian.device)
    matrix = jacobian + eye
    usable = (torch.linalg.det(matrix).abs() > _SINGULAR)[..., None, None]
    return torch.linalg.inv(torch.where(usable, matrix, eye))


def offset_jacobian(points: Tensor, folded: FoldedNetwork) -> Tensor:
    """Derivatives (N, 3 + m, 3) of a folded deformation's offsets at points (N, 3), [..., output, input].

    They are carried forward beside the values, so they need no autograd, which inference mode has not.
    """
    h = slopes = points.new_zeros(())
    slope = points.new_zeros(())
    for i, layer in enumerate(folded.layers):
        value, slope = layer.bias[0], points.new_zeros(())
        if layer.hidden is not None:
            value = value + h @ layer.hidden[0].T
            slope = layer.hidden[0] @ slopes
        if layer.coords is not None:
            value = value + points @ layer.coords[0].T
            slope = slope + layer.coords[0]
        if i < len(folded.layers) - 1:
            h = torch.nn.functional.softplus(value, beta=SOFTPLUS_BETA)
            slopes = torch.sigmoid(SOFTPLUS_BETA * value)[..., None] * slope
    return slope.expand(len(points), -1, -1)
