"""Turns of a head and of eyes as quaternions (w, x, y, z), and whose axes they are about.

A head's own axes are +x to its left, +y up and +z out of the face. A positive yaw turns to the head's left, a
positive pitch down, a positive roll tilts to its right shoulder; it rolls, then nods, then turns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["FACINGS", "at_times", "continuous", "from_angles", "in_axes", "in_rest", "product"]

Array = NDArray[np.float64]

FACINGS: dict[str, tuple[str, Array]] = {
    "NEG_Y": ("-Y, Z up", np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])),
    "POS_Y": ("+Y, Z up", np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])),
    "POS_X": ("+X, Z up", np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])),
    "NEG_X": ("-X, Z up", np.array([[0.0, 0, -1], [-1, 0, 0], [0, 1, 0]])),
    "POS_Z": ("+Z, Y up", np.eye(3)),
}
"""Which way a face looks in the axes around it: what to call it, and the head's x, y, z there as columns."""


def from_angles(yaw: ArrayLike, pitch: ArrayLike, roll: ArrayLike) -> Array:
    """(T, 4) quaternions of (T,) angles in radians."""
    halves = [np.asarray(angle, np.float64) / 2.0 for angle in (yaw, pitch, roll)]
    turns = []
    for axis, half in zip((1, 0, 2), halves, strict=True):
        turn = np.zeros((len(half), 4))
        turn[:, 0], turn[:, 1 + axis] = np.cos(half), np.sin(half)
        turns.append(turn)
    return continuous(product(product(turns[0], turns[1]), turns[2]))


def product(first: Array, second: Array) -> Array:
    """(T, 4) turns that do ``second``, then ``first``."""
    a, b = np.broadcast_arrays(first, second)
    w = a[..., 0] * b[..., 0] - np.einsum("...k,...k->...", a[..., 1:], b[..., 1:])
    v = a[..., :1] * b[..., 1:] + b[..., :1] * a[..., 1:] + np.cross(a[..., 1:], b[..., 1:])
    return np.concatenate([w[..., None], v], axis=-1)


def continuous(turns: Array) -> Array:
    """The same turns with signs that make neighbours near ones, or they would spin between two keys."""
    flips = np.cumsum(np.einsum("tk,tk->t", turns[1:], turns[:-1]) < 0.0) % 2
    return np.concatenate([turns[:1], np.where(flips[:, None] == 1, -turns[1:], turns[1:])])


def at_times(turns: Array, known: Array, wanted: Array) -> Array:
    """(N, 4) turns at times between those of (T, 4) continuous ones; the ends hold."""
    mixed = np.stack([np.interp(wanted, known, column) for column in turns.T], axis=1)
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


def in_axes(turns: Array, axes: Array) -> Array:
    """The turns as seen in other axes: ``axes`` (3, 3) has the old ones as columns."""
    return np.concatenate([turns[:, :1], turns[:, 1:] @ axes.T], axis=1)


def in_rest(turns: Array, rest: Array) -> Array:
    """The turns as a bone has them, on top of its rest: ``rest`` (3, 3) has the bone's axes as columns."""
    return in_axes(turns, rest.T)
