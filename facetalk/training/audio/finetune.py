"""Fine-tuning of a model's audio encoder: ``facetalk train audio --init MODEL --corpus DIR --out DIR``.

The motion model and its student were trained on the features that the encoder gives now, so they stay what
they are and the new encoder is held to them in four ways:

* **Features.** What the encoder of today makes of the clean recording with all of its context is what the new
  one has to make of it when the recording is degraded (:mod:`facetalk.training.audio.degrade`), or ends a
  random moment after the frame, as it does live (:mod:`facetalk.audio.live`). Music and noise have the
  features of silence.
* **Lips.** The frozen student reads the features in one step; its lips have to be where the phones want
  them, and in f and v its lower lip at the teeth. Where the lips of today's features are wrong, features are
  let go; elsewhere they are held.
* **Live sound.** What is made of a crop whose sound ends is what the same network makes of the whole of it.
* **Phones.** Linear heads tell classes and curves, as in :mod:`facetalk.training.audio.train`.

The architecture is kept, so the C++ runtime runs the result.
"""

from __future__ import annotations

import copy
import dataclasses
import io
from pathlib import Path

import torch
from torch import Tensor, nn

from facetalk.audio.encoder import AudioEncoder
from facetalk.data.speech.corpus import read_manifest
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.models import find_model
from facetalk.training.audio.finetune_batches import Batches
from facetalk.training.audio.finetune_losses import LipReader, Losses
from facetalk.training.audio.mini_wav2vec2 import is_encoder_folder, save_encoder
from facetalk.training.audio.teachers import COMPONENTS, taught_file, teach
from facetalk.training.audio.train import _HEADS, AudioTraining, Heads, Speech
from facetalk.training.checkpoint import make_out
from facetalk.training.loop import LoopOptions, TrainingLoop
from facetalk.training.processes import by_main_process, check_workers, is_main_process, quick_products
from facetalk.training.resume import check_resume
from facetalk.training.workers import Batch, Drawn
from facetalk.units import DEFAULT_FPS

_HEADS_RATE = 8.0
_HELD_OUT, _HELD_OUT_EVERY, _HELD_OUT_STEP = 96, 100, 2**31
_HELD_OUT_CROPS = 24


@dataclasses.dataclass(frozen=True)
class FineTuning(AudioTraining):
    """Settings of a run.

    Attributes:
        init: a model's name or folder: its ``audio`` is the start and the teacher, its ``motion`` the reader.
        cuts: at how many moments the sound of each crop ends as live sound does, beside its whole.
        uses: steps that take each batch, cut at other moments each time. To draw a batch takes a core longer
            than a GPU to learn from it.
        teacher: also tell what Whisper makes of the recordings (:mod:`facetalk.training.audio.teachers`).
        teacher_weights: its weights, where the package that brings them is not installed.
    """

    init: str = "default"
    cuts: int = 1
    uses: int = 1
    teacher: bool = False
    teacher_weights: Path | None = None
    batch: int = 8
    learning_rate: float = 4e-4


def finetune(config: FineTuning) -> Path:
    """Fine-tune an encoder and save it to ``out/encoder``, its heads beside it.

    Raises:
        InputError: no corpus, nothing to train on in it, or a model without a student.
    """
    if config.batch < 1 or not config.learning_rate > 0:
        raise InputError(
            f"batch and learning rate must be positive, got {config.batch} and {config.learning_rate:g}"
        )
    if config.cuts < 0:
        raise InputError(f"the number of cuts is {config.cuts}; give 0 (whole sound alone) or more")
    if config.uses < 1:
        raise InputError(f"each batch is used {config.uses} times; give 1 or more")
    check_workers(config.workers)
    options = LoopOptions(
        steps=config.steps, max_minutes=config.minutes, warmup=min(100, config.steps // 20 + 1),
        clip_norm=1.0, save_every_s=config.save_every_s, seed=config.seed, resume=config.resume,
    )  # fmt: skip
    options.check("audio")
    check_resume(config.out, config.resume)
    make_out(config.out, "encoder", is_encoder_folder)
    folder = find_model(config.init).folder
    teacher = AudioEncoder.from_pretrained(folder / "audio")
    reader, lower = LipReader.of_model(folder)
    if teacher.span(DEFAULT_FPS) is None:
        raise InputError(
            f"{folder / 'audio'}: attends to whole recordings, so it cannot be cut as live sound is"
        )
    utterances = read_manifest(config.corpus, split="train")
    if not utterances:
        raise InputError(f"{config.corpus}: no utterance of split 'train' there")
    if config.teacher:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        everything = read_manifest(config.corpus)
        by_main_process(lambda: teach(everything, config.teacher_weights, device), "Whisper's hearing")
        unknown = next((u for u in everything if not taught_file(u).exists()), None)
        if unknown is not None:
            raise InputError(
                f"{taught_file(unknown)} is missing: the main process had Whisper hear another copy of the "
                f"corpus; let it lie where all processes see it"
            )
    speech = Speech(utterances, lower, config.workers, config.teacher)
    batches = Batches(speech, config, teacher, config.cuts)
    unheard = read_manifest(config.corpus, split="valid")
    unheard = unheard[:: max(1, len(unheard) // _HELD_OUT)]
    # The same crops each time, so they are drawn once.
    held_out: list[Batch] = []
    if unheard:
        other = Batches(Speech(unheard, lower, teacher=config.teacher), config, teacher, config.cuts)
        held_out = [other(_HELD_OUT_STEP + k) for k in range(-(-_HELD_OUT_CROPS // config.batch))]
    model = copy.deepcopy(teacher).model
    model.train().requires_grad_(True)
    torch.manual_seed(config.seed)  # the loop's own comes too late for what is made here
    heads = Heads(model.config.hidden_size, COMPONENTS if config.teacher else 0)
    modules: dict[str, nn.Module] = {"encoder": model, "heads": heads}
    rate = config.learning_rate
    groups = [
        {"params": list(model.parameters()), "lr": rate},
        {"params": list(heads.parameters()), "lr": rate * _HEADS_RATE},
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    loop = TrainingLoop("audio", config.out, modules, optimizer, options)
    losses = Losses(teacher, reader, batches, loop.device)
    figures: dict[str, Tensor] = {}
    held: dict[int, Batch] = {}

    def step(index: int) -> dict[str, Tensor]:
        if held_out and (index % _HELD_OUT_EVERY == 0 or not figures):
            model.eval()
            with torch.no_grad():
                told = [losses(model, heads, batch, index) for batch in held_out]
            figures.update({f"held_out_{n}": torch.stack([t[n] for t in told]).mean() for n in told[0]})
        model.train()
        return {**losses(model, heads, batch_of(index), index), **figures}

    def batch_of(index: int) -> Batch:
        number = index // config.uses
        if number not in held:
            held.clear()
            held[number] = drawn(number)
        return batches.again(held[number], index) if index % config.uses else held[number]

    def save(out: Path) -> None:
        save_encoder(model, out / "encoder")
        content = io.BytesIO()
        torch.save(heads.state_dict(), content)
        with atomic_path(out / _HEADS) as temporary:
            temporary.write_bytes(content.getbuffer())

    pinned = loop.device.type == "cuda"
    with quick_products(loop.device), Drawn(batches, config.workers, pinned=pinned) as drawn:
        result = loop.run(step, on_save=save)
    if is_main_process():
        save(config.out)
        print(
            f"audio encoder in {config.out / 'encoder'}: "
            + ", ".join(f"{k} {v:.4g}" for k, v in result.items())
        )
    return config.out / "encoder"
