"""The experiments are a folder of the repository, not of the package."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from level_hearing import LevelEncoder, head_of_lips

from facetalk.data.speech.corpus import Utterance, write_manifest
from facetalk.units import SAMPLE_RATE

ROOT = Path(__file__).parents[2]
if (ROOT / "experiments").is_dir():
    # At the end, so that an installed package comes before the sources beside the experiments.
    sys.path.append(str(ROOT))
else:
    collect_ignore_glob = ["*"]

PHONES = [
    ("SIL", 0.0, 0.5), ("M", 0.5, 0.7), ("AA1", 0.7, 1.2), ("P", 1.2, 1.35), ("F", 1.4, 1.55),
    ("AE1", 1.6, 2.2),
]  # fmt: skip
SECONDS = 2.4


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file of a head, no real encoder."""
    monkeypatch.setattr("facetalk.training.motion.train.MorphableHead.load", head_of_lips)
    monkeypatch.setattr("facetalk.audio.AudioEncoder.from_pretrained", lambda *_, **__: LevelEncoder())


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two voices to train on, "low" with twice the sound of "high", and one held out."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "audio").mkdir()
    lines = []
    for voice, count, pitch, split in (
        ("high", 2, 900, "train"),
        ("low", 4, 300, "train"),
        ("new", 3, 600, "valid"),
    ):
        for index in range(count):
            time = np.arange(int(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
            level = np.full(len(time), 0.01)
            for symbol, start, end in PHONES:
                level[(time >= start) & (time < end)] = 0.5 if symbol[-1] == "1" else 0.02
            path = folder / "audio" / f"{voice}{index}.flac"
            soundfile.write(path, level * np.sin(time * pitch * (1 + 0.1 * index)), SAMPLE_RATE)
            lines.append(
                Utterance(f"{voice}/{index}", path, "", voice, "en", "CC0", "test", split, PHONES, "arpabet")
            )  # fmt: skip
    write_manifest(folder, lines)
    return folder
