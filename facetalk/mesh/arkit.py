"""Shapes as Apple ARKit's 52 face blendshapes: the names that engines and avatars listen to.

49 of the built-in head's 53 expressions have ARKit's names. browInnerUp and cheekPuff come in two halves
there, whose mean is ARKit's one weight, and whose displacements together are its shape; tongueOut is the
tongue's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from facetalk.arrays import AnyFloat, Float32
from facetalk.errors import InputError
from facetalk.mesh.morphs import largest_offset
from facetalk.mesh.sequence import RiggedSequence

__all__ = ["ARKIT_NAMES", "HALVES", "NAMINGS", "ArkitShapes", "ShapeNames", "in_arkit"]

ShapeNames = Literal["arkit"]
NAMINGS: tuple[ShapeNames, ...] = get_args(ShapeNames)
"""What morph targets may be called instead of the rig's own names."""

ARKIT_NAMES: tuple[str, ...] = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft",
    "eyeWideLeft", "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight",
    "eyeSquintRight", "eyeWideRight",
    "jawForward", "jawLeft", "jawRight", "jawOpen",
    "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight", "mouthSmileLeft",
    "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight", "mouthDimpleLeft", "mouthDimpleRight",
    "mouthStretchLeft", "mouthStretchRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower",
    "mouthShrugUpper", "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft", "mouthLowerDownRight",
    "mouthUpperUpLeft", "mouthUpperUpRight",
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
"""The 52 blendshapes of ARKit, in the order of Live Link Face's packets (EARFaceBlendShape of Unreal)."""

HALVES = {"browInnerUpLeft": "browInnerUp", "browInnerUpRight": "browInnerUp",
          "cheekPuffLeft": "cheekPuff", "cheekPuffRight": "cheekPuff"}  # fmt: skip
"""ARKit's shapes that a head may have by side, by the names of their halves."""


class ArkitShapes:
    """Which of a rig's shapes are which of ARKit's.

    Args:
        names: of the rig's E shapes, ARKit's or halves of them; others are left out.

    Raises:
        InputError: none of the names is known, but for a tongue's.

    Attributes:
        selection: (E, 52) float32, 1 where a shape is one of ARKit's, or half of it.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.selection = np.zeros((len(names), len(ARKIT_NAMES)), np.float32)
        for row, name in enumerate(names):
            arkit = HALVES.get(name, name)
            if arkit in ARKIT_NAMES:
                self.selection[row, ARKIT_NAMES.index(arkit)] = 1.0
        # Every head with a tongue has the name of that, whatever its expressions are called.
        if not np.delete(self.selection, ARKIT_NAMES.index("tongueOut"), axis=1).any():
            raise InputError(
                "none of this model's expressions has a name of ARKit's or ICT-FaceKit's, so receivers would "
                "not know what to move; use a model of named expressions, like the built-in one"
            )
        # Halves are averaged: it is the one weight for both that is nearest to two.
        self._mean = self.selection / np.maximum(self.selection.sum(axis=0), 1.0)

    def weights(self, codes: Float32) -> Float32:
        """(T, 52) float32 weights in [0, 1] of (T, E) weights of the rig."""
        return np.clip(codes @ self._mean, 0.0, 1.0).astype(np.float32)

    def shapes(self, basis: Float32) -> Float32:
        """(52, V, 3) float32 what each moves of (E, V, 3); zeros where the rig has nothing of the name."""
        return np.tensordot(self.selection.T, basis, axes=1)


def in_arkit(meshes: object) -> tuple[RiggedSequence, float]:
    """A sequence by ARKit's shapes and names alone, in the order of :data:`ARKIT_NAMES`.

    Halves of a shape become one, with the mean of their weights; weights end at 0 and 1; shapes of other
    names are left out, and so are names of which the rig has nothing.

    Args:
        meshes: a rig whose shapes have ARKit's names, as :meth:`facetalk.FaceTalk.decode` gives it.

    Returns:
        The rig, and how far at most a vertex of a frame is from where it was, metres.

    Raises:
        InputError: there is no rig, or none of its shapes has such a name.
    """
    if not isinstance(meshes, RiggedSequence) or meshes.names is None:
        raise InputError(
            "--shapes (shapes=) is for a head with a rig whose shapes have names, like the built-in one, and "
            "its fixed topology; leave it out"
        )
    known = ArkitShapes(meshes.names)
    there = np.flatnonzero(known.selection.any(axis=0))
    chosen = known.selection[:, there]
    weights = known.weights(meshes.weights)[:, there]
    lost = meshes.weights - weights @ chosen.T
    error = largest_offset(lost, meshes.basis)
    for eye in meshes.eyes:
        # A turn less takes no vertex further than its angle times the arm.
        arms = np.linalg.norm(meshes.base.vertices[eye.rows] - eye.centre, axis=1)
        angle = _longest(lost @ eye.rates)
        error = max(error, angle * float(arms.max(initial=0.0)))
    rig = RiggedSequence(
        meshes.base,
        known.shapes(meshes.basis)[there],
        weights,
        names=[ARKIT_NAMES[number] for number in there],
        pose=meshes.pose,
        eyes=[dataclasses.replace(eye, rates=chosen.T @ eye.rates) for eye in meshes.eyes],
    )
    return rig, error


def _longest(vectors: AnyFloat) -> float:
    return float(np.linalg.norm(vectors, axis=1).max(initial=0.0))
