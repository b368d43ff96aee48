"""Recordings of a voice that nothing here was trained on: ``python -m experiments.steps.recordings DIR``.

The voice "heart" of hibari-tts (Apache-2.0), a small natural-sounding synthesizer on PyPI, with sentences of
another seed than any corpus, at varied rate, pitch, level and noise. ``pip install hibari-tts``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from facetalk.data.speech.text import sentences
from facetalk.units import SAMPLE_RATE

SEED, HIBARI_RATE = 990017, 24000


def main() -> None:
    """Write the recordings."""
    parser = argparse.ArgumentParser(prog="python -m experiments.steps.recordings")
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=220)
    args = parser.parse_args()
    from hibari import Hibari

    args.out.mkdir(parents=True, exist_ok=True)
    voice, texts, rng = Hibari(), sentences(SEED), np.random.default_rng(7)
    for index in tqdm(range(args.clips), unit="clip"):
        text = f"{next(texts)} {next(texts)}"
        spoken = voice(text, speed=float(rng.uniform(0.8, 1.2)), seed=index).astype(np.float32)
        spoken = soxr.resample(spoken, HIBARI_RATE * float(rng.uniform(0.85, 1.1)), SAMPLE_RATE)
        still = [np.zeros(rng.integers(low, 9000)) for low in (2000, 4000)]
        samples = np.concatenate([still[0], spoken, still[1]])
        samples = samples / np.abs(samples).max() * rng.uniform(0.2, 0.9)
        samples = samples + rng.normal(0.0, 10 ** rng.uniform(-4.5, -3.0), len(samples))
        path = args.out / f"hibari-heart-{index:03d}.flac"
        soundfile.write(path, np.clip(samples, -1.0, 1.0), SAMPLE_RATE)


if __name__ == "__main__":
    main()
