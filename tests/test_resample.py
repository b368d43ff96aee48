"""Other frame rates: what a curve was, when it was, and that it ends with its sound."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.interpolate import PchipInterpolator

from facetalk.cli import main
from facetalk.data.arkit import ARKIT_NAMES
from facetalk.data.expressions import EXPRESSION_NAMES, INDEX
from facetalk.errors import InputError
from facetalk.live.audio2face import write_audio2face
from facetalk.live.take import write_take
from facetalk.motion import Motion, monotone_cubic
from facetalk.pipeline import FaceTalk

RATES = [24, 24000 / 1001, 25, 29.97, 30, 50, 60]


def wave(seconds: float = 3.97, hertz: float = 1.3, fps: float = 25.0) -> Motion:
    """A jaw that swings, and the length of a sound that is no whole number of frames."""
    times = (np.arange(max(1, round(seconds * fps))) + 0.5) / fps
    codes = np.zeros((len(times), len(EXPRESSION_NAMES)), np.float32)
    codes[:, INDEX["jawOpen"]] = 0.5 - 0.5 * np.cos(2 * np.pi * hertz * times)
    return Motion(codes, fps, provenance={"seconds": seconds, "audio": "me.wav"})


@pytest.mark.parametrize("fps", RATES)
def test_a_curve_stays_where_it_was_in_time(fps: float) -> None:
    found = wave().resample(fps)
    assert found.fps == fps and abs(found.duration - 3.97) <= 0.5 / fps + 1e-9, "it ends with the sound"
    times = (np.arange(len(found)) + 0.5) / fps
    truth = 0.5 - 0.5 * np.cos(2 * np.pi * 1.3 * times)
    inside = (times > 0.03) & (times < 3.93)
    # Half a frame late or early would be off by 0.08 at 24 frames a second.
    assert np.abs(found.expressions[:, INDEX["jawOpen"]] - truth)[inside].max() < 0.01


def test_nothing_goes_beyond_its_neighbours_and_what_is_closed_stays_closed() -> None:
    motion = wave()
    rng = np.random.default_rng(0)
    motion.expressions[:] = rng.random(motion.expressions.shape) ** 4
    motion.expressions[40:44] = 0.0
    found = motion.resample(60)
    assert found.expressions.min() >= 0.0 and found.expressions.max() <= motion.expressions.max()
    times = (np.arange(len(found)) + 0.5) / 60
    assert not found.expressions[(times > 40.5 / 25) & (times < 43.5 / 25)].any()


def test_what_is_too_quick_for_a_lower_rate_does_not_come_back_slower() -> None:
    motion = wave(4.0, 11.0, 60.0)  # at 12 frames a second it would look like 1 Hz
    found = motion.resample(12).expressions[3:-3, INDEX["jawOpen"]]
    assert np.ptp(found) < 0.2
    assert np.ptp(motion.resample(60).expressions) == np.ptp(motion.expressions)


@pytest.mark.parametrize("frames", [2, 3, 4, 40])
def test_the_cubic_is_scipys(frames: int) -> None:
    rng = np.random.default_rng(frames)
    values = rng.choice([0.0, 0.3, 0.31, 1.0], (frames, 30)).astype(np.float32)
    values[:, :10] = rng.random((frames, 10))
    positions = np.sort(np.r_[0.0, frames - 1.0, rng.random(200) * (frames - 1)])
    expected = PchipInterpolator(np.arange(frames), values.astype(np.float64), axis=0)(positions)
    np.testing.assert_allclose(monotone_cubic(values, positions), expected, atol=1e-6)


@pytest.mark.parametrize("fps", [0, -1, 0.5, 2000, float("nan"), "x"])
def test_rates_that_are_none(fps: float) -> None:
    with pytest.raises(InputError, match="fps"):
        wave().resample(fps)


def test_edges() -> None:
    one = wave(0.04)
    assert len(one) == 1 and len(one.resample(60)) == 2
    with pytest.raises(InputError, match="without frames"):
        one[:0].resample(30)
    assert wave()[10:20].seconds == 10 / 25, "a slice is of another sound"
    assert Motion(one.expressions, provenance={"seconds": 50.0}).seconds == 0.04, "another motion's length"


@pytest.mark.parametrize("fps", RATES)
def test_files_of_curves_say_the_face_at_each_rows_time(tmp_path: Path, fps: float) -> None:
    motion = wave()
    with write_take(tmp_path / "t.csv", motion, EXPRESSION_NAMES, fps=fps).open(newline="") as file:
        rows = list(csv.DictReader(file))
    content = json.loads(write_audio2face(tmp_path / "t.json", motion, EXPRESSION_NAMES, fps=fps).read_text())
    assert len(rows) == content["numFrames"] == len(content["weightMat"]) and content["exportFps"] == fps
    assert abs(len(rows) / fps - 3.97) <= 0.5 / fps + 1e-9
    times = np.arange(len(rows)) / fps
    truth, inside = 0.5 - 0.5 * np.cos(2 * np.pi * 1.3 * times), (times > 0.03) & (times < 3.93)
    weights = np.array(content["weightMat"])
    for jaw in (
        np.array([float(row["JawOpen"]) for row in rows]),
        weights[:, content["facsNames"].index("jawOpen")],
    ):
        assert np.abs(jaw - truth)[inside].max() < 0.01
    last = rows[-1]["Timecode"].split(":")
    nominal = {23: 24, 24: 24, 25: 25, 29: 30, 30: 30, 50: 50, 60: 60}[int(fps)]
    assert int(last[2]) * nominal + float(last[3]) == len(rows) - 1


def test_the_json_has_audio2faces_fields(tmp_path: Path) -> None:
    content = json.loads(write_audio2face(tmp_path / "t.json", wave(), EXPRESSION_NAMES).read_text())
    fields = "exportFps trackPath numPoses numFrames facsNames weightMat joints rotations translations"
    assert list(content) == fields.split()
    assert content["facsNames"] == list(ARKIT_NAMES) and content["numPoses"] == 52
    assert content["trackPath"] == "me.wav" and content["exportFps"] == 30
    assert len(content["rotations"]) == len(content["translations"]) == content["numFrames"] == 119


@pytest.mark.parametrize("samples", [16_000, 16_123, 17_399])
def test_a_motion_knows_the_length_of_its_sound(samples: int) -> None:
    sound = np.random.default_rng(1).normal(0, 0.05, samples).astype(np.float32)
    model = FaceTalk.from_pretrained("default", "cpu")
    assert model.generate((sound, 16_000), steps=1, seed=0).seconds == samples / 16_000
    padded = model.generate((sound, 16_000), steps=1, seed=0, pad=0.3)
    assert padded.seconds == pytest.approx(samples / 16_000 + 0.6) and padded.pad == (0.3, 0.3)


def test_verbs_take_a_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = tmp_path / "me.wav"
    soundfile.write(sound, np.random.default_rng(1).normal(0, 0.05, 17_000), 16_000)
    stored = tmp_path / "me.safetensors"
    assert main(["generate", str(sound), "-o", str(stored), "--steps", "1", "--pad", "0"]) == 0
    for verb, source in (("generate", sound), ("export", stored)):
        for suffix, frames in ((".json", 25), (".csv", 25), (".glb", 25)):
            out = tmp_path / f"{verb}{suffix}"
            assert (
                main(
                    [
                        verb,
                        str(source),
                        "-o",
                        str(out),
                        "--fps",
                        "24",
                        *(["--steps", "1", "--pad", "0"] if verb == "generate" else []),
                    ]
                )
                == 0
            )
            if suffix == ".json":
                assert json.loads(out.read_text())["numFrames"] == round(17 / 16 * 24) == frames + 1
            elif suffix == ".csv":
                assert len(out.read_text().splitlines()) == frames + 2
            else:
                assert b'"fps":24.0' in out.read_bytes()[:400_000]
    capsys.readouterr()
    for words, said in (
        (["-o", "x.csv", "--fps", "0"], "fps must lie"),
        (["-o", "x.csv", "--fps", "nan"], "fps"),
    ):
        assert main(["export", str(stored), *words]) == 2 and said in capsys.readouterr().err
    assert main(["generate", str(sound), "-o", str(stored), "--fps", "30"]) == 2
