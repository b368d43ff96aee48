"""Morph targets as editors and engines want them: names, weights in [0, 1], one basis a head."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from mesh_scenes import sphere, talking_ball, watching_ball
from PIL import Image
from scipy.spatial.transform import Rotation

from facetalk.cli import main
from facetalk.data.expressions import EXPRESSION_NAMES, arkit_name
from facetalk.errors import InputError
from facetalk.mesh import Mesh, RiggedSequence
from facetalk.mesh.export import export
from facetalk.mesh.gltf import rows_in_file, split_by_material
from facetalk.mesh.gltf_read import GlbFile
from facetalk.mesh.tongue import TONGUE_NAMES
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk
from facetalk.render import video
from facetalk.render.render import render
from facetalk.render.scene import AnimatedScene


def as_blender_poses(path: Path) -> np.ndarray:
    """(T, V, 3) metres of every frame, with weights clamped as Blender's importer does.

    A shape key's slider spans [0, 1], widened by the first key alone, and holds every later one
    (io_scene_gltf2, gltf2_blender_animation_weight.py: ``min(coords[1:2])``).
    """
    file = GlbFile(path)
    sampler = file.list("animations")[0]["samplers"][0]
    weights = file.array(sampler["output"]).reshape(len(file.array(sampler["input"])), -1)
    low, high = np.minimum(weights[0], 0.0), np.maximum(weights[0], 1.0)
    weights = np.clip(weights, low, high)
    scale = np.array(file.list("nodes")[0].get("scale", [1.0] * 3))
    pieces = []
    for primitive in file.list("meshes")[0]["primitives"]:
        rest = file.array(primitive["attributes"]["POSITION"])
        shapes = np.stack([file.array(target["POSITION"]) for target in primitive["targets"]])
        pieces.append((rest + np.tensordot(weights, shapes, axes=1)) * scale)
    for number in file.list("nodes")[0].get("children", []):
        eye = file.list("nodes")[number]
        turn = Rotation.from_quat(rotations_of(file, number)).as_matrix()
        for primitive in file.list("meshes")[eye["mesh"]]["primitives"]:
            rest = file.array(primitive["attributes"]["POSITION"])
            pieces.append((rest @ np.swapaxes(turn, 1, 2) + eye["translation"]) * scale)
    return np.concatenate(pieces, axis=1)


def rotations_of(file: GlbFile, node: int) -> np.ndarray:
    """(T, 4) keys of a node's rotation."""
    talk = file.list("animations")[0]
    channel = next(c for c in talk["channels"] if c["target"] == {"node": node, "path": "rotation"})
    return file.array(talk["samplers"][channel["sampler"]]["output"])


def distance(path: Path, rig: RiggedSequence) -> float:
    """Largest distance in mm between what Blender shows and the frames."""
    rows = rows_in_file(rig)
    return 1e3 * float(np.linalg.norm(as_blender_poses(path) - rig.positions()[:, rows], axis=2).max())


def weights_of(path: Path) -> np.ndarray:
    file = GlbFile(path)
    return file.array(file.list("animations")[0]["samplers"][0]["output"])


def mesh_bytes(path: Path) -> list[bytes]:
    """Everything of the mesh, but for the order of the file."""
    file = GlbFile(path)
    primitives = file.list("meshes")[0]["primitives"]
    numbers = [n for p in primitives for part in (p["attributes"], *p["targets"]) for n in part.values()]
    return [file.array(number).tobytes() for number in numbers]


def signed(frames: int = 40) -> RiggedSequence:
    """A rig whose weights leave [0, 1] on both sides, but not in its first frame."""
    rig = watching_ball(frames)
    weights = rig.weights * 2.2 - 0.7
    weights[0] = 0.5
    return RiggedSequence(rig.base, rig.basis, weights, names=rig.names, eyes=rig.eyes)


