"""The morphable head: shapes, parts, exact distances, sampling, and errors that say what to do."""

import numpy as np
import pytest

from facetalk.data.heads.ict import MorphableHead
from facetalk.data.heads.samples import DistancePool, SurfaceSampler, random_identities, speech_expressions
from facetalk.errors import InputError
from facetalk.nphm.head.parts import Part

pytest.importorskip("igl", reason="libigl makes training data; pip install 'facetalk[train]'")


@pytest.fixture(scope="module")
def head(synthetic_data):
    return MorphableHead.load(synthetic_data)


def test_shapes_are_linear(head):
    rng = np.random.default_rng(0)
    w, e = rng.normal(size=head.identity_dim), rng.random(head.expression_dim)
    both = head.vertices(w, e) - head.vertices()
    assert np.allclose(both, head.vertices(w) + head.vertices(None, e) - 2 * head.vertices(), atol=1e-6)
    assert np.allclose(head.canonical(), head.vertices(None, head.weights(jawOpen=0.25)))
    assert head.weights(eyeBlink=1.0).tolist() == [1, 1, 0, 0, 0, 0]
    with pytest.raises(InputError, match="noseTwist"):
        head.weights(noseTwist=1.0)


def test_parts(head):
    part = head.vertex_part
    assert {Part.SKIN, Part.EYEBALLS, Part.UPPER_TEETH, Part.LOWER_TEETH} == set(part.tolist())
    teeth = head.part_vertices("teeth")
    shape = head.canonical()
    upper = shape[teeth][part[teeth] == Part.UPPER_TEETH, 1]
    lower = shape[teeth][part[teeth] == Part.LOWER_TEETH, 1]
    assert upper.min() > lower.max()


def test_eyeballs_are_found(head):
    centres, radii = head.eyeballs(head.canonical())
    expected = np.array([[3, 4, 10.3], [-3, 4, 10.3]]) * 0.04 + [0, -0.05, -0.24]
    assert np.allclose(centres, expected, atol=1e-4) and np.allclose(radii, 0.06, atol=1e-4)


def test_signed_distance_of_known_places(head):
    """Far outside, inside the ball, in the mouth's hollow, inside an eyeball, below the neck's cut."""
    shape = head.canonical()

    def to_head(p):
        return np.array(p) * 0.04 + [0, -0.05, -0.24]

    value = head.signed_distance(
        np.stack(
            [
                to_head(p)
                for p in ([0, 0, 40], [0, 2, 2], [0, -4, 9.5], [3, 4, 11.3], [0, -14, 1], [0, -11, 0])
            ]
        ),
        shape,
    )
    assert value[0] == pytest.approx(27 * 0.04, abs=0.02)  # the face's front is at z = 13
    assert value[1] < -0.1 and value[2] > 0.005 and value[3] == pytest.approx(-0.02, abs=0.004)
    assert value[4] > 0.07 and value[5] == pytest.approx(-0.04, abs=0.01)
    on = shape[head.part_vertices("face")]
    on = on[(on - to_head([0, -12, 0]))[:, 1] > 0.05]
    distance = np.abs(head.signed_distance(on, shape))
    assert (
        np.quantile(distance, 0.5) < 1e-4
    )  # most of the skin is on the surface; the rest is inside other parts


def test_sampling_favours_lips_and_lids(head):
    sampler = SurfaceSampler(head)
    shape = head.canonical()
    points = sampler.draw(20_000, np.random.default_rng(1)).of(shape)

    def tilted(centre, radius):
        return (np.linalg.norm(points - shape[centre], axis=1) < radius).mean()

    mouth, crown = head.landmark_ids[62], int(shape[:, 1].argmax())
    assert tilted(mouth, 0.05) > 5 * tilted(crown, 0.05)
    assert np.isfinite(points).all()


def test_speech_expressions_keep_mouth_close_with_the_jaw(head):
    drawn = speech_expressions(head, 300, np.random.default_rng(2))
    jaw, close = drawn[:, 3], drawn[:, 4]
    assert drawn.min() >= 0 and (close <= 0.8 * jaw + 0.02 + 1e-6).all() and (close > 0).any()
    assert (drawn[:, 0] == 1).any()


def test_pool_is_seeded_and_survives_the_disk(head, tmp_path):
    pools = [DistancePool.make(head, mean_points=400, identities=2, points=200, seed=4) for _ in range(2)]
    assert all(np.array_equal(a, b) for a, b in zip(pools[0].points, pools[1].points, strict=True))
    assert not pools[0].coefficients[0].any() and len(pools[0].points[0]) == 400
    pools[0].save(tmp_path / "pool.npz")
    again = DistancePool.load(tmp_path / "pool.npz")
    assert all(np.array_equal(a, b) for a, b in zip(again.distances, pools[0].distances, strict=True))
    near = np.abs(pools[0].distances[0]) < 0.05
    assert near.mean() > 0.5 and (pools[0].distances[0] < 0).any() and (pools[0].distances[0] > 0).any()
    assert np.abs(random_identities(head, 50, 1)).max() <= 1.6 + 1e-6


def test_bad_files_are_explained(tmp_path):
    with pytest.raises(InputError, match=r"no head data at .*missing\.npz"):
        MorphableHead.load(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(InputError, match="plain arrays"):
        MorphableHead.load(tmp_path / "text.npz")
    np.savez(tmp_path / "half.npz", neutral=np.zeros((3, 3)))
    with pytest.raises(InputError, match="lacks identity_deltas"):
        MorphableHead.load(tmp_path / "half.npz")
