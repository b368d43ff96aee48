"""The tests and benchmarks that need a GPU, run here on a stand-in for one: see tests/cuda/standin.

What they assert about numbers is asserted over kernels on the host. That they are collected and run at all,
by the same command as on a machine with a GPU, is asserted here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree
from collections import Counter
from pathlib import Path

import gpu_report
import pytest
import torch
from standin import build
from test_gpu_check import STUBS

# Not at the sizes of an official head, nor where only memory of a real device can be tested; and of the tests
# of one kind only some, because the kernels' own tests take all of them.
DEVICE_TESTS = {
    "tests/cuda/test_attention_device.py": "not 32_bits and not memory and not window2 and not window1",
    "tests/cuda/test_marching_cubes_face.py": "TestOnDevice and not shape3",
    "tests/cuda/test_field_device.py": "small or graph or bricks",
    "tests/cuda/test_field_dispatch_device.py": "nphm and not mononphm and not fp16 and not True",
    "tests/cuda/test_field_guided_device.py": "not True",
    "tests/cuda/test_field_cached_device.py": "chunks and float32",
    "tests/cuda/test_field_hopper_device.py": "columns and bfloat16",
    "tests/cuda/test_streams_device.py": "test",
    "tests/cuda/test_native_device.py": "(small and float32) or distances or not_there",
    "tests/ops/test_normals.py": "None",
    "tests/ops/test_attention.py": "opcheck or export or autocast or sees_nothing or empty",
    "tests/diffusion/test_cuda_graph.py": "window0",
}
NOT_HERE = {"tests/cuda/test_distill_device.py", "tests/cuda/test_whisper_device.py"}
"""One saves checkpoints, and torch reads no tensor of the stand-in's back; in the other torch's own kernels
do everything."""
SKIPS = ("could not import 'cupy'", "needs two CUDA devices", "CUDA")


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if torch.version.cuda is not None:
        pytest.skip("this torch has CUDA of its own, which the stand-in cannot replace")
    if build.compiler() is None:
        pytest.skip("no C++ compiler: there is no stand-in for a device without one")
    if not sys.platform.startswith("linux"):
        pytest.skip("the stand-in is loaded by LD_PRELOAD")
    folder = tmp_path_factory.mktemp("standin")
    build.build(folder)
    return folder


def outcomes(report: Path) -> dict[str, Counter[str]]:
    """By test file: how many passed, failed and were skipped; the reasons of skips under their own names."""
    found: dict[str, Counter[str]] = {}
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        name = re.sub(r"\.Test\w+$", "", case.get("classname", "")).replace(".", "/") + ".py"
        counts = found.setdefault(name, Counter())
        skipped = case.find("skipped")
        if skipped is not None:
            counts[f"skipped: {skipped.get('message')}"] += 1
        else:
            bad = case.find("failure") is not None or case.find("error") is not None
            counts["failed" if bad else "passed"] += 1
    return found


def test_device_tests_are_collected_and_pass(standin: Path, emulated_library: Path, tmp_path: Path) -> None:
    names = " or ".join(
        f"({Path(file).stem} and ({names or 'test'}))" for file, names in DEVICE_TESTS.items()
    )
    report = tmp_path / "junit.xml"
    done = build.run(
        standin, *DEVICE_TESTS, "-m", "cuda", "-k", names, "-q", "--tb=short", f"--junitxml={report}",
        FACETALK_EMULATED_LIBRARY=str(emulated_library),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    found = outcomes(report)
    for file in DEVICE_TESTS:
        assert found[file]["passed"] >= 1 and found[file]["failed"] == 0, (file, found[file])
        assert all(name.partition(": ")[2].startswith(SKIPS) for name in found[file] if "skipped" in name)


def test_every_file_with_device_tests_is_among_them() -> None:
    root = Path(__file__).parents[2]
    marked = {
        str(path.relative_to(root))
        for path in root.glob("tests/**/test_*.py")
        if path.stem.endswith("_device") or re.search(r"pytest\.mark\.cuda\b", path.read_text())
    }
    assert marked == set(DEVICE_TESTS) | NOT_HERE


def test_benchmarks_run_to_their_last_line(standin: Path) -> None:
    script = Path(build.HERE) / "rehearse_benchmarks.py"
    done = build.run(standin, str(script), "-q", "--tb=short", "-m", "not slow", FACETALK_BENCH_ROUNDS="1")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_benchmarks_are_all_rehearsed() -> None:
    text = (Path(build.HERE) / "rehearse_benchmarks.py").read_text()
    benchmarks = [
        f"{path.stem}.{name}"
        for path in (Path(__file__).parents[2] / "benchmarks").glob("bench_*_cuda.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    ]
    assert benchmarks
    assert [name for name in benchmarks if f"{name}(" not in text] == [], "not rehearsed"


MISTAKES = """
import ctypes, os, pytest, signal, torch
from facetalk.ops._extension import load
from standin.core import Wrong
_C = load()
field = _C.cuda_field
a = torch.ones(4)
there, short = a.cuda(), a[:3].cuda()
handle = torch.cuda.current_stream().cuda_stream
dropped = torch.ones(99).cuda().data_ptr()
def bricks_of(axes):
    return field.Bricks(axes=axes, shape=[1, 1, 1], frames=1, side=8)
