"""NumPy arrays in safetensors files: the same bytes for the same content, and what is read is checked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from facetalk.errors import InputError
from facetalk.interrupts import Uninterrupted
from facetalk.reading import usable

_LENGTH = 8
"""Bytes of the number, little-endian, that says how long the JSON header after it is."""

LARGEST = 1e6
"""No trained network has a weight near it; beyond, products of a few layers overflow."""
_MAX_SIZE, _MAX_LAYERS = 1 << 17, 256


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of a .safetensors file as NumPy arrays.

    Raises:
        InputError: no such file, a damaged one, or a number type that NumPy does not have.
    """
    with usable(path, "fetch it again"):
        if not Path(path).is_file():
            raise InputError(f"{path} is missing")
        # In Ctrl-C it sees a damaged tensor.
        with Uninterrupted():
            return load(Path(path).read_bytes())


def check_arrays(arrays: Mapping[str, np.ndarray], where: object) -> None:
    """Refuse weights that no training gives and that make nothing but NaN.

    Raises:
        InputError: a number is not finite, or larger than ``LARGEST``; the message names the tensor.
    """
    for name, value in arrays.items():
        if value.dtype.kind != "f" or not value.size:
            continue
        largest = float(max(value.max(), -value.min()))  # NaN where one is
        if not np.isfinite(largest):
            raise InputError(f"{where}: tensor {name} holds numbers that are not finite; the file is damaged")
        if largest > LARGEST:
            raise InputError(
                f"{where}: tensor {name} holds {largest:.3g}, too large for a weight; the file is damaged"
            )


def check_sizes(config: Mapping[str, Any], where: object) -> None:
    """Refuse settings of a network that would take forever, or all memory, to build.

    Raises:
        InputError: a size is absurd; the message names it.
    """
    for name, value in config.items():
        values = value if isinstance(value, list | tuple) else [value]
        if len(values) > _MAX_LAYERS:
            raise InputError(f"{where}: {name} has {len(values)} entries")
        for entry in values:
            if isinstance(entry, int) and not -1 <= entry <= _MAX_SIZE:
                raise InputError(f"{where}: {name} is {entry}, no size of a network")
            if isinstance(entry, int) and entry > _MAX_LAYERS and "layers" in name:
                raise InputError(f"{where}: {name} is {entry}, at most {_MAX_LAYERS} are possible")


def tensor_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file.

    The library writes the entries of the metadata in an order that changes from call to call; here they are
    sorted, so that equal files have equal checksums.

    Args:
        tensors: arrays by name.
        metadata: texts by name.
    """
    # The library writes an array's memory as it lies there, whatever its order.
    ordered = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    data = save(ordered, metadata=dict(metadata) or None)
    start = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    header = json.dumps(json.loads(data[_LENGTH:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # what follows stays aligned
    return len(header).to_bytes(_LENGTH, "little") + header + data[start:]
