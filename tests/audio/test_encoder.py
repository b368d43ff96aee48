"""Wav2Vec 2.0 features: interpolation between extractor and encoder, windows, levels, and folders that are
wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk.audio import AudioEncoder
from facetalk.audio.encoder import hidden_states, receptive_field
from facetalk.audio.level import Level
from facetalk.errors import InputError
from facetalk.units import SAMPLE_RATE, frame_count


def speechlike(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise whose level rises and falls like syllables."""
    rng = np.random.default_rng(seed)
    count = round(seconds * SAMPLE_RATE)
    swing = 0.5 + 0.5 * np.sin(2 * np.pi * 3.0 * np.arange(count) / SAMPLE_RATE)
    return (0.1 * swing * rng.normal(size=count)).astype(np.float32)


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> AudioEncoder:
    return AudioEncoder.from_pretrained(tiny_folder)


@pytest.fixture(scope="module")
def small(small_folder: Path) -> AudioEncoder:
    return AudioEncoder.from_pretrained(small_folder)


def test_receptive_field_of_the_original(tiny: AudioEncoder) -> None:
    assert receptive_field(tiny.model.config) == (400, 320)


@torch.inference_mode()
def test_at_the_extractors_own_rate_it_is_transformers_model(tiny: AudioEncoder) -> None:
    """Without interpolation (positions on the grid) and with no span, the parts add up to Wav2Vec2Model
    itself."""
    wave = torch.from_numpy(speechlike(1.0))[None]
    expected = tiny.model(wave).last_hidden_state
    found = hidden_states(tiny.model, wave, torch.arange(expected.shape[1], dtype=torch.float64), None)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_an_unlimited_span_changes_nothing(tiny: AudioEncoder) -> None:
    """The masked path gives what the encoder's own forward gives when the mask hides nothing."""
    wave, positions = torch.from_numpy(speechlike(1.0))[None], torch.linspace(0, 48, 25)
    free = hidden_states(tiny.model, wave, positions, None)
    torch.testing.assert_close(hidden_states(tiny.model, wave, positions, 1000), free, atol=1e-5, rtol=1e-5)


@given(count=st.integers(1, 60000), fps=st.sampled_from([24.0, 25.0, 29.97, 30.0, 50.0, 60.0]))
@settings(max_examples=15, deadline=None)
def test_one_row_per_motion_frame(tiny_folder: Path, count: int, fps: float) -> None:
    encoder = AudioEncoder.from_pretrained(tiny_folder)
    features = encoder.features(speechlike(4.0)[:count], fps=fps)
    assert features.shape == (frame_count(count, fps), encoder.feature_dim)
    assert features.dtype == torch.float32 and bool(torch.isfinite(features).all())


def test_frames_sit_at_their_time(small: AudioEncoder) -> None:
    """A click moves the features of the frames around it, and of those alone: attention and context are
    bounded."""
    quiet = speechlike(8.0) * 0.01
    clicked = quiet.copy()
    moment = 4.0
    clicked[round(moment * SAMPLE_RATE) : round(moment * SAMPLE_RATE) + 80] += 0.5
    level = Level.of([quiet])
    before = torch.cat(list(small.stream([quiet], 25.0, level=level)))
    after = torch.cat(list(small.stream([clicked], 25.0, level=level)))
    change = (after - before).abs().amax(dim=1)
    assert abs((int(change.argmax()) + 0.5) / 25.0 - moment) < 0.1
    reach = 4 * 0.4 + 8 / 25 + 0.1  # layers * span + half the position kernel + half the receptive field
    times = (torch.arange(len(change)) + 0.5) / 25.0
    assert float(change[(times - moment).abs() > reach].max()) < 1e-4


