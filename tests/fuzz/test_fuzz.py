"""Some iterations of every target of scripts/fuzz.py, and what it says when something falls over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fuzz.py"
TARGETS = ["glb", "gltf", "marching_cubes", "attention", "normals", "raster", "field_query", "field_grid",
           "field_invert", "field_band", "canonical_cache"]  # fmt: skip


def fuzz(folder: Path, *arguments: str) -> tuple[int, dict, str]:
    """(exit status, counts by target, output) of a run."""
    out = folder / "fuzz.json"
    command = [sys.executable, str(SCRIPT), "--json", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    return done.returncode, json.loads(out.read_text())["targets"], done.stdout + done.stderr


def test_nothing_falls_over(tmp_path: Path) -> None:
    status, counts, said = fuzz(tmp_path, "--targets", *TARGETS, "--iterations", "300")
    assert status == 0, said
    for name in TARGETS:
        entry = counts[name]
        assert entry["iterations"] == 300 == entry["ok"] + entry["refused"]
        assert entry["ok"] > 30 and entry["refused"] > 10, f"{name} attacks nothing: {entry}"


@pytest.mark.slow
def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    _, first, _ = fuzz(tmp_path, "--targets", "normals", "--iterations", "100")
    _, both, _ = fuzz(tmp_path, "--targets", "normals", "--iterations", "150")
    whole = tmp_path / "whole"
    whole.mkdir()
    _, once, _ = fuzz(whole, "--targets", "normals", "--iterations", "150")
    assert first["normals"]["iterations"] == 100
    assert all(both["normals"][key] == once["normals"][key] for key in ("iterations", "ok", "refused"))


def make_project(folder: Path, body: str) -> Path:
    """The script and the engine, with one target, whose iterations do ``body``."""
    script, fuzz_folder = folder / "scripts" / "fuzz.py", folder / "tests" / "fuzz"
    script.parent.mkdir()
    script.write_text(SCRIPT.read_text())
    fuzz_folder.mkdir(parents=True)
    (fuzz_folder / "targets.py").write_text(
        "import types\n"
        "at = iter(range(100))\n"
        "def run(rng):\n"
        f"    {body}\n"
        "mine = types.SimpleNamespace(make=lambda folder: run, allowed=(ValueError,), one_line=True)\n"
        "TARGETS = {'mine': mine}\n"
    )
    engine = SCRIPT.parent.parent / "tests" / "fuzz" / "engine.py"
    (fuzz_folder / "engine.py").write_text(engine.read_text())
    return script


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("raise KeyError('mine')", "tracebacks"),
        ("type('T', (), {'__del__': lambda self: 1 / 0})()", "tracebacks"),
        ("import ctypes; ctypes.string_at(0)", "crashes"),
        ("bytearray(3 << 30)", "out_of_memory"),
        ("import time; exec('while True: pass')", "hangs"),
    ],
)
def test_what_falls_over_is_counted_and_named(tmp_path: Path, body: str, kind: str) -> None:
    """A target of the test's own, in place of the real ones, fails at iteration 3 of 6."""
    script = make_project(tmp_path, f"if next(at) == 3: {body}")
    out = tmp_path / "fuzz.json"
    command = [sys.executable, str(script), "--json", str(out), "--iterations", "6"]
    quick = os.environ | {"FACETALK_FUZZ_PATIENCE": "0.05"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=quick)
    entry = json.loads(out.read_text())["targets"]["mine"]
    assert done.returncode == 1 and entry[kind] == 1
    assert entry["failures"][0]["iteration"] == 3 and str(entry["failures"][0]["what"]) in done.stdout
    assert entry["iterations"] == 6


def test_a_signal_keeps_the_counts(tmp_path: Path) -> None:
    """Ended in the middle of a piece, it writes what was done, and nothing of it counts as a crash."""
    out = tmp_path / "fuzz.json"
    seen = tmp_path / "seen"
    script = make_project(tmp_path, f"import time; open({str(seen)!r}, 'a').write('x'); time.sleep(0.01)")
    command = [sys.executable, str(script), "--json", str(out), "--iterations", "100000"]
    with subprocess.Popen(command) as run:
        while not (seen.exists() and seen.stat().st_size > 10) and run.poll() is None:
            time.sleep(0.05)
        run.terminate()
        assert run.wait(60) == 130
    entry = json.loads(out.read_text())["targets"]["mine"]
    assert 0 < entry["iterations"] == entry["ok"] < 100000
