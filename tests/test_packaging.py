"""The wheel works in a fresh environment, far from the source; the CUDA sources compile where nvcc is."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from facetalk.view.files import page_files

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="needs the source tree"),
]

# Run in the fresh environment: the package, its data and an operation, found nowhere but in the wheel.
PROBE = """
import sys, pathlib, numpy as np
import facetalk
from facetalk import ops
from facetalk.ops._extension import load
home = pathlib.Path(facetalk.__file__).resolve().parent
assert home.is_relative_to(pathlib.Path(sys.prefix).resolve()), home
assert pathlib.Path(load().__file__).resolve().parent == home
info = load().build_info()
assert info["version"] == sys.argv[1], info
assert "cpu" in info["backends"] and "FACETALK_CUDA=off" in info["missing"]["cuda"], info
axis = np.linspace(-1, 1, 24, dtype=np.float32)
volume = np.sqrt(axis[:, None, None]**2 + axis[None, :, None]**2 + axis**2) - np.float32(0.6)
vertices, faces = ops.marching_cubes(volume, bounds=((-1,) * 3, (1,) * 3))
assert len(vertices) - len(faces) // 2 == 2
assert abs(np.linalg.norm(vertices, axis=1) - 0.6).max() < 0.01
assert (home / "models/default/config.json").is_file() and (home / "py.typed").is_file()
from facetalk.native import NativeModel
assert pathlib.Path(facetalk.get_library()).parent == home / "lib"
stream = NativeModel(home / "models/default").stream(steps=1)
stream.push(np.sin(np.arange(16000, dtype=np.float32)))
frames = stream.finish()
assert frames.curves.shape[1] == 53 and len(frames.contacts) == len(frames.curves)
assert not {"torch", "transformers", "scipy"} & set(sys.modules)
print("works")
"""


def run(*command: object, **options) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def clean_environment(**extra: str) -> dict[str, str]:
    hidden = ("PYTHONPATH", "PYTHONHOME", "FACETALK_BUILD_DIR", "FACETALK_BUILD_TYPE", "FACETALK_CUDA_LOG")
    kept = {key: value for key, value in os.environ.items() if key not in hidden}
    # Build tools that came with pip lie beside this Python, also when its environment is not active.
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return kept | {"PATH": tools} | extra


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """What a checkout has, without anything that was built in it."""
    target = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("*.so", "*.so.*", ".*.so.*", "__pycache__", "include", "three")
    for name in ("cmake", "csrc", "facetalk"):
        shutil.copytree(ROOT / name, target / name, ignore=ignore)
    for name in ("setup.py", "CMakeLists.txt", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, target)
    return target


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    target = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "-w", target, source,
        env=clean_environment(FACETALK_CUDA="off"),
    )  # fmt: skip
    (built,) = target.glob("*.whl")
    return built


def test_wheel_has_what_it_needs_and_no_more(wheel, source):
    names = zipfile.ZipFile(wheel).namelist()
    libraries = sorted(name for name in names if name.endswith(".so"))
    assert len(libraries) == 2 and libraries[0].startswith("facetalk/_C.")
    c_library = {
        "facetalk/lib/libfacetalk.so",
        "facetalk/lib/libfacetalk.so.0",
        "facetalk/include/facetalk.h",
        "facetalk/cmake/facetalk-config.cmake",
        "facetalk/cmake/facetalk-config-version.cmake",
    }
    assert c_library <= set(names)
    outside = [name for name in names if not name.startswith(("facetalk/", "facetalk-"))]
    assert outside == []
    for pattern in ("**/*.py", "models/**/*", "data/*.json", "live/*.html"):
        wanted = [path for path in (source / "facetalk").glob(pattern) if path.is_file()]
        assert wanted, f"nothing is {pattern} any more"
        assert {path.relative_to(source).as_posix() for path in wanted} <= set(names)


@pytest.mark.skipif(shutil.which("readelf") is None, reason="no readelf on this machine")
def test_the_extension_needs_the_compilers_libraries_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        extension = next(name for name in archive.namelist() if name.startswith("facetalk/_C."))
        library = archive.extract(extension, wheel.parent)
    needed = re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", library))
    allowed = re.compile(
        r"(libc|libm|libstdc\+\+|libgcc_s|libgomp|libpthread|libdl|librt|ld-linux-x86-64)\.so"
    )
    assert needed and all(allowed.match(name) for name in needed), needed


def test_wheel_works_in_a_fresh_environment(wheel, tmp_path, monkeypatch):
    version = wheel.name.split("-")[1]
    # A checkout that was installed in place, as a developer's PYTHONPATH names it: pip would take what it
    # says of itself for the wheel, which is of the same version, and leave it at that.
    (tmp_path / "checkout/facetalk.egg-info").mkdir(parents=True)
    said = f"Metadata-Version: 2.1\nName: facetalk\nVersion: {version}\n"
    (tmp_path / "checkout/facetalk.egg-info/PKG-INFO").write_text(said)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "checkout"))
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    packages = next((tmp_path / "venv/lib").glob("python*/site-packages"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    options = {"cwd": elsewhere, "env": clean_environment()}
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel, **options)
    # Dependencies come from this environment, behind the fresh one's own packages. Only now, for the same
    # reason.
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    assert run(python, "-c", PROBE, version, **options).endswith("works\n")
    assert version in run(tmp_path / "venv/bin/facetalk", "info", **options)
    assert version in run(python, "-m", "facetalk", "info", **options)


def build_page(source: Path, target: Path, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(target)]
    return subprocess.run(command, cwd=source, capture_output=True, text=True,
                          env=clean_environment() | environment)  # fmt: skip


def test_without_npm_it_builds_and_says_what_will_be_missing(source, tmp_path):
    bare = {"PATH": str(tmp_path)}
    done = build_page(source, tmp_path / "auto", **bare)
    assert done.returncode == 0 and "npm was not found" in done.stderr
    assert (tmp_path / "auto/facetalk/view/page/main.js").is_file()
    done = build_page(source, tmp_path / "on", FACETALK_PAGE="on", **bare)
    assert done.returncode != 0 and "npm was not found" in done.stderr
    assert "must be auto, on or off" in build_page(source, tmp_path / "x", FACETALK_PAGE="maybe").stderr


@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on this machine")
def test_with_npm_the_page_has_three(source, tmp_path):
    done = build_page(source, tmp_path / "lib")
    if "warning: facetalk view" in done.stderr:
        pytest.skip(f"npm reaches no registry: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    found = page_files(tmp_path / "lib/facetalk/view/page")
    assert b"WebGLRenderer" in found["/three/build/three.module.js"].content
    assert "MIT" in (tmp_path / "lib/facetalk/view/page/npm/three/LICENSE").read_text()


def configure(source: Path, build: Path, *options: str) -> subprocess.CompletedProcess:
    import pybind11

    command = [
        "cmake", "-S", source, "-B", build, "-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", *options,
    ]  # fmt: skip
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=clean_environment()
    )


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on this machine")
def test_cuda_sources_are_built_for_the_targets_asked_for(source, tmp_path):
    """Compiling them all takes minutes: scripts/check_cuda_build.py does it, on every architecture."""
    done = configure(source, tmp_path, "-DFACETALK_CUDA=on", "-DFACETALK_CUDA_ARCHS=90;80")
    assert done.returncode == 0, done.stdout + done.stderr
    commands = (tmp_path / "compile_commands.json").read_text()
    targets = set(re.findall(r"code=\[([^\]]*)\]", commands))
    # Machine code for both, PTX for the newest alone.
    assert {part for target in targets for part in target.split(",")} == {"sm_80", "sm_90", "compute_90"}
    sources = set((source / "csrc/cuda").rglob("*.cu"))
    compiled = {Path(command["file"]) for command in json.loads(commands)}
    assert sources and sources <= compiled


@pytest.mark.parametrize(("option", "says"), [("maybe", "auto, on or off"), ("on", "no CUDA compiler")])
def test_wrong_cuda_option_stops_the_build(source, tmp_path, option, says):
    if option == "on" and shutil.which("nvcc") is not None:
        pytest.skip("there is an nvcc, so on is right")
    done = configure(source, tmp_path, f"-DFACETALK_CUDA={option}")
    assert done.returncode != 0 and says in " ".join((done.stdout + done.stderr).split())
