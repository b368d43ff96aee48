"""UFaceTalkComponent of examples/unreal on a stub of the engine, and what Unreal's build tool reads."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soxr
from unreal import BLOCK, MODULE, PLUGIN, RATE, ROOT, SCENES, STEP, at, compiled, engine, frames

from facetalk.native import NativeModel

SHAPES = ["jawOpen", "mouthSmile_R", "browInnerUp", "", "tongueOut", "eyeBlink_L", "jawOpen"]
LATENCY = float(np.float32(0.05))


@pytest.fixture(scope="module")
def sound(speech) -> np.ndarray:
    """Six seconds of 24 kHz."""
    return np.ascontiguousarray(soxr.resample(speech, 16_000, RATE), "<f4")


@pytest.fixture(scope="module")
def play(tmp_path_factory, folder, sound):
    home = tmp_path_factory.mktemp("component")
    sound.tofile(home / "sound.f32")
    sources = [SCENES / "ComponentScene.cpp", *sorted(MODULE.glob("Private/*.cpp"))]
    scene = compiled(home / "scene", *engine(home / "engine"), *sources)

    def run(*commands: str) -> tuple[list[str], np.ndarray, np.ndarray]:
        words = [scene, folder, home / "sound.f32", home / "out.txt"]
        lines = "\n".join(commands) + "\n"
        done = subprocess.run(words, input=lines, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
        empty = (home / "out.txt").stat().st_size == 0
        rows = np.zeros((0, 14)) if empty else np.loadtxt(home / "out.txt", ndmin=2)
        return done.stdout.splitlines(), rows, np.fromfile(home / "out.txt.f32", "<f4")

    return run


def test_morph_targets_show_what_is_heard(play, folder, sound):
    said, rows, heard = play("facing 0", "begin", f"say {3 * RATE}", "finish", "count", "play 150", "end")
    assert re.fullmatch(r"delay 0\.2\d+ playing 1 first 1", said[0])
    assert said[1] == f"took {3 * RATE} waiting 3.000 starts 1"
    assert said[2:] == ["counted 0", "end 0 0 0 0 0 0 0 0"]  # no memory in a picture; all is put back
    assert np.array_equal(heard, sound[: 150 * BLOCK])
    model = NativeModel(folder)
    names = [*model.names, "tongueUp", "tongueForward", "tongueOut"]
    truth = frames(folder, sound[: 3 * RATE])
    pictures = slice(65, 150)
    seconds = rows[pictures, 0] - STEP - LATENCY
    shown = at(seconds, truth)
    for column, shape in enumerate(SHAPES, start=1):
        halves = [shape] if shape in names else [f"{shape}_L", f"{shape}_R"] if shape else []
        expected = sum((shown[:, names.index(half)] for half in halves), np.zeros(85)) / max(len(halves), 1)
        assert np.abs(rows[pictures, column] - expected).max() < 1e-5, shape
    assert rows[pictures, 1].max() > 0.1
    pose = shown[:, -6:]
    turns = np.degrees(pose[:, :3]) * [-1, -1, 1]
    assert np.abs(rows[pictures, 8:11] - turns).max() < 1e-3 and np.ptp(turns[:, 0]) > 1
    assert np.abs(rows[pictures, 11:] - pose[:, [5, 3, 4]] * [0.1, -0.1, 0.1]).max() < 1e-4


def test_what_an_engine_does_meanwhile(play, sound):
    """Several channels, a voice that was taken away, a mesh that is gone, a generator that outlives all."""
    said, _, heard = play("channels 2", "begin", f"say {RATE}", "finish", "play 60")
    assert np.array_equal(heard.reshape(-1, 2)[:RATE], np.stack([sound[:RATE]] * 2, axis=1))
    said, _, heard = play(
        "begin", f"say {RATE}", "play 20", "stolen", "play 10", "say 240", "finish", "play 60"
    )
    assert said[-1].endswith("starts 2")
    assert np.array_equal(heard[30 * BLOCK :][: RATE - 20 * BLOCK + 240], sound[20 * BLOCK : RATE + 240])
    said, rows, _ = play("begin", f"say {RATE}", "lose", "play 30", "end")
    assert rows[:, 1].max() > 0.05 and said[-1].startswith("end 0")
    said, rows, _ = play("begin", "one", f"say {RATE}", "play 30")
    assert not rows[:, 1:4].any() and rows[:, 7].max() > 0.05
    assert play("begin", f"say {RATE}", "play 5", "held")[0][-1] == f"held {BLOCK}"
    _, _, heard = play("begin", f"say {RATE}", "play 10", "interrupt", "play 20", "end")
    assert np.array_equal(heard[: 10 * BLOCK], sound[: 10 * BLOCK]) and not heard[10 * BLOCK :].any()


def test_what_is_refused_is_told(play):
    said, rows, _ = play("model", "begin", "say 480", "finish", "interrupt", "play 3", "end")
    assert said[0].startswith(
        "LogFaceTalk: Error: Voice: /plugins/FaceTalk/Resources/nothing/audio/config.json"
    )
    assert said[1:] == ["delay 0.000000 playing 0 first 0", "took 0 waiting 0.000 starts 0",
                        "end 0 0 0 0 0 0 0 0"]  # fmt: skip
    assert not rows[:, 1:].any()
    said = play("whisper", "begin")[0]
    assert said[0].startswith("LogFaceTalk: Error: Voice: ")
    assert "whisper/listener.safetensors: no such file" in said[0]
    assert play("lookahead -1", "begin")[0][0].startswith("LogFaceTalk: Error: Voice: look_ahead_s: ")
    said, rows, _ = play("begin", "smile 7", f"say {RATE}", "finish", "play 40")
    assert "LogFaceTalk: Warning: Voice: smile: expected -1 to 1, got 7" in said
    assert rows[:, 1].max() > 0.05


def test_what_unreal_build_tool_reads():
    """Names that have to agree, and a macro that would be the library's if they were others."""
    described = json.loads((PLUGIN / "FaceTalk.uplugin").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert described["FileVersion"] == 3 and described["VersionName"] == project["version"]
    name = described["Modules"][0]["Name"]
    assert name == MODULE.name and described["Modules"][0]["Type"] == "Runtime"
    rules = (MODULE / f"{name}.Build.cs").read_text()
    assert f"public class {name} : ModuleRules" in rules and f"public {name}(ReadOnlyTargetRules" in rules
    header = (MODULE / "Public/FaceTalkComponent.h").read_text()
    assert f"{name.upper()}_API UFaceTalkComponent" in header
    assert f"#define {name.upper()}_API" not in (ROOT / "csrc/facetalk.h").read_text()
    assert re.findall(r'#include "(.*)"', header)[-1] == "FaceTalkComponent.generated.h"
    assert (
        f"IMPLEMENT_MODULE(FDefaultModuleImpl, {name})" in (MODULE / "Private/FaceTalkModule.cpp").read_text()
    )


def test_the_page_says_what_works(tmp_path):
    """The commands of docs/embedding.md put there what the rules of the module ask for."""
    text = (ROOT / "docs/embedding.md").read_text().partition("### Unreal")[2].partition("\n## ")[0]
    commands = re.findall(r"^ {4}(\w.*)$", text, re.M)
    assert [command.split()[0] for command in commands] == ["mkdir", "cp", "cd", "mkdir", "cp", "cp", "cp"]
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    again = re.findall(r"^ {4}(\w.*)$", (PLUGIN / "Source/ThirdParty/README.md").read_text(), re.M)
    assert commands[3:] == again
    variables = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-ec", "\n".join(commands)], cwd=tmp_path, env=variables, check=True)
    plugin = tmp_path / "Game/Plugins/FaceTalk"
    rules = (plugin / "Source/FaceTalkUnreal/FaceTalkUnreal.Build.cs").read_text()
    named = dict(re.findall(r'string (\w+) = Windows \? "[^"]+" : "([^"]+)"', rules))
    assert named == {"Loaded": "libfacetalk.so", "Linked": "libfacetalk.so"}
    for words in re.findall(r"Path\.Combine\(((?:PluginDirectory|Home)[^)]*)\)", rules):
        first, *rest = (named.get(word.strip(), word.strip().strip('"')) for word in words.split(","))
        start = plugin if first == "PluginDirectory" else plugin / "Source/ThirdParty/facetalk"
        assert start.joinpath(*(part for part in rest if part != "...")).exists(), words
    assert (plugin / "Source/ThirdParty/facetalk/include/facetalk.hpp").is_file()
    assert NativeModel(plugin / "Resources/facetalk").names
