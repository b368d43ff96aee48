"""Baked identities on disk, so that a process need not bake what an earlier one baked.

A file is found by a digest of all that a bake depends on: the folded weights (model and identity), the box,
how wide and how good it was asked to be, the kind of device, and the version of the package. Files are
safetensors; one that cannot be read, or whose content has another digest than it says, counts as missing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.interrupts import Uninterrupted
from facetalk.ops.field.source import FieldSource
from facetalk.version import __version__

__all__ = ["Baking", "cache_folder", "fingerprint", "read", "write"]

VARIABLE = "FACETALK_CACHE"
"""Environment variable: the folder of the cache; empty, nothing is kept."""
MOST_BYTES = 1 << 30
"""Size of all files together, beyond which the ones that were not used for longest go."""
_FORMAT = "facetalk-baked-field 1"

Arrays = dict[str, NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class Baking:
    """What is kept of a bake.

    Attributes:
        arrays: of the lattice, by name.
        figures: numbers and lists of numbers beside them.
    """

    arrays: Arrays
    figures: dict[str, Any]


def cache_folder() -> Path | None:
    """Where baked identities are kept: ``$FACETALK_CACHE``, else the user's cache; None switches it off."""
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return Path(chosen) / "baked" if chosen else None
    # Only here, so that a machine that names a folder, as tests do, needs no package for the place of one.
    import platformdirs

    return Path(platformdirs.user_cache_dir("facetalk", appauthor=False)) / "baked"


def fingerprint(source: FieldSource, *more: object) -> str:
    """Digest of a folded head and of whatever else a bake depends on (by its ``repr``)."""
    digest = hashlib.sha256(f"{_FORMAT} {__version__} {more!r}".encode())
    for part in _flat(dataclasses.astuple(source)):
        if isinstance(part, Tensor):
            array = part.detach().cpu().contiguous().numpy()
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(array.tobytes())
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()


def _flat(value: Any) -> Iterable[Any]:
    if isinstance(value, list | tuple):
        for part in value:
            yield from _flat(part)
    else:
        yield value


def read(key: str) -> Baking | None:
    """What was kept under a key; None where there is nothing whole."""
    folder = cache_folder()
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
    return Baking(arrays, figures)


def write(key: str, baking: Baking) -> None:
    """Keep a bake; where it cannot be kept, the next process bakes again."""
    folder = cache_folder()
    if folder is None:
        return
    header = {"figures": json.dumps(baking.figures), "digest": _digest(baking.arrays)}
    arrays = {name: np.ascontiguousarray(value) for name, value in baking.arrays.items()}
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
