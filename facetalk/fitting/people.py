"""What is unknown of a person: coefficients of the built-in head, or the code of any NPHM."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from facetalk.arrays import Float32
from facetalk.fitting.differentiable import DifferentiableField, Slopes
from facetalk.fitting.marks import USED
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.plain_head import PlainHead

__all__ = ["Code", "Coefficients"]

_WIDTH = 0.25  # of a coefficient, whose deviation is 1, for differences
_DAMPING = 0.3  # of steps of an NPHM's code: share of the curvature that is added to it
_SPREAD = 0.1  # standard deviation that the numbers of an NPHM's code are expected to have
_MOST = 1500  # points of a scan whose derivatives by an NPHM's code are taken
_TOGETHER = 64  # of them at a time, which bounds memory


class Coefficients:
    """The built-in head's person as leading coefficients."""

    most, damping = 1 << 30, 0.0

    def __init__(self, head: HeadModel, count: int, start: Float32 | None = None) -> None:
        self._head, self._count = head, min(count, head.coefficient_dim)
        self._values = np.zeros(head.coefficient_dim, np.float32)
        if start is not None:
            self._values[: self._count] = head.coefficients(start)[: self._count]

    def code(self) -> Float32:
        """The identity code (L,)."""
        return self._head.encode_identity(self._values)

    def field(self) -> DifferentiableField:
        """The head with it."""
        return DifferentiableField(self._head.nphm, self.code())

    def move(self, change: Tensor) -> None:
        """Change what is looked for by (n,)."""
        self._values[: self._count] += change.float().numpy()

    def expected(self) -> tuple[Tensor, Tensor]:
        """Inverse variance (n,) of what is looked for, and its distance (n,) from the mean."""
        values = torch.from_numpy(self._values[: self._count].astype(np.float64))
        return torch.ones(self._count, dtype=torch.float64), values

    def slopes(self, points: list[Tensor], codes: list[Tensor]) -> tuple[list[Slopes], list[Tensor]]:
        """Distances of every frame's points, and their derivatives (N, n)."""
        field = self.field()
        here = [field.slopes(*pair) for pair in zip(points, codes, strict=True)]
        by = [torch.zeros(len(some), self._count) for some in points]
        for i in range(self._count):
            moved = self._values.copy()
            moved[i] += _WIDTH
            bound = DifferentiableField(self._head.nphm, self._head.encode_identity(moved)).bound
            for t, (some, code) in enumerate(zip(points, codes, strict=True)):
                if len(some):
                    there = bound.evaluate(some, code[None], "sdf")[0]
                    by[t][:, i] = (there - here[t].value) / _WIDTH
        return here, by

    def mark_slopes(self) -> Tensor:
        """(51, 3, n) how the used landmarks move."""
        basis = np.asarray(self._head.tables.linear["landmarks_basis"], np.float64)
        return torch.from_numpy(basis[: self._count, USED]).permute(1, 2, 0)


class Code:
    """An NPHM's person as its code."""

    most, damping = _MOST, _DAMPING

    def __init__(self, head: PlainHead, start: Float32 | None = None) -> None:
        self._head, self._nphm = head, head.nphm
        self._values = torch.zeros(head.identity_dim) if start is None else torch.from_numpy(start.copy())

    def code(self) -> Float32:
        """The identity code (L,)."""
        return np.asarray(self._values.numpy().copy(), np.float32)

    def field(self) -> DifferentiableField:
        """The head with it."""
        return DifferentiableField(self._nphm, self._values)

    def move(self, change: Tensor) -> None:
        """Change what is looked for by (n,)."""
        self._values = self._values + change.float()

    def expected(self) -> tuple[Tensor, Tensor]:
        """Inverse variance (n,) of what is looked for, and its distance (n,) from what is expected."""
        precision = torch.full((len(self._values),), _SPREAD**-2, dtype=torch.float64)
        return precision, self._values.double()

    def slopes(self, points: list[Tensor], codes: list[Tensor]) -> tuple[list[Slopes], list[Tensor]]:
        """Distances of every frame's points, and their derivatives (N, n)."""
        field, here, by = self.field(), [], []
        for some, code in zip(points, codes, strict=True):
            here.append(field.slopes(some, code))
            by.append(torch.cat([self._by_code(field, part, code) for part in some.split(_TOGETHER)]))
        return here, by

    def mark_slopes(self) -> Tensor:
        """(51, 3, n) how the used landmarks move, which follow the anchors."""
        jacobian = torch.func.jacrev(lambda code: self._nphm.identity.anchors(code[None])[0])(self._values)
        share = torch.from_numpy(self._head.anchor_shares()[USED])
        return torch.einsum("pk,kcn->pcn", share, jacobian.detach()).double()

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
