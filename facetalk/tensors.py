"""NumPy arrays as the bytes of a safetensors file, the same bytes for the same content."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from safetensors.numpy import save

_LENGTH = 8
"""Bytes of the number, little-endian, that says how long the JSON header after it is."""


def tensor_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file.

    The library writes the entries of the metadata in an order that changes from call to call; here they are
    sorted, so that equal files have equal checksums.

    Args:
        tensors: C-contiguous arrays by name.
        metadata: texts by name.
    """
    data = save(dict(tensors), metadata=dict(metadata))
    start = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    header = json.dumps(json.loads(data[_LENGTH:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # what follows stays aligned
    return len(header).to_bytes(_LENGTH, "little") + header + data[start:]
