"""The experiments are a folder of the repository, not of the package."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.data.speech.corpus import Utterance, write_manifest
from facetalk.data.visemes import lip_gap
from facetalk.units import HEAD_UNIT_MM, SAMPLE_RATE, frame_count

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


class LevelEncoder:
    """Features: the level of each frame and of its neighbours."""

    def features(self, samples: np.ndarray, *, fps: float) -> torch.Tensor:
        count, step = frame_count(len(samples), fps), int(SAMPLE_RATE / fps)
        padded = np.pad(samples, (0, max(0, count * step - len(samples))))[: count * step]
        level = np.sqrt((padded.reshape(count, step) ** 2).mean(1))
        return torch.from_numpy(np.stack([np.roll(level, k) for k in range(-2, 3)], 1) * 10.0).float()


def head_of_lips(path: Path) -> SimpleNamespace:
    """A morphable head of 68 points that move by the gap model of visemes.json, for want of a 16 MB file."""
    moves = np.zeros((len(EXPRESSION_NAMES), 68, 3))
    moves[:, :, 2] = np.eye(len(EXPRESSION_NAMES), 68)
    bias = lip_gap(np.zeros(len(EXPRESSION_NAMES)))
    moves[:, [67, 66, 65], 1] = -(lip_gap(np.eye(len(EXPRESSION_NAMES))) - bias)[:, None]
    rest = np.random.default_rng(0).normal(size=(68, 3)) * 30
    for upper, lower in ((61, 67), (62, 66), (63, 65)):
        rest[lower] = rest[upper] - [0, bias, 0]
    return SimpleNamespace(
        expression_names=EXPRESSION_NAMES,
        expression_basis=moves / HEAD_UNIT_MM,
        neutral=rest / HEAD_UNIT_MM,
        landmark_ids=np.arange(68),
    )


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
