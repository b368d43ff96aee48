"""Curves of the C library are those of the torch path; its noise is Python's to the bit."""

import numpy as np
import pytest
from small_networks import small_encoder, small_motion

from facetalk.audio import AudioEncoder
from facetalk.diffusion import MotionModel, frame_noise
from facetalk.errors import InputError
from facetalk.native import WHOLE, NativeModel
from facetalk.native import frame_noise as native_noise

TOLERANCE = 1e-4  # of weights in 0..1


def curves(model: NativeModel, sound: np.ndarray, **options: object) -> np.ndarray:
    stream = model.stream(look_ahead=WHOLE, **options)
    assert len(stream.push(sound).curves) == 0
    return stream.finish().curves


@pytest.fixture(scope="module")
def torch_model(folder):
    return MotionModel.load(folder / "motion")


@pytest.fixture(scope="module")
def features(folder, speech):
    return AudioEncoder.from_pretrained(folder / "audio").features(speech, fps=25.0)


@pytest.mark.parametrize(
    ("seed", "step", "start", "channels"), [(0, 0, 0, 34), (2**64 - 1, 3, 2**32 - 3000, 1), (7, 9, 5, 1027)]
)
def test_noise_is_equal_to_the_bit(seed, step, start, channels):
    expected = frame_noise(seed, step, start, start + 2999, channels)
    assert np.array_equal(native_noise(seed, step, start, start + 2999, channels), expected)


@pytest.mark.parametrize(
    ("steps", "guidance"),
    [(None, None), (1, 1.0), (2, 2.5), (8, 1.3), (10, 1.5), (5, 1.0), (3, 4.0), (None, 3.0)],
)
def test_curves_of_the_built_in_model(model, torch_model, features, speech, steps, guidance):
    expected = torch_model.sample(features, steps=steps, guidance=guidance, seed=11)
    found = curves(model, speech, steps=steps, guidance=guidance, seed=11)
    assert model.names == torch_model.expression_names
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < TOLERANCE


@pytest.mark.parametrize("seconds", [0.01, 25.0])
def test_clips_of_a_frame_and_of_several_chunks(model, torch_model, folder, speech, seconds):
    sound = np.tile(speech, 5)[: int(16_000 * seconds)]
    features = AudioEncoder.from_pretrained(folder / "audio").features(sound, fps=25.0)
    expected = torch_model.sample(features, steps=2, seed=1)
    assert np.abs(curves(model, sound, steps=2, seed=1) - expected).max() < TOLERANCE


@pytest.mark.parametrize(
    ("changes", "steps", "guidance"),
    [
        (dict(), None, None),
        (dict(window=(2, 3)), 3, 1.7),
        (dict(window=(0, 4), history=None), 4, 1.5),
        (dict(window=(5, 0), history=1, heads=1, width=6, layers=1), 7, 0.0),
        (dict(history=None, motion_dim=5, feedforward=1), 2, 2.0),
    ],
)
def test_denoisers_of_other_kinds_and_sizes(make_folder, speech, changes, steps, guidance):
    path = make_folder(small_encoder(), small_motion(20, **changes))
    sound = np.tile(speech, 3)[: 16_000 * 13]  # two chunks
    features = AudioEncoder.from_pretrained(path / "audio").features(sound, fps=25.0)
    expected = MotionModel.load(path / "motion").sample(features, steps=steps, guidance=guidance, seed=2)
    found = curves(NativeModel(path), sound, steps=steps, guidance=guidance, seed=2)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < TOLERANCE
    assert expected.std() > 0.05


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (dict(steps=2, guidance=3.0), "guidance"),
        (dict(steps=1001), "steps"),
        (dict(steps=-1), "steps"),
        (dict(guidance=21.0), "guidance"),
        (dict(guidance=-1.0), "guidance"),
        (dict(guidance=-0.5), "guidance"),
        (dict(guidance=float("nan")), "guidance"),
        (dict(rate=999), "sample_rate"),
        (dict(look_ahead=-0.1), r"^look_ahead must lie in 0\.\.60 seconds, got -0\.1$"),
        (dict(look_ahead=float("nan")), "^look_ahead must be a finite number, got nan$"),
        (dict(look_ahead=float("-inf")), "^look_ahead must be a finite number, got -inf$"),
        (dict(look_ahead=61.0), "^look_ahead must lie"),
    ],
)
def test_options_out_of_range_are_refused_by_name(model, options, word):
    with pytest.raises(InputError, match=word):
        model.stream(**options)


def test_a_folder_that_has_lost_its_student_is_a_teacher_alone_in_both(make_live, speech):
    folder = make_live()
    assert NativeModel(folder).stream(look_ahead=WHOLE).steps == 2, "the student's"
    (folder / "motion/student.safetensors").unlink()
    motion, sound = MotionModel.load(folder / "motion"), speech[:16_000]
    features = AudioEncoder.from_pretrained(folder / "audio").features(sound, fps=25.0)
    native = NativeModel(folder)
    assert native.stream(look_ahead=WHOLE).steps == motion.steps_for(None, None) == 3
    for steps in (None, 2):
        found = curves(native, sound, steps=steps, seed=4)
        assert np.abs(found - motion.sample(features, steps=steps, seed=4)).max() < TOLERANCE


def test_another_noise_schedule_is_refused_by_both(make_live):
    folder = make_live()
    config = folder / "motion/config.json"
    config.write_text(config.read_text().replace('"cosine"', '"linear"'))
    for load in (NativeModel, lambda place: MotionModel.load(place / "motion")):
        with pytest.raises(InputError, match="the noise schedule is not cosine"):
            load(folder)
