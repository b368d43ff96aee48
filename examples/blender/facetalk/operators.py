"""Speech to Shape Keys, and takes to shape keys."""

from pathlib import Path
from typing import Any, ClassVar

import bpy
from bpy_extras.io_utils import ImportHelper

from . import speech
from .faces import Face, Joint, Problem, chosen_meshes, find_faces, find_joint
from .keying import add_sound, check_frames, check_sound, frame_rate, write_channels
from .settings import JOINTS, SpeechSettings, TakeSettings, TargetSettings, preferences, property_name
from .take import SUFFIXES, Take, TakeError, read_take

__all__ = ["FACETALK_OT_speech", "FACETALK_OT_take", "draw_targets"]

_ERRORS = (Problem, TakeError, speech.SpeechError)
_TICK_S = 0.1


class _Keys(ImportHelper):
    """What both operators do: find who is moved, and move them."""

    _scene: str
    _meshes: list[str]

    def _look(self, context: bpy.types.Context) -> None:
        """Remember by name who is to be moved: while a command runs, people may delete things."""
        self._scene = context.scene.name
        self._meshes = [mesh.name for mesh in chosen_meshes(context.view_layer)]
        faces, _ = self._targets()
        self._meshes = [face.mesh for face in faces]

    def _targets(self) -> tuple[list[Face], dict[str, Joint]]:
        """Faces and what turns.

        Raises:
            Problem: one of them is not there, or there is none.
        """
        for name in self._meshes:
            if name not in bpy.data.objects:
                raise Problem(f"{name} is gone")
        faces = find_faces([bpy.data.objects[name] for name in self._meshes])
        joints: dict[str, Joint] = {}
        for joint, label in JOINTS.items():
            name, bone = (getattr(self, property_name(joint, kind)) for kind in ("object", "bone"))
            found = find_joint(label, name, bone, self.facing)
            if found is None:
                continue
            for other, taken in joints.items():
                if (found.owner, found.bone) == (taken.owner, taken.bone):
                    raise Problem(f"{label} and {JOINTS[other]} are both {bone or name}")
            joints[joint] = found
        return faces, joints

    def _apply(self, take: Take, name: str, sound: Path | None) -> None:
        """Change the scene.

        Raises:
            Problem: it cannot be done, and nothing was changed.
        """
        scene = bpy.data.scenes.get(self._scene)
        if scene is None:
            raise Problem(f"the scene {self._scene} is gone")
        faces, joints = self._targets()
        faces = [face for face in faces if set(face.curves.values()) & set(take.weights)]
        if not faces:
            raise Problem(f"no shape key has a name of the take's: {', '.join(take.weights)}")
        for joint in joints:
            if joint not in take.turns:
                raise Problem(f"{JOINTS[joint]}: nothing turns it in this motion; choose none")
        frames = take.at_rate(frame_rate(scene))
        count = len(frames.times)
        check_frames(self.start, count)
        channels = [channel for face in faces for channel in face.channels(frames.weights)]
        for joint, target in joints.items():
            channels += target.channels(frames.turns[joint])
        if sound is not None:
            add_sound(scene, sound, self.start)
        written = write_channels(name, self.start, channels)
        for target in joints.values():
            target.remember(written[target.owner])
        if self.extend:
            scene.frame_end = max(scene.frame_end, self.start + count - 1)
        self._tell(faces, take, count)

    def _tell(self, faces: list[Face], take: Take, count: int) -> None:
        for face in faces:
            if face.driven:
                self.report({"WARNING"}, f"{face.mesh}: left to their drivers: {', '.join(face.driven)}")
            if face.muted:
                self.report({"WARNING"}, f"{face.mesh}: muted, and so not seen: {', '.join(face.muted)}")
            if face.narrow:
                self.report({"WARNING"}, f"{face.mesh}: ranges hold back: {', '.join(face.narrow)}")
            if face.pinned:
                self.report({"WARNING"}, f"{face.mesh} shows one shape key alone (the pin) and will not move")
        used = {curve for face in faces for curve in face.curves.values()} & set(take.weights)
        names, frames = ", ".join(face.mesh for face in faces), f"{self.start} to {self.start + count - 1}"
        self.report({"INFO"}, f"{len(used)} of {len(take.weights)} curves move {names} in frames {frames}")

    def _refuse(self, error: Exception) -> set[str]:
        self.report({"ERROR"}, str(error))
        return {"CANCELLED"}

    def _file(self, path: str) -> Path:
        place = Path(bpy.path.abspath(path)).absolute() if path else None
        if place is None or not place.is_file():
            raise Problem(f"there is no file {path}" if path else "choose a file")
        return place

    def draw(self, context: bpy.types.Context) -> None:
        """Draw what a person sets, beside the files."""
        for name in self._own:
            self.layout.prop(self, name)
        draw_targets(self.layout, self)


