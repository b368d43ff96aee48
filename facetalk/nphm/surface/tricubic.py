"""Tricubic (Lagrange) interpolation in bricks of samples: what the kernels compute, with its gradient."""

from __future__ import annotations

import numpy as np

from facetalk.arrays import Float32, Float64, Int64


def interpolate(data: Float32, brick: Int64, unit: Float64) -> tuple[Float64, Float64]:
    """Values (N,), and their gradients (N, 3) per cell.

    Args:
        data: (bricks, n, n, n) samples; one lies before the first cell and two behind the last.
        brick: (N,) in which of them each point lies.
        unit: (N, 3) its place there, in cells.
    """
    nodes = data.shape[1]
    cell = np.minimum(unit.astype(int), nodes - 4)
    t = unit - cell
    weights = np.stack(
        [-t * (t - 1) * (t - 2) / 6, (t + 1) * (t - 1) * (t - 2) / 2, -(t + 1) * t * (t - 2) / 2,
         (t + 1) * t * (t - 1) / 6], axis=-1)  # fmt: skip
    slopes = np.stack(
        [-(3 * t**2 - 6 * t + 2) / 6, (3 * t**2 - 4 * t - 1) / 2, -(3 * t**2 - 2 * t - 2) / 2,
         (3 * t**2 - 1) / 6], axis=-1)  # fmt: skip
    first = np.ravel_multi_index((brick, *cell.T), data.shape)
    steps = np.ravel_multi_index(np.indices((4, 4, 4)).reshape(3, -1), (nodes,) * 3)
    block = data.reshape(-1)[first[:, None] + steps].reshape(-1, 16, 4).astype(np.float64)
    # One axis after the other: values and slopes along z, then y, then x.
    along_z = block @ np.stack([weights[:, 2], slopes[:, 2]], axis=-1)  # (N, 16, 2)
    along_z = along_z.reshape(-1, 4, 4, 2)
    plane = np.einsum("nijz,nj->niz", along_z, weights[:, 1])
    leaning = np.einsum("nij,nj->ni", along_z[..., 0], slopes[:, 1])
    value = np.einsum("ni,ni->n", plane[..., 0], weights[:, 0])
    gradient = np.stack(
        [
            np.einsum("ni,ni->n", plane[..., 0], slopes[:, 0]),
            np.einsum("ni,ni->n", leaning, weights[:, 0]),
            np.einsum("ni,ni->n", plane[..., 1], weights[:, 0]),
        ],
        axis=1,
    )
    return value, gradient
