"""Rigs, marching cubes and fields of the C library are those of the Python package."""

import ctypes
from ctypes import POINTER, byref, c_float, c_int64, c_void_p

import numpy as np
import pytest
from golden import GOLDEN
from native_meshes import mesh_of
from scipy.spatial import cKDTree

from facetalk import FaceTalk, Motion, ops
from facetalk.native import NativeRig, library
from facetalk.nphm import load_checkpoint


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


def test_the_rig_of_another_identity_lies_on_its_surface(model, face):
    """Same faces as the head's own, vertices on the identity's zero set, moved as Python's rig moves them."""
    rng = np.random.default_rng(2)
    code = face.head.encode_identity(rng.normal(size=face.head.coefficient_dim))
    own, rig = NativeRig(model), NativeRig(model, code)
    assert np.array_equal(own.faces, rig.faces)
    rest = np.array(face.head.rest_expression)
    canonical = rig.pose(rest)[0] * 4.0
    assert np.abs(canonical - own.pose(rest)[0] * 4.0).max() > 0.02
    person, mesh = face.head.bind(code), face.head.content.canonical
    # The mesh has more than the surface: eyeballs, what is behind the lids, the cap of the neck.
    outer = (mesh.part != 1) & (np.abs(face.head.bind().distance(mesh.vertices)) < 0.0009)
    distance = np.abs(person.distance(canonical[outer])) * 250
    assert outer.mean() > 0.9 and np.percentile(distance, 95) < 0.1  # mm
    some = np.flatnonzero(mesh.part != 1)[::50]
    basis = person.forward_basis(canonical[some], mesh.part[some])
    basis *= face.facial_smoothing.weight(canonical[some])[None, :, None]
    jaw = face.head.expression_names.index("jawOpen")
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


def test_a_field_that_is_not_bound_says_so():
    lib, field, mesh = library(), c_void_p(), c_void_p()
    assert lib.facetalk_field_load(str(GOLDEN / "nphm_tiny").encode(), byref(field)) == 0
    box = np.array([-1, -1, -1, 1, 1, 1], np.float32)
    status = lib.facetalk_field_extract(field, None, 0, 32, floats(box), c_float(0), byref(mesh))
    assert status == 5 and b"bind" in lib.facetalk_last_error() and not mesh
    lib.facetalk_field_free.argtypes = [c_void_p]
    lib.facetalk_field_free(field)
    assert ctypes.sizeof(c_void_p) == 8