@pytest.mark.parametrize("quantize", [True, False])
@pytest.mark.parametrize("basis", ["shapes", "pca", None])
def test_blender_plays_what_was_decoded(tmp_path: Path, basis, quantize: bool) -> None:
    rigs = {"plain": talking_ball(40), "signed": signed(), "eyes": watching_ball(40)}
    for name, rig in rigs.items():
        out = export(tmp_path / f"{name}.glb", rig, fps=25, basis=basis, quantize=quantize)
        assert distance(out, rig) <= 0.1
        assert weights_of(out).min() >= 0.0 and weights_of(out).max() <= 1.0
        # At rest, which a viewer shows before it plays: the rig at weights of zero.
        file = GlbFile(out)
        mesh = file.list("meshes")[0]
        assert min(mesh["weights"]) >= 0.0 and max(mesh["weights"]) <= 1.0
        scale = np.array(file.list("nodes")[0].get("scale", [1.0] * 3))
        rows = rows_in_file(rig)
        for primitive in mesh["primitives"]:
            shown = file.array(primitive["attributes"]["POSITION"]).astype(np.float64)
            here, rows = rows[: len(shown)], rows[len(shown) :]
            for weight, target in zip(mesh["weights"], primitive["targets"], strict=True):
                shown += weight * file.array(target["POSITION"])
            np.testing.assert_allclose(shown * scale, rig.base.vertices[here], atol=1.5e-4)
        assert len(rows) == sum(len(eye.rows) for eye in rig.eyes)


def test_meshes_without_a_rig_play_right_too(tmp_path: Path) -> None:
    rig = signed()
    out = export(tmp_path / "talk.glb", iter(rig), fps=25)
    # Meshes do not tell of eyes: they are morphed as the rest is.
    rows = np.concatenate([piece.rows for piece in split_by_material(rig.base)])
    assert np.linalg.norm(as_blender_poses(out) - rig.positions()[:, rows], axis=2).max() <= 1e-4
    assert weights_of(out).min() >= 0.0 and weights_of(out).max() <= 1.0
    assert GlbFile(out).list("meshes")[0]["extras"]["targetNames"][0] == "motion_0"


def test_weights_beyond_have_targets_of_their_own(tmp_path: Path) -> None:
    rig = signed()
    names = GlbFile(export(tmp_path / "a.glb", rig, fps=25)).list("meshes")[0]["extras"]["targetNames"]
    assert names[:6] == list(rig.names)
    assert (
        set(names[6:]) <= {f"shape{j}{side}" for j in range(6) for side in ("Beyond", "Negative")}
        and names[6:]
    )


def test_clips_of_a_head_have_the_same_mesh(tmp_path: Path) -> None:
    """Whatever they say, and however little: a shape that a clip does not use is there as well."""
    rig = talking_ball(60)
    quiet = rig.weights[:9] * np.float32(0.3)
    quiet[:, 2] = 0.0
    paths = [
        export(
            tmp_path / f"{number}.glb", RiggedSequence(rig.base, rig.basis, weights, names=rig.names), fps=25
        )
        for number, weights in enumerate((rig.weights, quiet, np.zeros((1, 6))))
    ]
    assert mesh_bytes(paths[0]) == mesh_bytes(paths[1]) == mesh_bytes(paths[2])


def test_no_vertex_is_held_twice_but_on_borders(tmp_path: Path) -> None:
    rig = talking_ball(3)
    file = GlbFile(export(tmp_path / "talk.glb", rig, fps=25))
    primitives = file.list("meshes")[0]["primitives"]
    assert len(primitives) == 3
    numbers = [p["attributes"]["POSITION"] for p in primitives]
    assert len(set(numbers)) == 3
    held = 0
    for primitive in primitives:
        count, _ = file.shape(primitive["attributes"]["POSITION"])
        assert set(file.array(primitive["indices"]).tolist()) == set(range(count))
        assert all(file.shape(number)[0] == count for t in primitive["targets"] for number in t.values())
        held += count
    part = rig.base.part[rig.base.faces]
    border = len(np.unique(rig.base.faces[(part != part[:, :1]).any(axis=1)]))
    assert len(rig.base) < held <= len(rig.base) + border


def test_the_built_in_head_has_arkit_names(tmp_path: Path) -> None:
    model = FaceTalk.from_pretrained("default", "cpu")
    weights = np.random.default_rng(0).random((6, 53)) ** 4
    tongue = np.random.default_rng(1).random((6, 3)).astype(np.float32)
    still = Motion(weights.astype(np.float32), 25.0, np.zeros(0, np.float32), {})
    rig = model.decode(dataclasses.replace(still, tongue=tongue), temporal_sigma=0)
    out = export(tmp_path / "talk.glb", rig, fps=25)
    names = GlbFile(out).list("meshes")[0]["extras"]["targetNames"]
    assert names == [*map(arkit_name, EXPRESSION_NAMES), *TONGUE_NAMES] and len(set(names)) == 56
    assert {"jawOpen", "eyeBlinkLeft", "mouthSmileRight", "mouthClose", "browInnerUpLeft"} <= set(names)
    assert not any("_" in name for name in names)
    assert distance(out, rig) <= 0.1
    # The weights of a target are the motion's, so it can be edited by its name.
    expected = np.hstack([still.expressions, tongue])
    np.testing.assert_array_equal(weights_of(out).reshape(6, 56), expected)
    # A motion that leaves the tongue where it is has the same shapes, so that clips can share a mesh.
    bare = export(tmp_path / "bare.glb", model.decode(still, temporal_sigma=0), fps=25)
    assert GlbFile(bare).list("meshes")[0]["extras"]["targetNames"] == names
    assert not weights_of(bare).reshape(6, 56)[:, 53:].any()
    assert arkit_name("my_L") == "my_L"


