"""Avatars: preset expressions by their names, loaded by three-vrm where npm is."""

from __future__ import annotations

import dataclasses
import json
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from mesh_scenes import some_poses, sphere, watching_ball
from npm import packages
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from facetalk.data.arkit import ARKIT_NAMES, ArkitFace
from facetalk.data.expressions import EXPRESSION_NAMES, arkit_name
from facetalk.data.phones import table
from facetalk.errors import InputError
from facetalk.mesh import Mesh, RiggedSequence
from facetalk.mesh.export import export
from facetalk.mesh.pose import NECK, moved
from facetalk.mesh.tongue import TONGUE_NAMES
from facetalk.mesh.vrm import presets, single_shapes
from facetalk.render.scene import AnimatedScene

SCRIPT = Path(__file__).with_name("load_vrm.mjs")
VERSIONS = "three@0.187.0", "@pixiv/three-vrm@3.5.5"
# github.com/vrm-c/vrm-specification: expressions of VRMC_vrm, and bones that a humanoid has to have.
PRESETS = {
    "happy", "angry", "sad", "surprised", "aa", "ih", "ou", "ee", "oh", "blink", "blinkLeft", "blinkRight",
    "lookUp", "lookDown", "lookLeft", "lookRight",
}  # fmt: skip
BONES = {"hips", "spine", "head"} | {
    side + bone
    for side in ("left", "right")
    for bone in ("UpperLeg", "LowerLeg", "Foot", "UpperArm", "LowerArm", "Hand")
}


@pytest.fixture
def avatar(tmp_path: Path) -> Path:
    ball, rng = watching_ball(2), np.random.default_rng(0)
    basis = 0.01 * rng.normal(size=(len(ARKIT_NAMES), len(ball.base), 3))
    eyes = [dataclasses.replace(eye, rates=rng.normal(size=(len(basis), 3))) for eye in ball.eyes]
    basis[:, np.concatenate([eye.rows for eye in eyes])] = 0.0
    weights = np.zeros((2, len(ARKIT_NAMES)), np.float32)
    rig = RiggedSequence(ball.base, basis, weights, names=ARKIT_NAMES, eyes=eyes)
    return export(tmp_path / "talk.vrm", rig, fps=25)


@pytest.fixture
def eyeless(tmp_path: Path) -> Path:
    vertices, faces = sphere(6, 8)
    basis = 0.01 * np.random.default_rng(0).normal(size=(len(ARKIT_NAMES), len(vertices), 3))
    rig = RiggedSequence(Mesh(vertices, faces), basis, np.zeros((2, len(basis))), names=ARKIT_NAMES)
    return export(tmp_path / "eyeless.vrm", rig, fps=25)


def document(path: Path) -> dict:
    raw = path.read_bytes()
    return json.loads(raw[20 : 20 + struct.unpack("<I", raw[12:16])[0]])


def test_the_extension_names_what_is_there(avatar: Path) -> None:
    content = document(avatar)
    extension = content["extensions"]["VRMC_vrm"]
    assert "VRMC_vrm" in content["extensionsUsed"] and extension["specVersion"] == "1.0"
    assert set(extension["expressions"]["preset"]) == PRESETS
    assert set(extension["expressions"]["custom"]) == set(ARKIT_NAMES)
    assert {"name", "authors", "licenseUrl"} <= set(extension["meta"])
    assert set(extension["humanoid"]["humanBones"]) >= BONES
    mesh = next(i for i, node in enumerate(content["nodes"]) if node["name"] == "head" and "mesh" in node)
    for expression in (
        *extension["expressions"]["preset"].values(),
        *extension["expressions"]["custom"].values(),
    ):
        for bind in expression["morphTargetBinds"]:
            assert bind["node"] == mesh and 0 <= bind["index"] < 52 and 0 < bind["weight"] <= 1
    reached, todo = set(), list(content["scenes"][0]["nodes"])
    while todo:
        reached.add(todo[-1])
        todo += content["nodes"][todo.pop()].get("children", [])
    assert reached == set(range(len(content["nodes"])))


