"""The panel in the sidebar of the 3D view, and the entries of File > Import."""

from __future__ import annotations

from pathlib import Path

import bpy

from .faces import Problem, chosen_meshes, find_faces
from .names import ARKIT_NAMES
from .operators import FACETALK_OT_speech, FACETALK_OT_take, draw_targets
from .settings import SpeechSettings, TakeSettings, TargetSettings
from .take import SUFFIXES

__all__ = ["FACETALK_PT_speech", "draw_import"]


class FACETALK_PT_speech(bpy.types.Panel):
    """A sound or a take, and how it moves the selected meshes"""

    bl_label = "Speech to Shape Keys"
    bl_idname = "FACETALK_PT_speech"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "facetalk"

    def draw(self, context: bpy.types.Context) -> None:
        """Draw what the file at hand can be given."""
        layout, settings = self.layout, context.scene.facetalk
        try:
            faces = find_faces(chosen_meshes(context.view_layer))
        except Problem as problem:
            layout.label(text=_short(str(problem)), icon="ERROR")
        else:
            for face in faces:
                count = len(set(face.curves.values()))
                layout.label(text=f"{face.mesh}: {count} of {len(ARKIT_NAMES)} curves", icon="SHAPEKEY_DATA")
        layout.prop(settings, "path")
        is_take = Path(settings.path).suffix.lower() in SUFFIXES
        own = (TakeSettings if is_take else SpeechSettings).__annotations__
        for name in own:
            layout.prop(settings, name)
        draw_targets(layout, settings)
        layout.operator_context = "EXEC_DEFAULT"  # the file is chosen already
        operator = layout.operator((FACETALK_OT_take if is_take else FACETALK_OT_speech).bl_idname)
        operator.filepath = settings.path
        for name in (*own, *TargetSettings.__annotations__):
            setattr(operator, name, getattr(settings, name))


def _short(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def draw_import(self: bpy.types.Menu, context: bpy.types.Context) -> None:
    """Draw the entries of File > Import."""
    self.layout.operator(FACETALK_OT_speech.bl_idname, text="Speech (facetalk)")
    self.layout.operator(FACETALK_OT_take.bl_idname, text="Face Take (.csv, .json)")
