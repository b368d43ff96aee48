"""Carrying a canonical mesh to every frame: by a forward deformation, or by inverting a backward one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import scipy.sparse.linalg
import torch
from torch import Tensor

from facetalk.arrays import Bool, Float32, Int32
from facetalk.errors import InputError
from facetalk.nphm.bound import Bound
from facetalk.nphm.posed import carried_slopes, moved_points

# The search aims at this share of the tolerance: a point that stops a little short of it has still converged.
_AIM = 0.1
_LEAST = 1e-6  # head units; a few times float32 rounding
_ITERATIONS = 40
_RETRIES = 3


@dataclasses.dataclass(frozen=True)
class Track:
    """A canonical mesh carried to every frame: NumPy arrays or, of a field on a CUDA device, tensors there.

    Attributes:
        vertices: (T, V, 3) float32 positions, head space.
        faces: (F, 3) int32.
        residual: (T, V) |x + offset(x) - canonical vertex| of the root found, head units; 0 where the
            deformation goes forward, which needs no search.
        converged: (T, V) residual within the tolerance. Where False, the position is interpolated.
        normals: (T, V, 3) unit normals of the posed field's level sets at the positions, when asked for.
    """

    vertices: Any
    faces: Any
    residual: Any
    converged: Any
    normals: Any = None

    @property
    def failed(self) -> int:
        """Vertices, over all frames, that did not converge."""
        return int((~self.converged).sum())


def track(
    bound: Bound,
    biases: list[Tensor],
    vertices: Float32,
    faces: Int32,
    tolerance: float,
    *,
    normals: bool = False,
) -> Track:
    """Positions (T, V, 3) of the canonical vertices in every frame.

    A forward deformation gives them, exactly. A backward one maps them to the canonical vertices, and is
    inverted. It need not be one-to-one (between closed lips it cannot be), so the search from the frame
    before may end nowhere. Such a vertex is searched again from where its neighbours went. If that fails too,
    it gets the displacement that varies most smoothly between its converged neighbours on the mesh (a
    harmonic function), and is reported; it is never left at a wrong root.

    Args:
        bound: the bound head.
        biases: per deformation layer (T, out), one row a frame.
        vertices: (V, 3) canonical mesh, head space.
        faces: (F, 3).
        tolerance: largest residual that counts as converged, head units; below 1e-6 float32 cannot tell.
        normals: also give unit normals, see :func:`field_normals`.

    Returns:
        the track; of one on a CUDA device only frames in which vertices were lost visit the CPU.

    Raises:
        InputError: a mesh or a tolerance that is none.
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
    if not (np.isfinite(tolerance) and tolerance >= _LEAST):
        raise InputError(f"tolerance: expected a length of at least {_LEAST:g} head units, got {tolerance}")
    if bound.direction == "forward":
        return _carried(bound, biases, vertices, faces, normals=normals)
    aim = max(_AIM * tolerance, _LEAST)
    targets = bound.kernels.put(vertices, "vertices")
    positions, residual = bound.kernels.invert(
        targets, biases, weight=bound.weight, tolerance=aim, iterations=_ITERATIONS
    )
    # Written so that a residual that is not a number counts as not converged.
    frames = torch.nonzero(~(residual <= tolerance).all(dim=1)).flatten().tolist()
    net = _Net(len(vertices), faces) if frames else None
    for t in frames:
        assert net is not None
        moved, left = positions[t].cpu(), residual[t].cpu()
        _rescue(
            bound, [b[t : t + 1] for b in biases], vertices, net, tolerance, aim, moved.numpy(), left.numpy()
        )
        positions[t], residual[t] = moved, left
    slopes = field_normals(bound, biases, positions) if normals else None
    give = bound.kernels.mesh_array
    return Track(
        vertices=give(positions),
        faces=give(torch.from_numpy(faces)),
        residual=give(residual),
        converged=give(residual <= tolerance),
        normals=None if slopes is None else give(slopes),
    )


