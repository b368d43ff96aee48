"""A head that moves by a linear rig, frame by frame without ever holding all frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

from facetalk.arrays import AnyFloat, AnyInt, Float32, Int32
from facetalk.mesh.eyes import Eye
from facetalk.mesh.mesh import Mesh, vertex_normals
from facetalk.mesh.pose import checked_pose, moved


class RiggedSequence(Sequence[Mesh]):
    """Meshes of constant topology: frame ``t`` is ``base + sum_j weights[t, j] * basis[j]``, eyes turned.

    Frames are posed when they are asked for; memory is that of the basis, whatever the length.

    Attributes:
        base: the mesh that weights of zero give, metres.
        basis: (E, V, 3) float32 displacement of every vertex at weight 1, metres.
        weights: (T, E) float32 weights, one row per frame.
        names: E names of the shapes, or None.
        pose: (T, 6) float32 where the head is in each frame (:mod:`facetalk.mesh.pose`), or None. Frames
            and positions are the still head's; :func:`facetalk.export` writes where it is beside them, and
            :meth:`placed` puts a frame there.
        eyes: parts that turn about a point of their own; ``basis`` leaves them where they are.
    """

    def __init__(
        self,
        base: Mesh,
        basis: AnyFloat,
        weights: AnyFloat,
        *,
        names: Sequence[str] | None = None,
        pose: AnyFloat | None = None,
        eyes: Sequence[Eye] = (),
    ) -> None:
        self.base = base
        self.basis = np.ascontiguousarray(basis, dtype=np.float32)
        self.weights = np.ascontiguousarray(weights, dtype=np.float32)
        self.names = None if names is None else tuple(str(name) for name in names)
        if self.basis.ndim != 3 or self.basis.shape[1:] != base.vertices.shape:
            raise ValueError(f"basis must have shape (E, {len(base)}, 3), got {self.basis.shape}")
        if self.weights.ndim != 2 or self.weights.shape[1] != len(self.basis):
            raise ValueError(f"weights must have shape (T, {len(self.basis)}), got {self.weights.shape}")
        for name, value in (("basis", self.basis), ("weights", self.weights)):
            if not np.isfinite(value).all():
                raise ValueError(
                    f"{name} has {np.count_nonzero(~np.isfinite(value))} values that are not finite"
                )
        self.pose = None if pose is None else checked_pose(pose, len(self.weights))
        self.eyes = tuple(eyes)
        for eye in self.eyes:
            if eye.rates.shape != (len(self.basis), 3):
                raise ValueError(
                    f"an eye's rates must have shape ({len(self.basis)}, 3), got {eye.rates.shape}"
                )
            if self.basis[:, eye.rows].any():
                raise ValueError(f"{eye.name} turns: the basis must not move its vertices as well")
        if self.names is not None and len(self.names) != len(self.basis):
            raise ValueError(f"names must have {len(self.basis)} entries, got {len(self.names)}")

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.weights)

    @overload
    def __getitem__(self, index: int) -> Mesh: ...
    @overload
    def __getitem__(self, index: slice) -> RiggedSequence: ...
    def __getitem__(self, index: int | slice) -> Mesh | RiggedSequence:
        """One frame as a mesh, or a range of frames as a sequence that shares the rig."""
        if isinstance(index, slice):
            pose = None if self.pose is None else self.pose[index]
            return RiggedSequence(
                self.base, self.basis, self.weights[index], names=self.names, pose=pose, eyes=self.eyes
            )
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of a sequence of {len(self)}")
        vertices = self.positions(slice(index, index + 1 or None))[0]
        return self._mesh(vertices, vertex_normals(vertices, self.base.faces))

    def __iter__(self) -> Iterator[Mesh]:
        """Frames, posed one by one."""
        for index in range(len(self)):
            yield self[index]

    def placed(self, index: int) -> Mesh:
        """One frame where the head is in it."""
        return self[index] if self.pose is None else moved(self[index], self.pose[index])

    def positions(self, frames: slice = slice(None)) -> Float32:
        """Vertex positions of a range of frames, (n, V, 3) float32 in metres: ask for few at a time."""
        weights = self.weights[frames]
        offsets = weights @ self.basis.reshape(len(self.basis), self.base.vertices.size)
        found: Float32 = self.base.vertices + offsets.reshape(len(weights), *self.base.vertices.shape)
        for eye in self.eyes:
            found[:, eye.rows] = eye.turned(self.base.vertices[eye.rows], weights)
        return found

    def among(self, rows: AnyInt, faces: Int32) -> RiggedSequence:
        """The same frames of the vertices ``rows``, rising, alone, with ``faces`` by their new numbers."""
        base = Mesh(self.base.vertices[rows], faces)
        eyes = [eye.among(rows) for eye in self.eyes]
        return RiggedSequence(base, self.basis[:, rows], self.weights, names=self.names, eyes=eyes)

    def _mesh(self, vertices: Float32, normals: Float32) -> Mesh:
        return dataclasses.replace(self.base, vertices=vertices, normals=normals)
