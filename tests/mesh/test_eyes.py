"""Eyes that turn: rotation vectors, their nodes in a .glb, and that a rig does nothing else to them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from mesh_scenes import watching_ball
from scipy.spatial.transform import Rotation

from facetalk.mesh import RiggedSequence
from facetalk.mesh.export import export
from facetalk.mesh.eyes import turn_matrices, turn_quaternions
from facetalk.mesh.gltf_read import GlbFile

VECTORS = np.concatenate(
    [
        np.random.default_rng(0).normal(size=(50, 3)),
        [[0, 0, 0], [1e-12, 0, 0], [0, 3e-9, 0], [0, 0, np.pi], [-9, 4, 30], [1e-5, 1e-5, 0]],
    ]
)


def test_rotation_vectors_are_those_of_scipy() -> None:
    true = Rotation.from_rotvec(VECTORS)
    np.testing.assert_allclose(turn_matrices(VECTORS), true.as_matrix(), atol=1e-14)
    found = turn_quaternions(VECTORS)
    np.testing.assert_allclose(Rotation.from_quat(found).as_matrix(), true.as_matrix(), atol=1e-14)


def test_quaternions_stay_in_one_hemisphere() -> None:
    rising = np.linspace(0.0, 9.0, 60)[:, None] * [0.6, 0.0, 0.8]
    found = turn_quaternions(rising)
    assert (np.einsum("tk,tk->t", found[1:], found[:-1]) > 0.9).all() and found[0, 3] == 1.0


def test_an_eye_turns_about_its_centre_and_does_nothing_else() -> None:
    rig = watching_ball(12)
    for eye in rig.eyes:
        arms = rig.positions()[:, eye.rows] - eye.centre
        still = rig.base.vertices[eye.rows] - eye.centre
        true = Rotation.from_rotvec(rig.weights @ eye.rates).as_matrix()
        np.testing.assert_allclose(arms, still @ np.swapaxes(true, 1, 2), atol=2e-8)
        assert np.abs(arms - still).max() > 0.005
    assert rig[3:5].positions() == pytest.approx(rig.positions()[3:5]), "a range of frames keeps its eyes"
    rows = np.arange(5, len(rig.base), 2)
    some = rig.among(rows, np.zeros((0, 3), np.int32))
    np.testing.assert_array_equal(some.positions(), rig.positions()[:, rows])


def test_what_turns_is_not_displaced_as_well() -> None:
    rig = watching_ball(2)
    basis = rig.basis.copy()
    basis[1, rig.eyes[1].rows[0]] = 0.01
    with pytest.raises(ValueError, match="rightEye turns"):
        RiggedSequence(rig.base, basis, rig.weights, eyes=rig.eyes)
    wrong = dataclasses.replace(rig.eyes[0], rates=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="rates must have shape"):
        RiggedSequence(rig.base, rig.basis, rig.weights, eyes=[wrong])


@pytest.mark.parametrize("beyond", [False, True])
def test_extras_say_how_weights_turn_the_nodes(tmp_path: Path, beyond: bool) -> None:
    """A client that has nothing but the weights of the file's targets turns the eyes as the file does."""
    rig = watching_ball(9)
    if beyond:
        rig.weights[:] = rig.weights * 3.0 - 1.0
    file = GlbFile(export(tmp_path / "talk.glb", rig, fps=25))
    nodes, talk = file.list("nodes"), file.list("animations")[0]

    def keys(node: int, path: str) -> np.ndarray:
        channel = next(c for c in talk["channels"] if c["target"] == {"node": node, "path": path})
        assert talk["samplers"][channel["sampler"]]["input"] == talk["samplers"][0]["input"]
        return file.array(talk["samplers"][channel["sampler"]]["output"])

    names = file.list("meshes")[nodes[0]["mesh"]]["extras"]["targetNames"]
    weights = keys(0, "weights").reshape(9, -1)
    assert [nodes[child]["name"] for child in nodes[0]["children"]] == ["leftEye", "rightEye"]
    for child in nodes[0]["children"]:
        vectors = nodes[child]["extras"]["rotationVectors"]
        assert set(vectors) <= set(names)
        turns = weights @ np.array([vectors.get(name, [0.0, 0.0, 0.0]) for name in names])
        found = Rotation.from_quat(keys(child, "rotation")).as_matrix()
        np.testing.assert_allclose(found, Rotation.from_rotvec(turns).as_matrix(), atol=1e-5)
        mesh = file.list("meshes")[nodes[child]["mesh"]]
        assert "weights" not in mesh and not any("targets" in p for p in mesh["primitives"])


def test_a_file_of_components_turns_them_too_and_says_nothing(tmp_path: Path) -> None:
    file = GlbFile(export(tmp_path / "talk.glb", watching_ball(9), fps=25, basis="pca"))
    eyes = [node for node in file.list("nodes") if node["name"] != "head"]
    assert len(eyes) == 2 and not any("extras" in node for node in eyes)
    paths = [channel["target"]["path"] for channel in file.list("animations")[0]["channels"]]
    assert paths == ["weights", "rotation", "rotation"]
