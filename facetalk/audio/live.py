"""Features of sound that is still going on: each frame as soon as what lies a little ahead of it was heard.

A recording's level is known when it is over, and its encoder looks at the whole of it. Of sound that
arrives, frame ``i`` is given when the sound up to ``look_ahead`` seconds after its middle is there, and is a
function of that sound alone, so it does not matter in which pieces it came:

* The level is measured every 20 ms from what was heard until then (:class:`RunningLevel`), and each 20 ms of
  sound are normalised once, when they come.
* The convolutions run once over every frame of theirs whose samples are all there.
* The transformer runs anew for every motion frame, over as much of the past as can reach it, and over the
  frames ahead of it that are known.

The C++ runtime (``csrc/cpu/network/features_live.cpp``) does the same in the same order; this is its
reference.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import torch
from torch import Tensor

from facetalk.ambient import plainly
from facetalk.arguments import look_ahead_seconds
from facetalk.arrays import Float32, Float64
from facetalk.audio.encoder import AudioEncoder, encode_frames
from facetalk.audio.level import (
    ENOUGH,
    RANGE_DB,
    REACH,
    RUMBLE_HZ,
    RUMBLES,
    SCALE_FLOOR,
    SPREAD_DB,
    HighPass,
    blend_levels,
)
from facetalk.audio.voicing import FRAME, HOP, measure
from facetalk.errors import InputError
from facetalk.units import SAMPLE_RATE, frame_count

MEMORY_S = 30.0
"""Time constant in which the variance of all sound forgets."""
PRIOR_S = 1.0
"""Sound that is taken to have been heard before the first, lest the first breath be taken for speech."""
PRIOR_DB = -25.0
"""Its level: speech at a usual gain."""
RING = 3000
"""Measurements that are kept, one minute, so that an hour takes no more memory."""


class RunningLevel:
    """Level of sound that is not over: the rules of :class:`facetalk.audio.level.Level` over the last minute,
    beside a variance that forgets.

    Args:
        floor: variance below which sound is not raised, unless there is speech in it.
    """

    def __init__(self, floor: float) -> None:
        self._lowest = _decibels(floor)
        self._high_pass, self._band = HighPass(), HighPass(RUMBLE_HZ)
        self._waiting = np.zeros(0)
        self._count = PRIOR_S * SAMPLE_RATE
        self._total = 0.0
        self._squares = self._squares_above = self._count * 10.0 ** (PRIOR_DB / 10.0)
        self._heard: deque[tuple[float, bool]] = deque(maxlen=RING)
        self._local: float | None = None
        self._before = (PRIOR_DB, 0.0, 0.0)

    def normalise(self, samples: Float32) -> Float32:
        """The next ``HOP`` samples, brought to unit variance; gains change linearly in dB within them."""
        sound = samples.astype(np.float64)
        above = self._high_pass(sound)
        after = self._measure(sound, above)
        part = (np.arange(HOP) + 1.0) / HOP
        decibels, mean, rumble = (a + (b - a) * part for a, b in zip(self._before, after, strict=True))
        self._before = after
        mixed = rumble * above + (1.0 - rumble) * (sound - mean)
        return (mixed / np.sqrt(10.0 ** (decibels / 10.0) + SCALE_FLOOR)).astype(np.float32)

    def _measure(self, sound: Float64, above: Float64) -> tuple[float, float, float]:
        """Level in dB, mean, and 1 where there is rumble, after these samples."""
        keep = math.exp(-HOP / SAMPLE_RATE / MEMORY_S)
        self._count = self._count * keep + HOP
        self._total = self._total * keep + float(sound.sum())
        self._squares = self._squares * keep + float((sound**2).sum())
        self._squares_above = self._squares_above * keep + float((above**2).sum())
        self._waiting = np.concatenate([self._waiting, self._band(sound)])
        if len(self._waiting) >= FRAME:
            decibels, voiced = measure(self._waiting[:FRAME])
            self._heard.append((float(decibels[0]), bool(voiced[0])))
            self._waiting = self._waiting[HOP:]
        mean = self._total / self._count
        variance = max(0.0, self._squares / self._count - mean * mean)
        power_above = self._squares_above / self._count
        rumbles = variance > RUMBLES * power_above
        return self._level(_decibels(power_above if rumbles else variance)), mean, float(rumbles)

    def _level(self, whole: float) -> float:
        decibels = np.array([value for value, _ in self._heard])
        voiced = np.array([flag for _, flag in self._heard], bool)
        loudest = float(np.percentile(decibels[voiced], 90)) if voiced.sum() >= ENOUGH else -np.inf
        speech = voiced & (decibels > loudest - RANGE_DB)
        recent = decibels[-REACH:][speech[-REACH:]]
        if len(recent) >= ENOUGH:
            self._local = float(np.median(recent))
        spread = float(np.ptp(np.percentile(decibels[speech], [10, 90]))) if speech.any() else 0.0
        if self._local is None or spread < SPREAD_DB:
            return max(whole, self._lowest)
        return float(blend_levels(whole, np.array(self._local)))


class Arriving:
    """Sound that arrives bit by bit, given on in whole hops of ``HOP`` samples that are normalised once.

    Args:
        floor: of :class:`RunningLevel`; None leaves the sound as it is.
    """

    def __init__(self, floor: float | None) -> None:
        self._level = None if floor is None else RunningLevel(floor)
        self._pending = np.zeros(0, np.float32)
        self.count = 0
        """Samples that came, those of a hop that is not whole among them."""

    def push(self, samples: Float32) -> Float32:
        """Take (n,) samples of 16 kHz, give those of the hops that they complete.

        Raises:
            InputError: samples of another shape, or not finite.
        """
        sound = np.asarray(samples, np.float32)
        if sound.ndim != 1 or not np.isfinite(sound).all():
            raise InputError(f"samples must be finite and of shape (N,), got {sound.shape}")
        self.count += len(sound)
        return self._hops(sound)

    def finish(self) -> Float32:
        """The last hop, filled up with silence; (0,) where none has begun."""
        return self._hops(np.zeros(-len(self._pending) % HOP, np.float32))

    def _hops(self, sound: Float32) -> Float32:
        sound = np.concatenate([self._pending, sound])
        whole = len(sound) // HOP * HOP
        self._pending = sound[whole:]
        if self._level is None:
            return sound[:whole]
        hops = [self._level.normalise(hop) for hop in sound[:whole].reshape(-1, HOP)]
        return np.concatenate([np.zeros(0, np.float32), *hops])


def waits_for(frame: int, fps: float, look_ahead: float) -> int:
    """Samples that a motion frame waits for; rounding adds none."""
    return math.ceil(((frame + 0.5) / fps + look_ahead) * SAMPLE_RATE - 1e-6)


def is_due(frame: int, heard: int, fps: float, look_ahead: float) -> bool:
    """Whether a motion frame of a clip that goes on can be given when so many samples were heard.

    Sound may end in the very middle of a frame, which is one of the clip's or not by how ``frame_count``
    rounds; without a look-ahead it waits until it is.
    """
    return waits_for(frame, fps, look_ahead) <= heard and frame < frame_count(heard, fps)


class LiveFeatures:
    """Features of sound that arrives bit by bit.

    Args:
        encoder: the audio encoder; its attention and its normalisation must not span the whole recording.
        fps: motion frame rate.
        look_ahead: seconds after a frame's middle that are heard before it is given, 0 to 60.

    Raises:
        InputError: the encoder cannot hear so, or the look-ahead is out of range.
    """

    def __init__(self, encoder: AudioEncoder, fps: float, look_ahead: float) -> None:
        look_ahead = look_ahead_seconds(look_ahead)
        span, config = encoder.span(fps), encoder.model.config
        if span is None or config.feat_extract_norm != "layer":
            raise InputError(
                "this model's audio encoder attends to, or normalises over, the whole recording, so it "
                "cannot hear live; let it hear the whole recording, or take a model whose encoder has "
                "attention_span_s and feat_extract_norm 'layer'"
            )
        self.encoder, self.fps, self.look_ahead, self._span = encoder, fps, look_ahead, span
        # What reaches a frame through all layers and the convolution of positions.
        self._past = span * int(config.num_hidden_layers) + int(config.num_conv_pos_embeddings) // 2
        self._arriving = Arriving(encoder.floor if encoder.normalize else None)
        self._margin = (encoder.field - encoder.stride) // 2
        self._sound, self._sound_start = np.zeros(0, np.float32), 0
        self._extracted: Tensor | None = None
        self._extracted_start, self._extracted_count = 0, 0
        self._done = 0

    @plainly
    @torch.inference_mode()
    def push(self, samples: Float32) -> Tensor:
        """Take (n,) samples of 16 kHz, give the features (m, A) of the frames that they complete.

        Raises:
            InputError: samples of another shape, or not finite.
        """
        self._sound = np.concatenate([self._sound, self._arriving.push(samples)])
        out = [torch.zeros(0, self.encoder.feature_dim)]
        while is_due(self._done, self._arriving.count, self.fps, self.look_ahead):
            known = waits_for(self._done, self.fps, self.look_ahead) // HOP * HOP
            frames = max(self._complete(known), 1)
            self._extract(frames, known)
            seconds = (frames - 0.5) * self.encoder.stride / SAMPLE_RATE
            edge = math.floor(seconds * self.fps - 0.5 + 1e-9) + 1
            out.append(self._give(self._done + 1, max(edge, self._done + 1), frames))
        return torch.cat(out)

    @plainly
    @torch.inference_mode()
    def finish(self) -> Tensor:
        """The features of the frames that were still waiting."""
        total = self._arriving.count
        frames = frame_count(total, self.fps) if total else 0
        if frames <= self._done:
            return torch.zeros(0, self.encoder.feature_dim)
        self._sound = np.concatenate([self._sound, self._arriving.finish()])
        extracted = -(-total // self.encoder.stride)
        self._extract(extracted, total)
        return self._give(frames, frames, extracted)

    def _complete(self, samples: int) -> int:
        """Frames of the extractor whose samples are all among the first ``samples``."""
        return max(0, (samples + self._margin - self.encoder.field) // self.encoder.stride + 1)

    def _extract(self, frames: int, samples: int) -> None:
        """Extract up to ``frames``; samples from ``samples`` on are taken for silence."""
        count, stride = frames - self._extracted_count, self.encoder.stride
        if count <= 0:
            return
        low = self._extracted_count * stride - self._margin
        high = low + (count - 1) * stride + self.encoder.field
        wave = np.zeros(high - low, np.float32)
        a, b = max(low, 0), min(high, samples, self._sound_start + len(self._sound))
        wave[a - low : max(a, b) - low] = self._sound[a - self._sound_start : max(a, b) - self._sound_start]
        weight = next(self.encoder.model.parameters())
        data = torch.from_numpy(wave)[None].to(weight.device, weight.dtype)
        fresh = self.encoder.model.feature_extractor(data)[0].T
        self._extracted = fresh if self._extracted is None else torch.cat([self._extracted, fresh])
        self._extracted_count = frames
        keep = max(0, frames * stride - self._margin)
        self._sound = self._sound[max(0, keep - self._sound_start) :]
        self._sound_start = max(self._sound_start, keep)

    def _give(self, last: int, edge: int, extracted: int) -> Tensor:
        """Features up to frame ``last``, from motion up to ``edge`` and ``extracted`` extractor frames."""
        assert self._extracted is not None
        begin = max(0, self._done - self._past)
        times = (torch.arange(begin, edge, dtype=torch.float64) + 0.5) / self.fps
        positions = (times * SAMPLE_RATE - self.encoder.stride / 2) / self.encoder.stride
        base = max(self._extracted_start, int(positions[0]))
        seen = self._extracted[
            base - self._extracted_start : max(extracted, base + 1) - self._extracted_start
        ]
        place = (positions - base).to(self._extracted.device)
        hidden = encode_frames(self.encoder.model, seen[None], place, self._span)
        out = hidden[0, self._done - begin : last - begin].float().cpu()
        self._done = last
        keep = max(
            0, int(((max(0, last - self._past) + 0.5) / self.fps * SAMPLE_RATE) / self.encoder.stride - 0.5)
        )
        if keep - self._extracted_start > 256:
            self._extracted = self._extracted[keep - self._extracted_start :].clone()
            self._extracted_start = keep
        return out


def _decibels(power: float) -> float:
    return 10.0 * math.log10(max(power, 1e-12))
