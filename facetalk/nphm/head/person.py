"""The built-in head bound to one identity: its distance, landmarks, eyeballs, rig and canonical mesh."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from facetalk.ambient import plainly
from facetalk.arrays import AnyInt, Float32
from facetalk.errors import InputError
from facetalk.mesh.mesh import CanonicalMesh
from facetalk.nphm.field import Field
from facetalk.nphm.head.canonical import build_canonical
from facetalk.nphm.head.files import HeadContent
from facetalk.nphm.head.parts import Part
from facetalk.nphm.model import NPHM
from facetalk.reading import one_line
from facetalk.units import GAZE_RADIANS_PER_WEIGHT

__all__ = ["Person"]

_CHUNK = 16384  # points that the rig's networks see at a time; bounds their memory

# Turning axes: up is a negative turn about +x, towards the head's left a positive one about +y.
_GAZE_AXES = {
    "eyeLookUp_L": (-1, 0, 0), "eyeLookDown_L": (1, 0, 0), "eyeLookOut_L": (0, 1, 0),
    "eyeLookIn_L": (0, -1, 0),
    "eyeLookUp_R": (-1, 0, 0), "eyeLookDown_R": (1, 0, 0), "eyeLookOut_R": (0, -1, 0),
    "eyeLookIn_R": (0, 1, 0),
}  # fmt: skip


class Person:
    """One identity of a built-in head, from ``HeadModel.bind``. Everything is in head space.

    Args:
        content: the head.
        nphm: its signed distance and backward deformation.
        code: (L,) identity code.
        coefficients: (I,) identity coefficients of that code.

    Attributes:
        identity: (L,) float32 identity code.
    """

    def __init__(self, content: HeadContent, nphm: NPHM, code: Float32, coefficients: Float32) -> None:
        self.content = content
        self.identity = code
        self._nphm = nphm
        self._coefficients = torch.from_numpy(coefficients)
        self._mesh: CanonicalMesh | None = None

    @cached_property
    def field(self) -> Field:
        """The canonical distance on the compiled core of the CPU."""
        return self._nphm.bind(self.identity)

    # Surface --------------------------------------------------------------------------------------------

    @plainly
    def distance(self, points: Float32) -> Float32:
        """Signed distance (N,) of canonical points (N, 3)."""
        return np.asarray(self.field.query(np.ascontiguousarray(points, np.float32))[0])

    @plainly
    def project(self, points: Float32, *, steps: int = 3, limit: float = 0.004) -> Float32:
        """Move points onto the zero set by Newton steps along the gradient, at most ``limit`` in all."""
        start = x = np.ascontiguousarray(points, np.float32)
        for _ in range(steps):
            gradient = np.asarray(self.field.gradient(x)[0])
            value = np.asarray(self.field.query(x)[0])
            # Where the field is much flatter than a distance, a full step would jump.
            step = value / np.maximum((gradient**2).sum(1), 0.05)
            offset = x - step[:, None] * gradient - start
            length = np.maximum(np.linalg.norm(offset, axis=1, keepdims=True), 1e-12)
            x = (start + offset * np.minimum(limit / length, 1.0)).astype(np.float32)
        return x

    @plainly
    def eyeballs(self) -> tuple[Float32, Float32]:
        """Centres (2, 3) and radii (2,) of the eyeballs, left first."""
        eyes = self._linear("eyes")
        return eyes[:, :3], eyes[:, 3]

    @plainly
    def landmarks(self) -> Float32:
        """(68, 3) Multi-PIE landmarks on the canonical surface."""
        return self.project(self._linear("landmarks"))

    def _linear(self, name: str) -> Float32:
        linear = self.content.linear
        moved = torch.tensordot(self._coefficients, linear[f"{name}_basis"], 1)
        return (linear[f"{name}_mean"] + moved).numpy()

    @plainly
    def canonical(self) -> CanonicalMesh:
        """The canonical mesh; the default identity's comes with the model.

        Those of others are made when they are first asked for (half a minute) and kept.
        """
        if self._mesh is None:
            shipped = None if self.identity.any() else self.content.canonical
            try:
                self._mesh = build_canonical(self) if shipped is None else shipped
            except (ValueError, IndexError) as error:
                raise InputError(
                    f"this identity code gives no head that a mesh could be made of ({one_line(error)}); "
                    f"codes of heads have values of about 1 and less"
                ) from error
        return self._mesh

    # Rig ------------------------------------------------------------------------------------------------

    @plainly
    @torch.inference_mode()
    def template_points(self, points: Float32, part: AnyInt) -> Float32:
        """Template coordinates (N, 3) of canonical points: where they would lie on the mean head.

        Args:
            points: (N, 3) canonical points.
            part: (N,) moving part of each.
        """
        if not self.identity.any():
            return np.asarray(points, np.float32)
        code, network = torch.from_numpy(self.identity)[None], self.content.identity
        x, index = torch.from_numpy(np.ascontiguousarray(points, np.float32)), _index(part)
        anchors = network.anchors(code)
        return self.content.template(x[None], index[None], code, anchors, network.anchors_mean)[0].numpy()

    @plainly
    @torch.inference_mode()
    def surface_logits(self, points: Float32, part: AnyInt) -> Float32:
        """Logits (N, classes) of each :class:`facetalk.nphm.head.parts.SurfaceClass`.

        Args:
            points: (N, 3) canonical points.
            part: (N,) moving part of each.
        """
        template = torch.from_numpy(self.template_points(points, part))
        return torch.cat([self.content.parts(block) for block in template.split(_CHUNK)]).numpy()

    @plainly
    @torch.inference_mode()
    def forward_basis(self, points: Float32, part: AnyInt) -> Float32:
        """The rig at canonical points: ``posed = points + sum_j (e_j - rest_j) basis_j``.

        The canonical shape has a slightly open jaw, so its own weights are not zero:
        ``HeadModel.rest_expression``.

        Args:
            points: (N, 3) canonical points.
            part: (N,) :class:`facetalk.nphm.head.parts.Part` of each point.

        Returns:
            (E, N, 3) displacement for each expression weight.
        """
        template = torch.from_numpy(self.template_points(points, part))
        blocks = zip(template.split(_CHUNK), _index(part).split(_CHUNK), strict=True)
        basis = np.concatenate([self.content.blendshapes(x, i).numpy() for x, i in blocks])
        basis = basis.transpose(1, 0, 2)
        eyes = np.asarray(part) == Part.EYEBALLS
        basis[:, eyes] = self._gaze_basis(np.asarray(points, np.float32)[eyes])
        return np.ascontiguousarray(basis)

    def _gaze_basis(self, points: Float32) -> Float32:
        """Eyeballs turn by the weights of eyeLook*, to first order about their centres."""
        centres, _ = self.eyeballs()
        left = np.linalg.norm(points - centres[0], axis=1) < np.linalg.norm(points - centres[1], axis=1)
        arm = points - np.where(left[:, None], centres[0], centres[1])
        names = self.content.expression_names
        out = np.zeros((len(names), len(points), 3), np.float32)
        for index, name in enumerate(names):
            if name in _GAZE_AXES:
                axis = np.array(_GAZE_AXES[name], np.float32)
                turn = np.cross(axis, arm) * np.float32(GAZE_RADIANS_PER_WEIGHT)
                out[index] = np.where((left == name.endswith("_L"))[:, None], turn, 0.0)
        return out


def _index(part: AnyInt) -> Tensor:
    return torch.from_numpy(np.asarray(part).astype(np.int64))
