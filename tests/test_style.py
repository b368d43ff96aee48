"""Sliders: each does what it says, leaves the lips alone, and does not care how a clip is cut."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from facetalk import FaceTalk, InputError, Motion, Style
from facetalk.audio import load_audio
from facetalk.cli import main
from facetalk.data import visemes
from facetalk.data.expressions import EXPRESSION_NAMES, INDEX
from facetalk.data.upper_face import add_life
from facetalk.metrics.dynamics import blink_figures, dynamics, lid_closure
from facetalk.metrics.lips import lip_gap
from facetalk.style import RANGES, StyleFilter

FPS = 25.0


@pytest.fixture(scope="module")
def model() -> FaceTalk:
    return FaceTalk.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def curves(model: FaceTalk) -> np.ndarray:
    """Three minutes of an upper face with the statistics of people, over the mouth of a talk."""
    mouth = model.generate("examples/demo.flac", seed=0).expressions
    still = [i for i, name in enumerate(EXPRESSION_NAMES) if not name.startswith(("mouth", "jaw"))]
    out = np.tile(mouth, (18, 1)).astype(np.float64)
    out[:, still] = 0.0
    times = (np.arange(len(out)) + 0.5) / FPS
    phones = [("a", 3.0 * i, 3.0 * i + 2.5) for i in range(int(times[-1] / 3.0))]
    add_life(out, phones, times, "ipa", np.random.default_rng(4))
    return out.astype(np.float32)


def styled(curves: np.ndarray, seed: int = 0, **sliders: float) -> np.ndarray:
    return StyleFilter(Style(**sliders), EXPRESSION_NAMES, FPS, seed).apply(curves)


def life(model: FaceTalk, curves: np.ndarray) -> dict[str, float]:
    landmarks = model.landmarks(Motion(curves, FPS))
    return dynamics(curves, EXPRESSION_NAMES, landmarks, FPS)


SLIDERS = [
    {"intensity": 0.0}, {"intensity": 2.0}, {"smile": -1.0}, {"smile": 1.0}, {"brow_activity": 0.0},
    {"brow_activity": 3.0}, {"blink_rate": 0.0}, {"blink_rate": 0.5}, {"blink_rate": 2.0},
    {"blink_rate": 3.0}, {"gaze_steadiness": 0.5}, {"gaze_steadiness": 1.0},
    {"smile": 1.0, "blink_rate": 2.0, "gaze_steadiness": 0.5, "intensity": 1.5, "brow_activity": 3.0},
    {"smile": -1.0, "intensity": 2.0},
]  # fmt: skip


@pytest.mark.parametrize("sliders", SLIDERS, ids=str)
def test_lips_are_left_alone(model: FaceTalk, sliders: dict[str, float]) -> None:
    # A real talk: its p, b and m are closed, and stay so to a tenth of a millimetre.
    talk = model.generate("examples/demo.flac", seed=0).expressions
    gaps = [lip_gap(model.landmarks(Motion(c, FPS))) for c in (talk, styled(talk, **sliders))]
    assert np.abs(gaps[1] - gaps[0]).max() < 0.1
    assert gaps[0].min() < 0.9
    changed = [i for i in range(53) if not np.array_equal(talk[:, i], styled(talk, **sliders)[:, i])]
    closing = {"jawOpen", "mouthClose", "mouthPucker", "mouthFunnel", "mouthPress_L", "mouthRollLower"}
    assert not {EXPRESSION_NAMES[i] for i in changed} & closing


ARTICULATION = [(0.0, 0.0), (0.5, 1.5), (1.5, 0.5), (1.5, 1.5), (0.0, 2.0), (2.0, 0.0)]


@pytest.mark.parametrize(("jaw", "lips"), ARTICULATION)
def test_a_mumbler_and_an_over_enunciator_close_their_lips(model: FaceTalk, jaw: float, lips: float) -> None:
    talk = model.generate("examples/demo.flac", seed=0).expressions
    before = lip_gap(model.landmarks(Motion(talk, FPS)))
    after = lip_gap(model.landmarks(Motion(styled(talk, jaw=jaw, lips=lips), FPS)))
    closed = before < 1.0
    assert closed.sum() > 20 and after[closed].max() < 1.5, "as evaluate counts closures"
    wide, low, high = before > 5.0, *sorted((jaw, lips))
    share = (after[wide] - 0.9).mean() / (before[wide] - 0.9).mean()
    assert low - 0.1 <= share <= high + 0.1
    assert abs(after[wide].mean() - before[wide].mean()) > 0.3


def test_jaw_and_lips_scale_what_they_say(curves: np.ndarray) -> None:
    part = curves[:500]
    for slider, moved, kept in (
        ("jaw", "jawOpen", "mouthPucker"), ("lips", "mouthPucker", "jawOpen"),
        ("lips", "mouthUpperUp_L", "jawForward"),
    ):  # fmt: skip
        found = styled(part, **{slider: 0.5})
        free = part[:, INDEX["mouthRollLower"]] == 0.0
        assert free.sum() > 50
        np.testing.assert_allclose(found[free, INDEX[moved]], 0.5 * part[free, INDEX[moved]], rtol=1e-6)
        assert np.array_equal(found[:, INDEX[kept]], part[:, INDEX[kept]])
        others = [i for i, name in enumerate(EXPRESSION_NAMES) if not name.startswith(("mouth", "jaw"))]
        assert np.array_equal(found[:, others], part[:, others])


def test_a_lower_lip_at_the_teeth_stays_there() -> None:
    touching = np.zeros((3, 53), np.float32)
    touching[:, INDEX["mouthRollLower"]] = 0.34, 0.5, 0.17
    touching[:, INDEX["jawOpen"]] = touching[:, INDEX["mouthUpperUp_L"]] = 0.2
    found = styled(touching, jaw=2.0, lips=0.0)
    assert np.array_equal(found[:2], touching[:2]), "at the teeth, or rolled in further"
    assert found[2, INDEX["jawOpen"]] == pytest.approx(0.3, abs=0.01), "half way there, half free"
    assert found[2, INDEX["mouthUpperUp_L"]] == pytest.approx(0.1, abs=0.01)


def test_lips_close_with_what_there_is_to_close() -> None:
    """The gap that is left is the share of the mouth's opening that it was."""
    open_mouth = np.zeros((1, 53), np.float32)
    open_mouth[:, INDEX["jawOpen"]], open_mouth[:, INDEX["mouthPucker"]] = 0.3, 0.2
    closing = open_mouth.copy()
    closing[:, INDEX["mouthClose"]] = 0.2
    share = []
    for sliders in ({}, {"jaw": 0.4}, {"lips": 1.8}, {"jaw": 1.7, "lips": 0.3}):
        wide, left = (visemes.lip_gap(styled(face, **sliders))[0] for face in (open_mouth, closing))
        share.append(left / wide)
    np.testing.assert_allclose(share, share[0], rtol=1e-5)


