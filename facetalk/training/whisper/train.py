"""``facetalk train whisper``: the adapter that lets Whisper hear for a model's motion.

Whisper is frozen, and so is the model. Crops, spoiled as recordings are and some of them music or noise, are
heard by Whisper once; the adapter is then held to what fine-tuning an encoder is held to
(:mod:`facetalk.training.audio.finetune`): the features that the model's own encoder has of the clean sound
where the lips that they move are right, lips that are where the phones want them, and phones that linear
heads tell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facetalk.audio.whisper import Whisper
from facetalk.audio.whisper_encoder import LOUDNESS, Adapter, at_times
from facetalk.audio.whisper_weights import FOLDER
from facetalk.data.speech.corpus import Utterance
from facetalk.files import atomic_path
from facetalk.reading import usable
from facetalk.training.audio.finetune_losses import WEIGHTS
from facetalk.training.audio.teachers import principal_components
from facetalk.training.audio.train import Heads
from facetalk.training.loop import TrainingLoop
from facetalk.training.processes import step_generator
from facetalk.training.whisper.heard import wide
from facetalk.training.whisper.live import train_live
from facetalk.training.whisper.settings import CROP_S, GUIDANCE, HELD_OUT_EVERY, Beginning, WhisperTraining
from facetalk.training.workers import Batch
from facetalk.units import DEFAULT_FPS

__all__ = ["WhisperTraining", "train"]

_COMPONENTS, _WIDTH = 96, 96
_BASIS = "basis.npz"
_EDGE = 5
"""Frames at a crop's ends that are not asked for: there Whisper has not heard what is around them."""
_KEPT = ("classes", "curves", "spoken", "cuts", "weight", "features", "heard")
_HEADS_RATE = 3.0
_DECAY = 1e-3
_WEIGHTS = {**WEIGHTS, "features": 0.5, "motion": 0.6}
"""Whisper tells sounds by itself; so more of what it is held to is how today's encoder has the mouth move."""


def train(config: WhisperTraining) -> dict[str, Any]:
    """Train the adapter and save it to ``out/whisper``.

    Returns:
        the last figures, by name.

    Raises:
        InputError: a setting out of range, no corpus or nothing in it, a model that has no student, several
            processes, or a folder with what was heard of something else.
    """
    if config.live:
        return train_live(config)
    begun = Beginning(config, _WEIGHTS)
    encoder, reader, batches, losses, device = (
        begun.encoder, begun.reader, begun.batches, begun.losses, begun.device
    )  # fmt: skip
    adapter = Adapter(_COMPONENTS, _WIDTH, encoder.feature_dim)
    adapter.mean, adapter.basis = _basis(config.out / _BASIS, begun.utterances, begun.whisper)
    # It begins at the mean of what is asked, with the spread of it.
    with torch.no_grad():
        adapter.last.weight.mul_(reader.scale[:, None])
        adapter.last.bias.copy_(reader.mean)
    adapter.to(device)

    @torch.no_grad()
    def hear(batch: Batch) -> Batch:
        asked = losses.targets(losses.placed(batch))
        waves = batch["spoilt"].numpy()[:, batches.margin : batches.margin + batches.length]
        states = begun.whisper([LOUDNESS * wave for wave in waves])
        weight = torch.ones(batch["classes"].shape[:2])
        weight[:, :_EDGE], weight[:, -_EDGE:] = 0.0, 0.0
        heard = torch.stack([adapter.reduce(each) for each in states])
        made = {**batch, "features": asked.features, "heard": heard, "weight": weight}
        return {name: made[name] for name in (*_KEPT, "lower") if name in made}

    kept, held_out = begun.hear(hear, _KEPT)
    heads = Heads(encoder.feature_dim)
    groups = [
        {"params": [p for p in adapter.parameters() if p.requires_grad], "lr": config.learning_rate},
        {"params": list(heads.parameters()), "lr": config.learning_rate * _HEADS_RATE},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=_DECAY)
    modules: dict[str, nn.Module] = {"adapter": adapter, "heads": heads}
    loop = TrainingLoop("whisper", config.out, modules, optimizer, begun.options)
    times = ((torch.arange(batches.frames) + 0.5) / DEFAULT_FPS).to(device)
    figures: dict[str, Tensor] = {}

    def judged(batch: Batch, index: int, seed: int) -> dict[str, Tensor]:
        given = wide(batch, device)
        found = at_times(adapter(given["heard"]), times)
        return losses.judge(found, losses.wanted(given["features"], seed), heads, given, index)

    def step(index: int) -> dict[str, Tensor]:
        if held_out and (index % HELD_OUT_EVERY == 0 or not figures):
            with torch.no_grad():
                told = [judged(batch, index, number) for number, batch in enumerate(held_out)]
            figures.update({f"held_out_{n}": torch.stack([t[n] for t in told]).mean() for n in told[0]})
        rng = step_generator(config.seed, index)
        batch = kept[int(rng.integers(len(kept)))]
        return {**judged(batch, index, int(rng.integers(2**31))), **figures}

    notes: dict[str, object] = {
        "variance_floor": encoder.floor, "feature_space": encoder.feature_space,
        "utterances": len(begun.utterances),
        "heard_minutes": round(config.heard * config.batch * CROP_S / 60, 1), "seed": config.seed,
        "guidance": GUIDANCE,
    }  # fmt: skip

    def save(out: Path) -> None:
        adapter.save(out / FOLDER, notes)

    result = loop.run(step, on_save=save)
    save(config.out)
    return result


def _basis(file: Path, utterances: list[Utterance], whisper: Whisper) -> tuple[Tensor, Tensor]:
    """Mean and principal components of what Whisper hears, on the CPU; kept, as they take a minute."""
    if not file.exists():
        mean, basis = principal_components(utterances, whisper)
        with atomic_path(file) as temporary, temporary.open("wb") as out:
            np.savez(out, mean=mean, basis=basis)
    with usable(file, "delete it, and what was heard beside it"), np.load(file, allow_pickle=False) as arrays:
        return torch.from_numpy(arrays["mean"]), torch.from_numpy(arrays["basis"])
