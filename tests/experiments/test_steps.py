"""The experiment on steps: rows by name, ratios whose answer is known, the choice, and the page."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch

from experiments.steps import blend, report
from experiments.steps.__main__ import adopt, parse
from experiments.steps.__main__ import main as steps
from experiments.steps.rows import Clip, Motions, Row, clip_seed, find_clips
from experiments.steps.scores import RATIOS, Entry, Scorer, Scores, summary
from facetalk.diffusion import MotionModel
from facetalk.errors import InputError
from facetalk.metrics.reference import draw
from facetalk.models import find_model
from facetalk.pipeline import FaceTalk


def test_rows_have_names() -> None:
    assert parse("student-2", 50) == Row("student", 2) and parse("student-2", 50).passes == 2
    assert parse("dpm++-25", 50).passes == 50
    assert parse("teacher-3@10", 50) == Row("teacher", 3, 10)
    assert parse("teacher-1000", 50) == Row("teacher", 1000, 5, 1)  # a tenth of the clips, one seed
    for wrong in (
        "student",
        "nobody-3",
        "teacher-x",
        "teacher-3@1",
        "teacher-3@x",
        "converged-25",
        "truth-2",
    ):
        with pytest.raises(InputError, match="row"):
            parse(wrong, 50)


def entries(factor: float) -> dict[str, Entry]:
    """Four clips of different lengths."""
    rng = np.random.default_rng(0)
    out: dict[str, Entry] = {}
    for index in range(4):
        weight = float(index + 1)
        out[f"c{index}"] = {key: (factor * weight * rng.uniform(1.0, 2.0), weight) for key in RATIOS}
    return out


def test_ratios_are_paired_by_clip() -> None:
    base = Scores(entries(1.0), {})
    same = summary(Row("teacher", 50), base, base, {})
    more = summary(Row("student", 2), Scores(entries(1.2), {}), base, {})
    for key in RATIOS:
        assert same["ratios"][key]["ratio"] == pytest.approx(1.0)
        assert more["ratios"][key]["ratio"] == pytest.approx(1.2)
        # Clips differ by a factor of two, but each by the same from its own reference.
        assert more["ratios"][key]["interval"] == pytest.approx((1.2, 1.2))


def results(ratios: dict[int, dict[str, float]]) -> dict[str, object]:
    rows = [
        {
            "row": f"student-{steps}", "sampler": "student", "steps": steps, "passes": steps, "figures": {},
            "ratios": {k: {"ratio": v, "interval": [v - 0.01, v + 0.01]} for k, v in own.items()},
        }
        for steps, own in ratios.items()
    ]  # fmt: skip
    return {"rows": rows, "command": "c", "reference": "teacher-100", "clips": 4, "seeds": 2, "minutes": 1.0,
            "guidance": 1.5}  # fmt: skip


@pytest.mark.parametrize(
    ("ratios", "chosen"),
    [
        ({1: {"a": 0.97, "b": 1.01}, 2: {"a": 1.0, "b": 1.0}}, 1),
        ({1: {"a": 0.94, "b": 1.01}, 2: {"a": 0.96, "b": 1.04}}, 2),
        ({1: {"a": 0.90, "b": 0.90}, 2: {"a": 0.90, "b": 1.0}, 4: {"a": 0.9, "b": 1.0}}, 2),  # none fits
        ({1: {"a": 0.90, "b": 1.0}, 2: {"a": 0.945, "b": 0.945}}, 2),  # two small misses for a large one
    ],
)
def test_the_fewest_steps_that_keep_every_figure_are_adopted(
    tmp_path: Path, ratios: dict[int, dict[str, float]], chosen: int
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"student": {"default_steps": 8, "notes": {"x": 1}}}))
    adopt(tmp_path, results(ratios))
    student = json.loads((tmp_path / "config.json").read_text())["student"]
    assert student["default_steps"] == chosen and student["notes"]["x"] == 1
    told = student["notes"]["decided_by"]
    assert told["ratios"] == ratios[chosen]
    assert told["beyond_tolerance"]["1"] == {k: v for k, v in ratios[1].items() if abs(v - 1) > 0.05}


def test_a_page_is_filled_between_its_marks() -> None:
    found = results({1: {"blinks_per_minute": 0.9}, 2: {"blinks_per_minute": 0.98}})
    page = "a\n<!-- steps: ratios -->\nold\n<!-- /steps -->\nb <!-- steps: set -->\n<!-- /steps -->"
    once = report.fill(page, {"results": found})
    assert "old" not in once and "| blinks_per_minute | 90 [89, 91] | 98 [97, 99] |" in once
    assert "4 recordings" in once and once.startswith("a\n") and report.fill(once, {"results": found}) == once
    assert "| student | 1 | 1 |" in report.table(found) and "blinks_per_minute 90" in report.table(found)


def test_the_page_tells_what_was_measured_last() -> None:
    page = (Path(report.__file__).parents[2] / "docs" / "distillation.md").read_text(encoding="utf-8")
    assert "<!-- steps: truth-table -->" in page
    assert report.fill(page, report.measured()) == page


def test_a_page_tells_what_a_later_stage_changed() -> None:
    before, after = results({1: {"a": 0.9, "b": 1.0}}), results({1: {"a": 0.98, "b": 1.01}})
    page = "<!-- steps: energy -->\n<!-- /steps -->"
    told = report.fill(page, {"before-energy": before, "after-energy": after})
    assert "| a | 90 → 98 |" in told and "| b |" not in told


def test_no_distance_from_truth_is_told() -> None:
    found = results({1: {"a": 0.9}})
    assert "LVE mm" in report.table(found)
    page = report.fill(
        "<!-- steps: truth-table -->\n<!-- /steps -->", {"truth": {**found, "reference": "truth-1"}}
    )
    assert "LVE mm" not in page and "| student | 1 | 1 |" in page


def test_landmarks_are_those_of_the_pipeline() -> None:
    model = FaceTalk.from_pretrained("default", "cpu")
    scorer = Scorer(model)
    weights = np.random.default_rng(0).uniform(0, 1, (5, len(scorer.names))).astype(np.float32)
    np.testing.assert_allclose(scorer._points(weights), scorer._landmarks(weights), atol=1e-6)


def test_lips_are_held_against_a_reading_of_the_phones(tmp_path: Path) -> None:
    """A draw of the truth closes its p, b, m and brings its lip to the teeth; a face at rest does not."""
    model = FaceTalk.from_pretrained("default", "cpu")
    scorer = Scorer(model)
    said = (("AA", 0.2, 0.5), ("F", 0.5, 0.62), ("AA", 0.62, 0.9), ("M", 0.9, 1.0), ("AA", 1.0, 1.4))
    spoken = Clip("a", tmp_path / "a.wav", said, "arpabet")
    drawn = draw(said, 40, 25.0, "arpabet", 7)[None]
    entry, _ = scorer.clip(spoken, drawn, drawn, 0.0)
    assert entry["closed"] == (1.0, 1.0) and entry["touching"] == (1.0, 1.0)
    entry, _ = scorer.clip(spoken, np.zeros_like(drawn), drawn, 0.0)
    assert entry["touching"] == (0.0, 1.0)


def test_a_converged_row_is_near_very_many_steps_of_the_sampler(tmp_path: Path) -> None:
    model = FaceTalk.from_pretrained("default", "cpu")
    motions = Motions(tmp_path, model, seeds=1, guidance=1.5)
    heard = np.random.default_rng(0).normal(size=(30, 192)).astype(np.float32)
    ours, many, few = (
        motions._sampled(row, heard, 3, 1.5)
        for row in (Row("converged", 52), Row("teacher", 200), Row("teacher", 50))
    )
    assert np.abs(ours - many).mean() < 0.8 * np.abs(few - many).mean()


def test_truth_is_drawn_from_the_phones_anew_for_each_seed(tmp_path: Path) -> None:
    sound = tmp_path / "a.wav"
    soundfile.write(sound, np.zeros(32000, np.float32), 16000)
    spoken = Clip("a", sound, (("M", 0.4, 0.6), ("AA", 0.6, 1.2)), "arpabet")
    motions = Motions(tmp_path, FaceTalk.from_pretrained("default", "cpu"), seeds=2, guidance=1.5)
    row = parse("truth-1", 5)
    motions.sample(row, [spoken])
    drawn, _ = motions.load(row, spoken)
    assert row.passes == 0 and drawn.shape == (2, 50, 53)
    assert np.abs(drawn[0] - drawn[1]).max() > 0.01


def test_truth_needs_phones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(80000, np.float32), 16000)
    command = ["--audio", str(tmp_path), "--out", str(tmp_path / "out"), "--reference", "truth-1"]
    with mock.patch("sys.argv", ["steps", *command]):
        assert steps() == 2
    assert "phones" in capsys.readouterr().err


def test_live_rows_are_what_live_sound_gets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = tmp_path / "a.wav"
    noise = np.random.default_rng(0).normal(0.0, 0.1, 32000) * np.sin(np.arange(32000) / 2000.0)
    soundfile.write(sound, noise.astype(np.float32), 16000)
    spoken, model = Clip("a", sound), FaceTalk.from_pretrained("default", "cpu")
    drawn = {}
    for name, ahead, guidance in (("whole", None, None), ("live", 0.1, None), ("guided", 0.1, 2.0)):
        motions = Motions(tmp_path / name, model, seeds=2, look_ahead=ahead, guidance=guidance)
        motions.sample(Row("student", 2), [spoken])
        drawn[name], _ = motions.load(Row("student", 2), spoken)
        expected = model.generate(
            sound, steps=2, seed=clip_seed(spoken, 1), pad=0.0, look_ahead=ahead, guidance=guidance
        )
        np.testing.assert_allclose(drawn[name][1], expected.expressions, atol=1e-4)
    assert np.abs(drawn["whole"] - drawn["live"]).max() > 0.01 < np.abs(drawn["live"] - drawn["guided"]).max()
    soundfile.write(tmp_path / "b.wav", np.zeros(80000, np.float32), 16000)
    command = ["--audio", str(tmp_path), "--out", str(tmp_path / "out"), "--look-ahead", "0.1"]
    with mock.patch("sys.argv", ["steps", *command]):
        assert steps() == 2
    assert "--look-ahead" in capsys.readouterr().err


def test_a_folder_without_recordings_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recordings"):
        find_clips([tmp_path], 5)


def test_blended_students_lie_between(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = (MotionModel.load(find_model("default").folder / "motion") for _ in range(2))
    assert after.student is not None and before.student is not None
    with torch.no_grad():
        for value in after.student.parameters():
            value.mul_(2.0)
    expected = {name: value * 1.25 for name, value in before.student.state_dict().items()}
    mixed = blend.blend(before, after, 0.25)
    assert mixed.student is not None
    for name, value in mixed.student.named_parameters():
        torch.testing.assert_close(value.data, expected[name])
    told = mixed.student_range.notes["trained_with"]
    assert isinstance(told, str) and told.endswith("experiments.steps.blend BEFORE AFTER --share 0.25")
    assert mixed.student_range.default_steps == before.student_range.default_steps
    assert "frames_of_features" in mixed.student_range.notes
    assert not {"ratio", "decided_by"} & set(mixed.student_range.notes)  # of another student
    motion = str(find_model("default").folder / "motion")
    assert blend.main([motion, motion, "--share", "1.5", "--out", str(tmp_path / "x")]) == 2
    assert "0..1" in capsys.readouterr().err and not (tmp_path / "x").exists()
    assert blend.main([motion, motion, "--share", "0.5", "--out", str(tmp_path / "x")]) == 0
    assert blend.main([motion, motion, "--share", "0.5", "--out", str(tmp_path / "x")]) == 2
    assert "there already" in capsys.readouterr().err
    same = MotionModel.load(tmp_path / "x").student
    assert same is not None
    for name, value in same.state_dict().items():
        torch.testing.assert_close(value, before.student.state_dict()[name])
