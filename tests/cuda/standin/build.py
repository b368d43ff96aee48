"""Compiles the stand-in device and runs pytest over it in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pybind11
import torch

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[2] / "csrc"
_KERNELS = [
    "-std=c++17",
    "-O1",
    "-fPIC",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-DFACETALK_EMULATE_CUDA",
]


def compiler() -> list[str] | None:
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    return found.split() if found else None


def build(folder: Path) -> None:
    """Compile guard.so, accelerator.so and standin_core.so into a folder."""
    cxx = compiler()
    assert cxx is not None
    include = [CSRC, HERE.parent, Path(pybind11.get_include()), Path(sysconfig.get_path("include"))]
    kernels = [*cxx, *_KERNELS, *(f"-I{path}" for path in include), "-c"]
    torch_folder = Path(torch.__file__).parent
    for_torch = [*cxx, "-std=c++20", "-O0", "-fPIC", "-shared", f"-I{torch_folder / 'include'}"]
    commands = [
        [*kernels, str(HERE / "core_field.cpp"), "-o", str(folder / "core_field.o")],
        [*kernels, str(HERE / "core.cpp"), "-o", str(folder / "core.o")],
        [*for_torch, str(HERE / "guard.cpp"), "-o", str(folder / "guard.so"),
         f"-L{torch_folder / 'lib'}", "-lc10"],
        [*for_torch, str(HERE / "accelerator.cpp"), "-o", str(folder / "accelerator.so")],
    ]  # fmt: skip
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    said = [process.communicate()[1] for process in running]
    failed = [text for process, text in zip(running, said, strict=True) if process.returncode != 0]
    if failed:
        raise RuntimeError("\n".join(text[:6000] for text in failed))
    objects = [str(folder / name) for name in ("core.o", "core_field.o")]
    # The emulation's fibers switch by a function in assembly that both have.
    link = [
        *cxx,
        "-shared",
        "-Wl,--allow-multiple-definition",
        *objects,
        "-o",
        str(folder / "standin_core.so"),
    ]
    subprocess.run(link, check=True)


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on the stand-in of that folder."""
    root = HERE.parents[2]
    paths = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "FACETALK_STANDIN": str(folder),
        "LD_PRELOAD": str(folder / "accelerator.so"),
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    command = [
        sys.executable,
        "-P",  # the installed package, not the checkout's, which may not be built
        "-m",
        "pytest",
        "-p",
        "standin.plugin",
        "-p",
        "no:cacheprovider",
        "--show-capture=stdout",
        *arguments,
    ]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


if __name__ == "__main__":
    work = Path(sys.argv[1])
    if not (work / "standin_core.so").exists():
        work.mkdir(parents=True, exist_ok=True)
        build(work)
    done = run(work, *sys.argv[2:])
    print(done.stdout[-20000:], done.stderr[-5000:])
    sys.exit(done.returncode)
