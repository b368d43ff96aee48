"""Spoiling things at random: bytes, JSON documents, arrays. Everything follows from the generator."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

Rng = np.random.Generator

HUGE = "<1e400>"  # stands for a number that JSON can say and a float cannot hold
_INTEGERS = [0, 1, 2, 3, 4, 5, 7, 8, 12, 16, 36, 64, 127, 128, 252, 255, 256, 1000, 65535, 65536, 10**6]
_EDGES = [2**k + d for k in (24, 31, 32, 40, 53, 62, 63, 64) for d in (-1, 0, 1)]
_FLOATS = [0.0, -0.0, 1e-45, 1e-30, 1e-9, 0.5, 1.0, 1e5, 1e9, 1e19, 1e30, 3e38, 1e39, 1e154, 1.7e308]
_TEXTS = ["", "x", "SCALAR", "VEC3", "MAT4", "weights", "../x.bin", "\0", "é\ud83d", "a" * 5000, "1", "NaN"]


def pick(rng: Rng, items: Sequence[Any]) -> Any:
    """One of the items."""
    return items[int(rng.integers(len(items)))]


def integer(rng: Rng) -> int:
    """A number that sizes and offsets tend to stumble over."""
    value = int(pick(rng, _INTEGERS if rng.random() < 0.6 else _EDGES))
    return -value if rng.random() < 0.3 else value


def real(rng: Rng) -> float:
    """A number that arithmetic tends to stumble over."""
    if rng.random() < 0.15:
        return float(pick(rng, [np.nan, np.inf, -np.inf]))
    value = float(pick(rng, _FLOATS)) * (1.0 if rng.random() < 0.5 else float(rng.uniform(0.5, 2.0)))
    return -value if rng.random() < 0.4 else value


def real32(rng: Rng) -> float:
    """The same, as far as a float32 can hold it."""
    with np.errstate(over="ignore"):
        return float(np.float32(real(rng)))


def spoil_bytes(rng: Rng, data: bytes, times: int | None = None) -> bytes:
    """The bytes with some changed, cut out, put in or moved."""
    raw = bytearray(data)
    for _ in range(int(rng.integers(1, 6)) if times is None else times):
        if not raw:
            return bytes(rng.integers(0, 256, int(rng.integers(0, 64)), dtype=np.uint8))
        # The start of a file has its sizes.
        end = len(raw) if rng.random() < 0.5 else min(len(raw), 128)
        at = int(rng.integers(end))
        length = int(min(len(raw) - at, 2 ** int(rng.integers(0, 9))))
        kind = int(rng.integers(8))
        if kind == 0:
            raw[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            raw[at] = int(pick(rng, [0, 1, 127, 128, 255]))
        elif kind == 2:
            width = int(pick(rng, [2, 4, 8]))
            value = integer(rng) % 2 ** (8 * width)
            raw[at : at + width] = value.to_bytes(width, pick(rng, ["little", "big"]))
        elif kind == 3:
            raw[at : at + 4] = np.float32(min(max(real(rng), -3.4e38), 3.4e38)).tobytes()
        elif kind == 4:
            del raw[at : at + length]
        elif kind == 5:
            raw[at:at] = raw[at : at + length]
        elif kind == 6:
            raw[at : at + length] = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
        else:
            del raw[at:]
    return bytes(raw)


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, inner in entries:
        found.append((value, key))
        _places(inner, found)
    return found


def spoil_json(rng: Rng, document: Any) -> Any:
    """A copy of the document with a few fields replaced, removed, doubled or swapped."""
    document = copy.deepcopy(document)
    for _ in range(int(rng.integers(1, 5))):
        places = _places(document, [])
        if not places:
            return anything(rng)
        parent, key = pick(rng, places)
        kind = int(rng.integers(8))
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent, list):
            parent.extend(copy.deepcopy(parent[key]) for _ in range(int(pick(rng, [1, 2, 300]))))
        elif kind == 2:
            other, place = pick(rng, places)
            if other is not parent and (not isinstance(other, list) or place < len(other)):
                parent[key] = copy.deepcopy(other.get(place) if isinstance(other, dict) else other[place])
        elif kind == 3 and isinstance(parent[key], (int, float)) and not isinstance(parent[key], bool):
            parent[key] += int(pick(rng, [-1, 1, 4, -4, 100]))
        elif kind == 4 and isinstance(parent[key], (int, float)):
            parent[key] = float(parent[key]) + float(pick(rng, [0.0, 0.5]))
        else:
            parent[key] = anything(rng)
    return document


def anything(rng: Rng) -> Any:
    """A value that JSON can say."""
    kind = int(rng.integers(9))
    if kind <= 2:
        return integer(rng)
    if kind <= 4:
        return HUGE if rng.random() < 0.1 else real(rng)
    nested: Any = []
    for _ in range(int(pick(rng, [1, 3, 200]))):
        nested = [nested]
    return pick(rng, [None, True, False, {}, [], nested, [1], [0.0] * 16, {"a": 1}, *_TEXTS])


def to_json(document: Any) -> bytes:
    """The document as text, with NaN and the like where they are."""
    return json.dumps(document).replace(f'"{HUGE}"', "1e400").encode("utf-8", "replace")


def values(rng: Rng, shape: Sequence[int], scale: float = 1.0) -> np.ndarray:
    """Numbers of that shape, float32, sometimes with a few that are special, or all of them."""
    array = (rng.standard_normal(tuple(shape)) * scale).astype(np.float32)
    kind = 2.0 * rng.random()
    with np.errstate(over="ignore"):
        if kind < 0.15 and array.size:
            for _ in range(int(rng.integers(1, 4))):
                array.reshape(-1)[int(rng.integers(array.size))] = np.float32(real(rng))
        elif kind < 0.25:
            array *= np.float32(abs(real(rng)))
        elif kind < 0.3:
            array[...] = np.float32(real(rng))
    return array


def spoil_array(rng: Rng, array: np.ndarray) -> Any:
    """The array as it is, most of the time; else laid out, typed or wrapped otherwise, or no array at all."""
    kind = int(rng.integers(140))
    with np.errstate(all="ignore"):
        if kind == 0:
            return misaligned(array)
        if kind == 1:
            return np.asfortranarray(array)
        if kind == 2:
            return np.repeat(array, 2, axis=0)[::2] if array.ndim else array
        if kind == 3:
            return array[::-1] if array.ndim else array
        if kind == 4:
            return array.astype(array.dtype.newbyteorder())
        if kind == 5:
            return array.astype(pick(rng, ["f2", "f4", "f8", "i4", "i8", "u1", "?", "c8", "O", "U8", "V4"]))
        if kind == 6:
            return array.reshape((*array.shape[:-1], 1, *array.shape[-1:]))
        if kind == 7:
            return array.reshape(-1)
        if kind == 8:
            return array[: len(array) // 2] if array.ndim else array
        if kind == 9:
            return array[:0] if array.ndim else array
        if kind == 10:
            read_only = array.copy()
            read_only.flags.writeable = False
            return read_only
        if kind == 11:
            return array.tolist()
        if kind == 12:
            return pick(rng, [None, "x", 1.0, object(), b"bytes", [], {}, np.float32(1), memoryview(b"abcd")])
        if kind <= 20:
            return _spoil_tensor(rng, torch.from_numpy(array.copy()), kind)
    return array


def _spoil_tensor(rng: Rng, tensor: torch.Tensor, kind: int) -> Any:
    if kind == 13 and tensor.is_floating_point():
        return tensor.requires_grad_()
    if kind == 14:
        return tensor.to_sparse() if tensor.ndim else tensor
    if kind == 15:
        return tensor.to("meta")
    if kind == 16:
        return tensor.to(pick(rng, [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool]))
    if kind == 17:
        return tensor.to(torch.complex64).conj()
    if kind == 18 and tensor.ndim > 1:
        return tensor.transpose(0, 1)
    if kind == 19 and tensor.ndim:
        return tensor[:1].expand(tensor.shape)
    return tensor


def misaligned(array: np.ndarray) -> np.ndarray:
    """The same numbers, each across the boundary where it ought to start."""
    raw = np.empty(array.nbytes + 1, np.uint8)
    moved = raw[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved
