"""What the motion model is told to learn: each term of its loss, the null condition, the augmentation."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facetalk.diffusion import Denoiser, DenoiserConfig, MotionModel, Representation
from facetalk.diffusion.lip_contact import LipContact
from facetalk.training.motion import train as motion_train
from facetalk.training.motion.dataset import MotionData
from facetalk.training.motion.train import MotionTraining, MotionTrainingOptions

FRAMES, BATCH = 8, 4
REST_MM, PER_UNIT = 0.5, np.array([10.0, -20.0, 0.0])
SCALE_MM = np.array([0.1, 2.0, 9.0])  # below what counts as visible, within, and beyond
FACE = np.array([0.4, 0.1, 0.2], np.float32)


class Told(nn.Module):
    """A network that answers as it is told, and remembers what it was asked."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.motion_in = nn.Linear(1, 1)
        self.answer = answer
        self.heard: list[Tensor] = []
        self.dropped: list[Tensor] = []
        self.noisy: list[Tensor] = []
        self.timesteps: list[Tensor] = []

    def condition(self, features: Tensor, *, drop: Tensor) -> None:
        self.heard.append(features)
        self.dropped.append(drop)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: None) -> tuple[Tensor, None]:
        self.noisy.append(noisy)
        self.timesteps.append(timesteps)
        return self.answer.expand_as(noisy), None


def training(face: np.ndarray = FACE, *, scale_mm: np.ndarray = SCALE_MM, **options: Any) -> MotionTraining:
    """A training on a face that never moves, so that the clean sample of every crop is known."""
    features = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float16)
    data = MotionData([features], [np.broadcast_to(face, (1, 40, 3)).astype(np.float16)])
    config = DenoiserConfig(motion_dim=3, audio_dim=5, layers=1, heads=1, width=8, feedforward=8)
    plain = Representation.identity(3)
    model = MotionModel(
        Denoiser(config), Representation(plain.mean, plain.encode_matrix, plain.decode_matrix, scale_mm),
        expression_names=["a", "b", "c"], feature_mean=torch.full((5,), 0.5),
        feature_scale=torch.full((5,), 2.0), contact=LipContact(REST_MM, PER_UNIT, 1),
    )  # fmt: skip
    told = MotionTrainingOptions(Path("c"), "a", Path("o"), batch=BATCH, crop=FRAMES, **options)
    return MotionTraining(data, data, model, told)


def losses(work: MotionTraining, error: Tensor, *, augment: bool = False) -> dict[str, float]:
    """Parts of the loss of an answer that is wrong by ``error`` (L, 3)."""
    clean = torch.from_numpy(FACE.astype(np.float16).astype(np.float32))
    found = work._loss(Told(clean + error), work.data, np.random.default_rng(0), augment=augment)  # type: ignore[arg-type]
    return {name: value.item() for name, value in found.items()}


def test_no_error_costs_nothing() -> None:
    assert all(
        value == pytest.approx(0.0, abs=1e-6) for value in losses(training(), torch.zeros(8, 3)).values()
    )


def test_errors_count_by_how_much_one_sees_of_them() -> None:
    """Squares times the size in mm within 0.3 to 3, over the mean of the sizes."""
    sizes = np.array([0.3, 2.0, 3.0])
    for coordinate, size in enumerate(sizes / sizes.mean()):
        error = torch.zeros(8, 3)
        error[:, coordinate] = 0.2
        assert losses(training(), error)["mse"] == pytest.approx(0.2**2 * size / 3, rel=1e-4)


def test_an_error_that_stays_has_no_velocity_and_one_that_shakes_has_much() -> None:
    sign = torch.tensor([1.0, -1.0]).repeat(4)
    still = losses(training(scale_mm=np.ones(3)), torch.full((8, 3), 0.1))
    shaking = losses(training(scale_mm=np.ones(3)), 0.1 * sign[:, None].expand(8, 3))
    assert still["velocity"] == pytest.approx(0.0, abs=1e-9)
    assert shaking["velocity"] == pytest.approx(0.2**2, rel=1e-4)
    assert shaking["mse"] == pytest.approx(still["mse"], rel=1e-4)
    assert shaking["loss"] - shaking["gap"] == pytest.approx(shaking["mse"] + shaking["velocity"], rel=1e-4)


