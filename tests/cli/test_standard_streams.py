"""Standard streams that are closed, that nobody reads to the end, or that find no space."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

Run = subprocess.CompletedProcess[str]


def process(words: Sequence[str], folder: Path, shell: str = "", stdout: int = subprocess.PIPE) -> Run:
    """The command as people start it: what it prints is kept until there is enough."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    command = ["sh", "-c", f'exec "$@" {shell}', "sh", sys.executable, "-m", "facetalk", *words]
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
        text=True, check=False, cwd=folder,
    )  # fmt: skip


@pytest.mark.parametrize("words", [["info"], ["--help"], ["generate", "--help"], ["--version"]])
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        run = process(words, tmp_path, stdout=write)
    finally:
        os.close(write)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("words", [["info"], ["--help"], ["render", "--help"]])
def test_output_that_finds_no_space_is_said_in_one_line(tmp_path: Path, words: list[str]) -> None:
    run = process(words, tmp_path, "> /dev/full")
    assert run.returncode == 2
    assert run.stderr == "error: cannot write to standard output: No space left on device\n"


@pytest.mark.skipif(os.name == "nt", reason="streams are closed by a POSIX shell")
def test_streams_that_are_closed(tmp_path: Path) -> None:
    """What would be printed there is not, and nothing else changes; files do not get their numbers."""
    time = np.arange(16000) / 16000
    sound = 0.3 * np.sin(2 * np.pi * 200 * time) * np.sin(2 * np.pi * 3 * time)
    soundfile.write(tmp_path / "speech.wav", sound, 16000)
    words = ["generate", "speech.wav", "--encoder", "model", "-o"]
    for number, closed in enumerate([">&-", "2>&-", "<&- >&- 2>&-"]):
        run = process([*words, f"{number}.csv"], tmp_path, closed)
        assert run.returncode == 0, run.stderr
    wanted = process([*words, "open.csv"], tmp_path)
    assert wanted.returncode == 0 and "25 fps" in wanted.stdout
    assert len({(tmp_path / f"{name}.csv").read_bytes() for name in (0, 1, 2, "open")}) == 1
    run = process(["generate", "-", "-o", "in.csv"], tmp_path, "<&-")
    assert run.returncode == 2 and run.stderr == "error: standard input is closed; pipe a recording into it\n"


@pytest.mark.skipif(os.name == "nt", reason="streams are closed by a POSIX shell")
def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """What a library writes to standard error would land in it."""
    code = (
        "import os; from facetalk.cli._streams import open_closed; open_closed(); "
        "print(os.open('made', os.O_CREAT | os.O_WRONLY))"
    )
    run = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", sys.executable, "-c", code],
        stdout=subprocess.PIPE, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert int(run.stdout) > 2
