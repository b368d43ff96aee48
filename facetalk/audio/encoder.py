"""Wav2Vec 2.0 features at the motion frame rate.

As in FaceTalk (and FaceFormer before it): the convolutional feature extractor runs on 16 kHz sound, its
output is interpolated linearly along time to the motion frame rate, and the transformer encoder runs on the
interpolated frames. Frames are placed by time, frame i at (i + 0.5) / fps seconds, not by stretching the
sequence to fit, so that a clip's end does not move its middle.

Long recordings are encoded in overlapping windows with context on both sides. The built-in encoder limits
attention to a span of time, so its windows give the features of the whole clip to rounding; models with
unlimited attention see at most a window.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facetalk.ambient import loading, plainly
from facetalk.arrays import Float32
from facetalk.audio.level import HighPass, Level
from facetalk.audio.wav2vec2 import load_wav2vec2
from facetalk.errors import InputError
from facetalk.reading import usable
from facetalk.units import SAMPLE_RATE, frame_count

WINDOW_S = 20.0
"""Longest piece encoded at once, seconds."""
CONTEXT_S = 2.0
"""Part of a window at each end whose frames are taken from the neighbouring window instead."""


def receptive_field(config: Any) -> tuple[int, int]:
    """Samples that one frame of the feature extractor sees, and samples from a frame to the next."""
    field, stride = 1, 1
    for kernel, step in zip(config.conv_kernel, config.conv_stride, strict=True):
        field += (kernel - 1) * stride
        stride *= step
    return field, stride


def hidden_states(model: Any, waves: Tensor, positions: Tensor, span: int | None) -> Tensor:
    """Run a Wav2Vec2Model with interpolation between feature extractor and encoder.

    Args:
        model: ``transformers.Wav2Vec2Model``.
        waves: (B, N) normalised sound.
        positions: (T,) fractional index into the extractor's frames for each motion frame.
        span: frames that attention reaches to each side; None for all.

    Returns:
        (B, T, A) hidden states of the last layer.
    """
    return encode_frames(model, model.feature_extractor(waves).transpose(1, 2), positions, span)


def encode_frames(
    model: Any, extracted: Tensor, positions: Tensor, span: int | None, known: Tensor | None = None
) -> Tensor:
    """The part of :func:`hidden_states` after the feature extractor, whose frames (B, K, C) are given.

    Args:
        known: (B, 2) for training: how many of the K and how many of the T frames each row has, as if the
            rest had not been given, as in live sound; what is returned for the rest means nothing. It needs a
            span.
    """
    count = extracted.shape[1]
    at = positions.to(extracted.dtype).clamp(0, count - 1)
    if known is None:
        low = at.floor().long().clamp(max=max(count - 2, 0))
        part = (at - low)[None, :, None]
        high = (low + 1).clamp(max=count - 1)
        frames = extracted[:, low] * (1 - part) + extracted[:, high] * part
    else:
        last = known[:, :1] - 1
        at = torch.minimum(at[None], last.to(at.dtype))
        low = torch.minimum(at.floor().long(), (last - 1).clamp(min=0))
        part = (at - low)[..., None]
        rows = torch.arange(len(extracted), device=extracted.device)[:, None]
        frames = extracted[rows, low] * (1 - part) + extracted[rows, torch.minimum(low + 1, last)] * part
    hidden = model.feature_projection(frames)[0]
    encoder = model.encoder
    if span is None:
        return encoder(hidden).last_hidden_state
    index = torch.arange(hidden.shape[1], device=hidden.device)
    far = ((index[:, None] - index[None, :]).abs() > span)[None]
    if known is not None:
        unknown = index[None] >= known[:, 1:]
        hidden = hidden.masked_fill(unknown[..., None], 0.0)
        # A frame that is not there sees itself, lest the softmax of nothing be NaN.
        far = (far | unknown[:, None]) & (index[:, None] != index[None, :])
    mask = torch.zeros(far.shape, dtype=hidden.dtype, device=hidden.device).masked_fill(far, float("-inf"))[
        :, None
    ]
    hidden = hidden + encoder.pos_conv_embed(hidden)
    stable = bool(model.config.do_stable_layer_norm)
    hidden = encoder.dropout(hidden if stable else encoder.layer_norm(hidden))
    for layer in encoder.layers:
        out = layer(hidden, attention_mask=mask)
        hidden = out[0] if isinstance(out, tuple) else out
    return encoder.layer_norm(hidden) if stable else hidden


class AudioEncoder(nn.Module):
    """A Wav2Vec 2.0 model that gives one feature vector per motion frame.

    Args:
        model: ``transformers.Wav2Vec2Model``.
        normalize: bring recordings to zero mean and unit variance first (the preprocessor's
        ``do_normalize``).
        floor: smallest variance that normalisation divides by; sound fainter than this is not amplified to
        speech level.

    Two entries of the model's configuration are ours: ``attention_span_s`` limits how far attention reaches,
    and ``feature_space`` is :attr:`feature_space`.
    """

    guidance: float | None = None
    """No weight of guidance of its own: the motion model's was chosen for what this hears."""

    def __init__(self, model: Any, *, normalize: bool = True, floor: float = 1e-7) -> None:
        super().__init__()
        self.model = model.eval()
        self.normalize = normalize
        self.floor = floor
        self.field, self.stride = receptive_field(model.config)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are built from settings and weights: torch refuses to pickle the model itself,
        whose positional convolution has a parametrized weight.
        """
        made_from = self.model.config.to_dict(), self.model.state_dict(), self.normalize, self.floor
        return _built_again, (*made_from, self.model.training)

    @property
    def feature_dim(self) -> int:
        """A, the number of features per frame."""
        return int(self.model.config.hidden_size)

    @property
    def feature_space(self) -> str | None:
        """Whose features these are: encoders with the same name stand for each other before a motion model,
        as one does that was fine-tuned from another (``facetalk train audio --init``). None where nobody
        said."""
        name = getattr(self.model.config, "feature_space", None)
        return name if isinstance(name, str) else None

    def span(self, fps: float) -> int | None:
        """Frames that attention reaches to each side at ``fps``, or None for all."""
        seconds = getattr(self.model.config, "attention_span_s", None)
        return None if seconds is None else max(1, round(float(seconds) * fps))

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike[str], *, device: str | torch.device = "cpu"
    ) -> AudioEncoder:
        """Load any Wav2Vec 2.0 model.

        Args:
            source: folder with ``config.json`` and ``model.safetensors`` (or ``pytorch_model.bin``), or
                ``hf:owner/name`` for a model of the Hugging Face hub; nothing else asks a network.
            device: where to run.

        Raises:
            InputError: the folder is not a Wav2Vec 2.0 model, or is incomplete or damaged.
        """
        model, settings = load_wav2vec2(source)
        normalize = bool(settings.get("do_normalize", True))
        if settings.get("sampling_rate", SAMPLE_RATE) != SAMPLE_RATE:
            raise InputError(
                f"{source}: made for {settings['sampling_rate']} Hz; facetalk needs a {SAMPLE_RATE} Hz model"
            )
        encoder = cls(model, normalize=normalize, floor=float(settings.get("variance_floor", 1e-7)))
        # Settings that only fail, or give NaN, when sound goes through.
        with usable(source, "fetch the model again"):
            probe = np.sin(np.arange(SAMPLE_RATE // 4, dtype=np.float32))
            if not bool(torch.isfinite(encoder.features(probe, fps=25.0)).all()):
                raise ValueError("its features are not finite")
        return encoder.to(device)

    def features(self, samples: Float32 | Tensor, *, fps: float) -> Tensor:
        """Features of a whole recording.

        Args:
            samples: (N,) 16 kHz mono.
            fps: motion frame rate.

        Returns:
            (T, A) float32 with T = ``frame_count(N, fps)``.

        Raises:
            InputError: samples of another shape, none at all, not finite, or a frame rate out of range.
        """
        array = np.asarray(samples, np.float32)
        if array.ndim != 1 or len(array) == 0:
            raise InputError(f"features need samples of shape (N,) with N >= 1, got {array.shape}")
        return torch.cat(list(self.stream([array], fps, level=Level.of([array]) if self.normalize else None)))

    @plainly
    @torch.inference_mode()
    def stream(
        self, blocks: Iterable[Float32], fps: float, *, level: Level | None = None
    ) -> Iterator[Tensor]:
        """Features of a recording that comes in blocks, in bounded memory.

        The result does not depend on how the sound is cut into blocks. Where the model normalises, every
        window is normalised by the same ``level``, as the model's own preprocessor does with a whole clip;
        read a file twice to measure it (``Level.of(reader)``). Without one, a window is normalised by
        everything up to its end: the only way when the recording is not over yet, and the same for a clip of
        up to 18 s.

        Args:
            blocks: 16 kHz mono pieces of the recording.
            fps: motion frame rate.
            level: mean and variance of the whole recording.

        Yields:
            (t, A) float32, whose concatenation has ``frame_count(N, fps)`` rows.
        """
        if not (np.isfinite(fps) and 1.0 <= fps <= 1000.0):
            raise InputError(f"frame rate must be between 1 and 1000 fps, got {fps}")
        # Windows start on the extractor's grid, so that a frame sees the same samples in every window.
        hop = round((WINDOW_S - 2 * CONTEXT_S) * SAMPLE_RATE / self.stride) * self.stride
        context = round(CONTEXT_S * SAMPLE_RATE / self.stride) * self.stride
        # Samples from `origin` on, as they are and high-passed.
        buffer, origin = np.zeros((2, 0), np.float32), 0
        filtered = HighPass() if self.normalize else None
        start, done = 0, 0
        known, level = level is not None, level or Level()
        for block in blocks:
            piece = np.asarray(block, np.float32)
            if not np.isfinite(piece).all():
                raise InputError("audio has a NaN or infinite sample; repair the recording")
            both = np.stack([piece, piece if filtered is None else filtered(piece).astype(np.float32)])
            buffer = np.concatenate([buffer, both], axis=1)
            # One sample more than the window needs proves that this is not the end.
            while origin + buffer.shape[1] > start + hop + context + self.field:
                end = start + hop
                last = _frames_before(end, fps)
                yield self._window(buffer, origin, end + context, done, last, fps, level, known)
                done, start = last, end
                keep = max(0, start - context - self.field)
                buffer, origin = buffer[:, keep - origin :], keep
        total = origin + buffer.shape[1]
        if total == 0:
            raise InputError("audio has no samples")
        frames = frame_count(total, fps)
        if frames > done:
            yield self._window(buffer, origin, total, done, frames, fps, level, known)

    def _window(
        self,
        buffer: Float32,
        origin: int,
        end: int,
        first: int,
        last: int,
        fps: float,
        level: Level,
        known: bool,
    ) -> Tensor:
        """Features of frames ``first`` to ``last`` from the samples up to ``end``."""
        context = round(CONTEXT_S * SAMPLE_RATE / self.stride) * self.stride
        at = max(0, int((first + 0.5) / fps * SAMPLE_RATE) // self.stride * self.stride - context)
        # (field - stride) / 2 samples on each side centre frame k of the extractor on its stride.
        margin = (self.field - self.stride) // 2
        length = -(-max(end - at, 1) // self.stride) * self.stride
        low, high = at - margin, at + length + self.field - self.stride - margin
        wave = np.zeros(high - low, np.float32)
        a, b = max(low, origin), min(high, origin + buffer.shape[1])
        part = buffer[:, a - origin : b - origin]
        if self.normalize:
            if not known:
                level.update(buffer[0, : max(0, end - origin)], origin)
            sound = part[1] if level.rumbles else part[0] - level.mean
            wave[a - low : b - low] = sound * level.scale(a, b, self.floor)
        else:
            wave[a - low : b - low] = part[0]
        begin = min(first, _frames_before(at, fps))
        stop = max(last, _frames_before(end, fps))
        times = (torch.arange(begin, stop, dtype=torch.float64) + 0.5) / fps
        positions = (times * SAMPLE_RATE - at - self.stride / 2) / self.stride
        weight = next(self.model.parameters())
        data = torch.from_numpy(wave)[None].to(weight.device, weight.dtype)
        hidden = hidden_states(self.model, data, positions.to(weight.device), self.span(fps))
        return hidden[0, first - begin : last - begin].float()


@loading
def _built_again(
    settings: dict[str, Any], state: dict[str, Tensor], normalize: bool, floor: float, training: bool
) -> AudioEncoder:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    with torch.device("meta"):  # the weights come from the state
        model = Wav2Vec2Model(Wav2Vec2Config.from_dict(settings))
    model.load_state_dict(state, assign=True)
    encoder = AudioEncoder(model, normalize=normalize, floor=floor)
    encoder.model.train(training)
    return encoder


def _frames_before(sample: int, fps: float) -> int:
    """Number of frames whose centre lies before a sample index."""
    return max(0, int(np.ceil(sample / SAMPLE_RATE * fps - 0.5)))
