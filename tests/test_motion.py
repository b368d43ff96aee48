import numpy as np
import pytest

from facetalk import InputError, Motion


def motion(frames=10, width=4):
    rng = np.random.default_rng(0)
    return Motion(rng.random((frames, width), dtype=np.float32), 25, np.arange(3), {"seed": 7})


def test_round_trip(tmp_path):
    before = motion()
    after = Motion.load(before.save(tmp_path / "talk.safetensors"))
    np.testing.assert_array_equal(after.expressions, before.expressions)
    np.testing.assert_array_equal(after.identity, before.identity)
    assert (after.fps, after.provenance) == (25.0, {"seed": 7})


def test_slice_keeps_the_rest():
    part = motion()[2:5]
    np.testing.assert_array_equal(part.expressions, motion().expressions[2:5])
    assert part.duration == pytest.approx(3 / 25)
    assert len(part.identity) == 3
    with pytest.raises(ValueError, match="step"):
        motion()[::2]
    with pytest.raises(TypeError, match="slice"):
        motion()[3]


def test_smooth_keeps_constants_and_calms_noise():
    still = Motion(np.full((20, 2), 0.3, np.float32))
    np.testing.assert_allclose(still.smooth(0.1).expressions, 0.3, atol=1e-6)
    rough = motion(50)
    calm = rough.smooth(0.1)
    assert np.diff(calm.expressions, axis=0).std() < 0.3 * np.diff(rough.expressions, axis=0).std()
    np.testing.assert_array_equal(rough.smooth(0).expressions, rough.expressions)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"expressions": np.zeros(3)}, r"\(T, E\)"),
        ({"expressions": np.full((2, 2), np.nan)}, "not finite"),
        ({"expressions": np.zeros((2, 2)), "fps": 0}, "fps"),
        ({"expressions": np.zeros((2, 2)), "identity": np.zeros((1, 2))}, r"\(I,\)"),
    ],
)
def test_bad_values_are_named(arguments, says):
    with pytest.raises(InputError, match=says):
        Motion(**arguments)


def test_bad_files_are_named(tmp_path):
    with pytest.raises(InputError, match="no motion file"):
        Motion.load(tmp_path / "none.safetensors")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"\x00" * 40)
    with pytest.raises(InputError, match="damaged"):
        Motion.load(damaged)
    with pytest.raises(InputError, match="does not exist"):
        motion().save(tmp_path / "no" / "such" / "folder.safetensors")
