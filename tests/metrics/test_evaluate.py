"""``evaluate`` on pipelines whose faces are known: one that listens, one that does not, one without life."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from listener import PHONES, SECONDS, Listener, write_manifest

from facetalk.cli import main
from facetalk.data.visemes import curves
from facetalk.errors import InputError
from facetalk.metrics import pooling, rows
from facetalk.metrics.evaluate import ROWS, evaluate
from facetalk.metrics.plot import plot
from facetalk.metrics.report import SECTIONS, Report
from facetalk.motion import Motion


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    """A bootstrap of 100 draws is enough to see that there is one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "resample", functools.partial(pooling.resample, resamples=100))
        yield


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_manifest(tmp_path_factory.mktemp("manifest"))


@pytest.fixture(scope="module")
def report(manifest: Path) -> Report:
    return evaluate(Listener(), manifest)


def test_a_listening_face_equals_the_truth(report: Report) -> None:
    model, truth = report.rows["model"], report.rows["truth"]
    assert tuple(report.rows) == ROWS
    assert model["bilabials"] == 18 and model["labiodentals"] == 6 and model["open_vowels"] == 24 - 4
    for row in (model, truth):
        assert row["closed"] == 1.0 and row["shut_elsewhere"] == 0.0 and row["touching"] == 1.0
        assert row["open_gap_mm"] > 4.0 and row["agreement"] > 0.95 and abs(row["lag_ms"]) < 5.0
        assert row["mtm_ms"] < 20.0 and row["blinks_per_minute"] > 5.0 and row["diversity_lids_mm"] > 0.05
    assert model["lve_mm"] < 0.5 and model["opening_r"] > 0.99
    assert report.settings["clips"] == 3
    assert report.settings["seconds"] == pytest.approx(2 * SECONDS["a"] + SECONDS["b"], abs=0.1)
    assert sorted(report.voices) == ["ann", "bob"] and report.voices["ann"]["bilabials"] == 12


def test_every_control_is_exposed_by_some_figure(report: Report) -> None:
    found = report.rows
    model, rest, shuffled = found["model"], found["rest"], found["shuffled"]
    assert rest["closed"] == 1.0 and rest["shut_elsewhere"] == 1.0  # closures alone praise a face at rest
    assert rest["open_gap_mm"] == pytest.approx(0.8, abs=0.01) and rest["touching"] < 0.5
    assert rest["blinks_per_minute"] == 0.0 and rest["mouth_speed"] == pytest.approx(0.0, abs=1e-6)
    assert rest["diversity_mouth_mm"] == 0.0 and np.isnan(rest["mtm_ms"]) and np.isnan(rest["slcc"])
    assert rest["fdd_mm2"] > 0.0
    assert shuffled["closed"] < 1.0 and abs(shuffled["agreement"]) < 0.3
    assert shuffled["mouth_jerk"] > 3 * model["mouth_jerk"]
    delayed = found["delayed"]
    assert delayed["lag_ms"] == pytest.approx(200.0, abs=15.0) and delayed["agreement"] < 0.7
    assert delayed["blinks_per_minute"] == pytest.approx(model["blinks_per_minute"], rel=0.2)
    frozen = found["frozen"]
    for name in ("closed", "open_gap_mm", "mouth_jerk", "diversity_mouth_mm", "frechet_mouth_mm2"):
        assert frozen[name] == pytest.approx(model[name], rel=0.02), name
    for name in ("blinks_per_minute", "brow_sd", "gaze_sd", "diversity_brows_mm", "diversity_lids_mm"):
        assert frozen[name] == pytest.approx(0.0, abs=1e-6), name
    assert frozen["frechet_upper_mm2"] > 2 * model["frechet_upper_mm2"] and frozen["fdd_mm2"] > 0.0
    smoothed = found["smoothed"]
    for name in ("mouth_speed", "mouth_jerk", "mouth_fast_mm2", "closed", "lids_fast_mm2"):
        assert smoothed[name] < 0.9 * model[name], name
    assert smoothed["open_gap_mm"] < model["open_gap_mm"]
    doubled = found["doubled"]
    assert doubled["agreement"] == pytest.approx(model["agreement"], abs=0.1)  # a correlation is blind to it
    for name in ("lve_mm", "opening_mm", "frechet_mouth_mm2", "kernel_mouth"):
        assert doubled[name] > 3 * abs(model[name]), name
    nearest = found["nearest"]
    assert nearest["diversity_mouth_mm"] == 0.0 and nearest["closed"] < 1.0
    assert 0.1 < nearest["agreement"] < model["agreement"]


def test_every_pooled_figure_has_an_interval_around_it(report: Report) -> None:
    counts = {"bilabials", "labiodentals", "open_vowels", "silent_frames"}
    for name, row in report.rows.items():
        limits = report.intervals[name]
        assert set(limits) == set(row) - counts
        for key, found in limits.items():
            if found is not None:
                assert found[0] - 1e-9 <= row[key] <= found[1] + 1e-9, (name, key)
    assert report.intervals["model"]["lve_mm"] is not None


