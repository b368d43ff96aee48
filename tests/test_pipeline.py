"""The built-in model, end to end."""

import numpy as np
import pytest
import soundfile
from scipy.spatial import cKDTree

import facetalk
from facetalk.data.heads.ict import BUILT_IN, MorphableHead
from facetalk.nphm.field import Field
from facetalk.nphm.surface.plan import DEFAULT_TOLERANCE_MM
from facetalk.units import HEAD_UNIT_METRES, frame_count


@pytest.fixture(scope="module")
def model():
    return facetalk.FaceTalk.from_pretrained()


@pytest.fixture(scope="module")
def talk(model):
    rng = np.random.default_rng(0)
    t = np.arange(2 * 16000) / 16000
    buzz = np.sign(np.sin(2 * np.pi * 140 * t)) * (np.sin(2 * np.pi * 2 * t) > 0) * 0.2
    return model.generate((buzz + 0.002 * rng.standard_normal(len(t)), 16000), seed=3)


def test_motion_fits_the_clip(model, talk):
    assert talk.expressions.shape == (frame_count(2 * 16000, 25), model.head.expression_dim)
    assert talk.expressions.dtype == np.float32 and np.isfinite(talk.expressions).all()
    assert talk.provenance["seed"] == 3
    assert np.ptp(talk.expressions, axis=0).max() > 0.05, "the face does not move"


