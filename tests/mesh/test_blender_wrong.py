"""The add-on of examples/blender where something is missing, damaged or late, in Blender itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from addon import Played, needs_blender

from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.live.audio2face import write_audio2face
from facetalk.live.take import write_take
from facetalk.motion import Motion

SAID = {
    "nothing selected": "select a mesh with shape keys",
    "no mesh": "select a mesh with shape keys",
    "no keys": "no shape key of Bare has a name that was looked for: eyeBlinkLeft",
    "no such names": r"no shape key of Teapot .*jawOpen.*tongueOut",
    "absolute": "not relative",
    "no such object": "Head: there is no object Nobody",
    "no such bone": "Head: Rig has no bone tail",
    "no bone": "Head: choose a bone of the armature Rig",
    "bone of none": "Head: choose the armature that has the bone head",
    "twice": "Left Eye and Head are both head",
    "axis and angle": "rotates by axis and angle",
    "nothing turns": "Head: nothing turns it in this motion",
    "driven head": "a driver turns head",
    "beyond the last frame": r"it would end at frame 1\d+; a scene ends at 1048574",
    "no file": "choose a file",
    "absent": "there is no file /nowhere/take.csv",
    "damaged": "damaged.csv is no take, or damaged",
    "absent sound": "there is no file /nowhere/talk.wav",
    "absent speech": "there is no file /nowhere/talk.wav",
    "no sound at all": r"facetalk failed \(2\): .*damaged.csv",
    "still head": "there is no object Lamp2",
    "no command": "the command .*/no command was not found",
    "fails": r"facetalk failed \(2\): nothing works here",
    "another command": "wrote no take",
    "hangs": "was not done after 0.02 minutes",
    "all driven": "drivers move all that Face has",
}


@needs_blender
def test_bad_input_is_told_and_changes_nothing(played: Played, tmp_path: Path) -> None:
    still = Motion(np.zeros((10, 53), np.float32), 25.0)
    swing = np.sin(np.arange(50)[:, None] * np.linspace(0.1, 0.3, 53)) ** 2
    turning = Motion(swing.astype(np.float32), 25.0, pose=0.2 * swing[:, :6])
    long = {"exportFps": 1, "facsNames": ["jawOpen"], "weightMat": [[0], [1]] * 2000,
            "joints": [], "rotations": []}  # fmt: skip
    (tmp_path / "long.json").write_text(json.dumps(long))
    (tmp_path / "damaged.csv").write_bytes(b"Timecode,JawOpen\n\x00\xff")
    found, _ = played(
        "bad",
        take=str(write_take(tmp_path / "talk.csv", turning, EXPRESSION_NAMES)),
        still=str(write_audio2face(tmp_path / "still.json", still, EXPRESSION_NAMES)),
        long=str(tmp_path / "long.json"),
        damaged=str(tmp_path / "damaged.csv"),
    )
    assert list(found) == list(SAID)
    for case, (error, unchanged) in found.items():
        assert error.startswith("Error: ") and re.search(SAID[case], error), f"{case}: {error!r}"
        assert len(error.splitlines()) == 1, case
        assert unchanged, case


@needs_blender
def test_a_window_goes_on_meanwhile(played: Played) -> None:
    found, _ = played("modal")
    assert found["mouse"] == ["PASS_THROUGH"]
    assert found["done"][0] == ["FINISHED"] and found["done"][2:] == [None, 1]
    assert found["gone"] == [["CANCELLED"], [["ERROR", "Face is gone"]], None, 0]
    assert found["fails"] == [["CANCELLED"], [["ERROR", "facetalk failed (2): nothing works here"]], None, 0]
    said = "facetalk was not done after 0.005 minutes, and was ended"
    assert found["hangs"] == [["CANCELLED"], [["ERROR", said]], None, 0]
    assert found["escape"] == [["CANCELLED"], [["INFO", "ended; nothing was changed"]], None, 0]
    assert not found["running"]
