"""Whisper in the C library: equal to torch's; weights and adapters that are not what they should be."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from facetalk.audio.whisper_encoder import Adapter, WhisperEncoder
from facetalk.audio.whisper_live import LiveWhisper
from facetalk.audio.whisper_weights import FOLDER, named
from facetalk.data.expressions import is_upper_face
from facetalk.errors import InputError
from facetalk.library import library
from facetalk.models import find_model
from facetalk.native import WHOLE, NativeModel
from facetalk.units import SAMPLE_RATE, frame_count
from tests.helpers.untaught_whisper import untaught, write_weights

CLOSE = {"rtol": 1e-4, "atol": 2e-4}
"""Of features whose spread is about 1."""
FPS = 25.0


def sound(seconds: float, seed: int = 0, level: float = 0.06) -> np.ndarray:
    """Noise that swells, dies and is coloured by the moment, so that places and rows differ."""
    rng = np.random.default_rng(seed)
    count = int(seconds * SAMPLE_RATE)
    at = np.arange(count) / SAMPLE_RATE
    tone = np.sin(2 * np.pi * (180.0 * at + 40.0 * np.sin(3.0 * at)))
    noise = 0.5 * rng.standard_normal(count)
    return (level * (1.0 + 0.8 * np.sin(at * 5.0)) * (tone + noise)).astype(np.float32)


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that never learned anything, as the C library reads them."""
    place = tmp_path_factory.mktemp("listener") / "listener.safetensors"
    save_file({name: np.ascontiguousarray(array) for name, array in named(untaught()).items()}, place)
    return place


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in model with adapters, whole and live, that know nothing."""
    place = tmp_path_factory.mktemp("model") / "model"
    shutil.copytree(find_model("default").folder, place, ignore=shutil.ignore_patterns(FOLDER))
    torch.manual_seed(0)
    adapter = Adapter(12, 8, 192)
    adapter.basis.normal_(0.0, 0.03)
    adapter.mean.normal_(0.0, 0.3)
    adapter.save(place / FOLDER, {"variance_floor": 1e-5})
    return place


@pytest.fixture(scope="module")
def native(folder: Path, listener: Path) -> NativeModel:
    return NativeModel(folder, listener)


@pytest.fixture(scope="module")
def reference(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> WhisperEncoder:
    weights = write_weights(tmp_path_factory.mktemp("weights") / "weights.npz")
    return WhisperEncoder.from_pretrained(folder, weights=weights)


@pytest.mark.parametrize("seconds", [1 / SAMPLE_RATE, 0.011, 0.37, 2.0, 5.013, 23.99, 24.01, 51.3])
def test_features_are_those_of_torch(native: NativeModel, reference: WhisperEncoder, seconds: float) -> None:
    samples = sound(max(seconds, 1.1 / SAMPLE_RATE), 3)
    expected = reference.features(samples, fps=FPS).numpy()
    found = native.features(samples)
    assert found.shape == expected.shape == (frame_count(len(samples), FPS), 192)
    assert len(found) < 9 or found.std() > 1e-2
    np.testing.assert_allclose(found, expected, **CLOSE)


@pytest.mark.parametrize("kind", ["silence", "quiet", "loud", "rumble", "offset", "click"])
def test_nasty_sound_is_heard_as_torch_hears_it(
    native: NativeModel, reference: WhisperEncoder, kind: str
) -> None:
    samples = sound(3.0, 5)
    at = np.arange(len(samples)) / SAMPLE_RATE
    changed = {
        "silence": np.zeros_like(samples),
        "quiet": samples * 1e-4,
        "loud": np.clip(samples * 40.0, -1.0, 1.0),
        "rumble": 0.1 * samples + 0.5 * np.sin(2 * np.pi * 10.0 * at),
        "offset": samples + 0.3,
        "click": np.where(np.arange(len(samples)) == 20_000, 1.0, 0.0),
    }[kind].astype(np.float32)
    expected = reference.features(changed, fps=FPS).numpy()
    np.testing.assert_allclose(native.features(changed), expected, **CLOSE)


def test_threads_change_nothing(native: NativeModel) -> None:
    samples = sound(7.3, 1)
    alone = native.features(samples)
    try:
        assert library().facetalk_set_threads(3) == 0
        np.testing.assert_array_equal(native.features(samples), alone)
    finally:
        library().facetalk_set_threads(1)


def test_a_stream_has_its_mouth_from_whisper_and_the_rest_from_the_model(
    native: NativeModel, folder: Path
) -> None:
    samples = sound(4.0, 2)

    def curves(model: NativeModel) -> np.ndarray:
        stream = model.stream(look_ahead=WHOLE, seed=9, steps=2)
        parts = [stream.push(samples[:9_000]), stream.push(samples[9_000:]), stream.finish()]
        assert [len(part.curves) for part in parts[:2]] == [0, 0]
        assert parts[2].contacts is not None and len(parts[2].contacts) == len(parts[2].curves)
        return parts[2].curves

    heard, own = curves(native), curves(NativeModel(folder))
    upper = np.array([is_upper_face(name) for name in native.names])
    assert heard.shape == own.shape == (100, len(upper)) and 20 < upper.sum() < 27
    np.testing.assert_array_equal(heard[:, upper], own[:, upper])
    assert np.abs(heard[:, ~upper] - own[:, ~upper]).max() > 0.02
    again = pickle.loads(pickle.dumps(native))
    np.testing.assert_array_equal(curves(again), heard)


def test_progress_is_told_and_stops_it(native: NativeModel) -> None:
    told: list[tuple[int, int]] = []
    stream = native.stream(look_ahead=WHOLE, steps=1)
    stream.push(sound(50.0))
    frames = stream.finish(lambda done, frames: told.append((done, frames)))
    assert len(frames.curves) == 1250 and {total for _, total in told} == {1250}
    assert [done for done, _ in told] == sorted(done for done, _ in told) and told[-1][0] > 900

    class Enough(Exception):
        pass

    def stop(done: int, frames: int) -> None:
        raise Enough

    stream.reset()
    stream.push(sound(30.0))
    with pytest.raises(Enough):
        stream.finish(stop)
    stream.reset()
    stream.push(sound(1.0))
    assert len(stream.finish().curves) == 25


def test_a_look_ahead_that_is_too_long(native: NativeModel) -> None:
    for ask in (lambda: native.features(sound(1.0), look_ahead=1.5), lambda: native.stream(look_ahead=2.0)):
        with pytest.raises(InputError, match="look-ahead of up to 1 s"):
            ask()


@pytest.fixture(scope="module")
def live_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with layers for live sound that are not those for recordings."""
    place = tmp_path_factory.mktemp("live") / "model"
    shutil.copytree(folder, place, ignore=shutil.ignore_patterns(FOLDER))
    adapter, told = Adapter.load(folder / FOLDER)
    torch.manual_seed(1)
    layers = adapter.begin_live()
    with torch.no_grad():
        for each in layers.parameters():
            each.add_(0.3 * each.std() * torch.randn_like(each))
    adapter.save(place / FOLDER, told)
    return place


