"""What fine-tuning of an encoder hears: crops clean and degraded, whole and cut as live sound is."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from facetalk.arrays import Float32
from facetalk.audio.encoder import AudioEncoder
from facetalk.training.audio.augment import change_speed, change_tract
from facetalk.training.audio.degrade import degrade, heard, heard_live
from facetalk.training.audio.train import AudioTraining, Speech
from facetalk.training.audio.unspoken import unspoken
from facetalk.training.processes import step_generator
from facetalk.units import DEFAULT_FPS, SAMPLE_RATE

_RUNNING_LEVEL = 0.015
"""Share of crops that are brought to level as live sound is; it takes twenty times as long."""
_OTHER_TRACT = 0.6
"""Share of crops that another vocal tract speaks."""
_UNSPOKEN = 0.12
"""Share of crops without speech."""
_SOURCE_WEIGHT = {"Debian": 2.0, "Kokoro": 4.0}
"""Natural voices differ more than others."""
_OTHER_WEIGHT = 2.0
"""Of voices of formants and diphones, which are all alike: as much as of recorded ones, which are few."""
_AGAIN = 2**40
"""Added to the number of a step that takes a batch again; no training comes to it."""
_NOISE = np.random.default_rng(0).standard_normal(1 << 21, np.float32)
"""White noise of which every crop takes a piece: to draw it anew takes as long as to play the crop faster."""


@dataclasses.dataclass(frozen=True)
class Cut:
    """Where sound ends for the encoder that is trained.

    Attributes:
        samples: samples that it hears.
        extracted: frames that its convolutions make of them.
        frames: motion frames that it gives.
    """

    samples: int
    extracted: int
    frames: int


class Batches:
    """Crops with their clean sound, their degraded sound and their targets.

    Args:
        speech: the corpus.
        config: size and seed of batches.
        encoder: today's.
        cuts: at how many moments the sound of each crop ends, beside its whole.
    """

    def __init__(self, speech: Speech, config: AudioTraining, encoder: AudioEncoder, cuts: int = 1) -> None:
        self.cuts = cuts
        self.speech, self.config, self.floor = speech, config, encoder.floor
        self.field, self.stride = encoder.field, encoder.stride
        self.margin = (self.field - self.stride) // 2
        self.frames = int(config.crop_s * DEFAULT_FPS)
        self.untaught = np.zeros((self.frames, speech.components), np.float32)
        self.length = -(-round(self.frames / DEFAULT_FPS * SAMPLE_RATE) // self.stride) * self.stride
        sources = np.array(
            [
                next((w for name, w in _SOURCE_WEIGHT.items() if u.source.startswith(name)), _OTHER_WEIGHT)
                for u in speech.utterances
            ]
        )
        weights = np.array([len(s) for s in speech.sound]) * sources
        self.weights = weights / weights.sum()
        # Level of each recording as a whole: what the encoder of today would bring it to.
        self.levels = [float(s.std() / 32768 + 1e-4) for s in speech.sound]

    def __call__(self, step: int) -> dict[str, Tensor]:
        """The batch of a step, the same for the same ``(seed, step)``.

        Returns:
            clean, spoilt (B, N + margins), classes (B, T, C), curves (B, T, 9), spoken (B,), lower (B, T, 3)
            where the corpus has it, and cuts (B, 1 + cuts, 3): the :class:`Cut` of each crop's views, whole
            first.
        """
        rng = step_generator(self.config.seed, step)
        rows = [self._crop(rng) for _ in range(self.config.batch)]
        out = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
        out["seed"] = torch.tensor(int(rng.integers(2**31)))
        return out

    def again(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """A batch that was used, cut at other moments and read with other noise; its sound is the same."""
        rng = step_generator(self.config.seed, _AGAIN + step)
        cuts = np.stack([self._moments(rng) for _ in range(len(batch["cuts"]))])
        return {**batch, "cuts": torch.from_numpy(cuts), "seed": torch.tensor(int(rng.integers(2**31)))}

    def _moments(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        return np.array([dataclasses.astuple(cut) for cut in self._cuts(rng)])

    def _cuts(self, rng: np.random.Generator) -> list[Cut]:
        """The whole crop, and moments at which its sound ends."""
        out = [Cut(self.length, self.length // self.stride, self.frames)]
        for _ in range(self.cuts):
            # At least 1.4 s of past, and at least 0.8 s of future that only the teacher hears.
            last = int(rng.integers(35, self.frames - 20))
            known = int((last + rng.random()) / DEFAULT_FPS * SAMPLE_RATE) // self.stride * self.stride
            out.append(self.cut_at(known))
        return out

    def cut_at(self, known: int) -> Cut:
        """Where sound ends of which ``known`` samples were heard, by the rules of LiveFeatures."""
        complete = max(1, (known + self.margin - self.field) // self.stride + 1)
        seconds = (complete - 0.5) * self.stride / SAMPLE_RATE
        return Cut(known, complete, int(np.floor(seconds * DEFAULT_FPS - 0.5 + 1e-9)) + 1)

    def _piece(self, rng: np.random.Generator, index: int, factor: float) -> tuple[Float32, int]:
        need = int(self.length * factor)
        slack, edge = len(self.speech.sound[index]) - need, SAMPLE_RATE // 2
        start = int(rng.integers(min(0, slack) - edge, max(0, slack) + edge))
        wave = self.speech.crop(index, start, need)
        wave = change_speed(wave, factor)[: self.length] if factor != 1.0 else wave
        return np.pad(wave, (0, self.length - len(wave))), start

    def _other(self, rng: np.random.Generator) -> Float32:
        return self._piece(rng, int(rng.choice(len(self.speech.sound))), 1.0)[0]

    def _crop(self, rng: np.random.Generator) -> dict[str, Any]:
        spoken = rng.random() >= _UNSPOKEN
        index = int(rng.choice(len(self.speech.sound), p=self.weights))
        factor = float(np.exp(rng.uniform(np.log(0.8), np.log(1.25)))) if rng.random() < 0.7 else 1.0
        wave, start = self._piece(rng, index, factor)
        times = (np.arange(self.frames) + 0.5) / DEFAULT_FPS * factor + start / SAMPLE_RATE
        targets = self.speech.targets[index]
        share, curve = targets.at(times, factor / DEFAULT_FPS)
        if not spoken:
            wave = np.zeros_like(wave)
            share[:], curve[:] = 0.0, 0.0  # their targets are the teacher's silence
            share[:, 0] = 1.0
            out = unspoken(self.length, rng) * np.float32(10 ** (rng.uniform(-30.0, 3.0) / 20))
            out = np.clip(out + hiss(self.length, 1e-4, rng), -1.0, 1.0)
        else:
            # What today's encoder hears, the target, stays the voice as it is.
            spoken_by = change_tract(wave, rng) if rng.random() < _OTHER_TRACT else wave
            out = degrade(spoken_by, rng, lambda: self._other(rng), lambda: unspoken(self.length, rng))
            out = out + hiss(len(out), 10 ** rng.uniform(-5.0, -3.5), rng)
        level = heard_live if rng.random() < _RUNNING_LEVEL else heard
        clean = wave / np.float32(self.levels[index]) + hiss(len(wave), 3e-3, rng)
        around = (self.margin, self.field - self.stride - self.margin)
        row = {
            "clean": np.pad(clean, around),
            "spoilt": np.pad(level(out, self.floor), around),
            "classes": share, "curves": curve, "spoken": np.float32(spoken),
            "cuts": self._moments(rng),
        }  # fmt: skip
        if targets.lower is not None:
            row["lower"] = targets.lower_lip(times)
        if self.speech.components:
            known = spoken and targets.taught is not None
            row["taught"] = targets.teacher(times) if known else self.untaught
            row["told"] = (targets.told(times) if known else np.zeros(self.frames)).astype(np.float32)
        return row


def hiss(count: int, deviation: float, rng: np.random.Generator) -> Float32:
    """White noise."""
    start = int(rng.integers(len(_NOISE) - count))
    return _NOISE[start : start + count] * np.float32(deviation)
