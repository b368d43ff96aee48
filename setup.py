"""Builds `facetalk._C` and the C library by handing everything to CMake; CMakeLists.txt says what and why.

Environment:
    FACETALK_CUDA         auto (default: CUDA when nvcc is found), on (fail without nvcc) or off.
    FACETALK_CUDA_ARCHS   semicolon list of compute capabilities, e.g. "80;90a" (default: see CMakeLists.txt).
    FACETALK_BUILD_TYPE   CMake build type (default Release).
    FACETALK_CUDA_LOG     file for what nvcc and ptxas say, for scripts/check_cuda_build.py; warnings of .cu
                          files are errors then.
    FACETALK_BUILD_DIR    where CMake builds (default: setuptools' temporary folder under build/).
    FACETALK_PAGE         auto (default: three.js for the page of facetalk view when npm is there), on (fail
                          without) or off.
    MAX_JOBS              compilers that may run at a time (default: one per core, 2 GiB of memory each).
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
LIBRARY, SOVERSION = "libfacetalk.so", 0  # as in cmake/library.cmake


def _jobs() -> int:
    if value := os.environ.get("MAX_JOBS"):
        return max(1, int(value))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(os.cpu_count() or 1, memory // (2 << 30)))


def _tool(name: str) -> str:
    """Find a build tool on PATH, or beside this Python (an environment need not be active to build in it)."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        raise RuntimeError(f"{name} was not found; install it with `pip install {name}`")
    return found


def _run_logged(command: list[str], log: str | None) -> None:
    """Run a command; what it says also goes to a file, if one is named."""
    if log is None:
        subprocess.run(command, check=True)
        return
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with (
        open(log, "w") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running,
    ):
        assert running.stdout is not None
        for line in running.stdout:
            file.write(line)
            sys.stdout.write(line)
    if running.returncode != 0:
        raise subprocess.CalledProcessError(running.returncode, command)


def _place(source: Path, target: Path) -> None:
    """Copy, renamed into place, so that a process that has the old library mapped keeps a whole one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copy2(source, fresh)
    fresh.replace(target)


def _c_library(build: Path) -> list[tuple[str, Path]]:
    """Where the files of the C library go in the package, and where they are.

    The library is there twice: under the name that linkers look for, and under its soname, which loaders do;
    wheels know no symbolic links.
    """
    names = LIBRARY, f"{LIBRARY}.{SOVERSION}"
    files = [(f"lib/{name}", build / "lib" / name) for name in names]
    headers = [(f"include/{name}", ROOT / "csrc" / name) for name in ("facetalk.h", "facetalk.hpp")]
    return [*files, *headers]


class CMakeBuild(build_ext):
    """Runs CMake with Ninja and puts the libraries it makes where setuptools expects it."""

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = Path(os.environ.get("FACETALK_BUILD_DIR") or Path(self.build_temp) / "cmake").resolve()
        build.mkdir(parents=True, exist_ok=True)
        cmake = _tool("cmake")
        configure = [
            cmake,
            "-S", str(ROOT),
            "-B", str(build),
            # What CMake knows of another Python that built here before; it does not let go of that by itself.
            "-U_Python*", "-UPython_*",
            "-G", "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}",
            f"-DCMAKE_BUILD_TYPE={os.environ.get('FACETALK_BUILD_TYPE', 'Release')}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DFACETALK_VERSION={self.distribution.get_version()}",
            f"-DFACETALK_CUDA={os.environ.get('FACETALK_CUDA', 'auto')}",
            f"-DFACETALK_CUDA_ARCHS={os.environ.get('FACETALK_CUDA_ARCHS', '')}",
            f"-DFACETALK_OUTPUT={target.name}",
        ]  # fmt: skip
        log = os.environ.get("FACETALK_CUDA_LOG")
        if log:
            configure += ["-DFACETALK_WERROR=ON", "-DFACETALK_PTXAS_REPORT=ON"]
        # The lock keeps two builds of one checkout from writing into the same build folder at a time.
        with open(build / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            subprocess.run(configure, check=True)
            _run_logged([cmake, "--build", str(build), "-j", str(_jobs())], log)
            _place(build / target.name, target)
            for name, source in _c_library(build):
                _place(source, target.parent / name)

    def copy_extensions_to_source(self) -> None:
        """Beside the module of ``build_ext --inplace`` lies the C library."""
        super().copy_extensions_to_source()
        built = Path(self.get_finalized_command("build_py").build_lib) / "facetalk"
        for name, _ in _c_library(built):
            _place(built / name, ROOT / "facetalk" / name)


class PageBuild(build_py):
    """Adds three.js, which the page of `facetalk view` draws with: by npm, as its lock file says."""

    def run(self) -> None:
        super().run()
        source = ROOT / "facetalk/view/page/npm"
        place = source if self.editable_mode else Path(self.build_lib) / "facetalk/view/page/npm"
        wanted = os.environ.get("FACETALK_PAGE", "auto")
        if wanted not in ("auto", "on", "off"):
            raise RuntimeError(f"FACETALK_PAGE must be auto, on or off, got {wanted!r}")
        names = json.loads((source / "package.json").read_text())["facetalk"]["three"]
        if wanted == "off" or all((place / "three" / name).is_file() for name in names):
            return
        trouble = self._fetch(source, place / "three", names)
        if trouble and wanted == "on":
            raise RuntimeError(f"no three.js for facetalk view: {trouble}")
        if trouble:
            print(
                f"warning: facetalk view will not work, as there is no three.js: {trouble}", file=sys.stderr
            )

    @staticmethod
    def _fetch(source: Path, target: Path, names: list[str]) -> str:
        """Fetch the files; why it could not be done, or nothing."""
        npm = shutil.which("npm")
        if npm is None:
            return "npm was not found (apt install npm)"
        with tempfile.TemporaryDirectory() as folder:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(source / name, folder)
            # Files alone, none of which is run; offline it gives up soon.
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1",
                       "--fetch-timeout=30000"]  # fmt: skip
            try:
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
            except (OSError, subprocess.TimeoutExpired) as error:
                return str(error)
            if done.returncode:
                return " ".join(done.stderr.split())[:300]
            for name in names:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(folder) / "node_modules/three" / name, target / name)
        return ""


setup(
    ext_modules=[Extension("facetalk._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild, "build_py": PageBuild},
)
