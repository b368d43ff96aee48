"""Blender with the add-on of examples/blender, for the tests of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from addon import PYTHON, Played

import facetalk

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The add-on as the docs have people pack it."""
    (command,) = re.findall(r"^ {4}(python -m zipfile .*)$", (ROOT / "docs/formats.md").read_text(), re.M)
    folder = tmp_path_factory.mktemp("archive")
    (folder / "examples").symlink_to(ROOT / "examples")
    words = shlex.split(command)
    subprocess.run([sys.executable, *words[1:]], cwd=folder, check=True)
    return folder / words[-2]


@pytest.fixture
def played(tmp_path: Path, archive: Path) -> Played:
    """Runs a scene of blender_scenes.py; returns its result and what Blender reported."""
    package, python = Path(facetalk.__file__).resolve().parents[1], shlex.quote(sys.executable)
    lines = {
        "facetalk": f'PYTHONPATH={shlex.quote(str(package))} exec {python} -m facetalk "$@"',
        "fails": "echo 'error: nothing works here' >&2; exit 2",
        "another command": "exit 0",
        "hangs": "exec sleep 300",
    }
    for name, line in lines.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)

    def play(scene: str, **options: Any) -> tuple[Any, str]:
        given, result = tmp_path / "given.json", tmp_path / "result.json"
        common = {"archive": str(archive), "command": str(tmp_path / "facetalk"), "folder": str(tmp_path)}
        given.write_text(json.dumps({**common, "sound": str(ROOT / "examples/demo.flac"), **options}))
        home = {**os.environ, "BLENDER_USER_RESOURCES": str(tmp_path / "blender")}
        home.pop("PYTHONPATH", None)
        script = Path(__file__).with_name("blender_scenes.py")
        done = subprocess.run([str(PYTHON), str(script), scene, str(given), str(result)],
                              env=home, capture_output=True, text=True, timeout=300)  # fmt: skip
        # bpy may crash when it is unloaded, after its work
        assert result.is_file(), done.stderr[-3000:] + done.stdout[-1000:]
        assert "Traceback" not in done.stderr, done.stderr[-3000:]
        return json.loads(result.read_text()), done.stdout

    return play
