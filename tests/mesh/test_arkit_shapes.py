"""Files by exactly ARKit's names: which targets they have, what they show, and what is stated as lost."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from mesh_scenes import watching_ball

from facetalk.cli import main
from facetalk.data.arkit import ARKIT_NAMES, ArkitFace
from facetalk.errors import InputError
from facetalk.mesh import RiggedSequence
from facetalk.mesh.arkit import in_arkit
from facetalk.mesh.export import export
from facetalk.mesh.gltf import rows_in_file
from facetalk.mesh.gltf_read import GlbFile
from facetalk.mesh.tongue import TONGUE_NAMES
from facetalk.mesh.vrm import presets
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk
from facetalk.render.scene import AnimatedScene

NAMES = ("browInnerUpLeft", "browInnerUpRight", "jawOpen", "eyeLookUpLeft", "somethingElse", "tongueOut")


def halved(weights: np.ndarray) -> RiggedSequence:
    """A ball with eyes whose first two shapes are the halves of one of ARKit's."""
    ball = watching_ball(2)
    return RiggedSequence(ball.base, ball.basis, weights, names=NAMES, eyes=ball.eyes)


def equal_halves(frames: int = 20) -> RiggedSequence:
    weights = np.random.default_rng(3).random((frames, len(NAMES))).astype(np.float32)
    weights[:, 1] = weights[:, 0]
    weights[:, NAMES.index("somethingElse")] = 0.0
    return halved(weights)


def largest_error(path: Path, rig: RiggedSequence) -> float:
    """mm, over all frames and vertices of a file, eyes among them."""
    scene, rows = AnimatedScene(path), rows_in_file(rig)
    assert scene.frames == len(rig)
    found = [scene.geometry((i + 0.5) / scene.fps).positions - rig[i].vertices[rows] for i in range(len(rig))]
    return 1e3 * float(np.linalg.norm(found, axis=2).max())


def notes(path: Path) -> dict:
    return GlbFile(path).document["asset"]["extras"]


def targets(path: Path) -> list[str]:
    mesh = next(mesh for mesh in GlbFile(path).list("meshes") if mesh["name"] == "head")
    assert all(len(part["targets"]) == len(mesh["extras"]["targetNames"]) for part in mesh["primitives"])
    return list(mesh["extras"]["targetNames"])


@pytest.mark.parametrize("quantize", [False, True])
def test_equal_halves_lose_nothing(tmp_path: Path, quantize: bool) -> None:
    rig = equal_halves()
    path = export(tmp_path / "talk.glb", rig, fps=25, shapes="arkit", quantize=quantize)
    assert targets(path) == ["eyeLookUpLeft", "jawOpen", "browInnerUp", "tongueOut"]
    assert largest_error(path, rig) <= notes(path)["vertex_error_mm"] + 2e-5
    assert notes(path)["vertex_error_mm"] <= 0.1 and notes(path)["shapes"] == "arkit"


def test_what_names_lose_is_stated(tmp_path: Path) -> None:
    """Halves that differ, weights beyond 1 and below 0, a shape and a turn of the eyes without a name."""
    rng = np.random.default_rng(5)
    for case in ("halves", "beyond", "below", "unnamed"):
        weights = equal_halves(8).weights.copy()
        if case == "halves":
            weights[:, 1] = rng.random(8)
        elif case == "unnamed":
            weights[:, NAMES.index("somethingElse")] = 0.5
        else:
            weights[3, NAMES.index("jawOpen")] = 1.4 if case == "beyond" else -0.3
        rig = halved(weights)
        path = export(tmp_path / "talk.glb", rig, fps=25, shapes="arkit", tolerance_mm=0.01)
        error, stated = largest_error(path, rig), notes(path)["vertex_error_mm"]
        # A bound: an eye's way is its arc, and losses need not be at the same vertex.
        assert 0.2 < error <= stated <= 1.3 * error + 0.02, case
        assert "jawOpenBeyond" not in targets(path) and "jawOpenNegative" not in targets(path)


def test_weights_are_those_that_live_receivers_get() -> None:
    rng = np.random.default_rng(7)
    rig = halved(rng.uniform(-0.2, 1.3, (9, len(NAMES))).astype(np.float32))
    found, _ = in_arkit(rig)
    sent, _ = ArkitFace(NAMES)(rig.weights)
    np.testing.assert_array_equal(found.weights, sent[:, [ARKIT_NAMES.index(n) for n in found.names or ()]])
    np.testing.assert_allclose(found.weights[:, 2], np.clip(rig.weights[:, :2].mean(axis=1), 0, 1), atol=1e-7)


@pytest.fixture(scope="module")
def spoken() -> RiggedSequence:
    """The built-in head, every shape at work, halves alike, the tongue out."""
    rng = np.random.default_rng(0)
    names = [
        name.replace("_R", "_L") for name in FaceTalk.from_pretrained("default", "cpu").head.expression_names
    ]
    codes = rng.uniform(0.0, 0.5, (5, len(names))).astype(np.float32)
    for half in ("browInnerUp_L", "cheekPuff_L"):
        first, second = (i for i, name in enumerate(names) if name == half)
        codes[:, second] = codes[:, first]
    tongue = np.zeros((5, len(TONGUE_NAMES)), np.float32)
    tongue[:, TONGUE_NAMES.index("tongueOut")] = rng.random(5)
    motion = Motion(codes, 25.0, np.zeros(0, np.float32), {}, tongue=tongue)
    rig = FaceTalk.from_pretrained("default", "cpu").decode(motion, detail="low")
    assert isinstance(rig, RiggedSequence)
    rig.base = dataclasses.replace(rig.base, texture=None)
    return rig


