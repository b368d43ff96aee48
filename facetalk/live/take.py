"""A take of Epic's Live Link Face as a file, which Unreal, MotionBuilder, Maya and Blender's add-ons read.

Comma-separated, 63 columns: time code, number of values, 52 blendshapes, 9 angles in radians. Checked against
takes of the app (github.com/alexdjulin/LiveLinkFace-CSV-Retarget-For-Motionbuilder).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facetalk.data.arkit import ANGLE_NAMES, ARKIT_NAMES, ArkitFace
from facetalk.files import atomic_path
from facetalk.motion import Motion

SUFFIX = ".csv"
"""Suffix of a take."""

RATE = 60
"""Rows a second, the app's: readers that do not look at the time code take it for granted."""

# Two pairs of shapes are the other way round than in the app's packets.
_SWAPPED = {
    "jawLeft": "jawRight",
    "jawRight": "jawLeft",
    "mouthLeft": "mouthRight",
    "mouthRight": "mouthLeft",
}
_ORDER = [*(_SWAPPED.get(name, name) for name in ARKIT_NAMES), *ANGLE_NAMES]
_COLUMNS = ["Timecode", "BlendShapeCount", *(name[0].upper() + name[1:] for name in _ORDER)]


def write_take(path: str | os.PathLike[str], motion: Motion, names: Sequence[str]) -> Path:
    """Write a motion as a take and return its path.

    The time code starts at 0 with the recording; silence that was put around it is left out. Between the
    motion's frames values are interpolated linearly.

    Args:
        path: the file, replaced if it is there.
        motion: expression codes.
        names: of the expressions, ``model.head.expression_names``.

    Raises:
        InputError: the names are not ARKit's or ICT-FaceKit's, or the file cannot be written.
    """
    weights, angles = ArkitFace(names)(motion.expressions)
    values = np.hstack([weights, angles])
    all_names = [*ARKIT_NAMES, *ANGLE_NAMES]
    before, after = motion.pad
    rows = max(1, round((motion.duration - before - after) * RATE))
    times = np.arange(rows) / RATE + before
    centres = (np.arange(len(motion)) + 0.5) / motion.fps
    columns = [np.interp(times, centres, values[:, all_names.index(name)]) for name in _ORDER]
    with atomic_path(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        file.write(",".join(_COLUMNS) + "\n")
        for row, line in enumerate(np.stack(columns, axis=1).tolist()):
            cells = ",".join(f"{value:.10f}" for value in line)
            file.write(f"{_timecode(row)},{len(_ORDER)},{cells}\n")
    return Path(path)


def _timecode(row: int) -> str:
    """``HH:MM:SS:FF.sss``; there is no fraction of a frame."""
    seconds, frame = divmod(row, RATE)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}:{frame:02d}.000"
