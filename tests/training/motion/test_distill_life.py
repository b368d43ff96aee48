"""Life from the corpus: why a causal teacher lacks it, and the score that gives it back to the student."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facetalk.cli import main
from facetalk.data.expressions import INDEX
from facetalk.data.speech.corpus import CorpusWriter
from facetalk.data.speech.synth import Speech
from facetalk.data.visemes import curves
from facetalk.diffusion import Denoiser, DenoiserConfig, MotionModel, NoiseSchedule, Representation
from facetalk.errors import InputError
from facetalk.training.motion.dataset import MotionData
from facetalk.training.motion.distill_life import Faces, LifeScore, mouth_projection

NAMES = ["eyeBlink_L", "eyeBlink_R", "browDown_L", "eyeLookUp_L", "jawOpen", "mouthClose"]


def mixed_space() -> Representation:
    """Coordinates that each mix upper face and mouth, as principal components do."""
    encode, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(len(NAMES), len(NAMES))))
    return Representation(np.zeros(len(NAMES)), encode, np.linalg.inv(encode), np.ones(len(NAMES)))


def motion_model(space: Representation | None = None) -> MotionModel:
    config = DenoiserConfig(
        motion_dim=len(NAMES), audio_dim=3, layers=1, heads=1, width=8, feedforward=8, dropout=0.0
    )
    return MotionModel(Denoiser(config), space or mixed_space(), expression_names=NAMES)


def sampled(truth: NDArray[np.float64], *, causal: bool) -> NDArray[np.float64]:
    """Covariance (T, T) that DDIM samples of a Gaussian process, by its best denoiser.

    Each step is linear, so all of sampling is one matrix from noise to motion.
    """
    schedule, frames = NoiseSchedule(), len(truth)
    way = np.eye(frames)
    times = [*range(999, 0, -4), -1]
    for now, after in itertools.pairwise(times):
        power, next_power = (schedule.alphas_cumprod[t] if t >= 0 else 1.0 for t in (now, after))
        alpha, sigma = np.sqrt(power), np.sqrt(1.0 - power)
        noisy = alpha**2 * truth + sigma**2 * np.eye(frames)
        best = np.zeros((frames, frames))
        for frame in range(frames):
            seen = slice(frame + 1) if causal else slice(frames)
            best[frame, seen] = np.linalg.solve(noisy[seen, seen], alpha * truth[seen, frame])
        left = np.sqrt(1.0 - next_power) / sigma
        way = (np.sqrt(next_power) * best + left * (np.eye(frames) - alpha * best)) @ way
    return way @ way.T


@pytest.mark.parametrize("memory", [12.0, 50.0])
def test_the_best_causal_denoiser_samples_too_still_and_too_fast(memory: float) -> None:
    frame = np.arange(50)
    truth = np.exp(-np.abs(frame[:, None] - frame) / memory)
    difference = np.diff(np.eye(50), axis=0)

    def figures(covariance: NDArray[np.float64]) -> tuple[float, float]:
        late = slice(25, 49)
        moved = difference @ covariance @ difference.T
        return float(np.sqrt(np.diag(covariance)[late].mean())), float(np.sqrt(np.diag(moved)[late].mean()))

    spread, speed = figures(truth)
    whole_spread, whole_speed = figures(sampled(truth, causal=False))
    assert whole_spread / spread == pytest.approx(1.0, abs=0.03)
    assert whole_speed / speed == pytest.approx(1.0, abs=0.05)
    causal_spread, causal_speed = figures(sampled(truth, causal=True))
    assert 0.6 < causal_spread / spread < 0.85
    assert 1.3 < causal_speed / speed < 1.7


def compared(score: LifeScore, first: torch.Tensor, second: torch.Tensor, truth: torch.Tensor) -> float:
    others = truth.repeat(2, 1, 1)
    return float(score(first, second, truth, others, torch.Generator().manual_seed(0)))


def test_the_score_is_least_where_both_draw_alike() -> None:
    """Of random motions of several sizes and speeds, those of the truth's score best."""
    rng = np.random.default_rng(0)
    space = Representation(np.full(len(NAMES), 0.5), np.eye(6) / 0.1, np.eye(6) * 0.1, np.ones(6))
    score = LifeScore(motion_model(space))

    def draw(size: float, memory: float) -> torch.Tensor:
        steps = rng.normal(size=(120, 60, len(NAMES)))
        for frame in range(1, 60):
            steps[:, frame] = memory * steps[:, frame - 1] + np.sqrt(1.0 - memory**2) * steps[:, frame]
        return torch.from_numpy(size * steps).float()

    kinds = [(0.0, 0.8), (0.6, 0.8), (1.0, 0.8), (1.5, 0.8), (1.0, 0.3), (1.0, 0.97)]
    found = {kind: compared(score, draw(*kind), draw(*kind), draw(1.0, 0.8)) for kind in kinds}
    assert min(found, key=lambda kind: found[kind]) == (1.0, 0.8)


