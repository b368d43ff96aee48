"""Heads as USD, evaluated by USD's own skinning and checked by its own checker."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from mesh_scenes import some_poses, sphere, talking_ball, watching_ball
from scipy.spatial.transform import Rotation

pytest.importorskip("pxr", reason="pip install 'facetalk[usd]'")
from pxr import Usd, UsdGeom, UsdMedia, UsdSkel, UsdValidation, Vt

from facetalk.cli import main
from facetalk.errors import InputError, NotInstalledError
from facetalk.mesh import Mesh
from facetalk.mesh.export import export
from facetalk.mesh.pose import moved
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk


def complaints(path: Path) -> list[str]:
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    found = UsdValidation.ValidationContext(validators).Validate(Usd.Stage.Open(str(path)))
    return [f"{error.GetName()}: {error.GetMessage()}" for error in found]


def posed(stage: Usd.Stage, time: float) -> np.ndarray:
    """Points of all meshes at a time code, as UsdSkel deforms them."""
    cache = UsdSkel.Cache()
    root = UsdSkel.Root(stage.GetPrimAtPath("/talk/head"))
    cache.Populate(root, Usd.PrimDefaultPredicate)
    skeleton = cache.GetSkelQuery(UsdSkel.Skeleton(stage.GetPrimAtPath("/talk/head/skeleton")))
    names = list(skeleton.GetAnimQuery().GetBlendShapeOrder())
    weights = skeleton.GetAnimQuery().ComputeBlendShapeWeights(time)
    out = []
    for prim in Usd.PrimRange(root.GetPrim()):
        if not prim.IsA(UsdGeom.Mesh):
            continue
        query = cache.GetSkinningQuery(prim)
        blend = UsdSkel.BlendShapeQuery(UsdSkel.BindingAPI(prim))
        mapped = query.GetBlendShapeMapper().Remap(weights)
        assert len(names) == len(weights) and mapped is not None
        sub = blend.ComputeSubShapeWeights(mapped)
        points = Vt.Vec3fArray(UsdGeom.Mesh(prim).GetPointsAttr().Get())
        assert blend.ComputeDeformedPoints(
            *sub, blend.ComputeBlendShapePointIndices(), blend.ComputeSubShapePointOffsets(), points
        )
        assert query.ComputeSkinnedPoints(skeleton.ComputeSkinningTransforms(time), points, time)
        out.append(np.array(points))
    return np.concatenate(out)


def test_the_checker_is_listened_to(tmp_path: Path) -> None:
    path = export(tmp_path / "talk.usda", talking_ball(2), fps=24)
    path.write_text(path.read_text().replace('defaultPrim = "talk"', ""))
    assert complaints(path)


def farthest(points: np.ndarray, expected: np.ndarray) -> float:
    """Largest distance of a point from the nearest expected one: pieces repeat points on borders."""
    from scipy.spatial import cKDTree

    return float(cKDTree(expected).query(points)[0].max())


@pytest.mark.parametrize("suffix", [".usda", ".usdc", ".usd"])
def test_usd_plays_what_was_decoded(tmp_path: Path, suffix: str) -> None:
    rig = watching_ball(12)
    path = export(tmp_path / f"talk{suffix}", rig, fps=30, audio=(np.zeros(8000), 16_000))  # not USD's own 24
    stage = Usd.Stage.Open(str(path))
    assert (stage.GetTimeCodesPerSecond(), stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (30, 0, 12)
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    for frame in range(12):
        assert farthest(posed(stage, frame + 0.5), rig[frame].vertices) < 1e-4
    notes = stage.GetRootLayer().customLayerData["facetalk"]
    assert (
        notes["fps"] == stage.GetFramesPerSecond() == 30
        and notes["frames"] == 12
        and 0 <= notes["vertex_error_mm"] <= 0.1
    )
    sound = UsdMedia.SpatialAudio(stage.GetPrimAtPath("/talk/sound"))
    assert sound.GetFilePathAttr().Get().path == "./talk.wav" and path.with_suffix(".wav").is_file()
    assert complaints(path) == []


def test_the_joint_carries_a_head_that_moves(tmp_path: Path) -> None:
    rig = watching_ball(8)
    rig.pose = some_poses(8)
    path = export(tmp_path / "talk.usda", rig, fps=24)
    stage = Usd.Stage.Open(str(path))
    box = UsdGeom.Boundable(stage.GetPrimAtPath("/talk/head")).GetExtentAttr().Get()
    for frame in range(8):
        found = posed(stage, frame + 0.5)
        assert farthest(found, moved(rig[frame], rig.pose[frame]).vertices) < 1e-4
        assert (found >= np.array(box[0]) - 1e-5).all() and (found <= np.array(box[1]) + 1e-5).all()
    assert complaints(path) == []


def test_each_eye_has_a_joint(tmp_path: Path) -> None:
    rig = watching_ball(8)
    stage = Usd.Stage.Open(str(export(tmp_path / "talk.usda", rig, fps=24)))
    skeleton = UsdSkel.Skeleton(stage.GetPrimAtPath("/talk/head/skeleton"))
    assert list(skeleton.GetJointsAttr().Get()) == ["root", "root/leftEye", "root/rightEye"]
    animation = UsdSkel.Animation(stage.GetPrimAtPath("/talk/head/skeleton/talk"))
    for frame in range(8):
        turns = animation.GetRotationsAttr().Get(frame + 0.5)
        found = Rotation.from_quat([[*turn.GetImaginary(), turn.GetReal()] for turn in turns]).as_rotvec()
        wanted = [np.zeros(3), *(eye.turns(rig.weights[[frame]])[0] for eye in rig.eyes)]
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    plain = Usd.Stage.Open(str(export(tmp_path / "plain.usda", talking_ball(2), fps=24)))
    still = UsdSkel.Animation(plain.GetPrimAtPath("/talk/head/skeleton/talk"))
    assert list(still.GetJointsAttr().Get()) == ["root"] and not still.GetRotationsAttr().GetTimeSamples()


def test_the_built_in_heads_shapes_have_their_names(tmp_path: Path) -> None:
    model = FaceTalk.from_pretrained("default", "cpu")
    weights = np.random.default_rng(1).random((3, 53)).astype(np.float32) ** 4
    tongue = np.random.default_rng(2).random((3, 3)).astype(np.float32)
    rig = model.decode(Motion(weights, 25.0, tongue=tongue), temporal_sigma=0)
    stage = Usd.Stage.Open(str(export(tmp_path / "talk.usdc", rig, fps=25)))
    animation = UsdSkel.Animation(stage.GetPrimAtPath("/talk/head/skeleton/talk"))
    assert tuple(animation.GetBlendShapesAttr().Get()) == rig.names
    samples = animation.GetBlendShapeWeightsAttr().GetTimeSamples()
    assert samples == [0.5, 1.5, 2.5]
    for frame, time in enumerate(samples):
        found = animation.GetBlendShapeWeightsAttr().Get(time)
        np.testing.assert_allclose(found, [*weights[frame], *tongue[frame]], atol=1e-6)
        assert farthest(posed(stage, time), rig[frame].vertices) <= 1e-4
        box = UsdGeom.Mesh(stage.GetPrimAtPath("/talk/head/skin")).GetExtentAttr().Get()
        assert (rig[frame].vertices.min(0) >= np.array(box[0]) - 1e-4).all()
    color = UsdGeom.PrimvarsAPI(stage.GetPrimAtPath("/talk/head/skin")).GetPrimvar("displayColor")
    assert np.ptp(np.array(color.Get()), axis=0).max() > 0.1


def test_topology_that_changes_becomes_points_that_do(tmp_path: Path) -> None:
    meshes = [Mesh(*sphere(5 + i % 3, 8, 0.1 + 0.01 * i)) for i in range(40)]
    for i, mesh in enumerate(meshes):
        mesh.colors = np.full((len(mesh), 3), (2 * i, 128, 255), np.uint8)
    path = export(tmp_path / "talk.usdc", meshes, fps=25)
    stage = Usd.Stage.Open(str(path))
    assert stage.GetEndTimeCode() == 40 and stage.GetTimeCodesPerSecond() == 25
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/talk/head"))
    for frame, expected in enumerate(meshes):
        for time in (frame, frame + 0.49):  # shown until the next one comes
            np.testing.assert_array_equal(mesh.GetPointsAttr().Get(time), expected.vertices)
            indices = np.array(mesh.GetFaceVertexIndicesAttr().Get(time)).reshape(-1, 3)
            np.testing.assert_array_equal(indices, expected.faces)
            color = np.array(mesh.GetDisplayColorAttr().Get(time))
            assert color.shape == (len(expected), 3)
            # Bytes are sRGB, and a half of it is a fifth of the light.
            np.testing.assert_allclose(color[0, 1:], [0.2158605, 1.0], atol=1e-6)
            assert (color[0, 0] > 0.0) == (frame > 0) and color[0, 0] < 0.1
    assert complaints(path) == []


def test_what_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="quantize is for"):
        export(tmp_path / "a.usda", talking_ball(2), fps=25, quantize=True)
    (tmp_path / "a.wav").write_bytes(b"mine")
    with pytest.raises(InputError, match="--force"):
        export(tmp_path / "a.usda", talking_ball(2), fps=25, audio=(np.zeros(800), 16_000))
    monkeypatch.setitem(sys.modules, "pxr", None)
    monkeypatch.delitem(sys.modules, "facetalk.mesh.usd")
    with pytest.raises(NotInstalledError, match="usd-core"):
        export(tmp_path / "b.usda", talking_ball(2), fps=25)
    (tmp_path / "m.safetensors").touch()
    assert main(["export", str(tmp_path / "m.safetensors"), "-o", str(tmp_path / "b.usda")]) == 2
    assert "usd-core" in capsys.readouterr().err and not (tmp_path / "b.usda").exists()
