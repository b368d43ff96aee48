"""The values of a bound head: distances, gradients, offsets, roots, at points and on lattices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from numpy.typing import NDArray
from torch import Tensor

from facetalk.ambient import plainly
from facetalk.arrays import Float32
from facetalk.nphm.bound import Bound
from facetalk.nphm.field_operator import field_query, is_traced
from facetalk.nphm.lattice import (
    DEFAULT_BOUNDS,
    DEFAULT_RESOLUTION,
    Bounds,
    Resolution,
    check_memory,
    lattice_axes,
)
from facetalk.nphm.root_search import Roots

Array = NDArray[Any]
Codes = Tensor | Array | Sequence[Any] | None
"""Expressions: (T, E), or (E,) for one frame, or None for the canonical head, which is one frame."""


class FieldValues:
    """What :class:`facetalk.nphm.Field` is asked for beside surfaces and tracks.

    Args:
        bound: the bound head.
        name: by which the operator for compilers finds it.
    """

    def __init__(self, bound: Bound, name: str) -> None:
        self.bound, self._name = bound, name
        self.device = bound.device

    # Points ---------------------------------------------------------------------------------------------

    @overload
    def query(self, points: Tensor, expressions: Codes = None) -> Tensor: ...
    @overload
    def query(self, points: Array, expressions: Codes = None) -> Float32: ...
    def query(self, points: Tensor | Array, expressions: Codes = None) -> Tensor | Float32:
        """Signed distances (T, N) at points (N, 3), negative inside.

        Raises:
            TypeError: not an array of floating-point numbers on the CPU or the field's device.
            ValueError: a shape does not fit, or a number is not finite (the message names the point). Points
                on a CUDA device are not looked at; there such a point gives NaN.
        """
        return self._query(points, expressions, "sdf")

    @overload
    def gradient(self, points: Tensor, expressions: Codes = None) -> Tensor: ...
    @overload
    def gradient(self, points: Array, expressions: Codes = None) -> Float32: ...
    def gradient(self, points: Tensor | Array, expressions: Codes = None) -> Tensor | Float32:
        """Gradients (T, N, 3) of the signed distance by the point; for the canonical field by all its
        coordinates.
        """
        return self._query(points, expressions, "gradient")

    @overload
    def offsets(self, points: Tensor, expressions: Codes) -> Tensor: ...
    @overload
    def offsets(self, points: Array, expressions: Codes) -> Float32: ...
    def offsets(self, points: Tensor | Array, expressions: Codes) -> Tensor | Float32:
        """Offsets (T, N, 3) of the deformation, smoothing included; MonoNPHM (T, N, 3 + m), hyper last. The
        points are posed ones of a backward deformation, neutral ones of a forward one.
        """
        return self._query(points, expressions, "offsets")

    @overload
    def jacobian(self, points: Tensor, expressions: Codes) -> Tensor: ...
    @overload
    def jacobian(self, points: Array, expressions: Codes) -> Float32: ...
    def jacobian(self, points: Tensor | Array, expressions: Codes) -> Tensor | Float32:
        """Derivatives (T, N, 3, 3) of the offsets by the point, [..., output, input]; MonoNPHM (T, N, 3 + m,
        3).
        """
        return self._query(points, expressions, "jacobian")

    def roots(self, points: Tensor | Array, expressions: Codes) -> Roots:
        """Neutral points (T, N, 3) of posed points (N, 3) of a forward model, and how well each was found.

        Raises:
            InputError: a backward model, or no expressions.
        """
        found = self.bound.roots(points, expressions)
        return Roots(*(_like(v, points) for v in (found.points, found.residual, found.converged)))

    def _query(self, points: Any, expressions: Any, output: str) -> Tensor | Float32:
        if is_traced(points, expressions):
            traced: Tensor = field_query(points, expressions, self._name, output)
            return traced
        return _like(self.bound.evaluate(points, expressions, output), points)

    # Lattices -------------------------------------------------------------------------------------------

    @overload
    def grid(
        self, expressions: Tensor | None = None, resolution: Resolution = ..., bounds: Bounds = ...
    ) -> Tensor: ...
    @overload
    def grid(
        self, expressions: Array | Sequence[Any], resolution: Resolution = ..., bounds: Bounds = ...
    ) -> Float32: ...
    @plainly
    def grid(
        self,
        expressions: Codes = None,
        resolution: Resolution = DEFAULT_RESOLUTION,
        bounds: Bounds = DEFAULT_BOUNDS,
    ) -> Tensor | Float32:
        """Signed distances on a dense lattice.

        Args:
            expressions: (T, E) codes, or None for the canonical field.
            resolution: samples along every axis, or (nx, ny, nz); both ends of the bounds are samples.
            bounds: ((x0, y0, z0), (x1, y1, z1)), head space.

        Returns:
            (T, nx, ny, nz) float32, x slowest; a torch tensor unless the expressions are a NumPy array.
        """
        biases = self.bound.biases(expressions)
        axes = lattice_axes(resolution, bounds)
        check_memory(axes, 1 if biases is None else len(biases[0]), self.device)
        return _like(self.bound.grid(axes, biases), expressions)


def _like(result: Tensor, given: object) -> Tensor | Float32:
    """The result as the kind of array that was given; a tensor where none was."""
    return result if given is None or isinstance(given, Tensor) else result.cpu().numpy()