@pytest.mark.parametrize("length", [6, 7, 16, 40])
def test_short_crops_are_compared_as_well(length: int) -> None:
    motion = torch.randn(2, length, len(NAMES), generator=torch.Generator().manual_seed(0))
    score = LifeScore(motion_model())
    assert np.isfinite(compared(score, motion, motion.flip(0), motion))


def test_the_score_does_not_see_the_mouth() -> None:
    model = motion_model()
    score = LifeScore(model)
    generator = torch.Generator().manual_seed(0)
    first, second, truth = (torch.randn(2, 48, len(NAMES), generator=generator) for _ in range(3))
    before = compared(score, first, second, truth)
    mouth = np.zeros((48, len(NAMES)))
    mouth[:, 4:] = np.random.default_rng(1).normal(size=(48, 2))
    talking = first + torch.from_numpy(model.representation.encode(mouth))
    assert compared(score, talking, second, truth) == pytest.approx(before, rel=1e-4)
    talking[:, 10:20] += 3.0
    assert compared(score, talking, second, truth) != pytest.approx(before, rel=1e-2)


def test_the_projection_keeps_the_mouth_and_drops_the_rest() -> None:
    model = motion_model()
    weights = np.random.default_rng(2).normal(size=(5, len(NAMES)))
    kept = torch.from_numpy(model.representation.encode(weights)) @ mouth_projection(model)
    back = model.representation.decode(kept.numpy())
    np.testing.assert_allclose(back[:, 4:], weights[:, 4:], atol=1e-4)
    np.testing.assert_allclose(back[:, :4], 0.0, atol=1e-4)


def test_faces_are_standardised_sound_beside_coordinates() -> None:
    model = motion_model()
    model.feature_mean, model.feature_scale = torch.full((3,), 2.0), torch.full((3,), 4.0)
    rng = np.random.default_rng(4)
    lengths = (9, 5, 12)
    data = MotionData(
        [rng.normal(size=(length, 3)).astype(np.float16) for length in lengths],
        [rng.uniform(size=(2, length, len(NAMES))).astype(np.float16) for length in lengths],
    )
    found = Faces(data, model).draw(np.random.default_rng(0), 40, 7, 30)
    heard, moved = found.heard, found.truth
    assert (heard.shape, moved.shape) == ((30, 7, 3), (40, 7, len(NAMES)))
    assert found.twins.shape == (2, 30, 7, len(NAMES))

    seen = set()
    for number, motion in enumerate(moved):
        places = [
            (session, start, draw)
            for session, (features, weights) in enumerate(zip(data.features, data.weights, strict=True))
            for start in range(len(features) - 6)
            for draw in range(2)
            if np.allclose(model.representation.encode(weights[draw, start : start + 7]), motion, atol=1e-4)
        ]
        assert len(places) == 1  # a stretch of one session, and of one face
        (session, start, _), *_ = places
        if number < 30:
            there = (torch.from_numpy(data.features[session][start : start + 7]).float() - 2.0) / 4.0
            torch.testing.assert_close(heard[number], there)
            twins = model.representation.encode(data.weights[session][:, start : start + 7])
            order = int(not np.allclose(twins[0], found.twins[0, number], atol=1e-4))
            np.testing.assert_allclose(found.twins[:, number], twins[[order, 1 - order]], atol=1e-4)
        seen.add(places[0])
    assert {session for session, _, _ in seen} == {0, 2}  # the other is too short
    assert len(seen) > 10


