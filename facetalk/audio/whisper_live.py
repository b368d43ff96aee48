"""Whisper hears sound that is still going on: each frame when what lies a little ahead of it was heard.

Of a recording Whisper hears many seconds to both sides of a frame. Of sound that arrives, frame ``i`` is
given when the sound up to ``look_ahead`` seconds after its middle is there, and is a function of that sound
alone, so it does not matter in which pieces it came:

* The sound is normalised by a level of what was heard until then, as for the model's own encoder
  (:mod:`facetalk.audio.live`), and brought to the loudness of recordings.
* Whisper hears, anew for every frame, the 2 s before the last whole 20 ms that are known: before the sound's
  beginning is silence, and after its end nothing.
* Layers of the adapter that were trained for windows that end so (``facetalk train whisper --live``) take
  what it hears to features, which are read at the frame's middle.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from facetalk.ambient import plainly
from facetalk.arguments import check_whisper_ahead, look_ahead_seconds
from facetalk.arrays import Float32
from facetalk.audio.live import Arriving, is_due, waits_for
from facetalk.audio.voicing import HOP
from facetalk.audio.whisper_encoder import LOUDNESS, WINDOW_S, Layers, WhisperEncoder, at_times, smoothed
from facetalk.errors import InputError
from facetalk.units import SAMPLE_RATE, frame_count

_WINDOW = round(WINDOW_S * SAMPLE_RATE)
_AT_ONCE = 32
"""Windows that are heard in one batch, where that many frames are ready."""


class LiveWhisper:
    """Features of sound that arrives bit by bit, by Whisper.

    Args:
        encoder: Whisper with an adapter that has layers for live sound.
        fps: motion frame rate.
        look_ahead: seconds after a frame's middle that are heard before it is given, 0 to 1.

    Raises:
        InputError: the adapter hears whole recordings alone, or the look-ahead is out of range.
    """

    def __init__(self, encoder: WhisperEncoder, fps: float, look_ahead: float) -> None:
        self._layers = live_layers(encoder)
        self.look_ahead = look_ahead_seconds(look_ahead)
        check_whisper_ahead(self.look_ahead)
        self.encoder, self.fps = encoder, fps
        self._arriving = Arriving(encoder.floor)
        # Silence before the beginning, and then what is still needed of the sound.
        self._sound, self._start = np.zeros(_WINDOW, np.float32), -_WINDOW
        self._done = 0

    @plainly
    @torch.inference_mode()
    def push(self, samples: Float32) -> Tensor:
        """Take (n,) samples of 16 kHz, give the features (m, A) of the frames that they complete.

        Raises:
            InputError: samples of another shape, or not finite.
        """
        self._keep(self._arriving.push(samples))
        last = self._done
        while is_due(last, self._arriving.count, self.fps, self.look_ahead):
            last += 1
        return self._give(last)

    @plainly
    @torch.inference_mode()
    def finish(self) -> Tensor:
        """The features of the frames that were still waiting: silence follows the sound for them."""
        total = self._arriving.count
        frames = frame_count(total, self.fps) if total else 0
        self._keep(self._arriving.finish()[: total % HOP])  # what filled it up is no sound
        missing = waits_for(frames, self.fps, self.look_ahead) - self._start - len(self._sound)
        self._keep(np.zeros(max(0, missing), np.float32))
        return self._give(max(frames, self._done))

    def _keep(self, normalised: Float32) -> None:
        self._sound = np.concatenate([self._sound, np.float32(LOUDNESS) * normalised])

    def _give(self, last: int) -> Tensor:
        """Features up to frame ``last``; what no later frame needs of the sound is dropped."""
        out = [torch.zeros(0, self.encoder.feature_dim)]
        while self._done < last:
            frames = range(self._done, min(last, self._done + _AT_ONCE))
            out.append(self._features(frames))
            self._done = frames.stop
        keep = self._window_start(self._done)
        self._sound = self._sound[max(0, keep - self._start) :]
        self._start = max(self._start, keep)
        return torch.cat(out)

    def _window_start(self, frame: int) -> int:
        return waits_for(frame, self.fps, self.look_ahead) // HOP * HOP - _WINDOW

    def _features(self, frames: range) -> Tensor:
        starts = [self._window_start(frame) for frame in frames]
        windows = np.stack([self._sound[at - self._start :][:_WINDOW] for at in starts])
        heard = self.encoder.adapter.reduce(self.encoder.whisper.exactly(windows))
        rows = smoothed(self._layers(heard))
        middles = (torch.tensor([*frames], dtype=torch.float64) + 0.5) / self.fps
        times = (middles - torch.tensor(starts, dtype=torch.float64) / SAMPLE_RATE).float().to(rows.device)
        found = [at_times(row, time[None]) for row, time in zip(rows, times, strict=True)]
        return torch.cat(found).float().cpu()


def live_layers(encoder: WhisperEncoder) -> Layers:
    """The adapter's layers for live sound.

    Raises:
        InputError: it has none.
    """
    if encoder.adapter.live is None:
        raise InputError(
            "this model's adapter for Whisper hears whole recordings alone; facetalk train whisper --live "
            "makes one that hears live sound too, or take the model's own encoder"
        )
    return encoder.adapter.live
