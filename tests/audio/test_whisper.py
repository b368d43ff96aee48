"""Whisper's encoder: what it hears."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from facetalk.audio import whisper
from facetalk.audio.whisper import Whisper, rounded
from facetalk.errors import InputError
from facetalk.units import SAMPLE_RATE
from tests.helpers.untaught_whisper import write_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("whisper") / "weights.npz")


def test_many_are_heard_as_each_alone(weights: Path) -> None:
    listener, rng = Whisper(weights), np.random.default_rng(2)
    sounds = [rng.normal(0, 0.1, n).astype(np.float32) for n in (20_000, 4_000, 33_333)]
    for sound, states in zip(sounds, listener(sounds), strict=True):
        assert [state.shape for state in states] == [(-(-len(sound) // 320), 384)] * whisper.LAYERS
        for one, other in zip(states, listener([sound])[0], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_it_reads_sound_as_whisper_does(weights: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sound = np.random.default_rng(3).normal(0, 0.1, 40_000).astype(np.float32)
    told = transformers.WhisperFeatureExtractor(feature_size=80)(
        sound, sampling_rate=SAMPLE_RATE, return_tensors="pt"
    )
    whole = torch.from_numpy(np.pad(sound, (0, 30 * SAMPLE_RATE - len(sound))))[None]
    torch.testing.assert_close(Whisper(weights)._mel(whole), told.input_features, rtol=1e-4, atol=1e-4)


def test_lengths_are_rounded_so_that_many_fit_together() -> None:
    for seconds in (0.1, 1.9, 2.1, 11.0, 28.9):
        count = int(seconds * SAMPLE_RATE)
        heard = rounded(count)
        assert count + SAMPLE_RATE <= heard <= 30 * SAMPLE_RATE and heard % (3 * SAMPLE_RATE) == 0
        assert heard < count + 4 * SAMPLE_RATE
    with pytest.raises(InputError, match="at most"):
        rounded(40 * SAMPLE_RATE)


def test_other_arrays_are_no_whisper(tmp_path: Path) -> None:
    file = tmp_path / "other.npz"
    np.savez(file, a=np.zeros(3, np.float32))
    with pytest.raises(InputError, match="damaged"):
        Whisper(file)
    file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="damaged"):
        Whisper(file)
