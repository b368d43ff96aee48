"""Files: morph targets, flip-books, PLY folders, the recording beside them, failures that leave nothing."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import trimesh
from mesh_scenes import some_poses, sphere, talking_ball
from scipy.spatial import cKDTree

from facetalk.errors import InputError
from facetalk.mesh import Mesh, RiggedSequence
from facetalk.mesh import glb as glb_module
from facetalk.mesh.export import export
from facetalk.mesh.gltf import split_by_material
from facetalk.mesh.gltf_read import GlbFile
from facetalk.mesh.materials import SKIN, srgb_to_linear
from facetalk.mesh.ply import read_ply
from facetalk.mesh.pose import moved
from facetalk.render.scene import AnimatedScene


def largest_error(path: Path, meshes: RiggedSequence) -> float:
    """Largest vertex distance in mm over all frames, between a file read back and the meshes."""
    scene = AnimatedScene(path)
    assert scene.frames == len(meshes)
    rows = file_rows(meshes.base)
    return 1e3 * max(
        float(
            np.linalg.norm(
                scene.geometry((i + 0.5) / scene.fps).positions - mesh.vertices[rows], axis=1
            ).max()
        )
        for i, mesh in enumerate(meshes)
    )


def file_rows(mesh: Mesh) -> np.ndarray:
    """Which vertex of the mesh each vertex of its file is."""
    return np.concatenate([piece.rows for piece in split_by_material(mesh)])


@pytest.mark.parametrize("quantize", [True, False])
@pytest.mark.parametrize("tolerance", [0.5, 0.1, 0.003])
def test_vertex_error_is_bounded_and_stated(tmp_path: Path, tolerance: float, quantize: bool) -> None:
    rig = talking_ball(40)
    out = export(tmp_path / "talk.glb", rig, fps=25, tolerance_mm=tolerance, quantize=quantize)
    error, notes = largest_error(out, rig), GlbFile(out).document["asset"]["extras"]
    assert error <= tolerance
    # What the file states is the error itself, to the rounding of float32 positions (1e-5 mm at 0.1 m).
    assert error - 2e-5 <= notes["vertex_error_mm"] <= error + 2e-4
    assert notes["frames"] == 40 and notes["fps"] == 25


def test_combined_motion_becomes_few_targets(tmp_path: Path) -> None:
    """Twelve shapes that move together have rank 2; own shapes of every vertex would cost more."""
    rng = np.random.default_rng(1)
    ball = talking_ball(50, shapes=12)
    dense = rng.uniform(-0.01, 0.01, ball.basis.shape).astype(np.float32)
    rig = RiggedSequence(ball.base, dense, (rng.random((50, 2)) @ rng.random((2, 12))).astype(np.float32))
    out = export(tmp_path / "talk.glb", rig, fps=25, basis="pca")
    assert len(GlbFile(out).list("meshes")[0]["primitives"][0]["targets"]) == 2
    assert largest_error(out, rig) <= 0.1


def test_stream_of_meshes_equals_rig(tmp_path: Path) -> None:
    rig = talking_ball(70)
    out = export(tmp_path / "talk.glb", iter(rig), fps=25, tolerance_mm=0.1)
    stated = GlbFile(out).document["asset"]["extras"]["vertex_error_mm"]
    assert largest_error(out, rig) <= stated + 2e-5 and stated <= 0.1
    assert len(GlbFile(out).list("meshes")[0]["primitives"][0]["targets"]) <= 6


def test_normals_colors_parts_and_times(tmp_path: Path) -> None:
    rig = talking_ball(25)
    file = GlbFile(export(tmp_path / "talk.glb", rig, fps=30))
    scene = AnimatedScene(tmp_path / "talk.glb")
    for index in (0, 11, 24):
        geometry = scene.geometry((index + 0.5) / 30)
        cosine = np.einsum("vc,vc->v", geometry.normals, rig[index].normals[file_rows(rig.base)])
        assert cosine.min() > np.cos(np.radians(5))
    colors = srgb_to_linear(rig.base.colors)[file_rows(rig.base)]
    np.testing.assert_allclose(scene.geometry(0.0).colors, colors, atol=1e-5)
    names = [m["name"] for m in file.list("materials")]
    assert names == ["skin", "eyes", "teeth"]
    counts = [len(file.array(p["indices"])) // 3 for p in file.list("meshes")[0]["primitives"]]
    assert sum(counts) == len(rig.base.faces) and min(counts) > 0
    sampler = file.list("animations")[0]["samplers"][0]
    np.testing.assert_allclose(file.array(sampler["input"]), (np.arange(25) + 0.5) / 30, atol=1e-6)
    assert sampler["interpolation"] == "LINEAR"
    assert file.list("meshes")[0]["extras"]["targetNames"] == list(rig.names or ())


@pytest.mark.parametrize("quantize", [False, True])
def test_a_node_in_the_neck_carries_a_head_that_moves(tmp_path: Path, quantize: bool) -> None:
    rig = talking_ball(30)
    still = export(tmp_path / "still.glb", rig, fps=25, quantize=quantize)
    rig.pose = some_poses(30)
    path = export(tmp_path / "talk.glb", rig, fps=25, quantize=quantize)
    scene = AnimatedScene(path)
    for frame in (0, 7, 29):
        expected = moved(rig[frame], rig.pose[frame])
        shown = scene.geometry((frame + 0.5) / 25)
        distance, nearest = cKDTree(expected.vertices).query(shown.positions)
        assert distance.max() < 2e-4
        assert np.abs(shown.normals - expected.normals[nearest]).max() < 0.2
    # Shapes, weights and the mesh's own numbers are those of the still head.
    one, other = (GlbFile(file) for file in (still, path))
    assert one.document["meshes"] == other.document["meshes"]
    names = [node["name"] for node in other.document["nodes"]]
    assert names == ["head", "neck"] and [node["name"] for node in one.document["nodes"]] == ["head"]
    moved_by = [c["target"] for c in other.document["animations"][0]["channels"]]
    assert [(t["node"], t["path"]) for t in moved_by] == [
        (0, "weights"),
        (1, "rotation"),
        (1, "translation"),
    ]


def test_what_has_no_node_is_shown_where_the_head_is(tmp_path: Path) -> None:
    rig, pose = talking_ball(3), some_poses(3)
    folder = export(tmp_path / "talk.ply", rig, fps=25, pose=pose)
    for frame in range(3):
        found = read_ply(folder / f"frame_{frame:05d}.ply")
        np.testing.assert_allclose(found.vertices, moved(rig[frame], pose[frame]).vertices, atol=1e-6)
    book = [Mesh(*sphere(5 + i, 7)) for i in range(3)]
    scene = AnimatedScene(export(tmp_path / "book.glb", book, fps=25, pose=pose))
    for frame in range(3):
        expected = moved(book[frame], pose[frame]).vertices
        assert cKDTree(expected).query(scene.geometry((frame + 0.5) / 25).positions)[0].max() < 1e-6


@pytest.mark.parametrize("name", ["talk.glb", "talk.ply", "talk.vrm"])
@pytest.mark.parametrize("rows", [2, 4])
def test_a_pose_of_other_frames_is_refused(tmp_path: Path, name: str, rows: int) -> None:
    with pytest.raises(InputError, match="pose"):
        export(tmp_path / name, talking_ball(3), fps=25, pose=some_poses(rows))
    assert list(tmp_path.iterdir()) == []


def test_trimesh_reads_the_rest_pose(tmp_path: Path) -> None:
    rig = talking_ball(5)
    loaded = trimesh.load(export(tmp_path / "talk.glb", rig, fps=25))
    bounds = np.stack([rig.base.vertices.min(0), rig.base.vertices.max(0)])
    np.testing.assert_allclose(loaded.bounds, bounds, atol=1e-6)
    assert sum(len(g.faces) for g in loaded.geometry.values()) == len(rig.base.faces)


def test_changing_topology_becomes_a_flipbook(tmp_path: Path) -> None:
    meshes = [Mesh(*sphere(8 + i, 12, 0.05 + 0.01 * i)) for i in range(4)]
    scene = AnimatedScene(export(tmp_path / "talk.glb", [meshes[0], *meshes], fps=10))
    np.testing.assert_allclose(scene.geometry(0.0).colors[0], srgb_to_linear(SKIN.color), atol=1e-6)
    assert scene.frames == 5 and scene.fps == 10
    for index, mesh in enumerate([meshes[0], *meshes]):
        np.testing.assert_allclose(scene.geometry((index + 0.5) / 10).positions, mesh.vertices, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2])
def test_short_and_still_sequences(tmp_path: Path, frames: int) -> None:
    rig = talking_ball(3)
    still = RiggedSequence(rig.base, rig.basis, np.zeros((frames, len(rig.basis)), np.float32))
    for name, meshes in (("still", still), ("short", rig[:frames])):
        assert largest_error(export(tmp_path / f"{name}.glb", meshes, fps=25), meshes) <= 0.1


@pytest.mark.parametrize("frames", [1, 3])
def test_stream_of_meshes_that_never_move(tmp_path: Path, frames: int) -> None:
    """A rig of no shapes at all."""
    ball = talking_ball(1)
    out = export(tmp_path / "talk.glb", iter([ball.base] * frames), fps=25)
    scene = AnimatedScene(out)
    expected = ball.base.vertices[file_rows(ball.base)]
    np.testing.assert_allclose(scene.geometry(0.0).positions, expected, atol=1e-7)
    assert scene.frames == frames


@pytest.mark.parametrize("name", ["talk.glb", "talk.ply"])
def test_no_frames(tmp_path: Path, name: str) -> None:
    for meshes in (talking_ball(0), iter([])):
        with pytest.raises(InputError, match="no frames"):
            export(tmp_path / name, meshes, fps=25)
    assert not list(tmp_path.iterdir())


def test_ply_folder_round_trip(tmp_path: Path) -> None:
    rig = talking_ball(3)
    folder = export(tmp_path / "talk.ply", rig, fps=25)
    assert sorted(p.name for p in folder.iterdir()) == [f"frame_{i:05d}.ply" for i in range(3)]
    export(folder, rig[:2], fps=25)  # replaces the folder
    assert len(list(folder.iterdir())) == 2
    mesh, back = rig[1], read_ply(folder / "frame_00001.ply")
    for name in ("vertices", "faces", "normals", "colors"):
        np.testing.assert_array_equal(getattr(back, name), getattr(mesh, name))
    other = trimesh.load(folder / "frame_00001.ply", process=False)
    np.testing.assert_allclose(other.vertices, mesh.vertices, atol=1e-7)
    np.testing.assert_array_equal(other.visual.vertex_colors[:, :3], mesh.colors)


def test_audio_beside(tmp_path: Path) -> None:
    tone = np.sin(np.arange(22050) / 22050 * 2 * np.pi * 220) * 0.5
    soundfile.write(tmp_path / "source.flac", tone, 22050)
    export(tmp_path / "talk.glb", talking_ball(25), fps=25, audio=tmp_path / "source.flac")
    back, rate = soundfile.read(tmp_path / "talk.wav")
    assert rate == 22050 and soundfile.info(tmp_path / "talk.wav").subtype == "PCM_16"
    np.testing.assert_allclose(back, tone, atol=1e-4)
    assert AnimatedScene(tmp_path / "talk.glb").audio == tmp_path / "talk.wav"
    # The user's own recording under that name is used as it is, not written again.
    soundfile.write(tmp_path / "own.wav", tone, 22050, subtype="FLOAT")
    before = (tmp_path / "own.wav").read_bytes()
    export(tmp_path / "own.glb", talking_ball(5), fps=25, audio=tmp_path / "own.wav")
    assert (tmp_path / "own.wav").read_bytes() == before


@pytest.mark.parametrize("name", ["talk.glb", "talk.ply"])
def test_failures_leave_nothing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Mesh]:
        yield from talking_ball(40)
        raise RuntimeError("the field failed")

    with pytest.raises(RuntimeError, match="field failed"):
        export(tmp_path / name, broken(), fps=25, audio=(np.zeros(1600), 16000))
    with pytest.raises(InputError, match="no such file"):
        export(tmp_path / name, talking_ball(2), fps=25, audio=tmp_path / "missing.wav")
    assert not list(tmp_path.iterdir())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(glb_module.shutil, "copyfileobj", full)
    monkeypatch.setattr("facetalk.mesh.ply.write_ply", full)
    with pytest.raises(InputError, match="no space left"):
        export(tmp_path / name, talking_ball(2), fps=25)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "fps", "message"),
    [
        ("talk.obj", 25.0, ".glb, .vrm"),
        ("nowhere/talk.glb", 25.0, "does not exist"),
        ("talk.glb", 0.0, "fps"),
    ],
)
def test_bad_requests(tmp_path: Path, name: str, fps: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        export(tmp_path / name, talking_ball(2), fps=fps)
