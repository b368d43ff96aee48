"""Whisper hears live sound: by the definition, however it is cut; what is refused; the face that it moves."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import facetalk
from facetalk.audio.live import RunningLevel
from facetalk.audio.whisper import Whisper
from facetalk.audio.whisper_encoder import Adapter, WhisperEncoder
from facetalk.audio.whisper_live import LiveWhisper
from facetalk.audio.whisper_weights import FOLDER
from facetalk.cli import main
from facetalk.data.expressions import is_upper_face
from facetalk.errors import InputError
from facetalk.units import SAMPLE_RATE, frame_count
from tests.helpers.untaught_whisper import model_with, pretend_installed, untaught_adapter, write_weights

FPS = 25.0


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("whisper") / "weights.npz")


@pytest.fixture(scope="module")
def encoder(weights: Path) -> WhisperEncoder:
    return WhisperEncoder(Whisper(weights), untaught_adapter(live=True), floor=1e-5)


def sound(seconds: float) -> np.ndarray:
    """Noise that swells and dies, so that places differ."""
    rng = np.random.default_rng(0)
    count = int(seconds * SAMPLE_RATE)
    swell = 0.06 + 0.05 * np.sin(np.arange(count) / SAMPLE_RATE * 5.0)
    return (swell * rng.standard_normal(count)).astype(np.float32)


def heard(
    encoder: WhisperEncoder, pieces: list[np.ndarray], look_ahead: float, fps: float = FPS
) -> np.ndarray:
    live = LiveWhisper(encoder, fps, look_ahead)
    return torch.cat([*map(live.push, pieces), live.finish()]).numpy()


def by_definition(
    encoder: WhisperEncoder, samples: np.ndarray, frame: int, fps: float, ahead: float
) -> np.ndarray:
    """The features of one frame, slowly."""
    level, sound = RunningLevel(encoder.floor), {}
    for start in range(0, len(samples), 320):
        hop = np.zeros(320, np.float32)
        hop[: len(samples[start : start + 320])] = samples[start : start + 320]
        for index, value in enumerate(level.normalise(hop)[: len(samples) - start]):
            sound[start + index] = 0.05 * value
    middle = (frame + 0.5) / fps
    known = math.ceil((middle + ahead) * 16000 - 1e-6)
    known -= known % 320
    window = np.array([[sound.get(at, 0.0) for at in range(known - 32000, known)]], np.float32)
    listener, adapter = encoder.whisper, encoder.adapter
    with torch.inference_mode():
        states = listener._states(listener._mel(torch.from_numpy(window)))
        components = (torch.cat([states[3], states[4]], 2) - adapter.mean) @ adapter.basis
        assert adapter.live is not None
        rows = adapter.live(components)[0].numpy()
    assert rows.shape == (100, 192)
    around = np.pad(rows, ((1, 1), (0, 0)), mode="edge")
    rows = (around[:-2] + 2.0 * around[1:-1] + around[2:]) / 4.0
    # Row k of the window is about its second (k + 0.5) / 50.
    seconds = np.interp(middle - (known - 32000) / 16000, (np.arange(100) + 0.5) / 50, np.arange(100))
    low, share = int(seconds), seconds - int(seconds)
    after: np.ndarray = (1.0 - share) * rows[low] + share * rows[min(low + 1, 99)]
    return after


@pytest.mark.parametrize(("ahead", "fps"), [(0.0, 25.0), (0.18, 25.0), (0.1, 60.0), (1.0, 29.97)])
def test_frames_are_what_the_definition_says(encoder: WhisperEncoder, ahead: float, fps: float) -> None:
    # Neither whole hops, nor around zero: what fills the last hop is no sound.
    samples = sound(2.503) + np.float32(0.05)
    rows = heard(encoder, [samples], ahead, fps)
    count = frame_count(len(samples), fps)
    assert rows.shape == (count, 192) and rows.std() > 1e-2
    for frame in (0, 1, 20, count // 2 + 9, count - 2, count - 1):
        slowly = by_definition(encoder, samples, frame, fps, ahead)
        np.testing.assert_allclose(rows[frame], slowly, rtol=1e-4, atol=1e-4)
        # 20 ms more that are heard are seen.
        other = by_definition(encoder, samples, frame, fps, ahead + 0.02)
        assert np.abs(rows[frame] - other).max() > 1e-3


def test_features_do_not_depend_on_how_sound_is_cut(encoder: WhisperEncoder) -> None:
    samples = sound(3.337)
    whole = heard(encoder, [samples], 0.18)
    for cuts in ([1, 2, 3], range(97, len(samples), 1013), range(640, len(samples), 640)):
        pieces = np.split(samples, [*cuts])
        np.testing.assert_allclose(heard(encoder, pieces, 0.18), whole, rtol=1e-4, atol=1e-4)


def test_a_frame_is_given_as_soon_as_it_can_be(encoder: WhisperEncoder) -> None:
    live = LiveWhisper(encoder, FPS, 0.18)
    # Frame 3 is about 0.14 s, so it waits for 0.32 s.
    assert len(live.push(sound(1.0)[:5119])) == 3
    assert len(live.push(sound(1.0)[5119:5120])) == 1
    assert len(live.push(np.zeros(0, np.float32))) == 0
    assert len(live.finish()) == frame_count(5120, FPS) - 4
    assert len(live.finish()) == 0
    assert LiveWhisper(encoder, FPS, 0.18).finish().shape == (0, 192)


def test_memory_does_not_grow(encoder: WhisperEncoder) -> None:
    live = LiveWhisper(encoder, FPS, 0.5)
    for _ in range(5):
        live.push(sound(1.0))
    assert len(live._sound) < 2.6 * SAMPLE_RATE


def test_what_it_does_not_hear(encoder: WhisperEncoder) -> None:
    with pytest.raises(InputError, match=r"up to 1 s, or the whole .*got 1\.01"):
        LiveWhisper(encoder, FPS, 1.01)
    for wrong in (-0.1, 61.0, math.nan):
        with pytest.raises(InputError, match="look_ahead"):
            LiveWhisper(encoder, FPS, wrong)
    with pytest.raises(InputError, match="facetalk train whisper --live"):
        LiveWhisper(WhisperEncoder(encoder.whisper, Adapter(12, 8, 192), floor=1e-5), FPS, 0.2)
    live = LiveWhisper(encoder, FPS, 0.2)
    for samples in (np.zeros((2, 5), np.float32), np.array([0.0, np.inf], np.float32)):
        with pytest.raises(InputError, match="finite and of shape"):
            live.push(samples)


def test_both_kinds_of_layers_are_kept(tmp_path: Path) -> None:
    adapter = untaught_adapter(live=True)
    adapter.save(tmp_path / FOLDER, {"variance_floor": 1e-4})
    loaded, told = Adapter.load(tmp_path / FOLDER)
    assert told["live"] == {"window_s": 2.0} and "live.blocks.1.bias" in loaded.state_dict()
    for name, value in adapter.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value.half().float(), rtol=0, atol=0)
    # It is the same after another round, to the bit.
    before = (tmp_path / FOLDER / "model.safetensors").read_bytes()
    loaded.save(tmp_path / FOLDER, told)
    assert (tmp_path / FOLDER / "model.safetensors").read_bytes() == before
    config = json.loads((tmp_path / FOLDER / "config.json").read_text())
    assert config == told
    for change in ({"window_s": 3.0}, {}, 2.0, None):
        (tmp_path / FOLDER / "config.json").write_text(json.dumps({**config, "live": change}))
        with pytest.raises(InputError, match=r"adapter in .*whisper"):
            Adapter.load(tmp_path / FOLDER)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    pretend_installed(monkeypatch, weights)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in model with an adapter that knows nothing."""
    return model_with(untaught_adapter(live=True), tmp_path_factory.mktemp("model"))


