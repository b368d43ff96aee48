"""Files that are kept in the cache, or in a temporary folder where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from facetalk import kept
from facetalk.errors import InputError

NAME = "thing.safetensors"


def whole(path: Path) -> bool:
    return path.is_file() and path.read_bytes() == b"whole"


def ask() -> Path:
    return kept.file("room", NAME, lambda: b"whole", whole)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kept, "_temporary", {})
    monkeypatch.setenv(kept.VARIABLE, str(tmp_path / "cache"))


def test_a_file_is_made_once(tmp_path: Path) -> None:
    path = ask()
    assert path == tmp_path / "cache" / "room" / NAME and whole(path)
    os.utime(path, (1, 1))
    assert kept.file("room", NAME, lambda: pytest.fail("it is there"), whole) == path
    assert path.stat().st_mtime > 1  # so that it is not the first to go
    path.write_bytes(b"half")
    assert ask() == path and whole(path)


def test_the_oldest_go_where_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_BYTES", 9)
    path = ask()
    os.utime(path, (1, 1))
    kept.file("room", "other.safetensors", lambda: b"other", lambda path: False)
    assert [entry.name for entry in path.parent.iterdir()] == ["other.safetensors"]


@pytest.mark.parametrize("how", ["off", "file", "folder"])
def test_where_nothing_is_kept_a_file_goes_with_the_process(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "off":
        monkeypatch.setenv(kept.VARIABLE, "")
    elif how == "file":
        (tmp_path / "cache").write_text("mine")
    else:
        (tmp_path / "cache" / "room" / NAME).mkdir(parents=True)
    code = f"""
from facetalk import kept
path = kept.file("room", {NAME!r}, lambda: b"whole", lambda path: path.is_file())
assert path == kept.file("room", {NAME!r}, lambda: 1 / 0, lambda path: path.is_file())
assert path.read_bytes() == b"whole"
import os
child = os.fork()
if not child:
    raise SystemExit  # a process that was forked takes nothing away
os.waitpid(child, 0)
assert path.exists()
print(path)
"""
    (tmp_path / "temporary").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "temporary")
    assert not list((tmp_path / "temporary").iterdir())
    assert how != "file" or (tmp_path / "cache").read_text() == "mine"


def test_no_place_at_all_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kept.VARIABLE, "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(InputError, match="set FACETALK_CACHE or TMPDIR"):
        ask()


def test_what_cannot_be_made_is_not_kept(tmp_path: Path) -> None:
    def fail() -> bytes:
        raise InputError("no weights")

    with pytest.raises(InputError, match="no weights"):
        kept.file("room", NAME, fail, whole)
    assert not (tmp_path / "cache").exists()
