"""Rigs, marching cubes and fields of the C library are those of the Python package."""

import ctypes
import dataclasses
import shutil
from ctypes import POINTER, byref, c_float, c_int64, c_void_p

import numpy as np
import pytest
from golden import GOLDEN
from native_fields import Library
from native_meshes import mesh_of
from scipy.spatial import cKDTree

from facetalk import FaceTalk, Motion, ops
from facetalk.library import library
from facetalk.native import NativeModel, NativeRig
from facetalk.nphm import load_checkpoint
from facetalk.nphm.head.head import HeadModel


@pytest.fixture(scope="module")
def face():
    return FaceTalk.from_pretrained("default", device="cpu")


def floats(array: np.ndarray) -> object:
    return array.ctypes.data_as(POINTER(c_float))


def extract(folder, identity, expression, resolution, bounds):
    lib, field, mesh = library(), c_void_p(), c_void_p()
    assert lib.facetalk_field_load(str(folder).encode(), byref(field)) == 0, lib.facetalk_last_error()
    assert lib.facetalk_field_bind(field, floats(identity), len(identity)) == 0, lib.facetalk_last_error()
    box = np.asarray(bounds, np.float32).reshape(6)
    count = 0 if expression is None else len(expression)
    code = None if expression is None else floats(expression)
    arguments = field, code, count, resolution, floats(box), c_float(0.0)
    assert lib.facetalk_field_extract(*arguments, byref(mesh)) == 0, lib.facetalk_last_error()
    lib.facetalk_field_free.argtypes = [c_void_p]
    lib.facetalk_field_free(field)
    return mesh_of(mesh)


def test_marching_cubes_is_the_packages():
    volume = np.random.default_rng(0).normal(size=(9, 7, 5)).astype(np.float32)
    mesh = c_void_p()
    assert (
        library().facetalk_marching_cubes(
            floats(volume), c_int64(9), c_int64(7), c_int64(5), c_float(0.1), byref(mesh)
        )
        == 0
    )
    vertices, faces = mesh_of(mesh)
    expected = ops.marching_cubes(volume, 0.1)
    assert np.array_equal(vertices, expected[0]) and np.array_equal(faces, expected[1])


def test_the_rig_is_that_of_decode(model, face):
    rng = np.random.default_rng(1)
    weights = rng.uniform(0, 1, (2, 53)).astype(np.float32)
    weights[0] = 0.0
    rig = NativeRig(model)
    meshes = face.decode(Motion(weights, 25.0, np.zeros(0, np.float32), {}))
    for row, mesh in zip(weights, meshes, strict=True):
        positions, normals = rig.pose(row)
        assert np.array_equal(rig.faces, mesh.faces)
        assert np.abs(positions - mesh.vertices).max() < 1e-6  # metres
        assert np.abs(normals - mesh.normals).max() < 1e-2
        assert np.abs(normals - mesh.normals).mean() < 1e-5


@pytest.mark.parametrize("beyond", [0.0, 0.05])
def test_the_rig_of_another_identity_is_that_of_decode(model, face, beyond):
    """Of codes that coefficients make, and of one beyond them, which the networks carry the mesh to."""
    rng = np.random.default_rng(2)
    code = face.head.encode_identity(rng.normal(size=face.head.coefficient_dim))
    code += beyond * rng.normal(size=len(code)).astype(np.float32)
    weights = rng.uniform(0, 1, (2, 53)).astype(np.float32)
    own, rig = NativeRig(model), NativeRig(model, code)
    assert np.array_equal(own.faces, rig.faces)
    assert np.abs(rig.pose(weights[0])[0] - own.pose(weights[0])[0]).max() > 0.005  # metres: somebody else
    for row, mesh in zip(weights, face.decode(Motion(weights, 25.0, code, {})), strict=True):
        assert np.abs(rig.pose(row)[0] - mesh.vertices).max() < 2e-6  # metres


