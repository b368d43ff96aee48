"""Parts of the network and of sampling against formulas."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from facetalk.diffusion import Denoiser, DenoiserConfig, MotionModel, Representation, noise
from facetalk.diffusion.denoiser import waves
from facetalk.diffusion.lip_contact import LipContact
from facetalk.errors import InputError


def test_waves_have_frequencies_from_1_down_to_a_ten_thousandth() -> None:
    found = waves(torch.tensor([0.0, 1.0, 500.0]), 8)
    frequency = 10_000.0 ** (-np.arange(4) / 4)
    for row, value in enumerate((0.0, 1.0, 500.0)):
        expected = np.concatenate([np.sin(value * frequency), np.cos(value * frequency)])
        np.testing.assert_allclose(found[row], expected, atol=1e-4)
    assert found.dtype == torch.float32 and found.shape == (3, 8)


def test_presets_have_their_sizes() -> None:
    mini, paper = DenoiserConfig.mini(), DenoiserConfig.paper()
    sizes = (mini.motion_dim, mini.audio_dim, mini.layers, mini.heads, mini.width, mini.feedforward)
    assert sizes == (53, 256, 4, 4, 128, 256) and mini.history == 24
    assert mini.dropout == 0.0 and (paper.motion_dim, paper.audio_dim) == (200, 768)
    assert DenoiserConfig.mini(history=1).history == 1
    for wrong in (0, -1, 2.5, True):
        with pytest.raises(InputError, match="history must be at least 1"):
            DenoiserConfig.mini(history=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="window must be two whole numbers"):
        DenoiserConfig.mini(window=(1, -1))


def model(window: tuple[int, int]) -> MotionModel:
    torch.manual_seed(0)
    config = DenoiserConfig(
        motion_dim=3,
        audio_dim=4,
        layers=1,
        heads=1,
        width=8,
        feedforward=8,
        window=window,
        history=6,
        dropout=0.0,
    )
    return MotionModel(Denoiser(config).eval(), Representation.identity(3), expression_names=["a", "b", "c"])


@pytest.mark.parametrize("window", [(0, 0), (2, 3)])
def test_every_frame_gets_its_motion_and_progress_is_told(window: tuple[int, int]) -> None:
    features, told = torch.randn(23, 4, generator=torch.Generator().manual_seed(0)), []
    found = model(window).sample(features, steps=2, seed=0, chunk=5, progress=told.append)
    assert found.shape == (23, 3) and len(told) == 5
    assert told == sorted(told) and 23 - window[1] <= told[-1] <= 23 and told[0] >= 2
    np.testing.assert_allclose(model(window).sample(features, steps=2, seed=0, chunk=23), found, atol=1e-5)


def test_uniforms_are_centred_on_their_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words of 0 and of all ones give finite normals, as Box and Muller say."""
    for word in (0, 2**32 - 1, 12345):
        monkeypatch.setattr(
            noise, "philox4x32", lambda counter, key, w=word: np.full(counter.shape, w, np.uint32)
        )
        found = noise.frame_noise(1, 0, 0, 2, 4)
        uniform = (word + 0.5) / 2**32
        radius, angle = np.sqrt(-2 * np.log(uniform)), 2 * np.pi * uniform
        np.testing.assert_allclose(found[0, :1], radius * np.cos(angle), rtol=1e-5, atol=1e-7)
        assert np.isfinite(found).all()


def test_codes_of_a_learned_space_have_no_limits(tmp_path):
    """And readers that would cut them to 0..1 do not take the file for one of theirs."""
    config = DenoiserConfig(motion_dim=3, audio_dim=5, layers=1, heads=1, width=8, feedforward=8)
    wide = Representation(np.full(3, -2.0), np.eye(3), 3.0 * np.eye(3), np.ones(3))
    found = []
    for limits in ((0.0, 1.0), None):
        torch.manual_seed(0)
        model = MotionModel(Denoiser(config), wide, expression_names=["a", "b", "c"], limits=limits)
        model.save(tmp_path / "model")
        again = MotionModel.load(tmp_path / "model")
        assert again.limits == limits
        features = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
        found.append(again.sample(features, steps=2, seed=1))
        told = json.loads((tmp_path / "model" / "config.json").read_text())
        assert told["version"] == (2 if limits is None else 1)
    assert found[1].min() < -0.5
    np.testing.assert_array_equal(found[0], found[1].clip(0.0, 1.0))


def test_contact_stops_lips_and_closes_none() -> None:
    """Gaps of 0.5 + 10 jaw - 20 close mm: too far into each other, apart, and apart by no weight at all."""
    contact = LipContact(0.5, np.array([10.0, -20.0]), 1)
    given = np.array([[0.1, 0.2], [0.1, 0.05], [-0.2, 0.0], [-0.2, 0.01]], np.float32)
    got = contact.apply(given)
    np.testing.assert_array_equal(got[:, 0], given[:, 0])
    np.testing.assert_allclose(got[:, 1], [0.105, 0.05, 0.0, 0.0], atol=1e-6)  # to -0.6 mm; no less than 0
    np.testing.assert_allclose(contact.gap(got), [-0.6, 0.5, -1.5, -1.5], atol=1e-5)
    assert given[0, 1] == np.float32(0.2), "what was given stays"