def test_the_bodys_bones_stand_where_a_body_has_them(avatar: Path) -> None:
    content = document(avatar)
    bones = content["extensions"]["VRMC_vrm"]["humanoid"]["humanBones"]
    place: dict[int, np.ndarray] = {}

    def walk(number: int, above: np.ndarray) -> None:
        node = content["nodes"][number]
        place[number] = above + node.get("translation", (0.0, 0.0, 0.0))
        for child in node.get("children", []):
            walk(child, place[number])

    walk(content["scenes"][0]["nodes"][0], np.zeros(3))
    at = {name: place[bone["node"]] for name, bone in bones.items()}
    np.testing.assert_allclose(at["head"], NECK, atol=1e-9)
    assert at["hips"][1] < at["spine"][1] < at["head"][1]
    for side, way in (("left", 1.0), ("right", -1.0)):  # its own left is +x
        arm = [way * at[f"{side}{bone}"][0] for bone in ("UpperArm", "LowerArm", "Hand")]
        leg = [at[f"{side}{bone}"][1] for bone in ("Foot", "LowerLeg", "UpperLeg")]
        assert 0.0 < arm[0] < arm[1] < arm[2] and leg[0] < leg[1] < leg[2] < at["hips"][1]
        assert way * at[f"{side}UpperLeg"][0] > 0.0


def test_eyes_are_bones_of_the_head(avatar: Path, eyeless: Path) -> None:
    content, without = document(avatar), document(eyeless)["extensions"]["VRMC_vrm"]
    extension = content["extensions"]["VRMC_vrm"]
    bones = {name: bone["node"] for name, bone in extension["humanoid"]["humanBones"].items()}
    for eye in watching_ball(1).eyes:
        node = content["nodes"][bones[eye.name]]
        assert bones[eye.name] in content["nodes"][bones["head"]]["children"]
        np.testing.assert_allclose(np.array(node["translation"]) + NECK, eye.centre, atol=1e-9)
    assert extension["lookAt"]["type"] == "bone" and without["lookAt"]["type"] == "expression"
    ranges = extension["lookAt"]["rangeMapHorizontalInner"], without["lookAt"]["rangeMapHorizontalInner"]
    assert ranges[0]["inputMaxValue"] == ranges[0]["outputScale"] == ranges[1]["inputMaxValue"] > 20
    middle = np.mean([eye.centre for eye in watching_ball(1).eyes], axis=0) - NECK
    np.testing.assert_allclose(extension["lookAt"]["offsetFromHeadBone"], middle, atol=1e-9)
    assert without["lookAt"]["offsetFromHeadBone"] == [-value for value in NECK]
    assert ranges[1]["outputScale"] == 1.0 and "leftEye" not in without["humanoid"]["humanBones"]


@pytest.mark.parametrize("quantize", [False, True])
def test_the_heads_bone_turns_in_the_neck(tmp_path: Path, quantize: bool) -> None:
    rig = watching_ball(5)
    rig.pose = some_poses(5)
    path = export(tmp_path / "talk.vrm", rig, fps=25, quantize=quantize)
    content = document(path)
    bone = content["extensions"]["VRMC_vrm"]["humanoid"]["humanBones"]["head"]["node"]
    channels = content["animations"][0]["channels"]
    assert [c["target"]["path"] for c in channels if c["target"]["node"] == bone] == [
        "rotation",
        "translation",
    ]
    shown = AnimatedScene(path).geometry(2.5 / 25)
    expected = moved(rig[2], rig.pose[2])
    assert cKDTree(expected.vertices).query(shown.positions)[0].max() < 2e-4


