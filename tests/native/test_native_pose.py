"""The head's motion of the C library is Python's, however sound comes and frames are taken; who gets it."""

import ctypes
import resource
from ctypes import byref, c_int64, c_void_p
from pathlib import Path

import numpy as np
import pytest
import soxr
from small_networks import small_encoder, small_motion

from facetalk import FaceTalk
from facetalk.audio import load_audio
from facetalk.frames import Frames
from facetalk.library import FramePointers, StreamOptions, StyleOptions, library
from facetalk.mesh.pose import NECK
from facetalk.native import WHOLE, NativeModel, get_include
from facetalk.pose import generator
from facetalk.pose.generator import head_motion
from facetalk.streaming import LiveHead
from facetalk.style import Style

INVALID, WRONG_STATE = 1, 5
RADIANS, MILLIMETRES = 1e-6, 1e-5
"""How far the library's numbers may be from Python's: both are float32 of sums of doubles in other orders."""


class Stream:
    """A stream with options that Python's own handle does not set."""

    def __init__(self, model: NativeModel, **options: float) -> None:
        self.model, self.handle, lib = model, c_void_p(), library()
        given, style = StreamOptions(), StyleOptions()
        lib.facetalk_stream_options_default(byref(given))
        lib.facetalk_style_default(byref(style), ctypes.sizeof(style))
        style.head_motion = options.pop("head_motion", 1.0)
        style.struct_size = options.pop("style_size", style.struct_size)
        for name, value in {"steps": 1, **options}.items():
            setattr(given, name, value)
        assert lib.facetalk_stream_create(model._handle, byref(given), byref(self.handle)) == 0
        self.styled = lib.facetalk_stream_set_style(self.handle, byref(style))

    def __del__(self) -> None:
        library().facetalk_stream_free(self.handle)

    def push(self, sound: np.ndarray) -> "Stream":
        data = np.ascontiguousarray(sound, np.float32)
        assert library().facetalk_stream_push(self.handle, data.ctypes.data, len(data)) == 0
        return self

    def finish(self) -> "Stream":
        assert library().facetalk_stream_finish(self.handle) == 0
        return self

    def ready(self) -> int:
        return library().facetalk_stream_ready(self.handle)

    def pull(
        self, most: int = 4000, *wanted: str, size: int | None = None
    ) -> tuple[int, dict[str, np.ndarray]]:
        widths = {"curves": len(self.model.names), "tongue": 3, "contacts": 2, "pose": 6}
        rooms = {name: np.full((most, widths[name]), np.nan, np.float32) for name in wanted or ("pose",)}
        given = (rooms[name].ctypes.data if name in rooms else None for name in widths)
        into = FramePointers(ctypes.sizeof(FramePointers) if size is None else size, *given)
        frames = c_int64(0)
        status = library().facetalk_stream_pull_frames(self.handle, byref(into), most, byref(frames))
        return status, {name: room[: frames.value] for name, room in rooms.items()}

    def pose(self) -> np.ndarray:
        status, found = self.pull()
        assert status == 0, library().facetalk_last_error()
        return found["pose"]


def same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape and found.dtype == np.float32
    away = np.abs(found - expected).max(axis=0, initial=0.0)
    assert (away[:3] < RADIANS).all() and (away[3:] < MILLIMETRES).all(), away


def live_head(sound: np.ndarray, frames: int, *, seed: int = 0, look_ahead: float = 0.2, amount: float = 1.0):
    head = LiveHead(25.0, seed, 16_000, look_ahead=look_ahead, amount=amount)
    return np.concatenate([head.push(sound), head.finish(frames)])[:frames]


@pytest.fixture(scope="module")
def talk() -> np.ndarray:
    """Ten seconds of speech, half a second of silence, and speech again."""
    sound = load_audio(Path(__file__).resolve().parents[2] / "examples/demo.flac")
    return np.concatenate([sound, np.zeros(8_000, np.float32), sound[16_000:64_000]])


@pytest.mark.parametrize("look_ahead", [0.0, 0.123, 0.2, 0.25, 1.0])
@pytest.mark.parametrize(("seed", "amount"), [(0, 1.0), (2**64 - 1, 0.3), (7, 2.0)])
def test_a_stream_has_the_head_of_pythons(model, talk, look_ahead, seed, amount):
    stream = Stream(model, look_ahead_s=look_ahead, seed=seed, head_motion=amount)
    found = stream.push(talk).finish().pose()
    assert np.degrees(np.ptp(found[:, 0])) > 2.0
    same(found, live_head(talk, len(found), seed=seed, look_ahead=look_ahead, amount=amount))


