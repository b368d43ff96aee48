"""Any stream of meshes to a linear rig, in memory that does not grow with the number of frames."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from facetalk.arrays import AnyFloat, Float32
from facetalk.errors import InputError
from facetalk.mesh.mesh import Mesh
from facetalk.mesh.sequence import RiggedSequence

_BLOCK = 32
_MAX_SHAPES = 384


class _Subspace:
    """Offsets from a base, as coefficients of orthonormal directions, added when a frame needs them."""

    def __init__(self, base: Mesh, tolerance: float) -> None:
        self.base = base
        self.tolerance = tolerance
        self.directions: Float32 = np.zeros((0, base.vertices.size), np.float32)
        self.rows: list[Float32] = []
        self.error = 0.0

    def add(self, frames: list[Mesh]) -> None:
        """Take in frames, so that each of their vertices is kept within the tolerance."""
        offsets = np.stack([(m.vertices - self.base.vertices).reshape(-1) for m in frames])
        weights = offsets @ self.directions.T
        rest = offsets - weights @ self.directions
        if _longest(rest) > self.tolerance:
            fresh = self._new_directions(rest)
            self.directions = np.concatenate([self.directions, fresh])
            if len(self.directions) > _MAX_SHAPES:
                raise InputError(
                    f"the meshes need more than {_MAX_SHAPES} morph targets to stay within "
                    f"{self.tolerance * 1e3:g} mm; write a .ply folder or raise the tolerance"
                )
            weights = offsets @ self.directions.T
            rest = offsets - weights @ self.directions
        # Frames seen before have no part in later directions: their coefficients there are zero.
        self.error = max(self.error, _longest(rest))
        self.rows.extend(weights)

    def _new_directions(self, rest: Float32) -> Float32:
        values, vectors = np.linalg.eigh(rest.astype(np.float64) @ rest.T.astype(np.float64))
        order = np.argsort(values)[::-1]
        order = order[values[order] > 1e-18]
        directions = np.zeros((0, rest.shape[1]), np.float32)
        for count in range(1, len(order) + 1):
            new = (vectors[:, order[count - 1]] @ rest).astype(np.float64)
            # Twice is enough (Kahan, in Parlett, "The Symmetric Eigenvalue Problem", section 6.9).
            for _ in range(2):
                for known in (self.directions, directions):
                    new -= (known @ new.astype(np.float32)) @ known
            directions = np.concatenate([directions, (new / np.linalg.norm(new)).astype(np.float32)[None]])
            if _longest(rest - (rest @ directions.T) @ directions) <= self.tolerance:
                break
        return directions

    def rig(self) -> RiggedSequence:
        """What was taken in so far."""
        weights = np.zeros((len(self.rows), len(self.directions)), np.float32)
        for row, values in zip(weights, self.rows, strict=True):
            row[: len(values)] = values
        return RiggedSequence(
            self.base, self.directions.reshape(len(self.directions), len(self.base), 3), weights
        )


def _longest(offsets: AnyFloat) -> float:
    vectors = offsets.reshape(len(offsets), -1, 3)
    return float(np.sqrt(np.einsum("tvc,tvc->tv", vectors, vectors).max(initial=0.0)))


def as_rig(meshes: Iterator[Mesh], tolerance: float) -> tuple[RiggedSequence, float] | Iterator[Mesh]:
    """Turn meshes of constant topology into a rig; hand meshes whose topology changes back as a stream.

    Args:
        meshes: frames; read once.
        tolerance: largest distance in metres that a vertex may be off.

    Returns:
        (rig, largest distance in metres), or an iterator over all frames when the topology changes.

    Raises:
        InputError: there are no frames, or no small number of shapes can follow them.
    """
    first = next(meshes, None)
    if first is None:
        raise InputError("there are no frames to write")
    subspace = _Subspace(first, tolerance)
    block = [first]
    for mesh in meshes:
        if len(mesh) != len(first) or not np.array_equal(mesh.faces, first.faces):
            return itertools.chain(subspace.rig(), block, [mesh], meshes)
        block.append(mesh)
        if len(block) == _BLOCK:
            subspace.add(block)
            block = []
    if block:
        subspace.add(block)
    return subspace.rig(), subspace.error
