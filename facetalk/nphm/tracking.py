"""Carrying a canonical mesh to every frame by inverting the backward deformation."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import scipy.sparse.linalg
from numpy.typing import NDArray
from torch import Tensor

from facetalk.errors import InputError

if TYPE_CHECKING:
    from facetalk.nphm.field import Field

Float32 = NDArray[np.float32]

_AIM = 1e-6  # residual that the search stops at, head units; a few times float32 rounding
_ITERATIONS = 40
_RETRIES = 3


@dataclasses.dataclass(frozen=True)
class TrackInfo:
    """How well a track was found.

    Attributes:
        residual: (T, V) |x + offset(x) - canonical vertex| of the root found, head units.
        converged: (T, V) residual within the tolerance. Where False, the position is interpolated.
    """

    residual: Float32
    converged: NDArray[np.bool_]

    @property
    def failed(self) -> int:
        """Vertices, over all frames, that did not converge."""
        return int((~self.converged).sum())


def track(
    field: Field, biases: list[Tensor], vertices: Float32, faces: NDArray[np.int32], tolerance: float
) -> tuple[Float32, NDArray[np.int32], TrackInfo]:
    """Positions (T, V, 3) at which the deformation maps to the canonical vertices.

    A backward deformation need not be one-to-one (between closed lips it cannot be), so the search from the
    frame before may end nowhere. Such a vertex is searched again from where its neighbours went. If that
    fails too, it gets the displacement that varies most smoothly between its converged neighbours on the mesh
    (a harmonic function), and is reported; it is never left at a wrong root.

    Args:
        field: the bound head.
        biases: per deformation layer (T, out), one row a frame.
        vertices: (V, 3) canonical mesh, head space.
        faces: (F, 3).
        tolerance: largest residual that counts as converged, head units.

    Returns:
        positions, faces as int32, and residuals.
    """
    vertices = np.ascontiguousarray(vertices, dtype=np.float32)
    faces = np.ascontiguousarray(faces, dtype=np.int32)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise InputError(
            f"vertices, faces: expected (V, 3) and (F, 3), got {vertices.shape} and {faces.shape}"
        )
    if faces.size and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise InputError(
            f"faces: expected vertices 0 to {len(vertices) - 1}, got {faces.min()} to {faces.max()}"
        )
    aim = min(_AIM, tolerance)
    positions, residual = field.packed.invert(
        vertices, biases, weight=field.weight, tolerance=aim, iterations=_ITERATIONS
    )
    moved, residuals = positions.numpy(), residual.numpy()
    # Written so that a residual that is not a number counts as not converged.
    adjacency = None if (residuals <= tolerance).all() else _neighbours(len(vertices), faces)
    for t in np.flatnonzero(~(residuals <= tolerance).all(axis=1)):
        assert adjacency is not None
        for _ in range(_RETRIES):
            lost = np.flatnonzero(~(residuals[t] <= tolerance))
            if len(lost) in (0, len(vertices)):
                break
            # Where the neighbours went is a better place to start from than where the vertex was a frame ago.
            guess = vertices + _harmonic(moved[t] - vertices, residuals[t] <= tolerance, adjacency)
            again, left = field.packed.invert(
                vertices[lost],
                [b[t : t + 1] for b in biases],
                starts=guess[lost],
                weight=field.weight,
                tolerance=aim,
                iterations=_ITERATIONS,
            )
            better = left[0].numpy() < residuals[t, lost]
            moved[t, lost[better]] = again[0].numpy()[better]
            residuals[t, lost[better]] = left[0].numpy()[better]
            if not (left[0].numpy() <= tolerance).any():
                break
        lost = np.flatnonzero(~(residuals[t] <= tolerance))
        displacement = _harmonic(moved[t] - vertices, residuals[t] <= tolerance, adjacency)
        moved[t, lost] = vertices[lost] + displacement[lost]
    return moved, faces, TrackInfo(residuals, residuals <= tolerance)


def _neighbours(count: int, faces: NDArray[np.int32]) -> scipy.sparse.csr_matrix:
    """Adjacency of the mesh's vertices."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ones = np.ones(len(edges))
    matrix = scipy.sparse.coo_matrix((ones, (edges[:, 0], edges[:, 1])), shape=(count, count)).tocsr()
    matrix = matrix + matrix.T
    matrix.data[:] = 1.0
    return matrix


def _harmonic(values: Float32, known: NDArray[np.bool_], adjacency: scipy.sparse.csr_matrix) -> Float32:
    """Fills rows that are not known with the mean of their neighbours, all of them at once.

    Pieces of the mesh without any known vertex keep a zero displacement.
    """
    result = np.where(known[:, None], values, 0.0).astype(np.float32)
    _, piece = scipy.sparse.csgraph.connected_components(adjacency, directed=False)
    reachable = np.isin(piece, np.unique(piece[known]))
    unknown = np.flatnonzero(~known & reachable)
    if len(unknown) == 0:
        return result
    degree = np.asarray(adjacency.sum(axis=1)).ravel()[unknown]
    rows = adjacency[unknown]
    system = scipy.sparse.diags(degree) - rows[:, unknown]
    right = rows[:, np.flatnonzero(known)] @ values[known].astype(np.float64)
    solve = scipy.sparse.linalg.factorized(system.tocsc())
    result[unknown] = np.stack([solve(right[:, c]) for c in range(3)], axis=1)
    return result
