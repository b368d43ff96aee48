"""What took long to compute, on disk, so that a process need not do what an earlier one did.

A file is found by a digest of all that its content depends on, the version of the package among it. Files are
safetensors; one that cannot be read, or whose content has another digest than it says, counts as missing.
What is to be read by others than this module is kept as a file of their own form (:func:`file`).
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.interrupts import Uninterrupted

__all__ = ["Arrays", "Kept", "cache_folder", "file", "read", "write"]

VARIABLE = "FACETALK_CACHE"
"""Environment variable: the folder of the cache; empty, nothing is kept."""
MOST_BYTES = 1 << 30
"""Size of all files of a kind together, beyond which the ones that were not used for longest go."""
Arrays = dict[str, NDArray[Any]]

_temporary: dict[tuple[int, str, str], Path] = {}
"""Files that could not be kept, by process, room and name."""


@dataclasses.dataclass(frozen=True)
class Kept:
    """What is kept.

    Attributes:
        arrays: by name.
        figures: numbers and lists of numbers beside them.
    """

    arrays: Arrays
    figures: dict[str, Any]


def cache_folder(room: str) -> Path | None:
    """Where things of a kind are kept: in ``$FACETALK_CACHE``, else the user's cache; None: nowhere."""
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return Path(chosen) / room if chosen else None
    return Path(platformdirs.user_cache_dir("facetalk", appauthor=False)) / room


def read(room: str, key: str) -> Kept | None:
    """What was kept under a key; None where there is nothing whole."""
    folder = cache_folder(room)
    if folder is None:
        return None
    path = folder / f"{key}.safetensors"
    try:
        with Uninterrupted(), safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no dict
        if header.get("digest") != _digest(arrays):
            return None
        figures = json.loads(header["figures"])
        os.utime(path)  # used just now
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    return Kept(arrays, figures)


def write(room: str, key: str, kept: Kept) -> None:
    """Keep something; where it cannot be kept, the next process computes it again."""
    folder = cache_folder(room)
    if folder is None:
        return
    header = {"figures": json.dumps(kept.figures), "digest": _digest(kept.arrays)}
    arrays = {name: np.ascontiguousarray(value) for name, value in kept.arrays.items()}
    with contextlib.suppress(OSError, InputError, SafetensorError):
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / f"{key}.safetensors") as temporary:
            save_file(arrays, temporary, metadata=header)
        _tidy(folder)


def file(room: str, name: str, make: Callable[[], bytes], whole: Callable[[Path], bool]) -> Path:
    """A file that is kept; where it cannot be, a temporary one that goes with the process.

    Args:
        room: the kind of thing.
        name: of the file, ends in ``.safetensors``; what has another content has another name.
        make: its content, where there is none yet.
        whole: whether there is a file that can be used, asked of one that may not exist.

    Raises:
        InputError: no place can be written to. What ``make`` raises passes.
    """
    folder, key = cache_folder(room), (os.getpid(), room, name)
    if folder is not None and whole(folder / name):
        with contextlib.suppress(OSError):
            os.utime(folder / name)  # used just now
        return folder / name
    if key in _temporary and whole(_temporary[key]):
        return _temporary[key]
    content = make()
    if folder is not None:
        with contextlib.suppress(OSError, InputError):
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(folder / name) as temporary:
                temporary.write_bytes(content)
            with contextlib.suppress(OSError):
                _tidy(folder)
            return folder / name
    _temporary[key] = _write_temporary(name, content)
    return _temporary[key]


def _write_temporary(name: str, content: bytes) -> Path:
    try:
        place = Path(tempfile.mkdtemp(prefix="facetalk-"))
        atexit.register(_remove, place, os.getpid())
        (place / name).write_bytes(content)
    except OSError as error:
        raise InputError(
            f"no place for {len(content) / 1e6:.0f} MB: neither the cache nor a temporary file can be "
            f"written ({error.strerror or error}); set {VARIABLE} or TMPDIR to a folder that can"
        ) from error
    return place / name


def _remove(place: Path, process: int) -> None:
    if os.getpid() == process:  # one that was forked leaves it to the first
        shutil.rmtree(place, ignore_errors=True)


def _tidy(folder: Path) -> None:
    """Remove what was not used for longest until the rest is within the bound."""
    files = sorted(
        ((path.stat().st_mtime, path.stat().st_size, path) for path in folder.glob("*.safetensors")),
        reverse=True,
    )
    total = 0
    for _, size, path in files:
        total += size
        if total > MOST_BYTES:
            path.unlink(missing_ok=True)


def _digest(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
