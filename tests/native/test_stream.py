"""Streams of the C library: any pieces, any rate, again after a reset."""

import os
import resource
import signal
import threading
from ctypes import byref, c_int64, c_void_p

import numpy as np
import pytest
import soxr
from small_networks import small_encoder, small_motion

from facetalk.arguments import LOOK_AHEAD_S
from facetalk.audio.encoder import AudioEncoder
from facetalk.audio.live import LiveFeatures
from facetalk.errors import InputError
from facetalk.frames import Frames
from facetalk.library import StreamOptions, library
from facetalk.native import WHOLE, NativeModel

INVALID = 1


def streamed(stream, sound: np.ndarray, sizes) -> np.ndarray:
    parts, at = [], 0
    for size in sizes:
        parts.append(stream.push(sound[at : at + size]))
        at += size
    return Frames.joined([*parts, stream.push(sound[at:]), stream.finish()]).curves


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("look_ahead", [0.2, WHOLE])
def test_curves_do_not_depend_on_the_pieces(model, speech, rate, look_ahead):
    sound = speech[: 3 * 16_000] if rate == 16_000 else soxr.resample(speech[: 3 * 16_000], 16_000, rate)
    options = dict(rate=rate, look_ahead=look_ahead, seed=4, steps=2)
    expected = streamed(model.stream(**options), sound, [])
    rng = np.random.default_rng(1)
    for sizes in ([1] * 700, [0, 0, 320] * 100, rng.integers(0, 3000, 60), [rate // 50] * 100):
        found = streamed(model.stream(**options), sound, sizes)
        assert found.shape == expected.shape == (75, 53)
        assert np.abs(found - expected).max() < 1e-5


def test_live_curves_come_when_the_latency_says(model, speech):
    stream = model.stream(look_ahead=0.2, steps=1)
    assert stream.latency == 0.2
    heard, frames = 0, 0
    for start in range(0, 32_000, 160):
        frames += len(stream.push(speech[start : start + 160]).curves)
        heard = start + 160
        due = np.floor((heard / 16_000 - stream.latency) * 25 + 0.5 + 1e-9)
        assert frames == max(0, due)
    assert frames + len(stream.finish().curves) == 50


def test_a_denoiser_that_looks_ahead_adds_its_frames_to_the_latency(make_folder, speech):
    encoder = small_encoder(feat_extract_norm="layer", do_stable_layer_norm=True)
    model = NativeModel(make_folder(encoder, small_motion(20, window=(1, 3)), span=0.2))
    stream = model.stream(look_ahead=0.1)
    assert stream.latency == pytest.approx(0.1 + 3 / 25)
    parts = streamed(stream, speech[:16_000], [160] * 50)
    assert np.abs(parts - streamed(model.stream(look_ahead=0.1), speech[:16_000], [])).max() < 1e-5
    assert len(parts) == 25


def test_reset_starts_another_clip(model, speech):
    stream = model.stream(steps=2, seed=1)
    first = streamed(stream, speech[:16_000], [500] * 9)
    with pytest.raises(InputError, match="finished"):
        stream.push(speech[:10])
    stream.reset()
    stream.push(speech[5000:9000])
    stream.reset()
    assert np.array_equal(streamed(stream, speech[:16_000], [500] * 9), first)


def test_no_sound_gives_no_frames_and_bad_samples_are_not_taken(model, speech):
    stream = model.stream(steps=1)
    assert len(stream.push(np.zeros(0, np.float32)).curves) == 0
    with pytest.raises(InputError, match="value 3 is not finite"):
        stream.push(np.array([0, 0, 0, np.nan], np.float32))
    assert len(stream.finish().curves) == 0 == len(stream.finish().curves)


def test_encoders_that_hear_the_whole_are_refused_live(make_folder):
    model = NativeModel(make_folder(small_encoder(), small_motion(20)))
    told = []
    for kind in (
        lambda: model.stream(look_ahead=0.2),
        lambda: LiveFeatures(AudioEncoder(small_encoder()), 25.0, 0.2),
    ):
        with pytest.raises(InputError, match="let it hear the whole recording, or take a model") as error:
            kind()
        told.append(str(error.value))
    assert told[0] == told[1], "the C library and torch say the same"


@pytest.mark.parametrize("seconds", [-1.0, 60.5, float("nan"), float("-inf")])
def test_a_look_ahead_that_is_none_has_cs_name_for_programs_in_c(model, speech, seconds):
    lib, handle, options, frames = library(), c_void_p(), StreamOptions(), c_int64(0)
    lib.facetalk_stream_options_default(byref(options))
    options.look_ahead_s = seconds
    sound = speech[:16_000].ctypes.data, 16_000
    for call in (
        lambda: lib.facetalk_stream_create(model._handle, byref(options), byref(handle)),
        lambda: lib.facetalk_model_features(model._handle, *sound, seconds, None, byref(frames)),
    ):
        assert call() == INVALID and frames.value == 0
        said = lib.facetalk_last_error().decode()
        assert said.startswith("look_ahead_s: expected 0 to 60 seconds, or infinity, got"), said


@pytest.mark.parametrize("seconds", [*LOOK_AHEAD_S, WHOLE])
def test_the_ends_of_the_range_are_in_it(model, seconds):
    assert len(model.stream(look_ahead=seconds, steps=1).finish().curves) == 0


def test_memory_of_a_live_stream_is_constant(model, speech):
    """Two minutes; what grew with the sound would take 7.7 MB as samples alone."""
    sound = np.tile(speech, 3)
    stream = model.stream(steps=1)
    stream.push(sound)
    stream.push(sound)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(5):
        stream.push(sound)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_500  # kB


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 44_101])
def test_resampling_is_soxrs(model, speech, rate):
    """Curves within 0.01, for sound below 6.5 kHz, where both filters pass everything."""
    low = soxr.resample(soxr.resample(speech[:32_000], 16_000, min(13_000, rate)), min(13_000, rate), 16_000)
    given = soxr.resample(low, 16_000, rate).astype(np.float32)
    back = soxr.resample(given, rate, 16_000)
    options = dict(look_ahead=WHOLE, steps=2, seed=3)
    found = streamed(model.stream(rate=rate, **options), given, [])
    expected = streamed(model.stream(**options), back, [])
    assert len(found) == len(expected)
    assert np.abs(found - expected).max() < 0.01


def test_ctrl_c_ends_a_long_recording_without_a_word(model, speech, capfd):
    """A signal that comes while the library works is what the caller gets, and nothing is printed of it."""
    stream = model.stream(look_ahead=WHOLE, steps=10)
    stream.push(np.tile(speech, 60))
    killer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))

    def told(done, frames):
        if killer.ident is None:
            killer.start()

    with pytest.raises(KeyboardInterrupt):
        stream.finish(told)
    assert capfd.readouterr().err == ""
    stream.reset()
    stream.push(speech)
    assert len(stream.finish().curves) == 150