@pytest.mark.parametrize("look_ahead", [0.0, 0.1, 0.18, 1.0])
@pytest.mark.parametrize("seconds", [0.011, 0.1, 1.0, 3.507])
def test_live_features_are_those_of_torch(
    live_folder: Path, listener: Path, reference: WhisperEncoder, look_ahead: float, seconds: float
) -> None:
    samples = sound(seconds, 4)
    adapter, _ = Adapter.load(live_folder / FOLDER)
    live = LiveWhisper(WhisperEncoder(reference.whisper, adapter, reference.floor), FPS, look_ahead)
    expected = torch.cat([live.push(samples), live.finish()]).numpy()
    model = NativeModel(live_folder, listener)
    found = model.features(samples, look_ahead=look_ahead)
    assert len(found) == frame_count(len(samples), FPS)
    np.testing.assert_allclose(found, expected, **CLOSE)
    # The whole is heard by other layers, and the same as without these.
    np.testing.assert_allclose(model.features(samples), reference.features(samples, fps=FPS).numpy(), **CLOSE)


def test_an_adapter_for_recordings_alone_hears_nothing_live(native: NativeModel) -> None:
    with pytest.raises(InputError, match="whole recordings alone"):
        native.stream(look_ahead=0.2)
    with pytest.raises(InputError, match="whole recordings alone"):
        native.features(sound(1.0), look_ahead=0.2)


