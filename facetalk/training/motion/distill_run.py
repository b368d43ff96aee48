"""The whole of a distillation: hear, make trajectories, train, save."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from facetalk.audio import AudioEncoder
from facetalk.audio.whisper_encoder import WhisperEncoder
from facetalk.data.speech.corpus import read_manifest
from facetalk.diffusion.model import MotionModel
from facetalk.diffusion.student import Student
from facetalk.errors import InputError
from facetalk.models import find_model
from facetalk.nphm.head.head import HeadModel
from facetalk.reading import MANIFEST
from facetalk.training.loop import LoopOptions, TrainingLoop
from facetalk.training.motion.dataset import SHORT_S, Encoder, MotionData, build
from facetalk.training.motion.distill import SHARES, DistillTraining, hold_out
from facetalk.training.motion.distill_audio import Features, check_audible, features
from facetalk.training.motion.distill_cache import Cache, Clips, Teacher, grid, produce, teacher_timesteps
from facetalk.training.motion.distill_options import DistillOptions
from facetalk.training.openings import lid_openings, lips_of
from facetalk.training.processes import main_process_first, process_count
from facetalk.training.resume import check_resume

_FACES = 4
"""Draws of the face for each recording, with --life or --mouth."""
_SHORT_SHARE = 0.5
"""How much of the corpus each variant of short sessions takes: their beginnings alone are looked at."""
_HELD_OUT_CLIPS = 24
"""That errors on new noise are measured on, at most: they are made before a GPU is used."""


@dataclasses.dataclass(frozen=True)
class Production:
    """How trajectories are made.

    Attributes:
        clips, frames: size of a batch of them.
        between, last: the teacher's steps, see :func:`~.distill_cache.teacher_timesteps`.
        keep: batches kept, the newest.
        variants: encoded copies of the recordings.
    """

    clips: int = 24
    frames: int = 192
    between: int = 2
    last: int = 12
    keep: int = 250
    variants: int = 2


def distil(
    model: str | Path,
    audio: Path,
    out: Path,
    options: DistillOptions,
    production: Production,
    *,
    init: Path | None = None,
    minutes: float | None = None,
    producer: int | None = None,
    workers: int = 0,
    encoder: str = "model",
    resume: bool = False,
    command: str = "",
    show: bool = False,
) -> dict[str, Any] | None:
    """Train a student, or only make trajectories.

    Args:
        model: model name or folder: encoder, teacher, and head (for the lids).
        audio: recordings or a corpus.
        out: folder for everything; ``out/model`` is the motion model with its student.
        options: of the training.
        production: of the trajectories.
        init: motion model whose student is the start.
        minutes: limit on the time.
        producer: number of this process if it only makes trajectories, from 1.
        workers: processes that encode the corpus, 0 = this one.
        encoder: what hears the recordings: ``"model"``, its own audio encoder; ``"whisper"``; or ``"both"``,
            one after the other, for a student of either.
        resume: continue what is in ``out``.
        command: for the model's notes.
        show: progress of a producer on stderr.

    Returns:
        Steps, minutes and the last metrics (:meth:`facetalk.training.loop.TrainingLoop.run`), among them
        ``new_1_mm``, ``new_2_mm`` and ``ratio``; None of a producer.

    Raises:
        InputError: no such model or recordings, ``out`` holds something else, or several processes of a
            launch were asked to be one producer.
    """
    if producer is not None and process_count() > 1:
        raise InputError("--produce is one process: start each by itself, with a number of its own")
    config = find_model(model)
    check_audible(audio)
    if (options.life or options.mouth) and not ((audio / MANIFEST).is_file() or audio.is_file()):
        raise InputError(
            f"{audio}: --life and --mouth compare with the faces of a corpus, and this is a folder of "
            "recordings; give what `facetalk data` made"
        )
    begun = options.starts and (options.life or options.mouth) and producer is None
    if begun and options.crop > SHORT_S * config.fps:
        raise InputError(
            f"--starts takes crops of sessions of {SHORT_S:g} s, and one of {options.crop} frames is longer; "
            "give a smaller --crop, or --starts 0"
        )
    if producer is None:
        check_resume(out, resume)
    listeners = _listeners(config.folder, encoder)
    motion = MotionModel.load(config.folder / "motion")
    start, before = (None, "") if init is None else _student_of(init, motion)
    out.mkdir(parents=True, exist_ok=True)

    def teacher(split: str, variants: int, clips: int, heard: Features | None = None) -> Teacher:
        if heard is None:
            heard = [
                rows
                for listener in listeners
                for rows in features(
                    audio, listener, out / "features",
                    fps=config.fps, variants=variants, seed=options.seed, split=split,
                )
            ]  # fmt: skip
        return Teacher(
            motion, heard, states, timesteps=timesteps, guidance=options.guidance,
            clips=clips, frames=production.frames,
        )  # fmt: skip

    states = grid(motion.schedule, tuple(SHARES))
    timesteps = teacher_timesteps(states, production.between, production.last)
    settings = {
        "teacher": _fingerprint(motion),
        "timesteps": timesteps,
        "guidance": list(options.guidance),
        "clips": production.clips,
        "frames": production.frames,
    }

    def trajectories() -> Cache:
        return Cache(out / "trajectories", settings, keep=production.keep)

    if producer is not None:
        cache, trained_on = trajectories(), teacher("train", production.variants, production.clips)
        with tqdm(desc=f"producer {producer}", unit="batch", disable=not show) as bar:
            produce(
                cache, trained_on, producer=producer, seed=options.seed, go_on=_until(minutes),
                on_shard=lambda _: bar.update() and None,
            )  # fmt: skip
        return None

    def prepare() -> tuple[Cache, Teacher, Clips, MotionData | None, MotionData | None]:
        cache, faces, beginnings = trajectories(), None, None
        if options.life or options.mouth:
            # One encoding of the corpus serves both: sound for the teacher, sound and faces for the score.
            hear = functools.partial(
                build, read_manifest(audio, split="train"), cache=out / "features", fps=config.fps,
                variants=production.variants, draws=_FACES, seed=options.seed, workers=workers,
            )  # fmt: skip
            faces = MotionData.joined(hear(listener) for listener in listeners)
            if options.starts:
                beginnings = MotionData.joined(
                    hear(listener, share=_SHORT_SHARE, short=True) for listener in listeners
                )
        heard = faces.features if faces is not None else None
        trained_on = teacher("train", production.variants, production.clips, heard)
        few = min(production.clips, _HELD_OUT_CLIPS)
        held_out = hold_out(teacher("valid", 1, few), options.seed, out / "held_out.npz")
        return cache, trained_on, held_out, faces, beginnings

    cache, trained_on, held_out, faces, beginnings = main_process_first(prepare, "Hearing the recordings")
    torch.manual_seed(options.seed)
    # A student that was taught before tells that as well.
    notes = {
        "trained_with": f"{before}; {command}" if before else command,
        "frames_of_features": sum(map(len, trained_on.heard)),
    }
    head = HeadModel.load(config.folder / "head")
    training = DistillTraining(
        motion, lid_openings(head), cache, trained_on, held_out, options,
        start=start, faces=faces, beginnings=beginnings, lips=lips_of(head) if options.mouth else None,
        notes=notes,
    )  # fmt: skip
    loop = TrainingLoop(
        "distill",
        out,
        {"student": training.net, "average": training.average},
        training.optimizer,
        LoopOptions(
            steps=options.steps, max_minutes=minutes, warmup=min(200, options.steps // 20 + 1), clip_norm=1.0,
            save_every_s=120.0, seed=options.seed, resume=resume,
        ),
    )  # fmt: skip
    return loop.run(training.step, training.save)


def _listeners(folder: Path, encoder: str) -> list[Encoder]:
    """What hears the recordings.

    Raises:
        InputError: the model has no adapter for Whisper, or Whisper's weights are not installed.
    """
    listeners: list[Encoder] = []
    if encoder != "whisper":
        listeners.append(AudioEncoder.from_pretrained(folder / "audio"))
    if encoder != "model":
        listeners.append(WhisperEncoder.from_pretrained(folder))
    return listeners


def _until(minutes: float | None) -> Callable[[int], bool]:
    """A condition for :func:`~facetalk.training.motion.distill_cache.produce`: for so long, or for ever."""
    begun = time.monotonic()
    return lambda _: minutes is None or time.monotonic() - begun < 60.0 * minutes


def _student_of(folder: Path, teacher: MotionModel) -> tuple[Student, str]:
    """The student of a motion model, and the command that trained it, "" if nobody said."""
    model = MotionModel.load(folder)
    student = model.student
    if student is None:
        raise InputError(f"{folder} has no student to start from")
    if student.config != teacher.denoiser.config:
        raise InputError(f"the student in {folder} has other sizes than the model's motion/")
    return student, str(model.student_range.notes.get("trained_with", ""))


def _fingerprint(motion: MotionModel) -> str:
    digest = hashlib.sha256()
    for value in motion.denoiser.state_dict().values():
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
