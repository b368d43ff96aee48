"""Scenes for the add-on in examples/blender, run by a Python that has bpy for test_blender_addon.py.

    python blender_scenes.py SCENE OPTIONS.json RESULT.json

Each function takes the options and returns what Blender then shows; blender_wrong.py has more of them.
Nothing here knows of facetalk.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import bpy
import numpy as np

Options = dict[str, Any]
PACKAGE = "bl_ext.user_default.facetalk"


def start(options: Options) -> None:
    """An empty file with the add-on, installed from its archive as people do."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.extensions.package_install_files(
        filepath=options["archive"], repo="user_default", enable_on_install=True
    )
    bpy.context.preferences.addons[PACKAGE].preferences.executable = options["command"]


def empty() -> None:
    """Without anything in it, and as installed."""
    for things in (bpy.data.objects, bpy.data.meshes, bpy.data.armatures, bpy.data.actions, bpy.data.sounds):
        for thing in list(things):
            things.remove(thing)
    scene = bpy.context.scene
    if scene.sequence_editor is not None:
        found = scene.sequence_editor
        strips = found.strips if hasattr(found, "strips") else found.sequences
        for strip in list(strips):
            strips.remove(strip)
    scene.frame_start, scene.frame_end = 1, 250
    scene.render.fps, scene.render.fps_base = 24, 1.0


def face(name: str, keys: list[str], select: bool = True) -> bpy.types.Object:
    """A mesh with shape keys, the active object."""
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [], [(0, 1, 2)])
    made = link(bpy.data.objects.new(name, mesh))
    for key in ["Basis", *keys]:
        made.shape_key_add(name=key).value = 0.0  # 5.0 begins with 1
    made.select_set(select)
    bpy.context.view_layer.objects.active = made
    return made


def link(thing: bpy.types.Object) -> bpy.types.Object:
    bpy.context.scene.collection.objects.link(thing)
    return thing


def rig(bones: dict[str, tuple[tuple[float, ...], float]]) -> bpy.types.Object:
    """An armature with bones that lie along vectors, with a roll."""
    made = link(bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig")))
    active = bpy.context.view_layer.objects.active
    bpy.context.view_layer.objects.active = made
    bpy.ops.object.mode_set(mode="EDIT")
    for name, (along, roll) in bones.items():
        bone = made.data.edit_bones.new(name)
        bone.head, bone.tail, bone.roll = (0, 0, 1.5), np.add((0, 0, 1.5), along), roll
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.context.view_layer.objects.active = active
    return made


def call(operator: str, **settings: Any) -> str:
    """What an operator reports as an error; empty where it did its work."""
    try:
        getattr(bpy.ops.facetalk, operator)(**settings)
    except RuntimeError as error:
        return str(error).strip()
    return ""


def values(made: bpy.types.Object, frames: list[float]) -> list[dict[str, float]]:
    """Shape keys as the animation has them."""
    found = []
    for frame in frames:
        bpy.context.scene.frame_set(int(frame // 1), subframe=frame % 1)
        found.append({block.name: block.value for block in made.data.shape_keys.key_blocks[1:]})
    return found


def curves(action: bpy.types.Action) -> list[bpy.types.FCurve]:
    if hasattr(action, "fcurves"):
        return list(action.fcurves)
    return [curve for strip in action.layers[0].strips for bag in strip.channelbags for curve in bag.fcurves]


def snapshot() -> list[Any]:
    """All that the add-on could change."""
    scene = bpy.context.scene
    editor = scene.sequence_editor
    strips = [] if editor is None else editor.strips if hasattr(editor, "strips") else editor.sequences
    found: list[Any] = [scene.frame_end, scene.frame_current, editor is None, [s.name for s in strips]]
    found.append(sorted(sound.name for sound in bpy.data.sounds))
    for action in bpy.data.actions:
        found.append(
            [action.name, [(c.data_path, [list(p.co) for p in c.keyframe_points]) for c in curves(action)]]
        )
    owners = [*bpy.data.objects, *bpy.data.shape_keys]
    for owner in owners:
        data = owner.animation_data
        found.append(
            [owner.name, data and [data.action and data.action.name, len(data.nla_tracks), len(data.drivers)]]
        )
    for made in bpy.data.objects:
        found.append([made.name, [list(row) for row in made.matrix_world]])
    for key in bpy.data.shape_keys:
        found.append([(block.name, block.value, block.mute) for block in key.key_blocks])
    return json.loads(json.dumps(found))


def scene_speech(options: Options) -> Any:
    """Speech at rates, from frames: values at some of them, keys, the scene's end."""
    found = []
    for fps, base, first in options["rates"]:
        empty()
        scene = bpy.context.scene
        scene.render.fps, scene.render.fps_base = fps, base
        made = face("Face", options["keys"])
        second = face("Other", ["JawOpen"], select=True)
        third = face("Bystander", ["nose"], select=True)
        before = call(options["operator"], start=first, add_strip=False, **options["settings"])
        action = made.data.shape_keys.animation_data.action
        keys = {
            curve.data_path: [list(point.co) for point in curve.keyframe_points] for curve in curves(action)
        }
        found.append({
            "error": before,
            "keys": keys,
            "linear": all(p.interpolation == "LINEAR" for c in curves(action) for p in c.keyframe_points),
            "values": values(made, [first + frame for frame in options["frames"]]),
            "other": values(second, [first + frame for frame in options["frames"]]),
            "untouched": third.data.shape_keys.animation_data is None,
            "rate": fps / scene.render.fps_base,
            "end": scene.frame_end,
            "action": action.name,
        })  # fmt: skip
    return found


def scene_turns(options: Options) -> Any:
    """A head, as a bone and as an object in each mode and way to look: where its own axes then point."""
    found = {}
    for mode in ("QUATERNION", "XYZ", "ZXY"):
        for kind in ("bone", "object"):
            for facing in options["facings"]:
                empty()
                face("Face", ["jawOpen"])
                if kind == "bone":
                    owner = rig({"head": ((0.1, 0.2, 0.3), 0.7)})
                    owner.pose.bones["head"].rotation_mode = mode
                    owner.rotation_euler = (0.3, 0.2, 0.1)  # the rig itself stands anywhere
                else:
                    owner = link(bpy.data.objects.new("Rig", None))
                    owner.rotation_mode = mode
                    turned = np.array([0.9, 0.1, -0.3, 0.2])
                    if mode == "QUATERNION":
                        owner.rotation_quaternion = turned / np.linalg.norm(turned)
                    else:
                        owner.rotation_euler = (0.4, -0.2, 3.1)  # angles pass half a turn
                bone = "head" if kind == "bone" else ""
                matrices = [_orientation(owner, bone)]
                # The second time it starts from the rotation that it had before the first.
                for _ in range(2):
                    error = call(
                        "take", filepath=options["take"], facing=facing, head_object="Rig", head_bone=bone
                    )
                for frame in options["frames"]:
                    bpy.context.scene.frame_set(1 + int(frame), subframe=frame % 1)
                    matrices.append(_orientation(owner, bone))
                around = [list(row) for row in owner.matrix_world.to_3x3()] if bone else np.eye(3).tolist()
                found[f"{mode} {kind} {facing}"] = {"error": error, "matrices": matrices, "around": around}
    return found


def _orientation(owner: bpy.types.Object, bone: str) -> list[list[float]]:
    bpy.context.view_layer.update()
    matrix = owner.matrix_world @ owner.pose.bones[bone].matrix if bone else owner.matrix_world
    return [list(row) for row in matrix.to_3x3().normalized()]


def scene_care(options: Options) -> Any:
    """What was there: drivers, mutes, ranges, an action, linked objects, a second line of speech."""
    empty()
    made = face("Face", ["jawOpen", "jawLeft", "mouthClose", "eyeBlinkLeft", "custom", 'say "\\a"'])
    twin = link(bpy.data.objects.new("Twin", made.data))
    twin.select_set(True)
    blocks = made.data.shape_keys.key_blocks
    blocks["jawLeft"].driver_add("value").driver.expression = "0.25"
    blocks["mouthClose"].mute = True
    blocks["eyeBlinkLeft"].slider_max = 0.5
    made.show_only_shape_key = True
    bpy.context.scene.frame_end = 12
    for frame, value in ((3.5, 0.1), (20.25, 0.9)):
        for name in ("jawOpen", "custom"):
            blocks[name].value = value
            blocks[name].keyframe_insert("value", frame=frame)
    frames = [0, 3.5, 5, 9, 10, 10.5, 12, 13, 13.5, 18, 25]
    before = values(made, frames)
    data = made.data.shape_keys.animation_data
    errors = [call("take", filepath=options["take"], start=10, add_strip=False, extend=False)]
    once = values(made, frames)
    errors.append(call("take", filepath=options["take"], start=16, add_strip=False, extend=False))
    return {
        "errors": errors,
        "before": before,
        "once": once,
        "twice": values(made, [*frames, 16, 17, 19, 19.5, 30]),
        "actions": sorted(action.name for action in bpy.data.actions),
        "tracks": [track.name for track in data.nla_tracks],
        "muted": blocks["mouthClose"].mute,
        "end": bpy.context.scene.frame_end,
    }


def scene_sound(options: Options) -> Any:
    """Strips: where they lie, once for the same sound, none of what is no sound."""
    empty()
    face("Face", ["jawOpen"])
    error = call("speech", filepath=options["sound"], start=7)
    if not bpy.app.build_options.audaspace:
        return error

    def strips() -> list[Any]:
        editor = bpy.context.scene.sequence_editor
        found = editor.strips if hasattr(editor, "strips") else editor.sequences
        return [[s.name, s.frame_start, s.channel, s.frame_final_duration] for s in found]

    found = [[error, strips()]]
    found.append([call("speech", filepath=options["sound"], start=7, smile=0.5), strips()])
    found.append([call("take", filepath=options["take"], sound=options["sound"], start=40), strips()])
    before = snapshot()
    error = call("take", filepath=options["take"], sound=options["damaged"])
    found.append([error, snapshot() == before])
    return found


def scene_glb(options: Options) -> Any:
    """An imported talk.glb that says something else: weights, and where its neck and eyes turn."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    start(options)
    bpy.ops.import_scene.gltf(filepath=options["glb"])
    head = bpy.data.objects["head"]
    for thing in bpy.data.objects:
        thing.select_set(thing == head)
    bpy.context.view_layer.objects.active = head
    error = call("speech", filepath=options["sound"], start=0, seed=options["seed"], add_strip=False,
                 head_object="neck", left_eye_object="leftEye", right_eye_object="rightEye")  # fmt: skip
    turns = {}
    for name in ("neck", "leftEye", "rightEye"):
        rows = []
        for frame in options["frames"]:
            bpy.context.scene.frame_set(frame)
            rows.append([list(row) for row in bpy.data.objects[name].matrix_basis.to_3x3()])
        turns[name] = rows
    return {"error": error, "values": values(head, options["frames"]), "turns": turns}


def scene_leave(options: Options) -> Any:
    """What stays when it is switched off."""
    empty()
    shown = hasattr(bpy.types.Scene, "facetalk"), hasattr(bpy.types, "FACETALK_PT_speech")
    bpy.ops.preferences.addon_disable(module=PACKAGE)
    return [shown, [hasattr(bpy.types.Scene, "facetalk"), hasattr(bpy.types, "FACETALK_PT_speech")]]


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[2]).read_text())
    start(given)
    sys.modules["blender_scenes"] = sys.modules["__main__"]
    wrong = vars(import_module("blender_wrong"))
    scene = {**globals(), **wrong}[f"scene_{sys.argv[1]}"]
    Path(sys.argv[3]).write_text(json.dumps(scene(given)))
