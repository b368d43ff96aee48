"""One trial: train a variant with one seed, sample held-out clips, measure. Each step is kept on disk.

``OUT/BUDGET/VARIANT/seed0/`` holds the training's checkpoint and log, the motions, and the figures in
``row.json``. A command that was broken off goes on where it stopped; where ``row.json`` alone is missing, a
trial is measured anew.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.corpus import VoiceCorpus
from experiments.common.variants import Variant
from experiments.common.yardstick import Clip, Weights, Yardstick
from facetalk.diffusion.model import MotionModel
from facetalk.files import atomic_path
from facetalk.training.loop import LoopOptions, TrainingLoop
from facetalk.training.motion.train import MotionTrainingOptions
from facetalk.units import DEFAULT_FPS

NOISE_STEP = 1000
"""Clip i and motion k of a trial take the noise of seed 1000 k + i, the same in all trials."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """What all trials get alike.

    Attributes:
        steps: optimizer steps.
        batch: crops per step.
        crop: frames per crop.
        rate: peak learning rate.
        sampling_steps: denoising steps of DDIM.
        guidance: weight of classifier-free guidance.
        motions: per held-out clip.
    """

    steps: int = 1200
    batch: int = 16
    crop: int = 96
    rate: float = 1e-3
    sampling_steps: int = 10
    guidance: float = 1.5
    motions: int = 2

    @property
    def name(self) -> str:
        """Fit for a folder: trainings of another budget lie elsewhere."""
        return f"{self.steps}x{self.batch}x{self.crop}"


@dataclasses.dataclass(frozen=True)
class Bench:
    """Where trials run.

    Attributes:
        corpus: encoded voices.
        head: ``ict_facekit_light.npz``.
        out: folder of the trials.
        yardsticks: sets of held-out clips by name; "spoken" has phones.
        budget: of every trial.
    """

    corpus: VoiceCorpus
    head: Path
    out: Path
    yardsticks: Mapping[str, Yardstick]
    budget: Budget

    @property
    def folder(self) -> Path:
        """Of the trials with this budget."""
        return self.out / self.budget.name

    def known(self, variant: Variant, seed: int) -> dict[str, Any] | None:
        """The row of a trial that was measured before, on the same clips in the same way."""
        file = self._place(variant, seed) / "row.json"
        if not file.is_file():
            return None
        row: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return row if all(row.get(key) == value for key, value in self._settings().items()) else None

    def seeds(self, variant: Variant) -> list[int]:
        """Seeds of the trials that were begun."""
        found = (self.folder / variant.name).glob("seed*")
        return sorted(int(path.name.removeprefix("seed")) for path in found)

    def run(self, variant: Variant, seed: int) -> dict[str, Any]:
        """The row of a trial: train, sample, measure, or what is missing of that."""
        row = self.known(variant, seed)
        if row is not None:
            return row
        self._place(variant, seed).mkdir(parents=True, exist_ok=True)
        model, told = self.train(variant, seed)
        row = {"variant": variant.name, "seed": seed, **self._settings(), **told}
        for name, yardstick in self.yardsticks.items():
            motions = self._motions(variant, seed, model, name)
            row[name] = yardstick.measure(motions, smoothing=variant.smoothing)
        return _write(self._place(variant, seed) / "row.json", row)

    def control(self, name: str, motions: Sequence[Sequence[Weights]]) -> dict[str, Any]:
        """The row of motions whose quality is known."""
        file = self.out / "controls" / f"{name}.json"
        if file.is_file():
            row: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            if row["judged"] == self._settings()["judged"]:
                return row
        file.parent.mkdir(parents=True, exist_ok=True)
        row = {"variant": name, "judged": self._settings()["judged"]}
        return _write(file, row | {"spoken": self.yardsticks["spoken"].measure(motions)})

    def _place(self, variant: Variant, seed: int) -> Path:
        return self.folder / variant.name / f"seed{seed}"

    def _settings(self) -> dict[str, Any]:
        judged = {
            name: {"clips": len(yardstick.clips), "scorers": sorted(yardstick.scorers)}
            for name, yardstick in self.yardsticks.items()
        }
        return {"budget": dataclasses.asdict(self.budget), "judged": judged}

    def _motions(self, variant: Variant, seed: int, model: MotionModel, name: str) -> list[list[Weights]]:
        """Motions of a set of clips, from disk where they were sampled before."""
        budget, clips = self.budget, self.yardsticks[name].clips
        steps = variant.steps or budget.sampling_steps
        guidance = budget.guidance if variant.guidance is None else variant.guidance
        told = f"{name}-{len(clips)}x{budget.motions}-steps{steps}-guidance{guidance:g}.npz"
        # Variants that differ in decoding alone share their motions.
        file = self.folder / (variant.trained_as or variant.name) / f"seed{seed}" / told
        if not file.is_file():
            sampled = sample(model, clips, steps=steps, guidance=guidance, motions=budget.motions)
            with atomic_path(file) as temporary:
                np.savez(temporary, *[np.stack(own) for own in sampled])
        with np.load(file, allow_pickle=False) as archive:
            return [list(archive[f"arr_{index}"]) for index in range(len(clips))]

    def train(self, variant: Variant, seed: int) -> tuple[MotionModel, dict[str, Any]]:
        """Train, or go on, or read what was trained: the averaged model, and what is to be told of it."""
        folder = self.folder / (variant.trained_as or variant.name) / f"seed{seed}"
        budget, data = self.budget, variant.data(self.corpus)
        options = MotionTrainingOptions(
            corpus=Path(), audio="", out=folder, head=self.head,
            steps=budget.steps, batch=budget.batch, crop=budget.crop, rate=budget.rate, seed=seed,
        )  # fmt: skip
        training = variant.training(data, self.corpus.held_out, variant.build(data, self.head, seed), options)
        loop = TrainingLoop(
            variant.name,
            folder,
            {"denoiser": training.net, "average": training.average},
            training.optimizer,
            LoopOptions(
                steps=budget.steps,
                warmup=min(200, budget.steps // 3),
                clip_norm=1.0,
                seed=seed,
                save_every_s=60.0,
            ),
        )
        result = loop.run(training.step)
        model = training.model
        trained = MotionModel(
            copy.deepcopy(training.average),
            model.representation,
            expression_names=model.expression_names,
            feature_mean=model.feature_mean,
            feature_scale=model.feature_scale,
            contact=model.contact,
        )
        return trained, {
            "steps": result["step"],
            "parameters": sum(p.numel() for p in training.net.parameters()),
            "minutes_of_sound": data.frames / DEFAULT_FPS / 60.0,
            "losses": _last_losses(folder / "log.jsonl"),
        }


def sample(
    model: MotionModel, clips: Sequence[Clip], *, steps: int, guidance: float, motions: int
) -> list[list[Weights]]:
    """Motions of every clip, in one piece each: without an alignment mask they cannot be cut.

    Args:
        model: to sample.
        clips: recordings.
        steps: denoising steps.
        guidance: weight of classifier-free guidance.
        motions: per clip.
    """
    return [
        [
            model.sample(
                clip.features,
                steps=steps,
                guidance=guidance,
                seed=NOISE_STEP * k + index,
                chunk=max(1, len(clip.features)),
            )
            for k in range(motions)
        ]
        for index, clip in enumerate(clips)
    ]


def _last_losses(log: Path) -> dict[str, float]:
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    last = json.loads(lines[-1]) if lines else {}
    return {name: value for name, value in last.items() if name not in ("step", "seconds", "lr")}


def _write(file: Path, row: dict[str, Any]) -> dict[str, Any]:
    """Write a row, and give it back as it will be read: null stands for what was not counted."""
    plain: dict[str, Any] = json.loads(json.dumps(row), parse_constant=lambda _: None)
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    return plain
