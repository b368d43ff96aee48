"""Eyes that turn: parts of a mesh that rotate about a point of their own and do nothing else.

A rotation vector (axis times angle, radians) is linear in the weights: a rig says by one vector for every
weight how its eyes turn, as it says by displacements how its skin moves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from facetalk.arrays import AnyFloat, AnyInt, Bool, Float64, Int64
from facetalk.mesh.mesh import Mesh
from facetalk.mesh.pose import in_one_hemisphere

__all__ = ["EYE_NAMES", "Eye", "TurningEye", "turn_matrices", "turn_quaternions", "without_eyes"]

EYE_NAMES = ("leftEye", "rightEye")
"""Names of the nodes and joints of eyes in files, which are VRM's of their bones."""

_SMALL = 1e-9  # radians, below which sin(x) / x is 1


@dataclasses.dataclass(frozen=True)
class Eye:
    """An eyeball of a rig.

    Attributes:
        name: one of :data:`EYE_NAMES`.
        centre: (3,) float64 what it turns about, in the mesh's unit.
        rows: (v,) int64 rising numbers of its vertices.
        rates: (E, 3) float64 rotation vector at a weight of 1, radians.
    """

    name: str
    centre: Float64
    rows: Int64
    rates: Float64

    def turns(self, weights: AnyFloat) -> Float64:
        """(T, 3) rotation vectors of (T, E) weights."""
        return np.asarray(weights, np.float64) @ self.rates

    def turned(self, points: AnyFloat, weights: AnyFloat) -> Float64:
        """(T, v, 3) where points (v, 3) of the eye at rest are at (T, E) weights."""
        arms = np.asarray(points, np.float64) - self.centre
        return arms @ np.swapaxes(turn_matrices(self.turns(weights)), 1, 2) + self.centre

    def scaled(self, factor: float) -> Eye:
        """The eye in another unit of length."""
        return dataclasses.replace(self, centre=self.centre * factor)

    def among(self, rows: AnyInt) -> Eye:
        """The eye in a mesh that has the vertices ``rows``, rising, of the first one alone."""
        return dataclasses.replace(self, rows=np.flatnonzero(np.isin(rows, self.rows)))


@dataclasses.dataclass(frozen=True)
class TurningEye:
    """An eyeball over the frames of a sequence.

    Attributes:
        name: of its node.
        centre: (3,) float64 what it turns about, metres.
        rows: (v,) int64 its vertices.
        turns: (T, 3) float64 rotation vectors, radians.
        rates: (K, 3) float64 rotation vector at a weight of 1 of each target; None where turns do not follow
            from the weights of the targets.
    """

    name: str
    centre: Float64
    rows: Int64
    turns: Float64
    rates: Float64 | None


class _Ball(Protocol):
    """An eye as far as its place goes."""

    @property
    def centre(self) -> Float64:
        """What it turns about."""

    @property
    def rows(self) -> Int64:
        """Its vertices."""


_AnyBall = TypeVar("_AnyBall", bound=_Ball)


def without_eyes(base: Mesh, eyes: Sequence[_AnyBall]) -> tuple[Mesh, list[tuple[_AnyBall, Mesh]]]:
    """A mesh without the faces of eyes, and each eye that has some, with a mesh of them around its centre.

    All of these meshes have all vertices.
    """
    left = np.ones(len(base.faces), bool)
    balls = []
    for eye in eyes:
        mine = np.asarray(np.isin(base.faces, eye.rows).all(axis=1))
        if mine.any():
            around = (base.vertices - eye.centre).astype(np.float32)
            balls.append((eye, dataclasses.replace(_of_faces(base, mine), vertices=around)))
            left &= ~mine
    return (_of_faces(base, np.asarray(left)) if balls else base), balls


def _of_faces(mesh: Mesh, mine: Bool) -> Mesh:
    """A mesh with some of its faces (F,) alone."""
    texture = mesh.texture
    if texture is not None:
        texture = dataclasses.replace(texture, corners=texture.corners[mine])
    return dataclasses.replace(mesh, faces=mesh.faces[mine], texture=texture)


def turn_matrices(turns: ArrayLike) -> Float64:
    """(T, 3, 3) rotation matrices of (T, 3) rotation vectors, by Rodrigues' formula."""
    vectors = np.asarray(turns, np.float64)
    angle = np.linalg.norm(vectors, axis=1)
    sine, half = _over_angle(np.sin, angle), _over_angle(np.sin, 0.5 * angle)
    x, y, z = vectors.T
    none = np.zeros_like(x)
    cross = np.stack([none, -z, y, z, none, -x, -y, x, none], axis=1).reshape(-1, 3, 3)
    # 1 - cos(a) = 2 sin(a / 2)^2, which keeps its digits at small angles.
    return np.eye(3) + sine[:, None, None] * cross + (0.5 * half**2)[:, None, None] * (cross @ cross)


def turn_quaternions(turns: ArrayLike) -> Float64:
    """(T, 4) unit quaternions x, y, z, w of (T, 3) rotation vectors, in one hemisphere.

    Below half a turn they all have a positive w; beyond, each is the near one of its neighbour's two.
    """
    vectors = np.asarray(turns, np.float64)
    angle = np.linalg.norm(vectors, axis=1)
    axes = 0.5 * _over_angle(np.sin, 0.5 * angle)[:, None] * vectors
    return in_one_hemisphere(np.concatenate([axes, np.cos(0.5 * angle)[:, None]], axis=1))


def _over_angle(function: np.ufunc, angle: Float64) -> Float64:
    """``function(angle) / angle``, 1 where the angle is 0."""
    safe = np.maximum(angle, _SMALL)
    return np.where(angle > _SMALL, function(safe) / safe, 1.0)
