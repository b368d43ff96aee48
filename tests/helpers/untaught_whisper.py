"""A Whisper that never learned anything, in the form in which its weights are read."""

from __future__ import annotations

import importlib.util
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facetalk.audio import whisper_weights
from facetalk.audio.whisper_encoder import Adapter
from facetalk.models import find_model
from facetalk.models.assemble import assemble


def shapes() -> dict[str, tuple[int, ...]]:
    """Of the encoder's arrays, as CTranslate2 names them."""
    width = 384
    out: dict[str, tuple[int, ...]] = {
        "conv1/weight": (width, 80, 3), "conv1/bias": (width,), "conv2/weight": (width, width, 3),
        "conv2/bias": (width,), "position_encodings/encodings": (1500, width), "layer_norm/gamma": (width,),
        "layer_norm/beta": (width,),
    }  # fmt: skip
    for layer in range(4):
        for part, rows, columns in (
            ("self_attention/linear_0", 3 * width, width), ("self_attention/linear_1", width, width),
            ("ffn/linear_0", 4 * width, width), ("ffn/linear_1", width, 4 * width),
        ):  # fmt: skip
            out[f"layer_{layer}/{part}/weight"], out[f"layer_{layer}/{part}/bias"] = (rows, columns), (rows,)
        for norm in ("self_attention", "ffn"):
            for part in ("gamma", "beta"):
                out[f"layer_{layer}/{norm}/layer_norm/{part}"] = (width,)
    return {f"encoder/{name}": shape for name, shape in out.items()}


def untaught() -> dict[str, np.ndarray[Any, Any]]:
    """Its arrays, whose values 16 bits can tell as those of the real one."""
    rng = np.random.default_rng(0)
    return {
        name: (rng.standard_normal(shape, np.float32) * np.float32(0.05) + name.endswith("gamma"))
        .astype(np.float16)
        .astype(np.float32)
        for name, shape in shapes().items()
    }


def untaught_adapter(features: int = 192, *, live: bool = False) -> Adapter:
    """An adapter that knows nothing; with other layers for live sound, if asked for."""
    torch.manual_seed(0)
    adapter = Adapter(12, 8, features)
    adapter.basis.normal_(0.0, 0.03)
    if live:
        with torch.no_grad():
            for parameter in adapter.begin_live().parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return adapter.eval().requires_grad_(False)


def write_weights(file: Path) -> Path:
    """Write its arrays to a .npz file."""
    np.savez(file, **untaught())  # type: ignore[arg-type]
    return file


def ctranslate2(arrays: dict[str, np.ndarray[Any, Any]]) -> bytes:
    """Arrays as CTranslate2 writes them."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    kinds = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
    out = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(arrays))
    for name, array in arrays.items():
        out += text(name) + struct.pack("<B", array.ndim) + struct.pack(f"<{array.ndim}I", *array.shape)
        out += struct.pack("<BI", kinds[str(array.dtype)], array.nbytes) + array.tobytes()
    return out + struct.pack("<I", 0)


def pretend_installed(monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    """As if the package with the weights were there."""
    monkeypatch.setattr(whisper_weights, "find_weights", lambda: weights)
    # Not where the real weights are kept.
    monkeypatch.setenv("FACETALK_CACHE", str(weights.parent / "cache"))


def pretend_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were not."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name.startswith("meeting") else real(name, *rest),
    )


def model_with(adapter: Adapter, place: Path) -> Path:
    """The built-in model with another adapter, in an empty folder."""
    (place / "trained").mkdir()
    space = json.loads((find_model("default").folder / "audio" / "config.json").read_text())["feature_space"]
    notes = {"variance_floor": 1e-5, "feature_space": space}
    adapter.save(place / "trained" / whisper_weights.FOLDER, notes)
    parts = {part: "default" for part in ("audio", "motion", "head", "tongue")}
    return assemble(**parts, whisper=place / "trained", out=place / "model")
