"""More scenes of blender_scenes.py: what can go wrong, and a window that goes on while the command runs."""

from __future__ import annotations

import types
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import bpy
from blender_scenes import PACKAGE, Options, call, empty, face, link, rig, snapshot


def scene_bad(options: Options) -> Any:
    """Each bad input: what is said, and whether the scene is as it was."""
    take, sound, folder = options["take"], options["sound"], Path(options["folder"])
    preferences = bpy.context.preferences.addons[PACKAGE].preferences
    found = {}

    def tried(name: str, operator: str, **settings: Any) -> None:
        bpy.context.view_layer.update()  # drivers have had their say
        before = snapshot()
        settings.setdefault("filepath", take if operator == "take" else sound)
        settings.setdefault("add_strip", False)
        error = call(operator, **settings)
        found[name] = [error, snapshot() == before]

    empty()
    tried("nothing selected", "speech")
    link(bpy.data.objects.new("Lamp", None))
    bpy.context.view_layer.objects.active = bpy.data.objects["Lamp"]
    tried("no mesh", "take")
    face("Bare", [])
    tried("no keys", "speech")
    empty()
    face("Teapot", ["lid", "spout"]).data.shape_keys.key_blocks[0].name = "jawOpen"  # is at rest
    tried("no such names", "take")
    empty()
    made = face("Face", ["jawOpen", "browInnerUp"])
    made.data.shape_keys.use_relative = False
    tried("absolute", "take")
    made.data.shape_keys.use_relative = True
    arm = rig({"head": ((0, 0, 1), 0.0)})
    tried("no such object", "take", head_object="Nobody")
    tried("no such bone", "take", head_object="Rig", head_bone="tail")
    tried("no bone", "take", head_object="Rig")
    tried("bone of none", "take", head_bone="head")
    tried("twice", "take", head_object="Rig", head_bone="head", left_eye_object="Rig", left_eye_bone="head")
    arm.pose.bones["head"].rotation_mode = "AXIS_ANGLE"
    tried("axis and angle", "take", head_object="Rig", head_bone="head")
    arm.pose.bones["head"].rotation_mode = "QUATERNION"
    tried("nothing turns", "take", filepath=options["still"], head_object="Rig", head_bone="head")
    arm.driver_add('pose.bones["head"].rotation_quaternion', 0)
    tried("driven head", "take", head_object="Rig", head_bone="head")
    tried("beyond the last frame", "take", start=1_000_000, filepath=options["long"])
    tried("no file", "take", filepath="")
    tried("absent", "take", filepath="/nowhere/take.csv")
    tried("damaged", "take", filepath=options["damaged"])
    tried("absent sound", "take", sound="/nowhere/talk.wav", add_strip=True)
    tried("absent speech", "speech", filepath="/nowhere/talk.wav")
    tried("no sound at all", "speech", filepath=options["damaged"])
    tried("still head", "speech", head_motion=0.0, head_object="Lamp2")
    for name in ("no command", "fails", "another command", "hangs"):
        preferences.executable = str(folder / name)
        preferences.limit = 0.02 if name == "hangs" else 30.0
        tried(name, "speech")
    preferences.executable = options["command"]
    for block in made.data.shape_keys.key_blocks[1:]:
        block.driver_add("value").driver.expression = "0.25"
    tried("all driven", "speech")
    return found


def scene_modal(options: Options) -> Any:
    """The operator as a window runs it: its own functions, on a stand-in for what only a window has."""
    operators = import_module(f"{PACKAGE}.operators")
    speech = import_module(f"{PACKAGE}.speech")
    parts: dict[str, Callable[..., Any]] = {}
    for kind in (operators._Keys, operators.FACETALK_OT_speech):
        parts.update(
            {name: part for name, part in vars(kind).items() if isinstance(part, types.FunctionType)}
        )
    context = types.SimpleNamespace(
        scene=bpy.context.scene,
        view_layer=bpy.context.view_layer,
        window_manager=types.SimpleNamespace(event_timer_remove=lambda timer: None),
        workspace=types.SimpleNamespace(status_text_set=lambda text: None),
    )

    def begun(command: str, limit: float = 60.0) -> Any:
        empty()
        face("Face", ["jawOpen"])
        settings = import_module(f"{PACKAGE}.settings")
        kinds = (settings.SpeechSettings, settings.TargetSettings)
        known = {
            name: each.keywords.get("default", "")
            for kind in kinds
            for name, each in kind.__annotations__.items()
        }
        one = type("Operator", (), {**parts, **known, "reports": []})()
        one.report = lambda kind, text: one.reports.append([*kind, text])
        one.add_strip = False
        one._look(context)
        one._path, one._timer = Path(options["sound"]), "timer"
        one._job = speech.Job(command, speech.arguments(one._path, 24.0, 0, {}), limit)
        return one

    def until_done(one: Any) -> list[str]:
        said = {"PASS_THROUGH"}
        while said == {"PASS_THROUGH"}:
            said = one.modal(context, types.SimpleNamespace(type="TIMER"))
        return sorted(said)

    found: dict[str, Any] = {}
    one = begun(options["command"])
    found["mouse"] = sorted(one.modal(context, types.SimpleNamespace(type="MOUSEMOVE")))
    found["done"] = [until_done(one), one.reports, one._timer, len(bpy.data.actions)]
    one = begun(options["command"])
    bpy.data.objects["Face"].name = "Renamed"
    found["gone"] = [until_done(one), one.reports, one._timer, len(bpy.data.actions)]
    one = begun(str(Path(options["folder"]) / "fails"))
    found["fails"] = [until_done(one), one.reports, one._timer, len(bpy.data.actions)]
    one = begun(str(Path(options["folder"]) / "hangs"), 0.3)
    found["hangs"] = [until_done(one), one.reports, one._timer, len(bpy.data.actions)]
    one = begun(str(Path(options["folder"]) / "hangs"))
    ended = one.modal(context, types.SimpleNamespace(type="ESC"))
    found["escape"] = [sorted(ended), one.reports, one._timer, len(bpy.data.actions)]
    found["running"] = one._job._process.poll() is None
    return found