def with_keys_at_the_beginning(path: Path, fps: float) -> Path:
    """The file as facetalk 0.1 wrote it: key i at i / fps."""
    raw = bytearray(path.read_bytes())
    file = GlbFile(path)
    times = file.array(file.list("animations")[0]["samplers"][0]["input"])
    at = raw.index(times.tobytes())
    raw[at : at + times.nbytes] = (times - np.float32(0.5 / fps)).astype(np.float32).tobytes()
    path.write_bytes(raw)
    return path


def test_files_with_keys_at_the_beginning_of_frames_are_drawn_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = talking_ball(12)
    new = AnimatedScene(export(tmp_path / "new.glb", rig, fps=25))
    old = AnimatedScene(with_keys_at_the_beginning(export(tmp_path / "old.glb", rig, fps=25), 25))
    assert (new.start, old.start) == (0.02, 0.0) and new.frames == old.frames == 12
    assert new.duration == old.duration == 12 / 25
    rows = np.concatenate([piece.rows for piece in split_by_material(rig.base)])
    for scene in (new, old):
        for frame in (0, 5, 11):
            positions = scene.geometry(scene.start + frame / 25).positions
            np.testing.assert_allclose(positions, rig[frame].vertices[rows], atol=1e-4)
    # What the encoder is given: what it makes of equal pictures depends on what ran before it.
    drawn: list[np.ndarray] = []

    def keep(path: Path, pictures: Iterable[np.ndarray], **options: object) -> None:
        drawn.append(np.stack(list(pictures)).astype(int))
        path.touch()

    monkeypatch.setattr(video, "write_video", keep)
    sheets = []
    for name in ("new", "old"):
        sheet = render(tmp_path / f"{name}.glb", tmp_path / f"{name}.png", size=(64, 64), frames=3)
        sheets.append(np.asarray(Image.open(sheet)).astype(int)[20:])  # without the times in the corner
        render(tmp_path / f"{name}.glb", tmp_path / f"{name}.mp4", size=(64, 64))
    assert np.abs(sheets[0] - sheets[1]).mean() < 0.5
    assert drawn[0].shape == drawn[1].shape and np.abs(drawn[0] - drawn[1]).max() <= 2


def test_a_stepped_frame_is_shown_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    """0.12 s as float32 is a little later than 0.12 s: looked at there, the frame before would be seen."""
    sizes = [0.05 + 0.002 * i for i in range(16)]
    out = export(
        tmp_path / "f.glb", [Mesh(*sphere(5 + i % 2, 8, size)) for i, size in enumerate(sizes)], fps=25
    )
    scene = AnimatedScene(out)
    for frame, size in enumerate(sizes):
        assert np.abs(scene.geometry(scene.start + frame / 25).positions[:, 1]).max() == pytest.approx(size)


def test_what_would_do_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rig = talking_ball(2)
    with pytest.raises(InputError, match="basis must be one of shapes, pca"):
        export(tmp_path / "a.glb", rig, fps=25, basis="vertices")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"a \.ply has none"):
        export(tmp_path / "a.ply", rig, fps=25, basis="pca")
    with pytest.raises(InputError, match="one topology"):
        export(tmp_path / "a.glb", [rig[0], Mesh(*sphere(5, 6))], fps=25, basis="pca")
    (tmp_path / "m.safetensors").touch()
    for words in (
        ["a.ply", "--basis", "pca"],
        ["a.ply", "--no-quantize"],
        ["a.usda", "--quantize"],
        ["a.ply", "--float"],
        ["a.glb", "--basis", "shapes", "--topology", "marching-cubes"],
    ):
        line = ["export", str(tmp_path / "m.safetensors"), "-o", str(tmp_path / words[0]), *words[1:]]
        assert main(line) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {'--basis' if '--basis' in words else '--quantize'}"), error
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
