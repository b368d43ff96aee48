"""Takes of a face: curves of Live Link Face (.csv), and as Audio2Face and facetalk export them (.json).

Row ``i`` is the face ``i / rate`` seconds after the sound begins. Needs nothing of Blender.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .names import ANGLE_NAMES, ARKIT_NAMES, arkit_name
from .turns import Array, at_times, continuous, from_angles

__all__ = ["JOINTS", "SUFFIXES", "Take", "TakeError", "read_take"]

JOINTS = ("head", "leftEye", "rightEye")
"""What turns."""

GAZE_RADIANS = math.radians(1.0 / 0.033)
"""By how much an eye turns at a weight of 1 of ``eyeLook*``; a test holds it to that of facetalk."""

_USUAL_RATE = 60.0
"""Frames a second that time codes count where a take is too short to show it: those of the app."""
_LARGEST_FILE = 1 << 29
_LARGEST_WEIGHT = 10.0
"""No weight is above it; per cent would be."""
_LARGEST_ANGLE = 2.0 * math.pi


class TakeError(ValueError):
    """A file is no take, in one line."""


@dataclasses.dataclass(frozen=True)
class Take:
    """A face in time.

    Attributes:
        times: (T,) seconds from the start of the sound, rising from 0.
        rate: rows a second.
        weights: (T,) by names of ARKit's, as the file has them.
        turns: (T, 4) quaternions w, x, y, z in the head's own axes, by :data:`JOINTS`; what does not turn is
            left out.
    """

    times: Array
    rate: float
    weights: dict[str, Array]
    turns: dict[str, Array]

    @property
    def seconds(self) -> float:
        """How long it is."""
        return float(self.times[-1]) + 1.0 / self.rate

    def at_rate(self, fps: float) -> Take:
        """The face at each frame of another rate, straight between rows; the first is at 0."""
        times = np.arange(max(1, round(self.seconds * fps))) / fps
        return Take(
            times,
            fps,
            {name: np.interp(times, self.times, curve) for name, curve in self.weights.items()},
            {joint: at_times(turn, self.times, times) for joint, turn in self.turns.items()},
        )


def read_take(path: Path, rate: float = 0.0) -> Take:
    """Read a take; its suffix is one of :data:`SUFFIXES`.

    Args:
        path: the file.
        rate: rows a second of a .csv; 0: as its time code says, which counts 30 where 29.97 are meant.

    Raises:
        TakeError: it cannot be read or is damaged, has no curve of ARKit's, a weight or an angle that is
            none, or its own rate beside one that was asked for.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise TakeError(f"{path.name} is no take: expected {' or '.join(SUFFIXES)}")
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ValueError("larger than any take")
        return reader(path, rate)
    except TakeError as error:
        raise TakeError(f"{path.name}: {error}") from None
    except OSError as error:
        raise TakeError(f"{path.name}: {error.strerror or error}") from None
    except KeyError as error:
        raise TakeError(f"{path.name} is no take, or damaged: it has no {error.args[0]}") from None
    except (ValueError, TypeError, IndexError, OverflowError, RecursionError, csv.Error) as error:
        text = " ".join(str(error).split())[:150] or type(error).__name__
        raise TakeError(f"{path.name} is no take, or damaged: {text}") from None


def _take(times: Array, rate: float, columns: dict[str, Array], head: Array | None = None) -> Take:
    """A take of the columns that have names, after a look at their values."""
    weights = {name: columns[name] for name in ARKIT_NAMES if name in columns}
    if not weights:
        raise TakeError("none of its curves has a name of ARKit's, such as jawOpen")
    if not 0.1 <= rate <= 1000.0:
        raise TakeError(f"{rate:g} rows a second, expected 0.1 to 1000")
    for name, column in columns.items():
        most = _LARGEST_WEIGHT if name in weights else _LARGEST_ANGLE
        largest = float(np.abs(column).max())
        if not largest <= most:  # also where it is not a number
            unit = "a weight of 1 is the whole shape" if name in weights else "angles are radians"
            raise TakeError(f"{name} has a value of {largest:g}; {unit}")
    turns = {} if head is None else {"head": head}
    for joint, first in zip(JOINTS, (0, 3, 6), strict=True):
        angles = [columns.get(name) for name in ANGLE_NAMES[first : first + 3]]
        if joint != "head" and any(angle is None for angle in angles):
            angles = _gaze(weights, joint.removesuffix("Eye").capitalize())
        found = [angle for angle in angles if angle is not None]
        # A head that never turns has angles of 0 in every take.
        if joint not in turns and len(found) == 3 and any(np.any(angle) for angle in found):
            turns[joint] = from_angles(*found)
    return Take(times, rate, weights, turns)


def _gaze(weights: dict[str, Array], side: str) -> list[Array | None]:
    """Yaw, pitch and roll of an eye by its weights: an eye that looks out turns to its own side."""
    still = np.zeros(len(next(iter(weights.values()))))
    out, into, down, up = (weights.get(f"eyeLook{way}{side}", still) for way in ("Out", "In", "Down", "Up"))
    sign = 1.0 if side == "Left" else -1.0
    return [sign * GAZE_RADIANS * (out - into), GAZE_RADIANS * (down - up), still]


