"""``facetalk train whisper``: the adapter that lets Whisper hear for a model's motion.

Whisper is frozen, and so is the model. Crops, spoiled as recordings are and some of them music or noise, are
heard by Whisper once; the adapter is then held to what fine-tuning an encoder is held to
(:mod:`facetalk.training.audio.finetune`): the features that the model's own encoder has of the clean sound
where the lips that they move are right, lips that are where the phones want them, and phones that linear
heads tell.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facetalk.audio.encoder import AudioEncoder
from facetalk.audio.whisper import Whisper
from facetalk.audio.whisper_encoder import LAYERS, Adapter, at_times
from facetalk.audio.whisper_weights import FOLDER
from facetalk.data.speech.corpus import Utterance, read_manifest
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.models import find_model
from facetalk.reading import read_json, usable
from facetalk.training.audio.finetune_batches import Batches
from facetalk.training.audio.finetune_losses import WEIGHTS, LipReader, Losses
from facetalk.training.audio.teachers import principal_components
from facetalk.training.audio.train import AudioTraining, Heads, Speech
from facetalk.training.checkpoint import make_out
from facetalk.training.loop import LoopOptions, TrainingLoop
from facetalk.training.processes import check_workers, process_count, step_generator
from facetalk.training.resume import check_resume
from facetalk.training.whisper.heard import Heard, wide
from facetalk.training.workers import Batch
from facetalk.units import DEFAULT_FPS

_COMPONENTS, _WIDTH = 96, 96
_HEARD, _BASIS, _DRAWN = "heard", "basis.npz", "drawn.json"
_HELD_OUT, _HELD_OUT_EVERY, _HELD_OUT_NUMBER, _HELD_OUT_BATCHES = 96, 100, 2**31, 6
_CROP_S = 4.8
"""With the silence that Whisper is given after a recording just under what it is rounded to, 6 s."""
_HEADS_RATE = 3.0
_DECAY = 1e-3
_WEIGHTS = {**WEIGHTS, "features": 0.5, "motion": 0.6}
"""Whisper tells sounds by itself; so more of what it is held to is how today's encoder has the mouth move."""


@dataclasses.dataclass(frozen=True)
class WhisperTraining:
    """Settings of a run.

    Attributes:
        corpora: folders with manifests whose utterances have phone times.
        out: ``whisper/``, checkpoints and what was heard go here.
        init: the model, by name or folder, whose features are asked for.
        heard: batches that are drawn and heard; the training goes round in them.
        weights: Whisper's, where the package that brings them is not installed.
    """

    corpora: tuple[Path, ...]
    out: Path
    init: str = "default"
    heard: int = 700
    steps: int = 6000
    minutes: float | None = None
    batch: int = 8
    learning_rate: float = 1e-3
    seed: int = 0
    workers: int = 0
    weights: Path | None = None
    resume: bool = False


