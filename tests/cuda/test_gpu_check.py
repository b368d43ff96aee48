"""The script for GPU machines, as far as it goes without one: its plan, how it bears failure, its readers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gpu_report
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "gpu_check.sh"
STAGES = ["environment", "build", "tests", "sanitizer", "profile", "benchmarks"]


def run(*args):
    environment = os.environ | {"PYTHON": sys.executable}
    return subprocess.run(
        [str(SCRIPT), *map(str, args)], capture_output=True, text=True, cwd="/", env=environment
    )


def test_dry_run_shows_every_stage_and_does_nothing(tmp_path):
    done = run("--dry-run", "--out", tmp_path / "out.json", "--work", tmp_path / "work")
    assert done.returncode == 0, done.stderr
    planned = [line.split()[:2] for line in done.stdout.splitlines()[:-1]]
    assert list(dict.fromkeys(stage for stage, _ in planned)) == STAGES
    assert [name for stage, name in planned if stage == "sanitizer"] == ["memcheck", "racecheck", "initcheck"]
    benchmarks = {path.stem for path in (ROOT / "benchmarks").glob("bench_*_cuda.py")}
    assert {name for stage, name in planned if stage == "benchmarks"} == benchmarks
    assert list(tmp_path.iterdir()) == []


def test_stages_can_be_chosen():
    done = run("--dry-run", "profile", "tests")
    assert {line.split()[0] for line in done.stdout.splitlines()[:-1]} == {"profile", "tests"}
    done = run("--dry-run", "profiles")
    assert done.returncode == 2 and "'profiles' is no stage" in done.stderr


def test_failures_are_written_down_and_stop_nothing(tmp_path):
    if shutil.which("nvidia-smi") is not None:
        pytest.skip("there is a GPU here; the script itself is the test")
    out = tmp_path / "out.json"
    done = run("--out", out, "--work", tmp_path / "work", "environment")
    assert done.returncode == 1
    result = json.loads(out.read_text())
    steps = {step["name"]: step for step in result["steps"]}
    assert steps["nvidia-smi"]["status"] == 127 and steps["nvidia-smi"]["outcome"] == "failed"
    assert "this machine lacks" in steps["packages"]["log_end"]
    assert result["environment"]["packages"]["torch"] and len(result["commit"]) >= 7


def step(work, name, status):
    log = work / "log"
    log.write_text("x" * 9000)
    options = {"work": work, "stage": "tests", "name": name, "status": status, "seconds": 3, "log": log}
    gpu_report.step(gpu_report.argparse.Namespace(**options, command="true"))


def write(work, out):
    gpu_report.write(gpu_report.argparse.Namespace(work=work, out=out))
    return json.loads(out.read_text())


def test_later_stages_of_a_commit_are_added_and_repeated_ones_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_report, "_output", lambda *command: "abc" if "rev-parse" in command else "")
    first, second, out = tmp_path / "first", tmp_path / "second", tmp_path / "out.json"
    first.mkdir()
    second.mkdir()
    step(first, "one", 1)
    step(first, "two", 124)
    assert [s["outcome"] for s in write(first, out)["steps"]] == ["failed", "timed out"]
    step(second, "one", 0)
    (second / "bench_a.jsonl").write_text('{"median_ms": 1.5}\n')
    result = write(second, out)
    assert [(s["name"], s["outcome"]) for s in result["steps"]] == [("one", "ok"), ("two", "timed out")]
    assert result["benchmarks"] == {"bench_a": [{"median_ms": 1.5}]}
    assert len(result["steps"][1]["log_end"]) == 4000
    monkeypatch.setattr(gpu_report, "_output", lambda *command: "def" if "rev-parse" in command else "")
    assert len(write(second, out)["steps"]) == 1, "another commit starts anew"


def test_test_reports_are_read(tmp_path):
    path = tmp_path / "junit.xml"
    path.write_text(
        '<testsuites><testsuite><testcase classname="a" name="fine"/>'
        '<testcase classname="a" name="bad"><failure message="no"/></testcase>'
        '<testcase classname="a" name="worse"><error message="no"/></testcase>'
        '<testcase classname="a" name="left"><skipped message="no GPU"/></testcase></testsuite></testsuites>'
    )
    assert gpu_report.tests(path) == {"passed": 1, "failed": ["a.bad", "a.worse"], "skipped": {"no GPU": 1}}


def test_profiles_are_read(tmp_path):
    path = tmp_path / "ncu.csv"
    path.write_text(
        "==PROF== Connected to process 1\n"
        '"ID","Kernel Name","Grid Size","gpu__time_duration.sum","launch__registers_per_thread"\n'
        '"","","","ns","register/thread"\n'
        '"0","facetalk::cuda::mc_pack(facetalk::cuda::McView)","(1,024, 1, 1)","1,234.5","42"\n'
    )
    assert gpu_report.kernels(path) == [
        {
            "kernel": "facetalk::cuda::mc_pack",
            "grid": "(1,024, 1, 1)",
            "gpu__time_duration.sum [ns]": 1234.5,
            "launch__registers_per_thread [register/thread]": 42.0,
        }
    ]
    path.write_text("==ERROR== no permission\n")
    assert gpu_report.kernels(path) == []


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck")
def test_shellcheck():
    done = subprocess.run(["shellcheck", str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
