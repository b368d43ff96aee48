"""A take of Epic's Live Link Face as a file, which Unreal, MotionBuilder, Maya and Blender's add-ons read.

Comma-separated, 63 columns: time code, number of values, 52 blendshapes, 9 angles in radians. Checked against
takes of the app (github.com/alexdjulin/LiveLinkFace-CSV-Retarget-For-Motionbuilder).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facetalk.arrays import Float32, Float64
from facetalk.data.arkit import ANGLE_NAMES, ARKIT_NAMES, ArkitFace
from facetalk.files import atomic_path
from facetalk.motion import Motion, frame_rate

SUFFIX = ".csv"
"""Suffix of a take."""

RATE = 60.0
"""Rows a second, the app's: readers that do not look at the time code take it for granted."""

_PULLED = 0.002
"""Rates of video are at most this share of them away from what their time code counts (29.97: 30)."""

# Two pairs of shapes are the other way round than in the app's packets.
_SWAPPED = {
    "jawLeft": "jawRight",
    "jawRight": "jawLeft",
    "mouthLeft": "mouthRight",
    "mouthRight": "mouthLeft",
}
_ORDER = [*(_SWAPPED.get(name, name) for name in ARKIT_NAMES), *ANGLE_NAMES]
_COLUMNS = ["Timecode", "BlendShapeCount", *(name[0].upper() + name[1:] for name in _ORDER)]


def write_take(
    path: str | os.PathLike[str], motion: Motion, names: Sequence[str], *, fps: float = RATE
) -> Path:
    """Write a motion as a take and return its path.

    The time code starts at 0 with the recording; silence that was put around it is left out. Between the
    motion's frames values are those of :meth:`Motion.at`.

    Args:
        path: the file, replaced if it is there.
        motion: expression codes.
        names: of the expressions, ``model.head.expression_names``.
        fps: rows a second.

    Raises:
        InputError: the names are not ARKit's or ICT-FaceKit's, the rate is none, or the file cannot be
            written.
    """
    weights, angles = arkit_curves(motion, names, frame_rate(fps))
    values, all_names = np.hstack([weights, angles]), [*ARKIT_NAMES, *ANGLE_NAMES]
    table = values[:, [all_names.index(name) for name in _ORDER]]
    with atomic_path(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        file.write(",".join(_COLUMNS) + "\n")
        for row, line in enumerate(table.tolist()):
            cells = ",".join(f"{value:.10f}" for value in line)
            file.write(f"{_timecode(row, fps)},{len(_ORDER)},{cells}\n")
    return Path(path)


def arkit_curves(motion: Motion, names: Sequence[str], fps: float) -> tuple[Float32, Float32]:
    """Curves for files whose row ``i`` stands for the moment ``i / fps`` of the recording.

    Args:
        motion: expression codes; silence that was put around the recording is left out.
        names: of the expressions.
        fps: rows a second.

    Returns:
        (T, 52) weights in the order of ``ARKIT_NAMES`` and (T, 9) angles in radians.

    Raises:
        InputError: the names are not ARKit's or ICT-FaceKit's, or there are no frames.
    """
    times = curve_times(motion, fps)
    pose, tongue = motion.pose_at(times, fps=fps), motion.tongue_at(times, fps=fps)
    return ArkitFace(names)(motion.at(times, fps=fps), pose, tongue)


def curve_times(motion: Motion, fps: float) -> Float64:
    """(T,) seconds of the motion that the rows of :func:`arkit_curves` stand for."""
    before, after = motion.pad
    rows = max(1, round((motion.seconds - before - after) * fps))
    return np.arange(rows) / fps + before


def _timecode(row: int, fps: float) -> str:
    """``HH:MM:SS:FF.sss``: whole frames of whole rates and of those like 29.97, which count 30 and drop none.

    Others, 12.5 for one, count what comes next above them, and a row lies at the fraction of such a frame
    that has its time; if they counted rows alone, their seconds would be other than those of the sound.
    """
    count = round(fps)
    if abs(fps - count) <= _PULLED * fps:
        seconds, frame = divmod(row * 1000, count * 1000)
    else:
        count = math.ceil(fps)
        seconds, frame = divmod(round(row * count * 1000 / fps), count * 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}:{frame // 1000:02d}.{frame % 1000:03d}"
