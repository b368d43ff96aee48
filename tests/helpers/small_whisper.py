"""A small Whisper of random weights and an adapter for it, as files: what the C library runs in a moment."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from facetalk.audio.whisper_weights import FOLDER, LISTENER, SHA256

WIDTH, BANDS, ROWS, FEED = 64, 12, 1500, 40
COMPONENTS, CHANNELS = 6, 5


def small_listener(seed: int = 0) -> dict[str, np.ndarray]:
    """Tensors of an encoder of two layers, by the names that transformers gives them."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "conv1.weight": (WIDTH, BANDS, 3), "conv1.bias": (WIDTH,), "conv2.weight": (WIDTH, WIDTH, 3),
        "conv2.bias": (WIDTH,), "embed_positions.weight": (ROWS, WIDTH), "layer_norm.weight": (WIDTH,),
        "layer_norm.bias": (WIDTH,),
    }  # fmt: skip
    for layer in range(2):
        base = f"layers.{layer}"
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            shapes |= {f"{base}.{norm}.weight": (WIDTH,), f"{base}.{norm}.bias": (WIDTH,)}
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes[f"{base}.self_attn.{part}.weight"] = (WIDTH, WIDTH)
            if part != "k_proj":
                shapes[f"{base}.self_attn.{part}.bias"] = (WIDTH,)
        shapes |= {f"{base}.fc1.weight": (FEED, WIDTH), f"{base}.fc1.bias": (FEED,)}
        shapes |= {f"{base}.fc2.weight": (WIDTH, FEED), f"{base}.fc2.bias": (WIDTH,)}
    return {name: (0.1 * rng.normal(size=shape)).astype(np.float16) for name, shape in shapes.items()}


def add_small_whisper(model: Path, features: int, *, live: bool = True, seed: int = 0) -> Path:
    """Write an adapter, and Whisper's weights beside it, into a model's folder.

    Args:
        model: the folder.
        features: A, values of a feature of the model's own encoder.
        live: also layers for live sound.
        seed: of the weights.

    Returns:
        the file with the weights.
    """
    rng = np.random.default_rng(seed)
    folder = model / FOLDER
    folder.mkdir()
    config = {
        "format": "facetalk-whisper", "version": 1, "listener": SHA256, "layers": [1, 2],
        "components": COMPONENTS, "width": CHANNELS, "features": features, "variance_floor": 1e-5,
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"mean": (2 * WIDTH,), "basis": (2 * WIDTH, COMPONENTS)}
    for prefix in ("", "live.")[: 1 + live]:
        shapes |= {f"{prefix}first.weight": (CHANNELS, COMPONENTS, 7), f"{prefix}first.bias": (CHANNELS,)}
        for block in range(2):
            shapes |= {f"{prefix}norms.{block}.{part}": (CHANNELS,) for part in ("weight", "bias")}
            shapes[f"{prefix}blocks.{block}.weight"] = (CHANNELS, CHANNELS, 5)
            shapes[f"{prefix}blocks.{block}.bias"] = (CHANNELS,)
        shapes |= {f"{prefix}last.weight": (features, CHANNELS), f"{prefix}last.bias": (features,)}
    tensors = {name: (0.4 * rng.normal(size=shape)).astype(np.float16) for name, shape in shapes.items()}
    (folder / "config.json").write_text(json.dumps(config | ({"live": {"window_s": 2.0}} if live else {})))
    save_file(tensors, folder / "model.safetensors")
    save_file(small_listener(seed), folder / LISTENER)
    return folder / LISTENER
