"""Reading files that somebody else may have written: one line for whatever can be wrong with them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from facetalk.errors import InputError

MANIFEST = "manifest.jsonl"
"""What a folder of recordings calls the file with a line of JSON for each."""
_MAX_JSON = 1 << 25
"""Bytes; the largest of our own, a manifest of a large corpus aside, has some thousand."""


def one_line(error: BaseException, limit: int = 200) -> str:
    """An error's text without line breaks, or its name if it has none."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


@contextlib.contextmanager
def usable(what: object, advice: str = "") -> Iterator[None]:
    """Turn whatever goes wrong in a block into one line on ``what``, the thing that is read there.

    Libraries raise a dozen unrelated kinds of errors on files that are cut, changed or made to do harm, and
    new ones with every version; which one it was does not help anybody.

    Args:
        what: the file or folder, for the message.
        advice: what to do about it.

    Raises:
        InputError: in place of any other error but of those that have nothing to do with the file: too little
            memory passes, unless the file's own sizes are what asked for it.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{error.filename or what} is missing{_then(advice)}") from error
    except PermissionError as error:
        raise InputError(f"{error.filename or what}: no permission to read it") from error
    except RecursionError as error:
        raise InputError(f"{what}: damaged (nested too deeply){_then(advice)}") from error
    except Exception as error:
        raise InputError(f"{what}: damaged ({one_line(error)}){_then(advice)}") from error


def _then(advice: str) -> str:
    return f"; {advice}" if advice else ""


def parse_json(text: bytes | str, where: object, kind: type[Any] = dict, *, finite: bool = True) -> Any:
    """JSON as the standard has it: UTF-8, finite numbers, and at the top what ``kind`` says.

    ``finite=False`` lets NaN and Infinity through, for a reader that has a better message for them.

    Raises:
        InputError: anything else; the message starts with ``where``.
    """
    if len(text) > _MAX_JSON:
        raise InputError(f"{where}: {len(text)} bytes of JSON, more than any that facetalk reads")
    try:
        number = _number if finite else float
        content = json.loads(text, parse_constant=number, parse_float=number, parse_int=_whole)
    except RecursionError as error:
        raise InputError(f"{where}: damaged (JSON nested too deeply)") from error
    except ValueError as error:  # json.JSONDecodeError and UnicodeDecodeError among them
        raise InputError(f"{where}: damaged ({one_line(error)})") from error
    if not isinstance(content, kind):
        raise InputError(f"{where} is damaged or does not describe what it should: no JSON {_KINDS[kind]}")
    return content


_KINDS: dict[type[Any], str] = {dict: "object", list: "list"}


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:30]} is no finite number")
    return value


def _whole(text: str) -> int:
    if len(text) > 18:
        raise ValueError(f"{text[:30]}... is too large")
    return int(text)


def read_json(path: str | os.PathLike[str], kind: type[Any] = dict) -> Any:
    """The content of a JSON file; see :func:`parse_json`.

    Raises:
        InputError: no such file, or it cannot be used.
    """
    with usable(path):
        if Path(path).stat().st_size > _MAX_JSON:
            raise InputError(f"{path}: too large for a JSON file that facetalk reads")
        text = Path(path).read_bytes()
    return parse_json(text, path, kind)


def read_settings(path: Path, form: str, version: int) -> dict[str, Any]:
    """The JSON file that says what a folder of ours is.

    Args:
        path: of the file, in the folder.
        form: its entry "format".
        version: its entry "version", the one that is read.

    Raises:
        InputError: no such file, it cannot be used, or it is of another kind or version.
    """
    settings: dict[str, Any] = read_json(path)
    if settings.get("format") != form or settings.get("version") != version:
        raise InputError(f"{path.parent} is not a {form} of version {version}; see its {path.name}")
    return settings


def read_json_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file that has one on each line, with the numbers of their lines; empty lines are none.
    Numbers need not be finite.

    Raises:
        InputError: no such file, or a line that is no object; the message has its number.
    """
    with usable(path):
        lines = Path(path).read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, parse_json(line, f"{path}, line {number}", finite=False)


def written_by(settings: str, form: str, names: Collection[str]) -> Callable[[Path], bool]:
    """A test whether a folder holds nothing but what one of our writers puts there.

    Args:
        settings: name of its JSON file, whose entry "format" tells the writer.
        form: that entry.
        names: of all its files.
    """

    def is_ours(folder: Path) -> bool:
        found = {entry.name for entry in folder.iterdir()}
        if not found <= set(names) or settings not in found:
            return False
        return bool(read_json(folder / settings).get("format") == form)

    return is_ours


def read_array(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of a .npy file.

    Raises:
        InputError: no such file, or none that holds plain numbers.
    """
    with usable(path, "give a .npy file of numbers"):
        # Mapped first: a header may ask for more than the file has, or the memory.
        array = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
        if array.dtype.kind not in "fiub":
            raise ValueError(f"it holds {array.dtype}, no numbers")
        return array


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a .npz file.

    Raises:
        InputError: no such file, or none of plain arrays.
    """
    with usable(path, "give a .npz file of plain arrays"):
        with zipfile.ZipFile(path) as archive:
            packed = sum(entry.compress_size for entry in archive.infolist())
            unpacked = sum(entry.file_size for entry in archive.infolist())
        # Zeros shrink to a thousandth; numbers that were measured hardly shrink at all.
        if unpacked > (1 << 28) and unpacked > 50 * packed:
            raise ValueError(f"{packed} bytes would unpack to {unpacked}")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