def _csv(path: Path, rate: float) -> Take:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file) if line]
    if len(lines) < 2:
        raise ValueError("no rows")
    names = [cell.strip() for cell in lines[0]]
    if any(len(line) != len(names) for line in lines):
        number = next(number for number, line in enumerate(lines) if len(line) != len(names))
        raise ValueError(f"row {number} has {len(lines[number])} values under {len(names)} names")
    known = _columns(names)
    lowered = [name.lower() for name in names]
    if "timecode" not in lowered:
        raise KeyError("Timecode")
    codes = [line[lowered.index("timecode")] for line in lines[1:]]
    times, rate = _seconds(codes, rate)
    columns = {name: np.array([float(line[at]) for line in lines[1:]]) for name, at in known.items()}
    return _take(times, rate, columns)


def _columns(names: Sequence[str]) -> dict[str, int]:
    """Where each curve of ARKit's, and each angle, stands."""
    known: dict[str, int] = {}
    for at, column in enumerate(names):
        name = arkit_name(column)
        if name is not None and known.setdefault(name, at) != at:
            raise ValueError(f"the curve {name} is there twice")
    return known


def _seconds(codes: Sequence[str], rate: float) -> tuple[Array, float]:
    """(T,) seconds since the first row of time codes HH:MM:SS:FF or of numbers of seconds; rows a second."""
    if ":" in codes[0]:
        parts = np.array([[float(part) for part in code.split(":")] for code in codes])
        if parts.shape[1] != 4:
            raise ValueError(f"no time code HH:MM:SS:FF: {codes[0][:20]!r}")
        whole, frames = parts[:, :3] @ (3600.0, 60.0, 1.0), parts[:, 3]
        counted = _counted(whole, np.floor(frames))
        times = whole + frames / counted
        # Time codes count whole frames: rows of another rate are as many of its frames apart.
        times *= counted / rate if rate else 1.0
    else:
        times = np.array([float(code) for code in codes])
        if rate:
            raise TakeError("it says its times in seconds; leave its rate at 0")
    times = times - times[0]
    steps = np.diff(times)
    if not np.isfinite(times).all() or (steps <= 0.0).any():
        raise ValueError("its time codes do not go on from row to row")
    if not len(steps):
        return times, rate or _USUAL_RATE
    return times, 1.0 / float(np.median(steps))


def _counted(whole: Array, frames: Array) -> float:
    """Frames a second that time codes count; a take of half that rate skips every other one."""
    within = np.diff(whole) == 0.0
    steps = np.diff(frames)
    least = float(frames.max()) + 1.0
    if within.all() or not within.any():
        return max(least, _USUAL_RATE)  # no second ends within the take, or one does with every row
    step = float(np.median(steps[within]))
    turns = np.diff(whole) == 1.0
    # Where a second ends, numbers fall by a second's frames but for one step. Rows that are missing there
    # make it look longer, which the median of many seconds forgives.
    return max(least, float(np.median(step - steps[turns]))) if turns.any() else least


def _json(path: Path, rate: float) -> Take:
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError("no JSON object")
    fps, names, rows = content["exportFps"], content["facsNames"], content["weightMat"]
    if rate:
        raise TakeError("it has a rate of its own (exportFps); leave the rate of the take at 0")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0.0 < fps < math.inf:
        raise ValueError("exportFps is no rate")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("facsNames is no list of names")
    table = _table(rows, "weightMat", len(names))
    columns = {name: table[:, at] for name, at in _columns(names).items() if name in ARKIT_NAMES}
    return _take(np.arange(len(table)) / fps, float(fps), columns, _joint(content, len(table)))


def _table(rows: object, what: str, width: int) -> Array:
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"no rows in {what}")
    if not all(isinstance(row, list) and len(row) == width for row in rows):
        raise ValueError(f"a row of {what} is not {width} numbers")
    return np.array(rows, np.float64).reshape(len(rows), width)


def _joint(content: dict[str, object], count: int) -> Array | None:
    """(T, 4) quaternions of the joint "head"; x, y, z, w in the file."""
    joints = content.get("joints") or []
    if not isinstance(joints, list) or "head" not in joints:
        return None
    rows = content["rotations"]
    at = joints.index("head")
    if not isinstance(rows, list) or len(rows) != count:
        raise ValueError(f"rotations are not {count} rows")
    turns = _table([row[at] for row in rows], "rotations", 4)
    length = np.linalg.norm(turns, axis=1, keepdims=True)
    if not (np.abs(length - 1.0) < 0.1).all():
        raise ValueError("a rotation of the head is no unit quaternion")
    return continuous(turns[:, [3, 0, 1, 2]] / length)


_READERS = {".csv": _csv, ".json": _json}

SUFFIXES = tuple(_READERS)
"""Suffixes of files that are read."""
