"""The recording's own file beside an animation: kept byte for byte, where players of glTF can read it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from facetalk.cli import main
from facetalk.errors import InputError
from facetalk.mesh import RiggedSequence
from facetalk.mesh.export import export
from tests.helpers.mesh_scenes import talking_ball


@pytest.fixture
def tune(tmp_path: Path) -> Path:
    """A tenth of a second as MP3."""
    path = tmp_path / "tune.mp3"
    soundfile.write(path, 0.1 * np.sin(np.arange(2400) / 5.0), 24_000, format="MP3")
    return path


def frames() -> RiggedSequence:
    return talking_ball(3)


def extras_of(path: Path) -> dict[str, object]:
    raw = path.read_bytes()
    length = struct.unpack("<I", raw[12:16])[0]
    extras: dict[str, object] = json.loads(raw[20 : 20 + length])["asset"]["extras"]
    return extras


@pytest.mark.parametrize("name", ["talk.glb", "talk.vrm"])
def test_it_is_copied_and_named(tmp_path: Path, tune: Path, name: str) -> None:
    out = tmp_path / name
    for _ in range(2):  # the second time the copy of the first is replaced
        export(out, frames(), fps=25, audio=tune, sound="original")
    assert out.with_suffix(".mp3").read_bytes() == tune.read_bytes()
    assert not out.with_suffix(".wav").exists()
    assert extras_of(out)["audio"] == "talk.mp3"


def test_what_lies_there_is_not_replaced(tmp_path: Path, tune: Path) -> None:
    own = tmp_path / "talk.mp3"
    own.write_bytes(b"mine")
    with pytest.raises(InputError, match="did not write the file"):
        export(tmp_path / "talk.glb", frames(), fps=25, audio=tune, sound="original")
    assert own.read_bytes() == b"mine" and not (tmp_path / "talk.glb").exists()
    export(tmp_path / "talk.glb", frames(), fps=25, audio=tune, sound="original", force=True)
    assert own.read_bytes() == tune.read_bytes()


def test_a_recording_that_lies_there_already_is_used(tmp_path: Path, tune: Path) -> None:
    before = tune.stat().st_ino
    export(tmp_path / "tune.glb", frames(), fps=25, audio=tune, sound="original")
    assert tune.stat().st_ino == before and extras_of(tmp_path / "tune.glb")["audio"] == "tune.mp3"


def test_what_cannot_be_kept_is_refused(tmp_path: Path, tune: Path) -> None:
    film = tmp_path / "film.mkv"
    film.write_bytes(tune.read_bytes())
    for wrong, what in [
        ({"audio": film}, "cannot be kept as it is"),
        ({"audio": (np.zeros(1600, np.float32), 16_000)}, "has to be a file"),
        ({"audio": tune, "pad": (0.2, 0.0)}, "no silence around it"),
        ({"audio": None}, "needs a recording"),
    ]:
        with pytest.raises(InputError, match=what):
            export(tmp_path / "talk.glb", frames(), fps=25, sound="original", **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is a folder"):
        export(tmp_path / "talk.ply", frames(), fps=25, audio=tune, sound="original")
    with pytest.raises(InputError, match="sound must be one of"):
        export(tmp_path / "talk.glb", frames(), fps=25, audio=tune, sound="mp3")  # type: ignore[arg-type]
    tune.write_bytes(b"no sound at all")
    with pytest.raises(InputError):
        export(tmp_path / "talk.glb", frames(), fps=25, audio=tune, sound="original")
    assert not list(tmp_path.glob("talk*"))


def test_the_command(tmp_path: Path, tune: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["generate", str(tune), "--sound", "original", "--steps", "1", "-o"]
    assert main([*start, str(tmp_path / "talk.glb")]) == 0
    assert (tmp_path / "talk.mp3").read_bytes() == tune.read_bytes()
    capsys.readouterr()
    for name, options, what in [
        ("a.csv", [], "--sound is for"),
        ("a.ply", [], "--sound is for"),
        ("a.glb", ["--pad", "1"], "no silence around it"),
        ("a.glb", ["--track", "1"], "leave out --track"),
    ]:
        assert main([*start, str(tmp_path / name), *options]) == 2
        said = capsys.readouterr().err
        assert what in said and said.count("\n") == 1, said
    assert not list(tmp_path.glob("a.*"))
