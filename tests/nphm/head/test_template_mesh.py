"""The mesh that every identity wears: whole, the morphable head's own, its seams closed, or refused."""

import dataclasses

import numpy as np
import pytest

from experiments.face.geometry import measure, regions_in_front
from facetalk import FaceTalk, InputError, Motion
from facetalk.cli._identity import read_identity
from facetalk.data.heads.ict import BUILT_IN, MorphableHead
from facetalk.data.heads.ict_uv import TextureLayout
from facetalk.models import find_model
from facetalk.nphm.head.complexion import palette_of
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.head.parts import Part
from facetalk.nphm.head.regions import Region
from facetalk.nphm.head.template_mesh import TemplateMesh
from facetalk.training.head.train import give_mesh
from facetalk.units import HEAD_UNIT_MM


@pytest.fixture(scope="module")
def head():
    return HeadModel.load(find_model("default").folder / "head")


@pytest.fixture(scope="module")
def data():
    return MorphableHead.load(BUILT_IN)


@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3, 11, 17, 29])
def test_identities_are_whole(head, seed):
    """Closed but for nothing, lips together at rest, lids together at a full blink, in front of the eye."""
    code = head.default_identity if seed is None else read_identity(f"random:{seed}", head)
    figures = measure(head, code)
    assert figures["rim_edges"] == 0 and figures["crack_mm"] < 0.15
    assert figures["mouth_open_mm2"] < 1.0
    assert figures["eye_open_percent"] < 1.0
    assert figures["lid_overlap_mm"] < 1.5
    assert figures["lid_in_eye_mm"] < 0.5


def test_the_measure_sees_open_lids(head):
    """Without the seams the same look from the front finds the eye and the mouth open."""
    mesh = head.content.mesh
    seams = {
        name: dataclasses.replace(seam, weights=np.zeros_like(seam.weights))
        for name, seam in (("lips", mesh.lips), ("lid_left", mesh.lid_left), ("lid_right", mesh.lid_right))
    }
    plain = HeadModel(dataclasses.replace(head.content, mesh=dataclasses.replace(mesh, **seams)))
    figures = measure(plain, plain.default_identity)
    assert figures["eye_open_percent"] > 2.0 and figures["mouth_open_mm2"] > 2.0


def test_what_is_in_front_is_seen():
    """Two squares, the nearer one smaller; -1 beside both."""
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    vertices = np.concatenate([np.c_[square, np.zeros(4)], np.c_[0.25 + 0.5 * square, np.ones(4)]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], np.int32)
    region = np.array([3] * 4 + [5] * 4, np.uint8)
    low, high = np.array([-0.07, -0.07]), np.array([1.03, 1.03])
    seen = regions_in_front(vertices.astype(np.float32), faces, region, low, high, 0.1)
    assert seen[6, 6] == 5 and seen[2, 2] == 3 and seen[0, 0] == -1
    assert (seen == 5).sum() == 25 and (seen == 3).sum() == 75


def test_it_is_the_morphable_heads_geometry(head, data):
    """Away from seams, eyes and the ironed chin, vertices are those of the data to the packing's rounding."""
    mesh = head.content.mesh
    coefficients = np.clip(np.random.default_rng(5).standard_normal(data.identity_dim), -2, 2)
    worn, true = mesh.shape(coefficients.astype(np.float32)), data.canonical(coefficients.astype(np.float32))
    marks = np.setdiff1d(np.arange(68), [56, 57, 58])  # without those on the ironed folds
    error = np.linalg.norm(worn[mesh.landmarks] - true[data.landmark_ids], axis=1) * HEAD_UNIT_MM
    assert error[marks].max() < 0.25
    basis = mesh.basis()
    jaw = basis[head.expression_names.index("jawOpen")][mesh.landmarks[marks]]
    true_jaw = data.expression_basis[data.expression_names.index("jawOpen")][data.landmark_ids[marks]]
    assert np.abs(jaw - true_jaw).max() * HEAD_UNIT_MM < 0.1


def test_the_rigs_gap_is_that_of_the_landmarks(head):
    """Lips of the mesh part as landmarks do: the same change of the gap, which is what metrics measure."""
    mesh, person = head.content.mesh, head.bind()
    _, basis = person.rig()
    by_field = person.forward_basis(person.landmarks(), np.zeros(68, np.uint8))
    for name, values in {"jaw": {"jawOpen": 0.3}, "funnel": {"mouthFunnel": 0.7}}.items():
        weights = np.array([values.get(known, 0.0) for known in head.expression_names], np.float32)
        gaps = []
        for moves in (basis[:, mesh.landmarks], by_field):
            moved = np.tensordot(weights, moves, 1)[:, 1]
            gaps.append((moved[[61, 62, 63]] - moved[[67, 66, 65]]).mean() * HEAD_UNIT_MM)
        assert abs(gaps[0] - gaps[1]) < 0.1, name