@pytest.mark.parametrize("look_ahead", [None, 0.2])
def test_a_recording_has_the_head_of_generate(model, folder, talk, look_ahead):
    face = FaceTalk.from_pretrained(folder, device="cpu")
    style = Style(head_motion=0.5, smile=0.4)
    motion = face.generate((talk, 16_000), seed=3, steps=1, look_ahead=look_ahead, style=style)
    ahead = WHOLE if look_ahead is None else look_ahead
    stream = model.stream(look_ahead=ahead, seed=3, steps=1, style=style, pose=True)
    found = Frames.joined([stream.push(talk), stream.finish()])
    assert found.pose is not None and motion.pose is not None
    same(found.pose, motion.pose)
    assert np.abs(found.curves - motion.expressions).max() < 1e-4


@pytest.mark.parametrize("look_ahead", [0.0, 0.2, WHOLE])
def test_neither_the_pieces_nor_the_pulls_matter(model, talk, look_ahead):
    sound, rng = talk[:64_000], np.random.default_rng(4)
    expected = live_head(sound, 100, seed=5, look_ahead=look_ahead)
    plain = (
        Stream(model, look_ahead_s=look_ahead, seed=5).push(sound).finish().pull(200, "curves")[1]["curves"]
    )
    for sizes in ([320] * 190, [0, 1, 0, 9000, 37, 160, 161], rng.integers(0, 3000, 40)):
        stream, at = Stream(model, look_ahead_s=look_ahead, seed=5), 0
        for piece in [*np.split(sound, np.cumsum(sizes)), None]:
            if piece is None:
                stream.finish()
            else:
                stream.push(piece)
            # Once it was asked for, some pulls may leave it out.
            for wanted in (("pose",), ("curves", "tongue"), ("pose", "curves")):
                status, found = stream.pull(200 if piece is None else int(rng.integers(0, 4)), *wanted)
                assert status == 0
                count = len(found[wanted[0]])
                if "pose" in found:
                    same(found["pose"], expected[at : at + count])
                if "curves" in found:
                    away = np.abs(found["curves"] - plain[at : at + count])
                    assert away.max(initial=0.0) < 1e-5
                at += count
        assert at == 100 and stream.ready() == 0


def test_frames_come_no_later_with_their_pose_and_are_the_same(model, talk):
    one, other = Stream(model), Stream(model)
    for start in range(0, 48_000, 37):
        piece = talk[start : start + 37]
        assert one.push(piece).ready() == other.push(piece).ready()
        (_, with_pose), (_, without) = one.pull(9, "curves", "pose"), other.pull(9, "curves")
        assert np.array_equal(with_pose["curves"], without["curves"])
        assert not np.isnan(with_pose["pose"]).any() and len(with_pose["pose"]) == len(without["curves"])
    assert one.finish().ready() == other.finish().ready() > 0