def train(config: WhisperTraining) -> dict[str, Any]:
    """Train the adapter and save it to ``out/whisper``.

    Returns:
        the last figures, by name.

    Raises:
        InputError: a setting out of range, no corpus or nothing in it, a model that has no student, several
            processes, or a folder with what was heard of something else.
    """
    for name in ("heard", "batch", "learning_rate"):
        if not getattr(config, name) > 0:
            raise InputError(f"{name} must be above 0, got {getattr(config, name):g}")
    check_workers(config.workers)
    options = LoopOptions(
        steps=config.steps, max_minutes=config.minutes, warmup=min(100, config.steps // 20 + 1),
        clip_norm=1.0, seed=config.seed, resume=config.resume,
    )  # fmt: skip
    options.check("whisper")
    if process_count() > 1:
        raise InputError("train whisper runs in one process; start it without a launcher")
    check_resume(config.out, config.resume, marks=("checkpoint", "checkpoint.old", _DRAWN))
    make_out(config.out, FOLDER, lambda folder: (folder / "config.json").is_file())
    folder = find_model(config.init).folder
    encoder = AudioEncoder.from_pretrained(folder / "audio")
    reader, lower = LipReader.of_model(folder)
    utterances = [each for corpus in config.corpora for each in read_manifest(corpus, split="train")]
    if not utterances:
        raise InputError("no utterance of split 'train' there")
    unheard = [each for corpus in config.corpora for each in read_manifest(corpus, split="valid")]
    unheard = unheard[:: max(1, len(unheard) // _HELD_OUT)]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    whisper = Whisper(config.weights, device)
    _check_drawn(config, folder)

    torch.manual_seed(config.seed)
    adapter = Adapter(_COMPONENTS, _WIDTH, encoder.feature_dim)
    adapter.mean, adapter.basis = _basis(config.out / _BASIS, utterances, whisper)
    # It begins at the mean of what is asked, with the spread of it.
    with torch.no_grad():
        adapter.last.weight.mul_(reader.scale[:, None])
        adapter.last.bias.copy_(reader.mean)
    sizes = AudioTraining(config.corpora[0], config.out, batch=config.batch, crop_s=_CROP_S, seed=config.seed)
    batches = Batches(Speech(utterances, lower, config.workers), sizes, encoder, cuts=0)
    losses = Losses(encoder, reader, batches, device, _WEIGHTS)
    ear = Heard(batches, losses, whisper, adapter.to(device), config.out / _HEARD)
    kept = ear.gather(range(config.heard), config.workers)
    held_out: list[Batch] = []
    if unheard:
        other = Batches(Speech(unheard, lower), sizes, encoder, cuts=0)
        place = config.out / f"{_HEARD}-held-out"
        some = range(_HELD_OUT_NUMBER, _HELD_OUT_NUMBER + _HELD_OUT_BATCHES)
        held_out = Heard(other, losses, whisper, adapter, place).gather(some)

    heads = Heads(encoder.feature_dim)
    groups = [
        {"params": [p for p in adapter.parameters() if p.requires_grad], "lr": config.learning_rate},
        {"params": list(heads.parameters()), "lr": config.learning_rate * _HEADS_RATE},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=_DECAY)
    modules: dict[str, nn.Module] = {"adapter": adapter, "heads": heads}
    loop = TrainingLoop("whisper", config.out, modules, optimizer, options)
    times = ((torch.arange(batches.frames) + 0.5) / DEFAULT_FPS).to(device)
    figures: dict[str, Tensor] = {}

    def judged(batch: Batch, index: int, seed: int) -> dict[str, Tensor]:
        given = wide(batch, device)
        found = at_times(adapter(given["heard"]), times)
        return losses.judge(found, losses.wanted(given["features"], seed), heads, given, index)

    def step(index: int) -> dict[str, Tensor]:
        if held_out and (index % _HELD_OUT_EVERY == 0 or not figures):
            with torch.no_grad():
                told = [judged(batch, index, number) for number, batch in enumerate(held_out)]
            figures.update({f"held_out_{n}": torch.stack([t[n] for t in told]).mean() for n in told[0]})
        rng = step_generator(config.seed, index)
        batch = kept[int(rng.integers(len(kept)))]
        return {**judged(batch, index, int(rng.integers(2**31))), **figures}

    notes: dict[str, object] = {
        "layers": LAYERS, "variance_floor": encoder.floor, "feature_space": encoder.feature_space,
        "utterances": len(utterances), "heard_minutes": round(config.heard * config.batch * _CROP_S / 60, 1),
        "seed": config.seed,
    }  # fmt: skip

    def save(out: Path) -> None:
        adapter.save(out / FOLDER, notes)

    result = loop.run(step, on_save=save)
    save(config.out)
    return result


def _check_drawn(config: WhisperTraining, model: Path) -> None:
    """Refuse to go on with batches that other settings drew."""
    told = {
        "corpora": [str(corpus.resolve()) for corpus in config.corpora], "model": str(model.resolve()),
        "batch": config.batch, "seed": config.seed,
    }  # fmt: skip
    file = config.out / _DRAWN
    if config.resume and file.exists():
        with usable(file, "train into another folder"):
            if read_json(file) != told:
                raise InputError(
                    f"{config.out} holds what Whisper heard of another corpus, model, batch or seed; give "
                    f"the same ones, or another --out"
                )
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(told) + "\n", encoding="utf-8")


def _basis(file: Path, utterances: list[Utterance], whisper: Whisper) -> tuple[Tensor, Tensor]:
    """Mean and principal components of what Whisper hears, on the CPU; kept, as they take a minute."""
    if not file.exists():
        mean, basis = principal_components(utterances, whisper)
        with atomic_path(file) as temporary, temporary.open("wb") as out:
            np.savez(out, mean=mean, basis=basis)
    with usable(file, "delete it, and what was heard beside it"), np.load(file, allow_pickle=False) as arrays:
        return torch.from_numpy(arrays["mean"]), torch.from_numpy(arrays["basis"])
