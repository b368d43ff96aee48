"""Calls in the wrong order, from a callback or from two threads at once: a status, and nothing is spoiled."""

from __future__ import annotations

import ctypes
import threading
from ctypes import byref, c_int64
from pathlib import Path

import numpy as np
import pytest

from facetalk.errors import InputError
from facetalk.frames import Frames
from facetalk.library import PROGRESS, StyleOptions, library
from facetalk.native import WHOLE, NativeModel, NativeStream
from facetalk.reading import read_json
from tests.helpers.small_whisper import add_small_whisper
from tests.native.test_frame_counts import Make, sound

INVALID, WRONG_STATE, STOPPED = 1, 5, 7


def curves_of(stream: NativeStream, samples: np.ndarray) -> np.ndarray:
    return Frames.joined([stream.push(samples), stream.finish()]).curves


def test_whisper_is_too_late_after_a_stream_or_features(make_live: Make) -> None:
    folder = make_live()
    listener = str(add_small_whisper(folder, 20)).encode()
    streamed, heard, fresh = (NativeModel(folder) for _ in range(3))
    streamed.stream(steps=1)
    heard.features(sound(700))
    for model in (streamed, heard):
        assert library().facetalk_model_use_whisper(model._handle, listener) == WRONG_STATE
        assert b"before its first stream is made" in library().facetalk_last_error()
    with pytest.raises(InputError):  # no stream was made, so it may still hear otherwise
        fresh.stream(rate=5)
    assert library().facetalk_model_use_whisper(fresh._handle, listener) == 0
    samples = sound(9_000)
    again, whisper = (curves_of(each.stream(steps=1), samples) for each in (streamed, fresh))
    assert np.abs(again - whisper).max() > 1e-3
    np.testing.assert_array_equal(again, curves_of(NativeModel(folder).stream(steps=1), samples))


def test_a_callback_may_ask_and_change_nothing(make_live: Make) -> None:
    """A button that stops by a reset, and a bar that shows frames as they come."""
    lib, model, samples = library(), NativeModel(make_live()), sound(16_000)
    expected = curves_of(model.stream(look_ahead=WHOLE, steps=1), samples)
    stream = model.stream(look_ahead=WHOLE, steps=1)
    handle, rows, frames = stream._handle, np.zeros((64, 6), np.float32), c_int64(-1)
    found: dict[str, int] = {}

    def told(_user: int, done: int, _frames: int) -> int:
        style = StyleOptions(ctypes.sizeof(StyleOptions), 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0)
        found.update(
            reset=lib.facetalk_stream_reset(handle),
            push=lib.facetalk_stream_push(handle, rows.ctypes.data, 6),
            finish=lib.facetalk_stream_finish(handle),
            pull=lib.facetalk_stream_pull(handle, rows.ctypes.data, 64, byref(frames)),
            style=lib.facetalk_stream_set_style(handle, byref(style)),
        )
        assert lib.facetalk_stream_ready(handle) == done and lib.facetalk_stream_latency_s(handle) == np.inf
        return 0

    callback = PROGRESS(told)
    assert lib.facetalk_stream_push(handle, samples.ctypes.data, len(samples)) == 0
    assert lib.facetalk_stream_on_progress(handle, callback, None) == 0
    assert lib.facetalk_stream_finish(handle) == 0
    assert found == dict.fromkeys(("reset", "push", "finish", "pull", "style"), WRONG_STATE)
    assert frames.value == -1, "what fails leaves outputs as they were"
    assert lib.facetalk_stream_on_progress(handle, PROGRESS(), None) == 0
    np.testing.assert_array_equal(stream._pull().curves, expected)


def test_a_stream_that_was_stopped_gives_nothing_more_until_a_reset(make_live: Make) -> None:
    lib, model, samples = library(), NativeModel(make_live()), sound(16_000)
    stream = model.stream(look_ahead=WHOLE, steps=1)
    handle, callback = stream._handle, PROGRESS(lambda *_: 1)
    assert lib.facetalk_stream_push(handle, samples.ctypes.data, len(samples)) == 0
    assert lib.facetalk_stream_on_progress(handle, callback, None) == 0
    assert lib.facetalk_stream_finish(handle) == STOPPED
    for call in (
        lambda: lib.facetalk_stream_finish(handle),
        lambda: lib.facetalk_stream_push(handle, samples.ctypes.data, 5),
    ):
        assert call() == WRONG_STATE and b"reset it" in lib.facetalk_last_error()
    assert lib.facetalk_stream_on_progress(handle, PROGRESS(), None) == 0
    stream.reset()
    fresh = model.stream(look_ahead=WHOLE, steps=1)
    np.testing.assert_array_equal(curves_of(stream, samples), curves_of(fresh, samples))


