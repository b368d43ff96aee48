"""What took long to compute, on disk, so that a process need not do what an earlier one did.

A file is found by a digest of all that its content depends on, the version of the package among it. Files are
safetensors; one that cannot be read, or whose content has another digest than it says, counts as missing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
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

__all__ = ["Arrays", "Kept", "cache_folder", "read", "write"]

VARIABLE = "FACETALK_CACHE"
"""Environment variable: the folder of the cache; empty, nothing is kept."""
MOST_BYTES = 1 << 30
"""Size of all files of a kind together, beyond which the ones that were not used for longest go."""
Arrays = dict[str, NDArray[Any]]


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
