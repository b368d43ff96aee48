"""Sliders of the C library are Python's: every one, in any pieces, blinks included; and what is refused."""

import ctypes
import dataclasses
from collections.abc import Callable
from ctypes import byref, c_int64

import numpy as np
import pytest
from small_networks import small_encoder, small_motion
from small_tongue import add_small_tongue

from facetalk import Style
from facetalk.errors import InputError
from facetalk.frames import Frames
from facetalk.library import FramePointers, StyleOptions, library
from facetalk.native import WHOLE, NativeModel, NativeStream
from facetalk.style import RANGES, StyleFilter

INVALID, UNSUPPORTED, WRONG_STATE = 1, 4, 5
NAMES = [field[0] for field in StyleOptions._fields_[1:]]

SLIDERS = [
    {"intensity": 0.0}, {"intensity": 2.0}, {"smile": -1.0}, {"smile": 0.7}, {"brow_activity": 0.0},
    {"brow_activity": 3.0}, {"blink_rate": 0.0}, {"blink_rate": 0.5}, {"blink_rate": 1.3},
    {"blink_rate": 3.0}, {"gaze_steadiness": 0.5}, {"gaze_steadiness": 1.0},
    {"smile": 1.0, "blink_rate": 2.0, "gaze_steadiness": 0.5, "intensity": 1.5, "brow_activity": 3.0},
    {"smile": -0.3, "intensity": 0.4, "blink_rate": 2.6, "gaze_steadiness": 0.9},
    {"jaw": 0.0}, {"jaw": 1.7}, {"lips": 0.3}, {"lips": 2.0}, {"jaw": 2.0, "lips": 0.0},
    {"jaw": 0.6, "lips": 1.5, "smile": 0.8, "intensity": 0.5},
]  # fmt: skip

# What each slider works on, in six curves; the tongue goes by the jaw.
FACES = {
    "brows and lids": ["browDown_L", "eyeBlink_L", "jawOpen", "eyeBlink_R", "eyeLookDown_L", "mouthSmile_L"],
    "mouth": ["mouthFrown_L", "cheekSquint_R", "mouthStretch_L", "mouthSmileRight", "browInnerUp", "jawOpen"],
    "lips": ["jawOpen", "mouthClose", "mouthFunnel", "mouthRollLower", "mouthUpperUp_L", "mouthPress_R"],
    "eyes": ["eyeWide_L", "eyeSquint_R", "eyeLookUp_L", "eyeLookDown_R", "browOuterUp_R", "eyeBlinkLeft"],
}
WORKS_ON = {
    "intensity": "brow", "smile": "mouthSmile", "brow_activity": "brow", "blink_rate": "eyeBlink",
    "gaze_steadiness": "eyeLook", "jaw": "jawOpen", "lips": "mouthFunnel",
}  # fmt: skip


def works_on(slider: str, value: float) -> str:
    return "mouthFrown" if slider == "smile" and value < 0.0 else WORKS_ON[slider]


def fitting(sliders: dict[str, float], names: list[str]) -> dict[str, float]:
    """Those that have a curve of these names."""
    return {
        slider: value for slider, value in sliders.items()
        if any(name.startswith(works_on(slider, value)) for name in names)
    }  # fmt: skip


def streamed(stream: NativeStream, sound: np.ndarray, seed: int = 0) -> Frames:
    """Pushed and pulled in pieces of any size."""
    rng, parts, at = np.random.default_rng(seed), [], 0
    while at < len(sound):
        size = int(rng.choice([1, 100, 5000, 50_001]))
        parts.append(stream.push(sound[at : at + size]))
        at += size
    return Frames.joined([*parts, stream.finish()])


def expected_of(curves: np.ndarray, names: list[str], fps: float, seed: int, **sliders: float) -> np.ndarray:
    made = StyleFilter(Style(**sliders), names, fps, seed)
    return np.concatenate([made.apply(part) for part in np.split(curves, [1, 7, 7, 100, 1001])])


@pytest.fixture
def make_face(make_folder) -> Callable[..., NativeModel]:
    def make(names: list[str], fps: float = 25.0, *, with_tongue: bool = False) -> NativeModel:
        motion = small_motion(20)
        motion.expression_names, motion.contact = names, None
        # What it samples lies about these. Curves shall lie about 0.2, where lids begin to blink.
        about = np.array([-0.51, -0.93, -0.25, -0.52, -0.03, 0.56])
        motion.representation = dataclasses.replace(motion.representation, mean=0.2 - about)
        encoder = small_encoder(feat_extract_norm="layer", do_stable_layer_norm=True)
        folder = make_folder(encoder, motion, span=0.2, fps=fps)
        if with_tongue:
            add_small_tongue(folder, 20, names)
        return NativeModel(folder)

    return make


@pytest.fixture(scope="module")
def talk(model, speech) -> np.ndarray:
    """Three minutes, heard whole."""
    return np.tile(speech, 30)


@pytest.fixture(scope="module")
def plain(model, talk) -> np.ndarray:
    return streamed(model.stream(look_ahead=WHOLE, steps=1, seed=5), talk).curves