def test_presets_are_made_of_the_right_shapes() -> None:
    found = {
        name: {ARKIT_NAMES[i]: w for i, w in weights.items()}
        for name, weights in presets(ARKIT_NAMES).items()
    }
    assert found["blink"] == {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}
    assert found["lookLeft"] == {"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0}, "its own left"
    assert found["aa"]["jawOpen"] > found["oh"]["jawOpen"] > found["ou"]["jawOpen"]
    assert found["ou"]["mouthPucker"] > 0.3 and found["oh"].get("mouthFunnel", 0) > 0.1
    # Action units of the emotions (Ekman & Friesen), by the shapes that do them.
    units = {
        "happy": {"mouthSmile", "cheekSquint"},
        "angry": {"browDown", "eyeWide", "eyeSquint", "mouthPress"},
        "sad": {"browInnerUp", "browDown", "mouthFrown"},
        "surprised": {"browInnerUp", "browOuterUp", "eyeWide", "jawOpen"},
    }
    for emotion, shapes in units.items():
        moved = {name.removesuffix("Left").removesuffix("Right") for name in found[emotion]}
        assert moved == shapes and min(found[emotion].values()) >= 0.3, emotion
    assert presets(["something"]) == {}
    assert set(presets(["browInnerUpLeft", "eyeBlinkLeft"])) >= {"sad", "blink", "blinkLeft"}


def test_an_avatar_hears_every_name_that_is_sent() -> None:
    """Of the built-in head's shapes, too, which has two of ARKit's in halves: the whole moves both alike."""
    targets = [arkit_name(name) for name in EXPRESSION_NAMES] + list(TONGUE_NAMES)
    found = single_shapes(targets)
    assert set(found) >= set(ARKIT_NAMES) | set(targets)
    sent = ArkitFace(targets)
    for name, weights in found.items():
        moved = np.zeros((1, len(targets)), np.float32)
        moved[0, list(weights)] = list(weights.values())
        if name in ARKIT_NAMES:
            heard = dict(zip(ARKIT_NAMES, sent(moved)[0][0], strict=True))
            assert heard[name] == 1.0 and sum(heard.values()) == 1.0, name
    assert set(single_shapes(ARKIT_NAMES)) == set(ARKIT_NAMES)
    assert single_shapes(["motion_0"]) == {"motion_0": {0: 1.0}}


def test_vowels_are_the_visemes_of_speech() -> None:
    names = [arkit_name(name) for name in EXPRESSION_NAMES]
    found = presets(names)
    for preset, viseme in {"aa": "AA", "ih": "IY", "ou": "UW", "ee": "EH", "oh": "OH"}.items():
        targets = table()["visemes"][viseme]["targets"]
        assert {names[i]: w for i, w in found[preset].items()} == {
            arkit_name(n): w for n, w in targets.items()
        }


def test_an_avatar_has_one_mesh(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one mesh that moves"):
        export(tmp_path / "a.vrm", [Mesh(*sphere(5, 6)), Mesh(*sphere(6, 7))], fps=25)
    assert list(tmp_path.iterdir()) == []


def by_three_vrm(path: Path) -> dict:
    cache = packages(*VERSIONS)
    done = subprocess.run(
        ["node", str(SCRIPT), str(cache), str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_three_vrm_turns_the_eyes_to_what_they_look_at(avatar: Path, eyeless: Path) -> None:
    look = by_three_vrm(avatar)["look"]
    assert look["kind"] == "bone"
    for turn in Rotation.from_quat(look["eyes"]):
        # Of its two angles the yaw comes last; up is a negative turn about +x.
        np.testing.assert_allclose(turn.as_euler("YXZ", degrees=True), [10.0, -5.0, 0.0], atol=1e-3)
    assert by_three_vrm(eyeless)["look"] == {"kind": "expression", "eyes": [None, None]}


def test_three_vrm_plays_it(avatar: Path) -> None:
    loaded = by_three_vrm(avatar)
    assert loaded["version"] == "1" and set(loaded["bones"]) >= BONES
    assert set(loaded["found"]) == PRESETS | set(ARKIT_NAMES)
    wanted = presets(ARKIT_NAMES)
    for name, weights in loaded["found"].items():
        expected = {ARKIT_NAMES[i]: w for i, w in wanted[name].items()} if name in wanted else {name: 1.0}
        assert weights == pytest.approx(expected)
