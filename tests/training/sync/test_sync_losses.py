"""What the sync expert is told to learn: its loss against a slow twin, and every way in which clips vary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chance import Chance

from facetalk.data.speech.corpus import Utterance
from facetalk.metrics.sync_network import SyncConfig
from facetalk.training.sync import dataset
from facetalk.training.sync import train as sync_train
from facetalk.training.sync.dataset import CROP, MouthRig, SyncData, draw_style, make_batch, vary
from facetalk.training.sync.loss import OTHERS, contrastive_terms


def slow_loss(motion: np.ndarray, audio: np.ndarray, log_scale: float, weight: np.ndarray) -> float:
    """For at most two clips whose sound and motion are the same in all windows of the other one."""
    clips, windows, _ = motion.shape
    scale, total = min(np.exp(log_scale), 50.0), 0.0
    for own, other in ((motion, audio), (audio, motion)):
        costs = np.zeros((clips, windows))
        for clip in range(clips):
            for w in range(windows):
                exponents = {
                    v: scale * own[clip, w] @ other[clip, v] for v in range(windows) if abs(v - w) != 2
                }
                share = sum(np.exp(e) for e in exponents.values())
                if clips > 1:
                    share += OTHERS * np.exp(scale * own[clip, w] @ other[1 - clip, 0])
                label = {v: np.exp(-((v - w) ** 2) / (2 * 0.7**2)) for v in range(windows) if abs(v - w) <= 1}
                for v, mark in label.items():
                    costs[clip, w] -= mark / sum(label.values()) * (exponents[v] - np.log(share))
        total += 0.5 * (costs * weight).sum() / weight.sum()
    return total


@pytest.mark.parametrize(("clips", "log_scale"), [(1, 1.0), (2, 1.0), (2, 9.0)])
def test_the_loss_is_that_of_its_slow_twin(clips: int, log_scale: float) -> None:
    rng = np.random.default_rng(0)
    steady = 1 if clips > 1 else 9
    motion, audio = (rng.normal(size=(clips, steady, 4)).repeat(9 // steady, 1) for _ in range(2))
    motion /= 3 * np.linalg.norm(motion, axis=-1, keepdims=True)
    audio /= 3 * np.linalg.norm(audio, axis=-1, keepdims=True)
    weight = rng.uniform(0.1, 1.0, (clips, 9))
    tensors = (torch.as_tensor(x, dtype=torch.float64) for x in (motion, audio, log_scale, weight))
    found = contrastive_terms(*tensors, torch.Generator().manual_seed(0))
    assert found["loss"].item() == pytest.approx(slow_loss(motion, audio, log_scale, weight), rel=1e-6)
    assert found["scale"].item() == pytest.approx(min(np.exp(log_scale), 50.0))


def test_windows_within_a_frame_are_counted_by_weight() -> None:
    motion, weight = torch.eye(6)[None], torch.tensor([[0.2, 1.0, 1.0, 1.0, 1.0, 1.0]])

    def share(order: list[int]) -> float:
        terms = contrastive_terms(motion, motion[:, order], torch.tensor(1.0), weight, torch.Generator())
        return terms["within_1"].item()

    assert share([1, 0, 3, 2, 5, 4]) == pytest.approx(1.0)
    assert share([2, 1, 0, 3, 4, 5]) == pytest.approx(4.0 / 5.2)


def ramp(frames: int = 3) -> np.ndarray:
    return np.tile(np.arange(80, dtype=np.float32), (frames, 1))


NO = [0.99, 0.99, 0.99, 0.99]


def told(place: int, coin: float) -> list[float]:
    return [coin if i == place else 0.99 for i in range(4)]


def test_formants_move_by_up_to_15_percent() -> None:
    np.testing.assert_array_equal(vary(ramp(), Chance(NO)), ramp())  # type: ignore[arg-type]
    for share, factor in ((0.0, np.exp(-0.15)), (1.0, np.exp(0.15))):
        out = vary(ramp(), Chance(told(0, 0.69), share))  # type: ignore[arg-type]
        np.testing.assert_allclose(out[0], np.minimum(np.arange(80) * factor, 79), atol=1e-3)
    np.testing.assert_array_equal(vary(ramp(), Chance(told(0, 0.71), 1.0)), ramp())  # type: ignore[arg-type]


def test_spectra_are_coloured_smoothly_by_some_decibels() -> None:
    gains = []
    for seed in range(60):
        chance = Chance(told(1, 0.69))
        chance.real = np.random.default_rng(seed)
        gain = vary(np.zeros((3, 80), np.float32), chance)  # type: ignore[arg-type]
        np.testing.assert_array_equal(gain[0], gain[2])
        assert (np.abs(np.diff(gain[0], 2)) > 0.05).sum() <= 8  # straight between six knots
        gains.append(gain[0, 0])
    assert np.std(gains) == pytest.approx(5.0, abs=1.0)
    assert not vary(np.zeros((3, 80), np.float32), Chance(told(1, 0.71))).any()  # type: ignore[arg-type]


def test_a_floor_of_noise_lies_15_to_55_db_below_the_loudest() -> None:
    quiet = np.full((400, 80), -120.0, np.float32)
    quiet[:, :8] = 0.0  # a tenth is loud: the 95th percentile
    for share, below in ((0.0, 15.0), (1.0, 55.0)):
        tilt = -15.0 if share == 0.0 else 15.0
        out = vary(quiet, Chance(told(2, 0.59), share))  # type: ignore[arg-type]
        expected = -below + tilt * (np.arange(80) / 80 - 0.5)
        np.testing.assert_allclose(out[:, 8:].mean(0), expected[8:], atol=1.0)
        assert out[:, 8:].std(0).mean() == pytest.approx(4.0, abs=0.3)
    np.testing.assert_array_equal(vary(quiet, Chance(told(2, 0.61))), quiet)  # type: ignore[arg-type]


def test_now_and_then_a_few_bands_are_lost() -> None:
    widths = []
    for seed in range(60):
        chance = Chance(told(3, 0.24))
        chance.real = np.random.default_rng(seed)
        given = ramp() + 5.0
        lost = np.flatnonzero(vary(given, chance)[1] == 5.0)  # type: ignore[arg-type]
        np.testing.assert_array_equal(given, ramp() + 5.0)
        lost = lost if lost[0] else lost[np.r_[True, np.diff(lost) == 1]]
        widths.append(len(lost))
    assert 3 <= min(widths) <= 5 and 13 <= max(widths) <= 16
    np.testing.assert_array_equal(vary(ramp(), Chance(told(3, 0.26))), ramp())  # type: ignore[arg-type]


def test_each_chance_is_as_it_is_said() -> None:
    """Of many clips as many are left alone as the four chances say."""
    rng, flat = np.random.default_rng(0), np.zeros((2, 80), np.float32)
    same = np.mean([np.array_equal(vary(flat, rng), flat) for _ in range(1500)])
    # Formants and lost bands change nothing of a flat spectrum.
    assert same == pytest.approx(0.3 * 0.4, abs=0.03)


def rig(identities: int = 3) -> MouthRig:
    rng = np.random.default_rng(1)
    neutral = np.repeat(rng.normal(size=(1, 20, 3)) * 0.02, identities, 0)
    neutral += np.arange(identities)[:, None, None]  # a metre apart, to be told from each other
    return MouthRig(
        np.zeros((68, 3), np.float32), neutral.astype(np.float32), np.zeros((identities, 53, 20, 3))
    )


def test_batches_draw_identities_faces_and_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, seen, heard = 300, [], []
    weights = np.zeros((2, frames, 53), np.float16)
    weights[1] = 1.0
    moved = rig()
    moved.basis[..., 0] = 10.0 / 53  # the second face is ten metres away
    spectra = np.repeat(np.arange(frames), 4)[:, None].repeat(80, 1).astype(np.float16)
    data = SyncData([spectra], [weights])
    monkeypatch.setattr(dataset, "vary", lambda s, rng: s + 1000.0)
    monkeypatch.setattr(
        dataset, "motion_features", lambda m: seen.append(m) or np.zeros((len(m), 120), np.float32)
    )
    monkeypatch.setattr(dataset, "audio_features", lambda s: heard.append(s) or s)
    batch = make_batch(data, moved, np.random.default_rng(0), 300)
    assert batch["motion"].shape == (300, CROP, 120) and batch["audio"].shape == (300, 4 * CROP, 80)
    places = np.array([m[..., 0].mean() for m in seen])
    faces, identities = (places > 5.0), np.round(places) % 10.0
    assert faces.mean() == pytest.approx(0.5, abs=0.1)
    assert all((identities == i).mean() == pytest.approx(1 / 3, abs=0.1) for i in range(3))
    jitter = np.array([(m - m.mean(0)).std() * 1000 for m in seen])  # mm, up to 0.08, evenly
    assert jitter.max() < 0.085 and jitter.mean() == pytest.approx(0.04, abs=0.005) and jitter.min() < 0.01
    lengths = np.array([len(m) for m in seen])
    assert lengths.min() >= CROP and lengths.max() <= 250 and lengths.std() > 30
    for m, s, cropped in zip(seen, heard, batch["audio"].numpy(), strict=True):
        assert len(s) == 4 * len(m) and s.min() >= 1000.0
        np.testing.assert_array_equal(np.diff(cropped[::4, 0]), 1.0)
        assert s[0, 0] <= cropped[0, 0] and cropped[-1, 0] <= s[-1, 0]
    firsts = batch["audio"][:, 0, 0].numpy() - 1000.0
    assert firsts.min() < 10 and firsts.max() > frames - CROP - 10


def test_motion_and_sound_of_a_crop_are_of_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = 200
    weights = np.zeros((1, frames, 53), np.float16)
    weights[0, :, 0] = np.arange(frames)
    moved = rig(1)
    moved.neutral[:] = 0.0
    moved.basis[:, 0, :, 0] = 1.0
    spectra = np.repeat(np.arange(frames), 4)[:, None].repeat(80, 1).astype(np.float16)
    monkeypatch.setattr(dataset, "vary", lambda s, rng: s)
    monkeypatch.setattr(dataset, "motion_features", lambda m: m[:, 0, :1].repeat(120, 1))
    monkeypatch.setattr(dataset, "audio_features", lambda s: s)
    batch = make_batch(SyncData([spectra], [weights]), moved, np.random.default_rng(0), 40)
    np.testing.assert_allclose(batch["motion"][:, :, 0], batch["audio"][:, ::4, 0], atol=0.01)


def test_styles_lie_between_half_and_twice_as_lively() -> None:
    rng = np.random.default_rng(0)
    drawn = np.log2([(s.jaw, s.lips) for s in (draw_style(rng) for _ in range(500))])
    assert drawn.min() >= -1.0 and drawn.max() <= 1.0
    np.testing.assert_allclose(drawn.mean(0), 0.0, atol=0.1)
    np.testing.assert_allclose(drawn.std(0), 2 / np.sqrt(12), atol=0.05)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.15


class Asked(Exception):
    """Raised in place of a training."""


def test_windows_count_by_how_much_moves_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    class Loop:
        def __init__(self, name: str, out: Path, modules: Any, optimizer: Any, options: Any) -> None:
            assert options.clip_norm == 1.0 and options.warmup == 6 and options.seed == 4
            decays = {group["weight_decay"] for group in optimizer.param_groups}
            assert decays == {0.02, 0.0}
            for group in optimizer.param_groups:  # matrices shrink, biases and scales do not
                assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}

        def run(self, step: Any, on_save: Any) -> None:
            step(0)
            raise Asked

    speed = torch.full((1, CROP, 60), 0.5)
    speed[0, 40:] = 1e-4
    motion = torch.cat([torch.zeros(1, CROP, 60), speed], -1)
    batch = {"motion": motion, "audio": torch.randn(1, 4 * CROP, 80)}
    said = Utterance("u", Path("u"), "", "v", "en", "CC0", "t", "train", [("AA", 0.0, 4.0)], "arpabet")
    monkeypatch.setattr(sync_train, "TrainingLoop", Loop)
    monkeypatch.setattr(sync_train, "make_batch", lambda *_: batch)
    monkeypatch.setattr(sync_train, "build", lambda *_, **__: SyncData([], []))
    monkeypatch.setattr(sync_train, "read_manifest", lambda corpus, split: [said] if split == "train" else [])
    monkeypatch.setattr(sync_train.MouthRig, "of", lambda *_: rig(1))
    monkeypatch.setattr(sync_train, "_typical_speed", lambda speeds: 0.25)
    monkeypatch.setattr(
        sync_train, "contrastive_terms", lambda m, a, scale, weight, g: told.update(weight=weight)
    )
    config = sync_train.SyncTraining(tmp_path, tmp_path / "out", steps=100, seed=4)
    with pytest.raises(Asked):
        sync_train.train(config, None, SyncConfig(24, 24, 16))  # type: ignore[arg-type]
    weight = told["weight"][0]
    assert weight[0] == 1.0 and weight[-1] == pytest.approx(0.02)
    assert weight[32].item() == pytest.approx(1.0) and weight[39].item() == pytest.approx(
        (0.5 + 15e-4) / 16 / 0.25, rel=1e-3
    )
    assert sync_train.MouthRig is MouthRig


def test_weights_are_a_matter_of_seed_and_batches_of_the_process_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a seed of its own a network begins anew in every run; processes that draw one batch twice have
    learned from half of what they paid for."""
    begun: list[torch.Tensor] = []
    drawn: list[int] = []

    class Loop:
        def __init__(self, name: str, out: Path, modules: Any, *_: Any) -> None:
            begun.append(torch.cat([p.detach().flatten() for p in modules["networks"].parameters()]))

        def run(self, step: Any, on_save: Any) -> None:
            step(7)
            raise Asked

    def make_batch(data: Any, rig: Any, rng: np.random.Generator, count: int) -> dict[str, torch.Tensor]:
        drawn.append(int(rng.integers(2**62)))
        return {"motion": torch.ones(1, CROP, 120), "audio": torch.ones(1, 4 * CROP, 80)}

    said = Utterance("u", Path("u"), "", "v", "en", "CC0", "t", "train", [("AA", 0.0, 4.0)], "arpabet")
    monkeypatch.setattr(sync_train, "TrainingLoop", Loop)
    monkeypatch.setattr(sync_train, "make_batch", make_batch)
    monkeypatch.setattr(sync_train, "build", lambda *_, **__: SyncData([], []))
    monkeypatch.setattr(sync_train, "read_manifest", lambda corpus, split: [said] if split == "train" else [])
    monkeypatch.setattr(sync_train.MouthRig, "of", lambda *_: rig(1))
    for number, (seed, rank) in enumerate(((4, "0"), (4, "1"), (5, "0"))):
        torch.manual_seed(number)  # of whatever came before
        monkeypatch.setenv("RANK", rank)
        config = sync_train.SyncTraining(tmp_path, tmp_path / "out", steps=100, seed=seed)
        with pytest.raises(Asked):
            sync_train.train(config, None, SyncConfig(24, 24, 16))  # type: ignore[arg-type]
    assert torch.equal(begun[0], begun[1]) and not torch.equal(begun[0], begun[2])
    assert len(set(drawn[1::2])) == 3, "the typical speed is asked of a batch first, the same for all"
    assert drawn[0] == drawn[2]


def test_the_typical_speed_is_the_median() -> None:
    assert sync_train._typical_speed(torch.tensor([[1.0, 2.0, 9.0]])) == 2.0
    assert sync_train._typical_speed(torch.zeros(1, 3)) == 1e-6
