"""facetalk.hpp where exceptions are off, as engines build: statuses and objects that test false."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from facetalk import get_include, get_library
from facetalk.native import NativeModel

FOLDER = Path(__file__).parent
COMPILER = os.environ.get("CXX") or shutil.which("c++") or ""
FLAGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"]

pytestmark = pytest.mark.skipif(not COMPILER, reason="needs a C++ compiler")


def test_a_program_of_both_kinds(
    tmp_path: Path, folder: Path, model: NativeModel, speech: np.ndarray
) -> None:
    program, library = tmp_path / "program", Path(get_library()).parent
    objects = []
    for name, mode in (
        ("without_exceptions", ["-std=c++17", "-fno-exceptions"]),
        ("with_exceptions", ["-std=c++11"]),
    ):
        objects.append(tmp_path / f"{name}.o")
        words = [COMPILER, *mode, *FLAGS, "-O1", f"-I{get_include()}", "-c", FOLDER / f"{name}.cpp"]
        subprocess.run([*words, "-o", objects[-1]], check=True)
    linked = [*objects, f"-L{library}", f"-Wl,-rpath,{library}", "-lfacetalk"]
    subprocess.run([COMPILER, *linked, "-o", program], check=True)
    sound = speech[: 2 * 16_000]
    done = subprocess.run([program, folder], input=sound.tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    missing, thrown, frames, late, *curves = done.stdout.decode().splitlines()
    assert missing.startswith("missing: status 2, ") and "/nowhere" in missing
    assert thrown == "thrown elsewhere: 2" and frames == "50 frames"
    assert late.startswith("late: status 5, ")
    stream = model.stream()
    expected = np.concatenate([stream.push(sound).curves, stream.finish().curves])
    np.testing.assert_allclose(np.array(curves, np.float32).reshape(expected.shape), expected, atol=1e-6)