def sounds() -> dict[str, np.ndarray]:
    rng, t = np.random.default_rng(0), np.arange(4 * 16_000)
    return {
        "silence": np.zeros(len(t)),
        "nearly silence": 1e-6 * rng.normal(size=len(t)),
        "noise": rng.normal(0, 0.3, len(t)),
        "offset": np.full(len(t), 0.1),
        "loud": 5.0 * np.sin(t * (0.05 + 0.03 * np.sin(t / 3000))) * (np.sin(t / 900) > 0),
        "square": np.sign(np.sin(t * 2 * np.pi * 7 / 16_000)),
        "the same 10 ms over and over": np.tile(np.sin(np.arange(160) * 2 * np.pi / 80), len(t) // 160),
        "that, spoken": np.tile(np.sin(np.arange(160) * 2 * np.pi / 160) ** 5, len(t) // 160)
        * (t % 16_000 < 9_600),
        "clicks": (t % 4_001 == 0) * 1.0,
        "huge": 1e18 * np.sin(t / 20.0),
    }


@pytest.mark.parametrize("kind", sounds())
def test_sounds_that_are_no_speech(model, kind):
    sound = sounds()[kind].astype(np.float32)
    found = Stream(model, head_motion=2.0, seed=5, look_ahead_s=0.25).push(sound).finish().pose()
    same(found, live_head(sound, 100, seed=5, look_ahead=0.25, amount=2.0))
    shifted = np.concatenate([np.degrees(found[:, :3]), found[:, 3:]], axis=1)
    assert (np.abs(shifted) <= generator.LIMITS + 1e-5).all()


@pytest.mark.parametrize("count", [0, 1, 159, 160, 161, 639, 640, 900, 3_000])
@pytest.mark.parametrize("look_ahead", [0.0, 0.2, WHOLE])
def test_hardly_any_sound(model, talk, count, look_ahead):
    sound = talk[30_000 : 30_000 + count]
    stream = Stream(model, look_ahead_s=look_ahead).push(sound).finish()
    found = stream.pose()
    assert len(found) == (max(1, round(count / 640)) if count else 0)
    same(found, live_head(sound, len(found), look_ahead=look_ahead))


@pytest.mark.parametrize("fps", [10.0, 29.97, 60.0, 120.0])
def test_other_frame_rates_and_denoisers_that_look_ahead(make_folder, talk, fps):
    encoder = small_encoder(feat_extract_norm="layer", do_stable_layer_norm=True)
    small = NativeModel(make_folder(encoder, small_motion(20, window=(1, 3)), span=0.2, fps=fps))
    sound = talk[:48_000]
    for look_ahead in (0.0, 0.2):
        stream, parts = Stream(small, look_ahead_s=look_ahead, steps=2), []
        for start in range(0, len(sound), 777):
            parts.append(stream.push(sound[start : start + 777]).pose())
        found = np.concatenate([*parts, stream.finish().pose()])
        assert len(found) == round(3 * fps)
        same(found, head_motion([sound], fps, len(found), seed=0, look_ahead=look_ahead))


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000])
def test_other_rates_are_as_near_as_the_resamplers(model, talk, rate):
    """Python's live head waits for soxr besides, which the library, whose frames wait for its resampler, need
    not; so it is held against one that hears as much."""
    given = soxr.resample(talk, 16_000, rate).astype(np.float32)
    found = Stream(model, sample_rate=rate).push(given).finish().pose()
    heard = soxr.resample(given, rate, 16_000).astype(np.float32)
    expected = head_motion([heard], 25.0, len(found), seed=0, look_ahead=0.2)
    away = np.abs(found - expected)
    assert away[:, :3].max() < 2e-5 and away[:, 3:].max() < 5e-3


def test_a_reset_starts_another_clip(model, talk):
    stream = Stream(model, seed=2)
    first = stream.push(talk[:32_000]).finish().pose()
    lib = library()
    assert lib.facetalk_stream_reset(stream.handle) == 0
    assert stream.push(talk[9_000:30_000]).pull(9, "curves")[0] == 0  # this clip is without
    assert stream.pull()[0] == WRONG_STATE
    assert lib.facetalk_stream_reset(stream.handle) == 0
    assert np.array_equal(stream.push(talk[:32_000]).finish().pose(), first)


def test_a_head_that_keeps_still(model, talk):
    stream = Stream(model, head_motion=0.0).push(talk[:16_000])
    assert stream.pull(3, "curves")[0] == 0
    found = stream.finish().pose()
    assert found.shape == (22, 6) and not found.any()


def test_whoever_did_not_ask_is_told_and_loses_no_frame(model, talk):
    lib, stream = library(), Stream(model).push(talk[:32_000])
    assert len(stream.pull(0, "curves")[1]["curves"]) == 0  # no frame was given yet
    assert len(stream.pull(2)[1]["pose"]) == 2
    stream = Stream(model).push(talk[:32_000])
    room, frames = np.empty((3, 53), np.float32), c_int64()
    assert lib.facetalk_stream_pull(stream.handle, room.ctypes.data, 3, byref(frames)) == 0
    left = stream.ready()
    status, _ = stream.pull(9, "curves", "pose")
    assert status == WRONG_STATE and b"from the first frame on" in lib.facetalk_last_error()
    assert stream.ready() == left > 0 and stream.pull(9, "curves")[0] == 0


@pytest.mark.parametrize("amount", [-1e-9, 2.0001, np.nan, np.inf, -np.inf])
def test_amounts_out_of_range(model, amount):
    stream = Stream(model, head_motion=amount)
    assert stream.styled == INVALID
    assert b"head_motion" in library().facetalk_last_error()


