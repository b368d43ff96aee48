"""The warpgroup kernel's layouts beside CuTe's, an implementation that has run on the GPUs in question."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
from host_kernels import CSRC, HERE


def cutlass() -> Path | None:
    """The headers in PyPI's nvidia-cutlass."""
    spec = importlib.util.find_spec("cutlass_library")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (Path(folder) / "source" / "include" / "cute").exists():
            return Path(folder) / "source" / "include"
    return None


@pytest.mark.slow  # CuTe's templates take nvcc most of a minute
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
@pytest.mark.skipif(cutlass() is None, reason="no CuTe: pip install nvidia-cutlass")
def test_layouts_are_cutes(tmp_path: Path) -> None:
    program = tmp_path / "cute_layouts"
    command = [
        "nvcc", "-std=c++17", "-O1", "--expt-relaxed-constexpr", "-gencode", "arch=compute_90a,code=sm_90a",
        f"-I{CSRC}", f"-I{cutlass()}", str(HERE / "cute_layouts.cu"), "-o", str(program),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-6000:]
    said = subprocess.run([str(program)], capture_output=True, text=True).stdout.splitlines()
    assert len(said) == 7 and all(line.endswith(": 0") for line in said), said