def test_recordings_begin_unlike_their_middles() -> None:
    """Why beginnings are taught by themselves: the first blink comes soon, and the gaze rests at first."""
    phones = [("AA", 0.3, 5.7)]
    drawn = np.stack(
        [curves(phones, 6.0, 25.0, alphabet="arpabet", rng=np.random.default_rng(i)) for i in range(300)]
    )
    shut = drawn[..., [INDEX["eyeBlink_L"], INDEX["eyeBlink_R"]]].mean(-1) >= 0.5
    blinks = (shut[:, 1:] & ~shut[:, :-1]).sum(0)
    assert blinks[:50].sum() > 1.2 * blinks[75:125].sum()
    aside = drawn[..., [i for name, i in INDEX.items() if name.startswith("eyeLook")]].mean(-1)
    assert aside[:, :8].mean() < 0.25 * aside[:, 75:].mean()


def test_starts_are_beginnings_of_all_recordings_alike() -> None:
    model, rng = motion_model(), np.random.default_rng(4)
    lengths = (90, 5, 12)
    data = MotionData(
        [rng.normal(size=(length, 3)).astype(np.float16) for length in lengths],
        [rng.uniform(size=(2, length, len(NAMES))).astype(np.float16) for length in lengths],
    )
    found = Faces(data, model, starts=True).draw(np.random.default_rng(0), 40, 7, 40)
    begins = torch.stack([torch.from_numpy(data.features[i][:7]).float() for i in (0, 2)])
    which = [int((begins - heard).abs().amax((1, 2)).argmin()) for heard in found.heard]
    torch.testing.assert_close(begins[which], found.heard)
    assert 12 < sum(which) < 28


def test_what_happens_when_is_seen_in_beginnings_alone() -> None:
    """A face that waits before it looks away is no other than one that does not, but for the time."""
    model, score = motion_model(), LifeScore(motion_model())
    rng = np.random.default_rng(0)

    def draws(first: int) -> torch.Tensor:
        weights = np.zeros((64, 72, len(NAMES)))
        frames = np.arange(72)
        for clip in weights:
            late = first + 24 * int(rng.integers(2))
            clip[(frames >= late) & (frames < late + 5), 0] = 0.8
        return torch.from_numpy(model.representation.encode(weights))

    early, same, late = draws(14), draws(14), draws(26)

    def apart(a: torch.Tensor, b: torch.Tensor, starts: bool) -> float:
        return float(score._sliced(a, b, torch.Generator().manual_seed(0), starts=starts))

    # What is compared has to reach into every second of a beginning, and into its first frames.
    assert apart(early, late, True) > 10.0 * apart(early, same, True)
    assert apart(early, late, False) < 0.2 * apart(early, late, True)
    moved = same.clone()
    moved[:, :2] += 1.0
    assert apart(moved, same, True) > 100.0 * apart(moved, same, False)


def test_faces_longer_than_any_recording_are_refused() -> None:
    data = MotionData([np.zeros((9, 3), np.float16)], [np.zeros((2, 9, len(NAMES)), np.float16)])
    with pytest.raises(InputError, match="no recording is as long as a crop of 10 frames"):
        Faces(data, motion_model()).draw(np.random.default_rng(0), 1, 10, 1)


def test_crops_longer_than_a_beginning_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer, rng = CorpusWriter(tmp_path / "corpus"), np.random.default_rng(0)
    for voice in ("a", "flite-rms"):
        told = {"text": "", "voice": voice, "language": "en", "licence": "CC0", "source": "test"}
        sound = (0.1 * rng.standard_normal(16000)).astype(np.float32)
        writer.add(f"{voice}/0", Speech(sound, [("AA", 0.0, 1.0)], "arpabet"), **told)
    writer.flush()
    command = ["distill", "--audio", str(tmp_path / "corpus"), "--out", str(tmp_path / "run")]
    assert main([*command, "--life", "1", "--crop", "120"]) == 2
    assert "--starts 0" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_life_asks_for_a_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import soundfile

    for number in range(2):
        soundfile.write(tmp_path / f"{number}.wav", np.zeros(16000, np.float32), 16000)
    command = ["distill", "--audio", str(tmp_path), "--out", str(tmp_path / "run"), "--life", "0.5"]
    assert main(command) == 2
    assert "corpus" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
