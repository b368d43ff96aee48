"""Speech of a voice that nothing was trained on, and mouths that rules move to it."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest

from facetalk.data.speech.corpus import CorpusWriter
from facetalk.data.speech.synth import Speech, espeak
from facetalk.data.visemes import curves
from facetalk.multi_pie import MOUTH
from facetalk.training.sync.dataset import MouthRig
from facetalk.units import SAMPLE_RATE

TEXTS = (
    "Bob may move five big maps before the farmer opens a warm window.",
    "Why would my father pay both of them for a village full of foam?",
)


@functools.cache
def speech(text: str, voice: str = "en-us+f2") -> Speech:
    pytest.importorskip("espeakng_loader", reason="speech for the test comes from espeak-ng")
    return espeak().say(text, voice)


@dataclasses.dataclass(frozen=True)
class Truth:
    """A clip: sound, expression codes, and how codes move the face."""

    rig: MouthRig
    speech: Speech
    fps: float = 25.0

    @property
    def sound(self) -> tuple[np.ndarray, int]:
        return self.speech.samples, SAMPLE_RATE

    @property
    def weights(self) -> np.ndarray:
        seconds = len(self.speech.samples) / SAMPLE_RATE
        return curves(self.speech.phones, seconds, self.fps, alphabet=self.speech.alphabet)

    def face(self, weights: np.ndarray | None = None, *, factor: float = 1.0, delay: int = 0) -> np.ndarray:
        """(T, 68, 3) metres: the mouth moves ``factor`` times as far, ``delay`` frames late."""
        weights = self.weights if weights is None else weights
        weights = weights[np.clip(np.arange(len(weights)) - delay, 0, len(weights) - 1)]
        out = np.repeat(self.rig.template[None], len(weights), axis=0)
        out[:, list(MOUTH)] = self.rig.neutral[0] + factor * (self.rig.mouth(weights) - self.rig.neutral[0])
        return out


def small_corpus(folder: Path) -> Path:
    """A corpus of two voices to train on and one that is held out, with texts of its own."""
    writer = CorpusWriter(folder)
    for voice in ("m1", "f4", "f2"):
        for number, text in enumerate(TEXTS):
            said = f"{text} So said {voice}, and once more: {text}"
            writer.add(
                f"{voice}/{number}",
                speech(said, f"en-us+{voice}"),
                text=said,
                voice=f"espeak-{voice}",
                language="en",
                licence="CC0-1.0",
                source="test",
            )
    writer.flush()
    return folder
