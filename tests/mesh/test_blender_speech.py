"""How the Blender add-on runs the command, without Blender: what it asks, and whatever can go wrong."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from addon import addon_module

speech = addon_module("speech")
TAKE = '{"exportFps": 25, "facsNames": ["jawOpen"], "weightMat": [[0], [1]]}'

pytestmark = pytest.mark.skipif(os.name != "posix", reason="stands in for the command by a shell's script")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a command of a line of shell; what it leaves among temporary files is seen."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()

    def make(line: str) -> str:
        path = tmp_path / "facetalk"
        path.write_text(f"#!/bin/sh\nfor last; do :; done\n{line}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture(autouse=True)
def _nothing_stays(tmp_path: Path) -> object:
    yield
    assert not list((tmp_path / "temporary").glob("*"))


def test_what_it_is_asked_for() -> None:
    still = {name: slider[2] for name, slider in speech.SLIDERS.items()}
    words = speech.arguments(
        Path("/a b/-x.wav"), 30 / 1.001, 7, {**still, "smile": -0.5, "brow_activity": 0.0}
    )
    assert words == ["generate", "/a b/-x.wav", "--seed", "7", "--fps", "29.970029970029973",
                     "--smile", "-0.5", "--brow-activity", "0"]  # fmt: skip
    for rate in (0.5, 2000.0):
        assert "--fps" not in speech.arguments(Path("a.wav"), rate, 0, still)


def test_facetalk_understands_what_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Every slider at its end, up to where the recording is looked for."""
    from facetalk.cli import main

    for end in (0, 1):
        sliders = {name: slider[end] for name, slider in speech.SLIDERS.items()}
        words = speech.arguments(Path("/nowhere/speech.wav"), 24.0, 2**31 - 1, sliders)
        assert main([*words, "-o", "take.json"]) == 2
        assert "speech.wav" in capsys.readouterr().err


def test_what_it_makes_is_read(command: Callable[[str], str]) -> None:
    line = f"printf '%s' {shlex.quote(TAKE)} > \"$last\"; echo 'warning: quiet' >&2; echo note >&2"
    take, warnings = speech.Job(command(line), ["generate"], 60.0).wait()
    assert take.weights["jawOpen"].tolist() == [0.0, 1.0]
    assert warnings == ["warning: quiet"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("echo 'error: a.wav is no sound' >&2; exit 2", r"failed \(2\): a\.wav is no sound$"),
        ("printf 'Traceback:\\n  File\\nKeyError: 1\\n' >&2; exit 1", r"failed \(1\): KeyError: 1$"),
        ("exit 3", r"failed \(3\): it says nothing"),
        ("kill -9 $$", r"failed \(-9\)"),
        ("printf '\\377\\n' >&2; exit 1", r"failed \(1\)"),
        ("head -c 3000000 /dev/zero | tr '\\0' '\\n' >&2; echo 'error: end' >&2; exit 1", r": end$"),
        ("exit 0", "wrote no take"),
        ("echo '{' > \"$last\"", "cannot be read: take.json"),
    ],
)
def test_a_failure_is_told_in_a_line(command: Callable[[str], str], line: str, why: str) -> None:
    with pytest.raises(speech.SpeechError, match=why) as told:
        speech.Job(command(line), ["generate"], 60.0).wait()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("ending", ["cancel", "limit"])
def test_it_is_ended_with_all_that_it_started(
    command: Callable[[str], str], tmp_path: Path, ending: str
) -> None:
    child = tmp_path / "child"
    job = speech.Job(command(f"sleep 300 & echo $! > {child}.part; mv {child}.part {child}; wait"), [],
                     60.0 if ending == "cancel" else 1.0)  # fmt: skip
    end = time.monotonic() + 30
    while not child.exists() and time.monotonic() < end:
        time.sleep(0.01)
    if ending == "cancel":
        assert not job.done()
        job.cancel()
        job.cancel()  # once more does nothing
    else:
        with pytest.raises(speech.SpeechError, match="not done after"):
            job.wait()
    status = Path(f"/proc/{child.read_text().strip()}/status")
    while time.monotonic() < end and status.exists() and "zombie" not in status.read_text():
        time.sleep(0.01)
    assert not status.exists() or "zombie" in status.read_text()


def test_where_the_command_is(
    command: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = command("exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert speech.find("facetalk") == speech.find("") == speech.find(f" {path} ") == path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert speech.find("~/facetalk") == path
    for absent in ("facetalk2", str(tmp_path), "/nowhere/facetalk", "~nobody-of-that-name/facetalk"):
        with pytest.raises(speech.SpeechError, match="was not found: install facetalk"):
            speech.find(absent)


def test_what_cannot_be_run_is_told(tmp_path: Path, command: Callable[[str], str]) -> None:
    path = tmp_path / "facetalk"
    path.write_bytes(b"\x7fELF nonsense")
    path.chmod(0o755)
    with pytest.raises(speech.SpeechError, match="cannot be run"):
        speech.Job(str(path), ["generate"], 60.0)
    assert sys.executable  # a name with a null is none either
    with pytest.raises(speech.SpeechError, match="cannot be run"):
        speech.Job(sys.executable, ["a\0b"], 60.0)
