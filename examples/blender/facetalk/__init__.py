"""Speech to Shape Keys: an extension of Blender that has facetalk move a face with ARKit's shape keys."""

from __future__ import annotations

import bpy

from .operators import FACETALK_OT_speech, FACETALK_OT_take
from .panel import FACETALK_PT_speech, draw_import
from .settings import Preferences, SceneSettings

# For Blender before 4.2, which reads no blender_manifest.toml.
bl_info = {
    "name": "Speech to Shape Keys (facetalk)",
    "description": "Speech moves a face: ARKit shape keys, head and eyes, by facetalk",
    "author": "facetalk",
    "version": (0, 1, 0),
    "blender": (3, 4, 0),
    "location": "3D View > Sidebar > facetalk, File > Import",
    "category": "Animation",
}

_CLASSES = (Preferences, SceneSettings, FACETALK_OT_speech, FACETALK_OT_take, FACETALK_PT_speech)


def register() -> None:
    """Put everything in its place."""
    for each in _CLASSES:
        bpy.utils.register_class(each)
    bpy.types.Scene.facetalk = bpy.props.PointerProperty(type=SceneSettings)
    bpy.types.TOPBAR_MT_file_import.append(draw_import)


def unregister() -> None:
    """Take everything away."""
    bpy.types.TOPBAR_MT_file_import.remove(draw_import)
    del bpy.types.Scene.facetalk
    for each in reversed(_CLASSES):
        bpy.utils.unregister_class(each)
