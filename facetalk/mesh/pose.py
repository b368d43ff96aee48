"""Where a head is: its rotations about the neck and its small translations, as matrices and quaternions.

A pose is a row of :data:`POSE_NAMES`: pitch, yaw and roll in radians, then x, y and z in millimetres. Angles
are right-handed turns about the axes of head space (+x the head's left, +y up, +z out of the face), so that
a positive pitch looks down, a positive yaw to the head's left, and a positive roll tilts the head to its
right shoulder. The head rolls first, then nods, then turns: rotation = Y(yaw) X(pitch) Z(roll).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from facetalk.arrays import Float32, Float64
from facetalk.errors import InputError
from facetalk.mesh.mesh import Mesh

POSE_NAMES: tuple[str, ...] = ("pitch", "yaw", "roll", "x", "y", "z")
"""Columns of a pose: radians, then millimetres."""

NECK: tuple[float, float, float] = (0.0, -0.07, -0.045)
"""The point that a head turns about, metres from the middle of the head: in the middle of the neck, about a
hand's breadth under the ears. Nods of speech are shared by the joint under the skull and those of the neck
below it, so the one that stands for them lies between (the built-in head's ears are at y = 0.02, its neck
is cut off at -0.13)."""

_LARGEST_ANGLE, _LARGEST_SHIFT = 2.0 * np.pi, 1e4
"""Radians and millimetres beyond which nothing is a pose, whatever made it."""


def checked_pose(pose: ArrayLike, frames: int) -> Float32:
    """A pose as (T, 6) float32.

    Raises:
        InputError: it has another shape or another number of frames, or values that are none.
    """
    rows = np.ascontiguousarray(pose, dtype=np.float32)
    if rows.shape != (frames, len(POSE_NAMES)):
        raise InputError(
            f"pose must have shape (T, 6) = ({frames}, 6) as the expressions have frames, got {rows.shape}"
        )
    if not np.isfinite(rows).all():
        raise InputError(f"pose has {np.count_nonzero(~np.isfinite(rows))} values that are not finite")
    if np.abs(rows[:, :3]).max(initial=0.0) > _LARGEST_ANGLE:
        raise InputError("pose has angles beyond a full turn; they are radians")
    if np.abs(rows[:, 3:]).max(initial=0.0) > _LARGEST_SHIFT:
        raise InputError("pose has translations beyond ten metres; they are millimetres")
    return rows


def rotations(pose: ArrayLike) -> Float64:
    """(T, 3, 3) rotation matrices of (T, 6) poses."""
    pitch, yaw, roll = np.moveaxis(np.asarray(pose, np.float64)[:, :3], 1, 0)
    (sx, cx), (sy, cy), (sz, cz) = ((np.sin(a), np.cos(a)) for a in (pitch, yaw, roll))
    rows = (
        (cy * cz + sy * sx * sz, -cy * sz + sy * sx * cz, sy * cx),
        (cx * sz, cx * cz, -sx),
        (-sy * cz + cy * sx * sz, sy * sz + cy * sx * cz, cy * cx),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternions(pose: ArrayLike) -> Float64:
    """(T, 4) unit quaternions x, y, z, w of (T, 6) poses, each the near one of its neighbour's two."""
    pitch, yaw, roll = np.moveaxis(np.asarray(pose, np.float64)[:, :3] / 2.0, 1, 0)
    (sx, cx), (sy, cy), (sz, cz) = ((np.sin(a), np.cos(a)) for a in (pitch, yaw, roll))
    found = np.stack(
        [
            cy * sx * cz + sy * cx * sz,
            sy * cx * cz - cy * sx * sz,
            cy * cx * sz - sy * sx * cz,
            cy * cx * cz + sy * sx * sz,
        ],
        axis=-1,
    )
    return in_one_hemisphere(found)


def in_one_hemisphere(quaternions: Float64) -> Float64:
    """(T, 4) quaternions with the signs that make neighbours near ones, in place.

    Half a turn of an angle turns the sign; players that do not look would spin around.
    """
    flips = np.cumsum(np.einsum("tk,tk->t", quaternions[1:], quaternions[:-1]) < 0.0) % 2
    quaternions[1:][flips == 1] *= -1.0
    return quaternions


def translations(pose: ArrayLike) -> Float64:
    """(T, 3) translations of (T, 6) poses in metres."""
    return np.asarray(pose, np.float64)[:, 3:] * 1e-3


def moved(mesh: Mesh, pose: ArrayLike) -> Mesh:
    """A mesh in metres turned about :data:`NECK` and moved by one (6,) pose."""
    row = np.asarray(pose, np.float64)[None]
    turn, shift, pivot = rotations(row)[0], translations(row)[0], np.array(NECK)
    return dataclasses.replace(
        mesh,
        vertices=((mesh.vertices - pivot) @ turn.T + pivot + shift).astype(np.float32),
        normals=(mesh.normals @ turn.T).astype(np.float32),
    )
