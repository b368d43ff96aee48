"""Training of the small encoder: targets, augmentation, a few steps that learn, and resuming."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from facetalk.audio import AudioEncoder
from facetalk.cli import train_audio
from facetalk.data.phones import CLASSES
from facetalk.data.speech.corpus import Utterance, write_manifest
from facetalk.errors import InputError
from facetalk.training.audio import train as audio_train
from facetalk.training.audio.augment import change_speed, spoil
from facetalk.training.audio.mini_wav2vec2 import gabor_filters
from facetalk.training.audio.targets import CURVES, make_targets
from facetalk.units import SAMPLE_RATE

PITCH = {"AA": 300.0, "M": 120.0, "S": 5000.0}


@pytest.fixture(scope="module")
def beeps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of three phones, each with a pitch of its own."""
    folder = tmp_path_factory.mktemp("beeps")
    (folder / "audio").mkdir()
    rng = np.random.default_rng(0)
    utterances = []
    for i in range(6):
        names = [str(rng.choice(list(PITCH))) for _ in range(16)]
        time = np.arange(SAMPLE_RATE // 4) / SAMPLE_RATE
        wave = np.concatenate([0.3 * np.sin(2 * np.pi * PITCH[n] * time) for n in names])
        path = folder / "audio" / f"{i}.flac"
        soundfile.write(path, wave, SAMPLE_RATE)
        phones = [(n, k / 4, (k + 1) / 4) for k, n in enumerate(names)]
        split = "valid" if i == 5 else "train"
        utterances.append(
            Utterance(f"u{i}", path, "", f"v{i}", "en", "CC0-1.0", "test", split, phones, "arpabet")
        )
    write_manifest(folder, utterances)
    return folder


def settings(beeps: Path, out: Path, **changes: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    train_audio.add_arguments(parser)
    args = parser.parse_args(["--corpus", str(beeps), "--out", str(out), "--batch", "4"])
    for key, value in changes.items():
        setattr(args, key, value)
    return args


def test_training_learns_and_saves_a_loadable_encoder(
    beeps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_audio.run(settings(beeps, tmp_path, steps=20)) == 0
    encoder = AudioEncoder.from_pretrained(tmp_path / "encoder")
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {"loss", "held_out_loss", "held_out_phones"} <= set(log[-1])
    assert encoder.feature_dim == 192 and encoder.span(25.0) == 10
    assert encoder.feature_space is not None
    assert train_audio.run(settings(beeps, tmp_path, evaluate=str(beeps), batch=None)) == 0
    report = capsys.readouterr().out.splitlines()[-1]
    assert report.startswith("v5:")
    figures = dict(item.split() for item in report.removeprefix("v5: ").split(", "))
    assert float(figures["phone_accuracy"]) > 0.5  # chance is a third
    with pytest.raises(InputError, match="add --resume"):
        train_audio.run(settings(beeps, tmp_path, steps=21))
    train_audio.run(settings(beeps, tmp_path, steps=21, resume=True))
    assert "resumed_at 20" in capsys.readouterr().out
    again = AudioEncoder.from_pretrained(tmp_path / "encoder")
    assert again.feature_space not in (None, encoder.feature_space)  # its features are others now


def test_batches_depend_on_seed_and_step_alone(beeps: Path) -> None:
    speech = audio_train.Speech(audio_train.read_manifest(beeps, split="train"))
    config = audio_train.AudioTraining(beeps, beeps, batch=2, crop_s=1.0)
    one, two, other = (audio_train.make_batch(speech, config, step, (1680, 320)) for step in (3, 3, 4))
    assert one["waves"].shape == (2, 16000 + 1680 - 320) and one["classes"].shape == (2, 25, len(CLASSES))
    assert all(torch.equal(one[k], two[k]) for k in one) and not torch.equal(one["waves"], other["waves"])
    assert all(bool(torch.isfinite(value).all()) for value in one.values())


def test_targets_follow_the_phones() -> None:
    targets = make_targets([("AA", 0.2, 0.5), ("M", 0.5, 0.7)], 1.0, "arpabet")
    times = (np.arange(25) + 0.5) / 25
    shares, curves = targets.at(times, 1 / 25)
    assert CLASSES[shares[8].argmax()] == "a" and CLASSES[shares[15].argmax()] == "m"
    np.testing.assert_allclose(shares.sum(1), 1.0, atol=1e-6)
    gap = curves[:, 0] * CURVES[0][2]
    assert gap[14:17].min() < 0.1 < 5 < gap[6:11].max()
    outside, _ = targets.at(np.array([-0.3, 1.4]), 1 / 25)
    assert (outside.argmax(1) == CLASSES.index("silence")).all()


def test_augmentation_keeps_length_and_level() -> None:
    wave = np.sin(np.arange(32000) / 20).astype(np.float32)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        out = spoil(wave, rng, wave[::-1].copy() if seed % 2 else None)
        assert out.shape == wave.shape and out.dtype == np.float32 and np.isfinite(out).all()
        assert 0.2 < out.std() < 4
    assert abs(len(change_speed(wave, 1.25)) - 25600) <= 2


def test_filters_are_bands_in_four_phases() -> None:
    filters, bias = gabor_filters(160, 400)
    peaks = np.abs(np.fft.rfft(filters[:152], 4096)).argmax(1) * SAMPLE_RATE / 4096
    assert (np.diff(peaks[::4]) > 0).all() and peaks[0] < 200 and peaks[-1] > 6500
    np.testing.assert_allclose(filters[0], -filters[2], atol=1e-6)
    assert (bias[152:] != 0).all() and (filters[152:] == 0).all()


def test_bad_arguments(beeps: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make a corpus"):
        train_audio.run(settings(tmp_path, tmp_path))
    with pytest.raises(InputError, match="positive"):
        train_audio.run(settings(beeps, tmp_path, batch=0))
    with pytest.raises(InputError, match="steps"):
        train_audio.run(settings(beeps, tmp_path, steps=0))
    with pytest.raises(InputError, match="--batch does nothing with --evaluate"):
        train_audio.run(settings(beeps, tmp_path, evaluate=str(beeps)))
    with pytest.raises(InputError):
        train_audio.run(settings(beeps, tmp_path / "nothing", evaluate=str(beeps), batch=None))
