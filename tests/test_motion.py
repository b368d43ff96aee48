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
    whole = motion().save(tmp_path / "whole.safetensors").read_bytes()
    damaged.write_bytes(whole[:60])
    with pytest.raises(InputError, match="damaged"):
        Motion.load(damaged)
    for other in (b"glTF\x02\0\0\0\x10\0\0\0more", b"RIFF....WAVEfmt ", b"Timecode,BlendShapeCount"):
        (tmp_path / "other").write_bytes(other)
        with pytest.raises(InputError, match="other is not a facetalk motion; a motion is what") as caught:
            Motion.load(tmp_path / "other")
        assert "damaged" not in str(caught.value)
    with pytest.raises(InputError, match="does not exist"):
        motion().save(tmp_path / "no" / "such" / "folder.safetensors")


def posed(frames: int = 20) -> Motion:
    rng = np.random.default_rng(3)
    pose = rng.normal(0.0, 0.05, (frames, 6)).astype(np.float32)
    return Motion(rng.random((frames, 3)), 25.0, pose=pose, provenance={"pad": [0.0, 0.0], "seed": 1})


def test_the_pose_goes_where_its_frames_go(tmp_path):
    motion = posed()
    assert np.array_equal(Motion.load(motion.save(tmp_path / "a.safetensors")).pose, motion.pose)
    assert np.array_equal(motion[3:7].pose, motion.pose[3:7])
    half, double = motion.resample(12.5), motion.resample(50.0)
    assert half.pose.shape == (10, 6) and double.pose.shape == (40, 6)
    np.testing.assert_allclose(double.pose_at((np.arange(20) + 0.5) / 25), motion.pose, atol=0.05)
    assert motion.smooth(0.1).pose.std() < 0.7 * motion.pose.std()
    joined = Motion.joined([motion[:5], motion[5:12], motion[12:]])
    assert np.array_equal(joined.pose, motion.pose) and np.array_equal(joined.expressions, motion.expressions)
    assert joined.provenance == {"seed": 1}


def test_a_head_without_a_pose_keeps_still(tmp_path):
    motion = Motion(np.zeros((4, 3)), 25.0)
    assert motion.pose is None and motion.pose_at([0.1]) is None and motion.smooth(0.1).pose is None
    assert motion[1:].pose is None and motion.resample(50).pose is None
    assert Motion.load(motion.save(tmp_path / "a.safetensors")).pose is None
    joined = Motion.joined([motion, posed(5)])
    assert not joined.pose[:4].any() and np.array_equal(joined.pose[4:], posed(5).pose)


@pytest.mark.parametrize(
    "parts",
    [[], [posed(), Motion(np.zeros((4, 2)), 25.0)], [posed(), Motion(np.zeros((4, 3)), 30.0)],
     [posed(), Motion(np.zeros((4, 3)), 25.0, np.ones(2))]],
)  # fmt: skip
def test_motions_that_do_not_go_together(parts):
    with pytest.raises(InputError, match="join"):
        Motion.joined(parts)


def test_a_pose_has_as_many_frames_as_the_face():
    with pytest.raises(InputError, match="pose must have shape"):
        Motion(np.zeros((4, 3)), 25.0, pose=np.zeros((3, 6)))


def licking(frames: int = 20) -> Motion:
    rng = np.random.default_rng(2)
    return Motion(rng.random((frames, 3)), 25.0, tongue=rng.random((frames, 3)))


def test_the_tongue_goes_where_its_frames_go(tmp_path):
    motion = licking()
    assert np.array_equal(Motion.load(motion.save(tmp_path / "a.safetensors")).tongue, motion.tongue)
    assert np.array_equal(motion[3:7].tongue, motion.tongue[3:7])
    double = motion.resample(50)
    assert double.tongue.shape == (40, 3) and double.tongue.min() >= 0.0 and double.tongue.max() <= 1.0
    np.testing.assert_allclose(motion.tongue_at((np.arange(20) + 0.5) / 25), motion.tongue, atol=1e-6)
    assert motion.smooth(0.1).tongue.std() < 0.7 * motion.tongue.std()
    joined = Motion.joined([posed(4), motion])
    assert not joined.tongue[:4].any() and np.array_equal(joined.tongue[4:], motion.tongue)
    assert joined.pose is not None and not joined.pose[4:].any()


def test_a_motion_without_a_tongue_has_none_afterwards(tmp_path):
    motion = posed(4)
    assert motion.tongue is None and motion.tongue_at([0.1]) is None and motion.smooth(0.1).tongue is None
    assert motion[1:].tongue is None and motion.resample(50).tongue is None
    assert Motion.load(motion.save(tmp_path / "a.safetensors")).tongue is None


@pytest.mark.parametrize(
    ("tongue", "says"),
    [(np.zeros((3, 3)), "shape"), (np.zeros((4, 2)), "shape"), (np.full((4, 3), np.nan), "not finite"),
     (np.full((4, 3), 1.2), r"0\.\.1"), (np.full((4, 3), -0.2), r"0\.\.1")],
)  # fmt: skip
def test_weights_of_a_tongue_are_shares(tongue, says):
    with pytest.raises(InputError, match=says):
        Motion(np.zeros((4, 3)), 25.0, tongue=tongue)
