"""Names of the 53 expressions of ICT-FaceKit.

They are Apple ARKit's face blendshapes without tongueOut, and with browInnerUp and cheekPuff split by side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facetalk.arrays import Float32

__all__ = ["EXPRESSION_NAMES", "INDEX", "arkit_name", "is_upper_face", "with_upper_face"]

EXPRESSION_NAMES: tuple[str, ...] = (
    "browDown_L", "browDown_R", "browInnerUp_L", "browInnerUp_R", "browOuterUp_L", "browOuterUp_R",
    "cheekPuff_L", "cheekPuff_R", "cheekSquint_L", "cheekSquint_R",
    "eyeBlink_L", "eyeBlink_R", "eyeLookDown_L", "eyeLookDown_R", "eyeLookIn_L", "eyeLookIn_R",
    "eyeLookOut_L", "eyeLookOut_R", "eyeLookUp_L", "eyeLookUp_R", "eyeSquint_L", "eyeSquint_R",
    "eyeWide_L", "eyeWide_R",
    "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimple_L", "mouthDimple_R", "mouthFrown_L", "mouthFrown_R", "mouthFunnel",
    "mouthLeft", "mouthLowerDown_L", "mouthLowerDown_R", "mouthPress_L", "mouthPress_R", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthSmile_L", "mouthSmile_R", "mouthStretch_L", "mouthStretch_R", "mouthUpperUp_L", "mouthUpperUp_R",
    "noseSneer_L", "noseSneer_R",
)  # fmt: skip
"""Order of the built-in model's expression codes."""

INDEX: dict[str, int] = {name: position for position, name in enumerate(EXPRESSION_NAMES)}
"""Column of each expression in a code."""


def arkit_name(name: str) -> str:
    """The name that animation tools know a shape by: ``eyeBlink_L`` is Apple ARKit's ``eyeBlinkLeft``.

    The halves of browInnerUp and cheekPuff, which ARKit does not split, are called in the same way
    (``browInnerUpLeft``). Names that are not in :data:`EXPRESSION_NAMES` stay what they are.

    Source: developer.apple.com/documentation/arkit/arfaceanchor/blendshapelocation.
    """
    if name not in INDEX:
        return name
    for suffix, side in (("_L", "Left"), ("_R", "Right")):
        if name.endswith(suffix):
            return name.removesuffix(suffix) + side
    return name


def is_upper_face(name: str) -> bool:
    """Whether an expression moves brows, lids, gaze or what is round the eyes, and not the mouth."""
    return name.startswith(("brow", "eye", "cheekSquint"))


def with_upper_face(curves: Float32, other: Float32, names: Sequence[str]) -> Float32:
    """A motion's mouth with the upper face of another of the same sound and noise.

    Args:
        curves: (T, E) weights, whose mouth is taken.
        other: (T, E) weights, whose upper face is.
        names: (E,) of the weights.
    """
    upper = np.array([is_upper_face(name) for name in names], bool)
    return np.where(upper, other, curves)
