"""What Whisper hears on a GPU is what it hears on the CPU, of whole recordings and live. On a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from facetalk import FaceTalk
from facetalk.units import SAMPLE_RATE
from tests.helpers.untaught_whisper import model_with, pretend_installed, untaught_adapter, write_weights

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


@pytest.fixture()
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The built-in model with an adapter of random weights for an untaught Whisper."""
    pretend_installed(monkeypatch, write_weights(tmp_path / "whisper.npz"))
    return model_with(untaught_adapter(live=True), tmp_path)


@pytest.mark.parametrize("look_ahead", [None, 0.2])
def test_motion(model: Path, look_ahead: float | None) -> None:
    rng = np.random.default_rng(0)
    sound = (0.1 * rng.standard_normal(3 * SAMPLE_RATE), SAMPLE_RATE)
    there = FaceTalk.from_pretrained(model, "cuda", encoder="whisper")
    here = FaceTalk.from_pretrained(model, "cpu", backend="torch", encoder="whisper")
    features = here.features(sound, look_ahead=look_ahead)
    assert np.ptp(features, axis=0).max() > 0.1  # it is heard, and not only rested on
    np.testing.assert_allclose(there.features(sound, look_ahead=look_ahead), features, atol=5e-3)
    ours, theirs = (m.generate(sound, seed=1, look_ahead=look_ahead).expressions for m in (here, there))
    np.testing.assert_allclose(theirs, ours, atol=2e-2)
