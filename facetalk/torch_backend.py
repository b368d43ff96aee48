"""Speech to motion by torch: the reference of the C library, any device, any model.

:mod:`facetalk.backend` imports it where it is chosen; nothing else of inference needs torch or transformers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import soxr
import torch

from facetalk.arrays import Float32
from facetalk.audio.encoder import AudioEncoder
from facetalk.audio.level import Level
from facetalk.audio.live import LiveFeatures
from facetalk.audio.whisper_encoder import WhisperEncoder
from facetalk.audio.whisper_live import LiveWhisper
from facetalk.data.expressions import with_upper_face
from facetalk.data.tongue import CONTACTS
from facetalk.diffusion.model import MotionModel
from facetalk.diffusion.stream import MotionStream
from facetalk.errors import InputError
from facetalk.frames import Frames
from facetalk.tongue import TongueNetwork
from facetalk.units import SAMPLE_RATE

__all__ = [
    "AudioEncoder",
    "MotionModel",
    "TorchEngine",
    "UpperFace",
    "as_device",
    "feature_rows",
    "features",
    "usable_device",
]


def usable_device(device: str) -> torch.device:
    """``"auto"`` -> a CUDA device where torch has one, else the CPU; other names as torch has them.

    Raises:
        InputError: the device is not one that torch can use here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} cannot be used: {reason}; use device 'cpu' or 'auto'") from error
    return chosen


def as_device(device: str | torch.device) -> torch.device:
    """A device by its name."""
    return torch.device(device)


def features(
    encoder: AudioEncoder | WhisperEncoder, sound: Iterable[Float32], fps: float
) -> Iterator[torch.Tensor]:
    """Audio features (t, A) of a recording piece by piece, so that memory does not grow with it."""
    level = Level.of(sound) if encoder.normalize else None
    return encoder.stream(sound, fps, level=level)


def feature_rows(
    encoder: AudioEncoder | WhisperEncoder, sound: Float32, fps: float, look_ahead: float
) -> Float32:
    """All audio features (T, A) of (N,) samples of 16 kHz; of an infinite look-ahead, those of the whole."""
    if math.isinf(look_ahead):
        rows = torch.cat(list(features(encoder, [sound], fps)))
    else:
        live = _live(encoder, fps, look_ahead)
        rows = torch.cat([live.push(sound), live.finish()])
    return np.ascontiguousarray(rows.cpu().numpy(), dtype=np.float32)


def _live(
    encoder: AudioEncoder | WhisperEncoder, fps: float, look_ahead: float
) -> LiveFeatures | LiveWhisper:
    if isinstance(encoder, WhisperEncoder):
        return LiveWhisper(encoder, fps, look_ahead)
    return LiveFeatures(encoder, fps, look_ahead)


class UpperFace:
    """The upper face of live sound that something else hears for the mouth.

    Brows, lids and gaze go with the voice more than with the words, and with the features of the encoder that
    they were learned from.

    Args:
        encoder: the model's own.
        stream: a fresh clip of the motion model, with the noise of the mouth's.
        fps: motion frame rate.
        look_ahead: of the mouth, so that both complete the same frames.
        names: (E,) of the curves.
    """

    def __init__(
        self, encoder: AudioEncoder, stream: MotionStream, fps: float, look_ahead: float, names: Sequence[str]
    ) -> None:
        self._features, self._stream, self._names = LiveFeatures(encoder, fps, look_ahead), stream, names

    def push(self, samples: Float32, mouth: Float32) -> Float32:
        """Take the samples (n,) that completed the mouth's curves (m, E), give them with the upper face."""
        return self._joined(mouth, self._stream.push(self._features.push(samples)))

    def finish(self, mouth: Float32) -> Float32:
        """The same of the frames that were still waiting."""
        rest = self._stream.push(self._features.finish())
        return self._joined(mouth, np.concatenate([rest, self._stream.finish()]))

    def _joined(self, mouth: Float32, upper: Float32) -> Float32:
        return with_upper_face(mouth, upper, self._names)


class TorchEngine:
    """Sound to curves by torch.

    Args:
        encoder: the audio encoder.
        stream: a fresh clip of the motion model.
        fps: motion frame rate.
        look_ahead: seconds after a frame's middle that are heard before it is given.
        rate: sampling rate of the sound, Hz.
        tongue: reads its contacts from the features that the motion is given; None of a model without.
        upper: has the upper face where the encoder is not the model's own; else None.
    """

    def __init__(
        self,
        encoder: AudioEncoder | WhisperEncoder,
        stream: MotionStream,
        fps: float,
        look_ahead: float,
        rate: float,
        tongue: TongueNetwork | None = None,
        upper: UpperFace | None = None,
    ) -> None:
        self._upper = upper
        self._features, self._stream = _live(encoder, fps, look_ahead), stream
        self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1) if rate != SAMPLE_RATE else None
        self._taken, self._resampled = 0, 0  # samples, of the one rate and of the other
        # soxr's filter at this quality reaches about as far as the C library's.
        delay = 0.0 if self._resampler is None else 270.0 / max(rate, SAMPLE_RATE)
        self._tongue = tongue
        # Of frames that wait for their curves.
        self._contacts = None if tongue is None else np.zeros((0, len(CONTACTS)), np.float32)
        self.steps, self.guidance = stream.sampler.steps, stream.guidance
        self.latency = look_ahead + stream.denoiser.config.window[1] / fps + delay

    def push(self, samples: Float32) -> Frames:
        """Take (n,) samples, give the frames that are ready."""
        if self._resampler is not None:
            self._taken += len(samples)
            samples = self._resampler.resample_chunk(samples)
            self._resampled += len(samples)
        return self._given(self._heard(samples))

    def finish(self, progress: Callable[[int, int], None] | None = None) -> Frames:
        """The frames that were still waiting."""
        parts = []
        if self._resampler is not None:
            rest = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            if self._taken and not self._resampled + len(rest):
                rest = np.zeros(1, np.float32)  # as of a recording: what is shorter than a sample has a frame
            parts.append(self._heard(rest))
        waiting = np.concatenate([self._sampled(self._features.finish()), self._stream.finish()])
        parts.append(waiting if self._upper is None else self._upper.finish(waiting))
        return self._given(np.concatenate(parts))

    def _heard(self, samples: Float32) -> Float32:
        """The curves that samples of 16 kHz complete."""
        curves = self._sampled(self._features.push(samples))
        return curves if self._upper is None else self._upper.push(samples, curves)

    def _sampled(self, features: torch.Tensor) -> Float32:
        """The curves that the next features (n, A) complete; their contacts are noted."""
        if self._tongue is not None and self._contacts is not None:
            self._contacts = np.concatenate([self._contacts, self._tongue(features.numpy())])
        return self._stream.push(features)

    def _given(self, curves: Float32) -> Frames:
        if self._contacts is None:
            return Frames(curves, None)
        contacts, self._contacts = self._contacts[: len(curves)], self._contacts[len(curves) :]
        return Frames(curves, contacts)
