"""Differences of two reports on the same clips."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listener import Listener, write_manifest

from facetalk.cli import _options, main
from facetalk.errors import InputError
from facetalk.metrics.evaluate import evaluate
from facetalk.metrics.paired import Judged, difference
from facetalk.metrics.pooling import Pool, interval, resample


def judged(values: np.ndarray, **settings: Any) -> Judged:
    """A report of one mean and one median over clips."""
    pool = Pool()
    for clip, value in enumerate(values):
        pool.add(clip, "lve_mm", value, 10.0 + clip)
        pool.extend(clip, "open_gap_mm", [value, value + 1.0])
    kept = json.loads(json.dumps(pool.as_dict()))
    clips = tuple(f"{i}.wav" for i in range(len(values)))
    return Judged("report.json", settings, clips, Pool.from_dict(kept, len(values)))


def test_what_both_find_hard_does_not_count() -> None:
    rng = np.random.default_rng(0)
    hard, clips = rng.normal(5.0, 2.0, 60), np.arange(60)
    ours, theirs = hard + rng.normal(0.0, 0.1, 60), hard + 0.2 + rng.normal(0.0, 0.1, 60)
    found = difference(judged(theirs), judged(ours)).figures["lve_mm"]
    weights = 10.0 + clips
    assert found.a == pytest.approx(np.average(theirs, weights=weights))
    assert found.difference == pytest.approx(np.average(theirs - ours, weights=weights))
    assert found.interval is not None
    low, high = found.interval
    # A mean of 60 differences of standard deviation 0.14, and not of values of 2.
    assert 0.0 < low < 0.2 < high and high - low == pytest.approx(4 * 0.14 / np.sqrt(60), rel=0.35)
    alone = judged(theirs).pool.intervals(resample(60, 0))["lve_mm"]
    assert alone is not None and alone[1] - alone[0] > 5 * (high - low)
    same = difference(judged(ours), judged(ours)).figures
    assert set(same) == {"lve_mm", "open_gap_mm"}
    assert all(one.difference == 0.0 and one.interval == (0.0, 0.0) for one in same.values())


def test_intervals_cover_the_difference_as_often_as_they_say() -> None:
    rng, covered = np.random.default_rng(1), 0
    for trial in range(100):
        hard = rng.normal(0.0, 3.0, 40)
        a, b = (judged(hard + rng.normal(shift, 0.5, 40)) for shift in (0.3, 0.0))
        limits = difference(a, b, seed=trial).figures["lve_mm"].interval
        covered += limits is not None and limits[0] <= 0.3 <= limits[1]
    assert 86 <= covered <= 99


def test_a_difference_to_either_side_is_marked_and_draws_go_by_the_seed() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(5.0, 1.0, 30)
    near = judged(values + rng.normal(0.0, 0.1, 30))
    for other, marked in (
        (judged(values + 2.0), True),
        (judged(values - 2.0), True),
        (judged(values), False),
    ):
        lines = difference(other, near).table().splitlines()
        row = next(line for line in lines if line.startswith("lve_mm"))
        assert row.endswith(" *") == marked, row
    first, again, another = (difference(near, judged(values), seed=seed).figures for seed in (0, 0, 1))
    assert first["lve_mm"] == again["lve_mm"] and first["lve_mm"].interval != another["lve_mm"].interval


def test_a_pool_is_what_it_was() -> None:
    rng = np.random.default_rng(2)
    pool = Pool()
    for clip in range(7):
        pool.add(clip, "a", rng.normal(), 2.0)
        pool.add(clip, "none", np.nan)
        pool.extend(clip, "b", rng.normal(size=clip))
    again = Pool.from_dict(json.loads(json.dumps(pool.as_dict())), 7)
    drawn = resample(7, 0)
    assert again.intervals(drawn) == pool.intervals(drawn)
    np.testing.assert_equal(again.means(), pool.means())
    samples = pool.samples(drawn)
    assert samples["none"] is None and interval(samples["a"]) == pool.intervals(drawn)["a"]


def test_clips_of_one_report_alone_have_no_difference() -> None:
    a = judged(np.arange(3.0))
    other = Judged("other.json", {}, ("0.wav", "2.wav", "1.wav"), a.pool)
    with pytest.raises(InputError, match="other order"):
        difference(a, other)
    with pytest.raises(InputError, match=r"\(3 and 2\): 2\.wav is in one of them alone"):
        difference(a, judged(np.arange(2.0)))
    with pytest.raises(InputError, match="the same --pad"):
        difference(judged(np.arange(3.0), pad=1.0), judged(np.arange(3.0), pad=0.0))
    with pytest.raises(InputError, match=r"other draws of the truth .* the same --seed"):
        difference(judged(np.arange(3.0), seed=1), judged(np.arange(3.0), seed=0))
    with pytest.raises(InputError, match=r"of 9 s of speech and .* of 9\.5 s: .* other recordings"):
        difference(judged(np.arange(3.0), seconds=9.0), judged(np.arange(3.0), seconds=9.5))
    difference(judged(np.arange(3.0), seconds=9.0), judged(np.arange(3.0), seconds=9.2))
    single = difference(judged(np.arange(1.0)), judged(np.arange(1.0))).figures["lve_mm"]
    assert single.difference == 0.0 and single.interval is None


def test_what_told_the_two_apart_stands_below_the_table() -> None:
    own, whisper = (
        judged(np.arange(3.0), encoder="model"),
        judged(np.arange(3.0), encoder="whisper", look_ahead=0.2),
    )
    told = difference(own, whisper).table().splitlines()[-2:]
    assert "encoder model" in told[0] and "look_ahead" not in told[0]
    assert "encoder whisper" in told[1] and "look_ahead 0.2" in told[1]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports of a face that listens, a late one, and one on fewer clips."""
    folder = tmp_path_factory.mktemp("reports")
    manifest = write_manifest(folder)
    for name, pipeline, options in (
        ("good", Listener(), {}), ("late", Listener(late=3), {}), ("few", Listener(), {"split": "valid"})
    ):  # fmt: skip
        report = evaluate(pipeline, manifest, seeds=1, **options)
        (folder / f"{name}.json").write_text(json.dumps(report.as_dict(), allow_nan=False))
    return folder


