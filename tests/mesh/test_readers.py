"""three.js and Babylon.js, without a screen: what they play is what was decoded, under the names it has."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from mesh_scenes import painted_ball, some_poses, talking_ball, watching_ball
from npm import packages

from facetalk.mesh import RiggedSequence
from facetalk.mesh.export import export
from facetalk.mesh.gltf import rows_in_file

SCRIPT = Path(__file__).with_name("read_glb.mjs")
PACKAGES = {
    "three": ("three@0.187.0",),
    "babylon": ("@babylonjs/core@9.28.0", "@babylonjs/loaders@9.28.0"),
}


def played(reader: str, path: Path, times: list[float]) -> tuple[np.ndarray, list[str], list[int]]:
    """Positions (T, V, 3) at times in seconds, names of the targets, vertices of each primitive."""
    place = path.with_suffix(".f32")
    folder = packages(*PACKAGES[reader], large=reader == "babylon")
    command = ["node", str(SCRIPT), reader, str(folder), str(path), str(place), *map(str, times)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    return np.fromfile(place, np.float32).reshape(len(times), -1, 3), said["names"], said["vertices"]


def expected(rig: RiggedSequence) -> np.ndarray:
    return rig.positions()[:, rows_in_file(rig)]


@pytest.mark.parametrize("reader", list(PACKAGES))
@pytest.mark.parametrize(
    "options", [{}, {"quantize": True}, {"basis": "pca"}], ids=["floats", "16 bits", "pca"]
)
def test_it_plays_what_was_decoded(tmp_path: Path, reader: str, options: dict) -> None:
    rig = watching_ball(20)
    path = export(tmp_path / "talk.glb", rig, fps=25, **options)
    times = [(i + 0.5) / 25 for i in range(20)]
    found, names, vertices = played(reader, path, times)
    assert np.linalg.norm(found - expected(rig), axis=2).max() <= 1.01e-4
    assert names == list(rig.names) if "basis" not in options else names[0] == "motion_0"
    assert sum(vertices) == found.shape[1], "each primitive has its own"


@pytest.mark.parametrize("reader", list(PACKAGES))
def test_it_turns_the_head_as_its_pose_has_it(tmp_path: Path, reader: str) -> None:
    rig = watching_ball(20)
    rig.pose = some_poses(20)
    path = export(tmp_path / "talk.glb", rig, fps=25, quantize=True)
    found, _, _ = played(reader, path, [(i + 0.5) / 25 for i in range(20)])
    rows = rows_in_file(rig)
    placed = np.stack([rig.placed(frame).vertices[rows] for frame in range(20)])
    assert np.linalg.norm(found - placed, axis=2).max() <= 1.1e-4


@pytest.mark.parametrize("reader", list(PACKAGES))
def test_pictures_leave_the_motion_as_it_is(tmp_path: Path, reader: str) -> None:
    rig = painted_ball(5)
    path = export(tmp_path / "talk.glb", rig, fps=25, texture_size=256)
    found, _, _ = played(reader, path, [(i + 0.5) / 25 for i in range(5)])
    assert np.linalg.norm(found - expected(rig), axis=2).max() <= 1.01e-4


def test_a_clip_that_is_half_a_frame_late_is_seen(tmp_path: Path) -> None:
    rig = talking_ball(20)
    found, _, _ = played("three", export(tmp_path / "talk.glb", rig, fps=25), [i / 25 for i in range(20)])
    assert np.linalg.norm(found - expected(rig), axis=2).max() > 5e-4
