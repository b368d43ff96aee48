"""C# of examples/ and tests/, compiled by Mono's mcs and run by mono, where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from facetalk import get_library

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "examples/unity/Runtime"
BOUND = [RUNTIME / "FaceTalkNative.cs", RUNTIME / "FaceTalkStream.cs"]
"""What binds the C library, free of Unity."""


def compiled(out: Path, *sources: Path) -> list[str]:
    """The command that runs a program of these files, all warnings being errors; skips where there is no mcs.

    C# 7.0 is what mcs and Unity 2019 both take without being asked.
    """
    compiler, runtime = shutil.which("mcs"), shutil.which("mono")
    if compiler is None or runtime is None:
        pytest.skip("no C# compiler: apt-get install mono-mcs")
    options = ["-langversion:7", "-warn:4", "-warnaserror"]
    done = subprocess.run(
        [compiler, *options, f"-out:{out}", *map(str, sources)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [runtime, str(out)]


def environment(library: Path | None = None) -> dict[str, str]:
    """The variables of a process that finds the library in a folder, or the package's."""
    folder = library or Path(get_library()).parent
    return {**os.environ, "LD_LIBRARY_PATH": str(folder), "LC_ALL": "C.UTF-8"}