@pytest.mark.parametrize("sliders", [*SLIDERS, {"jaw": 1.6, "lips": 0.4, "smile": 0.3}], ids=str)
def test_pieces_do_not_matter(curves: np.ndarray, sliders: dict[str, float]) -> None:
    whole = styled(curves, **sliders)
    assert whole.min() >= 0.0 and whole.max() <= 1.0 and np.isfinite(whole).all()
    made = StyleFilter(Style(**sliders), EXPRESSION_NAMES, FPS, 0)
    parts = np.split(curves, [0, 1, 2, 2, 7, 100, 1001])
    assert np.array_equal(np.concatenate([made.apply(part) for part in parts]), whole)


def test_left_alone_nothing_changes(curves: np.ndarray) -> None:
    assert styled(curves) is curves and styled(curves, head_motion=0.0) is curves
    assert Style().changed() == {} and Style(smile=0.5).changed() == {"smile": 0.5}


@pytest.mark.parametrize(
    ("rate", "low", "high"), [(0.0, 0.0, 0.0), (0.5, 0.3, 0.7), (2.0, 1.7, 2.2), (3.0, 2.3, 3.2)]
)
def test_blinks_come_as_often_as_asked(curves: np.ndarray, rate: float, low: float, high: float) -> None:
    before = blink_figures(lid_closure(curves, EXPRESSION_NAMES), FPS)
    found = [
        blink_figures(lid_closure(styled(curves, seed, blink_rate=rate), EXPRESSION_NAMES), FPS)
        for seed in range(4)
    ]
    assert before["blinks"] > 50
    assert low <= np.mean([f["blinks"] for f in found]) / before["blinks"] <= high
    if rate > 0.0:
        assert np.mean([f["blink_depth"] for f in found]) == pytest.approx(before["blink_depth"], rel=0.1)
        assert np.mean([f["blink_duration_ms"] for f in found]) == pytest.approx(
            before["blink_duration_ms"], rel=0.3
        )
    else:
        assert lid_closure(styled(curves, blink_rate=0.0), EXPRESSION_NAMES).max() < 0.4, "but for the gaze"


