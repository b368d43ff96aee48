"""Poses as matrices and quaternions, beside SciPy's rotations."""

from __future__ import annotations

import numpy as np
import pytest
from mesh_scenes import some_poses, sphere
from scipy.spatial.transform import Rotation

from facetalk.errors import InputError
from facetalk.mesh import Mesh
from facetalk.mesh.pose import NECK, checked_pose, moved, quaternions, rotations


def test_rotations_are_scipys() -> None:
    pose = some_poses(50)
    pose[:, :3] *= 4.0
    expected = Rotation.from_euler("YXZ", pose[:, [1, 0, 2]])
    np.testing.assert_allclose(rotations(pose), expected.as_matrix(), atol=1e-7)
    found = quaternions(pose)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-12)
    same = np.abs(np.einsum("tk,tk->t", found, expected.as_quat()))
    np.testing.assert_allclose(same, 1.0, atol=1e-7)


def test_neighbours_are_near_each_other_past_half_a_turn() -> None:
    pose = np.zeros((200, 6))
    pose[:, 1] = np.linspace(-6.0, 6.0, 200)
    steps = np.einsum("tk,tk->t", quaternions(pose)[1:], quaternions(pose)[:-1])
    assert steps.min() > 0.99


@pytest.mark.parametrize(
    ("column", "point", "axis", "sign"),
    [
        (0, (0, 0, 1), 1, -1),  # pitch: the nose goes down
        (1, (0, 0, 1), 0, 1),  # yaw: the nose goes to the head's left
        (2, (0, 1, 0), 0, -1),  # roll: the crown goes to the head's right
    ],
)
def test_which_way_is_positive(column: int, point: tuple[int, ...], axis: int, sign: int) -> None:
    pose = np.zeros((1, 6))
    pose[0, column] = 0.1
    turned = rotations(pose)[0] @ np.array(point, float)
    assert turned[axis] * sign > 0.09


def test_the_neck_stays_where_it_is() -> None:
    vertices, faces = sphere()
    vertices[0] = NECK
    mesh = Mesh(vertices, faces)
    pose = some_poses(1)[0]
    found = moved(mesh, pose)
    np.testing.assert_allclose(found.vertices[0], np.array(NECK) + pose[3:] * 1e-3, atol=1e-7)
    distances = [np.linalg.norm(m.vertices[1:] - m.vertices[0], axis=1) for m in (mesh, found)]
    np.testing.assert_allclose(*distances, atol=1e-6)
    np.testing.assert_allclose(found.normals, Mesh(found.vertices, faces).normals, atol=1e-3)


@pytest.mark.parametrize(
    ("pose", "says"),
    [
        (np.zeros((2, 5)), "shape"),
        (np.zeros((3, 6)), "shape"),
        (np.full((2, 6), np.nan), "not finite"),
        (np.full((2, 6), 20.0), "radians"),
        (np.array([[0, 0, 0, 1e5, 0, 0]] * 2), "millimetres"),
    ],
)
def test_what_is_no_pose(pose: np.ndarray, says: str) -> None:
    with pytest.raises(InputError, match=says):
        checked_pose(pose, 2)