class FACETALK_OT_speech(bpy.types.Operator, _Keys, SpeechSettings, TargetSettings):
    """Move the shape keys of the selected meshes as the speech in a sound file has it"""

    bl_idname = "facetalk.speech"
    bl_label = "Speech to Shape Keys"
    bl_options: ClassVar[set[str]] = {"REGISTER", "UNDO"}
    _own = (*speech.SLIDERS, "seed")
    _job = _timer = None

    filter_glob: bpy.props.StringProperty(
        default="*.wav;*.flac;*.mp3;*.ogg;*.opus;*.m4a;*.aac;*.aif;*.aiff;*.mp4;*.mov;*.mkv;*.webm",
        options={"HIDDEN"},
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Start the command. Blender goes on meanwhile, unless it has no window."""
        try:
            self._look(context)
            self._path = self._file(self.filepath)
            if self.add_strip:
                check_sound(self._path)
            chosen = preferences(context)
            words = speech.arguments(
                self._path,
                frame_rate(context.scene),
                self.seed,
                {name: getattr(self, name) for name in speech.SLIDERS},
            )
            command = bpy.path.abspath(chosen.executable)
            self._job = speech.Job(speech.find(command), words, chosen.limit * 60.0)
            if bpy.app.background:
                return self._finish(*self._job.wait())
        except _ERRORS as error:
            return self._refuse(error)
        manager = context.window_manager
        self._timer = manager.event_timer_add(_TICK_S, window=context.window)
        manager.modal_handler_add(self)
        context.workspace.status_text_set(f"facetalk hears {self._path.name}; Esc ends it")
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Look whether the command is done."""
        if event.type == "ESC":
            self.cancel(context)
            self.report({"INFO"}, "ended; nothing was changed")
            return {"CANCELLED"}
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        try:
            if not self._job.done():
                return {"PASS_THROUGH"}
            self._leave(context)
            return self._finish(*self._job.result())
        except _ERRORS as error:
            self._leave(context)
            return self._refuse(error)

    def cancel(self, context: bpy.types.Context) -> None:
        """End the command: Esc was pressed, or Blender is quitting."""
        self._leave(context)
        if self._job is not None:
            self._job.cancel()

    def _leave(self, context: bpy.types.Context) -> None:
        if self._timer is not None:
            context.window_manager.event_timer_remove(self._timer)
            self._timer = None
            context.workspace.status_text_set(None)

    def _finish(self, take: Take, warnings: list[str]) -> set[str]:
        for line in warnings:
            self.report({"WARNING"}, line.removeprefix("warning: "))
        self._apply(take, self._path.stem, self._path if self.add_strip else None)
        return {"FINISHED"}


class FACETALK_OT_take(bpy.types.Operator, _Keys, TakeSettings, TargetSettings):
    """Move the shape keys of the selected meshes by a take: .csv of Live Link Face, or .json"""

    bl_idname = "facetalk.take"
    bl_label = "Take to Shape Keys"
    bl_options: ClassVar[set[str]] = {"REGISTER", "UNDO"}
    _own = tuple(TakeSettings.__annotations__)

    filter_glob: bpy.props.StringProperty(
        default=";".join(f"*{suffix}" for suffix in SUFFIXES), options={"HIDDEN"}
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Read the take and key it."""
        try:
            self._look(context)
            path = self._file(self.filepath)
            sound = self._file(self.sound) if self.sound and self.add_strip else None
            self._apply(read_take(path, self.rate), path.stem, sound)
        except _ERRORS as error:
            return self._refuse(error)
        return {"FINISHED"}


def draw_targets(layout: bpy.types.UILayout, settings: Any) -> None:
    """Draw the settings that both operators have; ``settings`` is one of them, or the scene's."""
    for name in ("start", "add_strip", "extend"):
        layout.prop(settings, name)
    box = layout.box()
    for joint in JOINTS:
        name, bone = property_name(joint, "object"), property_name(joint, "bone")
        box.prop_search(settings, name, bpy.data, "objects")
        owner = bpy.data.objects.get(getattr(settings, name))
        if owner is not None and owner.type == "ARMATURE":
            box.prop_search(settings, bone, owner.data, "bones")
    box.prop(settings, "facing")