def test_no_blink_begins_while_another_is_under_way(curves: np.ndarray) -> None:
    lids = lid_closure(styled(curves, blink_rate=3.0), EXPRESSION_NAMES)
    own = lid_closure(curves, EXPRESSION_NAMES)
    # Two in one would be shut for as long as both.
    longest = [max(map(len, "".join("x" if s else " " for s in c > 0.5).split())) for c in (own, lids)]
    assert longest[1] <= longest[0] + 1
    put = np.flatnonzero(np.diff((lids > own + 0.05).astype(int), prepend=0) == 1)
    assert len(put) > 50 and all(own[max(0, start - 5) : start + 1].max() < 0.45 for start in put)
    assert not np.array_equal(lids, lid_closure(styled(curves, 1, blink_rate=3.0), EXPRESSION_NAMES))


def test_brows_gaze_and_smile_do_what_they_say(model: FaceTalk, curves: np.ndarray) -> None:
    part = curves[:1500]
    before = life(model, part)
    assert life(model, styled(part, brow_activity=0.0))["brow_sd"] == 0.0
    double = life(model, styled(part, brow_activity=2.0))
    assert double["brow_sd"] == pytest.approx(2.0 * before["brow_sd"], rel=0.1)
    assert double["gaze_sd"] == pytest.approx(before["gaze_sd"])
    assert life(model, styled(part, gaze_steadiness=1.0))["gaze_sd"] == 0.0
    half = life(model, styled(part, gaze_steadiness=0.5))
    assert half["gaze_sd"] == pytest.approx(0.5 * before["gaze_sd"], rel=0.05)
    assert half["brow_sd"] == pytest.approx(before["brow_sd"])
    vivid, dull = life(model, styled(part, intensity=2.0)), life(model, styled(part, intensity=0.0))
    assert vivid["brows_spread_mm"] > 1.5 * before["brows_spread_mm"] > 3.0 * dull["brows_spread_mm"]
    assert vivid["blinks"] == before["blinks"] == dull["blinks"]
    corners = [
        model.landmarks(Motion(styled(part, smile=s), FPS))[:, [48, 54], 1].mean() for s in (-1.0, 0.0, 1.0)
    ]
    assert corners[2] - corners[1] > 2e-3 and corners[1] - corners[0] > 5e-4, "corners of the mouth, metres"


def test_a_lid_does_not_stay_down_when_the_gaze_comes_up() -> None:
    down = np.zeros((5, 53), np.float32)
    for side in ("_L", "_R"):
        down[:, INDEX["eyeLookDown" + side]], down[:, INDEX["eyeBlink" + side]] = 0.5, 0.175
    assert np.abs(styled(down, gaze_steadiness=1.0)).max() < 1e-6