def test_the_command_compares_two_reports(
    reports: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late, good, out = reports / "late.json", reports / "good.json", tmp_path / "out.json"
    assert main(["evaluate", "--compare", str(late), str(good), "--json", str(out)]) == 0
    table = capsys.readouterr().out
    lag = next(line for line in table.splitlines() if line.startswith("lag_ms"))
    assert lag.endswith("*") and f"A: report {late}" in table and "nan" not in table
    found = json.loads(out.read_text())
    assert found["figures"]["lag_ms"]["difference"] == pytest.approx(120.0, abs=10.0)
    rows = json.loads(late.read_text())["rows"]["model"], json.loads(good.read_text())["rows"]["model"]
    for key, figure in found["figures"].items():
        for side, row in zip("ab", rows, strict=True):
            assert figure[side] == (pytest.approx(row[key]) if row[key] is not None else None), key
    assert "frechet_mouth_mm2" not in found["figures"] and len(found["figures"]) > 30
    before = out.read_bytes()
    assert main(["evaluate", "--compare", str(late), str(good), "--json", str(out), "--seed", "0"]) == 0
    assert out.read_bytes() == before


def test_the_defaults_of_options_are_those_of_the_parser(
    reports: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--compare", *[str(reports / "good.json")] * 2]
    assert main([*words, "--device", "cpu"]) == 2 and "leave out --device" in capsys.readouterr().err
    declare = _options.add_model_arguments

    def elsewhere(parser: argparse.ArgumentParser) -> None:
        declare(parser)
        parser.set_defaults(model="newer", device="cpu", threads=2)

    monkeypatch.setattr(_options, "add_model_arguments", elsewhere)
    assert main(words) == 0
    assert main([*words, "--device", "cpu"]) == 0
    assert main([*words, "--device", "auto"]) == 2 and "leave out --device" in capsys.readouterr().err


def test_what_cannot_be_compared_is_one_line(
    reports: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = json.loads((reports / "good.json").read_text())
    spoilt = {
        "old": {**good, "clip_by_clip": {}},
        "list": {**good, "clip_by_clip": [1]},
        "beyond": {**good, "clip_by_clip": {"names": ["a"], "means": {"a": [[1, 0.0, 1.0]]}, "medians": {}}},
        "weightless": {
            **good,
            "clip_by_clip": {"names": ["a"], "means": {"a": [[0, 0.0, 0]]}, "medians": {}},
        },
        "text": {**good, "clip_by_clip": {"names": ["a"], "means": {}, "medians": {"a": [[0, ["x"]]]}}},
        "empty": {**good, "clip_by_clip": {"names": [], "means": {"lve_mm": []}, "medians": {}}},
        "bare": {"clip_by_clip": good["clip_by_clip"]},
    }
    for name, content in spoilt.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        spoilt[name] = str(tmp_path / f"{name}.json")
    a, few = str(reports / "good.json"), str(reports / "few.json")
    for words, message in (
        (["--compare", a, few], "not of the same clips (3 and 2)"),
        (["--compare", a, str(tmp_path / "none.json")], "is missing"),
        (["--compare", a, spoilt["old"]], "no figures clip by clip"),
        (["--compare", a, spoilt["list"]], "damaged"),
        (["--compare", a, spoilt["beyond"]], "there is no clip 1"),
        (["--compare", a, spoilt["weightless"]], "a clip without weight"),
        (["--compare", a, spoilt["text"]], "'x' is no number"),
        (["--compare", a, spoilt["bare"]], "damaged"),
        (["--compare", spoilt["empty"], spoilt["empty"]], "no clips"),
        (["--compare", a, a, "--json", a], "it is the input"),
        (["m.jsonl", "--compare", a, a], "leave out a manifest"),
        (["--compare", a, a, "--pad", "0"], "leave out --pad"),
        (["--compare", a, a, "--rendered"], "leave out --rendered"),
        (["--compare", a, a, "--plot", "a.png"], "leave out --plot"),
        (["--compare", a, a, "--model", "other"], "leave out --model"),
        ([], "give a manifest, or --compare"),
    ):
        assert main(["evaluate", *words]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1 and "Traceback" not in error


def test_a_report_may_be_written_without_its_clips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "examples/demo.jsonl", "--seeds", "1", "--steps", "1", "--limit", "1"]
    whole, pooled = tmp_path / "whole.json", tmp_path / "pooled.json"
    assert main([*words, "--json", str(whole)]) == main([*words, "--json", str(pooled), "--pooled"]) == 0
    told, short = (json.loads(path.read_text()) for path in (whole, pooled))
    assert told.pop("clip_by_clip")["names"] and told == short
    assert main(["evaluate", "--compare", str(pooled), str(whole)]) == 2
    assert "no figures clip by clip" in capsys.readouterr().err
    assert main([*words, "--pooled"]) == 2
    assert "--pooled is for the file of --json" in capsys.readouterr().err
