"""Sound that comes through a pipe or standard input is kept, read to its end, and shown while it comes."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from facetalk.audio import load_audio, spool
from facetalk.errors import InputError
from tests.helpers.wav_files import voice, wav


def test_a_pipe_is_read(tmp_path: Path) -> None:
    pipe, sound = tmp_path / "pipe.wav", voice(0.5)
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(wav(sound, size=0xFFFFFFFF)))
    writer.start()
    samples = load_audio(pipe)
    writer.join()
    np.testing.assert_allclose(samples, sound, atol=1e-4)


def test_a_pipe_that_goes_on_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever waits for a pipe sees what has come."""

    class Bar(spool.tqdm):  # type: ignore[misc]
        def __init__(self, **options: object) -> None:
            assert options["disable"] is None
            super().__init__(**options | {"disable": False, "delay": 0.0, "mininterval": 0.0})

    monkeypatch.setattr(spool, "tqdm", Bar)
    sound = voice(40.0)
    np.testing.assert_allclose(load_audio(io.BytesIO(wav(sound))), sound, atol=1e-4)
    assert "sound: 1.05MB" in capsys.readouterr().err


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = voice(0.5)
    stdin = io.TextIOWrapper(io.BytesIO(wav(sound)))
    monkeypatch.setattr("sys.stdin", stdin)
    np.testing.assert_allclose(load_audio("-"), sound, atol=1e-4)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"no sound" * 100)))
    with pytest.raises(InputError, match="standard input: not a sound file"):
        load_audio("-")