def test_the_built_in_head_has_all_52(tmp_path: Path, spoken: RiggedSequence) -> None:
    path = export(tmp_path / "talk.glb", spoken, fps=25, shapes="arkit")
    assert tuple(targets(path)) == ARKIT_NAMES
    error = notes(path)["vertex_error_mm"]
    assert largest_error(path, spoken) <= error + 2e-5 and error <= 0.1
    eyes = [node for node in GlbFile(path).list("nodes") if node["name"] in ("leftEye", "rightEye")]
    vectors = [node["extras"]["rotationVectors"] for node in eyes]
    assert sorted(name for found in vectors for name in found) == sorted(
        name for name in ARKIT_NAMES if name.startswith("eyeLook")
    )
    # Tips of a tongue that go up or forward have no name there: the file says how far that takes them.
    spoken.weights[:, list(spoken.names or ()).index("tongueUp")] = 1.0
    path = export(tmp_path / "up.glb", spoken, fps=25, shapes="arkit")
    assert notes(path)["vertex_error_mm"] > 3.0 and tuple(targets(path)) == ARKIT_NAMES


def test_avatars_find_the_whole_of_a_shape_that_has_no_sides(tmp_path: Path) -> None:
    names = ["browInnerUp", "jawOpen"]
    assert presets(names)["sad"] == {0: 0.9} and presets(names)["surprised"] == {0: 0.9, 1: 0.35}
    path = export(tmp_path / "talk.vrm", equal_halves(), fps=25, shapes="arkit")
    assert targets(path)[2] == "browInnerUp"
    avatar = GlbFile(path).document["extensions"]["VRMC_vrm"]["expressions"]
    assert set(avatar["custom"]) == set(targets(path)) and "sad" in avatar["preset"]


def test_usd_has_the_same_names(tmp_path: Path) -> None:
    pytest.importorskip("pxr", reason="pip install 'facetalk[usd]'")
    from pxr import Usd, UsdSkel

    rig = equal_halves(3)
    stage = Usd.Stage.Open(str(export(tmp_path / "talk.usda", rig, fps=25, shapes="arkit")))
    animation = UsdSkel.Animation(stage.GetPrimAtPath("/talk/head/skeleton/talk"))
    assert list(animation.GetBlendShapesAttr().Get()) == list(in_arkit(rig)[0].names or ())
    assert stage.GetRootLayer().customLayerData["facetalk"]["shapes"] == "arkit"


def test_names_that_would_do_nothing_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rig = equal_halves(2)
    plain = RiggedSequence(rig.base, rig.basis, rig.weights, eyes=rig.eyes)
    strange = RiggedSequence(rig.base, rig.basis, rig.weights, names=[f"s{i}" for i in range(6)])
    for name, meshes, options, told in (
        ("a.ply", rig, {}, "a .ply has none"), ("a.glb", rig, {"basis": "pca"}, "leave out one"),
        ("a.glb", plain, {}, "shapes have names"), ("a.glb", list(rig), {}, "shapes have names"),
        ("a.glb", strange, {}, "receivers would not know"), ("a.glb", rig, {"shapes": "own"}, "one of arkit"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=told):
            export(tmp_path / name, meshes, fps=25, **{"shapes": "arkit", **options})
    motion = tmp_path / "m.safetensors"
    motion.write_bytes(b"x")
    for words in (
        ["-o", "x.ply"], ["-o", "x.csv"], ["-o", "x.glb", "--topology", "marching-cubes"],
        ["-o", "x.glb", "--basis", "pca"],
    ):  # fmt: skip
        assert main(["export", str(motion), *words, "--shapes", "arkit"]) == 2
        error = capsys.readouterr().err
        assert "--shapes" in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_export_and_generate_take_it(tmp_path: Path) -> None:
    demo = Path(__file__).resolve().parents[2] / "examples/demo.flac"
    words = ["--shapes", "arkit", "--texture-size", "0", "--detail", "low"]
    motion = tmp_path / "m.safetensors"
    assert main(["generate", str(demo), "-o", str(tmp_path / "a.glb"), "--motion", str(motion), *words]) == 0
    assert main(["export", str(motion), "-o", str(tmp_path / "b.glb"), *words]) == 0
    for name in ("a.glb", "b.glb"):
        assert tuple(targets(tmp_path / name)) == ARKIT_NAMES
    voiced = dataclasses.replace(Motion.load(motion), tongue=None)
    rig = FaceTalk.from_pretrained("default", "cpu").decode(voiced, detail="low")
    assert in_arkit(rig)[1] < 1e-4, "m, of speech: sides of brows and cheeks hardly differ"
