"""``facetalk generate`` says what is not well with a recording, in one line, and goes on."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from facetalk.cli import main
from facetalk.motion import Motion


def test_silence_is_one_line_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "silent.wav", tmp_path / "talk.safetensors"
    soundfile.write(path, np.zeros(8000), 16000)
    assert main(["generate", str(path), "-o", str(out)]) == 0
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(said) == 1 and "silent.wav: the sound is silent" in said[0]
    assert Motion.load(out).provenance["hearing"] == ["the sound is silent; the face will not speak"]


def test_standard_input_and_its_copy_beside_the_animation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, (24000, 2)).astype(np.float32)
    data = io.BytesIO()
    soundfile.write(data, sound, 48000, format="WAV")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data.getvalue())))
    out = tmp_path / "talk.glb"
    assert main(["generate", "-", "-o", str(out)]) == 0
    copy, rate = soundfile.read(tmp_path / "talk.wav", dtype="float32")
    assert rate == 48000
    np.testing.assert_allclose(copy, sound, atol=1e-4)
    assert "warning" not in capfd.readouterr().err


def test_a_track_that_is_not_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(8000), 16000)
    assert main(["generate", str(path), "--track", "2", "-o", str(tmp_path / "a.safetensors")]) == 2
    assert "no sound track 2" in capfd.readouterr().err
