"""The small Wav2Vec 2.0 of the built-in model: its configuration and how its first layer starts.

About 2.3 M parameters. It differs from the published sizes in one place that matters: the first convolution
spans 25 ms instead of 0.6 ms and starts as a bank of Gabor filters on the mel scale. A stack that has to
invent a filter bank needs hundreds of hours of speech; this one hears formants from the first step, trains on
a few hours on a CPU, and costs a tenth of the original extractor. Every filter stays trainable.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facetalk.files import atomic_path
from facetalk.reading import read_json
from facetalk.units import SAMPLE_RATE
from facetalk.weights import write_tensors

#: RMS of -50 dBFS: fainter recordings are treated as silence, not brought to speech level.
VARIANCE_FLOOR = 1e-5

_MADE_BY = "facetalk_encoder"  # entry of config.json that tells our folders
_CONSTANTS = 8  # channels of the first layer without filter: a fixed level that loudness is measured against


def small_config() -> Any:
    """``Wav2Vec2Config`` of the built-in encoder: 50 Hz extractor, 4 layers of width 192, attention within
    0.4 s."""
    from transformers import Wav2Vec2Config

    config: Any = Wav2Vec2Config
    return config(
        vocab_size=32,
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=768,
        conv_dim=(160, 192, 192, 192),
        conv_kernel=(400, 5, 3, 3),
        conv_stride=(80, 2, 2, 1),
        conv_bias=True,
        num_feat_extract_layers=4,
        # "layer" normalises each frame by itself; "group" would normalise over time and tie a frame to its
        # window.
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=8,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        layerdrop=0.0,
        mask_time_prob=0.0,
        attention_span_s=0.4,
    )


def small_model(seed: int = 0) -> Any:
    """A fresh ``Wav2Vec2Model`` of :func:`small_config` with Gabor filters in its first layer."""
    from transformers import Wav2Vec2Model

    torch.manual_seed(seed)
    model: Any = Wav2Vec2Model(small_config())
    first = model.feature_extractor.conv_layers[0].conv
    filters, bias = gabor_filters(first.out_channels, first.kernel_size[0])
    with torch.no_grad():
        first.weight.copy_(torch.from_numpy(filters)[:, None])
        first.bias.copy_(torch.from_numpy(bias))
        for layer in model.feature_extractor.conv_layers[1:]:
            torch.nn.init.kaiming_normal_(layer.conv.weight, nonlinearity="relu")
            layer.conv.bias.zero_()
    return model


def gabor_filters(count: int, kernel: int) -> tuple[np.ndarray, np.ndarray]:
    """A mel-spaced Gabor filter bank in four phases.

    Four half-wave rectified phases (0, 90, 180, 270 degrees) add up to a magnitude, which the next layer's
    pooling turns into an envelope. Bandwidths follow the mel scale, so low bands see 25 ms and high bands a
    few, as an ear does.

    Args:
        count: filters in all; the last eight are constants.
        kernel: samples per filter.

    Returns:
        Filters (count, kernel) and biases (count,), float32.
    """
    bands = (count - _CONSTANTS) // 4
    mel = np.linspace(1127 * np.log1p(80 / 700), 1127 * np.log1p(7600 / 700), bands + 2)
    hertz = 700 * np.expm1(mel / 1127)
    time = (np.arange(kernel) - (kernel - 1) / 2) / SAMPLE_RATE
    filters = np.zeros((count, kernel), np.float32)
    for band in range(bands):
        centre, width = hertz[band + 1], (hertz[band + 2] - hertz[band]) / 2
        # A Gaussian of sigma 1 / (2 pi width) seconds has a bandwidth of about `width`; longer than 5 ms does
        # not fit.
        sigma = min(1 / (2 * np.pi * width) * 1.5, kernel / SAMPLE_RATE / 5)
        envelope = np.exp(-0.5 * (time / sigma) ** 2)
        envelope /= np.sqrt((envelope**2).sum())
        for phase in range(4):
            wave = envelope * np.cos(2 * np.pi * centre * time + phase * np.pi / 2)
            filters[4 * band + phase] = wave - wave.mean()
    bias = np.zeros(count, np.float32)
    bias[4 * bands :] = np.where(np.arange(count - 4 * bands) % 2 == 0, 0.4, -0.4)
    return filters, bias


@torch.no_grad()
def whiten_filters(model: Any, waves: torch.Tensor) -> None:
    """Scale the first layer's filters so that every band of typical speech has a standard deviation of 1.

    Args:
        model: fresh model of :func:`small_model`.
        waves: (B, N) normalised speech.
    """
    conv = model.feature_extractor.conv_layers[0].conv
    bands = (conv.out_channels - _CONSTANTS) // 4
    heard = torch.nn.functional.conv1d(waves[:, None], conv.weight, stride=conv.stride)[:, : 4 * bands]
    spread = heard.transpose(0, 1).reshape(bands, -1).std(dim=1).clamp(min=1e-4)
    conv.weight[: 4 * bands] /= spread.repeat_interleave(4)[:, None, None]


def name_features(model: Any) -> None:
    """Give the features of an encoder that was trained from nothing a name of their own.

    Its configuration keeps it, and so do those of encoders that are fine-tuned from it, which are held to its
    features, and motion models that are trained on them (:attr:`facetalk.audio.AudioEncoder.feature_space`).

    Args:
        model: ``Wav2Vec2Model``; the name follows from its weights.
    """
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(value.detach().to("cpu", torch.float32).numpy().tobytes())
    model.config.feature_space = digest.hexdigest()[:16]


def is_encoder_folder(folder: Path) -> bool:
    """Whether a folder holds nothing but what :func:`save_encoder` writes."""
    names = {entry.name for entry in folder.iterdir()}
    if not names <= {"config.json", "preprocessor_config.json", "model.safetensors"}:
        return False
    return bool(read_json(folder / "config.json").get(_MADE_BY) == 1)


def save_encoder(model: Any, folder: Path, *, half: bool = True, force: bool = False) -> None:
    """Write ``config.json``, ``preprocessor_config.json`` and ``model.safetensors`` as transformers reads
    them.

    Args:
        model: ``Wav2Vec2Model``.
        folder: the place, replaced as a whole; its parent has to exist.
        half: store weights as float16 (half the size; the features move by less than 1e-2 of their scale).
        force: replace the folder even if it holds other files than an encoder of ours.

    Raises:
        InputError: the place cannot be written to, or holds what this did not write.
    """
    config = {**model.config.to_dict(), "architectures": ["Wav2Vec2Model"], _MADE_BY: 1}
    config.pop("_name_or_path", None)
    preprocessor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "sampling_rate": SAMPLE_RATE,
        "feature_size": 1,
        "do_normalize": True,
        "padding_value": 0.0,
        "return_attention_mask": False,
        "variance_floor": VARIANCE_FLOOR,
    }
    dtype = torch.float16 if half else torch.float32
    state = {k: v.detach().to("cpu", dtype) for k, v in model.state_dict().items()}
    with atomic_path(folder, directory=True, ours=None if force else is_encoder_folder) as out:
        (out / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
        (out / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=1) + "\n")
        write_tensors(out / "model.safetensors", state, {"format": "pt"})
