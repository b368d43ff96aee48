"""Training data and training step, on seconds of sound and an encoder that hears levels alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from level_hearing import LevelEncoder, head_of_lips

from facetalk.data.speech.corpus import Utterance
from facetalk.data.visemes import lip_gap
from facetalk.diffusion import MotionModel
from facetalk.errors import InputError
from facetalk.training.motion.dataset import build, sessions
from facetalk.training.motion.train import MotionTraining, MotionTrainingOptions, prepare

PHONES = [("SIL", 0.0, 0.2), ("M", 0.2, 0.4), ("AA1", 0.4, 0.8), ("P", 0.8, 0.95), ("AE1", 0.95, 1.3)]


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    """Loud vowels, faint consonants."""
    out = []
    for index in range(4):
        time = np.arange(int(1.3 * 16000)) / 16000
        samples = np.zeros(len(time))
        for symbol, start, end in PHONES:
            inside = (time >= start) & (time < end)
            level = 0.5 if symbol[-1] == "1" else 0.02
            samples[inside] = level * np.sin(time[inside] * 900 * (index + 3))
        soundfile.write(tmp_path / f"{index}.wav", samples, 16000)
        path = tmp_path / f"{index}.wav"
        out.append(Utterance(f"u{index}", path, "", "v", "en", "CC0", "test", "train", PHONES, "arpabet"))
    return out


@pytest.mark.parametrize("augment", [False, True])
def test_sessions_keep_sound_and_phones_together(utterances: list[Utterance], augment: bool) -> None:
    (session,) = sessions(utterances, np.random.default_rng(0), augment=augment)
    vowels = [(a, b) for s, a, b in session.phones if s.startswith("A")]
    assert len(vowels) == 8
    level = np.abs(session.samples)
    inside = np.zeros(len(level), bool)
    for start, end in vowels:
        inside[int((start + 0.05) * 16000) : int((end - 0.05) * 16000)] = True
    assert level[inside].mean() > 2.0 * level[~inside].mean()
    if not augment:
        silent = slice(0, int(session.phones[0][1] * 16000))
        assert level[silent].max() < 0.02 * level.max()


def test_build_draws_faces_and_reads_its_cache_the_second_time(
    utterances: list[Utterance], tmp_path: Path
) -> None:
    encoder = LevelEncoder()
    options = dict(fps=25.0, variants=2, draws=3, seed=0)
    data = build(utterances, encoder, tmp_path / "cache", **options)
    assert len(data.features) == len(data.weights) == 2
    for features, weights in zip(data.features, data.weights, strict=True):
        assert features.shape[1] == 5 and weights.shape == (3, len(features), 53)
        assert np.abs(weights[0] - weights[1]).max() > 0.1
    calls = encoder.calls
    again = build(utterances, encoder, tmp_path / "cache", **options)
    assert encoder.calls == calls + 2  # one short probe per variant, no corpus
    np.testing.assert_array_equal(again.features[1], data.features[1])
    other = build(utterances[:3], encoder, tmp_path / "cache", **options)
    assert len(other.features[0]) != len(data.features[0])
    features, weights = data.crop(np.random.default_rng(0), 24)
    assert features.shape == (24, 5) and weights.shape == (24, 53)


def test_build_can_stop_early_and_refuses_an_empty_corpus(
    utterances: list[Utterance], tmp_path: Path
) -> None:
    options = dict(fps=25.0, draws=1, seed=0)
    data = build(utterances, LevelEncoder(), tmp_path, variants=5, keep_going=lambda: False, **options)
    assert len(data.features) == 1
    with pytest.raises(InputError, match="no utterances"):
        build([], LevelEncoder(), tmp_path, variants=1, **options)


def test_training_learns_to_open_on_loud_frames_and_the_model_loads(
    utterances: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facetalk.training.motion.train.MorphableHead.load", head_of_lips)
    data = build(utterances, LevelEncoder(), tmp_path / "cache", fps=25.0, variants=1, draws=2, seed=0)
    options = MotionTrainingOptions(Path("c"), "a", tmp_path, Path("h"), batch=8, crop=32, rate=3e-3)
    torch.manual_seed(0)
    training = MotionTraining(data, data, prepare(data, Path("h"), "mini"), options, feature_space="abc")
    assert "held_out_loss" in training.step(17)  # a training that goes on between two measurements
    losses = []
    for index in range(60):
        result = training.step(index)
        result["loss"].backward()
        training.optimizer.step()
        training.optimizer.zero_grad()
        losses.append(result["loss"].item())
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    assert {"mse", "gap", "held_out_loss"} <= set(result)
    training.save(tmp_path)
    model = MotionModel.load(tmp_path / "model")
    features = data.features[0].astype(np.float32)
    gap = lip_gap(model.sample(features, seed=0, steps=8))
    truth = lip_gap(data.weights[0].astype(np.float64)).mean(0)
    assert np.corrcoef(gap, truth)[0, 1] > 0.7
    assert model.notes["feature_space"] == "abc"
    # One that goes on from it with an encoder of other features, of which nobody said whose they are.
    again = MotionTraining(data, data, prepare(data, None, "mini", tmp_path / "model"), options)
    (tmp_path / "again").mkdir()
    again.save(tmp_path / "again")
    notes = MotionModel.load(tmp_path / "again" / "model").notes
    assert "feature_space" not in notes and notes["started_from"]["feature_space"] == "abc"
    assert "--seed 0" in model.notes["trained_with"] and str(tmp_path) not in model.notes["trained_with"]