def test_programs_of_an_older_header(model, talk):
    """Their structs end before a pose: they give none, and what lies behind them is not looked at."""
    assert FramePointers.pose.offset == 32
    stream = Stream(model, style_size=StyleOptions.head_motion.offset + 7, head_motion=9.0, seed=6)
    found = stream.push(talk[:32_000]).finish().pose()
    same(found, live_head(talk[:32_000], 50, seed=6))  # as people do, which is the default
    stream = Stream(model).push(talk[:32_000]).finish()
    for size in (32, 36, 39):
        status, given = stream.pull(4, "curves", "pose", size=size)
        assert status == 0 and np.isnan(given["pose"]).all() and not np.isnan(given["curves"]).any()
    style = StyleOptions()
    library().facetalk_style_default(byref(style), ctypes.sizeof(style))
    assert style.head_motion == 1.0 and style.struct_size == ctypes.sizeof(StyleOptions)


_COMPARED = ("_PAUSE_S", "_REFRACTORY_S")


@pytest.mark.parametrize(
    "name",
    ["AHEAD_S", "LIMITS", "_POSTURE", "_DRIFT", "_NOD", "_SWING", "_MELODY", "_LOUDNESS", "_PULSE_S",
     "_REFRACTORY_S", "_PHRASE_S", "_PAUSE_S", "_NOISE_STEP"],
)  # fmt: skip
def test_constants_are_pythons(model, talk, name, monkeypatch):
    """What equals Python's would not, were any of Python's another."""
    sound = np.concatenate([talk] * 2)
    found = Stream(model, look_ahead_s=1.0, seed=1).push(sound).finish().pose()
    same(found, live_head(sound, len(found), seed=1, look_ahead=1.0))
    value = getattr(generator, name)
    # Times that are compared with multiples of 10 ms may change a little, and nothing with them.
    changed = value + 1 if name == "_NOISE_STEP" else np.asarray(value) * (3.0 if name in _COMPARED else 1.02)
    monkeypatch.setattr(generator, name, changed)
    other = live_head(sound, len(found), seed=1, look_ahead=1.0)
    assert np.abs(found - other)[:, :3].max() > 100 * RADIANS or np.abs(found - other)[:, 3:].max() > 0.01


def test_the_header_tells_what_the_head_turns_about():
    header = (Path(get_include()) / "facetalk.h").read_text()
    assert f"({', '.join(f'{value:g}' for value in NECK)}) m in its neck" in header


def test_a_live_stream_that_nobody_pulls_keeps_a_minute_of_sound(model, talk):
    """All of the sound would be 10 MB more, beside the curves that wait for somebody to pull them."""
    sound = np.concatenate([talk] * 13)
    streams = [Stream(model, seed=3, head_motion=amount) for amount in (0.0, 1.0)]
    grown = []
    for stream in streams:
        stream.push(talk)
        before = resident()
        for start in range(len(talk), len(sound), 16_000):
            stream.push(sound[start : start + 16_000])
        grown.append(resident() - before)
    assert grown[1] - grown[0] < 7_000  # kB
    still, moved = streams
    assert moved.ready() == still.ready() > 25 * 160
    found = [moved.pose(), moved.push(talk).pose(), moved.finish().pose()]
    same(np.concatenate(found), live_head(np.concatenate([sound, talk]), sum(map(len, found)), seed=3))


def test_a_head_that_was_followed_unasked_is_let_go(model, talk):
    """As it is of a stream whose frames were taken before: no pose, no frame lost, the same curves."""
    sound = np.concatenate([talk] * 6)
    one, other = Stream(model).push(sound), Stream(model, head_motion=0.0).push(sound)
    assert len(one.pull(3, "curves")[1]["curves"]) == 3
    assert one.pull(9)[0] == WRONG_STATE
    left = one.push(talk).finish().ready()
    assert len(other.push(talk).finish().pull(3, "curves")[1]["curves"]) == 3 and left == other.ready()
    assert np.array_equal(one.pull(left, "curves")[1]["curves"], other.pull(left, "curves")[1]["curves"])
    assert library().facetalk_stream_reset(one.handle) == 0
    same(one.push(sound).finish().pose(), live_head(sound, round(len(sound) / 640)))


def resident() -> int:
    """Kilobytes of this process that are in memory now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))


def test_memory_is_constant(model, talk):
    """The sound alone, which is kept until somebody asks, would take 3.4 MB."""
    stream = model.stream(steps=1, pose=True)
    stream.push(talk)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(4):
        assert stream.push(talk).pose is not None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_500  # kB