def test_levels_of_detail_share_vertices(head):
    face = FaceTalk.from_pretrained("default", device="cpu")
    motion = Motion(np.eye(53, dtype=np.float32)[[26]], 25.0, np.zeros(0, np.float32), {})
    counts = []
    full = face.decode(motion)[0]
    known = {tuple(row) for row in full.vertices.tolist()}
    for detail in ("high", "medium", "low"):
        mesh = face.decode(motion, detail=detail)[0]
        counts.append(len(mesh))
        assert {tuple(row) for row in mesh.vertices.tolist()} <= known
        assert (mesh.part[mesh.faces] == mesh.part[mesh.faces[:, :1]]).all()
        uv = head.content.mesh.uv[head.content.mesh.corners[len(counts) - 1]]
        assert np.isfinite(uv).all() and (np.ptp(np.floor(uv[..., 0].clip(0, 6.9)), axis=1) <= 1).all()
    assert 20_000 < counts[0] < 27_000 and 9_000 < counts[1] < 13_000 and 4_000 < counts[2] < 6_000
    with pytest.raises(InputError, match="detail must be one of"):
        face.decode(motion, detail="tiny")
    with pytest.raises(InputError, match="marching cubes have a resolution"):
        face.decode(motion, topology="marching-cubes", detail="low")


def test_one_command_makes_it_again(head, data):
    """From the data that travels with the package: the same mesh, vertices to that copy's rounding."""
    made = HeadModel(dataclasses.replace(head.content, mesh=None))
    give_mesh(made, data)
    shipped, mesh = head.content.mesh, made.content.mesh
    assert made.content.canonical is None and np.array_equal(mesh.corners[0], shipped.corners[0])
    assert np.array_equal(mesh.region, shipped.region) and np.array_equal(mesh.landmarks, shipped.landmarks)
    assert np.abs(mesh.vertices - shipped.vertices).max() * HEAD_UNIT_MM < 0.02
    tensors = mesh.tensors()
    again = TemplateMesh.read(tensors, data.identity_dim, data.expression_dim)
    assert np.array_equal(again.identity_codes, mesh.identity_codes)
    assert tensors["shape_rows"].dtype == np.uint16 and again.shape_rows.dtype == np.int32
    assert np.array_equal(again.shape_rows, mesh.shape_rows)
    for name, change in {
        "corners_2": lambda v: v + 10**6, "shape_starts": lambda v: v[1:],
        "identity_codes": lambda v: v[:, :9],
        "lips.rows": lambda v: v - 10**6, "part": lambda v: v + 9, "lid_left.blend": lambda v: v[:3],
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=r"template|mesh"):
            TemplateMesh.read(
                {**tensors, name: change(tensors[name])}, data.identity_dim, data.expression_dim
            )


def test_moved_vertices_are_kept_in_16_bit_where_they_fit(head):
    """Files from before hold 32 bit, and go on working."""
    mesh = head.content.mesh
    tensors, sizes = mesh.tensors(), (head.tables.linear["encoder"].shape[1], len(head.expression_names))
    for kind in (np.int32, np.uint16):
        found = TemplateMesh.read({**tensors, "shape_rows": mesh.shape_rows.astype(kind)}, *sizes)
        assert found.shape_rows.dtype == np.int32 and np.array_equal(found.shape_rows, mesh.shape_rows)
    high = np.full_like(tensors["shape_rows"], 60_000)
    for damaged in (high, mesh.shape_rows.astype(np.int16), mesh.shape_rows.astype(np.int64)):
        with pytest.raises(ValueError, match="not there"):
            TemplateMesh.read({**tensors, "shape_rows": damaged}, *sizes)
    for count, kind in ((1 << 16, np.uint16), ((1 << 16) + 1, np.int32)):
        large = dataclasses.replace(mesh, vertices=np.zeros((count, 3), np.float32))
        assert large.tensors()["shape_rows"].dtype == kind


def test_a_saved_head_wears_the_mesh_that_was_shipped(head, tmp_path):
    head.save(tmp_path / "head")
    files = [
        folder / "template.safetensors"
        for folder in (tmp_path / "head", find_model("default").folder / "head")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_texture_coordinates_of_another_mesh_are_refused(data):
    layout = TextureLayout.load()
    assert layout.fits(data)
    with pytest.raises(InputError, match="another mesh"):
        layout.corners(data.faces[:, [0, 0, 1]])


def test_people_look_different_and_a_code_looks_the_same(head):
    codes = [head.coefficients(read_identity(f"random:{seed}", head)) for seed in range(6)]
    palettes = [palette_of(code) for code in codes]
    assert len({p.skin for p in palettes}) == 6 and len({p.iris for p in palettes}) > 1
    assert palette_of(codes[0].copy()) == palettes[0]
    mesh, person = head.content.mesh, head.bind()
    colors = person.canonical().colors.astype(int)
    teeth = np.isin(mesh.region, (Region.UPPER_TEETH, Region.LOWER_TEETH)) & (mesh.vertices[:, 2] > 0.15)
    assert colors[teeth].mean() > colors[mesh.region == Region.TONGUE].mean() + 40
    assert colors[mesh.region == Region.MOUTH].mean() < 110  # dark inside
    assert set(np.unique(mesh.part)) == {Part.SKIN, Part.EYEBALLS, Part.UPPER_TEETH, Part.LOWER_TEETH}
