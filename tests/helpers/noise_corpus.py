"""A corpus of noise with phones: two voices that are trained on, and one that is held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facetalk.data.phones import Phone
from facetalk.data.speech.corpus import CorpusWriter
from facetalk.data.speech.synth import Speech
from facetalk.units import SAMPLE_RATE


def write_corpus(folder: Path, phones: Sequence[Phone], seconds: Sequence[float]) -> Path:
    """Write it.

    Args:
        folder: its place.
        phones: of each recording.
        seconds: lengths of the three recordings.
    """
    writer, rng = CorpusWriter(folder), np.random.default_rng(1)
    for name, length in zip(("a", "b", "flite-rms"), seconds, strict=True):
        told = {"text": "", "voice": name, "language": "en", "licence": "CC0", "source": "test"}
        sound = (0.1 * rng.standard_normal(int(length * SAMPLE_RATE))).astype(np.float32)
        writer.add(f"{name}/0", Speech(sound, list(phones), "arpabet"), **told)
    writer.flush()
    return folder
