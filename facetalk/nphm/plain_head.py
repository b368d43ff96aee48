"""Any NPHM as a head that speaks: codes of a learned space, without names, and a mesh of its own surface.

What the built-in head has from its morphable model is made here from the field alone. Landmarks are points of
the neutral surface: given ones, or those of the built-in mean head, which lies in the same space (FLAME's
times four), moved as the identity moves the anchors around them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from facetalk.ambient import plainly
from facetalk.arrays import Float32
from facetalk.errors import InputError
from facetalk.mesh.smoothing import FacialSmoothing
from facetalk.nphm.checkpoint import load_checkpoint
from facetalk.nphm.field import Field
from facetalk.nphm.lattice import Bounds
from facetalk.nphm.model import NPHM
from facetalk.nphm.networks import Direction
from facetalk.reading import read_array

__all__ = ["PlainHead", "fingerprint"]

LANDMARKS = "landmarks.npy"
"""(68, 3) Multi-PIE landmarks on the neutral head, head space, in a model's folder."""
RESOLUTIONS = (128, 96, 64)
"""Samples along every axis that the neutral surface is extracted with, by level of detail."""

_REACH = 0.12  # head units around an anchor within which landmarks follow it, 3 cm
_FARTHEST = 0.12  # head units that a landmark is moved onto the surface by, 3 cm
_TRACKED = 2e-4  # head units, 0.05 mm: what a tracked vertex may be off by
_FRAMES = 16  # tracked at a time


def fingerprint(model: NPHM) -> str:
    """Sixteen hex digits that tell a head's weights from another's."""
    digest = hashlib.sha256(model.direction.encode())
    for network in (model.identity, model.deformation):
        if network is not None:
            for name, value in sorted(network.state_dict().items()):
                digest.update(name.encode())
                digest.update(np.ascontiguousarray(value.detach().cpu().float().numpy()).tobytes())
    return digest.hexdigest()[:16]


class PlainHead:
    """A neural parametric head without a rig.

    Args:
        nphm: its networks, with a deformation.
        landmarks: (68, 3) Multi-PIE landmarks of the mean neutral head, head space.

    Raises:
        InputError: there is no deformation, or the landmarks are none.

    Attributes:
        nphm: the networks.
        landmarks: (68, 3) as given.
    """

    def __init__(self, nphm: NPHM, landmarks: ArrayLike) -> None:
        if nphm.deformation is None:
            raise InputError("this model has no deformation network, so it has no expressions")
        self.nphm = nphm
        self.landmarks = np.asarray(landmarks, np.float32)
        if self.landmarks.shape != (68, 3) or not np.isfinite(self.landmarks).all():
            raise InputError(f"landmarks: expected (68, 3) finite numbers, got shape {self.landmarks.shape}")
        self._kept: tuple[bytes, FacialSmoothing | None, Field] | None = None

    @classmethod
    def open(
        cls, folder: str | Path, landmarks: ArrayLike, *, direction: Direction | None = None
    ) -> PlainHead:
        """Read a model's folder; its own ``landmarks.npy`` goes before those given.

        Raises:
            InputError: the folder is no NPHM, or a file of it is damaged.
        """
        own = Path(folder) / LANDMARKS
        nphm = load_checkpoint(folder, direction=direction)
        try:
            return cls(nphm, read_array(own) if own.is_file() else landmarks)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error

    @property
    def expression_dim(self) -> int:
        """Length E of an expression code."""
        return self.nphm.expression_dim

    @property
    def expression_names(self) -> tuple[str, ...]:
        """What the numbers of a code are called, for want of names."""
        return tuple(f"code_{index}" for index in range(self.expression_dim))

    @property
    def identity_dim(self) -> int:
        """Length L of an identity code."""
        return self.nphm.identity_dim

    @property
    def default_identity(self) -> Float32:
        """(L,) zeros, the middle of the identities' space."""
        return np.zeros(self.identity_dim, np.float32)

    @cached_property
    def fingerprint(self) -> str:
        """See :func:`fingerprint`."""
        return fingerprint(self.nphm)

    def field(self, identity: ArrayLike | None = None, smoothing: FacialSmoothing | None = None) -> Field:
        """One identity on the compiled core; the last one is kept.

        Raises:
            InputError: a code of another length.
        """
        code = self.default_identity if identity is None else np.asarray(identity, np.float32)
        key = code.tobytes()
        if self._kept is None or self._kept[:2] != (key, smoothing):
            self._kept = key, smoothing, self.nphm.bind(code, facial_smoothing=smoothing)
        return self._kept[2]

    @plainly
    def neutral_landmarks(self, field: Field) -> Float32:
        """(68, 3) landmarks on the neutral surface of a bound identity."""
        mean = self.nphm.identity.anchors_mean.cpu().numpy().reshape(-1, 3)
        moved = np.asarray(field.anchors, np.float32) - mean
        share = self.anchor_shares()
        start = x = np.ascontiguousarray(self.landmarks + share @ moved, np.float32)
        for _ in range(8):
            value, slope = np.asarray(field.query(x)[0]), np.asarray(field.gradient(x)[0])[:, :3]
            step = value / np.maximum((slope**2).sum(1), 0.05)
            offset = x - step[:, None] * slope - start
            length = np.maximum(np.linalg.norm(offset, axis=1, keepdims=True), 1e-12)
            x = (start + offset * np.minimum(_FARTHEST / length, 1.0)).astype(np.float32)
        return x

    def anchor_shares(self) -> Float32:
        """(68, A) how much each landmark goes along with each anchor of the identity."""
        mean = self.nphm.identity.anchors_mean.cpu().numpy().reshape(-1, 3)
        near = np.exp(-0.5 * (np.linalg.norm(self.landmarks[:, None] - mean[None], axis=2) / _REACH) ** 2)
        return np.asarray(near / np.maximum(near.sum(1, keepdims=True), 1e-6), np.float32)

    @plainly
    def track(
        self, field: Field, codes: Float32, points: Float32, faces: np.ndarray | None = None
    ) -> Iterator[Float32]:
        """Where neutral points (V, 3) are under codes (T, E): (n, V, 3), a few frames at a time."""
        net = np.zeros((0, 3), np.int32) if faces is None else faces
        for first in range(0, len(codes), _FRAMES):
            some = np.ascontiguousarray(codes[first : first + _FRAMES])
            found = field.tracked(some, vertices=points, faces=net, tolerance=_TRACKED)
            yield np.asarray(found.vertices)

    @plainly
    def surface(self, field: Field, level: int, bounds: Bounds) -> tuple[Float32, np.ndarray]:
        """Vertices (V, 3) and faces of the neutral surface, head space.

        Raises:
            InputError: the identity has no surface in the box.
        """
        mesh = field.extract(None, RESOLUTIONS[level], bounds, units="head")[0]
        if not len(mesh.faces):
            raise InputError("the identity code gives no surface within the model's bounds")
        return mesh.vertices, mesh.faces