def _carried(bound: Bound, biases: list[Tensor], vertices: Float32, faces: Int32, *, normals: bool) -> Track:
    """The track by a forward deformation."""
    kernels, neutral = bound.kernels, torch.from_numpy(np.array(vertices))
    positions = moved_points(kernels, neutral, biases, bound.weight)
    slopes = None
    if normals:
        flat = kernels.query_float32(neutral, None, outputs=("gradient",))["gradient"]
        places = neutral.to(kernels.device).expand_as(positions)
        slopes = _unit(carried_slopes(kernels, places, flat.expand_as(positions), biases, bound.weight))
    give = kernels.mesh_array
    residual = torch.zeros_like(positions[..., 0])
    return Track(
        vertices=give(positions),
        faces=give(torch.from_numpy(faces)),
        residual=give(residual),
        converged=give(residual == 0),
        normals=None if slopes is None else give(slopes),
    )


def _unit(slopes: Tensor) -> Tensor:
    """Slopes at unit length; zero where there is none."""
    length = torch.linalg.vector_norm(slopes, dim=-1, keepdim=True)
    return torch.where(length > 0, slopes / length, 0.0)


def field_normals(bound: Bound, biases: list[Tensor], positions: Tensor) -> Tensor:
    """Unit gradients (T, V, 3) of the posed distance at positions (T, V, 3), frame by frame.

    They cost several times what finding the positions does: the whole field and its derivatives, not the
    deformation alone. ``facetalk.ops.vertex_normals`` of the mesh is nearly free and as good on a fine mesh;
    these do not depend on the mesh, so they keep detail that a coarse one has lost. Where the field has no
    slope the normal is zero.
    """
    out = torch.empty_like(positions)
    for t, points in enumerate(positions):
        slope = bound.kernels.query(
            points, [b[t : t + 1] for b in biases], weight=bound.weight, outputs=("gradient",)
        )["gradient"][0]
        out[t] = _unit(slope)
    return out


def _rescue(
    bound: Bound,
    biases: list[Tensor],
    vertices: Float32,
    net: _Net,
    tolerance: float,
    aim: float,
    moved: Float32,
    residuals: Float32,
) -> None:
    """Searches the vertices of one frame that found no root again, and fills in what stays lost; in place."""
    for _ in range(_RETRIES):
        lost = np.flatnonzero(~(residuals <= tolerance))
        if len(lost) in (0, len(vertices)):
            break
        # Where the neighbours went is a better place to start from than where the vertex was a frame ago.
        guess = vertices + net.harmonic(moved - vertices, residuals <= tolerance)
        again, left = bound.kernels.invert(
            bound.kernels.put(vertices[lost], "vertices"),
            biases,
            starts=bound.kernels.put(guess[lost], "starts"),
            weight=bound.weight,
            tolerance=aim,
            iterations=_ITERATIONS,
        )
        found, error = again[0].cpu().numpy(), left[0].cpu().numpy()
        better = error < residuals[lost]
        moved[lost[better]] = found[better]
        residuals[lost[better]] = error[better]
        if not (error <= tolerance).any():
            break
    lost = np.flatnonzero(~(residuals <= tolerance))
    if len(lost):
        displacement = net.harmonic(moved - vertices, residuals <= tolerance)
        moved[lost] = vertices[lost] + displacement[lost]


class _Net:
    """The edges of a mesh, along which displacements are filled in."""

    def __init__(self, count: int, faces: Int32) -> None:
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        ones = np.ones(len(edges))
        matrix = scipy.sparse.coo_matrix((ones, (edges[:, 0], edges[:, 1])), shape=(count, count)).tocsr()
        self.adjacency = matrix + matrix.T
        self.adjacency.data[:] = 1.0
        self.degree = np.asarray(self.adjacency.sum(axis=1)).ravel()
        self.pieces, self.piece = scipy.sparse.csgraph.connected_components(self.adjacency, directed=False)

    def harmonic(self, values: Float32, known: Bool) -> Float32:
        """Fills rows that are not known with the mean of their neighbours, all of them at once.

        Pieces of the mesh without any known vertex keep a zero displacement.
        """
        result = np.where(known[:, None], values, 0.0).astype(np.float32)
        reachable = np.zeros(self.pieces, dtype=bool)
        reachable[self.piece[known]] = True
        unknown = np.flatnonzero(~known & reachable[self.piece])
        if len(unknown) == 0:
            return result
        rows = self.adjacency[unknown]
        system = scipy.sparse.diags(self.degree[unknown]) - rows[:, unknown]
        right = rows @ result.astype(np.float64)  # unknown rows are zero in it
        solve = scipy.sparse.linalg.factorized(system.tocsc())
        result[unknown] = np.stack([solve(right[:, c]) for c in range(3)], axis=1)
        return result
