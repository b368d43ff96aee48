"""The layers of docs/architecture.md: who may import and include whom, and that a breach is noticed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"
pytestmark = pytest.mark.skipif(not CSRC.is_dir(), reason="the sources are not part of an installation")

# What a folder of csrc may include besides its own files.
BELOW = {
    "core": set(),
    "capi": {"core", "cpu", "cuda", "facetalk.h"},
    "cpu": {"core"},
    "cuda": {"core"},
    "glibc": set(),  # stands in for symbols of newer C libraries; the linker alone knows of it
    "python": {"core", "cpu", "cuda"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def breaches(csrc: Path) -> list[str]:
    found = []
    for folder, below in BELOW.items():
        for source in sorted((csrc / folder).rglob("*")):
            if source.suffix not in (".h", ".c", ".cpp", ".cu", ".cuh"):
                continue
            for name in INCLUDE.findall(source.read_text(encoding="utf-8")):
                top = name.split("/")[0]
                # The emulation of a GPU is put on the include path by tests alone.
                if top not in below | {folder, "emulate"}:
                    found.append(f"{source.relative_to(csrc)} includes {name}")
    return found


def test_every_folder_of_the_core_has_its_layer() -> None:
    assert {path.name for path in CSRC.iterdir() if path.is_dir()} == set(BELOW)


def test_the_core_includes_downward() -> None:
    assert breaches(CSRC) == []


def test_an_upward_include_is_found(tmp_path: Path) -> None:
    shutil.copytree(CSRC, tmp_path / "csrc")
    path = tmp_path / "csrc" / "core" / "status.h"
    path.write_text('#include "cpu/parallel.h"\n' + path.read_text())
    assert breaches(tmp_path / "csrc") == ["core/status.h includes cpu/parallel.h"]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as c; c()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layers")
    shutil.copytree(
        ROOT / "facetalk", folder / "facetalk",
        ignore=shutil.ignore_patterns("*.so", "*.safetensors", "__pycache__"),
    )  # fmt: skip
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("units.py", "import facetalk.pipeline", "facetalk.units is not allowed to import facetalk.pipeline"),
        ("nphm/binding.py", "import facetalk.nphm.field", "No circles BROKEN"),
    ],
)
def test_the_linter_finds_what_is_put_in(copied: Path, file: str, line: str, said: str) -> None:
    path = copied / "facetalk" / file
    before = path.read_text()
    path.write_text(before + f"\n\n{line}\n")
    try:
        result = lint(copied)
    finally:
        path.write_text(before)
    assert result.returncode != 0
    assert said in result.stdout


def test_the_linter_is_content(copied: Path) -> None:
    result = lint(copied)
    assert result.returncode == 0, result.stdout