def test_windows_do_not_change_the_features(small: AudioEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stated tolerance 1e-4: encoded in windows of 20 s the built-in architecture gives the whole clip's
    features."""
    wave = speechlike(50.0)
    windowed = small.features(wave, fps=25.0)
    monkeypatch.setattr("facetalk.audio.encoder.WINDOW_S", 1000.0)
    whole = small.features(wave, fps=25.0)
    assert windowed.shape == whole.shape
    torch.testing.assert_close(windowed, whole, atol=1e-4, rtol=0)


def test_windows_of_a_model_with_unlimited_attention_stay_close(
    tiny: AudioEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention over 20 s instead of 50 s: features of unit scale move by less than 0.1."""
    wave = speechlike(50.0)
    windowed = tiny.features(wave, fps=25.0)
    monkeypatch.setattr("facetalk.audio.encoder.WINDOW_S", 1000.0)
    whole = tiny.features(wave, fps=25.0)
    assert float((windowed - whole).abs().max()) < 0.1 * float(whole.std())


@pytest.mark.parametrize("cut", [1601, 33333, 400000])
def test_blocks_do_not_change_the_features(small: AudioEncoder, cut: int) -> None:
    wave = speechlike(45.0)
    blocks = [wave[i : i + cut] for i in range(0, len(wave), cut)]
    for level in (None, Level.of(blocks)):
        whole = torch.cat(list(small.stream([wave], 25.0, level=level)))
        pieces = list(small.stream(blocks, 25.0, level=level))
        torch.testing.assert_close(torch.cat(pieces), whole, atol=1e-5, rtol=0)
        assert len(pieces) == 3


def test_stream_holds_no_more_than_windows(small: AudioEncoder) -> None:
    """Features come out while sound still goes in: nothing waits for the end."""
    fed = 0

    def blocks() -> object:
        nonlocal fed
        for _ in range(12):
            fed += 1
            yield speechlike(10.0)

    for yielded, piece in enumerate(small.stream(blocks(), 25.0)):
        assert piece.shape[0] <= 20 * 25
        if yielded < 6:
            assert fed * 10.0 <= (yielded + 1) * 16.0 + 2.0 + 10.1


def test_loudness_does_not_matter_but_silence_stays_silent(small: AudioEncoder) -> None:
    wave = speechlike(3.0)
    torch.testing.assert_close(
        small.features(wave * 0.1, fps=25.0), small.features(wave, fps=25.0), atol=2e-3, rtol=0
    )
    silence = small.features(np.zeros(48000, np.float32), fps=25.0)
    faint = small.features(wave * 1e-5, fps=25.0)
    assert float((faint - silence).abs().mean()) < 0.2 * float(
        (small.features(wave, fps=25.0) - silence).abs().mean()
    )


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros((2, 100)), np.array([0.0, np.nan])])
def test_bad_samples(tiny: AudioEncoder, samples: np.ndarray) -> None:
    with pytest.raises(InputError):
        tiny.features(samples, fps=25.0)


@pytest.mark.parametrize("fps", [0.0, -25.0, float("nan"), 1e6])
def test_bad_frame_rate(tiny: AudioEncoder, fps: float) -> None:
    with pytest.raises(InputError, match="frame rate"):
        tiny.features(speechlike(0.5), fps=fps)


def _break(folder: Path, how: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    weights = folder / "model.safetensors"
    if how == "no config":
        (folder / "config.json").unlink()
    elif how == "config not json":
        (folder / "config.json").write_text("{")
    elif how == "another kind":
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "hubert"}))
    elif how == "no weights":
        weights.unlink()
    elif how == "cut weights":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    elif how == "other sizes":
        (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 32}))
    elif how == "more layers":
        (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    elif how == "preprocessor not json":
        (folder / "preprocessor_config.json").write_text("?")
    elif how == "another rate":
        (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 8000}))


@pytest.mark.parametrize(
    "how",
    [
        "no config",
        "config not json",
        "another kind",
        "no weights",
        "cut weights",
        "other sizes",
        "more layers",
        "preprocessor not json",
        "another rate",
    ],
)
def test_wrong_folders_are_one_line_errors(tiny_folder: Path, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    _break(folder, how)
    with pytest.raises(InputError) as caught:
        AudioEncoder.from_pretrained(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_missing_folder_and_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        AudioEncoder.from_pretrained(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        AudioEncoder.from_pretrained(tmp_path / "file")
