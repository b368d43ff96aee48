"""What of a scene is moved: meshes with ARKit's shape keys, bones or objects that are a head or an eye."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import bpy
import numpy as np
from mathutils import Euler, Quaternion

from . import turns
from .names import ARKIT_NAMES, match

__all__ = ["SLOTTED", "Channel", "Face", "Joint", "Problem", "chosen_meshes", "find_faces", "find_joint"]

SLOTTED = bpy.app.version >= (4, 4)
"""Whether an action has slots, one for each thing that it moves."""

_REST = "facetalk_rest"
"""Property of an action: the rotation that an object had before it was keyed."""


class Problem(Exception):
    """The scene has not what it takes, in one line; nothing of it was changed."""


@dataclasses.dataclass(frozen=True)
class Channel:
    """One animated number of a data-block.

    Attributes:
        owner: what has the property, a Key or an Object.
        path, index: of the property.
        values: (T,) one a frame.
        group: its name in the editors; empty for none.
    """

    owner: bpy.types.ID
    path: str
    index: int
    values: turns.Array
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Face:
    """A mesh whose shape keys have names of ARKit's.

    Attributes:
        mesh: name of the object, for messages.
        key: its shape keys.
        curves: ARKit's curves by names of the shape keys that follow them.
        driven, muted, narrow, pinned: what stands in the way, for messages: keys that a driver moves, which
            are left to it; keys that are muted, or whose range holds less than 0 to 1; whether the object
            shows one key alone.
    """

    mesh: str
    key: bpy.types.Key
    curves: dict[str, str]
    driven: list[str]
    muted: list[str]
    narrow: list[str]
    pinned: bool

    def channels(self, weights: dict[str, turns.Array]) -> list[Channel]:
        """What there is to key of curves that have a value for each frame."""
        return [
            Channel(self.key, _value_path(shape), 0, np.clip(weights[curve], 0.0, 1.0))
            for shape, curve in self.curves.items()
            if curve in weights
        ]


def chosen_meshes(layer: bpy.types.ViewLayer) -> list[bpy.types.Object]:
    """The active mesh, then the selected ones."""
    chosen = [layer.objects.active, *layer.objects.selected]
    return [thing for thing in dict.fromkeys(chosen) if thing is not None and thing.type == "MESH"]


def find_faces(meshes: Iterable[bpy.types.Object], curves: Iterable[str] = ARKIT_NAMES) -> list[Face]:
    """The faces among meshes; objects that share their mesh are one.

    Raises:
        Problem: there is none, or it cannot be keyed.
    """
    meshes, wanted, found, taken = list(meshes), list(curves), [], []
    if not meshes:
        raise Problem("select a mesh with shape keys")
    for mesh in meshes:
        key = mesh.data.shape_keys
        if key is None or any(face.key == key for face in found):
            continue
        if not key.use_relative:
            raise Problem(f"the shape keys of {mesh.name} are not relative; tick Relative in its shape keys")
        # The first key is the face at rest, whatever it is called.
        matched = match(wanted, [block.name for block in key.key_blocks[1:]])
        driven = _driven(key)
        left = [shape for shape in matched if _value_path(shape) in driven]
        curves_by_key = {shape: curve for shape, curve in matched.items() if shape not in left}
        taken += left
        if not curves_by_key:
            continue
        _check_editable(key, f"the shape keys of {mesh.name}")
        blocks = [key.key_blocks[shape] for shape in curves_by_key]
        muted = [block.name for block in blocks if block.mute]
        narrow = [block.name for block in blocks if block.slider_min > 0.0 or block.slider_max < 1.0]
        found.append(Face(mesh.name, key, curves_by_key, left, muted, narrow, mesh.show_only_shape_key))
    if not found:
        names = ", ".join(mesh.name for mesh in meshes)
        if taken:
            raise Problem(f"drivers move all that {names} has of ARKit's shape keys; they are left alone")
        raise Problem(f"no shape key of {names} has a name that was looked for: {', '.join(wanted)}")
    return found


@dataclasses.dataclass(frozen=True)
class Joint:
    """A bone or an object that turns.

    Attributes:
        owner: the object.
        bone: name of its bone; empty for the object itself.
        axes: (3, 3) a head's own axes, as columns, in those around the joint.
        rest: (4,) rotation w, x, y, z of an object that is not turned; a bone knows its own.
    """

    owner: bpy.types.Object
    bone: str
    axes: turns.Array
    rest: turns.Array

    def channels(self, around: turns.Array) -> list[Channel]:
        """What there is to key of (T, 4) turns about the head's own axes."""
        moved = turns.in_axes(around, self.axes)
        if self.bone:
            rest = self.owner.data.bones[self.bone].matrix_local.to_3x3().normalized()
            moved = turns.in_rest(moved, np.array(rest))
        else:
            moved = turns.product(moved, self.rest)
        posed = self._posed()
        path, values = "rotation_quaternion", turns.continuous(moved)
        if posed.rotation_mode != "QUATERNION":
            path, values = "rotation_euler", _eulers(values, posed.rotation_mode)
        prefix = f"{_bone_path(self.bone)}." if self.bone else ""
        return [
            Channel(self.owner, prefix + path, index, values[:, index], self.bone)
            for index in range(values.shape[1])
        ]

    def remember(self, action: bpy.types.Action) -> None:
        """Keep the rest for the next run, when the rotation is animated."""
        if not self.bone:
            action[_REST] = self.rest.tolist()

    def _posed(self) -> bpy.types.Object | bpy.types.PoseBone:
        return self.owner.pose.bones[self.bone] if self.bone else self.owner