@pytest.mark.parametrize("sliders", SLIDERS, ids=str)
def test_minutes_of_the_built_in_model_are_pythons(model, talk, plain, sliders):
    style = Style(**sliders)
    found = streamed(model.stream(look_ahead=WHOLE, steps=1, seed=5, style=style), talk).curves
    expected = expected_of(plain, model.names, model.fps, 5, **sliders)
    assert len(found) == 4500 and np.abs(expected - plain).max() > 0.1
    assert np.abs(found - expected).max() < 1e-6


@pytest.mark.parametrize(("fps", "seed"), [(25.0, 0), (61.7, 2**64 - 1)])
@pytest.mark.parametrize("face", FACES)
def test_faces_that_do_anything_at_any_time_are_pythons(make_face, speech, face, fps, seed):
    """Lids of random networks begin and end blinks at every turn, and look about meanwhile."""
    model, sound = make_face(FACES[face], fps), np.tile(speech, 5)
    options = dict(look_ahead=0.1, steps=1, seed=seed)
    plain = streamed(model.stream(**options), sound, seed=1).curves
    lids = [i for i, name in enumerate(model.names) if name.startswith("eyeBlink")]
    asked = [some for sliders in SLIDERS if (some := fitting(sliders, model.names))]
    moved = 0
    for number, some in enumerate(asked):
        expected = expected_of(plain, model.names, fps, seed, **some)
        found = streamed(model.stream(**options, style=Style(**some)), sound, seed=number).curves
        assert found.shape == expected.shape and np.abs(found - expected).max() < 1e-6, some
        moved += np.abs(expected - plain).max() > 0.1
        if len(lids) == 2 and some.get("blink_rate", 0.0) > 2.0:  # one lid alone is seldom at rest
            assert (expected[:, lids] > plain[:, lids] + 0.2).any(), "a blink was put in"
    assert moved >= len(asked) - 2 >= 4, "a few more blinks may be none"


def test_the_tongue_is_that_of_the_curves_that_are_shown(make_face, speech):
    model = make_face(FACES["mouth"], with_tongue=True)
    sound, options = speech[:48_000], dict(look_ahead=0.1, steps=1)
    plain = streamed(model.stream(**options), sound)
    stream = model.stream(**options, style=Style(smile=-1.0, intensity=2.0))
    lib = library()
    assert lib.facetalk_stream_push(stream._handle, sound.ctypes.data, len(sound)) == 0
    assert lib.facetalk_stream_finish(stream._handle) == 0
    curves, tongue, contacts = (np.empty((75, width), np.float32) for width in (6, 3, 2))
    into = FramePointers(ctypes.sizeof(FramePointers), *(a.ctypes.data for a in (curves, tongue, contacts)))
    frames, at = c_int64(), 0
    # The tongue alone, then all: a frame that nobody asked the curves of goes by the filter all the same.
    alone = FramePointers(ctypes.sizeof(FramePointers), None, tongue.ctypes.data, None)
    for where, most in ((alone, 20), (into, 75)):
        assert lib.facetalk_stream_pull_frames(stream._handle, byref(where), most, byref(frames)) == 0
        if where is alone:
            first = tongue[:20].copy()
        at += frames.value
    assert at == 75
    expected = expected_of(plain.curves, model.names, 25.0, 0, smile=-1.0, intensity=2.0)
    assert np.abs(curves[:55] - expected[20:]).max() < 1e-6
    weights = model.tongue_weights(plain.contacts, expected)
    assert np.abs(first - weights[:20]).max() < 1e-5 and np.abs(tongue[:55] - weights[20:]).max() < 1e-5
    assert np.abs(weights - model.tongue_weights(plain.contacts, plain.curves)).max() > 0.01


def test_left_alone_nothing_changes_to_the_bit(model, speech):
    plain = streamed(model.stream(seed=3), speech[:32_000]).curves
    for style in (None, Style(), Style(head_motion=0.3)):
        found = streamed(model.stream(seed=3, style=style), speech[:32_000]).curves
        assert np.array_equal(found, plain)


def test_reset_starts_the_sliders_anew(model, speech):
    sound = np.tile(speech, 4)
    stream = model.stream(look_ahead=WHOLE, steps=1, seed=9, style=Style(blink_rate=2.5, smile=0.5))
    first = streamed(stream, sound).curves
    lids = [model.names.index(f"eyeBlink_{side}") for side in "LR"]
    plain = streamed(model.stream(look_ahead=WHOLE, steps=1, seed=9), sound).curves
    assert (first[:, lids] > plain[:, lids] + 0.3).any(), "a blink was put in"
    stream.reset()
    stream.push(sound[: 16_000 * 9])
    stream.reset()
    assert np.array_equal(streamed(stream, sound).curves, first)


def styled(model: NativeModel, **fields: object) -> tuple[int, str]:
    """The status and words of ``facetalk_stream_set_style`` with some fields of its style changed."""
    lib, style, stream = library(), StyleOptions(), model.stream()
    lib.facetalk_style_default(byref(style), ctypes.sizeof(style))
    for name, value in fields.items():
        setattr(style, name, value)
    return lib.facetalk_stream_set_style(stream._handle, byref(style)), lib.facetalk_last_error().decode()


