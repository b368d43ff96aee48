"""Settings of the trainings of an adapter for Whisper, and what both of them begin with."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from facetalk.audio.encoder import AudioEncoder
from facetalk.audio.whisper import Whisper
from facetalk.audio.whisper_encoder import TENSORS
from facetalk.audio.whisper_weights import FOLDER, missing
from facetalk.data.speech.corpus import Utterance, read_manifest
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.models import find_model
from facetalk.reading import read_json, usable
from facetalk.training.audio.finetune_batches import Batches
from facetalk.training.audio.finetune_losses import LipReader, Losses
from facetalk.training.audio.train import AudioTraining, Speech
from facetalk.training.checkpoint import make_out
from facetalk.training.loop import LoopOptions
from facetalk.training.processes import check_workers, process_count
from facetalk.training.resume import check_resume
from facetalk.training.whisper.heard import Hear, Heard
from facetalk.training.workers import Batch

_HEARD, _DRAWN = "heard", "drawn.json"
_HELD_OUT, _HELD_OUT_NUMBER, _HELD_OUT_BATCHES = 96, 2**31, 6
GUIDANCE = 1.25
"""Of mouths of whole recordings: what Whisper hears leaves less to guess than the own encoder's features, for
which the motion model's weight was chosen; at about this mouths of two seeds are as far apart as they should
be (docs/hearing.md)."""
HELD_OUT_EVERY = 100
"""Steps from a look at held-out batches to the next."""
CROP_S = 4.8
"""With the silence that Whisper is given after a recording just under what it is rounded to, 6 s."""


@dataclasses.dataclass(frozen=True)
class WhisperTraining:
    """Settings of a run.

    Attributes:
        corpora: folders with manifests whose utterances have phone times.
        out: ``whisper/``, checkpoints and what was heard go here.
        init: the model, by name or folder, whose features are asked for.
        live: train the layers for live sound (:mod:`facetalk.training.whisper.live`) of the adapter that the
            model has, instead of an adapter.
        heard: batches that are drawn and heard; the training goes round in them.
        weights: Whisper's, where the package that brings them is not installed.
    """

    corpora: tuple[Path, ...]
    out: Path
    init: str = "default"
    live: bool = False
    heard: int = 700
    steps: int = 6000
    minutes: float | None = None
    batch: int = 8
    learning_rate: float = 1e-3
    seed: int = 0
    workers: int = 0
    weights: Path | None = None
    resume: bool = False


class Beginning:
    """What a training begins with: nothing is there that it would replace, and its parts are loaded.

    Args:
        config: settings of the run.
        weights: what each term of the loss counts.

    Raises:
        InputError: a setting out of range, no corpus or nothing in it, a model that has no student, or no
            adapter where it should have one, several processes, or a folder with what was heard of something
            else.
    """

    def __init__(self, config: WhisperTraining, weights: Mapping[str, float]) -> None:
        for name in ("heard", "batch", "learning_rate"):
            if not getattr(config, name) > 0:
                raise InputError(f"{name} must be above 0, got {getattr(config, name):g}")
        check_workers(config.workers)
        self.options = LoopOptions(
            steps=config.steps, max_minutes=config.minutes, warmup=min(100, config.steps // 20 + 1),
            clip_norm=1.0, seed=config.seed, resume=config.resume,
        )  # fmt: skip
        self.options.check("whisper")
        if process_count() > 1:
            raise InputError("train whisper runs in one process; start it without a launcher")
        check_resume(config.out, config.resume, marks=("checkpoint", "checkpoint.old", _DRAWN))
        make_out(config.out, FOLDER, lambda folder: (folder / "config.json").is_file())
        self.model = find_model(config.init).folder
        if config.live and not (self.model / FOLDER).is_dir():
            raise missing(self.model / FOLDER)
        self.encoder = AudioEncoder.from_pretrained(self.model / "audio")
        self.reader, self._lower = LipReader.of_model(self.model)
        self.utterances = _of(config, "train")
        if not self.utterances:
            raise InputError("no utterance of split 'train' there")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.whisper = Whisper(config.weights, self.device)
        _check_drawn(config, self.model)
        torch.manual_seed(config.seed)
        self._config = config
        self.sizes = AudioTraining(
            config.corpora[0], config.out, batch=config.batch, crop_s=CROP_S, seed=config.seed
        )
        self.batches = self._batches(self.utterances, config.workers)
        self.losses = Losses(self.encoder, self.reader, self.batches, self.device, weights)

    def _batches(self, utterances: list[Utterance], workers: int = 0) -> Batches:
        return Batches(Speech(utterances, self._lower, workers), self.sizes, self.encoder, cuts=0)

    def hear(self, hear: Hear, kept: tuple[str, ...]) -> tuple[list[Batch], list[Batch]]:
        """Batches of the training, and those that are held out, none where the corpora hold out nothing.

        Args:
            hear: what is kept of a batch.
            kept: names that it has then.
        """
        config = self._config
        drawn = Heard(self.batches, hear, kept, config.out / _HEARD)
        given = drawn.gather(range(config.heard), config.workers)
        unheard = _of(config, "valid")
        if not unheard:
            return given, []
        other = self._batches(unheard[:: max(1, len(unheard) // _HELD_OUT)])
        some = range(_HELD_OUT_NUMBER, _HELD_OUT_NUMBER + _HELD_OUT_BATCHES)
        return given, Heard(other, hear, kept, config.out / f"{_HEARD}-held-out").gather(some)


def _of(config: WhisperTraining, split: str) -> list[Utterance]:
    return [each for corpus in config.corpora for each in read_manifest(corpus, split=split)]


def _check_drawn(config: WhisperTraining, model: Path) -> None:
    """Refuse to go on with batches that other settings drew."""
    told: dict[str, object] = {
        "corpora": [str(corpus.resolve()) for corpus in config.corpora], "model": str(model.resolve()),
        "batch": config.batch, "seed": config.seed,
    }  # fmt: skip
    if config.live:
        told["live"] = hashlib.sha256((model / FOLDER / TENSORS).read_bytes()).hexdigest()
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
