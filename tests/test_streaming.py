"""Motion of sound that is still going on: the same however it is cut, by the C library and by torch."""

import numpy as np
import pytest

from facetalk import FaceTalk, InputError
from facetalk.audio import load_audio


@pytest.fixture(scope="module", params=["native", "torch"])
def face(request):
    return FaceTalk.from_pretrained(device="cpu", backend=request.param)


@pytest.fixture(scope="module")
def speech():
    return load_audio("examples/demo.flac")[16_000 : 2 * 16_000]


def streamed(face: FaceTalk, sound: np.ndarray, sizes: list[int], **options: object) -> np.ndarray:
    with face.stream(**options) as stream:
        parts = [stream.push(part) for part in np.split(sound, np.cumsum(sizes))]
        parts.append(stream.finish())
        assert len(stream.finish().expressions) == 0
    return np.concatenate([part.expressions for part in parts])


@pytest.mark.parametrize("sizes", [[320] * 30, [0, 1, 0, 5000, 37]])
def test_streamed_is_generated_with_the_same_look_ahead(face, speech, sizes):
    motion = face.generate((speech, 16_000), look_ahead=0.2, seed=0, steps=2)
    found = streamed(face, speech, sizes, look_ahead=0.2, steps=2)
    assert found.shape == motion.expressions.shape == (25, 53)
    assert np.abs(found - motion.expressions).max() < 1e-5


@pytest.mark.parametrize(("rate", "tolerance"), [(16_000, 1e-4), (48_000, 0.01)])
def test_the_library_and_torch_agree(speech, rate, tolerance):
    sound = np.repeat(speech, rate // 16_000)
    found, expected = (
        streamed(FaceTalk.from_pretrained(device="cpu", backend=name), sound, [700] * 20, rate=rate, steps=1)
        for name in ("native", "torch")
    )
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < tolerance


def test_pieces_may_be_integers_and_have_channels(face, speech):
    whole = np.round(speech * 32767).astype(np.int16)
    expected = streamed(face, whole.astype(np.float32) / 32768, [], steps=1)
    found = streamed(face, np.stack([whole, whole], axis=1), [4000, 4000], steps=1)
    assert np.abs(found - expected).max() < 1e-4


def test_latency_provenance_and_the_end(face, speech):
    stream = face.stream(look_ahead=0.3, seed=5)
    assert stream.latency == pytest.approx(0.3)
    assert len(stream.push(speech[: int(0.31 * 16_000)]).expressions) == 0
    piece = stream.push(speech[int(0.31 * 16_000) : int(0.321 * 16_000)])
    assert len(piece.expressions) == 1 and piece.fps == 25.0 and piece.provenance["seed"] == 5
    stream.finish()
    with pytest.raises(InputError, match="finished"):
        stream.push(speech)


@pytest.mark.parametrize(
    "options",
    [dict(look_ahead=-1), dict(look_ahead=99), dict(steps=2, guidance=9), dict(rate=10), dict(seed=-1),
     dict(steps=0), dict(look_ahead=float("nan"))],
)  # fmt: skip
def test_options_out_of_range(face, options):
    with pytest.raises(InputError):
        face.stream(**options)


@pytest.mark.parametrize(
    ("look_ahead", "says"),
    [
        (-1, "look_ahead must lie in 0..60 seconds, got -1"),
        (60.5, "look_ahead must lie in 0..60 seconds, got 60.5"),
        (float("nan"), "look_ahead must be a finite number, got nan"),
        (float("inf"), "look_ahead must be a finite number, got inf"),
        ("soon", "look_ahead must be a number, got 'soon'"),
    ],
)
def test_a_look_ahead_that_is_none_is_told_in_the_same_words(face, speech, look_ahead, says):
    """By its name, whatever runs the stream, and before the recording is heard."""
    calls = (
        lambda: face.stream(look_ahead=look_ahead),
        lambda: face.generate("no such recording", look_ahead=look_ahead),
        lambda: face.features("no such recording", look_ahead=look_ahead),
    )
    for call in calls:
        with pytest.raises(InputError) as told:
            call()
        assert str(told.value) == says


def test_samples_that_are_none(face):
    stream = face.stream()
    with pytest.raises(InputError):
        stream.push(np.array([np.nan], np.float32))
    with pytest.raises(InputError):
        stream.push(np.zeros((2, 3, 4), np.float32))


def test_backends_that_are_none():
    with pytest.raises(InputError, match="backend"):
        FaceTalk.from_pretrained(backend="fast")