def test_a_deaf_face_and_a_late_one_do_not(manifest: Path, report: Report) -> None:
    deaf = evaluate(Listener(deaf=True), manifest, seeds=1).rows["model"]
    assert (
        deaf["closed"] < 1.0
        and deaf["opening_r"] < 0.3
        and deaf["lve_mm"] > 3 * report.rows["model"]["lve_mm"]
    )
    late = evaluate(Listener(late=3), manifest, seeds=1).rows
    assert late["model"]["lag_ms"] == pytest.approx(120.0, abs=10.0)
    assert late["truth"]["lag_ms"] == pytest.approx(0.0, abs=5.0)


def test_a_face_without_life_is_seen(manifest: Path, report: Report) -> None:
    found = evaluate(Listener(life=False), manifest).rows
    assert found["model"]["blinks_per_minute"] == 0.0 and found["truth"]["blinks_per_minute"] > 5.0
    assert found["model"]["diversity_upper_mm"] == 0.0
    assert found["model"]["closed"] == 1.0  # the lips alone would not tell
    assert found["model"]["frechet_upper_mm2"] > 2 * report.rows["model"]["frechet_upper_mm2"]


def test_seeds_steps_and_guidance_reach_the_pipeline(manifest: Path) -> None:
    pipeline = Listener()
    found = evaluate(pipeline, manifest, seed=5, seeds=2, steps=8, guidance=1.5, limit=2)
    assert [call["seed"] for call in pipeline.calls] == [5, 1005, 6, 1006]
    assert all(call["steps"] == 8 and call["guidance"] == 1.5 for call in pipeline.calls)
    assert found.settings["steps"] == 8 and found.settings["seeds"] == 2
    assert found.settings["limit"] == 2 and found.settings["split"] is None
    assert "limit 2, clips 2" in found.table() and "split" not in found.table()
    alone = evaluate(pipeline, manifest, split="valid", seeds=1)
    assert alone.settings["split"] == "valid" and alone.settings["manifest"] == manifest.name
    assert f"manifest {manifest.name}, split valid, clips" in alone.table()
    assert len(alone.voices) == 2 and "diversity_mouth_mm" not in alone.rows["model"]
    assert not any("look_ahead" in call for call in pipeline.calls) and "look_ahead" not in alone.settings
    live = evaluate(pipeline, manifest, seeds=1, limit=1, look_ahead=0.2)
    assert pipeline.calls[-1]["look_ahead"] == live.settings["look_ahead"] == 0.2


def test_the_same_call_gives_the_same_report(manifest: Path, report: Report) -> None:
    assert json.dumps(evaluate(Listener(), manifest).as_dict()) == json.dumps(report.as_dict())


class Judge:
    """Says how many frames it was given, and refuses some clips."""

    def score(self, audio: Path, landmarks: np.ndarray, fps: float) -> dict[str, float]:
        assert landmarks.shape[1:] == (68, 3) and fps == 25.0 and audio.suffix == ".wav"
        if audio.stem == "b":
            raise InputError("too short")
        return {"distance": float(len(landmarks)), "confidence": 1.0}


def test_optional_scorers_are_asked_for_every_row(manifest: Path) -> None:
    found = evaluate(Listener(), manifest, seeds=1, scorers={"sync": Judge()})
    assert {row["sync_distance"] for row in found.rows.values()} == {round(SECONDS["a"] * 25)}
    assert "sync expert" in found.table()


def test_the_table_shows_every_row_and_section(report: Report) -> None:
    text = report.table()
    for row in ROWS:
        assert text.count(f"\n{row:<14}") == len(SECTIONS) - 1  # without the sync expert
    assert "by voice\n" in text and "18 p b m" in text and "clips 3" in text and "nan" not in text
    assert max(map(len, text.splitlines())) > 60


def test_json_has_no_nan_and_no_example(report: Report) -> None:
    text = json.dumps(report.as_dict(), allow_nan=False)
    found = json.loads(text)
    assert found["rows"]["rest"]["mtm_ms"] is None and "example" not in found
    assert found["rows"]["model"]["closed"] == 1.0 and len(found["intervals"]["model"]["lve_mm"]) == 2