bricks = bricks_of([there.data_ptr()] * 3)
def with_graph(work):
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        work()
def written(beside, where):
    try:
        ctypes.memset(beside.data_ptr() + where, 0, 1)
        torch.cuda.synchronize()
    finally:
        ctypes.memset(beside.data_ptr() + where, 0xFF, 1)
def test_what_lies_behind_a_block_may_not_be_touched():
    child = os.fork()  # nothing but the write happens in it
    if child == 0:
        try:
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # quietly
            ctypes.memset(there.data_ptr() + 16, 0, 1)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGSEGV
@pytest.mark.parametrize(("mistake", "error", "says"), [
    (lambda: a.cuda() + a, RuntimeError, "same device"),
    (lambda: with_graph(lambda: a.cuda()), RuntimeError, "not permitted when stream is capturing"),
    (lambda: with_graph(lambda: there.sum().item()), RuntimeError, "not permitted when stream is capturing"),
    (lambda: field.classify(bricks, 1, nodes=0, lipschitz=1.0, table=0), Wrong, "the stream"),
    (lambda: bricks_of([dropped, dropped, dropped]), Wrong, "no memory of the device"),
    (lambda: _C.vertex_normals_cuda(there, a, a, a, a, handle), Wrong, "a tensor on cpu"),
    (lambda: torch.zeros_like(there).numpy(), TypeError, "device type tensor to numpy"),
    (lambda: written(there, -1), RuntimeError, "illegal memory access"),
    (lambda: written(short, 12), RuntimeError, "illegal memory access"),  # as far as the alignment reaches
])
def test_is_found(mistake, error, says):
    with pytest.raises(error, match=says):
        mistake()
def test_streams_that_do_not_wait():
    here, first, second = torch.cuda.current_stream(), torch.cuda.Stream(), torch.cuda.Stream()
    one = torch.ones(4, device="cuda")
    with torch.cuda.stream(first), pytest.raises(RuntimeError, match="reads what stream .* without a wait"):
        two = one * 2
        torch.cuda.synchronize()
    torch.cuda.synchronize()
    three = torch.ones(4, device="cuda")
    second.wait_stream(here)
    with torch.cuda.stream(second):
        four = three * 2
    del three
    with pytest.raises(RuntimeError, match="given back while stream"):
        torch.cuda.synchronize()
    torch.cuda.synchronize()
    here.wait_stream(second)
    assert (four == 2).all()
def test_what_nobody_wrote_is_no_number():
    assert torch.empty(5, device="cuda").isnan().all()
def test_a_graph_reads_its_inputs_again():
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        doubled = there * 2
    there.fill_(3.0)
    assert (doubled == 2.0).all()
    graph.replay()
    assert (doubled == 6.0).all()
