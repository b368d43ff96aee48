"""A list of recordings to build a corpus of: one JSON object a line."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

from facetalk.errors import InputError
from facetalk.reading import read_json_lines

__all__ = ["Take", "read_takes"]

_TEXTS = {"id", "audio", "motion", "views", "voice", "licence", "split", "identity", "unit"}
_NUMBERS = {"fps", "offset"}
_NAME = re.compile(r"[A-Za-z0-9][\w .+-]*(/[A-Za-z0-9][\w .+-]*)*")


@dataclasses.dataclass(frozen=True)
class Take:
    """A recording.

    Attributes:
        id: unique name; what is before its first slash is the voice, unless that is said.
        audio: its sound.
        points: files of its scans, see :class:`facetalk.fitting.scans.Scans`; none where ``motion`` is given.
        views: file of its cameras, see :class:`facetalk.fitting.views.Views`, or None.
        motion: what an earlier fit made of it, or None.
        voice: who speaks.
        licence: of the recording.
        split: "train", "valid", or "" to have it chosen.
        identity: of the person, as ``facetalk fit --identity`` takes it, or None.
        unit: of the points, or None.
        fps: of the scans, or None.
        offset: seconds of the sound before the first frame begins.
    """

    id: str
    audio: Path
    points: tuple[Path, ...]
    motion: Path | None
    voice: str
    views: Path | None = None
    licence: str = "unknown"
    split: str = ""
    identity: str | None = None
    unit: str | None = None
    fps: float | None = None
    offset: float = 0.0


def read_takes(path: Path) -> list[Take]:
    """Read a list; paths in it are relative to its folder, and ``points`` may have wildcards.

    Raises:
        InputError: no such file, no takes, or a line that does not describe one (named).
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; a list of takes has one JSON object a line")
    found: dict[str, Take] = {}
    for number, fields in read_json_lines(path):
        try:
            take = _take(fields, path.parent)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
        if take.id in found:
            raise InputError(f"{path}, line {number}: {take.id} is there twice")
        found[take.id] = take
    if not found:
        raise InputError(f'{path}: no takes; a line is {{"id": ..., "points": ..., "audio": ...}}')
    return list(found.values())


def _take(fields: dict[str, Any], folder: Path) -> Take:
    unknown = set(fields) - _TEXTS - _NUMBERS - {"points"}
    if unknown:
        raise ValueError(f"unknown {', '.join(sorted(unknown))}")
    for name in ("id", "audio"):
        if name not in fields:
            raise ValueError(f"no {name}")
    for name in _TEXTS & set(fields):
        if not isinstance(fields[name], str) or not fields[name] or "\0" in fields[name]:
            raise ValueError(f"{name}: expected a text, got {fields[name]!r}")
    for name in _NUMBERS & set(fields):
        value = fields[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name}: expected a number, got {value!r}")
    if not 0.0 < fields.get("fps", 25.0) <= 1000.0:
        raise ValueError(f"fps: expected a rate in (0, 1000], got {fields['fps']}")
    if not _NAME.fullmatch(fields["id"]):
        raise ValueError(f"id: expected letters, digits and / in between, got {fields['id']!r}")
    if fields.get("split", "train") not in ("train", "valid"):
        raise ValueError(f"split: expected train or valid, got {fields['split']!r}")
    if ("motion" in fields) == bool({"points", "views"} & set(fields)):
        raise ValueError("give points or views, or both, or a motion")
    places = ("points", "audio", "motion", "voice", "views")
    told = {name: value for name, value in fields.items() if name not in places}
    audio = folder / fields["audio"]
    if not audio.is_file():
        raise ValueError(f"audio: no such file: {audio}")
    motion, views = (folder / fields[name] if name in fields else None for name in ("motion", "views"))
    voice = fields.get("voice", fields["id"].split("/")[0])
    if "identity" in told and told["identity"] != "fit":
        told["identity"] = str(folder / told["identity"])
    files = _files(fields.get("points", ()), folder)
    return Take(audio=audio, points=files, motion=motion, views=views, voice=voice, **told)


def _files(told: Any, folder: Path) -> tuple[Path, ...]:
    """Files by their names, or by a pattern of them, in the order of their names."""
    if isinstance(told, str):
        if not told or (told.startswith("/") and any(sign in told for sign in "*?[")):
            raise ValueError(f"points: a pattern is relative to the list, got {told!r}")
        if any(sign in told for sign in "*?["):
            files = tuple(sorted(folder.glob(told)))
            if not files:
                raise ValueError(f"points: nothing fits {told}")
            return files
        return (folder / told,)
    if not isinstance(told, list | tuple) or not all(isinstance(name, str) and name for name in told):
        raise ValueError(f"points: expected names of files, got {told!r}")
    if isinstance(told, list) and not told:
        raise ValueError("points: no files")
    return tuple(folder / name for name in told)