def huber(x: float) -> float:
    return 0.5 * x * x if abs(x) <= 1.0 else abs(x) - 0.5


@pytest.mark.parametrize("wrong", [0.01, -0.02, 0.5])
def test_the_lip_gap_counts_in_millimetres_relative_to_the_gap(wrong: float) -> None:
    error = torch.zeros(8, 3)
    error[:, 1] = wrong
    gap = REST_MM + float(FACE @ PER_UNIT)
    assert losses(training(), error)["gap"] == pytest.approx(huber(-20.0 * wrong / (gap + 1.0)), rel=2e-3)
    error[:, 0] = 2.0 * wrong  # opens as much as the other closes
    assert losses(training(), error)["gap"] == pytest.approx(0.0, abs=1e-8)


def test_a_closure_is_stricter_than_an_open_vowel() -> None:
    error = torch.zeros(8, 3)
    error[:, 2] = 0.0
    error[:, 0] = 0.05
    found = []
    for face in (np.array([0.0, 0.2, 0.2], np.float32), np.array([1.0, 0.0, 0.2], np.float32)):
        work = training(face)
        clean = torch.from_numpy(face.astype(np.float16).astype(np.float32))
        parts = work._loss(Told(clean + error), work.data, np.random.default_rng(0), augment=False)  # type: ignore[arg-type]
        found.append(parts["gap"].item())
    assert found[0] == pytest.approx(
        huber(0.5 / 1.0), rel=1e-3
    )  # lips that pass through each other are closed
    assert found[1] == pytest.approx(huber(0.5 / 11.5), rel=2e-3)


def test_the_loss_is_the_sum_of_its_parts_by_their_weights() -> None:
    error = torch.zeros(8, 3)
    error[::2, 0] = 0.1
    work = training()
    parts = losses(work, error)
    assert min(parts.values()) > 1e-4
    assert parts["loss"] == pytest.approx(parts["mse"] + parts["velocity"] + parts["gap"], rel=1e-5)
    work.velocity_weight, work.gap_weight = 2.0, 3.0
    assert losses(work, error)["loss"] == pytest.approx(
        parts["mse"] + 2.0 * parts["velocity"] + 3.0 * parts["gap"], rel=1e-5
    )


def ask(work: MotionTraining, times: int, *, augment: bool) -> Told:
    net = Told(torch.zeros(()))
    for seed in range(times):
        work._loss(net, work.data, np.random.default_rng(seed), augment=augment)  # type: ignore[arg-type]
    return net


def test_a_quarter_of_the_examples_is_trained_without_sound_and_none_is_measured_so() -> None:
    """Classifier-free guidance needs a network that knows both (Ho and Salimans, 2021)."""
    dropped = torch.cat(ask(training(), 250, augment=True).dropped).float()
    assert len(dropped) == 1000 and dropped.mean().item() == pytest.approx(0.25, abs=0.045)
    assert not torch.cat(ask(training(), 50, augment=False).dropped).any()


def test_faces_are_scaled_by_one_factor_a_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's expression augmentation, w <- r w."""
    work, seen = training(), []
    encode = Representation.encode
    monkeypatch.setattr(Representation, "encode", lambda self, w: seen.append(w) or encode(self, w))
    ask(work, 200, augment=True)
    factors = np.concatenate(seen) / FACE.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(factors, factors[:, :1, :1].repeat(FRAMES, 1).repeat(3, 2), rtol=1e-5)
    drawn = factors[:, 0, 0]
    low, high = MotionTraining.expression_scale
    assert (low, high) == (0.85, 1.15) and drawn.min() >= low - 1e-4 and drawn.max() <= high + 1e-4
    assert drawn.std() == pytest.approx((high - low) / np.sqrt(12.0), rel=0.06)
    seen.clear()
    ask(work, 3, augment=False)
    np.testing.assert_allclose(np.concatenate(seen), np.broadcast_to(FACE, (12, 8, 3)), atol=1e-3)


