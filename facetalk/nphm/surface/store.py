"""Baked identities on disk, so that a process need not bake what an earlier one baked.

A file is found by a digest of all that a bake depends on: the folded weights (model and identity), the box,
how wide and how good it was asked to be, the kind of device, and the version of the package
(:mod:`facetalk.kept`).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from facetalk import kept
from facetalk.kept import Kept as Baking
from facetalk.ops.field.source import FieldSource
from facetalk.version import __version__

__all__ = ["Baking", "cache_folder", "fingerprint", "read", "write"]

_ROOM, _FORMAT = "baked", "facetalk-baked-field 1"


def cache_folder() -> Path | None:
    """Where baked identities are kept; None switches it off."""
    return kept.cache_folder(_ROOM)


def read(key: str) -> Baking | None:
    """What was kept under a key; None where there is nothing whole."""
    return kept.read(_ROOM, key)


def write(key: str, baking: Baking) -> None:
    """Keep a bake; where it cannot be kept, the next process bakes again."""
    kept.write(_ROOM, key, baking)


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
