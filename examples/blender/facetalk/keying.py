"""Writes channels as actions, and the sound as a strip. What was there stays: below, in the NLA."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from .faces import SLOTTED, Channel, Problem

__all__ = ["add_sound", "check_frames", "check_sound", "frame_rate", "write_channels"]

_LAST_FRAME = 1_048_574
_CHANNELS = 32
"""Of the sequencer, which every version has."""


def frame_rate(scene: bpy.types.Scene) -> float:
    """Frames a second."""
    return float(scene.render.fps / scene.render.fps_base)


def check_frames(start: int, count: int) -> None:
    """Raise a Problem where a scene cannot have such frames."""
    if start + count - 1 > _LAST_FRAME:
        raise Problem(f"it would end at frame {start + count - 1}; a scene ends at {_LAST_FRAME}")


def write_channels(
    name: str, start: int, channels: Sequence[Channel]
) -> dict[bpy.types.ID, bpy.types.Action]:
    """Key channels at whole frames from ``start`` on, straight between them.

    Every owner gets a new action. The one that it had becomes a strip of the NLA below, as by "push down", so
    that whatever else it moves goes on moving, and so does what comes before and behind the new one.
    """
    written = {}
    for owner in dict.fromkeys(channel.owner for channel in channels):
        action = bpy.data.actions.new(f"{name} {_called(owner)}")
        data = owner.animation_data or owner.animation_data_create()
        _push_down(data)
        place = _assign(data, action, owner)
        for channel in channels:
            if channel.owner == owner:
                _key(place, channel, start)
        written[owner] = action
    return written


def _called(owner: bpy.types.ID) -> str:
    """Shape keys are all called Key; their mesh has a name."""
    return owner.user.name if isinstance(owner, bpy.types.Key) else owner.name


def _key(place: Any, channel: Channel, start: int) -> None:
    curve = place.fcurves.new(channel.path, index=channel.index)
    values = channel.values if np.ptp(channel.values) > 0.0 else channel.values[:1]
    points = curve.keyframe_points
    points.add(len(values))
    frames = start + np.arange(len(values))
    points.foreach_set("co", np.stack([frames, values], axis=1).astype(np.float32).ravel())
    linear = bpy.types.Keyframe.bl_rna.properties["interpolation"].enum_items["LINEAR"].value
    points.foreach_set("interpolation", np.full(len(values), linear, np.int32))
    curve.update()
    if channel.group:
        curve.group = place.groups.get(channel.group) or place.groups.new(channel.group)


def _assign(data: bpy.types.AnimData, action: bpy.types.Action, owner: bpy.types.ID) -> Any:
    """Give an owner its action; return what has its curves and groups."""
    data.action = action
    data.action_blend_type, data.action_influence = "REPLACE", 1.0
    # Over strips it has its say in its own time alone; with none below, what it ends with stays.
    data.action_extrapolation = "NOTHING" if data.nla_tracks else "HOLD"
    if not SLOTTED:
        return action
    slot = action.slots.new(owner.id_type, owner.name)
    strip = action.layers.new("Layer").strips.new(type="KEYFRAME")
    bag = strip.channelbag(slot, ensure=True)
    data.action_slot = slot
    return bag


def _push_down(data: bpy.types.AnimData) -> None:
    """Make the action that is there a strip of the NLA which plays as it did."""
    old = data.action
    if old is None:
        return
    first, last = old.frame_range
    track = data.nla_tracks.new()
    track.name = old.name
    strip = track.strips.new(old.name, math.floor(first), old)
    if SLOTTED and data.action_slot is not None:
        strip.action_slot = data.action_slot
    # A strip begins at a whole frame when it is made; keys need not.
    strip.frame_start, strip.frame_end = first, max(last, first + 1.0)
    strip.extrapolation = data.action_extrapolation
    strip.blend_type = data.action_blend_type
    strip.influence = data.action_influence
    data.action = None


def check_sound(path: Path) -> None:
    """Raise a Problem where Blender cannot read a sound."""
    why = "this Blender was built without sound"
    if bpy.app.build_options.audaspace:
        probe = bpy.data.sounds.load(str(path))
        why = "Blender cannot read it" if probe.channels == "INVALID" else ""
        bpy.data.sounds.remove(probe)
    if why:
        raise Problem(f"no strip for {path.name}: {why}; untick the sound strip to go without")


def add_sound(scene: bpy.types.Scene, path: Path, start: int) -> None:
    """Put a sound into the sequencer, in a channel that is free; one that is there already stays alone.

    Raises:
        Problem: it cannot be read, or there is no room; the sequencer is as it was.
    """
    check_sound(path)
    editor = scene.sequence_editor
    there = [] if editor is None else list(_strips(editor))
    if any(s.type == "SOUND" and s.frame_start == start and _path(s) == path for s in there):
        return
    free = set(range(1, _CHANNELS + 1)) - {strip.channel for strip in there}
    if not free:
        raise Problem(f"no strip for {path.name}: all {_CHANNELS} channels of the sequencer are taken")
    # An editor that was made is never cleared again: Blender crashes at the next change of the frame rate.
    _strips(editor or scene.sequence_editor_create()).new_sound(path.stem, str(path), min(free), start)


def _strips(editor: bpy.types.SequenceEditor) -> Any:
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def _path(strip: Any) -> Path:
    return Path(bpy.path.abspath(strip.sound.filepath))
