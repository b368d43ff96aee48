"""C++ of examples/unreal and tests/native/unreal, compiled as in Unreal: without exceptions and RTTI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from facetalk import get_include, get_library
from facetalk.frames import Frames
from facetalk.native import NativeModel

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "examples/unreal/FaceTalk"
MODULE = PLUGIN / "Source/FaceTalkUnreal"
SCENES = ROOT / "tests/native/unreal"
RATE, BLOCK = 24_000, 480
STEP = BLOCK / RATE

FLAGS = ["-fno-exceptions", "-fno-rtti", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]


def compiled(out: Path, *words: str | Path, language: str = "c++17") -> Path:
    """The program of these files and options, all warnings being errors; skips where there is no compiler."""
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if not compiler:
        pytest.skip("needs a C++ compiler")
    library = Path(get_library()).parent
    options = [f"-std={language}", *FLAGS, f"-I{get_include()}", f"-I{MODULE / 'Private'}", "-pthread"]
    linked = [f"-L{library}", f"-Wl,-rpath,{library}", "-lfacetalk"]
    done = subprocess.run(
        [compiler, *options, *words, *linked, "-o", out], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out


def engine(home: Path) -> list[str]:
    """Options that find the stub under the names of the engine's headers that the plugin includes."""
    for path in MODULE.rglob("*"):
        for name in re.findall(r'^#include "([\w/.]+)"', path.read_text(), re.M) if path.is_file() else ():
            if not list(MODULE.rglob(name)):
                (home / name).parent.mkdir(parents=True, exist_ok=True)
                (home / name).write_text('#include "UnrealStub.h"\n')
    return [f"-I{home}", f"-I{SCENES}", f"-I{MODULE / 'Public'}"]


def frames(folder: Path, sound: np.ndarray) -> np.ndarray:
    """(T, C + U + 6) curves, weights of the tongue and poses of a clip as a stream gives them to Python."""
    model = NativeModel(folder)
    stream = model.stream(rate=RATE, pose=True, look_ahead=float(np.float32(0.2)))
    curves, contacts, pose = Frames.joined([stream.push(sound), stream.finish()])
    assert contacts is not None and pose is not None
    return np.hstack([curves, model.tongue_weights(contacts, curves), pose])


def at(seconds: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Frames between their middles."""
    middles = (np.arange(len(rows)) + 0.5) / 25
    return np.stack([np.interp(seconds, middles, column) for column in rows.T], axis=1)
