"""The sync expert that travels with the package, on a voice it never heard: right, still and late mouths."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from truth import TEXTS, Truth, speech

from facetalk.audio.mel import log_mel
from facetalk.audio.mel_bands import MEL_BANDS, mel_filters
from facetalk.errors import InputError
from facetalk.metrics import SyncExpert
from facetalk.metrics.sync import MAX_SHIFT, mean_distances
from facetalk.metrics.sync_network import (
    SyncConfig,
    SyncNetworks,
    audio_features,
    motion_features,
    stabilise,
)
from facetalk.pipeline import FaceTalk
from facetalk.training.sync.dataset import MouthRig
from facetalk.units import SAMPLE_RATE


@pytest.fixture(scope="module")
def expert() -> SyncExpert:
    return SyncExpert.from_pretrained()


@pytest.fixture(scope="module")
def rig() -> MouthRig:
    return MouthRig.of(FaceTalk.from_pretrained(device="cpu"), 1)


@pytest.fixture(scope="module", params=TEXTS, ids=["maps", "foam"])
def truth(request: pytest.FixtureRequest, rig: MouthRig) -> Truth:
    return Truth(rig, speech(request.param))


def test_delays_are_found(expert: SyncExpert, truth: Truth) -> None:
    wanted = np.arange(-8, 9)
    found = [expert.score(truth.sound, truth.face(delay=int(d)), 25)["offset_frames"] for d in wanted]
    assert np.abs(found - wanted).max() <= 1
    assert np.polyfit(wanted, found, 1)[0] == pytest.approx(1.0, abs=0.03)


def test_the_curve_has_its_minimum_at_zero_and_rises(expert: SyncExpert, truth: Truth) -> None:
    shifts, means = expert.curve(truth.sound, truth.face(), 25)
    middle = len(shifts) // 2
    assert shifts[means.argmin()] == 0
    assert (np.diff(means[middle : middle + 4]) > 0).all()
    assert (np.diff(means[middle - 3 : middle + 1]) < 0).all()
    score = expert.score(truth.sound, truth.face(), 25)
    assert score["distance"] == score["best_distance"] == pytest.approx(means[middle])
    assert score["confidence"] == pytest.approx(np.median(means) - means[middle])


def test_exaggeration_is_not_rewarded(expert: SyncExpert, truth: Truth) -> None:
    plain = expert.score(truth.sound, truth.face(), 25)["distance"]
    for factor in (0.5, 1.5, 2.0):
        assert expert.score(truth.sound, truth.face(factor=factor), 25)["distance"] >= plain - 1e-4
    # Twice the codes saturate: lips press and stretch as truth's do not.
    curves = np.clip(2.0 * truth.weights, 0.0, 1.0)
    assert expert.score(truth.sound, truth.face(curves), 25)["distance"] > plain - 0.02


def test_motions_that_do_not_belong_are_told(expert: SyncExpert, truth: Truth, rig: MouthRig) -> None:
    good = expert.score(truth.sound, truth.face(), 25)
    still = expert.score(truth.sound, truth.face(np.zeros_like(truth.weights)), 25)
    order = np.random.default_rng(0).permutation(len(truth.weights))
    shuffled = expert.score(truth.sound, truth.face(truth.weights[order]), 25)
    assert good["confidence"] > 0.3 > 0.1 > still["confidence"]
    assert shuffled["confidence"] < 0.2
    assert min(still["distance"], shuffled["distance"]) > good["distance"] + 0.3
    # As far from the sound as two random directions, whose mean distance is the root of 2.
    assert still["distance"] == pytest.approx(2**0.5, abs=0.3)


def test_same_input_same_figures_at_any_gain(expert: SyncExpert, truth: Truth) -> None:
    samples, rate = truth.sound
    first = expert.score(truth.sound, truth.face(), 25)
    assert expert.score(truth.sound, truth.face(), 25) == first
    quiet = expert.score((samples * np.float32(0.01), rate), truth.face(), 25)
    assert quiet == pytest.approx(first, abs=1e-3)


def test_the_head_may_turn(expert: SyncExpert, truth: Truth) -> None:
    face = truth.face()
    angle = 0.4 * np.sin(np.arange(len(face)) / 9.0)
    cos, sin, none, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    turn = np.stack([cos, none, sin, none, one, none, -sin, none, cos], axis=1).reshape(-1, 3, 3)
    turned = np.einsum("tij,tkj->tki", turn, face) + np.array([0.1, -0.2, 0.3]) * angle[:, None, None]
    np.testing.assert_allclose(
        stabilise(turned, truth.rig.template), stabilise(face, truth.rig.template), atol=1e-8
    )
    still, moving = (expert.score(truth.sound, f, 25) for f in (face, turned))
    assert moving == pytest.approx(still, abs=1e-4)


@pytest.mark.parametrize("fps", [30.0, 50.0, 60.0])
def test_other_frame_rates(expert: SyncExpert, rig: MouthRig, fps: float) -> None:
    clip = Truth(rig, speech(TEXTS[0]))
    quick = Truth(rig, clip.speech, fps)
    plain = expert.score(clip.sound, clip.face(), 25)
    assert expert.score(clip.sound, quick.face(), fps)["distance"] == pytest.approx(
        plain["distance"], abs=0.1
    )
    late = expert.score(clip.sound, quick.face(delay=round(0.2 * fps)), fps)
    assert late["offset_frames"] == pytest.approx(0.2 * fps, abs=fps / 25 * 1.01)


def test_short_clips_are_searched_less_far(expert: SyncExpert, truth: Truth) -> None:
    samples, rate = truth.sound
    score = expert.score((samples[: rate * 6 // 5], rate), truth.face()[:30], 25)
    assert score["searched_frames"] == 5
    long = expert.score(truth.sound, truth.face(), 25)
    assert long["searched_frames"] == MAX_SHIFT


@pytest.mark.parametrize(
    ("landmarks", "fps", "samples", "message"),
    [
        (np.zeros((50, 68)), 25, 32000, "shape"),
        (np.zeros((50, 20, 3)), 25, 32000, "shape"),
        (np.full((50, 68, 3), np.nan), 25, 32000, "frame 0 are not finite"),
        (np.zeros((50, 68, 3)), 25, 32000, "in metres"),
        (np.random.default_rng(0).normal(size=(50, 68, 3)) * 50, 25, 32000, "in metres"),
        (np.random.default_rng(0).normal(size=(50, 68, 3)) * 0.03, 0, 32000, "frame rate"),
        (np.random.default_rng(0).normal(size=(50, 68, 3)) * 0.03, float("nan"), 32000, "frame rate"),
        (np.random.default_rng(0).normal(size=(20, 68, 3)) * 0.03, 25, 32000, "at least 1 s"),
        (np.random.default_rng(0).normal(size=(50, 68, 3)) * 0.03, 25, 8000, "at least 1 s"),
        (np.random.default_rng(0).normal(size=(50, 68, 3)) * 0.03, 25, 0, "no samples"),
    ],
)
def test_bad_clips(expert: SyncExpert, landmarks: np.ndarray, fps: float, samples: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        expert.score((np.zeros(samples, np.float32), SAMPLE_RATE), landmarks, fps)


def test_silence_and_missing_files(expert: SyncExpert, truth: Truth, tmp_path: Path) -> None:
    silent = expert.score((np.zeros(len(truth.sound[0]), np.float32), SAMPLE_RATE), truth.face(), 25)
    assert silent["confidence"] < 0.1 and np.isfinite(list(silent.values())).all()
    with pytest.raises(InputError, match="no such file"):
        expert.score(tmp_path / "none.wav", truth.face(), 25)


def test_expert_as_files(expert: SyncExpert, tmp_path: Path) -> None:
    expert.save(tmp_path / "one")
    again = SyncExpert.from_pretrained(tmp_path / "one")
    for name, value in expert.networks.state_dict().items():
        torch.testing.assert_close(again.networks.state_dict()[name], value, rtol=2e-3, atol=1e-6)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    with pytest.raises(InputError, match="holds other files"):
        expert.save(tmp_path / "mine")
    settings = tmp_path / "one" / "settings.json"
    for content, message in (("{", "damaged"), ("[]", "damaged"), (json.dumps({"format": "x"}), "not a ")):
        settings.write_text(content)
        with pytest.raises(InputError, match=message):
            SyncExpert.from_pretrained(tmp_path / "one")
    with pytest.raises(InputError, match="not a sync expert"):
        SyncExpert.from_pretrained(tmp_path / "mine")


def test_windows_are_sixteen_frames_of_both() -> None:
    torch.manual_seed(0)
    networks = SyncNetworks(SyncConfig(16, 16, 8)).eval()
    motion, sound = torch.randn(1, 40, 120), torch.randn(1, 160, MEL_BANDS)
    with torch.inference_mode():
        a, b = networks.embed_motion(motion), networks.embed_audio(sound)
        assert a.shape == b.shape == (1, 25, 8)
        torch.testing.assert_close(networks.embed_motion(motion[:, 7:23])[0, 0], a[0, 7])
        torch.testing.assert_close(networks.embed_audio(sound[:, 28:92])[0, 0], b[0, 7])
        torch.testing.assert_close(a.norm(dim=-1), torch.ones(1, 25))


def test_mean_distances_of_a_known_shift() -> None:
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(60, 16))
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    shifts, means = mean_distances(codes[4:54].astype(np.float32), codes[:50].astype(np.float32), 8)
    assert shifts[means.argmin()] == 4 and means.min() == pytest.approx(0.0, abs=1e-3)
    plain = [
        np.mean([np.linalg.norm(codes[i + 4] - codes[i + s]) for i in range(8, 42)]) for s in range(-8, 9)
    ]
    np.testing.assert_allclose(means, plain, atol=1e-3)


def test_features_forget_amplitude_place_and_colour() -> None:
    rng = np.random.default_rng(0)
    mouth = rng.normal(0.0, 0.002, (40, 20, 3)) + rng.normal(0.0, 0.03, (20, 3))
    np.testing.assert_allclose(
        motion_features(3.0 * (mouth - mouth[0]) + 0.1), motion_features(mouth), atol=1e-5
    )
    tiny = mouth.mean(0) + 1e-3 * (mouth - mouth.mean(0))
    assert np.abs(motion_features(tiny)[:, :60]).max() < 0.1
    spectra = rng.normal(-40.0, 10.0, (100, MEL_BANDS))
    np.testing.assert_allclose(
        audio_features(spectra + rng.normal(size=MEL_BANDS)), audio_features(spectra), atol=1e-5
    )


def test_log_mel_of_a_tone() -> None:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tone = np.sin(2 * np.pi * 1000.0 * time).astype(np.float32)
    spectra = log_mel(tone)
    assert spectra.shape == (100, MEL_BANDS) and spectra.dtype == np.float32
    peaks = np.fft.rfftfreq(512, 1 / SAMPLE_RATE)[mel_filters().argmax(1)]
    assert (np.abs(peaks[spectra[5:-5].argmax(1)] - 1000.0) < 70.0).all()
    np.testing.assert_allclose(log_mel(tone / 100.0), spectra - 40.0, atol=1e-3)
    # A click in the middle of a hop lies in the spectrum of that hop.
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[50 * 160 + 80] = 1.0
    assert abs(int(log_mel(click).mean(1).argmax()) - 50) <= 1
    assert log_mel(np.zeros(100, np.float32)).shape == (0, MEL_BANDS)
