"""The audio encoder as a step: the sound of one motion frame in, features out, all memory in caches.

It gives what :class:`facetalk.audio.live.LiveFeatures` gives for sound that is normalised already: the
convolutions run once over every frame, the transformer anew over as much of the past as can reach the frame.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from facetalk.arguments import look_ahead_seconds
from facetalk.audio import AudioEncoder
from facetalk.errors import InputError
from facetalk.units import SAMPLE_RATE

UNSEEN = -10_000.0
"""Added to the logits of what may not be seen: its weight is 0, and rows that see nothing stay finite."""


class EncoderStep(nn.Module):
    """One motion frame of sound to the features of the frame that lies ``ahead`` frames before it.

    Args:
        encoder: the audio encoder.
        fps: motion frame rate.
        look_ahead: seconds after a frame's middle that are heard for it, as in ``FaceTalk.stream``.

    Attributes:
        hop: samples of a motion frame.
        overlap: samples kept from step to step.
        lead: samples after the beginning of the sound at which the first step's samples begin.
        window: motion frames that the transformer sees.
        ahead: of them, those after the frame that is given.

    Raises:
        InputError: the look-ahead is out of range or too little for a frame, the encoder cannot hear live, or
            its frames do not fall evenly on those of the motion.
    """

    def __init__(self, encoder: AudioEncoder, fps: float, look_ahead: float) -> None:
        super().__init__()
        look_ahead = look_ahead_seconds(look_ahead)
        config, span = encoder.model.config, encoder.span(fps)
        self.per_frame = round(SAMPLE_RATE / fps / encoder.stride)
        self.hop = self.per_frame * encoder.stride
        if span is None or config.feat_extract_norm != "layer":
            raise InputError(
                "this audio encoder attends to the whole recording, so it has no steps to convert"
            )
        if abs(self.hop * fps - SAMPLE_RATE) > 1e-6 or self.per_frame < 1:
            raise InputError(
                f"a motion frame of {SAMPLE_RATE / fps:g} samples is no whole number of the encoder's frames "
                f"of {encoder.stride}, so it has no steps to convert"
            )
        margin = (encoder.field - encoder.stride) // 2
        self.overlap, self.lead = encoder.field - encoder.stride, encoder.field - encoder.stride - margin
        # As LiveFeatures counts: frames of the extractor that are whole when the sound of a frame is there.
        known = int((0.5 / fps + look_ahead) * SAMPLE_RATE + 1e-6)
        whole = (known + margin - encoder.field) // encoder.stride + 1
        self.ahead = whole // self.per_frame - 1
        if self.ahead < 0:
            raise InputError(f"a look-ahead of {look_ahead:g} s is less than the encoder needs for a frame")
        reach = span * int(config.num_hidden_layers) + int(config.num_conv_pos_embeddings) // 2
        self.window = reach + 1 + self.ahead
        self.channels = int(config.conv_dim[-1])
        self.model = _plain(encoder.model)
        index = torch.arange(self.window)
        far = (index[:, None] - index[None, :]).abs() > span
        self.far: Tensor
        self.register_buffer("far", far.to(torch.float32)[None, None] * UNSEEN)

    def start(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Empty caches; into the first one's last :attr:`lead` samples goes the beginning of the sound."""
        sound = torch.zeros(batch, self.overlap)
        return sound, torch.zeros(batch, self.window - 1, self.channels), torch.zeros(batch, self.window - 1)

    def forward(
        self, samples: Tensor, sound: Tensor, frames: Tensor, heard: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Take a step.

        Args:
            samples: (B, hop) normalised sound, 16 kHz.
            sound: (B, overlap) the samples before them.
            frames: (B, window - 1, C) the extractor's output for the motion frames before this one.
            heard: (B, window - 1) 1 where there is such a frame, 0 before the beginning of the sound.

        Returns:
            (B, A) features of the frame ``ahead`` frames before this one (to be ignored while there is none),
            and the three caches for the next step.
        """
        wave = torch.cat([sound, samples], dim=1)
        extracted = self.model.feature_extractor(wave)  # (B, C, per_frame)
        middle = self.per_frame // 2
        # A motion frame's middle lies on a frame of the extractor, or between two.
        low = extracted[:, :, (self.per_frame - 1) // 2]
        fresh = (low + extracted[:, :, middle]) * 0.5
        frames = torch.cat([frames, fresh[:, None]], dim=1)
        heard = torch.cat([heard, torch.ones_like(heard[:, :1])], dim=1)
        hidden = self.model.feature_projection(frames)[0] * heard[:, :, None]
        encoder = self.model.encoder
        hidden = hidden + encoder.pos_conv_embed(hidden)
        stable = bool(self.model.config.do_stable_layer_norm)
        hidden = hidden if stable else encoder.layer_norm(hidden)
        mask = self.far + (1.0 - heard)[:, None, None, :] * UNSEEN
        for layer in encoder.layers:
            out = layer(hidden, attention_mask=mask)
            hidden = out[0] if isinstance(out, tuple) else out
        hidden = encoder.layer_norm(hidden) if stable else hidden
        features = hidden[:, self.window - 1 - self.ahead]
        return features, wave[:, self.hop :], frames[:, 1:], heard[:, 1:]


def _plain(model: Any) -> Any:
    """A copy without what cannot be exported: the reparametrised convolution, fused attention."""
    from transformers import Wav2Vec2Model

    config = copy.deepcopy(model.config)
    config._attn_implementation = "eager"
    plain = Wav2Vec2Model(config)
    plain.load_state_dict(model.state_dict())
    for module in plain.modules():
        if parametrize.is_parametrized(module):
            for name in list(cast(nn.ModuleDict, module.parametrizations)):
                parametrize.remove_parametrizations(module, name)
    return plain.eval().requires_grad_(False)
