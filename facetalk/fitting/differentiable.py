"""A bound head whose posed distance has derivatives by point and by expression code, without autograd.

The ensemble, which costs most, is evaluated by the compiled core, with its gradient; the deformation, a small
network, is gone through by hand. An expression enters the deformation by the biases of two layers alone, so
that the derivative of *each* point's distance by the whole code costs one pass back and one matrix product,
which is what a Gauss-Newton step needs. The slow twin is autograd through :meth:`facetalk.nphm.NPHM.sdf`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from facetalk.errors import InputError
from facetalk.nphm.bound import Bound, Networks
from facetalk.nphm.networks import SOFTPLUS_BETA, DeformationNetwork, FoldedNetwork
from facetalk.nphm.posed import posed_roots
from facetalk.nphm.root_search import inverses

__all__ = ["DifferentiableField", "Slopes"]


@dataclasses.dataclass(frozen=True)
class Slopes:
    """Posed signed distances and their derivatives.

    Attributes:
        value: (N,) signed distance, head units, negative inside.
        by_point: (N, 3) derivative by the point.
        by_expression: (N, E) derivative by the expression code.
    """

    value: Tensor
    by_point: Tensor
    by_expression: Tensor


class DifferentiableField:
    """The posed distance of one identity with its derivatives; a model of either direction.

    Of a backward model the distance at p is f(p + F(p)). Of a forward one it is f at the root x of
    x + F(x) = p, and the derivatives are those of the implicit function theorem: with g the gradient of f at
    x carried by the inverse of I + dF/dx, they are g by the point and -g dF by the code.

    Args:
        model: the head's networks, with a deformation.
        identity: (L,) identity code.

    Raises:
        InputError: the model has no deformation, or one that gives hyper-coordinates of a forward model.

    Attributes:
        expression_dim: E.
        bound: the identity on the compiled core.
    """

    def __init__(self, model: Networks, identity: ArrayLike | Tensor) -> None:
        if model.deformation is None:
            raise InputError("this model has no deformation network, so there is no expression to fit")
        self._network: DeformationNetwork = model.deformation
        code = torch.as_tensor(identity, dtype=torch.float32).reshape(-1)
        with torch.no_grad():
            self.bound = Bound(model, code)
            anchors = model.identity.anchors(code[None])
            self._compressed = model.deformation.compress(code[None], anchors)
        self.expression_dim = model.deformation.config.expression_dim
        self._latent = _latent_weights(model.deformation)

    @torch.no_grad()
    def slopes(self, points: Tensor, expression: Tensor) -> Slopes:
        """Distances and derivatives at points (N, 3) float32, head space, for one code (E,)."""
        folded = self._network.fold(self._compressed, expression[None].float())
        if self.bound.direction == "forward":
            return self._forward(points, expression, folded)
        offsets, gates = _evaluate(points, folded)
        y = points + offsets[:, :3]
        if offsets.shape[1] > 3:
            y = torch.cat([y, offsets[:, 3:]], dim=1)
        found = self.bound.kernels.query(y.contiguous(), None, outputs=("sdf", "gradient"))
        gradient = found["gradient"][0]
        by_point, by_expression = self._back(gradient, folded, gates)
        return Slopes(found["sdf"][0], gradient[:, :3] + by_point, by_expression)

    @torch.no_grad()
    def roots(self, points: Tensor, expression: Tensor) -> tuple[Tensor, Tensor]:
        """Of a forward model: neutral points (N, 3) of posed ones, and the posed gradient (N, 3) there."""
        _, x, carried = self._at_roots(points, expression)
        return x, carried

    def _at_roots(self, points: Tensor, expression: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kernels, biases = self.bound.kernels, self.bound.biases(expression[None])
        assert biases is not None
        x = posed_roots(kernels, points, biases).points[0].contiguous()
        found = kernels.query(x, None, outputs=("sdf", "gradient"))
        jacobian = kernels.query(x, biases, outputs=("jacobian",))["jacobian"][0]
        return found["sdf"][0], x, (found["gradient"][0][:, None] @ inverses(jacobian))[:, 0]

    def _forward(self, points: Tensor, expression: Tensor, folded: FoldedNetwork) -> Slopes:
        value, x, carried = self._at_roots(points, expression)
        _, gates = _evaluate(x, folded)
        _, by_expression = self._back(-carried, folded, gates)
        return Slopes(value, carried, by_expression)

    @torch.no_grad()
    def carried(self, points: Tensor, expression: Tensor) -> tuple[Tensor, Tensor]:
        """Where neutral points (N, 3) are under a code (E,), and how they move with it: (N, 3), (N, 3, E).

        Of a backward model the posed point x solves x + F(x) = neutral point, so that its derivative is
        -(I + dF/dx)^-1 dF; of a forward one it is dF at the neutral point.
        """
        kernels, biases = self.bound.kernels, self.bound.biases(expression[None])
        assert biases is not None
        folded = self._network.fold(self._compressed, expression[None].float())
        forward = self.bound.direction == "forward"
        at = points if forward else posed_roots(kernels, points, biases).points[0].contiguous()
        offsets, gates = _evaluate(at, folded)
        rows = []
        for axis in range(3):
            cotangent = torch.zeros_like(offsets)
            cotangent[:, axis] = 1.0
            rows.append(self._back(cotangent, folded, gates)[1])
        by_code = torch.stack(rows, 1)
        if forward:
            return points + offsets[:, :3], by_code
        jacobian = kernels.query(at, biases, outputs=("jacobian",))["jacobian"][0]
        return at, -inverses(jacobian) @ by_code

    def _back(self, cotangent: Tensor, folded: FoldedNetwork, gates: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Products (N, 3) and (N, E) of cotangents (N, 3 + m) of the offsets with their derivatives."""
        by_point = cotangent.new_zeros(len(cotangent), 3)
        by_code = cotangent.new_zeros(len(cotangent), self.expression_dim)
        delta = cotangent
        for i in range(len(folded.layers) - 1, -1, -1):
            layer = folded.layers[i]
            if i < len(gates):
                delta = delta * gates[i]
            if layer.coords is not None:
                by_point += delta @ layer.coords[0]
                by_code += delta @ self._latent[i]
            if layer.hidden is not None:
                delta = delta @ layer.hidden[0]
        return by_point, by_code

    def distance(self, points: Tensor, expression: Tensor) -> Tensor:
        """Distances (N,) that autograd can go back through, once, to points (N, 3) and code (E,)."""
        result: Tensor = _Distance.apply(points, expression, self)  # type: ignore[no-untyped-call]
        return result


