"""What the features of mouths are told to learn."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facetalk.training.mouth import train as mouth_train
from facetalk.training.mouth.train import MouthTraining, truth_frames


class Asked(Exception):
    """Raised in place of a training."""


class Codes(nn.Module):
    """Codes of 3, whatever the picture; it is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))
        self.mean, self.seen = torch.zeros(64), []  # type: ignore[var-annotated]

    def encode(self, pictures: Tensor) -> Tensor:
        self.seen.append(pictures)
        return torch.full((len(pictures), 64), 3.0)


class Grey(nn.Module):
    """A grey picture, whatever the codes; they are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))
        self.seen: list[Tensor] = []

    def forward(self, codes: Tensor) -> Tensor:
        self.seen.append(codes)
        return torch.zeros(len(codes), 3, 64, 64)


def test_the_loss_is_the_pictures_error_and_a_little_of_the_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = np.full((100, 64, 64, 3), 255, np.uint8)
    pictures[:, 0, 0, 0] = np.arange(100)  # its number
    used: set[int] = set()
    features, mirror = Codes(), Grey()

    class Loop:
        def __init__(self, name: str, out: Path, modules: Any, optimizer: Any, options: Any) -> None:
            assert (
                options.clip_norm == 1.0 and options.seed == 2 and options.steps == 60 and options.warmup == 4
            )
            assert set(modules) == {"features", "mirror"}
            assert {(g["lr"], g["weight_decay"]) for g in optimizer.param_groups} == {(2e-3, 1e-4)}

        def run(self, step: Any) -> None:
            for index in range(60):
                found = step(index)
                # White is 1 where grey is 0.
                assert found["mse"].item() == pytest.approx(1.0, abs=1e-3)
                assert (found["loss"] - found["mse"]).item() == pytest.approx(1e-4 * 9.0, rel=1e-3)
                used.update(features.seen[-1][:, 0, 0, 0].int().tolist())
            noise = torch.cat(mirror.seen) - 3.0
            assert abs(noise.mean().item()) < 0.01 and noise.std().item() == pytest.approx(0.1, rel=0.05)
            raise Asked

    monkeypatch.setattr(mouth_train, "TrainingLoop", Loop)
    monkeypatch.setattr(mouth_train, "MouthFeatures", lambda: features)
    monkeypatch.setattr(mouth_train, "Mirror", lambda: mirror)
    monkeypatch.setattr(mouth_train, "_pictures", lambda *_: pictures)
    monkeypatch.setattr(mouth_train, "read_manifest", lambda corpus, split: ["one"])
    config = MouthTraining(tmp_path, tmp_path / "out", steps=60, batch=32, seed=2)
    with pytest.raises(Asked):
        mouth_train.train(config, None)  # type: ignore[arg-type]
    assert len(used) == 95, "a twentieth is kept apart to be measured on"


def test_weights_are_a_matter_of_seed_and_batches_of_the_process_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = np.full((100, 64, 64, 3), 255, np.uint8)
    pictures[:, 0, 0, 0] = np.arange(100)
    begun: list[torch.Tensor] = []
    drawn: list[torch.Tensor] = []

    class Loop:
        def __init__(self, name: str, out: Path, modules: Any, *_: Any) -> None:
            every = [p.detach().flatten() for module in modules.values() for p in module.parameters()]
            begun.append(torch.cat(every))

        def run(self, step: Any) -> None:
            step(7)
            raise Asked

    plain = mouth_train._tensor
    monkeypatch.setattr(mouth_train, "_tensor", lambda some: drawn.append(plain(some)) or drawn[-1])
    monkeypatch.setattr(mouth_train, "TrainingLoop", Loop)
    monkeypatch.setattr(mouth_train, "_pictures", lambda *_: pictures)
    monkeypatch.setattr(mouth_train, "read_manifest", lambda corpus, split: ["one"])
    for number, (seed, rank) in enumerate(((4, "0"), (4, "1"), (5, "0"))):
        torch.manual_seed(number)  # of whatever came before
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(Asked):
            mouth_train.train(MouthTraining(tmp_path, tmp_path / "out", seed=seed), None)  # type: ignore[arg-type]
    assert torch.equal(begun[0], begun[1]) and not torch.equal(begun[0], begun[2])
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_half_of_the_pictures_are_of_the_default_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[float, int]] = []

    class Model:
        head = SimpleNamespace(
            default_identity=np.zeros(100), expression_names=["a"], encode_identity=lambda c: np.asarray(c)
        )

        def landmarks(self, motion: Any) -> np.ndarray:
            return np.zeros((1, 68, 3))

        def decode(self, motion: Any) -> np.ndarray:
            drawn.append((float(np.abs(motion.identity).max()), len(motion.expressions)))
            return np.zeros(len(motion.expressions))

    monkeypatch.setattr(
        mouth_train, "mouth_crops", lambda meshes, rest: np.zeros((len(meshes), 4, 4, 3), np.uint8)
    )
    monkeypatch.setattr(
        mouth_train, "truth_frames", lambda utterances, count, rng: np.zeros((count, 53), np.float32)
    )
    config = MouthTraining(tmp_path, tmp_path, crops=1001, identities=3)
    assert len(mouth_train._pictures(config, Model(), [])) == 1001  # type: ignore[arg-type]
    assert [count for _, count in drawn] == [501, 250, 250]
    assert drawn[0][0] == 0.0 and 1.0 < drawn[1][0] < 1.601 and 1.0 < drawn[2][0] < 1.601
    assert len(mouth_train._pictures(config, None, [])) == 1001  # type: ignore[arg-type]
    alone = MouthTraining(tmp_path, tmp_path, crops=30, identities=1)
    mouth_train._pictures(alone, Model(), [])  # type: ignore[arg-type]
    assert drawn[-1] == (0.0, 30)


def test_each_utterance_gives_an_eighth_of_its_frames() -> None:
    said = SimpleNamespace(phones=[("AA", 0.0, 4.0)], seconds=4.0, alphabet="arpabet")
    asked: list[float] = []

    def curves(phones: Any, seconds: float, fps: float, *, alphabet: str, rng: Any) -> np.ndarray:
        asked.append(seconds)
        return np.full((100, 53), len(asked), np.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mouth_train, "curves", curves)
        frames = truth_frames([said], 60, np.random.default_rng(0))  # type: ignore[list-item]
    assert [int((frames[:, 0] == k).sum()) for k in range(1, 7)] == [12, 12, 12, 12, 12, 0]
