"""``facetalk train whisper --live``: the layers of an adapter by which Whisper hears live sound.

They begin as those for whole recordings and learn to say, of a window that ends where the sound does, what
those say when they hear on: features, and how the mouth moves by them. Crops are spoiled as for those, cut at
random moments, and heard by Whisper once for every cut. Frames count by what is heard after them, most where
live use has them.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from facetalk.arguments import WHISPER_AHEAD_S
from facetalk.audio.voicing import HOP
from facetalk.audio.whisper_encoder import LOUDNESS, WINDOW_S, Adapter, at_times, smoothed
from facetalk.audio.whisper_weights import FOLDER
from facetalk.errors import InputError
from facetalk.training.audio.finetune_losses import LipReader, ahead_weights, distance
from facetalk.training.loop import TrainingLoop
from facetalk.training.processes import step_generator
from facetalk.training.whisper.heard import wide
from facetalk.training.whisper.settings import HELD_OUT_EVERY, Beginning, WhisperTraining
from facetalk.training.workers import Batch
from facetalk.units import DEFAULT_FPS, SAMPLE_RATE

_CUTS, _TAKEN = 6, 2
"""Moments at which a crop's sound ends, and how many of them a step takes."""
_EARLY = 0.2
"""Share of cuts so near the beginning that a part of the window is silence."""
_LEAST_S, _REST_S = 0.1, 0.5
"""Sound before the earliest cut, and after the latest, of which the whole recording's frames know."""
_GAIN_DB = 2.0
"""Spread of the level of live sound around that of the recording."""
_WINDOW = round(WINDOW_S * SAMPLE_RATE) // HOP
_ROWS = 64
"""Rows of a window that are kept, its last: those of 1 s, and what reaches them through the layers."""
_AFTER = 2
"""Rows after the cut of what is asked for, to read it up to the cut."""
_DECAY = 1e-3
_SHUT_MM, _SHUT = 1.5, 2.0
"""Lips that should be shut count so much more."""
_SHARE = 0.7
"""Of the trained weights in those that are saved; the rest is what they began as, which is right where much
is heard after a frame."""
_WEIGHTS = {"features": 0.5, "motion": 1.0, "gap": 1.0, "lower": 0.5}
_KEPT = ("asked", "moments", "heard")