"""


@pytest.mark.parametrize(
    ("command", "choice", "step"),
    [
        ("right", "matches and small and float16 and not bfloat16", "tests"),
        ("fast", "48 and float16", "attention"),
        ("why", "small and float16 and not bfloat16", "racecheck"),
    ],
)
def test_commands_for_a_gpu_come_to_their_last_line(
    standin: Path, tmp_path: Path, command: str, choice: str, step: str
) -> None:
    """By the same plan, but for a few of its tests, and with tools that run what they are given."""
    for name in ("nvidia-smi", "compute-sanitizer"):
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{STUBS[name]}\n")
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "REAL_PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join([str(build.HERE.parent), os.environ.get("PYTHONPATH", "")]),
        "PYTEST_ADDOPTS": "-p standin.plugin",
        "FACETALK_STANDIN": str(standin),
        "LD_PRELOAD": str(standin / "accelerator.so"),
        "FACETALK_BENCH_ROUNDS": "1",
        "OMP_NUM_THREADS": "1",
    }
    script = Path(gpu_report.__file__).parent / "gpu_check.sh"
    arguments = [command, step, "--no-build", "-k", choice, "--out", str(tmp_path / "out")]
    done = subprocess.run([str(script), *arguments], capture_output=True, text=True, env=environment)
    result = gpu_report.gather(tmp_path / "out")[command]
    found = result["steps"][step]
    assert result["ended"] and set(found["counts"]) == {"passed"}, done.stdout[-3000:] + done.stderr[-2000:]
    assert (done.returncode == 0) == (step != "racecheck")  # whose tool reports what is planted
    if command == "fast":
        assert {row["peer"] for row in found["rows"]} >= {"ours", "SDPA with a mask"}


COUNTS = """
import numpy as np, torch
from field_host import random_head
from test_field_guided import AXES, CACHE_TOLERANCE, make_case
from facetalk.ops.cuda.canonical_cache import CudaCanonicalCache
from facetalk.ops.cuda.field import CudaField
from standin.core import CALLS
from standin.dispatch import STATE
def counted(work):
    CALLS.clear()
    STATE.waited = []
    work()
    waits, STATE.waited = STATE.waited, None
    return waits, dict(CALLS)
def test_bricks():
    source, biases, _ = random_head(4, frames=2)
    field, frames = CudaField(source), [b.cuda() for b in biases]
    axes = [np.linspace(-0.6, 0.6, n).astype(np.float32) for n in (17, 12, 20)]
    field.bricks(axes, frames)
    waits, calls = counted(lambda: field.bricks(axes, frames))
    rounds = calls["contradictions"]
    print("waits", len(waits), "calls", calls)
    # One for each list of nodes and of samples, the empty one that ends the search, and the bricks.
    assert len(waits) == 3 + rounds + 1 <= 8, waits
    assert calls["classify"] == 3 and rounds <= 3
    assert calls["deform"] == calls["members"] == 3 + rounds, calls
def test_guided():
    case = make_case(12)
    field, cache = CudaField(case.source, precision="float32"), CudaCanonicalCache(**case.arrays)
    biases = [b.cuda() for b in case.biases]
    def run():
        return field.guided(AXES, biases, cache, case.bounds, tolerance=0.03, cache_tolerance=CACHE_TOLERANCE)
    run()
    waits, calls = counted(run)
    # Each list of nodes, of samples and of bricks has its own, and so has each round; no frame has one.
    assert len(waits) <= 28, waits
"""


def test_waits_and_launches_of_a_search(standin: Path, tmp_path: Path) -> None:
    script = tmp_path / "test_counts.py"
    script.write_text(COUNTS)
    done = build.run(standin, str(script), "-q", "--tb=short", "--rootdir", str(tmp_path))
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_standin_finds_mistakes(standin: Path, tmp_path: Path) -> None:
    script = tmp_path / "test_mistakes.py"
    script.write_text(MISTAKES)
    done = build.run(standin, str(script), "-q", "--tb=short", "--rootdir", str(tmp_path))
    assert done.returncode == 0 and "13 passed" in done.stdout, done.stdout[-3000:]
