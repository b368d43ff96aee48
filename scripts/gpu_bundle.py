"""Puts together what a machine with a GPU and no network needs besides the checkout: make gpu-bundle.

    python scripts/gpu_bundle.py                # into build/gpu-bundle, for compute capability 9.0
    python scripts/gpu_bundle.py --archs 80     # for another GPU
    python scripts/gpu_bundle.py --tar FILE     # the checkout and the bundle in one archive

The bundle has the compiled core without its Python bindings, which are compiled where they are used (see
gpu_module.py), and the C library; the golden set of the official networks, from FACETALK_GOLDEN or
shared/golden beside the checkout; and wheels of packages that such machines tend to lack and that some
benchmarks read sound with, if pip can have them. It says what travels and its size, and fails where that is
more than --most-mib.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from gpu_module import ARCHIVE, BUNDLE, LIBRARY, MANIFEST, PARTS, ROOT, RUNTIME, digest

WHEELS = ("soundfile", "soxr", "cffi", "pycparser", "platformdirs")
_MIB = 2**20
STAYS = ("docs/", "benchmarks/results/", "experiments/", "facetalk/data/heads/", "facetalk/models/sync/",
         "facetalk/models/mouth_features/")  # fmt: skip
"""What of the checkout nothing of gpu_check.py reads: pages, figures, what training alone needs."""


def build_core(archs: str, jobs: int) -> None:
    """Compile the archive and the C library by CMake; what is there from these sources already is kept."""
    manifest = BUNDLE / MANIFEST
    wanted = {"sources": digest(bindings=False), "archs": archs}
    try:
        before = json.loads(manifest.read_text())
    except (OSError, ValueError):
        before = {}
    if all(before.get(key) == value for key, value in wanted.items()) and all(
        (BUNDLE / name).exists() for name in PARTS
    ):
        print(f"{', '.join(PARTS)} are there, of these sources")
        return
    manifest.unlink(missing_ok=True)
    import pybind11

    folder = ROOT / "build" / "gpu-core"
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = os.environ | {"PATH": tools}
    begin = time.monotonic()
    configure = [
        "cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", "-DFACETALK_CUDA=on",
        f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        f"-DFACETALK_CUDA_ARCHS={archs}",
    ]  # fmt: skip
    build = ["cmake", "--build", str(folder), "--target", "facetalk_archive", "facetalk", "-j", str(jobs)]
    for command in (configure, build):
        if subprocess.run(command, env=environment).returncode != 0:
            sys.exit(f"error: {' '.join(command[:3])} ... failed")
    for old in BUNDLE.glob("lib*"):
        old.unlink()
    for file in (folder / ARCHIVE, _runtime(folder), folder / "lib" / LIBRARY):
        (BUNDLE / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))
    sizes = {name: (BUNDLE / name).stat().st_size for name in PARTS}
    manifest.write_text(json.dumps(wanted | {"bytes": sizes}, indent=1) + "\n")
    print(f"{ARCHIVE}, {LIBRARY}: compiled in {time.monotonic() - begin:.0f} s")


def _runtime(folder: Path) -> Path:
    """The static CUDA runtime beside the nvcc that CMake took."""
    # Where nvcc on the PATH is a wrapper, CMake's cache does not name the compiler behind it; this file does.
    for file in folder.glob("CMakeFiles/*/CMakeCUDACompiler.cmake"):
        said = re.search(r'^set\(CMAKE_CUDA_COMPILER "(.+)"\)', file.read_text(), re.MULTILINE)
        if said is None:
            continue
        for place in Path(said[1]).resolve().parents[1].rglob(RUNTIME):
            return place
        sys.exit(f"error: no {RUNTIME} beside {said[1]}")
    sys.exit(f"error: {folder} does not say which nvcc compiled")


def copy_golden() -> None:
    """The golden set of the official networks."""
    named = os.environ.get("FACETALK_GOLDEN")
    source = Path(named) if named else ROOT.parent / "shared" / "golden" / "nphm_public"
    target = BUNDLE / "golden"
    shutil.rmtree(target, ignore_errors=True)
    if not (source / "nphm_official").is_dir():
        print(f"golden: none at {source}; set FACETALK_GOLDEN, or 'official' rows are skipped")
        return
    for file in sorted((source / "nphm_official").iterdir()):
        (target / "nphm_official").mkdir(parents=True, exist_ok=True)
        (target / "nphm_official" / file.name).write_bytes(file.read_bytes())


def fetch_wheels(python: str) -> None:
    """Wheels for that Python, as far as pip has them."""
    target = BUNDLE / "wheels"
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
               "--python-version", python, "--implementation", "cp", "-d", str(target)]  # fmt: skip
    for glibc in (28, 27, 17):
        command += ["--platform", f"manylinux_2_{glibc}_x86_64"]
    command += ["--platform", "manylinux2014_x86_64"]
    if subprocess.run([*command, *WHEELS], capture_output=True).returncode != 0:
        print("wheels: pip has none here; benchmarks that read sound are skipped there")


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def tree() -> list[Path]:
    """The files of the checkout that git tracks or would, but for those that stay."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    names = (name for name in listed.stdout.split("\0") if name and not name.startswith(STAYS))
    return [file for name in names if (file := ROOT / name).is_file()]


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--archs", default="90a", help="what the core is compiled for (default 90a)")
    parser.add_argument("--python", default="3.12", help="of the wheels (default 3.12)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at a time")
    parser.add_argument("--most-mib", type=float, default=64, help="what may travel (default 64)")
    parser.add_argument("--tar", type=Path, metavar="FILE", help="also write everything into one .tar.gz")
    args = parser.parse_args()
    BUNDLE.mkdir(parents=True, exist_ok=True)
    build_core(args.archs, args.jobs)
    copy_golden()
    fetch_wheels(args.python)
    files = tree()
    sizes = {"checkout": sum(file.stat().st_size for file in files)}
    sizes |= {f"{BUNDLE.name}/{part.name}": _bytes(part) for part in sorted(BUNDLE.iterdir())}
    for name, size in sizes.items():
        print(f"{size / _MIB:7.2f} MiB  {name}")
    total = sum(sizes.values()) / _MIB
    print(f"{total:7.2f} MiB  travel: the checkout without {', '.join(STAYS)}")
    print(f"             and {BUNDLE}, which git ignores")
    if total > args.most_mib:
        sys.exit(f"error: more than {args.most_mib:g} MiB")
    if args.tar:
        with tarfile.open(args.tar, "w:gz") as archive:
            for file in files:
                archive.add(file, f"facetalk/{file.relative_to(ROOT)}")
            for file in sorted(BUNDLE.rglob("*")):
                if file.is_file():
                    archive.add(file, f"facetalk/build/gpu-bundle/{file.relative_to(BUNDLE)}")
        print(f"{args.tar.stat().st_size / _MIB:7.2f} MiB  {args.tar}")


if __name__ == "__main__":
    main()