def test_a_head_without_a_template_is_carried(face, tmp_path):
    """The way of heads whose only mesh is their own canonical one: it lies on the identity's surface."""
    head = HeadModel(
        dataclasses.replace(face.head.content, mesh=None, canonical=face.head.bind().canonical())
    )
    folder = tmp_path / "carried"
    shutil.copytree(face.config.folder, folder, ignore=shutil.ignore_patterns("head"))
    head.save(folder / "head")
    rng = np.random.default_rng(2)
    code = head.encode_identity(rng.normal(size=head.coefficient_dim))
    model = NativeModel(folder)
    own, rig = NativeRig(model), NativeRig(model, code)
    assert np.array_equal(own.faces, rig.faces)
    rest = np.array(head.rest_expression)
    canonical = rig.pose(rest)[0] * 4.0
    person, mesh = head.bind(code), head.content.canonical
    # The mesh has more than the surface: eyeballs, sockets, the mouth's walls, the cap of the neck.
    outer = (mesh.part != 1) & (np.abs(head.bind().distance(mesh.vertices)) < 0.0009)
    distance = np.abs(person.distance(canonical[outer])) * 250
    assert outer.mean() > 0.4 and np.percentile(distance, 95) < 0.1  # mm
    some = np.flatnonzero(mesh.part != 1)[::50]
    basis = person.forward_basis(canonical[some], mesh.part[some])
    basis *= face.facial_smoothing.weight(canonical[some])[None, :, None]
    jaw = head.expression_names.index("jawOpen")
    wide = rest.copy()
    wide[jaw] += 1.0
    moved = rig.pose(wide)[0][some] * 4.0 - canonical[some]
    assert np.abs(moved - basis[jaw]).max() * 250 < 0.01  # mm


@pytest.mark.parametrize("name", ["nphm_tiny", "mononphm_tiny"])
@pytest.mark.parametrize("deformed", [False, True])
def test_extraction_is_the_dense_mesh(name, deformed):
    golden = GOLDEN / name
    nphm = load_checkpoint(golden, family=name.split("_")[0])
    rng = np.random.default_rng(3)
    identity = (0.1 * rng.normal(size=nphm.identity_dim)).astype(np.float32)
    expression = (0.3 * rng.normal(size=nphm.expression_dim)).astype(np.float32) if deformed else None
    bounds = ((-0.55, -0.5, -0.95), (0.55, 0.75, 0.4))
    vertices, faces = extract(golden, identity, expression, 48, bounds)
    field = nphm.bind(identity)
    expected = field.extract(None if expression is None else expression[None], 48, bounds, exact=True)[0]
    assert faces.shape == expected.faces.shape
    assert cKDTree(vertices).query(expected.vertices)[0].max() < 2e-5  # metres


@pytest.mark.parametrize("weights", [("eyeBlink_L", "eyeBlink_R"), ("jawOpen", "mouthPress_L")])
def test_extraction_of_the_built_in_head_is_the_dense_mesh(face, weights):
    """Where its lips and lids are steepest."""
    code = -np.array(face.head.rest_expression, np.float32)
    for name in weights:
        code[face.head.expression_names.index(name)] += 1.0
    identity = np.array(face.head.default_identity, np.float32)
    bounds = ((-0.55, -0.5, -0.95), (0.55, 0.75, 0.4))
    vertices, faces = extract(face.config.folder / "head", identity, code, 48, bounds)
    expected = face.head.nphm.bind(identity).extract(code[None], 48, bounds, exact=True)[0]
    assert np.array_equal(faces, expected.faces)
    assert np.abs(vertices - expected.vertices).max() < 2e-5  # metres


def test_the_built_in_heads_own_folder_is_a_field(face):
    """Of its two deformations the one that its file holds goes backward, which the folder does not say."""
    rng = np.random.default_rng(4)
    code = np.array(face.head.rest_expression, np.float32)
    code += rng.uniform(0, 0.5, len(code)).astype(np.float32)
    points = rng.uniform(-0.12, 0.12, (200, 3)).astype(np.float32)
    bound = face.head.nphm.bind(np.zeros(face.head.nphm.identity_dim, np.float32))
    field = Library(library()._name).field(face.config.folder / "head").bind()
    for asked in (None, code):
        expected = bound.query(4.0 * points, None if asked is None else asked[None])
        assert np.abs(field.query(asked, points) - np.asarray(expected).reshape(-1) / 4.0).max() < 1e-6


def test_a_field_that_is_not_bound_says_so():
    lib, field, mesh = library(), c_void_p(), c_void_p()
    assert lib.facetalk_field_load(str(GOLDEN / "nphm_tiny").encode(), byref(field)) == 0
    box = np.array([-1, -1, -1, 1, 1, 1], np.float32)
    status = lib.facetalk_field_extract(field, None, 0, 32, floats(box), c_float(0), byref(mesh))
    assert status == 5 and b"bind" in lib.facetalk_last_error() and not mesh
    lib.facetalk_field_free.argtypes = [c_void_p]
    lib.facetalk_field_free(field)
    assert ctypes.sizeof(c_void_p) == 8
