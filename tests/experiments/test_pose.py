"""The table of the head's motion: its rows, its page, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from experiments.pose import __main__ as pose


def test_it_measures_and_fills_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, out = tmp_path / "page.md", tmp_path / "pose.json"
    page.write_text(f"before\n{pose.BEGIN}old\n{pose.END}\nafter\n")
    monkeypatch.setattr(sys, "argv", ["pose", "--seeds", "1", "--json", str(out), "--page", str(page)])
    assert pose.main() == 0
    report, text = json.loads(out.read_text()), page.read_text()
    assert set(report["rows"]) == set(pose.ROWS) and report["recordings"] == ["demo.flac"]
    assert text.startswith("before\n") and text.endswith(f"{pose.END}\nafter\n") and "old" not in text
    assert text.count("\n| ") == len(pose.ROWS) + 2 and capsys.readouterr().out.strip() in text
    rows = report["rows"]
    assert rows["still"]["fastest"] == 0.0 and rows["double"]["pitch_sd"] > 1.3 * rows["model"]["pitch_sd"]
    assert rows["model"]["pitch_f0_r"] < -0.3 < rows["still"]["pitch_f0_r"]
    assert "Busso" in report["people"]["pitch_sd"]["source"]


def test_what_it_cannot_use_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pose", str(tmp_path / "no.wav")])
    assert pose.main() == 2 and "no.wav" in capsys.readouterr().err
    with pytest.raises(pose.InputError, match="has no"):
        pose.fill("a page", {})