def train_live(config: WhisperTraining) -> dict[str, Any]:
    """Train the layers for live sound, and save the adapter with them to ``out/whisper``.

    Returns:
        the last figures, by name.

    Raises:
        InputError: see :class:`~facetalk.training.whisper.settings.Beginning`; or the model's adapter has
            other features than its encoder.
    """
    begun = Beginning(config, _WEIGHTS)
    adapter, told = Adapter.load(begun.model / FOLDER)
    if adapter.sizes["features"] != begun.encoder.feature_dim:
        raise InputError(f"{begun.model / FOLDER} gives the features of another encoder than the model's")
    adapter.to(begun.device)
    layers = adapter.begin_live().to(begun.device).train()
    ear = _Ear(begun, adapter)
    kept, held_out = begun.hear(ear, _KEPT)
    optimizer = torch.optim.AdamW(
        layers.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=_DECAY
    )
    loop = TrainingLoop("whisper", config.out, {"layers": layers}, optimizer, begun.options)
    figures: dict[str, Tensor] = {}

    def judged(batch: Batch, taken: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
        given = wide(batch, begun.device)
        crops = torch.arange(len(taken), device=begun.device)[:, None]
        heard, moments = given["heard"][crops, taken].flatten(0, 1), given["moments"][crops, taken].flatten()
        rows = torch.arange(-_WINDOW, _AFTER, device=begun.device) + moments[:, None]
        asked = given["asked"].repeat_interleave(taken.shape[1], 0)
        asked = asked[torch.arange(len(asked))[:, None], rows.clamp(min=0)]
        times = (torch.arange(round(WINDOW_S * DEFAULT_FPS)) + rng.random()).to(begun.device) / DEFAULT_FPS
        ahead = WINDOW_S - times
        wanted = at_times(asked, times)
        found = at_times(smoothed(layers(heard)), times - (_WINDOW - _ROWS) * HOP / SAMPLE_RATE)
        late = ahead <= WHISPER_AHEAD_S
        found = torch.where(late[:, None], found, wanted)
        begins = WINDOW_S - moments[:, None] * HOP / SAMPLE_RATE
        weight = ahead_weights(ahead) * late * (times >= begins)
        return _judged(begun, found, wanted, weight, int(rng.integers(2**31)))

    def step(index: int) -> dict[str, Tensor]:
        if held_out and (index % HELD_OUT_EVERY == 0 or not figures):
            with torch.no_grad():
                all_cuts = torch.arange(_CUTS, device=begun.device).expand(config.batch, -1)
                each = [judged(b, all_cuts, np.random.default_rng(n)) for n, b in enumerate(held_out)]
            figures.update({f"held_out_{n}": torch.stack([t[n] for t in each]).mean() for n in each[0]})
        rng = step_generator(config.seed, index)
        batch = kept[int(rng.integers(len(kept)))]
        taken = rng.permuted(np.tile(np.arange(_CUTS), (config.batch, 1)), axis=1)[:, :_TAKEN]
        return {**judged(batch, torch.from_numpy(taken).to(begun.device), rng), **figures}

    def save(out: Path) -> None:
        kept, trained = copy.deepcopy(adapter), layers.state_dict()
        live = kept.begin_live().to(begun.device)
        blend = {name: torch.lerp(value, trained[name], _SHARE) for name, value in live.state_dict().items()}
        live.load_state_dict(blend)
        kept.save(out / FOLDER, told)

    result = loop.run(step, on_save=save)
    save(config.out)
    return result


class _Ear:
    """What is kept of a batch: its crops heard as a whole by the frozen adapter, and in windows that end."""

    def __init__(self, begun: Beginning, adapter: Adapter) -> None:
        self._begun, self._adapter = begun, adapter

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Batch:
        begun, adapter = self._begun, self._adapter
        margin, length = begun.batches.margin, begun.batches.length
        waves = LOUDNESS * batch["spoilt"].numpy()[:, margin : margin + length]
        states = begun.whisper(list(waves))
        asked = smoothed(adapter(torch.stack([adapter.reduce(each) for each in states])))
        rng = np.random.default_rng(int(batch["seed"]))
        moments = np.stack([_moments(rng, length // HOP) for _ in waves])
        gains = 10.0 ** (rng.normal(0.0, _GAIN_DB, moments.shape) / 20.0)
        before = np.pad(waves, ((0, 0), (_WINDOW * HOP, 0)))
        windows = [
            gain * wave[at * HOP : (at + _WINDOW) * HOP]
            for wave, ends, loud in zip(before, moments, gains, strict=True)
            for at, gain in zip(ends, loud, strict=True)
        ]
        heard = adapter.reduce(begun.whisper.exactly(np.stack(windows).astype(np.float32)))
        return {
            "asked": asked, "moments": torch.from_numpy(moments),
            "heard": heard[:, -_ROWS:].unflatten(0, moments.shape),
        }  # fmt: skip


def _moments(rng: np.random.Generator, hops: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Where the sound of a crop of so many hops ends, in hops."""
    per_second = SAMPLE_RATE // HOP
    early = rng.integers(round(_LEAST_S * per_second), _WINDOW, _CUTS)
    later = rng.integers(_WINDOW, hops - round(_REST_S * per_second), _CUTS)
    return np.where(rng.random(_CUTS) < _EARLY, early, later)


def _judged(begun: Beginning, found: Tensor, wanted: Tensor, weight: Tensor, seed: int) -> dict[str, Tensor]:
    """All terms for features found (B, T, A), where others are wanted and frames have weights (B, T)."""
    reader: LipReader = begun.reader
    asked = begun.losses.wanted(wanted, seed)
    motion, gap, lower = reader(found, asked.noise)

    def mean(values: Tensor) -> Tensor:
        return (values * weight).sum() / weight.sum()

    off = functional.smooth_l1_loss(gap, asked.gap, reduction="none", beta=0.5)
    terms = {
        "features": mean((((found - wanted) / reader.scale) ** 2).mean(-1)),
        "motion": mean(((motion - asked.motion) ** 2).sum(-1) / (reader.matters**2).sum()),
        "gap": mean(off * torch.where(asked.gap < _SHUT_MM, _SHUT, 1.0)),
    }
    if lower is not None and asked.lower is not None:
        terms["lower"] = mean(distance(lower, asked.lower))
    loss = torch.stack([_WEIGHTS[name] * value for name, value in terms.items()]).sum()
    return {"loss": loss, **terms, "gap_error_mm": mean((gap - asked.gap).abs())}
