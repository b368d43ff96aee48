"""The compiled core for the machine that gpu_check.py runs on: what is there, what was carried along, or
built.

A bundle (gpu_bundle.py) carries everything of the core but its Python bindings as one archive, compiled for
the GPU, and the static CUDA runtime: bindings depend on the Python that imports them, so they alone are
compiled where they are used, for whatever Python that is, which takes its headers and no nvcc. The C library
knows nothing of Python, so the bundle has it whole.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "build" / "gpu-bundle"
MANIFEST, ARCHIVE, RUNTIME = "manifest.json", "libfacetalk_core.a", "libcudart_static.a"
LIBRARY = "libfacetalk.so"
PARTS = tuple(f"{name}.gz" for name in (ARCHIVE, RUNTIME, LIBRARY))  # machine code compresses well
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))
MODULE = ROOT / "facetalk" / f"_C{SUFFIX}"
C_LIBRARY = ROOT / "facetalk" / "lib" / "libfacetalk.so"
PREBUILT = ROOT / "build" / "gpu-module" / "prebuilt"  # the bundle's archive and runtime, unpacked
STAMP = ROOT / "build" / "gpu-module" / "sources"  # of the module that was put there last


def digest(*, bindings: bool) -> str:
    """Of the sources of the core, with or without its Python bindings."""
    files = [ROOT / "CMakeLists.txt", *sorted((ROOT / "csrc").rglob("*"))]
    summed = hashlib.sha256()
    for file in files:
        name = file.relative_to(ROOT).as_posix()
        if file.is_file() and (bindings or not name.startswith("csrc/python/")):
            summed.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
    return summed.hexdigest()


def look(timeout: float = 120) -> tuple[bool, str]:
    """Whether the module imports and has CUDA, and what it says, by a process of its own."""
    code = "import json; from facetalk.ops._extension import load; print(json.dumps(load().build_info()))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout, env=environment
        )
    except subprocess.TimeoutExpired:
        return False, f"does not import in {timeout:.0f} s"
    if done.returncode != 0:
        return False, (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
    info = json.loads(done.stdout.splitlines()[-1])
    if "cuda" in info["backends"]:
        return True, f"code for {', '.join(info['cuda_archs'])}"
    return False, str(info["missing"].get("cuda"))


def fits() -> tuple[bool, str]:
    """Whether the module that is there was put there from these sources, and works."""
    for file in (MODULE, C_LIBRARY):
        if not file.exists():
            return False, f"there is no {file.name}"
    if not STAMP.exists() or STAMP.read_text() != digest(bindings=True):
        return False, f"{MODULE.name} is of other sources"
    return look()


def bundle() -> tuple[dict[str, object] | None, str]:
    """The manifest of the bundle that was carried along, or why there is none of use."""
    try:
        manifest = json.loads((BUNDLE / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        return None, f"no bundle: {error}"
    if manifest.get("sources") != digest(bindings=False):
        return None, "the bundle is of other sources"
    for name in PARTS:
        if not (BUNDLE / name).exists() or (BUNDLE / name).stat().st_size != manifest.get("bytes", {}).get(
            name
        ):
            return None, f"the bundle's {name} is missing or cut off"
    return manifest, ""


def _version() -> str:
    """The package's, which need not be installed."""
    named = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    return named[1] if named else "0.0.0"


def _folder(manifest: object) -> Path:
    return STAMP.parent / ("whole" if manifest is None else "bindings")


def commands(jobs: int) -> list[list[str]]:
    """Configure and build, from the bundle where it fits, else everything by nvcc."""
    manifest, why = bundle()
    folder = _folder(manifest)
    import pybind11

    configure = [
        "cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", f"-DFACETALK_OUTPUT={MODULE.name}",
        "-DFACETALK_CUDA=on", f"-DFACETALK_VERSION={_version()}",
    ]  # fmt: skip
    if manifest is None:
        print(f"everything is compiled: {why}", flush=True)
        asked = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
        said = subprocess.run(asked, capture_output=True, text=True).stdout if shutil.which(asked[0]) else ""
        arch = said.splitlines()[0].replace(".", "").strip() if said.strip() else ""
        configure.append(f"-DFACETALK_CUDA_ARCHS={'90a' if arch in ('', '90') else arch}")
    else:
        configure += [f"-DFACETALK_CUDA_ARCHS={manifest['archs']}", f"-DFACETALK_PREBUILT={PREBUILT}"]
    library = ["facetalk"] if manifest is None else []
    return [configure, ["cmake", "--build", str(folder), "--target", "_C", *library, "-j", str(jobs)],
            ["cp", str(folder / MODULE.name), str(MODULE)]]  # fmt: skip


def unpack_archive() -> None:
    """Put what a bundle has of the core where the bindings are linked to it."""
    if bundle()[0] is None:
        return
    PREBUILT.mkdir(parents=True, exist_ok=True)
    for name in (ARCHIVE, RUNTIME):
        (PREBUILT / name).write_bytes(gzip.decompress((BUNDLE / f"{name}.gz").read_bytes()))


def put_library() -> None:
    """Put the C library and its headers in their places: the bundle's, or what was made beside the module."""
    manifest, _ = bundle()
    if manifest is None:
        library = (_folder(manifest) / "lib" / LIBRARY).read_bytes()
    else:
        library = gzip.decompress((BUNDLE / f"{LIBRARY}.gz").read_bytes())
    headers = {name: (ROOT / "csrc" / name).read_bytes() for name in ("facetalk.h", "facetalk.hpp")}
    include = C_LIBRARY.parents[1] / "include"
    for path, data in [(C_LIBRARY, library), *((include / name, text) for name, text in headers.items())]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # a process that has the old one mapped keeps it whole
        path.write_bytes(data)


def unpack_wheels(target: Path) -> list[str]:
    """Put the bundle's wheels of packages that are missing here into a folder for PYTHONPATH; their names."""
    put = []
    for wheel in sorted((BUNDLE / "wheels").glob("*.whl")):
        name = wheel.name.partition("-")[0]
        if importlib.util.find_spec(name) is None:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(target)
            put.append(name)
    return put


def main() -> None:
    """Make the module, unless the one that is there will do."""
    good, why = fits()
    if good:
        print(f"{MODULE.name} is there, {why}")
        return
    print(f"{why}; making it", flush=True)
    MODULE.unlink(missing_ok=True)
    STAMP.parent.mkdir(parents=True, exist_ok=True)
    STAMP.unlink(missing_ok=True)
    unpack_archive()
    for command in commands(os.cpu_count() or 1):
        if subprocess.run(command).returncode != 0:
            sys.exit(f"error: {' '.join(command[:3])} ... failed")
    put_library()
    STAMP.write_text(digest(bindings=True))
    good, why = look()
    print(f"{MODULE.name}: {why}")
    sys.exit(0 if good else "error: the module that was made is of no use")


if __name__ == "__main__":
    main()
