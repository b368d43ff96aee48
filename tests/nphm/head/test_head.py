"""The shipped head, which people look at.

Lips meet and part, lids close, teeth are there, both deformations agree.

Truths are figures of the morphable head at the same weights (inner-lip gap = mean vertical distance of the
landmark pairs 61-67, 62-66, 63-65), measured with ``facetalk train nphm --evaluate``.
"""

import shutil

import numpy as np
import pytest

from facetalk.errors import InputError
from facetalk.mesh.surgery import without_flaps
from facetalk.models import find_model
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.head.parts import Part
from facetalk.nphm.head.regions import Region
from facetalk.units import HEAD_UNIT_METRES, HEAD_UNIT_MM

LIPS, LIDS = ((61, 67), (62, 66), (63, 65)), ((37, 41), (38, 40), (43, 47), (44, 46))


@pytest.fixture(scope="module")
def head():
    return HeadModel.load(find_model("default").folder / "head")


@pytest.fixture(scope="module")
def rig(head):
    person = head.bind()
    mesh = person.canonical()
    return mesh, person.forward_basis(mesh.vertices, mesh.part)


def weights(head, **values):
    out = np.zeros(head.expression_dim, np.float32)
    for name, value in values.items():
        for i, known in enumerate(head.expression_names):
            if known in (name, name + "_L", name + "_R"):
                out[i] = value
    return out - head.rest_expression


def gap(head, pairs, **values):
    person = head.bind()
    points = person.landmarks()
    basis = person.forward_basis(points, np.zeros(68, np.uint8))
    posed = points + np.tensordot(weights(head, **values), basis, 1)
    return np.mean([posed[a, 1] - posed[b, 1] for a, b in pairs]) * HEAD_UNIT_MM


@pytest.mark.parametrize(
    ("values", "truth"),
    [
        ({}, 0.80),
        ({"jawOpen": 0.1}, 3.65),
        ({"jawOpen": 0.2}, 6.51),
        ({"jawOpen": 0.3}, 9.36),
        ({"jawOpen": 0.1, "mouthClose": 0.1}, -0.04),
        ({"jawOpen": 0.2, "mouthClose": 0.18}, -0.14),
        ({"mouthPress": 0.5}, -0.27),
        ({"mouthPucker": 0.9}, -0.33),
        ({"mouthFunnel": 0.7}, 8.39),
    ],
)
def test_lip_gap(head, values, truth):
    assert gap(head, LIPS, **values) == pytest.approx(truth, abs=0.3)


def test_blink_closes_the_lids(head):
    opened, closed = gap(head, LIDS), gap(head, LIDS, eyeBlink=1.0)
    assert opened > 7.0 and abs(closed) < 1.0


def test_mesh_is_sound(head, rig):
    mesh, _ = rig
    assert mesh.vertices.dtype == np.float32 and mesh.faces.dtype == np.int32 and mesh.part.dtype == np.uint8
    assert mesh.colors.shape == mesh.vertices.shape and mesh.colors.dtype == np.uint8
    assert 20_000 < len(mesh.vertices) < 45_000 and np.isfinite(mesh.vertices).all()
    assert np.array_equal(np.unique(mesh.faces), np.arange(len(mesh.vertices)))
    assert (mesh.part[mesh.faces] == mesh.part[mesh.faces[:, :1]]).all(), "a face joins parts that move apart"
    corner = mesh.vertices[mesh.faces].astype(np.float64)
    volume = np.einsum("ij,ij->i", corner[:, 0], np.cross(corner[:, 1], corner[:, 2])).sum() / 6
    assert 0.003 < volume * HEAD_UNIT_METRES**3 < 0.006  # cubic metres: outward orientation, an adult's head
    assert all((mesh.part == p).sum() > 500 for p in (Part.EYEBALLS, Part.UPPER_TEETH, Part.LOWER_TEETH))


def test_mesh_lies_on_the_surface(head, rig):
    mesh, _ = rig
    skin = head.content.mesh.region == Region.SKIN
    distance = np.abs(head.bind().distance(mesh.vertices[skin])) * HEAD_UNIT_MM
    # The mesh is the data's, the network learned that: at lips and nostrils they are not quite the same.
    assert np.median(distance) < 0.1 and np.quantile(distance, 0.9) < 0.5


def test_teeth_show_behind_open_lips(head, rig):
    """Rays from the front through the open mouth meet teeth before anything else."""
    mesh, basis = rig
    posed = mesh.vertices + np.tensordot(weights(head, mouthFunnel=0.7, jawOpen=0.1), basis, 1)
    landmarks = head.bind().landmarks()
    lips = landmarks + np.tensordot(
        weights(head, mouthFunnel=0.7, jawOpen=0.1),
        head.bind().forward_basis(landmarks, np.zeros(68, np.uint8)),
        1,
    )
    inner = lips[60:68]
    inside = np.abs(posed[:, :2] - inner[:, :2].mean(0)) < 0.7 * np.ptp(inner[:, :2], axis=0) / 2
    seen = inside.all(1) & (posed[:, 2] > inner[:, 2].min() - 0.1)
    assert (mesh.part[seen] == Part.UPPER_TEETH).sum() > 50 and (
        mesh.part[seen] == Part.LOWER_TEETH
    ).sum() > 20


