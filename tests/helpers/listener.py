"""A face that knows what is said, and a manifest of recordings for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import metric_faces
import numpy as np
import soundfile

from facetalk.data.visemes import Style, curves
from facetalk.motion import Motion


def spoken(word: list[tuple[str, float]]) -> list[list[Any]]:
    """Two repetitions of (phone, seconds) between silences."""
    out: list[list[Any]] = [["SIL", 0.0, 0.6]]
    for symbol, length in word * 2:
        out.append([symbol, out[-1][2], out[-1][2] + length])
    return [*out, ["SIL", out[-1][2], out[-1][2] + 0.6]]


WORDS = {
    "a": [("M", 0.1), ("AA1", 0.5), ("P", 0.1), ("AE1", 0.6), ("V", 0.1), ("AO1", 0.5), ("B", 0.1),
          ("AA1", 0.5)],
    "b": [("AA1", 0.4), ("B", 0.1), ("EH1", 0.4), ("F", 0.1), ("AO1", 0.6), ("M", 0.1), ("UW1", 0.4),
          ("P", 0.1)],
}  # fmt: skip
PHONES = {name: spoken(word) for name, word in WORDS.items()}
SECONDS = {name: phones[-1][2] for name, phones in PHONES.items()}


class Listener:
    """Reads the phones of the file's name instead of its sound, with blinks and brows of its own."""

    def __init__(self, *, deaf: bool = False, life: bool = True, late: int = 0) -> None:
        self.deaf, self.life, self.late = deaf, life, late
        self.calls: list[dict[str, Any]] = []

    def generate(self, audio: Path, **options: Any) -> Motion:
        self.calls.append({"audio": audio, **options})
        name = audio.stem
        phones = [(s, a, b) for s, a, b in PHONES[name]]
        rng = np.random.default_rng(options["seed"])
        weights = curves(
            phones, SECONDS[name], 25.0, alphabet="arpabet", rng=rng if self.life else None, style=Style()
        )
        if self.deaf:
            weights = rng.permutation(weights)
        return Motion(weights[np.maximum(np.arange(len(weights)) - self.late, 0)], 25.0)

    def landmarks(self, motion: Motion) -> np.ndarray:
        return metric_faces.landmarks(motion.expressions.astype(np.float64)).astype(np.float32)


def write_manifest(folder: Path) -> Path:
    """Two recordings, one of them twice, by two speakers and in two splits."""
    for name in PHONES:
        samples = np.full(round(16000 * SECONDS[name]), 0.1, np.float32)
        soundfile.write(folder / f"{name}.wav", samples, 16000)
    clips = (("ann", "valid", "a"), ("bob", "valid", "b"), ("ann", "train", "a"))
    lines = [
        {"audio": f"{name}.wav", "phones": PHONES[name], "voice": voice, "split": split}
        for voice, split, name in clips
    ]
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    return path
