"""Heads as avatars: the VRM 1.0 extension of a .glb, with its preset expressions made of ARKit's shapes.

Source of names and fields: github.com/vrm-c/vrm-specification, specification/VRMC_vrm-1.0. The vowels are the
visemes of this project (data/visemes.json), the emotions the action units of EMFACS (Friesen and Ekman, 1983)
as ARKit's shapes have them. Every shape is an expression of its own as well, under its ARKit name, which is
what receivers of "perfect sync" look for; so are the two of ARKit's that a head has in halves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from facetalk.mesh.arkit import HALVES
from facetalk.mesh.glb import GlbWriter
from facetalk.mesh.gltf_json import Json
from facetalk.mesh.pose import NECK
from facetalk.units import GAZE_RADIANS_PER_WEIGHT

EXTENSION = "VRMC_vrm"

_BOTH = ("Left", "Right")
_FACES: dict[str, dict[str, float]] = {
    # Visemes AA, IY, UW, EH and OH of data/visemes.json; a test holds them together.
    "aa": {"jawOpen": 0.36, "mouthLowerDown*": 0.22, "mouthUpperUp*": 0.1},
    "ih": {
        "jawOpen": 0.09,
        "mouthStretch*": 0.28,
        "mouthSmile*": 0.16,
        "mouthLowerDown*": 0.16,
        "mouthUpperUp*": 0.08,
    },
    "ou": {"jawOpen": 0.06, "mouthPucker": 0.64, "mouthFunnel": 0.22},
    "ee": {
        "jawOpen": 0.22,
        "mouthStretch*": 0.14,
        "mouthSmile*": 0.06,
        "mouthLowerDown*": 0.18,
        "mouthUpperUp*": 0.08,
    },
    "oh": {"jawOpen": 0.18, "mouthFunnel": 0.3, "mouthPucker": 0.34, "mouthLowerDown*": 0.04},
    "happy": {"mouthSmile*": 0.8, "cheekSquint*": 0.6},  # AU 12, 6
    "angry": {"browDown*": 0.9, "eyeWide*": 0.3, "eyeSquint*": 0.5, "mouthPress*": 0.4},  # 4, 5, 7, 23
    "sad": {"browInnerUp*": 0.9, "browDown*": 0.3, "mouthFrown*": 0.7},  # 1, 4, 15
    "surprised": {"browInnerUp*": 0.9, "browOuterUp*": 0.8, "eyeWide*": 0.7, "jawOpen": 0.35},  # 1, 2, 5, 26
    "blink": {"eyeBlink*": 1.0},
    "blinkLeft": {"eyeBlinkLeft": 1.0},
    "blinkRight": {"eyeBlinkRight": 1.0},
    "lookUp": {"eyeLookUp*": 1.0},
    "lookDown": {"eyeLookDown*": 1.0},
    "lookLeft": {"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0},
    "lookRight": {"eyeLookInLeft": 1.0, "eyeLookOutRight": 1.0},
}
"""Presets by shapes; ``*`` stands for both sides, or for the whole of a shape that has no sides."""

_WHOLES: dict[str, dict[str, float]] = {
    whole: {half: 1.0 for half, of in HALVES.items() if of == whole} for whole in HALVES.values()
}
"""ARKit's shapes that a head may have in halves. Who drives an avatar knows the wholes alone, whose weight is
the mean of the halves."""

# Where the bones of a body would be, metres from the middle of the head; the mesh hangs on none but the head.
_BONES: dict[str, tuple[str | None, tuple[float, float, float]]] = {
    "hips": (None, (0.0, -0.68, 0.0)),
    "spine": ("hips", (0.0, -0.50, 0.0)),
    "head": ("spine", NECK),  # what a head turns about
    **{
        f"{side}{bone}": (parent if parent in ("hips", "spine") else f"{side}{parent}", (sign * x, y, z))
        for side, sign in (("left", 1.0), ("right", -1.0))
        for bone, parent, x, y, z in (
            ("UpperLeg", "hips", 0.09, -0.74, 0.0),
            ("LowerLeg", "UpperLeg", 0.09, -1.14, 0.0),
            ("Foot", "LowerLeg", 0.09, -1.54, 0.0),
            ("UpperArm", "spine", 0.16, -0.22, 0.0),
            ("LowerArm", "UpperArm", 0.42, -0.22, 0.0),
            ("Hand", "LowerArm", 0.66, -0.22, 0.0),
        )
    },
}


def presets(names: Sequence[str]) -> dict[str, dict[int, float]]:
    """VRM's preset expressions by the numbers of morph targets; those of no known shape are left out.

    Args:
        names: of the morph targets, ARKit's.
    """
    return _by_numbers(_FACES, names)


def single_shapes(names: Sequence[str]) -> dict[str, dict[int, float]]:
    """Every shape as an expression, and the wholes of halves, by the numbers of morph targets.

    Args:
        names: of the morph targets, ARKit's.
    """
    return _by_numbers(_WHOLES, names) | {name: {number: 1.0} for number, name in enumerate(names)}


def _by_numbers(
    faces: Mapping[str, Mapping[str, float]], names: Sequence[str]
) -> dict[str, dict[int, float]]:
    known = {name: number for number, name in enumerate(names)}
    found: dict[str, dict[int, float]] = {}
    for face, shapes in faces.items():
        weights: dict[int, float] = {}
        for name, value in shapes.items():
            sides = [name.replace("*", side) for side in _BOTH] if "*" in name else [name]
            there = [side for side in sides if side in known] or [name.replace("*", "")]
            weights |= {known[side]: value for side in there if side in known}
        if weights:
            found[face] = weights
    return found


def add_avatar(
    glb: GlbWriter, node: int, names: Sequence[str], eyes: Sequence[int] = ()
) -> tuple[list[int], int]:
    """Make a document an avatar: the extension, and the bones that it asks for.

    Args:
        glb: the document, with its mesh.
        node: of the mesh.
        names: of its morph targets.
        eyes: nodes of eyes that turn, by the names of VRM's bones, placed in the mesh; they become bones, and
            what eyes look at turns them. Without them it is expressions that look.

    Returns:
        Numbers of the nodes of the scene, and that of the head's bone.
    """
    bones: dict[str, int] = {}
    for name, (parent, place) in _BONES.items():
        above = (0.0, 0.0, 0.0) if parent is None else _BONES[parent][1]
        entry: Json = {"name": name, "translation": [a - b for a, b in zip(place, above, strict=True)]}
        bones[name] = glb.add("nodes", entry)
        if parent is not None:
            glb.document["nodes"][bones[parent]].setdefault("children", []).append(bones[name])
    glb.document["nodes"][bones["head"]].setdefault("children", []).extend([node, *eyes])
    for number in (node, *eyes):
        entry = glb.document["nodes"][number]
        place = entry.get("translation", (0.0, 0.0, 0.0))
        entry["translation"] = [a - b for a, b in zip(place, NECK, strict=True)]
    bones |= {glb.document["nodes"][number]["name"]: number for number in eyes}
    # Looking begins between the eyes; in the middle of a head that has none.
    places = [glb.document["nodes"][number]["translation"] for number in eyes or (node,)]
    between = [sum(values) / len(places) for values in zip(*places, strict=True)]
    degrees = math.degrees(GAZE_RADIANS_PER_WEIGHT)
    extension = {
        "specVersion": "1.0",
        "meta": {
            "name": "facetalk",
            "version": "1",
            "authors": ["facetalk"],
            "licenseUrl": "https://vrm.dev/licenses/1.0/",
        },
        "humanoid": {"humanBones": {name: {"node": number} for name, number in bones.items()}},
        "lookAt": {
            "type": "bone" if eyes else "expression",
            "offsetFromHeadBone": between,
            **{
                # As far as a weight of 1 turns an eye: a bone in degrees, an expression in weights.
                f"rangeMap{way}": {"inputMaxValue": degrees, "outputScale": degrees if eyes else 1.0}
                for way in ("HorizontalInner", "HorizontalOuter", "VerticalDown", "VerticalUp")
            },
        },
        "expressions": {
            "preset": {name: _expression(node, weights) for name, weights in presets(names).items()},
            "custom": {name: _expression(node, weights) for name, weights in single_shapes(names).items()},
        },
    }
    glb.document.setdefault("extensions", {})[EXTENSION] = extension
    glb.document.setdefault("extensionsUsed", []).append(EXTENSION)
    return [bones["hips"]], bones["head"]


def _expression(node: int, weights: Mapping[int, float]) -> Json:
    binds = [{"node": node, "index": index, "weight": value} for index, value in weights.items()]
    return {"isBinary": False, "morphTargetBinds": binds, "overrideBlink": "none", "overrideLookAt": "none",
            "overrideMouth": "none"}  # fmt: skip