def test_upper_teeth_stay_and_lower_teeth_follow_the_jaw(head, rig):
    mesh, basis = rig
    jaw = np.linalg.norm(basis[head.expression_names.index("jawOpen")], axis=1) * HEAD_UNIT_MM
    front = mesh.vertices[:, 2] > 0.1
    assert jaw[(mesh.part == Part.UPPER_TEETH) & front].max() < 2.0
    assert jaw[(mesh.part == Part.LOWER_TEETH) & front].min() > 10.0


def test_eyes_turn_about_their_centres(head, rig):
    mesh, basis = rig
    eyes = mesh.part == Part.EYEBALLS
    look = np.tensordot(weights(head, eyeLookUp=0.33) + head.rest_expression, basis, 1)[eyes]  # 10 degrees
    x = mesh.vertices[eyes]
    centres, radii = head.bind().eyeballs()
    arm = x - centres[np.linalg.norm(x[:, None] - centres, axis=2).argmin(1)]
    assert np.abs((look * arm).sum(1)).max() < 1e-6  # a turn moves nothing towards or away from the centre
    pupil = arm[:, 2] > 1.05 * radii[0]
    assert np.allclose(look[pupil, 1] / arm[pupil, 2], np.deg2rad(10), rtol=0.02)
    blink = basis[head.expression_names.index("eyeBlink_L")]
    assert not blink[eyes].any()


def test_backward_undoes_forward(head, rig):
    """The two deformations were trained apart and agree to a millimetre: on skin, in the mean."""
    mesh, basis = rig
    chosen = np.flatnonzero(head.content.mesh.region == Region.SKIN)[::20]
    for values in ({}, {"jawOpen": 0.3}, {"mouthSmile": 0.6}, {"eyeBlink": 1.0}):
        move = weights(head, **values)
        posed = mesh.vertices[chosen] + np.tensordot(move, basis[:, chosen], 1)
        offset = head.nphm.offsets(posed, head.default_identity, move + head.rest_expression)
        error = np.linalg.norm(posed + offset - mesh.vertices[chosen], axis=1) * HEAD_UNIT_MM
        assert error.mean() < 1.0, values


def test_identities_differ_and_come_back(head):
    rng = np.random.default_rng(3)
    w = (0.8 * rng.standard_normal(head.coefficient_dim)).astype(np.float32)
    code = head.encode_identity(w)
    assert code.shape == (head.identity_dim,) and np.allclose(head.coefficients(code), w, atol=1e-3)
    assert not head.default_identity.any()
    person = head.bind(code)
    moved = np.linalg.norm(person.landmarks() - head.bind().landmarks(), axis=1) * HEAD_UNIT_MM
    assert moved.mean() > 1.0
    assert np.abs(person.distance(person.landmarks()[27:60])).mean() * HEAD_UNIT_MM < 0.5


def test_persons_are_kept_and_independent(head):
    code = np.full(head.identity_dim, 0.01, np.float32)
    person = head.bind(code)
    assert head.bind(code) is person and head.bind() is head.bind(head.default_identity)
    assert head.bind() is not person and np.array_equal(
        head.bind().canonical().faces, person.canonical().faces
    )
    before = person.landmarks()
    code += 1.0
    assert head.bind(code) is not person
    assert (person.identity == np.float32(0.01)).all()  # not the caller's array, which has changed
    np.testing.assert_array_equal(person.landmarks(), before)
    for k in range(2, 12):  # many others, and yet not all stay
        head.bind(np.full(head.identity_dim, 0.01 * k, np.float32))
    assert head.bind(np.full(head.identity_dim, 0.01, np.float32)) is not person


def test_damage_is_explained(head, tmp_path):
    folder = tmp_path / "head"
    shutil.copytree(find_model("default").folder / "head", folder)
    (folder / "forward.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(InputError, match="damaged"):
        HeadModel.load(folder)
    (folder / "config.json").write_text('{"format": "something"}')
    with pytest.raises(InputError, match="not a facetalk-head"):
        HeadModel.load(folder)
    with pytest.raises(InputError, match="missing"):
        HeadModel.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="identity code has"):
        head.bind(np.zeros(3))


def test_flaps_go():
    faces = np.array([[0, 1, 2], [2, 1, 3], [4, 5, 6], [6, 5, 4]], np.int32)
    np.testing.assert_array_equal(without_flaps(faces), faces[:2])