def test_sliders_and_their_defaults_are_pythons():
    style = StyleOptions()
    library().facetalk_style_default(byref(style), ctypes.sizeof(style))
    assert style.struct_size == ctypes.sizeof(StyleOptions) == 72
    assert list(RANGES) == NAMES and set(NAMES) == {*WORKS_ON, "head_motion"}
    assert all(getattr(style, name) == getattr(Style(), name) for name in NAMES)


def test_defaults_of_programs_that_know_fewer_sliders_stay_within_their_struct():
    lib, style = library(), StyleOptions()
    ctypes.memset(byref(style), 0xA5, ctypes.sizeof(style))
    whole, known = bytes(style), StyleOptions.brow_activity.offset
    lib.facetalk_style_default(byref(style), 0)
    assert bytes(style) == whole
    lib.facetalk_style_default(byref(style), known)
    assert (style.struct_size, style.intensity, style.smile) == (known, 1.0, 0.0)
    assert bytes(style)[known:] == whole[known:]
    lib.facetalk_style_default(byref(style), 4096)  # of a program that knows more than the library
    assert style.struct_size == ctypes.sizeof(style) and style.lips == 1.0


def test_a_style_comes_before_sound_and_stays(model, speech):
    lib, style, stream = library(), StyleOptions(), model.stream(seed=3)
    lib.facetalk_style_default(byref(style), ctypes.sizeof(style))
    style.smile = 0.6
    plain = streamed(model.stream(seed=3), speech[:16_000]).curves
    smiling = expected_of(plain, model.names, model.fps, 3, smile=0.6)
    stream.push(np.zeros(0, np.float32))
    assert lib.facetalk_stream_set_style(stream._handle, byref(style)) == 0
    assert np.abs(streamed(stream, speech[:16_000]).curves - smiling).max() < 1e-6
    for given in (byref(style), None):
        assert lib.facetalk_stream_set_style(stream._handle, given) == WRONG_STATE
        assert b"reset" in lib.facetalk_last_error()
    stream.reset()
    style.smile = 7.0
    assert lib.facetalk_stream_set_style(stream._handle, byref(style)) == INVALID
    assert np.abs(streamed(stream, speech[:16_000]).curves - smiling).max() < 1e-6, "as before"
    stream.reset()
    assert lib.facetalk_stream_set_style(stream._handle, None) == 0
    assert np.array_equal(streamed(stream, speech[:16_000]).curves, plain)
    assert lib.facetalk_stream_set_style(None, byref(style)) == INVALID


@pytest.mark.parametrize("name", NAMES)
def test_values_out_of_range(model, name):
    low, high = RANGES[name]
    for value in (low, high):
        assert styled(model, **{name: value})[0] == 0
    for value in (np.nextafter(low, -9), np.nextafter(high, 9), np.nan, np.inf, -np.inf, 1e300):
        status, why = styled(model, **{name: value})
        assert status == INVALID
        assert why.startswith(f"{name}: expected {low:g} to {high:g}, got ") and "\n" not in why
    with pytest.raises(InputError, match=r"must be a facetalk\.Style"):
        model.stream(style={name: low})


def test_models_of_other_names_refuse(make_face):
    model = make_face([f"code_{i}" for i in range(6)])
    for name, value in [*((name, 0.5) for name in WORKS_ON), ("smile", -0.5)]:
        beginning = works_on(name, value)
        status, why = styled(model, **{name: value})
        assert status == UNSUPPORTED
        with pytest.raises(InputError) as caught:
            StyleFilter(Style(**{name: value}), model.names, 25.0, 0)
        assert why == str(caught.value).replace("expressions", "curves")
        assert why.startswith(
            f"{name} works on curves named {beginning}*, which this model does not have; use"
        )
    assert styled(model, head_motion=0.5)[0] == 0


@pytest.mark.parametrize("name", WORKS_ON)
def test_one_curve_is_enough_wherever_it_is(make_face, name):
    for place in (0, 5):
        names = [f"code_{i}" for i in range(6)]
        names[place] = WORKS_ON[name] + "_L"
        StyleFilter(Style(**{name: 0.5}), names, 25.0, 0)
        assert styled(make_face(names), **{name: 0.5})[0] == 0


def test_programs_that_know_fewer_sliders(model, speech):
    lib, style, stream = library(), StyleOptions(), model.stream(seed=3)
    expected = streamed(model.stream(seed=3), speech[:16_000]).curves
    for name in NAMES:  # what lies behind their struct is theirs
        setattr(style, name, np.nan)
    style.smile, style.intensity, style.struct_size = 1.0, 1.0, StyleOptions.brow_activity.offset
    assert lib.facetalk_stream_set_style(stream._handle, byref(style)) == 0
    found = streamed(stream, speech[:16_000]).curves
    assert np.abs(found - expected_of(expected, model.names, 25.0, 3, smile=1.0)).max() < 1e-6
    for size in (0, 7, 1 << 30):
        style.struct_size = size
        assert lib.facetalk_stream_set_style(model.stream()._handle, byref(style)) == INVALID