def test_two_threads_at_one_stream_are_told_and_break_nothing(make_live: Make) -> None:
    lib, model = library(), NativeModel(make_live())
    stream, samples = model.stream(look_ahead=0.1, steps=1), sound(640)
    statuses: set[int] = set()
    rows = [np.zeros((64, 6), np.float32) for _ in range(2)]

    def work(which: int) -> None:
        frames = c_int64(0)
        for _ in range(250):
            statuses.add(lib.facetalk_stream_push(stream._handle, samples.ctypes.data, len(samples)))
            pull = stream._handle, rows[which].ctypes.data, 64, byref(frames)
            statuses.add(lib.facetalk_stream_pull(*pull))
            statuses.add(lib.facetalk_stream_reset(stream._handle))

    threads = [threading.Thread(target=work, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses <= {0, WRONG_STATE}
    stream.reset()
    assert len(curves_of(stream, sound(8_000))) == 12


def test_two_streams_in_two_threads_are_what_each_is_alone(make_live: Make) -> None:
    model = NativeModel(make_live())
    clips = [sound(count) for count in (20_000, 23_000, 9_999, 31_000)]
    expected = [curves_of(model.stream(steps=2, seed=seed), clip) for seed, clip in enumerate(clips)]
    found: dict[int, np.ndarray] = {}

    def work(seed: int) -> None:
        stream = model.stream(steps=2, seed=seed)
        parts = [stream.push(part) for part in np.array_split(clips[seed], 40)]
        found[seed] = Frames.joined([*parts, stream.finish()]).curves

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(len(clips))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, curves in enumerate(expected):
        np.testing.assert_array_equal(found[seed], curves)


@pytest.mark.parametrize("look_ahead", [0.2, WHOLE])
def test_what_is_no_sound_is_not_taken(make_live: Make, look_ahead: float) -> None:
    """Memory that was never written holds such numbers; the model is not to blame for them."""
    lib, model = library(), NativeModel(make_live())
    stream, samples = model.stream(look_ahead=look_ahead, steps=1), sound(8_000)
    for bad, told in ((3.3e38, "3.3e+38"), (-2.0e30, "-2e+30")):
        with pytest.raises(InputError, match=r"value 2 is .*; sound lies in -1\.\.1") as caught:
            stream.push(np.array([0.1, 9e29, bad], np.float32))
        assert told in str(caught.value)
        with pytest.raises(InputError, match="sound lies in"):
            model.features(np.array([0.1, 0.2, bad], np.float32), look_ahead=look_ahead)
    count = lib.facetalk_stream_push(stream._handle, samples.ctypes.data, 2**62)
    assert count == INVALID and b"samples, got" in lib.facetalk_last_error()
    frames = c_int64(0)
    many = model._handle, samples.ctypes.data, 2**62, 0.2, None, byref(frames)
    assert lib.facetalk_model_features(*many) == INVALID and frames.value == 0
    np.testing.assert_array_equal(
        curves_of(stream, samples), curves_of(model.stream(look_ahead=look_ahead, steps=1), samples)
    )


def test_room_for_fewer_frames_than_there_are_gives_the_oldest(make_live: Make) -> None:
    lib, model, samples = library(), NativeModel(make_live()), sound(16_000)
    expected = curves_of(model.stream(steps=1), samples)
    stream = model.stream(steps=1)
    handle, frames, parts = stream._handle, c_int64(0), []
    assert lib.facetalk_stream_push(handle, samples.ctypes.data, len(samples)) == 0
    assert lib.facetalk_stream_finish(handle) == 0 == lib.facetalk_stream_finish(handle)
    for room in (0, 1, 0, 7, 2**40):
        rows = np.full((max(min(room, 64), 1), 6), 7.0, np.float32)
        assert lib.facetalk_stream_pull(handle, rows.ctypes.data, room, byref(frames)) == 0
        assert frames.value == min(room, len(expected) - sum(map(len, parts)))
        parts.append(rows[: frames.value])
        assert (rows[frames.value :] == 7.0).all()
    assert lib.facetalk_stream_pull(handle, rows.ctypes.data, -1, byref(frames)) == INVALID
    np.testing.assert_array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize(
    "options", [{"rate": 2**32 + 16_000}, {"rate": -(2**32) + 16_000}, {"seed": -1}, {"seed": 2**64}]
)
def test_numbers_beyond_those_of_c_are_not_cut(make_live: Make, options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"seed must be|sample_rate: expected"):
        NativeModel(make_live()).stream(steps=1, **options)


def test_settings_may_begin_with_the_mark_of_an_editor(make_live: Make) -> None:
    folder = make_live()
    for file in ("config.json", "audio/config.json", "motion/config.json"):
        path = folder / file
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert isinstance(read_json(path), dict)
    assert len(NativeModel(folder).names) == 6


def test_a_folder_has_any_letters(make_live: Make, tmp_path: Path) -> None:
    made = make_live()
    name = "\u041c\u043e\u0434\u0435\u043b\u044c \u9854 \U0001f600"
    folder = made.rename(tmp_path.parent / f"{tmp_path.name} {name}")
    samples = sound(3_000)
    assert len(curves_of(NativeModel(folder).stream(steps=1), samples)) == 5
    (folder / "motion/model.safetensors").unlink()
    with pytest.raises(InputError, match="no such file") as caught:
        NativeModel(folder)
    assert f"{name}/motion/model.safetensors" in str(caught.value)
