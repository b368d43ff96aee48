"""The DLL for Windows under Wine, beside the library of this machine: the same frames, meshes and messages.

`scripts/windows.sh` makes it (`make windows`); without it, or without Wine, nothing here runs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from recordings import read_csv, write_wav

from facetalk import get_include, get_library

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "build/windows/lib"
PREFIX = ROOT / "build/wine"
TOOLS = "x86_64-w64-mingw32"
SOURCES = Path(__file__).parent / "windows"
EXAMPLE = ROOT / "examples/c/wav_to_csv.c"
TINY = ROOT / "tests/golden/nphm_tiny"
FOREIGN = "Köpfe 頭 a b"
LEVELS = ["baseline", "avx2", "avx512"]
# The C library of Windows rounds sines, roots and powers otherwise, which networks carry on.
TOLERANCE = {"live": 5e-6, "whole": 5e-6, "tongue": 5e-6, "pose": 1e-4, "normals": 1e-4, "positions": 1e-6}

Runner = Callable[..., "subprocess.CompletedProcess[bytes]"]

pytestmark = [
    pytest.mark.skipif(not (BUILT / "facetalk.dll").is_file(), reason="no DLL here: make windows"),
    pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler to compare with"),
]


def tool(name: str, *words: str | Path) -> str:
    command = [f"{TOOLS}-{name}", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="session")
def wine() -> Runner:
    """Runs a program of Windows in a folder; it finds the DLL beside itself."""
    if shutil.which("wine") is None or not PREFIX.is_dir():
        pytest.skip("no Wine: apt-get install wine wine64, then make windows")
    variables = {**os.environ, "WINEPREFIX": str(PREFIX), "WINEDEBUG": "-all", "LC_ALL": "C.UTF-8"}
    variables.pop("DISPLAY", None)

    def run(*command: str | Path, folder: Path, **more: str) -> subprocess.CompletedProcess[bytes]:
        words = ["wine", *map(str, command)]
        env = {**variables, **more}
        return subprocess.run(words, capture_output=True, check=False, cwd=folder, env=env, timeout=120)

    return run


def compiled(source: Path, out: Path, standard: str) -> tuple[Path, Path]:
    """A program of one source for Windows, with the DLL beside it, and for this machine."""
    flags = [f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-O1", f"-I{get_include()}", str(source)]
    compiler = "g++" if source.suffix == ".cpp" else "gcc"
    name = out / source.stem
    shutil.copy(BUILT / "facetalk.dll", out)
    tool(f"{compiler}-posix", *flags, "-static", BUILT / "libfacetalk.dll.a", "-o", f"{name}.exe")
    library = Path(get_library()).parent
    ours = [f"-L{library}", f"-Wl,-rpath,{library}", "-lfacetalk", "-lm", "-pthread", "-o", str(name)]
    subprocess.run([compiler, *flags, *ours], check=True)
    return name.with_suffix(".exe"), name


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, folder: Path, speech: np.ndarray) -> Path:
    """Where the probe finds its list: a model under a foreign name, sound, and what is no model."""
    here = tmp_path_factory.mktemp("windows")
    model = here / FOREIGN / "model"
    shutil.copytree(folder, model)
    speech[:48_000].astype("<f4").tofile(here / "sound.f32")
    bad = ["missing", "sound.f32", FOREIGN]
    weights = "motion/model.safetensors"

    def damaged(name: str) -> Path:
        bad.append(name)
        shutil.copytree(folder, here / name)
        return here / name

    for name, length in (("empty", 0), ("short", 7), ("header", 9), ("cut", 5000)):
        with (damaged(name) / weights).open("r+b") as file:
            file.truncate(length)
    inside = damaged("folder") / weights
    inside.unlink()
    inside.mkdir()
    (damaged("no-json") / "config.json").write_text("{")
    config = damaged("other-numbers") / "config.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps({**told, "fps": 0.25}))
    (damaged("latin") / "config.json").write_bytes(b'{"format": "\xe4"}')
    lines = [f"{FOREIGN}/model", str(TINY), "sound.f32", *bad]
    (here / "list").write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n")
    return here


@pytest.fixture(scope="session")
def probes(place: Path) -> tuple[Path, Path]:
    return compiled(SOURCES / "probe.cpp", place, "c++17")


@pytest.mark.parametrize("level", LEVELS)
def test_it_gives_what_the_library_of_this_machine_gives(
    probes: tuple[Path, Path], place: Path, wine: Runner, level: str
) -> None:
    theirs, ours = probes
    outs = {name: place / f"{name}-{level}" for name in ("theirs", "ours")}
    for out in outs.values():
        out.mkdir()
    done = wine(theirs, "list", outs["theirs"].name, folder=place, FACETALK_SIMD=level)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-500:]
    command = [ours, "list", outs["ours"].name]
    env = {**os.environ, "FACETALK_SIMD": level}
    expected = subprocess.run(command, capture_output=True, check=True, cwd=place, env=env)
    said = done.stdout.replace(b"\r\n", b"\n").splitlines()
    assert said == expected.stdout.splitlines() and len(said) > 65
    names = sorted(path.name for path in outs["ours"].iterdir())
    assert names == sorted(path.name for path in outs["theirs"].iterdir()) and len(names) == 13
    for name in names:
        kind = np.float32 if name.endswith(".f32") else np.int32
        got, wanted = (np.fromfile(outs[which] / name, kind) for which in ("theirs", "ours"))
        assert got.size == wanted.size > 100, name
        # Surfaces and noise are the same to the bit: faces, and vertices that no function of libm made.
        difference = np.abs(got - wanted).max()
        assert difference <= TOLERANCE.get(name.split(".")[0], 0.0), (name, difference)


def test_the_example_prints_the_same_rows(
    tmp_path: Path, folder: Path, speech: np.ndarray, wine: Runner
) -> None:
    theirs, ours = compiled(EXAMPLE, tmp_path, "c99")
    write_wav(tmp_path / "speech.wav", speech[:48_000], 48_000)
    for more in ([], ["0.2"]):
        words = [str(folder), "speech.wav", *more]
        done = wine(theirs, *words, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        expected = subprocess.run([ours, *words], capture_output=True, text=True, check=True, cwd=tmp_path)
        (names, rows), (others, wanted) = read_csv(done.stdout.decode()), read_csv(expected.stdout)
        assert names == others and rows.shape == wanted.shape and len(rows) == 25
        np.testing.assert_allclose(rows, wanted, atol=5e-6)
    done = wine(theirs, "missing", "speech.wav", folder=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith(b"error: missing/")


def test_streams_shortages_and_surfaces_under_wine(tmp_path: Path, folder: Path, wine: Runner) -> None:
    """What the sanitizers run: many rates and pieces, memory that ends anywhere."""
    program, _ = compiled(ROOT / "tests/sanitize/runtime.c", tmp_path, "c99")
    done = wine(program, folder, TINY, folder=tmp_path)
    assert (done.returncode, done.stdout.split()) == (0, [b"clean"]), done.stderr


def test_a_dll_with_threads_stays_when_it_is_unloaded(tmp_path: Path, wine: Runner) -> None:
    program = tmp_path / "unload.exe"
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-static", f"-I{get_include()}"]
    tool("gcc-posix", *flags, SOURCES / "unload.c", "-o", program)
    done = wine(program, "facetalk.dll", folder=BUILT)
    assert done.stdout.split() == [b"1:", b"gone", b"4:", b"there"] and done.returncode == 0


def test_it_needs_what_comes_with_windows_and_exports_the_header() -> None:
    about = tool("objdump", "-p", BUILT / "facetalk.dll")
    needed = {name.lower() for name in re.findall(r"DLL Name: (\S+)", about)}
    assert needed <= {"kernel32.dll", "msvcrt.dll", "ucrtbase.dll"} and "kernel32.dll" in needed
    table = about[about.index("[Ordinal/Name Pointer] Table") :].split("\n\n")[0]
    exported = re.findall(r"^\s*\[\s*\d+\] (?:\+base\[\s*\d+\]\s+\w+ )?(\w+)$", table, re.M)
    header = (ROOT / "csrc/facetalk.h").read_text()
    declared = re.findall(r"^FACETALK_API .*?\b(facetalk_\w+)\(", header, re.M)
    assert sorted(exported) == sorted(declared) and len(exported) > 50
    listed = (BUILT / "facetalk.def").read_text().split()
    assert listed == ["LIBRARY", "facetalk.dll", "EXPORTS", *declared]  # by name alone


def test_no_move_wants_more_alignment_than_the_stack_has() -> None:
    """GCC bug 54412: frames are aligned to 16 bytes, so an aligned move of 32 or 64 may stop a program."""
    code = tool("objdump", "-d", "--no-show-raw-insn", BUILT / "facetalk.dll")
    assert code.count("zmm") > 1000 and code.count("ymm") > 1000
    moves = [
        line
        for line in code.splitlines()
        if re.search(r"\sv(movap[sd]|movdqa(32|64)?|movnt\w+)\s", line) and "(" in line
    ]
    assert [line for line in moves if re.search("[yz]mm", line)] == []
