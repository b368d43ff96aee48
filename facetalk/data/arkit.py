"""A model's expressions as Apple ARKit's 52 face blendshapes and as the angles that go with them.

Which of a head's shapes are which of ARKit's, and by what weights, :mod:`facetalk.mesh.arkit` says. Eyes turn
by angles beside their weights, the head by those of its pose; without one its angles are 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facetalk.arrays import Float32
from facetalk.data.expressions import arkit_name
from facetalk.errors import InputError
from facetalk.mesh.arkit import ARKIT_NAMES, HALVES, ArkitShapes
from facetalk.mesh.tongue import TONGUE_NAMES
from facetalk.units import GAZE_RADIANS_PER_WEIGHT

__all__ = ["ANGLE_NAMES", "ARKIT_NAMES", "ArkitFace", "arkit_sources"]

ANGLE_NAMES: tuple[str, ...] = (
    "headYaw", "headPitch", "headRoll",
    "leftEyeYaw", "leftEyePitch", "leftEyeRoll", "rightEyeYaw", "rightEyePitch", "rightEyeRoll",
)  # fmt: skip
"""The nine angles beside them, in the same order: radians, positive yaw to the head's left, positive pitch
down, as in takes of the Live Link Face app (eyes that look down have a positive pitch there); a positive roll
tilts the head to its right shoulder."""

_HEAD = (1, 0, 2)  # yaw, pitch and roll among the columns of a pose

# (angle, blendshape, sign): an eye that looks out turns to its own side of the head.
_TURNS = (
    ("leftEyeYaw", "eyeLookOutLeft", 1.0), ("leftEyeYaw", "eyeLookInLeft", -1.0),
    ("rightEyeYaw", "eyeLookInRight", 1.0), ("rightEyeYaw", "eyeLookOutRight", -1.0),
    ("leftEyePitch", "eyeLookDownLeft", 1.0), ("leftEyePitch", "eyeLookUpLeft", -1.0),
    ("rightEyePitch", "eyeLookDownRight", 1.0), ("rightEyePitch", "eyeLookUpRight", -1.0),
)  # fmt: skip


def arkit_sources(name: str) -> tuple[str, ...]:
    """Where to look for the weight of an expression among curves of ARKit's names: the first that is there.

    Its own name, ARKit's for it, and for half a shape of ARKit's (browInnerUp_L) the whole.
    """
    arkit = arkit_name(name)
    return name, arkit, HALVES.get(arkit, arkit)


class ArkitFace:
    """Turns a model's expression codes into ARKit's blendshapes.

    Args:
        names: of the model's E expressions, ICT-FaceKit's or ARKit's; others are left out.

    Raises:
        InputError: none of the names is known.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._count = len(names)
        self._shapes = ArkitShapes([arkit_name(name) for name in names])
        self._turns = np.zeros((len(ARKIT_NAMES), len(ANGLE_NAMES)), np.float32)
        for angle, shape, sign in _TURNS:
            column = ANGLE_NAMES.index(angle)
            self._turns[ARKIT_NAMES.index(shape), column] = sign * GAZE_RADIANS_PER_WEIGHT

    def shapes(self, basis: Float32) -> Float32:
        """What each of ARKit's blendshapes moves.

        Args:
            basis: (E, V, 3) what each of the model's expressions moves.

        Returns:
            (52, V, 3) float32; zeros where nothing of the model has the name.
        """
        return self._shapes.shapes(basis)

    def __call__(
        self, expressions: Float32, pose: Float32 | None = None, tongue: Float32 | None = None
    ) -> tuple[Float32, Float32]:
        """Blendshapes and angles of frames.

        Args:
            expressions: (T, E) expression codes.
            pose: (T, 6) where the head is, as ``Motion.pose`` has it; None for a head that keeps still.
            tongue: (T, 3) as ``Motion.tongue`` has it; None where the codes say what there is to say. ARKit
                has a name for the tongue that is out alone.

        Returns:
            (T, 52) float32 weights in [0, 1], in the order of :data:`ARKIT_NAMES`, and (T, 9) float32 angles
            in radians, in that of :data:`ANGLE_NAMES`.

        Raises:
            InputError: the codes have another width.
        """
        codes = np.asarray(expressions, np.float32)
        if codes.ndim != 2 or codes.shape[1] != self._count:
            raise InputError(f"expressions must have shape (T, {self._count}), got {codes.shape}")
        weights = self._shapes.weights(codes)
        if tongue is not None:
            weights[:, ARKIT_NAMES.index("tongueOut")] = tongue[:, TONGUE_NAMES.index("tongueOut")]
        angles = np.asarray(weights @ self._turns, np.float32)
        if pose is not None:
            angles[:, :3] = np.asarray(pose, np.float32)[:, _HEAD]
        return weights, angles