@pytest.mark.usefixtures("installed")
def test_it_moves_a_face(model: Path) -> None:
    talk = facetalk.FaceTalk.from_pretrained(model, "cpu", backend="torch", encoder="whisper")
    samples = sound(1.5)
    stream = talk.stream(look_ahead=0.2, seed=3)
    assert 0.2 <= stream.latency < 0.3
    frames = [*(stream.push(piece) for piece in np.array_split(samples, 9)), stream.finish()]
    curves = np.concatenate([part.expressions for part in frames])
    motion = talk.generate((samples, SAMPLE_RATE), seed=3, look_ahead=0.2)
    np.testing.assert_allclose(curves, motion.expressions, rtol=1e-3, atol=1e-3)
    assert motion.provenance["encoder"] == "whisper" and motion.provenance["look_ahead"] == 0.2
    # The mouth is of what Whisper hears, the rest of what the model's own encoder does.
    features = talk.features((samples, SAMPLE_RATE), look_ahead=0.2)
    assert isinstance(talk.speech_encoder, WhisperEncoder)
    np.testing.assert_allclose(features, heard(talk.speech_encoder, [samples], 0.2), rtol=1e-4, atol=1e-4)
    sampled = talk.motion_model.sample(iter([features]), seed=3)
    own = facetalk.FaceTalk.from_pretrained(model, "cpu", backend="torch")
    upper = np.array([is_upper_face(name) for name in talk.head.expression_names])
    owns = own.generate((samples, SAMPLE_RATE), seed=3, look_ahead=0.2).expressions
    np.testing.assert_allclose(motion.expressions[:, ~upper], sampled[:, ~upper], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(motion.expressions[:, upper], owns[:, upper], rtol=1e-3, atol=1e-3)
    assert np.abs(sampled[:, upper] - owns[:, upper]).max() > 0.01
    assert motion.tongue is not None and talk.tongue is not None
    contacts = talk.tongue.network(features)
    np.testing.assert_allclose(
        motion.tongue, talk.tongue.reach.weights(contacts, motion.expressions), rtol=1e-2, atol=1e-2
    )


@pytest.mark.usefixtures("installed")
def test_the_verb_hears_so(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import soundfile

    soundfile.write(tmp_path / "a.wav", sound(0.6), SAMPLE_RATE)
    given = ["generate", str(tmp_path / "a.wav"), "--encoder", "whisper", "--model", str(model)]
    given += ["--device", "cpu", "-o", str(tmp_path / "a.safetensors"), "--look-ahead"]
    assert main([*given, "1.5"]) == 2
    assert "look-ahead of up to 1 s" in capsys.readouterr().err and not (tmp_path / "a.safetensors").exists()
    assert main([*given, "0.2"]) == 0
    assert facetalk.Motion.load(tmp_path / "a.safetensors").provenance["look_ahead"] == 0.2
