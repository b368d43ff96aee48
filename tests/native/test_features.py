"""Audio features of the C library are those of torch and transformers, for any kind and size of encoder."""

import numpy as np
import pytest
from small_networks import small_encoder, small_motion

from facetalk.audio import AudioEncoder
from facetalk.audio.live import LiveFeatures
from facetalk.native import NativeModel

TOLERANCE = 1e-4  # of features with unit variance


@pytest.fixture(scope="module")
def encoder(folder):
    return AudioEncoder.from_pretrained(folder / "audio")


def level_changes(speech: np.ndarray) -> np.ndarray:
    """Near, then 24 dB further away, with silence between and an offset."""
    return np.concatenate([speech, np.zeros(9000, np.float32), speech * np.float32(0.063)]) + np.float32(0.01)


def rumble(speech: np.ndarray) -> np.ndarray:
    hum = np.sin(2 * np.pi * 25 / 16_000 * np.arange(len(speech)))
    return (0.05 * speech + 0.2 * hum).astype(np.float32)


@pytest.mark.parametrize(
    "change", [lambda x: x, level_changes, rumble, lambda x: x[:1], lambda x: x[:901] * 0]
)
def test_features_of_a_whole_recording(model, encoder, speech, change):
    sound = change(speech)
    expected = encoder.features(sound, fps=model.fps).numpy()
    found = model.features(sound)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < TOLERANCE


def test_windows_of_a_long_recording(model, encoder, speech):
    sound = np.tile(speech, 8)[: 16_000 * 43 + 77]
    expected = encoder.features(sound, fps=model.fps).numpy()
    assert np.abs(model.features(sound) - expected).max() < TOLERANCE


@pytest.mark.parametrize(
    ("changes", "span", "fps"),
    [
        (dict(), None, 25.0),
        (dict(feat_extract_norm="layer", conv_bias=True), None, 30.0),
        (dict(do_stable_layer_norm=True, feat_extract_norm="layer"), 0.3, 60.0),
        (dict(do_stable_layer_norm=True, hidden_act="relu", feat_extract_activation="gelu_new"), 0.1, 23.976),
        (dict(num_conv_pos_embeddings=8, hidden_act="silu", num_attention_heads=5), 2.0, 25.0),
    ],
)
def test_encoders_of_other_kinds_and_sizes(make_folder, speech, changes, span, fps):
    path = make_folder(small_encoder(**changes), small_motion(20), span=span, fps=fps)
    sound = speech[: 16_000 * 2]
    expected = AudioEncoder.from_pretrained(path / "audio").features(sound, fps=fps).numpy()
    found = NativeModel(path).features(sound)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < TOLERANCE * expected.std()


@pytest.mark.parametrize("look_ahead", [0.0, 0.06, 0.2, 1.0])
@pytest.mark.parametrize("change", [level_changes, rumble, lambda x: x[:1], lambda x: x[:3333]])
def test_features_of_sound_as_it_is_heard(model, encoder, speech, change, look_ahead):
    sound = change(speech[: 16_000 * 3])
    live = LiveFeatures(encoder, model.fps, look_ahead)
    expected = np.concatenate([live.push(sound).numpy(), live.finish().numpy()])
    found = model.features(sound, look_ahead=look_ahead)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < TOLERANCE


def test_what_is_heard_live_does_not_depend_on_the_pieces(encoder, speech):
    sound = speech[: 16_000 * 2]
    whole, pieces = (LiveFeatures(encoder, 25.0, 0.2) for _ in range(2))
    expected = np.concatenate([whole.push(sound).numpy(), whole.finish().numpy()])
    sizes = np.random.default_rng(0).integers(0, 1200, 200)
    parts = [pieces.push(part).numpy() for part in np.split(sound, np.cumsum(sizes))]
    found = np.concatenate([*parts, pieces.finish().numpy()])
    assert np.abs(found - expected).max() < 1e-5


def test_nothing_later_than_the_look_ahead_is_heard(encoder, speech):
    """Sound after frame i's moment changes nothing of it: the promise of a look-ahead."""
    sound = speech[: 16_000 * 2]
    other = sound.copy()
    at = 16_000
    other[at:] = np.float32(0.3) * np.sin(np.arange(len(other) - at, dtype=np.float32))
    given = []
    for part in (sound, other):
        live = LiveFeatures(encoder, 25.0, 0.2)
        given.append(live.push(part).numpy())
    known = int((at / 16_000 - 0.2) * 25 + 0.5)
    assert np.array_equal(given[0][:known], given[1][:known])
    assert np.abs(given[0][known + 8 :] - given[1][known + 8 :]).max() > 0.1
