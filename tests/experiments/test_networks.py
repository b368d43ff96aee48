"""Each ablation takes away what it says, and only that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.ablations import networks
from experiments.ablations.networks import (
    UNBOUNDED,
    PlacedAudioAttention,
    RegressionDenoiser,
    SquaredError,
    UnalignedDenoiser,
    UnmodulatedDenoiser,
    Unscaled,
    WithoutGap,
    WithoutVelocity,
)
from experiments.ablations.variants import VARIANTS
from experiments.common.variants import raw_weights, standardised_weights
from facetalk.diffusion.denoiser import Denoiser, DenoiserConfig
from facetalk.diffusion.model import MotionModel
from facetalk.diffusion.representation import Representation
from facetalk.training.motion.dataset import MotionData
from facetalk.training.motion.train import MotionTraining, MotionTrainingOptions, prepare

pytestmark = pytest.mark.usefixtures("stand_ins")
FRAMES, MOTION, AUDIO = 12, 6, 5


def small(kind: type[Denoiser] = Denoiser, window: tuple[int, int] = (0, 0)) -> Denoiser:
    torch.manual_seed(0)
    config = DenoiserConfig(
        MOTION, AUDIO, layers=2, heads=2, width=16, feedforward=16, window=window, dropout=0.0
    )
    return kind(config).eval()


def predict(net: Denoiser, noisy: torch.Tensor, time: int, heard: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return net(noisy, torch.tensor([time]), net.condition(heard))[0]


@pytest.fixture
def noisy() -> torch.Tensor:
    return torch.randn(1, FRAMES, MOTION, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def heard() -> torch.Tensor:
    return torch.randn(1, FRAMES, AUDIO, generator=torch.Generator().manual_seed(2))


def moved(net: Denoiser, noisy: torch.Tensor, heard: torch.Tensor, at: int) -> list[int]:
    """Frames of the prediction that change with the sound of one frame."""
    other = heard.clone()
    other[:, at] += 1.0
    change = (predict(net, noisy, 500, heard) - predict(net, noisy, 500, other)).abs().amax(-1)[0]
    return torch.nonzero(change > 1e-6)[:, 0].tolist()


def test_without_the_alignment_mask_a_frame_hears_sound_of_other_times(noisy, heard) -> None:
    assert moved(small(), noisy, heard, 7) == list(range(7, FRAMES))  # by self-attention, never before
    assert moved(small(UnalignedDenoiser, (UNBOUNDED, UNBOUNDED)), noisy, heard, 7) == list(range(FRAMES))


def test_without_the_alignment_mask_frames_still_know_when_a_sound_is() -> None:
    torch.manual_seed(0)
    attention = PlacedAudioAttention(16, 2, (UNBOUNDED, UNBOUNDED)).eval()
    with torch.no_grad():
        x, audio = torch.randn(1, 1, 16).expand(1, FRAMES, 16), torch.randn(1, FRAMES, 16)
        out = attention(x, attention.prepare(audio))
        # One query everywhere: without positions all frames would hear the same.
        assert (out[0, 0] - out[0, -1]).abs().max() > 1e-3
        # With one sound everywhere too, how much a frame attends to another depends on their distance alone.
        level = audio[:, :1].expand(1, FRAMES, 16)
        query = networks._turned(attention.query(x).unflatten(-1, (2, -1)).transpose(1, 2))
        score = (query @ attention.prepare(level).key.transpose(2, 3))[0]
        torch.testing.assert_close(score[:, 1:, 1:], score[:, :-1, :-1])
        assert score[:, 0].std() > 1e-4
        with pytest.raises(ValueError, match="one piece"):
            attention(x, attention.prepare(audio), 3)


def test_an_unaligned_model_samples_whole_clips(heard) -> None:
    model = MotionModel(
        small(UnalignedDenoiser, (UNBOUNDED, UNBOUNDED)),
        Representation.identity(MOTION),
        expression_names=list("abcdef"),
    )
    motion = model.sample(heard[0], steps=2, guidance=1.5, seed=0, chunk=FRAMES)
    assert motion.shape == (FRAMES, MOTION) and np.isfinite(motion).all()


def test_without_film_the_timestep_modulates_nothing_but_is_known(noisy, heard) -> None:
    plain, net = small(), small(UnmodulatedDenoiser)
    early, late = (net.steady(torch.tensor([t]), FRAMES).modulation for t in (10, 900))
    pairs = [pair for two in zip(early, late, strict=True) for pair in zip(*two, strict=True)]
    for place, (a, b) in enumerate(pairs):
        assert (a[0] == 1.0).all() and (b[0] == 1.0).all()
        assert bool((a[1] == b[1]).all()) == (place > 0)
        assert place == 0 or not a[1].any()
    assert (predict(net, noisy, 10, heard) - predict(net, noisy, 900, heard)).abs().max() > 1e-4
    gains = [plain.steady(torch.tensor([t]), FRAMES).modulation[1][2][0] for t in (10, 900)]
    assert (gains[0] - gains[1]).abs().max() > 1e-4
    assert sum(p.numel() for p in net.parameters()) < sum(p.numel() for p in plain.parameters())


def test_regression_sees_neither_noise_nor_time_and_all_seeds_agree(noisy, heard) -> None:
    net = small(RegressionDenoiser)
    first = predict(net, noisy, 10, heard)
    assert torch.equal(first, predict(net, torch.randn_like(noisy), 900, heard))
    assert not torch.equal(predict(small(), noisy, 10, heard), predict(small(), noisy, 900, heard))
    model = MotionModel(net, Representation.identity(MOTION), expression_names=list("abcdef"))
    motions = [model.sample(heard[0], steps=1, guidance=1.0, seed=seed) for seed in (0, 1)]
    np.testing.assert_array_equal(*motions)
    np.testing.assert_allclose(motions[0], first[0].numpy().clip(0.0, 1.0), atol=1e-6)


def steady_data(rng: np.random.Generator) -> MotionData:
    """Faces that stand still at one half, but for one weight."""
    weights = np.full((1, 40, 53), 0.5, np.float16)
    weights[..., 26] = rng.random((1, 40))
    return MotionData([rng.normal(size=(40, AUDIO)).astype(np.float16)], [weights])


def training(kind: type[MotionTraining]) -> MotionTraining:
    data = steady_data(np.random.default_rng(0))
    model = prepare(data, Path("h"), "mini")
    options = MotionTrainingOptions(Path("c"), "a", Path("o"), Path("h"), batch=6, crop=20)
    return kind(data, data, model, options)


@pytest.mark.parametrize(
    ("kind", "varied"), [(MotionTraining, True), (Unscaled, False), (SquaredError, True)]
)
def test_expression_codes_are_scaled_but_for_the_variant_without(monkeypatch, kind, varied) -> None:
    seen = []
    encode = Representation.encode
    monkeypatch.setattr(
        Representation, "encode", lambda self, weights: (seen.append(weights), encode(self, weights))[1]
    )
    training(kind).step(0)
    factors = np.unique((seen[0][:, 0, 0] / 0.5).round(4))
    assert (len(factors) > 1) == varied
    assert factors.min() >= 0.85 - 1e-3 and factors.max() <= 1.15 + 1e-3
    assert (seen[1][:, 0, 0] == 0.5).all()  # held-out faces are never scaled


@pytest.mark.parametrize(
    ("kind", "gap", "velocity"),
    [(MotionTraining, 1, 1), (WithoutGap, 0, 1), (WithoutVelocity, 1, 0), (SquaredError, 0, 0)],
)
def test_losses_are_the_sum_of_the_terms_that_are_left(kind, gap: int, velocity: int) -> None:
    found = {name: value.item() for name, value in training(kind).step(0).items()}
    assert found["gap"] > 0 and found["velocity"] > 0
    expected = found["mse"] + gap * found["gap"] + velocity * found["velocity"]
    assert found["loss"] == pytest.approx(expected, rel=1e-5)


def test_coordinates_without_a_metric() -> None:
    data = steady_data(np.random.default_rng(0))
    full = prepare(data, Path("h"), "mini").representation
    weights = data.weights[0][0].astype(np.float32)
    np.testing.assert_array_equal(raw_weights(full, data).encode(weights), weights)
    plain = standardised_weights(full, data)
    assert plain.dim == 1  # the others stand still
    encoded = plain.encode(weights)
    assert abs(encoded.mean()) < 1e-3 and encoded.std() == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(plain.decode(encoded), weights, atol=1e-5)


def test_rows_are_those_of_the_paper_and_differ_in_one_thing() -> None:
    assert {v.name for v in VARIANTS if v.paper} == {
        "full", "no-augmentation", "no-smoothing", "no-film", "no-alignment", "no-diffusion",
    }  # fmt: skip
    assert len({v.name for v in VARIANTS}) == len(VARIANTS)
    for variant in VARIANTS:
        if variant.trained_as:  # what is trained must then be that of the other
            assert variant.denoiser is Denoiser and variant.training is MotionTraining
