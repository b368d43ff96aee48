"""Reading curves of ARKit's blendshapes that other systems wrote.

Takes of Live Link Face (``.csv``, also as Audio2Face-3D writes them) and exports of Audio2Face (``.json``).
Row ``i`` stands for the moment ``i / fps`` of the recording, as in what ``facetalk generate`` writes.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from facetalk.arrays import Float32, Float64
from facetalk.data.arkit import ARKIT_NAMES, arkit_sources
from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.errors import InputError
from facetalk.reading import read_json, usable

__all__ = ["SUFFIXES", "CurveFile", "read_curve_file"]

_KNOWN = frozenset((*ARKIT_NAMES, *EXPRESSION_NAMES))
_ADVICE = "give a take of Live Link Face (.csv) or curves as Audio2Face exports them (.json)"
_USUAL_RATE = 60.0
"""Frames a second that a time code counts, where the take is too short to show it: the app's."""
_MOST_DROPPED = 2
"""Rows that are made for each one that is there, at most; more were not dropped but never recorded."""
_LARGEST = 10.0
"""No weight is above it; per cent would be."""


@dataclasses.dataclass(frozen=True)
class CurveFile:
    """Curves as a file has them.

    Attributes:
        names: of the C curves, ARKit's or ICT-FaceKit's; what else the file has, such as angles, is left out.
        values: (T, C) float32 weights.
        fps: rows a second.
    """

    names: tuple[str, ...]
    values: Float32
    fps: float

    def codes(self, names: Sequence[str] = EXPRESSION_NAMES) -> tuple[Float32, tuple[str, ...]]:
        """Expression codes (T, E), float32, and those of ``names`` that the file has nothing for: they are 0.

        A name is looked for as it is, as ARKit's, and where ARKit has one shape for both halves, as that.
        """
        out, missing = np.zeros((len(self.values), len(names)), np.float32), []
        for column, name in enumerate(names):
            source = next((other for other in arkit_sources(name) if other in self.names), None)
            if source is None:
                missing.append(name)
            else:
                out[:, column] = self.values[:, self.names.index(source)]
        return out, tuple(missing)


def read_curve_file(path: Path) -> CurveFile:
    """Read a file of curves; its suffix is one of :data:`SUFFIXES`.

    Raises:
        InputError: it cannot be read, has no rows, no curve of ARKit's, a weight that is not finite or above
            10, or no frame rate.
    """
    with usable(path, _ADVICE):
        heads, table, fps = _READERS[path.suffix.lower()](path)
        names = [_name(head) for head in heads]
        chosen = [column for column, name in enumerate(names) if name in _KNOWN]
        kept = tuple(names[column] for column in chosen)
        if not chosen:
            raise InputError(f"{path}: none of its curves has a name of ARKit's; {_ADVICE}")
        if len(set(kept)) < len(kept):
            twice = next(name for name in kept if kept.count(name) > 1)
            raise InputError(f"{path}: the curve {twice} is there twice")
        values = np.array([[row[column] for column in chosen] for row in table], np.float64)
        if values.ndim != 2:
            raise ValueError("a weight is no number")
        largest = np.abs(values).max(initial=0.0)
        if not largest <= _LARGEST:
            raise InputError(f"{path}: weights up to {largest:g}; they are fractions, 1 is the whole shape")
        if not isinstance(fps, float):
            values, fps = _even(values, fps)
        if not 1.0 <= fps <= 1000.0:
            raise InputError(f"{path}: {fps:g} frames a second, expected 1 to 1000")
        return CurveFile(kept, values.astype(np.float32), fps)


def _name(head: str) -> str:
    """ARKit's name of a column: ``EyeBlinkLeft`` and ``blendShapes.EyeBlinkLeft`` are ``eyeBlinkLeft``."""
    last = head.strip().rpartition(".")[2]
    return last[:1].lower() + last[1:]


_Table = tuple[Sequence[str], Sequence[Sequence[str | float]], float | Float64]
"""Names of columns, rows, and frames a second or the (T,) seconds of the rows."""


def _csv(path: Path) -> _Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file) if line]
    if len(lines) < 2:
        raise ValueError("no rows")
    head, rows = lines[0], lines[1:]
    for number, row in enumerate(rows, 1):
        if len(row) != len(head):
            raise ValueError(f"row {number} has {len(row)} values under {len(head)} names")
    column = next((i for i, name in enumerate(head) if name.strip().lower() == "timecode"), None)
    if column is None:
        raise ValueError("no column Timecode")
    return head, rows, _seconds([row[column] for row in rows])


def _seconds(codes: Sequence[str]) -> Float64:
    """(T,) seconds since the first row, of time codes HH:MM:SS:FF or of numbers of seconds."""
    if ":" in codes[0]:
        parts = np.array([[float(part) for part in code.split(":")] for code in codes])
        if parts.shape[1] != 4:
            raise ValueError(f"no time code HH:MM:SS:FF: {codes[0][:20]!r}")
        whole, frames = parts[:, :3] @ (3600.0, 60.0, 1.0), parts[:, 3]
        times = whole + frames / _counted(whole, np.floor(frames))
    else:
        times = np.array([float(code) for code in codes])
    times = times - times[0]
    if not np.isfinite(times).all() or (np.diff(times) <= 0.0).any():
        raise ValueError("its time codes do not go on from row to row")
    return np.asarray(times)


def _counted(whole: Float64, frames: Float64) -> float:
    """Frames a second that time codes count: of a take at half the rate they skip every other one."""
    ends = np.flatnonzero(np.diff(whole) > 0.0)
    inside = np.diff(frames)[np.diff(whole) == 0.0]
    if not len(ends) or not len(inside):
        # No second ends within the take, or all do with every row.
        return max(float(frames.max()) + 1.0, _USUAL_RATE)
    step = float(np.median(inside))
    if step == 1.0:
        return float(frames.max()) + 1.0
    return float(np.median(frames[ends] + step - frames[ends + 1]))


def _even(values: Float64, times: Float64) -> tuple[Float64, float]:
    """Rows at an even rate, those that the camera dropped between their neighbours; and the rate."""
    if len(times) < 2:
        return values, _USUAL_RATE
    step = float(np.median(np.diff(times)))
    count = round(float(times[-1]) / step) + 1
    if count == len(times):
        # Time codes are rounded; over the whole take that matters least.
        return values, round((count - 1) / float(times[-1]), 3)
    if count > _MOST_DROPPED * len(times):
        raise ValueError(f"its time codes leap: {len(times)} rows for {float(times[-1]):.1f} s")
    wanted = np.arange(count) * step
    return np.column_stack([np.interp(wanted, times, column) for column in values.T]), round(1.0 / step, 3)


def _json(path: Path) -> _Table:
    content = read_json(path)
    names, rows, fps = content["facsNames"], content["weightMat"], content["exportFps"]
    if isinstance(fps, bool) or not isinstance(fps, int | float):
        raise ValueError("exportFps is no number")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("facsNames is no list of names")
    if not isinstance(rows, list) or not rows:
        raise ValueError("no rows in weightMat")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list) or len(row) != len(names):
            raise ValueError(f"row {number} of weightMat is not {len(names)} numbers")
    return names, rows, float(fps)


_READERS: dict[str, Callable[[Path], _Table]] = {".csv": _csv, ".json": _json}

SUFFIXES = tuple(_READERS)
"""Suffixes of files that are read."""
