"""What a person sets: shared by the operators, the panel and its scene, and the preferences."""

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty

from .speech import SLIDERS
from .turns import FACINGS

__all__ = ["JOINTS", "Preferences", "SceneSettings", "SpeechSettings", "TakeSettings", "TargetSettings"]

JOINTS = {"head": "Head", "leftEye": "Left Eye", "rightEye": "Right Eye"}
"""What may turn, as takes call it and as people do."""


def property_name(joint: str, kind: str) -> str:
    """Name of the property that says which object or bone (``kind``) a joint is."""
    return f"{joint.replace('Eye', '_eye')}_{kind}"


def _properties(names: dict[str, object]) -> type:
    """A class of Blender's properties, for others to inherit."""
    return type("Properties", (), {"__annotations__": names})


_TARGETS: dict[str, object] = {
    "start": IntProperty(name="Start Frame", default=1, min=-1_000_000, max=1_000_000,
                         description="Frame of the scene at which the sound begins"),
    "add_strip": BoolProperty(name="Sound Strip", default=True,
                              description="Put the sound into the sequencer, at the same frame"),
    "extend": BoolProperty(name="Extend Scene", default=True,
                           description="Let the scene end no earlier than the motion"),
    "facing": EnumProperty(
        name="Looks to", default="NEG_Y",
        items=[(name, label, "") for name, (label, _) in FACINGS.items()],
        description="Which way the face looks, in the axes of the armature, or of the object's parent",
    ),
}  # fmt: skip
for _joint, _label in JOINTS.items():
    _TARGETS[property_name(_joint, "object")] = StringProperty(
        name=_label, description=f"Object or armature that turns: {_label.lower()}; empty for none"
    )
    _TARGETS[property_name(_joint, "bone")] = StringProperty(
        name="Bone", description=f"Bone of the armature: {_label.lower()}"
    )

_SPEECH: dict[str, object] = {
    name: FloatProperty(
        name=name.replace("_", " ").title(), description=text, min=low, max=high, default=still, step=5
    )
    for name, (low, high, still, text) in SLIDERS.items()
}
_SPEECH["seed"] = IntProperty(name="Seed", min=0, default=0, description="Another seed moves another way")

_TAKE: dict[str, object] = {
    "rate": FloatProperty(
        name="Rate of the Take", min=0.0, max=1000.0, default=0.0,
        description="Rows a second of a .csv, if it is no whole number (29.97); 0: as its time code says",
    ),
    "sound": StringProperty(name="Sound", subtype="FILE_PATH",
                            description="What was said, for the sequencer; empty for none"),
}  # fmt: skip

TargetSettings = _properties(_TARGETS)
SpeechSettings = _properties(_SPEECH)
TakeSettings = _properties(_TAKE)


class SceneSettings(bpy.types.PropertyGroup, TargetSettings, SpeechSettings, TakeSettings):
    """What the panel shows; the scene keeps it."""

    path: StringProperty(
        name="File", subtype="FILE_PATH", description="A sound, or a take (.csv of Live Link Face, .json)"
    )


class Preferences(bpy.types.AddonPreferences):
    """Where the command is."""

    bl_idname = __package__
    executable: StringProperty(
        name="Command", default="facetalk", subtype="FILE_PATH",
        description="The facetalk command: a path, or a name on the PATH",
    )  # fmt: skip
    limit: FloatProperty(
        name="Give Up After", default=30.0, min=0.01, soft_min=1.0,
        description="Minutes that the command may take",
    )  # fmt: skip

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the preferences."""
        self.layout.prop(self, "executable")
        self.layout.prop(self, "limit")


def preferences(context: bpy.types.Context) -> Preferences:
    """Those of this add-on."""
    return context.preferences.addons[__package__].preferences
