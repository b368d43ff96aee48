"""Which shape keys of a mesh are which of ARKit's. Needs nothing of Blender."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["ANGLE_NAMES", "ARKIT_NAMES", "HALVES", "arkit_name", "match"]

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
"""Apple's 52 blendshapes. A test holds them to those of facetalk, which Blender's Python need not have."""

ANGLE_NAMES: tuple[str, ...] = (
    "headYaw", "headPitch", "headRoll",
    "leftEyeYaw", "leftEyePitch", "leftEyeRoll", "rightEyeYaw", "rightEyePitch", "rightEyeRoll",
)  # fmt: skip
"""Angles of a take, in threes for each of the head, the left and the right eye."""

HALVES = {"browInnerUp": ("browInnerUpLeft", "browInnerUpRight"),
          "cheekPuff": ("cheekPuffLeft", "cheekPuffRight")}  # fmt: skip
"""Shapes that a mesh may have by side instead, as the head of facetalk does: both get the one weight."""

_SIDES = {"l": "left", "r": "right"}


def _plain(name: str) -> str:
    """A name without case and separators; a last L or R of its own is a side: ``Eye_Blink.L``."""
    parts = re.split(r"[\s_.-]+", name.strip().lower())
    if len(parts) > 1:
        parts[-1] = _SIDES.get(parts[-1], parts[-1])
    return "".join(parts)


_KNOWN = {_plain(name): name for name in (*ARKIT_NAMES, *ANGLE_NAMES)}


def arkit_name(column: str) -> str | None:
    """What a column of a take stands for: ``blendShapes.EyeBlinkLeft`` is ``eyeBlinkLeft``."""
    return _KNOWN.get(_plain(column.strip().rpartition(".")[2]))


def match(curves: Iterable[str], keys: Sequence[str]) -> dict[str, str]:
    """Which shape key follows which curve.

    Case and separators do not matter. Where several keys of a mesh have one name but for those, the most
    alike is taken alone, and where it has a shape both whole and in halves, the whole one: together they
    would move the face twice.

    Args:
        curves: names of ARKit's.
        keys: names of the shape keys.

    Returns:
        Curves by names of shape keys, in the order of the curves.
    """
    alike: dict[str, list[str]] = {}
    for key in keys:
        alike.setdefault(_plain(key), []).append(key)

    def nearest(name: str) -> list[str]:
        found = alike.get(_plain(name), [])
        return sorted(found, key=lambda key: (key != name, key.lower() != name.lower()))[:1]

    matched = {}
    for curve in curves:
        for key in nearest(curve) or [half for name in HALVES.get(curve, ()) for half in nearest(name)]:
            matched[key] = curve
    return matched
