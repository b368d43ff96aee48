"""``--identity`` by a file: a code, or a motion of the person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from facetalk.cli import main
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk


@pytest.fixture(scope="module")
def person() -> np.ndarray:
    return FaceTalk.from_pretrained("default", "cpu").head.default_identity + np.float32(0.05)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    path = tmp_path / "speech.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0.0, 0.1, 4000), 16000)
    return path


@pytest.mark.parametrize("name", ["person.npy", "person.safetensors", "PERSON.SAFETENSORS"])
def test_a_person_is_read_from_a_code_and_from_a_motion(
    name: str, person: np.ndarray, speech: Path, tmp_path: Path
) -> None:
    file, out = tmp_path / name, tmp_path / "talk.safetensors"
    if name.endswith(".npy"):
        np.save(file, person)
    else:
        Motion(np.zeros((3, 53), np.float32), 25.0, person).save(tmp_path / "fit.safetensors").rename(file)
    words = ["--encoder", "model", "--identity", str(file)]
    assert main(["generate", str(speech), "-o", str(out), *words]) == 0
    np.testing.assert_array_equal(Motion.load(out).identity, person)
    assert main(["batch", str(speech.parent), "-o", str(tmp_path / "out"), "--workers", "1", *words]) == 0
    np.testing.assert_array_equal(Motion.load(tmp_path / "out/speech.safetensors").identity, person)


def test_a_motion_is_not_replaced_by_what_it_is_read_for(
    person: np.ndarray, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fit.safetensors"
    Motion(np.zeros((3, 53), np.float32), 25.0, person).save(file)
    before = file.read_bytes()
    for where in (["-o", str(file)], ["-o", str(tmp_path / "talk.glb"), "--motion", str(file)]):
        assert main(["generate", str(speech), *where, "--identity", str(file)]) == 2
        assert "is the input" in capsys.readouterr().err
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"no motion", None])
def test_a_motion_without_a_person_of_this_head_is_one_line(
    content: bytes | None, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "fit.safetensors", tmp_path / "talk.safetensors"
    if content is None:
        Motion(np.zeros((3, 53), np.float32), 25.0).save(file)
    else:
        file.write_bytes(content)
    assert main(["generate", str(speech), "-o", str(out), "--identity", str(file)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--identity" in error and "fit.safetensors" in error
    assert not out.exists()
