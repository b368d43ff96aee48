"""``facetalk train tongue``: a small network that reads contacts of the tongue's tip from audio features.

The features are those of a model's own encoder, of clean and of spoiled speech, and of sound without speech.
Hearing takes nearly all of the time, a minute or two; so when an encoder was trained on, its tongue is simply
trained again.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from facetalk.arrays import Float32
from facetalk.data.speech.corpus import Utterance, read_manifest
from facetalk.data.tongue import CONTACTS, contacts
from facetalk.errors import InputError
from facetalk.tongue import FOLDER, TongueNetwork
from facetalk.training.audio.augment import spoil
from facetalk.training.audio.unspoken import unspoken
from facetalk.units import SAMPLE_RATE

Hear = Callable[[Float32], Float32]
"""(N,) samples of 16 kHz to audio features (T, A)."""

_UNSPOKEN_SHARE, _UNSPOKEN_S = 0.08, 6.0
"""Of the speech, how much there is of music and noise over which a tongue lies still, in such pieces."""
_SPOILED_SHARE = 0.5
_RARE, _MISSED = 3.0, 2.0
"""Weights of the contact with the teeth, which is rare, and of missing it, which is worse than making it."""


@dataclasses.dataclass(frozen=True)
class TongueTraining:
    """Settings of a run.

    Attributes:
        corpora: folders with manifests whose utterances have phone times; their split "train" is taken.
        out: ``tongue/`` goes here.
        minutes_heard: minutes of speech to learn from, drawn from all.
        hidden: units of the network.
        steps: optimizer steps.
        batch: frames in a step.
        learning_rate: peak.
        seed: of everything random.
    """

    corpora: tuple[Path, ...]
    out: Path
    minutes_heard: float = 60.0
    hidden: int = 128
    steps: int = 4000
    batch: int = 1024
    learning_rate: float = 3e-3
    seed: int = 0


def train(config: TongueTraining, hear: Hear, fps: float, feature_space: str | None = None) -> dict[str, Any]:
    """Train the network and save it to ``out/tongue``.

    Args:
        config: settings.
        hear: the encoder.
        fps: frames a second of its features.
        feature_space: whose features they are, see :attr:`facetalk.audio.AudioEncoder.feature_space`.

    Returns:
        notes that its config.json holds too.

    Raises:
        InputError: a setting out of range, no corpus, or nothing in it to train on.
    """
    for name in ("hidden", "steps", "batch"):
        if getattr(config, name) < 1:
            raise InputError(f"{name} must be at least 1, got {getattr(config, name)}")
    for name in ("minutes_heard", "learning_rate"):
        if not getattr(config, name) > 0:
            raise InputError(f"{name} must be positive, got {getattr(config, name):g}")
    rng = np.random.default_rng(config.seed)
    utterances = [each for corpus in config.corpora for each in read_manifest(corpus, split="train")]
    if not utterances:
        raise InputError("no utterance of split 'train' there")
    chosen = _drawn(utterances, 60.0 * config.minutes_heard, rng)
    parts = list(_heard(chosen, hear, fps, rng))
    features, targets = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    network = _fit(features, targets, config)
    notes: dict[str, Any] = {
        "contacts": list(CONTACTS),
        "utterances": len(chosen),
        "minutes": round(len(features) / fps / 60.0, 1),
        "steps": config.steps,
        "seed": config.seed,
    }
    if feature_space is not None:
        notes["feature_space"] = feature_space
    config.out.mkdir(parents=True, exist_ok=True)
    network.save(config.out / FOLDER, notes)
    return notes


def _drawn(utterances: Sequence[Utterance], seconds: float, rng: np.random.Generator) -> list[Utterance]:
    """Utterances of so many seconds, in an order by chance."""
    chosen, total = [], 0.0
    for index in rng.permutation(len(utterances)):
        if total >= seconds:
            break
        chosen.append(utterances[int(index)])
        total += utterances[int(index)].phones[-1][2] if utterances[int(index)].phones else 0.0
    return chosen


def _heard(
    utterances: Sequence[Utterance], hear: Hear, fps: float, rng: np.random.Generator
) -> Iterator[tuple[Float32, Float32]]:
    """Features and contacts: of every utterance clean, of some spoiled, and of sound without speech."""
    bar = tqdm(utterances, "hear", unit="file", disable=not sys.stderr.isatty())
    spoken = 0.0
    for utterance in bar:
        wave = utterance.samples()
        seconds = len(wave) / SAMPLE_RATE
        touch = contacts(utterance.phones, seconds, fps, alphabet=utterance.alphabet)
        yield _cut(hear(wave), touch)
        if rng.random() < _SPOILED_SHARE and np.abs(wave).max() > 1e-4:
            yield _cut(hear(0.1 * spoil(wave, rng)), touch)
        spoken += seconds
    for _ in range(int(_UNSPOKEN_SHARE * spoken / _UNSPOKEN_S)):
        features = hear((0.1 * unspoken(int(_UNSPOKEN_S * SAMPLE_RATE), rng)).astype(np.float32))
        yield features, np.zeros((len(features), len(CONTACTS)), np.float32)


def _cut(features: Float32, touch: Float32) -> tuple[Float32, Float32]:
    count = min(len(features), len(touch))
    return features[:count], touch[:count]


def _fit(features: Float32, targets: Float32, config: TongueTraining) -> TongueNetwork:
    """The network that is nearest to the targets, in cross entropy."""
    torch.manual_seed(config.seed)
    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-3)
    x, y = torch.from_numpy((features - mean) / scale), torch.from_numpy(targets)
    first, second = nn.Linear(features.shape[1], config.hidden), nn.Linear(config.hidden, len(CONTACTS))
    weights = [*first.parameters(), *second.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps)
    draw = np.random.default_rng((config.seed, 1))
    for _ in tqdm(range(config.steps), "fit", unit="step", disable=not sys.stderr.isatty()):
        rows = torch.from_numpy(draw.integers(len(x), size=config.batch))
        odds = second(functional.dropout(functional.silu(first(x[rows])), 0.1))
        loss = functional.binary_cross_entropy_with_logits(
            odds, y[rows], pos_weight=torch.tensor([1.0, _MISSED]), reduction="none"
        )
        loss = (loss * torch.tensor([1.0, _RARE])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    w1, b1, w2, b2 = (each.detach().numpy().astype(np.float64) for each in weights)
    inner = w1 / scale
    layers = (inner, b1 - inner @ mean, w2, b2)
    return TongueNetwork(*(np.ascontiguousarray(layer, np.float32) for layer in layers))