def test_noise_is_of_all_timesteps_and_sound_is_standardised() -> None:
    work = training()
    net = ask(work, 250, augment=True)
    steps = torch.cat(net.timesteps)
    assert steps.min() < 10 and steps.max() > 990
    assert steps.float().mean().item() == pytest.approx(499.5, abs=35.0)
    late = torch.cat(net.noisy)[steps > 990]
    assert late.std().item() == pytest.approx(1.0, abs=0.15)  # next to nothing of the face is left
    heard = torch.cat(net.heard)
    stored = torch.from_numpy(work.data.features[0].astype(np.float32))
    assert heard.min().item() == pytest.approx(((stored.min() - 0.5) / 2.0).item(), abs=1e-3)
    assert heard.max().item() == pytest.approx(((stored.max() - 0.5) / 2.0).item(), abs=1e-3)


def test_the_average_follows_slowly_and_is_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    work = training()
    with torch.no_grad():
        for parameter in work.net.parameters():
            parameter.add_(1.0)
    before = [p.clone() for p in work.average.parameters()]
    asked: list[tuple[Any, bool]] = []
    monkeypatch.setattr(
        work,
        "_loss",
        lambda net, data, rng, augment: asked.append((net, augment)) or {"loss": torch.zeros(())},
    )
    work.step(0)
    for was, is_now in zip(before, work.average.parameters(), strict=True):
        torch.testing.assert_close(is_now - was, torch.full_like(was, 0.9), atol=1e-5, rtol=0)
    work.step(1)
    work.step(50)
    trained, measured = (work.net, True), (work.average, False)
    assert asked == [trained, measured, trained, trained, measured]


class Asked(Exception):
    """Raised in place of a training."""


def test_gradients_are_clipped_and_rates_warmed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = training()

    def loop(name: str, out: Path, modules: dict[str, nn.Module], optimizer: Any, options: Any) -> None:
        assert set(modules) == {"denoiser", "average"} and options.clip_norm == 1.0 and options.warmup == 1
        assert (options.steps, options.max_minutes, options.seed) == (7, 3.0, 5)
        raise Asked

    made, spaces = [], []

    class Told(MotionTraining):
        def __init__(self, *args: Any, feature_space: str | None, **settings: Any) -> None:
            spaces.append(feature_space)
            super().__init__(*args, feature_space=feature_space, **settings)

    def build(utterances: Any, encoder: Any, cache: Path, **settings: Any) -> MotionData:
        made.append((utterances, settings))
        settings.get("keep_going", lambda: True)()
        return work.data

    monkeypatch.setattr(motion_train, "TrainingLoop", loop)
    monkeypatch.setattr(motion_train, "build", build)
    monkeypatch.setattr(motion_train, "read_manifest", lambda corpus, split: split)
    monkeypatch.setattr(motion_train, "prepare", lambda data, head, preset, init, space: work.model)
    encoder = SimpleNamespace(feature_space="abc")
    monkeypatch.setattr(motion_train.AudioEncoder, "from_pretrained", lambda name: encoder)
    monkeypatch.setattr(motion_train, "MotionTraining", Told)
    options = MotionTrainingOptions(
        tmp_path, "a", tmp_path / "o", steps=7, minutes=3.0, seed=5, variants=3, share=0.5
    )
    with pytest.raises(Asked):
        motion_train.train(options)
    assert spaces == ["abc"]  # the model remembers whose features it was trained on
    (train, told), (valid, held) = made
    assert (train, valid) == ("train", "valid")
    assert (told["variants"], told["share"], told["seed"], told["draws"]) == (3, 0.5, 5, 3)
    # Held-out speech is measured as it is: its first variant, which is never spoilt.
    assert (held["variants"], held["draws"], held["seed"]) == (1, 1, 6) and "share" not in held
