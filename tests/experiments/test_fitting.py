"""The commands of experiments/fitting: what cannot be used is told in a line, before the work."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from experiments.fitting.command import parser_of, told

COMMANDS = ("__main__", "images", "person", "structure", "views")


@pytest.mark.parametrize("name", COMMANDS)
def test_what_cannot_be_used_is_a_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = importlib.import_module(f"experiments.fitting.{name}")
    for words, said in ((["--frames", "0"], "--frames must be at least 1, got 0"),
                        (["--json", str(tmp_path / "no/such.json")], "no/such.json")):  # fmt: skip
        assert command.main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and said in error and error.count("\n") == 1


def test_figures_are_printed_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    args = parser_of("experiments.fitting", "text", 3).parse_args(["--json", str(file)])
    assert told(lambda: {"frames": args.frames}, args) == 0
    assert capsys.readouterr().out == file.read_text() + "\n" == '{\n "frames": 3\n}\n\n'