def test_seed_decides(model):
    sound = (np.random.default_rng(1).standard_normal(8000) * 0.05, 16000)
    one, same, other = (model.generate(sound, seed=s).expressions for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-4


def test_file_and_samples_agree(model, tmp_path):
    samples = (np.random.default_rng(2).standard_normal(24000) * 0.05).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    one = model.generate(tmp_path / "a.wav", seed=0).expressions
    np.testing.assert_allclose(one, model.generate((samples, 16000), seed=0).expressions, atol=1e-5)


def test_fixed_topology(model, talk):
    meshes = model.decode(talk)
    assert len(meshes) == len(talk)
    first, last = next(iter(meshes)), meshes[len(talk) - 1]
    assert first.faces is last.faces or np.array_equal(first.faces, last.faces)
    height = np.ptp(first.vertices[:, 1])
    assert 0.15 < height < 0.45, f"a head in metres, got {height} m"
    np.testing.assert_allclose(np.linalg.norm(first.normals, axis=1), 1.0, atol=1e-3)
    assert first.colors is not None and first.colors.shape == first.vertices.shape


def test_topologies_agree(model, talk):
    """The extraction of the backward field and the carried canonical mesh are the same head."""

    frame = talk[20:21]
    fixed = next(iter(model.decode(frame)))
    cubes = next(iter(model.decode(frame, topology="marching-cubes", resolution=96)))
    distance = cKDTree(fixed.vertices).query(cubes.vertices)[0] * 1000
    assert np.median(distance) < 3.0, f"median distance {np.median(distance):.2f} mm"


def test_no_tolerance_is_the_dense_grid(model, talk):
    options = {"topology": "marching-cubes", "resolution": 40}
    (dense,) = model.decode(talk[20:21], exact=True, **options)
    (same,) = model.decode(talk[20:21], tolerance_mm=0.0, **options)
    np.testing.assert_array_equal(same.faces, dense.faces)
    np.testing.assert_allclose(same.vertices, dense.vertices, atol=1e-6)


def test_tolerance_reaches_the_extraction(model, talk, monkeypatch):
    asked = []
    monkeypatch.setattr(Field, "iterate", lambda *a, options, **k: asked.append(options) or iter(()))
    for tolerance in (0.0, 0.02, None):
        assert not list(model.decode(talk[:1], topology="marching-cubes", tolerance_mm=tolerance))
    assert [options.tolerance_mm for options in asked] == [0.0, 0.02, DEFAULT_TOLERANCE_MM]


def lip_gap_mm(points):
    """(T, 68, 3) metres -> (T,)"""
    return (points[:, [61, 62, 63], 1] - points[:, [67, 66, 65], 1]).mean(1) * 1000


@pytest.fixture(scope="module")
def poses(model):
    """No weight, each weight alone, and a face of several."""
    count = model.head.expression_dim
    mixed = np.random.default_rng(0).uniform(0.0, 0.3, (5, count))
    codes = np.concatenate([np.zeros((1, count)), np.eye(count), mixed])
    return facetalk.Motion(codes.astype(np.float32), 25.0)


def test_landmarks_go_with_the_decoded_mesh(model, poses):
    """In every pose they go as the mesh's own landmarks, but for lips and lids, which it closes."""
    points = model.landmarks(poses)
    assert points.shape == (len(poses), 68, 3) and points.dtype == np.float32
    meshes = model.decode(poses).positions(slice(0, len(poses)))
    beside = meshes[:, model.head.content.mesh.landmarks]
    assert np.linalg.norm(beside[0] - points[0], axis=-1).max() * 1000 < 1.5
    apart = np.linalg.norm((points - points[:1]) - (beside - beside[:1]), axis=-1) * 1000
    assert apart.mean() < 0.15 and np.percentile(apart, 99) < 1.5
    parted = lip_gap_mm(points) - lip_gap_mm(beside)
    assert 0.6 < parted[0] < 1.2  # at rest the mesh's lips touch; landmarks lie where the data has them
    np.testing.assert_allclose(parted, parted[0], atol=0.4)
    assert np.abs(parted - parted[0]).mean() < 0.05


def test_landmarks_are_where_ict_facekit_has_them(model, poses):
    """The head was trained on that morphable head; without its rest expression the gap would be 7 mm off."""
    head = MorphableHead.load(BUILT_IN)
    moved = np.tensordot(poses.expressions, head.expression_basis[:, head.landmark_ids], 1)
    truth = (head.neutral[head.landmark_ids] + moved) * HEAD_UNIT_METRES
    points = model.landmarks(poses)
    away = np.linalg.norm(points - truth, axis=-1) * 1000
    assert away.mean() < 0.4 and away[:, 48:].max() < 1.6
    single = slice(0, 1 + model.head.expression_dim)
    np.testing.assert_allclose(lip_gap_mm(points[single]), lip_gap_mm(truth[single]), atol=0.4)


def test_identities_differ(model, talk):
    coefficients = np.zeros(model.head.coefficient_dim)
    coefficients[0] = 1.5
    code = model.head.encode_identity(coefficients)
    other = facetalk.Motion(talk.expressions, talk.fps, code)
    moved = np.abs(model.landmarks(other) - model.landmarks(talk)).max() * 1000
    assert moved > 1.0, "the identity code does nothing"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m, t: m.decode(t, resolution=4096), "resolution"),
        (lambda m, t: m.decode(t, topology="spheres"), "topology"),
        (lambda m, t: m.decode(t, tolerance_mm=0.1), "tolerance_mm is for topology='marching-cubes'"),
        (lambda m, t: m.decode(t, topology="fixed", exact=True), "exact is for"),
        (lambda m, t: m.decode(t, topology="marching-cubes", exact=True, tolerance_mm=0.1), "not both"),
        (lambda m, t: m.decode(t, topology="marching-cubes", tolerance_mm=-0.1), "tolerance_mm"),
        (lambda m, t: m.decode(t, topology="marching-cubes", tolerance_mm=np.nan), "tolerance_mm"),
        (lambda m, t: m.decode(facetalk.Motion(np.zeros((2, 7)))), "7 values"),
        (lambda m, t: m.landmarks(facetalk.Motion(t.expressions, 25, np.zeros(5))), "identity"),
        (lambda m, t: m.generate((np.zeros(0), 16000)), "sample"),
        (lambda m, t: m.generate((np.zeros(16000), 16000), steps=0), "steps"),
    ],
)
def test_bad_calls(model, talk, call, says):
    with pytest.raises(facetalk.InputError, match=says):
        call(model, talk)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda model, talk, out: model.stream(steps=0), "steps must be at least 1 .*got 0"),
        (lambda model, talk, out: model.generate(([0.1] * 800, 16000), steps=0), "steps must be at least 1"),
        (lambda model, talk, out: model.stream(style=3), "facetalk.Style, got 3"),
        (lambda model, talk, out: model.generate(([0.1] * 800, 16000), style={"smile": 1}), "facetalk.Style"),
        (lambda model, talk, out: model.decode(talk.expressions), "Motion, got ndarray"),
        (lambda model, talk, out: model.decode(None), "Motion, got NoneType"),
        (lambda model, talk, out: model.landmarks(talk.expressions), "Motion, got ndarray"),
        (lambda model, talk, out: facetalk.export(out, None, fps=25), "facetalk.Mesh, got NoneType"),
        (lambda model, talk, out: facetalk.export(out, ["a"], fps=25), "facetalk.Mesh, and 'a' is none"),
        (
            lambda model, talk, out: facetalk.export(out, next(iter(model.decode(talk))), fps=25),
            r"got Mesh; of one mesh give \[mesh\]",
        ),
        (
            lambda model, talk, out: facetalk.export(out.with_suffix(".ply"), [3], fps=25),
            "facetalk.Mesh, and 3 is none",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::facetalk.errors.HearingWarning")
def test_what_is_of_another_kind_is_told_by_name(model, talk, tmp_path, wrong, says):
    with pytest.raises(facetalk.InputError, match=says):
        wrong(model, talk, tmp_path / "talk.glb")
    assert not list(tmp_path.iterdir())
