"""examples/readers: assimp, Godot and model-viewer show what was decoded, where each is installed."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from chromium import PROGRAM, Chromium
from mesh_scenes import painted_ball, some_poses
from npm import packages

from facetalk.mesh import RiggedSequence
from facetalk.mesh.export import export

READERS = Path(__file__).resolve().parents[2] / "examples/readers"
GODOT = next(filter(None, map(shutil.which, ("godot3-server", "godot3", "godot"))), None)
FRAMES = (0, 7, 19)
TIMES = [f"{(frame + 0.5) / 25:g}" for frame in FRAMES]

# Positions of all vertices in the frame of the file, after the viewer was put to a time.
POSITIONS = """(async () => {
  const viewer = document.querySelector("model-viewer");
  const { model } = viewer[Object.getOwnPropertySymbols(viewer).find((key) => key.description === "scene")];
  document.querySelector("audio").currentTime = TIME;
  for (let tries = 0; Math.abs(viewer.currentTime - TIME) > 1e-5; tries++) {
    if (tries > 300) throw new Error(`the viewer is at ${viewer.currentTime}`);
    await new Promise(requestAnimationFrame);
  }
  model.updateMatrixWorld(true);
  const back = model.matrixWorld.clone().invert(), found = [];
  model.traverse((part) => {
    if (!part.isMesh) return;
    const place = part.position.clone(), whole = back.clone().multiply(part.matrixWorld);
    for (let i = 0; i < part.geometry.attributes.position.count; i++)
      found.push(part.getVertexPosition(i, place).applyMatrix4(whole).toArray());
  });
  return found;
})()"""


@pytest.fixture
def rig() -> RiggedSequence:
    rig = painted_ball(20)
    rig.pose = some_poses(20)
    return rig


@pytest.fixture(autouse=True)
def _readers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(READERS))


def distance(lines: list[str], rig: RiggedSequence) -> float:
    from compare import largest_distance, read

    found = read(lines)
    assert len(found) == len(TIMES)
    return largest_distance(found, rig, 25.0)


def test_assimp(tmp_path: Path, rig: RiggedSequence) -> None:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    program = tmp_path / "positions"
    build = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", str(READERS / "positions.cpp")]
    done = subprocess.run([*build, "-lassimp", "-o", str(program)], capture_output=True, text=True)
    if done.returncode and ("assimp/" in done.stderr and "No such file" in done.stderr):
        pytest.skip("no assimp: apt-get install libassimp-dev")
    assert done.returncode == 0, done.stderr
    path = export(tmp_path / "talk.glb", rig, fps=25)
    said = subprocess.run([str(program), str(path), *TIMES], capture_output=True, text=True, check=True)
    lines = said.stdout.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("shape")] == list(rig.names or ())
    assert distance(lines, rig) <= 0.1
    assert subprocess.run([str(program), str(program), "0"], capture_output=True).returncode == 1


def test_godot(tmp_path: Path, rig: RiggedSequence) -> None:
    if GODOT is None:
        pytest.skip("no Godot: apt-get install godot3-server")
    project = tmp_path / "project"
    shutil.copytree(READERS / "godot", project)
    export(project / "talk.glb", rig, fps=25)
    home = {**os.environ, "HOME": str(tmp_path), "TIMES": " ".join(TIMES)}
    editor = subprocess.Popen(
        [GODOT, "--path", str(project), "--editor", "--quit"],
        env=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:  # it imports at once, but 3.2 may take minutes to quit
        end = time.monotonic() + 60
        while not list(project.glob(".*/**/*.md5")) and editor.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(0.3)
    finally:
        editor.kill()
        editor.wait()
    command = [GODOT, "--path", str(project), "-s", str(project / "positions.gd")]
    said = subprocess.run(command, env=home, capture_output=True, text=True, timeout=60)
    lines = said.stdout.splitlines()
    assert any(line.startswith("track neck/head") and "shape3" in line for line in lines), said.stderr
    assert distance(lines, rig) <= 0.1


@pytest.fixture
def page(tmp_path: Path, rig: RiggedSequence) -> Iterator[str]:
    """The address of the page, with a file beside it."""
    if PROGRAM is None:
        pytest.skip("no Chromium")
    folder = packages("@google/model-viewer@4.4.0", large=True)
    (tmp_path / "node_modules").symlink_to(folder / "node_modules")
    shutil.copy(READERS / "model-viewer.html", tmp_path)
    export(tmp_path / "talk.glb", rig, fps=25, audio=(np.zeros(16000), 16000))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/model-viewer.html"
    server.shutdown()
    server.server_close()


def test_model_viewer(tmp_path: Path, page: str, rig: RiggedSequence) -> None:
    with Chromium(tmp_path / "profile") as browser:
        browser.open(page)
        browser.until(
            "document.querySelector('model-viewer')?.loaded && document.querySelector('audio').readyState > 1"
        )
        lines = []
        for text in TIMES:
            lines.append(f"frame {text}")
            lines += [" ".join(map(str, row)) for row in browser.run(POSITIONS.replace("TIME", text))]
        assert distance(lines, rig) <= 0.1
        asked = browser.run("performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert asked and all(name.startswith(("http://127.0.0.1:", "blob:", "data:")) for name in asked), (
            asked
        )
        browser.open(page + "?file=../talk.glb")
        browser.until("document.querySelector('#wrong')?.hidden === false")