def test_it_is_asked_for_once(native: NativeModel, listener: Path) -> None:
    status = library().facetalk_model_use_whisper(native._handle, str(listener).encode())
    assert status != 0 and b"already" in library().facetalk_last_error()
    assert library().facetalk_model_use_whisper(None, str(listener).encode()) != 0


def test_weights_that_lie_in_the_model_are_found(folder: Path, listener: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    handle = NativeModel(model)._handle
    assert library().facetalk_model_use_whisper(handle, None) != 0
    assert b"listener.safetensors: no such file" in library().facetalk_last_error()
    shutil.copy(listener, model / FOLDER / "listener.safetensors")
    again = NativeModel(model)
    assert library().facetalk_model_use_whisper(again._handle, None) == 0
    samples = sound(1.0)
    np.testing.assert_array_equal(again.features(samples), NativeModel(folder, listener).features(samples))


def _without(name: str) -> object:
    return lambda tensors: tensors.pop(name)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_without("conv1.weight"), r"conv1\.weight is missing"),
        (_without("layers.3.fc1.weight"), "other layers than the last two"),
        (_without("layers.2.self_attn.k_proj.weight"), r"k_proj\.weight is missing"),
        (lambda t: t.update({"conv2.weight": t["conv2.weight"][:, :, :2].copy()}), "should have shape"),
        (lambda t: t.update({"conv1.weight": t["conv1.weight"][:100].copy()}), "no multiple of 64"),
        (lambda t: t.update({"conv1.weight": np.zeros((384,), np.float32)}), "does not hold an encoder"),
        (lambda t: t.update({"layer_norm.bias": np.full(384, np.nan, np.float32)}), "not finite"),
    ],
)  # fmt: skip
def test_damaged_weights(folder: Path, listener: Path, tmp_path: Path, change, says: str) -> None:  # type: ignore[no-untyped-def]
    tensors = load_file(listener)
    change(tensors)
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match=says):
        NativeModel(folder, tmp_path / "bad.safetensors")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layers": [2, 3]}, "other layers"),
        ({"format": "facetalk-tongue"}, "does not describe an adapter"),
        ({"components": 13}, "should have shape"),
        ({"width": 10**9}, "width"),
        ({"variance_floor": -1.0}, "variance_floor"),
        ({"live": {"window_s": 2.0}}, r"live\.first\.bias is missing"),
        ({"live": {"window_s": 1e9}}, "live windows other than of 2 s"),
        ({"live": {"window_s": 1.5}}, "live windows other than of 2 s"),
        ({"live": {"window_s": "2.0"}}, "live windows other than of 2 s"),
        ({"live": {}}, "lacks the entry window_s"),
    ],
)
def test_damaged_adapters(folder: Path, listener: Path, tmp_path: Path, change: dict, says: str) -> None:  # type: ignore[type-arg]
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    place = model / FOLDER / "config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), **change}))
    with pytest.raises(InputError, match=says):
        NativeModel(model, listener)


def test_weights_of_another_whisper(folder: Path, listener: Path, tmp_path: Path) -> None:
    model, told = tmp_path / "model", {"listener": "0" * 64}
    shutil.copytree(folder, model)
    place = model / FOLDER / "config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), **told}))
    save_file(load_file(listener), tmp_path / "other.safetensors", {"listener": "1" * 64})
    with pytest.raises(InputError, match="another Whisper than the adapter"):
        NativeModel(model, tmp_path / "other.safetensors")
    samples = sound(1.0)
    heard = NativeModel(folder, listener).features(samples)
    # The same, or from a program that does not say which they are.
    for metadata in (told, {"format": "pt"}):
        save_file(load_file(listener), tmp_path / "told.safetensors", metadata)
        again = NativeModel(model, tmp_path / "told.safetensors")
        np.testing.assert_array_equal(again.features(samples), heard)


def test_no_adapter_and_no_weights(folder: Path, listener: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        NativeModel(folder, tmp_path / "nothing.safetensors")
    model = tmp_path / "model"
    shutil.copytree(folder, model, ignore=shutil.ignore_patterns(FOLDER))
    with pytest.raises(InputError, match="no adapter for Whisper"):
        NativeModel(model, listener)
    torch.manual_seed(0)
    Adapter(12, 8, 64).save(model / FOLDER, {"variance_floor": 1e-5})
    with pytest.raises(InputError, match="makes 64 audio features"):
        NativeModel(model, listener)