def test_the_plot_is_a_picture(report: Report, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    plot(report, tmp_path / "report.png", fps=25.0)
    with Image.open(tmp_path / "report.png") as image:
        assert image.size[0] > 1000
    assert [p.name for p in tmp_path.iterdir()] == ["report.png"]


def test_without_matplotlib_the_plot_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert main(["evaluate", str(tmp_path), "--plot", str(tmp_path / "a.png")]) == 2
    assert "pip install 'facetalk[plot]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no usable line"),
        ("{", "line 1"),
        ('{"phones": []}', "line 1"),
        ('{"audio": "a.wav"}', "neither phones nor text"),
        ('{"audio": "a.wav", "phones": [["P", 1]]}', "line 1"),
        ('{"audio": "a.wav", "phones": [["P", 0.1, NaN]]}', "line 1.*lasts from 0.1 to nan"),
        ('{"audio": "a.wav", "phones": [["P", 0.1, Infinity]]}', "line 1.*to inf"),
        ('{"audio": "a.wav", "phones": [["P", 0.2, 0.1]]}', "line 1.*from 0.2 to 0.1"),
        ('{"audio": "a.wav", "phones": [], "alphabet": "runes"}', "runes"),
        ("[1]", "line 1"),
    ],
)
def test_a_bad_manifest_is_one_clear_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        evaluate(Listener(), path)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_evaluated_is_one_clear_line(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no manifest"):
        evaluate(Listener(), tmp_path / "nothing.jsonl")
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluate(Listener(), [])
    milliseconds = [[symbol, 1000 * start, 1000 * end] for symbol, start, end in PHONES["a"]]
    wrong = manifest.with_name("milliseconds.jsonl")
    wrong.write_text(json.dumps({"audio": "a.wav", "phones": milliseconds}))
    with pytest.raises(InputError, match=r"a\.wav end at 6200\.0 s and the recording at 6\.2 s"):
        evaluate(Listener(), wrong)
    ipa = [["ɑ", 0.1, 0.5], ["p", 0.5, 0.6], ["ə", 0.6, 1.0], ["ʒ", 1.0, 1.2]]
    wrong.write_text(json.dumps({"audio": "a.wav", "phones": ipa}))
    with pytest.raises(InputError, match=r"3 of the 4 phones of .*a\.wav are unknown .* arpabet \(ɑ, ə, ʒ\)"):
        evaluate(Listener(), wrong)
    for options in ({"limit": 0}, {"seeds": 0}, {"pad": -1.0}):
        with pytest.raises(InputError, match=next(iter(options))):
            evaluate(Listener(), manifest, **options)
    with pytest.raises(InputError, match="no truth to compare"):
        evaluate(Listener(), manifest, names=["code 0"])


@pytest.mark.parametrize(
    "words",
    [
        ["--limit", "0"],
        ["--seeds", "0"],
        ["--steps", "0"],
        ["--seed", "-1"],
        ["--pad", "-1"],
        ["--json", "nowhere/report.json"],
        ["--json", "report.txt"],
        ["--plot", "report.jpg"],
    ],
)
def test_wrong_options_fail_before_the_work(
    words: list[str], manifest: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facetalk.pipeline.FaceTalk.from_pretrained", lambda *_: pytest.fail("worked"))
    try:
        status = main(["evaluate", str(manifest), *words])
    except SystemExit as stop:
        status = int(stop.code or 0)
    error = capsys.readouterr().err
    assert status == 2 and "error:" in error and "Traceback" not in error


class PaddedListener(Listener):
    """Hears its phones one second later, between two seconds of silence."""

    def generate(self, audio: Any, **options: Any) -> Motion:
        samples, rate = audio
        assert len(samples) == round(SECONDS["a"] * rate) + 2 * rate and np.abs(samples[:rate]).max() < 1e-3
        phones = [(s, a + 1.0, b + 1.0) for s, a, b in PHONES["a"]]
        return Motion(curves(phones, SECONDS["a"] + 2.0, 25.0, alphabet="arpabet"), 25.0)


def test_padding_moves_the_phones_and_adds_silence(manifest: Path) -> None:
    plain = evaluate(Listener(life=False), manifest, split="train", seeds=1).rows["model"]
    padded = evaluate(PaddedListener(), manifest, split="train", seeds=1, pad=1.0).rows["model"]
    assert padded["closed"] == plain["closed"] == 1.0
    assert padded["open_gap_mm"] == pytest.approx(plain["open_gap_mm"], abs=0.05)
    assert padded["silent_frames"] - plain["silent_frames"] == 2 * 25
    assert padded["opening_r"] > 0.99


def test_the_command_evaluates_the_built_in_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo = Path(__file__).resolve().parents[2] / "examples" / "demo.jsonl"
    line = json.loads(demo.read_text().splitlines()[0])
    samples, rate = soundfile.read(demo.parent / line["audio"])
    soundfile.write(tmp_path / "short.wav", samples[: 2 * rate], rate)
    line |= {"audio": "short.wav", "phones": [p for p in line["phones"] if p[2] < 2.0]}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(line))
    out = tmp_path / "report.json"
    words = [str(tmp_path), "--json", str(out), "--steps", "2", "--seeds", "1", "--threads", "1"]
    assert main(["evaluate", *words]) == 0
    text = capsys.readouterr().out
    assert "model" in text and "truth" in text and "steps 2" in text
    found = json.loads(out.read_text())["rows"]
    assert found["truth"]["agreement"] > 0.9 and found["rest"]["blinks_per_minute"] == 0.0
    assert "nearest" not in found  # one text alone has no other
