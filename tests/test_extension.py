"""The compiled module itself: what it says of the build, arrays through DLPack, threads, SIMD levels."""

import gc
import importlib.metadata
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from facetalk import ops
from facetalk.ops import _extension
from facetalk.ops._extension import load


def test_build_info_is_complete():
    info = load().build_info()
    assert "cpu" in info["backends"]
    assert set(info["backends"]) | set(info["missing"]) == {"cpu", "cuda"}
    assert info["simd"] in info["simd_compiled"] and "baseline" in info["simd_compiled"]
    assert info["threads"] == ops.threads() >= 1
    assert info["compiler"] and info["version"]
    if "cuda" in info["missing"]:
        assert all(device["missing"] for device in info["devices"]) and info["missing"]["cuda"]
    else:
        assert info["cuda_archs"] and info["devices"][0]["name"]


def test_missing_extension_says_what_to_do(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def broken(name):
        raise ImportError("libgomp.so.1: cannot open shared object file")

    for failure, says in ((absent, "pip install"), (broken, r"does not load.*libgomp")):
        monkeypatch.setattr(_extension.importlib, "import_module", failure)
        monkeypatch.setattr(_extension, "_installed", lambda: None)
        _extension.load.cache_clear()
        with pytest.raises(ImportError, match=says):
            _extension.load()
    monkeypatch.undo()
    _extension.load.cache_clear()
    assert load().build_info()


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, env=os.environ | environment
    )


@pytest.mark.parametrize("level", ["baseline", "avx2", "avx512"])
def test_simd_level_from_the_environment(level):
    code = "from facetalk.ops._extension import load; i = load().build_info(); "
    code += "print(i['simd'], i['simd_detected'])"
    used, detected = run_python(code, FACETALK_SIMD=level).stdout.split()
    order = ["baseline", "avx2", "avx512"]
    assert used == order[min(order.index(level), order.index(detected))]


def test_unknown_simd_level_is_an_error():
    done = run_python("from facetalk.ops._extension import load; load().build_info()", FACETALK_SIMD="sse9")
    assert "InputError: FACETALK_SIMD: expected baseline, avx2 or avx512, got 'sse9'" in done.stderr


def test_unknown_simd_level_is_one_line_on_the_command_line():
    for verb in (["info"], ["info", "--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "facetalk", *verb], capture_output=True, text=True,
            env=os.environ | {"FACETALK_SIMD": "zzz"},
        )  # fmt: skip
        assert done.returncode == 2 and not done.stdout
        assert done.stderr.startswith("error: FACETALK_SIMD: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(("asked", "given"), [("5,2", 5), ("none", None), (None, None)])
def test_threads_follow_the_environment(asked, given):
    env = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    if asked is not None:
        env["OMP_NUM_THREADS"] = asked
    code = "from facetalk import ops; print(ops.threads())"
    found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert int(found.stdout) == (given or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(
    ("count", "error"), [(0, ValueError), (1025, ValueError), (2.0, TypeError), (True, TypeError)]
)
def test_wrong_thread_counts(count, error):
    with pytest.raises(error, match="count: expected"):
        ops.set_threads(count)


# --- Arrays


def result():
    """Any array that the extension made: (1, 4, 3) normals."""
    points = np.arange(12, dtype=np.float32).reshape(1, 4, 3) ** 2
    return load().vertex_normals(points, np.array([[0, 1, 3]], np.int32))


def test_results_reach_numpy_and_torch_without_a_copy():
    array = result()
    assert array.shape == (1, 4, 3) and array.__dlpack_device__() == (1, 0)
    numbers, tensor = np.from_dlpack(array), torch.from_dlpack(array)
    assert numbers.dtype == np.float32 and tensor.dtype == torch.float32
    assert np.array_equal(numbers, tensor.numpy()) and numbers.any()
    tensor[0, 0, 0] = 7.0
    assert numbers[0, 0, 0] == 7.0, "both see the same memory"
    del array, tensor
    gc.collect()
    assert numbers[0, 0, 0] == 7.0, "a view keeps the memory alive"


def test_capsules_are_taken_and_freed():
    array = result()
    for maximum in (None, (0, 8), (1, 0)):
        capsule = array.__dlpack__(max_version=maximum)
        assert torch.equal(torch.from_dlpack(capsule), torch.from_dlpack(array))
        with pytest.raises(TypeError, match="nobody consumed"):
            load().vertex_normals(capsule, np.zeros((1, 3), np.int32))
        array.__dlpack__(max_version=maximum)  # never consumed: frees itself
    fresh = torch.ones(1, 4, 3).__dlpack__()
    assert load().vertex_normals(fresh, np.zeros((1, 3), np.int32)).shape == (1, 4, 3)


def test_inputs_are_checked():
    call = load().vertex_normals
    good = np.zeros((1, 4, 3), np.float32), np.zeros((1, 3), np.int32)
    for vertices, error, says in [
        (good[0].astype(np.float64), TypeError, "vertices: expected float32, got float64"),
        (good[0][0], ValueError, r"vertices: expected shape \(any, any, 3\), got shape \(4, 3\)"),
        (
            np.zeros((1, 3, 4), np.float32).transpose(0, 2, 1),
            ValueError,
            "vertices: expected a contiguous array",
        ),
        (b"bytes", TypeError, "vertices: expected an array"),
        (np.zeros((1,) * 9, np.float32), ValueError, "at most 8 dimensions"),
        (np.zeros((1, 4, 3), np.complex64), TypeError, "a dtype that is not supported"),
    ]:
        with pytest.raises(error, match=says):
            call(vertices, good[1])


# --- Threads


def volume() -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal((60, 60, 200)).astype(np.float32)
    return np.pad(noise, 1, constant_values=1.0)


def test_many_callers_at_a_time():
    samples = volume()
    want = ops.marching_cubes(samples)
    got: list[bool] = []

    def call() -> None:
        for _ in range(3):
            got.append(
                all(np.array_equal(a, b) for a, b in zip(want, ops.marching_cubes(samples), strict=True))
            )

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert got == [True] * 12


def test_a_forked_process_works_too():
    """Data loaders fork; a pool of threads whose threads stayed behind must not hang the child."""
    code = """
import os, signal
import numpy as np
from facetalk import ops
ops.set_threads(3)
samples = np.random.default_rng(0).standard_normal((60, 60, 200)).astype(np.float32)
want = ops.marching_cubes(samples)[1].sum()
child = os.fork()
if child == 0:
    signal.alarm(60)
    os._exit(0 if ops.marching_cubes(samples)[1].sum() == want else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run_python(code).stdout.strip() == "0"


def test_a_checkout_without_a_core_uses_the_installed_one(tmp_path):
    """Python started in the repository finds the sources first."""
    if not any(
        "_C." in str(file)
        for found in importlib.metadata.distributions(name="facetalk")
        for file in found.files or ()
    ):
        pytest.skip("facetalk runs in place here, not installed")
    source = Path(_extension.__file__).parents[1]
    shutil.copytree(source, tmp_path / "facetalk", ignore=shutil.ignore_patterns("_C*", "models"))
    code = "import facetalk, facetalk.ops as o; o.threads(); print(facetalk.__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == str(tmp_path / "facetalk/__init__.py"), done.stderr