class _Distance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, expression: Tensor, field: DifferentiableField) -> Tensor:
        found = field.slopes(points.detach().contiguous(), expression.detach())
        ctx.save_for_backward(found.by_point, found.by_expression)
        return found.value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None]:
        by_point, by_expression = ctx.saved_tensors
        return slope[:, None] * by_point, slope @ by_expression, None


def _evaluate(points: Tensor, folded: FoldedNetwork) -> tuple[Tensor, list[Tensor]]:
    """Offsets (N, 3 + m), and the derivatives of each hidden layer's softplus (N, width)."""
    gates: list[Tensor] = []
    h = points
    for i, layer in enumerate(folded.layers):
        value = layer.bias[0]
        if layer.hidden is not None:
            value = torch.addmm(value, h, layer.hidden[0].T)
        if layer.coords is not None:
            value = torch.addmm(value.expand(len(points), -1), points, layer.coords[0].T)
        if i == len(folded.layers) - 1:
            return value, gates
        gates.append(torch.sigmoid(SOFTPLUS_BETA * value))
        h = torch.nn.functional.softplus(value, beta=SOFTPLUS_BETA)
    raise AssertionError("a network has layers")


@torch.no_grad()
def _latent_weights(network: DeformationNetwork) -> dict[int, Tensor]:
    """Derivatives (out, E) of the layers' biases by the expression code, of the layers that read it.

    Taken from what `fold` does, so that its layout is told in one place.
    """
    config = network.config
    compressed = torch.zeros(1, config.compressed_dim)
    rest = network.fold(compressed, torch.zeros(1, config.expression_dim))
    one = network.fold(compressed.expand(config.expression_dim, -1), torch.eye(config.expression_dim))
    return {
        i: (b.bias[:, 0] - a.bias[:, 0]).T.contiguous()
        for i, (a, b) in enumerate(zip(rest.layers, one.layers, strict=True))
        if a.coords is not None
    }
