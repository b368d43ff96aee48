"""Points brought onto a field's surface."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from facetalk.arrays import Float32

__all__ = ["Distance", "project"]

_FLATTEST = 0.05
"""Least squared slope to divide by: where the field is flatter than a distance, a full step would jump."""


class Distance(Protocol):
    """A posed signed distance; :class:`facetalk.nphm.field.Field` is one."""

    def query(self, points: Any, expressions: Any = None) -> Any:
        """Values (T, N) at points (N, 3)."""

    def gradient(self, points: Any, expressions: Any = None) -> Any:
        """Gradients (T, N, 3)."""


def project(
    field: Distance,
    points: Float32,
    expression: Float32 | None = None,
    *,
    steps: int = 3,
    limit: float = 0.004,
) -> tuple[Float32, Float32]:
    """Move points onto the zero set by Newton steps along the gradient, at most ``limit`` in all.

    Args:
        field: of the identity.
        points: (N, 3) near its surface, head space.
        expression: (E,) code of the frame; None for the canonical head.
        steps: how many.
        limit: head units.

    Returns:
        (N, 3) points, and (N, 3) unit normals from where the last step began.
    """
    codes = None if expression is None else np.ascontiguousarray(expression, np.float32)[None]
    start = x = np.ascontiguousarray(points, np.float32)
    gradient = np.zeros_like(x)
    for _ in range(steps):
        gradient = np.asarray(field.gradient(x, codes)[0])
        value = np.asarray(field.query(x, codes)[0])
        step = value / np.maximum((gradient**2).sum(1), _FLATTEST)
        offset = x - step[:, None] * gradient - start
        length = np.maximum(np.linalg.norm(offset, axis=1, keepdims=True), 1e-12)
        x = (start + offset * np.minimum(limit / length, 1.0)).astype(np.float32)
    return x, gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), np.float32(1e-12))
