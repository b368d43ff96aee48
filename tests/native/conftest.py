"""The built-in model in the C library, a little speech, and folders of models with random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_networks import small_encoder, small_motion
from transformers import Wav2Vec2Model

from facetalk.audio import load_audio
from facetalk.diffusion import MotionModel
from facetalk.models import find_model
from facetalk.native import NativeModel

DEMO = Path(__file__).resolve().parents[2] / "examples/demo.flac"


@pytest.fixture(scope="session")
def speech() -> np.ndarray:
    """Six seconds, 16 kHz."""
    return load_audio(DEMO)[16_000 : 16_000 * 7]


@pytest.fixture(scope="session")
def folder() -> Path:
    return find_model("default").folder


@pytest.fixture(scope="session")
def model(folder: Path) -> NativeModel:
    return NativeModel(folder)


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """A model folder without a head."""

    def make(
        encoder: Wav2Vec2Model, motion: MotionModel, *, span: float | None = None, fps: float = 25.0
    ) -> Path:
        encoder.config.attention_span_s = span
        encoder.save_pretrained(tmp_path / "audio")
        (tmp_path / "audio/preprocessor_config.json").write_text(
            '{"do_normalize": true, "variance_floor": 1e-5}'
        )
        motion.save(tmp_path / "motion")
        geometry = {"bounds": [[-1, -1, -1], [1, 1, 1]], "mouth_centre": [0, 0, 0], "mouth_sigma": [1, 1, 1]}
        config = {"format": "facetalk-model", "version": 1, "name": "small", "fps": fps, "geometry": geometry}
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return make


@pytest.fixture
def make_live(make_folder: Callable[..., Path]) -> Callable[..., Path]:
    """A model folder that hears live sound too, of 20 features and 6 curves."""

    def make(fps: float = 25.0) -> Path:
        encoder = small_encoder(feat_extract_norm="layer", do_stable_layer_norm=True)
        return make_folder(encoder, small_motion(20, window=(1, 3)), span=0.2, fps=fps)

    return make
