"""``facetalk view``: the whole verb, and everything that can be wrong with it."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import select
import shutil
import signal
import socket
import urllib.request
from pathlib import Path

import pytest
from forked import ended, started
from mesh_scenes import talking_ball

from facetalk.cli import main
from facetalk.mesh.export import export
from facetalk.view import files as module

LIBRARY = json.loads((module.PAGE / "npm/package.json").read_text())["facetalk"]["three"]


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page with something in the place of three.js, so that a build without it is tested as well."""
    place = tmp_path / "page"
    shutil.copytree(module.PAGE, place)
    for name in LIBRARY:
        (place / "npm/three" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "npm/three" / name).write_text("three")
    monkeypatch.setattr(module, "page_files", functools.partial(module.page_files, place))
    return place


def test_it_shows_a_file_until_ctrl_c(page: Path, tmp_path: Path) -> None:
    path = export(tmp_path / "talk.glb", talking_ball(3), fps=25, audio=([0.0] * 1600, 16_000))
    reader, writer = os.pipe()
    with (tmp_path / "errors").open("w+b") as errors, open(os.devnull, "rb") as nothing:
        words = ["view", str(path), "--no-browser", "--port", "0"]
        child = started(words, nothing.fileno(), writer, errors.fileno())
        try:
            assert select.select([reader], [], [], 60.0)[0], "where it is"
            url = os.read(reader, 1000).decode().split()[0]
            about = json.loads(urllib.request.urlopen(f"{url}model.json", timeout=10).read())
            assert (
                about["given"] == {"name": "talk.glb", "glb": True, "sound": True}
                and "jawOpen" in about["names"]
            )
            assert urllib.request.urlopen(f"{url}given.glb", timeout=10).read() == path.read_bytes()
            assert urllib.request.urlopen(f"{url}given.sound", timeout=10).read()[:4] == b"RIFF"
            for name in ("", "main.js", "worklet.js", "three/build/three.module.js", "head.glb"):
                assert urllib.request.urlopen(url + name, timeout=10).status == 200
            assert str(tmp_path) not in json.dumps(about)
        finally:
            os.kill(child, signal.SIGINT)
            status = ended(child)
    os.close(reader)
    os.close(writer)
    assert status == 130 and (tmp_path / "errors").read_text() == "interrupted\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "70000"], "--port must lie in"),
        (["--port", "{taken}"], "choose another --port"),
        (["--host", "no.such.host.invalid"], "no such host"),
        (["--host", "192.0.2.1"], "cannot listen"),  # a number of nobody (RFC 5737)
        (["--port", "0", "--model", "nobody"], "no model"),
        (["gone.glb"], "no such file"),
        (["gone.wav"], "no such file"),
        (["bad.glb"], "bad.glb"),
        (["bad.wav"], "bad.wav"),
    ],
)
def test_bad_input_is_one_line(
    page: Path, words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name in ("bad.glb", "bad.wav"):
        (tmp_path / name).write_bytes(b"RIFFglTF")
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        status = main(["view", "--no-browser", *(word.replace("{taken}", taken) for word in words)])
    out, error = capfd.readouterr()
    assert status == 2 and out == "" and said in error and error.count("\n") == 1


def test_whisper_is_asked_for_before_the_page_is_there(
    page: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    assert main(["view", "--no-browser", "--port", "0", "--encoder", "whisper"]) == 2
    told = capsys.readouterr()
    assert "facetalk[whisper]" in told.err and "shows it" not in told.out


def test_a_build_without_three_says_what_is_missing(page: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (page / "npm/three" / LIBRARY[-1]).unlink()
    assert main(["view"]) == 2
    error = capfd.readouterr().err
    assert "three.js" in error and "npm" in error and error.count("\n") == 1