def find_joint(what: str, name: str, bone: str, facing: str) -> Joint | None:
    """The bone or object that was chosen; None where none was.

    Args:
        what: it is for, in messages.
        name: of the object.
        bone: name of its bone, or empty.
        facing: one of ``turns.FACINGS``: which way the face looks, in the axes of the armature or, for an
            object, of its parent or the world.

    Raises:
        Problem: there is no such thing, or it cannot be keyed.
    """
    if not name:
        if bone:
            raise Problem(f"{what}: choose the armature that has the bone {bone}")
        return None
    owner = bpy.data.objects.get(name)
    if owner is None:
        raise Problem(f"{what}: there is no object {name}")
    if bone and (owner.type != "ARMATURE" or bone not in owner.data.bones):
        raise Problem(f"{what}: {name} has no bone {bone}")
    if owner.type == "ARMATURE" and not bone:
        raise Problem(f"{what}: choose a bone of the armature {name}")
    _check_editable(owner, f"{what}: {name}")
    joint = Joint(owner, bone, turns.FACINGS[facing][1], _rest(owner))
    posed, called = joint._posed(), bone or name
    if posed.rotation_mode == "AXIS_ANGLE":
        raise Problem(f"{what}: {called} rotates by axis and angle; choose quaternions or an Euler order")
    prefix = f"{_bone_path(bone)}." if bone else ""
    if _driven(owner) & {prefix + "rotation_quaternion", prefix + "rotation_euler"}:
        raise Problem(f"{what}: a driver turns {called}; remove it or choose another")
    return joint


def _rest(owner: bpy.types.Object) -> turns.Array:
    """The rotation that an object has; where that is animated, what it was before, or none."""
    animated = set()
    for action, slot in _actions(owner.animation_data):
        if _REST in action:
            return np.array(action[_REST], np.float64)
        animated |= {curve.data_path for curve in _curves(action, slot)}
    if animated & {"rotation_quaternion", "rotation_euler"}:
        return np.array([1.0, 0.0, 0.0, 0.0])
    if owner.rotation_mode == "QUATERNION":
        return np.array(owner.rotation_quaternion.normalized())
    return np.array(owner.rotation_euler.to_quaternion())


def _actions(data: bpy.types.AnimData | None) -> list[tuple[bpy.types.Action, Any]]:
    """The actions that move something, with their slots, the uppermost first."""
    if data is None:
        return []
    strips = [strip for track in reversed(data.nla_tracks) if not track.mute for strip in track.strips]
    users = [user for user in (data, *strips) if user.action is not None]
    return [(user.action, getattr(user, "action_slot", None)) for user in users]


def _curves(action: bpy.types.Action, slot: Any) -> list[bpy.types.FCurve]:
    """The curves of an action; of one with slots, those of one slot."""
    if not SLOTTED:
        return list(action.fcurves)
    bags = [strip.channelbag(slot) for layer in action.layers for strip in layer.strips if slot is not None]
    return [curve for bag in bags if bag is not None for curve in bag.fcurves]


def _eulers(values: turns.Array, order: str) -> turns.Array:
    """(T, 3) angles of (T, 4) turns, each near the one before."""
    found: list[Euler] = []
    for value in values:
        found.append(Quaternion(value).to_euler(order, *found[-1:]))
    return np.array(found)


def _check_editable(thing: bpy.types.ID, what: str) -> None:
    """Raise a Problem where a data-block cannot get an action."""
    if thing.library is not None:
        raise Problem(f"{what} cannot be keyed: it is linked from another file; make it local or override it")
    if thing.animation_data is not None and thing.animation_data.use_tweak_mode:
        raise Problem(f"{what} cannot be keyed while a strip of the NLA is edited; leave tweak mode (Tab)")


def _driven(thing: bpy.types.ID) -> set[str]:
    data = thing.animation_data
    return set() if data is None else {curve.data_path for curve in data.drivers}


def _value_path(shape: str) -> str:
    return f'key_blocks["{bpy.utils.escape_identifier(shape)}"].value'


def _bone_path(bone: str) -> str:
    return f'pose.bones["{bpy.utils.escape_identifier(bone)}"]'
