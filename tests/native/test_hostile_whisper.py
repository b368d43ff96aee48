"""Whisper in the C library where things go wrong: pieces of any size, memory that ends, files cut short."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_char_p, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_networks import small_encoder, small_motion
from small_tongue import add_small_tongue

from facetalk.errors import InputError
from facetalk.library import library
from facetalk.native import WHOLE, NativeModel
from facetalk.units import SAMPLE_RATE, frame_count
from tests.helpers.small_whisper import ROWS, WIDTH, add_small_whisper
from tests.native.test_options import NO_MEMORY, Allocator


def sound(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    at = np.arange(count) / SAMPLE_RATE
    return (0.1 * np.sin(2 * np.pi * 190.0 * at) + 0.05 * rng.standard_normal(count)).astype(np.float32)


@pytest.fixture
def small(make_folder) -> Path:  # type: ignore[no-untyped-def]
    """A model with random weights, a tongue, and an adapter for a small Whisper that lies beside it."""
    encoder = small_encoder(feat_extract_norm="layer", do_stable_layer_norm=True)
    motion = small_motion(20, window=(1, 3))
    motion.expression_names = ["browDown_L", "jawOpen", "curve 2", "eyeBlink_L", "curve 4", "curve 5"]
    model = make_folder(encoder, motion, span=0.2)
    add_small_tongue(model, 20, motion.expression_names)
    add_small_whisper(model, 20)
    return model


def load(folder: Path) -> NativeModel:
    return NativeModel(folder, folder / "whisper/listener.safetensors")


def clip(model: NativeModel, samples: np.ndarray, sizes: list[int], look_ahead: float) -> list[np.ndarray]:
    stream = model.stream(look_ahead=look_ahead, seed=4, steps=2, pose=True)
    parts, at = [], 0
    while at < len(samples):
        size = sizes[len(parts) % len(sizes)]
        parts.append(stream.push(samples[at : at + size]))
        at += size
    parts.append(stream.finish())
    columns = zip(*((part.curves, part.contacts, part.pose) for part in parts), strict=True)
    return [np.concatenate(each) for each in columns]


@pytest.mark.parametrize("look_ahead", [0.0, 0.18, 1.0, WHOLE])
def test_curves_do_not_depend_on_the_pieces(small: Path, look_ahead: float) -> None:
    model = load(small)
    for count in (1, 319, 3_210, 40_100):
        samples = sound(count, count)
        together = clip(model, samples, [count], look_ahead)
        assert len(together[0]) == frame_count(count, model.fps)
        cut = clip(model, samples, [1, 320, 7, 5_000, 319, 2_048], look_ahead)
        for one, other in zip(together, cut, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_live_frame_depends_on_no_later_sound(small: Path) -> None:
    model, ahead = load(small), 0.2
    samples = sound(32_000)
    features = model.features(samples, look_ahead=ahead)
    for frame in (3, 20, 30):
        until = int(np.ceil(((frame + 0.5) / model.fps + ahead) * SAMPLE_RATE - 1e-6))
        changed = samples.copy()
        changed[until:] = sound(len(samples) - until, 7)
        found = model.features(changed, look_ahead=ahead)
        np.testing.assert_array_equal(found[: frame + 1], features[: frame + 1])
        assert np.abs(found[frame + 2 :] - features[frame + 2 :]).max() > 1e-3


def test_sound_of_long_ago_is_forgotten(small: Path) -> None:
    # The level hears of a minute; what a window does not reach changes nothing else.
    model = load(small)
    samples = sound(80_000, 1)
    other = samples.copy()
    other[1_600:1_610] *= -1.0
    one, two = (model.features(each, look_ahead=0.1) for each in (samples, other))
    assert np.abs(one[:40] - two[:40]).max() > 1e-4
    np.testing.assert_allclose(one[60:], two[60:], atol=1e-4)


def test_memory_that_ends(small: Path) -> None:
    lib = ctypes.CDLL(library()._name)
    for name in ("model", "stream"):
        getattr(lib, f"facetalk_{name}_free").argtypes = [c_void_p]
    lib.facetalk_last_error.restype = c_char_p
    samples, curves = sound(24_000), np.empty((64, 64), np.float32)

    def use(options: ctypes.Structure) -> int:
        model, stream, frames = c_void_p(), c_void_p(), c_int64()
        calls = [
            lambda: lib.facetalk_model_load_with(str(small).encode(), byref(options), byref(model)),
            lambda: lib.facetalk_model_use_whisper(model, None),
            lambda: lib.facetalk_stream_create(model, None, byref(stream)),
            lambda: lib.facetalk_stream_push(stream, c_void_p(samples.ctypes.data), c_size_t(len(samples))),
            lambda: lib.facetalk_stream_finish(stream),
            lambda: lib.facetalk_stream_pull(
                stream, c_void_p(curves.ctypes.data), c_int64(64), byref(frames)
            ),
        ]
        status = 0
        for call in calls:
            status = status or call()
        assert status or frames.value == frame_count(len(samples), 25.0)
        lib.facetalk_stream_free(stream)
        lib.facetalk_model_free(model)
        return status

    whole = Allocator()
    assert use(whole.options) == 0, lib.facetalk_last_error()
    assert not whole.live
    for most in np.unique(np.geomspace(1, whole.blocks - 1, 50).astype(int)):
        short = Allocator(int(most))
        assert use(short.options) == NO_MEMORY, most
        assert not short.live and not short.strangers, most


def test_weights_that_hear_less_than_a_window(small: Path) -> None:
    place = small / "whisper/listener.safetensors"
    tensors = load_file(place)
    tensors["embed_positions.weight"] = np.zeros((ROWS - 1, WIDTH), np.float16)
    save_file(tensors, place)
    with pytest.raises(InputError, match="less than 30 s at once"):
        load(small)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "listener.safetensors"])
def test_files_cut_short(small: Path, file: str) -> None:
    place = small / "whisper" / file
    content = place.read_bytes()
    rng = np.random.default_rng(0)
    for size in (0, 1, 7, 9, *rng.integers(10, len(content), 12)):
        place.write_bytes(content[:size])
        with pytest.raises(InputError):
            load(small)
    place.write_bytes(content)
    load(small)
