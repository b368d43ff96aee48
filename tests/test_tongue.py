"""What the tongue does with speech: contacts of phones, the network that hears them, the way to a motion."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from facetalk import FaceTalk, InputError, Motion
from facetalk.arrays import Float32
from facetalk.data.tongue import contacts
from facetalk.native import NativeModel
from facetalk.tongue import Tongue, TongueNetwork

DEMO = Path(__file__).resolve().parents[1] / "examples/demo.flac"


@pytest.fixture(scope="module")
def model() -> FaceTalk:
    return FaceTalk.from_pretrained("default", "cpu")


@pytest.fixture(scope="module")
def sound() -> Float32:
    samples, rate = soundfile.read(DEMO, dtype="float32", frames=40_000)
    assert rate == 16_000
    return samples


def network(features: int = 5, seed: int = 0) -> TongueNetwork:
    rng = np.random.default_rng(seed)
    shapes = ((7, features), (7,), (2, 7), (2,))
    return TongueNetwork(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))


def test_phones_touch_where_they_are_made() -> None:
    said = [
        ("SIL", 0.0, 0.2), ("T", 0.2, 0.28), ("AA", 0.28, 0.6), ("DH", 0.6, 0.68), ("AE", 0.68, 1.0),
        ("S", 1.0, 1.2), ("M", 1.2, 1.4), ("NG", 1.4, 1.6), ("L", 1.6, 1.7), ("SIL", 1.7, 2.0),
    ]  # fmt: skip
    found = contacts(said, 2.0, 25, alphabet="arpabet")
    assert found.shape == (50, 2) and found.dtype == np.float32

    def most(start: float, end: float) -> list[float]:
        return found[round(start * 25) : round(end * 25)].max(axis=0).tolist()

    assert most(0.2, 0.28) == [1.0, 0.0] and most(1.6, 1.7) == [1.0, 0.0]
    assert most(0.6, 0.68) == [0.0, 1.0] and 0.65 < most(1.04, 1.16)[0] < 0.75
    for start, end in ((0.0, 0.1), (0.4, 0.5), (0.8, 0.9), (1.3, 1.5), (1.8, 2.0)):
        assert most(start, end) == [0.0, 0.0]
    assert np.abs(np.diff(found, axis=0)).max() < 1.0, "a tip takes time"


def test_a_phone_that_falls_between_frames_is_made_in_one() -> None:
    for start in np.arange(0.3, 0.38, 0.005):
        found = contacts([("t", start, start + 0.004)], 1.0, 25, alphabet="ipa")
        assert found[:, 0].max() == 1.0 and np.count_nonzero(found[:, 0]) < 6
    assert contacts([("n", 5.0, 5.1)], 1.0, 25, alphabet="ipa").shape == (25, 2), "beyond the end"
    assert not contacts([], 0.01, 25, alphabet="ipa").any()


def test_the_network_is_two_layers(tmp_path: Path) -> None:
    made, x = network(), np.random.default_rng(1).normal(size=(20, 5)).astype(np.float32)
    inner = np.array([[row @ w + b for w, b in zip(made.w1, made.b1, strict=True)] for row in x])
    inner = inner / (1 + np.exp(-inner))
    share = 1 / (1 + np.exp(-(inner @ made.w2.T.astype(np.float64) + made.b2)))
    np.testing.assert_allclose(made(x), np.clip((share - 0.08) / 0.77, 0, 1), atol=1e-5)
    assert made(1e6 * x).min() >= 0.0 and made(np.zeros((0, 5), np.float32)).shape == (0, 2)
    made.save(tmp_path / "tongue", {"seed": 1})
    again = TongueNetwork.load(tmp_path / "tongue")
    np.testing.assert_allclose(again(x), made(x), atol=5e-3)
    made.save(tmp_path / "tongue", {})  # an older one is replaced
    (tmp_path / "tongue/notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes|hold"):
        made.save(tmp_path / "tongue", {})


@pytest.mark.parametrize("what", ["format", "json", "tensor", "nan", "shape", "file", "width"])
def test_bad_folders_are_named(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "tongue"
    made = network()
    if what == "nan":
        made.w1[0, 0] = np.nan
    made.save(folder, {})
    if what == "format":
        (folder / "config.json").write_text(json.dumps({"format": "other", "version": 1}))
    if what == "json":
        (folder / "config.json").write_text("{")
    if what == "tensor":
        (folder / "model.safetensors").write_bytes(b"\x00" * 50)
    if what == "file":
        (folder / "model.safetensors").unlink()
    if what == "width":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"feature_dim": 6}))
    if what == "shape":
        with pytest.raises(ValueError, match="fit"):
            TongueNetwork(made.w1, made.b1[1:], made.w2, made.b2)
        return
    with pytest.raises(InputError, match=r"tongue|finite"):
        TongueNetwork.load(folder)
    with pytest.raises(InputError, match=r"tongue|finite"):
        Tongue.of(tmp_path, None)  # a head without a tongue hides no damage


def test_a_motion_has_a_tongue_that_speaks(model: FaceTalk, sound: Float32) -> None:
    motion = model.generate((sound, 16_000), seed=3)
    assert motion.tongue is not None and motion.tongue.shape == (len(motion), 3) and model.tongue is not None
    assert motion.tongue[:, 0].max() > 0.5 and motion.tongue.min() >= 0.0
    touched = model.tongue.network(model.features((sound, 16_000)))
    expected = model.tongue.reach.weights(touched, motion.expressions)
    np.testing.assert_allclose(motion.tongue, expected, atol=1e-5)
    padded = model.generate((sound, 16_000), seed=3, pad=0.4)
    assert padded.tongue is not None and len(padded.tongue) == len(motion) + 20
    late = [padded.tongue[15 + by : 65 + by, 0] for by in range(-3, 4)]
    alike = [np.corrcoef(part, motion.tongue[5:55, 0])[0, 1] for part in late]
    assert np.argmax(alike) == 3 and alike[3] > 0.85, "as late as the face"
    assert padded.tongue[:5].max() < 0.2


def test_silence_leaves_the_tongue_alone(model: FaceTalk) -> None:
    hush = 1e-3 * np.random.default_rng(0).normal(size=24_000).astype(np.float32)
    with pytest.warns(UserWarning):
        motion = model.generate((hush, 16_000), seed=0)
    assert motion.tongue is not None and motion.tongue.max() < 0.25


def test_a_stream_moves_it_however_the_sound_is_cut(model: FaceTalk, sound: Float32) -> None:
    def streamed(step: int) -> Motion:
        with model.stream(look_ahead=0.15, seed=1, steps=1) as stream:
            parts = [stream.push(sound[i : i + step]) for i in range(0, len(sound), step)]
            return Motion.joined([*parts, stream.finish()])

    whole, one = model.generate((sound, 16_000), look_ahead=0.15, seed=1, steps=1), streamed(333)
    assert whole.tongue is not None and one.tongue is not None and whole.tongue[:, 0].max() > 0.5
    np.testing.assert_allclose(one.tongue, whole.tongue, atol=1e-5)
    other = streamed(5000).tongue
    assert other is not None
    np.testing.assert_allclose(other, whole.tongue, atol=1e-5)
    offline = model.generate((sound, 16_000), seed=1, steps=1)
    assert offline.tongue is not None
    assert np.corrcoef(offline.tongue[:, 0], whole.tongue[:, 0])[0, 1] > 0.8


@pytest.mark.parametrize("look_ahead", [None, 0.15])
def test_contacts_are_of_the_features_that_the_face_is_made_from(
    model: FaceTalk, sound: Float32, look_ahead: float | None
) -> None:
    torch = FaceTalk(model.config, "cpu", "torch")
    features = model.features((sound, 16_000), look_ahead=look_ahead)
    np.testing.assert_allclose(torch.features((sound, 16_000), look_ahead=look_ahead), features, atol=2e-4)
    motion = torch.generate((sound, 16_000), look_ahead=look_ahead, seed=1, steps=1)
    assert model.tongue is not None and motion.tongue is not None and motion.tongue[:, 0].max() > 0.5
    expected = model.tongue.reach.weights(model.tongue.network(features), motion.expressions)
    np.testing.assert_allclose(motion.tongue, expected, atol=1e-3)
    with pytest.raises(InputError, match="look_ahead"):
        torch.features((sound, 16_000), look_ahead=-1.0)


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_the_tongue_of_a_stream_is_no_later_than_the_face(
    model: FaceTalk, sound: Float32, backend: str, rate: int
) -> None:
    """Of the features that the face is made from, at any rate."""
    face = FaceTalk(model.config, "cpu", backend)  # type: ignore[arg-type]
    with face.stream(look_ahead=0.1, steps=1, rate=rate) as stream:
        given = soxr.resample(sound[:24_000], 16_000, rate)
        parts = [stream.push(given[at : at + 900]) for at in range(0, len(given), 900)]
        for count, part in enumerate(parts, start=1):
            pushed = min(count * 900, len(given)) / rate - stream.latency
            frames = sum(map(len, parts[:count]))
            assert part.tongue is not None and len(part.tongue) == len(part)
            if backend == "native":  # soxr, which torch has, gives out its sound in blocks
                assert frames >= int(pushed * 25.0 + 0.5 - 1e-6)
        whole = Motion.joined([*parts, stream.finish()])
    expected = face.generate((sound[:24_000], 16_000), look_ahead=0.1, steps=1, seed=0)
    assert whole.tongue is not None and expected.tongue is not None
    assert np.corrcoef(whole.tongue[:, 0], expected.tongue[:, 0])[0, 1] > 0.9


def test_a_tongue_of_another_encoder_is_refused_alike(
    model: FaceTalk, tmp_path: Path, sound: Float32
) -> None:
    """In the C library's words by Python too, whether or not the head has a tongue."""
    folder = tmp_path / "model"
    shutil.copytree(model.config.folder, folder, copy_function=lambda a, b: Path(b).symlink_to(a))
    shutil.rmtree(folder / "tongue")
    network(9).save(folder / "tongue", {})
    other = FaceTalk.from_pretrained(folder, "cpu", backend="torch")
    told = []
    for load in (lambda: NativeModel(folder), lambda: Tongue.of(folder, None), lambda: other.stream(steps=1)):
        with pytest.raises(InputError) as error:
            load()
        told.append(str(error.value))
    words = "takes 9 audio features a frame, the encoder gives 192; train it again with facetalk train tongue"
    assert told == [f"{folder / 'tongue'} {words}"] * 3
    # What trains it again hears by the same folder.
    assert other.features((sound[:16_000], 16_000)).shape == (25, 192)


def test_models_without_one_have_no_tongue(model: FaceTalk, tmp_path: Path, sound: Float32) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model.config.folder, folder, copy_function=lambda a, b: Path(b).symlink_to(a))
    assert model.tongue is not None
    assert Tongue.of(folder, None) is None
    with pytest.raises(InputError, match="takes 192 audio features"):
        model.tongue.network(np.zeros((2, 64), np.float32))
    shutil.rmtree(folder / "tongue")
    bare = FaceTalk.from_pretrained(folder, "cpu")
    motion = bare.generate((sound[:8000], 16_000), seed=0, steps=1)
    assert bare.tongue is None and motion.tongue is None
    with bare.stream(steps=1) as stream:
        assert stream.push(sound[:16_000]).tongue is None
