"""A Whisper that never learned anything, in the form in which its weights are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np


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


def write_weights(file: Path) -> Path:
    """Write its arrays to a .npz file."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, shape in shapes().items():
        arrays[name] = rng.standard_normal(shape, np.float32) * np.float32(0.05) + name.endswith("gamma")
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file
