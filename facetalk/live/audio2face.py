"""Curves as Audio2Face exports them: JSON with a row of weights a frame.

The fields are those that its readers declare: exportFps, trackPath, numPoses, numFrames, facsNames,
weightMat[frame][pose], and joints, rotations[frame][joint], translations[frame][joint]. The names are
ARKit's, as those of Audio2Face-3D.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from facetalk.data.arkit import ARKIT_NAMES
from facetalk.files import atomic_path
from facetalk.live.take import arkit_curves, curve_times
from facetalk.mesh.pose import quaternions, translations
from facetalk.motion import Motion, frame_rate

SUFFIX = ".json"
"""Suffix of an export."""

RATE = 30.0
"""Frames a second unless told."""


def write_audio2face(
    path: str | os.PathLike[str], motion: Motion, names: Sequence[str], *, fps: float = RATE
) -> Path:
    """Write a motion and return the path.

    Row ``i`` is the face at ``i / fps`` seconds of the recording. A head that moves is the one joint, "head":
    its turn as a quaternion x, y, z, w and its way in metres, +y up and +z out of the face. The eyes, which
    turn too, have weights.

    Args:
        path: the file, replaced if it is there.
        motion: expression codes.
        names: of the expressions, ``model.head.expression_names``.
        fps: rows a second.

    Raises:
        InputError: the names are not ARKit's or ICT-FaceKit's, the rate is none, or the file cannot be
            written.
    """
    rate = frame_rate(fps)
    weights, _ = arkit_curves(motion, names, rate)
    pose = motion.pose_at(curve_times(motion, rate), fps=rate)
    joints: list[str] = [] if pose is None else ["head"]
    turns: list[list[list[float]]] = [[] for _ in weights]
    ways: list[list[list[float]]] = [[] for _ in weights]
    if pose is not None:
        turns = quaternions(pose).round(6)[:, None].tolist()
        ways = translations(pose).round(6)[:, None].tolist()
    content = {
        "exportFps": rate,
        "trackPath": str(motion.provenance.get("audio", "")),
        "numPoses": len(ARKIT_NAMES),
        "numFrames": len(weights),
        "facsNames": ARKIT_NAMES,
        "weightMat": [[round(value, 6) for value in row] for row in weights.tolist()],
        "joints": joints,
        "rotations": turns,
        "translations": ways,
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    return Path(path)