@pytest.mark.parametrize("name", RANGES)
def test_values_out_of_range(name: str) -> None:
    for value in (RANGES[name][0] - 0.01, RANGES[name][1] + 0.01, float("nan"), "loud"):
        with pytest.raises(InputError, match=name):
            Style(**{name: value})
    with pytest.raises(dataclasses.FrozenInstanceError):
        Style().smile = 1.0  # type: ignore[misc]


def test_a_model_without_names_refuses() -> None:
    for name in set(RANGES) - {"head_motion"}:
        with pytest.raises(InputError, match=f"{name} works on expressions named"):
            StyleFilter(Style(**{name: 0.5}), ["code_0", "code_1"], FPS, 0)
    StyleFilter(Style(head_motion=0.5), ["code_0"], FPS, 0)
    # Each end of the slider has corners of the mouth of its own.
    for value, beginning, other in ((0.5, "mouthSmile", "mouthFrown"), (-0.5, "mouthFrown", "mouthSmile")):
        StyleFilter(Style(smile=value), ["code_0", beginning + "_L"], FPS, 0)
        with pytest.raises(InputError, match=f"smile works on expressions named {beginning}"):
            StyleFilter(Style(smile=value), ["code_0", other + "_L"], FPS, 0)


@pytest.mark.parametrize("place", [0, 1])
def test_one_curve_is_enough_wherever_it_is(place: int) -> None:
    names, row = ["code_0", "code_1"], np.full((1, 2), 0.2, np.float32)
    names[place] = "browInnerUp"
    found = StyleFilter(Style(brow_activity=2.0), names, FPS, 0).apply(row)
    assert found[0, place] == np.float32(0.4) and found[0, 1 - place] == np.float32(0.2)


@pytest.mark.parametrize(
    "style", [None, Style(smile=0.5, blink_rate=2.0, head_motion=0.5), Style(head_motion=0.0)]
)
def test_a_stream_is_what_a_whole_clip_is(model: FaceTalk, style: Style | None) -> None:
    sound = load_audio("examples/demo.flac")[: 4 * 16_000]
    whole = model.generate((sound, 16_000), look_ahead=0.2, seed=0, steps=1, style=style)
    with model.stream(look_ahead=0.2, seed=0, steps=1, style=style) as stream:
        parts = [stream.push(part) for part in np.split(sound, [1, 5000, 5001, 40_000])] + [stream.finish()]
    found = Motion.joined(parts)
    assert np.abs(found.expressions - whole.expressions).max() < 1e-5
    assert (
        found.provenance.get("style")
        == whole.provenance.get("style")
        == (style.changed() or None if style else None)
    )
    if style is not None and not style.head_motion:
        assert found.pose is None and whole.pose is None
    else:
        assert whole.pose.shape == (100, 6) and np.abs(found.pose - whole.pose).max() < 1e-5


@pytest.mark.parametrize("rate", [8000, 44_100, 48_000])
def test_every_frame_of_a_stream_has_its_pose(model: FaceTalk, rate: int) -> None:
    sound = np.repeat(load_audio("examples/demo.flac")[: 2 * 16_000 : 2], max(1, rate // 8000))
    with model.stream(rate=rate, steps=1) as stream:
        parts = [stream.push(part) for part in np.array_split(sound, 100)] + [stream.finish()]
    assert all(part.pose.shape == (len(part), 6) for part in parts)
    assert sum(map(len, parts)) == round(len(sound) / rate * 25)


def test_options_reach_the_motion(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "talk.safetensors"
    options = ["--smile", "-0.5", "--blink-rate", "0", "--head-motion", "0"]
    assert main(["generate", "examples/demo.flac", "-o", str(out), "--steps", "1", *options]) == 0
    motion = Motion.load(out)
    assert motion.provenance["style"] == {"smile": -0.5, "blink_rate": 0.0, "head_motion": 0.0}
    assert motion.pose is None
    assert main(["generate", "examples/demo.flac", "-o", str(out), "--smile", "2"]) == 2
    assert "--smile must lie in -1..1, got 2" in capsys.readouterr().err
