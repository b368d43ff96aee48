"""Files against the Khronos glTF validator (npm package gltf-validator, which runs in Node)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from mesh_scenes import painted_ball, some_poses, sphere, talking_ball, watching_ball
from npm import packages

from facetalk.mesh import Mesh, RiggedSequence
from facetalk.mesh.export import export
from facetalk.mesh.gltf_read import GlbFile, _split_glb

SCRIPT = Path(__file__).with_name("validate_gltf.mjs")
VERSION = "2.0.0-dev.3.10"


@pytest.fixture(scope="session")
def validator() -> list[str]:
    """The command that validates the files named after it."""
    cache = packages(f"gltf-validator@{VERSION}")
    return ["node", str(SCRIPT), str(cache)]


_GENERATED = "MESH_PRIMITIVE_GENERATED_TANGENT_SPACE"
"""A warning of files with normal maps: that readers make tangents themselves.

They do it as the format says; tangents in the file would need morph targets of their own.
"""


def problems(validator: list[str], *files: Path) -> dict[str, list[str]]:
    """Errors and warnings per file, but for that one."""
    done = subprocess.run([*validator, *map(str, files)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said: dict[str, list[str]] = json.loads(done.stdout)
    return {file: [line for line in lines if _GENERATED not in line] for file, lines in said.items()}


def test_every_kind_of_file_is_valid(tmp_path: Path, validator: list[str]) -> None:
    rig, eyes = talking_ball(30), watching_ball(30)
    plain = Mesh(*sphere())
    still = RiggedSequence(rig.base, rig.basis, np.zeros((2, 6), np.float32))
    dense = np.random.default_rng(0).uniform(-0.01, 0.01, rig.basis.shape)
    beyond = RiggedSequence(rig.base, rig.basis, rig.weights * 2.0 - 0.5, names=rig.names)
    files = [
        export(tmp_path / "sparse.glb", rig, fps=25, audio=(np.zeros(1600), 16000)),
        export(tmp_path / "dense.glb", RiggedSequence(rig.base, dense, rig.weights), fps=25),
        export(tmp_path / "bits.glb", rig, fps=25, quantize=True),
        export(
            tmp_path / "dense-bits.glb", RiggedSequence(rig.base, dense, rig.weights), fps=25, quantize=True
        ),
        export(tmp_path / "pca.glb", rig, fps=25, basis="pca"),
        export(tmp_path / "beyond.glb", beyond, fps=25),
        export(tmp_path / "one.glb", rig[:1], fps=25),
        export(tmp_path / "moved.glb", rig, fps=25, pose=some_poses(30)),
        export(tmp_path / "moved-bits.glb", rig, fps=25, pose=some_poses(30), quantize=True),
        export(tmp_path / "still.glb", still, fps=25),
        export(tmp_path / "eyes.glb", eyes, fps=25),
        export(tmp_path / "eyes-bits.glb", eyes, fps=25, pose=some_poses(30), quantize=True),
        export(tmp_path / "eyes-pca.glb", eyes, fps=25, basis="pca"),
        export(tmp_path / "plain.glb", RiggedSequence(plain, rig.basis, rig.weights), fps=29.97),
        export(tmp_path / "painted.glb", painted_ball(), fps=25),
        export(tmp_path / "painted-bits.glb", painted_ball(), fps=25, quantize=True, texture_size=256),
        export(tmp_path / "unpainted.glb", painted_ball(), fps=25, texture_size=0),
        export(tmp_path / "painted.vrm", painted_ball(), fps=25, texture_size=256),
        export(tmp_path / "flipbook.glb", [plain, Mesh(*sphere(9, 11)), plain], fps=25),
    ]
    found = problems(validator, *files)
    assert set(found) == {str(f) for f in files}
    assert not any(found.values()), found


def test_the_validator_is_listened_to(tmp_path: Path, validator: list[str]) -> None:
    raw = bytearray(export(tmp_path / "talk.glb", talking_ball(3), fps=25).read_bytes())
    at = raw.index(b'"componentType":5126')
    raw[at : at + 20] = b'"componentType":5999'
    (tmp_path / "talk.glb").write_bytes(raw)
    assert problems(validator, tmp_path / "talk.glb")[str(tmp_path / "talk.glb")]


@pytest.mark.parametrize("quantize", [False, True])
def test_who_takes_the_first_view_for_zeros_finds_zeros(tmp_path: Path, quantize: bool) -> None:
    file = GlbFile(export(tmp_path / "talk.glb", talking_ball(3), fps=25, quantize=quantize))
    sparse = [entry for entry in file.list("accessors") if "sparse" in entry]
    assert sparse and not any("bufferView" in entry for entry in sparse)
    view = file.list("bufferViews")[0]
    assert view["byteLength"] >= 12 * max(entry["count"] for entry in sparse)
    _, binary = _split_glb((tmp_path / "talk.glb").read_bytes())
    assert binary is not None and not any(binary[: view["byteLength"]]) and view["byteOffset"] == 0
