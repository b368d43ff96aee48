"""Which encoder hears where nobody said which: Whisper for whole recordings, where it is there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from facetalk import FaceTalk, Motion
from facetalk.audio.whisper_weights import FOLDER
from facetalk.backend import Backend, EncoderName
from facetalk.batch import generate_batch
from facetalk.cli import main
from facetalk.data.expressions import is_upper_face
from facetalk.errors import InputError
from facetalk.units import SAMPLE_RATE
from tests.helpers.untaught_whisper import (
    model_with,
    pretend_installed,
    pretend_missing,
    untaught_adapter,
    write_weights,
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("whisper") / "weights.npz")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in model with an adapter that knows nothing, for whole recordings and live sound."""
    return model_with(untaught_adapter(live=True), tmp_path_factory.mktemp("model"))


@pytest.fixture
def installed(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, weights)


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_missing(monkeypatch)


def sound() -> tuple[np.ndarray, int]:
    return (0.1 * np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE)).astype(np.float32), SAMPLE_RATE


def same(one: Motion, other: Motion) -> bool:
    return bool(np.abs(one.expressions - other.expressions).max() < 1e-3)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("backend", ["native", "torch"])
def test_whisper_hears_whole_recordings_and_the_models_own_live_sound(model: Path, backend: Backend) -> None:
    auto, own, whisper = (
        FaceTalk.from_pretrained(model, "cpu", backend=backend, encoder=name)
        for name in ("auto", "model", "whisper")
    )
    assert (auto.native_model is None) == (backend == "torch")
    whole = [talk.generate(sound(), seed=1) for talk in (auto, own, whisper)]
    assert same(whole[0], whole[2]) and not same(whole[0], whole[1])
    live = [talk.generate(sound(), seed=1, look_ahead=0.2) for talk in (auto, own, whisper)]
    assert same(live[0], live[1]) and not same(live[0], live[2])
    assert [motion.provenance.get("encoder") for motion in (*whole, *live)] == [
        "whisper", None, "whisper", None, None, "whisper",
    ]  # fmt: skip
    for ahead, other in ((None, whisper), (0.2, own)):
        features = auto.features(sound(), look_ahead=ahead)
        np.testing.assert_allclose(features, other.features(sound(), look_ahead=ahead), atol=1e-5)
    with auto.stream(seed=1) as stream:
        pushed = Motion.joined([stream.push(sound()[0]), stream.finish()])
    assert same(pushed, live[0]) and "encoder" not in pushed.provenance
    with whisper.stream(seed=1) as stream:
        assert stream.push(sound()[0]).provenance["encoder"] == "whisper"
    # Whisper hears a second ahead at most; the own encoder further.
    auto.generate(sound(), look_ahead=2.0)
    with pytest.raises(InputError):
        whisper.generate(sound(), look_ahead=2.0)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("look_ahead", [None, 0.2])
@pytest.mark.parametrize("backend", ["native", "torch"])
def test_mouths_have_a_guidance_of_their_own(
    model: Path, tmp_path: Path, backend: Backend, look_ahead: float | None
) -> None:
    guided = tmp_path / "guided"
    shutil.copytree(model, guided)
    place = guided / FOLDER / "config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "guidance": 2.0}))
    plain, other = (
        FaceTalk.from_pretrained(folder, "cpu", backend=backend, encoder="whisper")
        for folder in (model, guided)
    )
    upper = np.array([is_upper_face(name) for name in plain.head.expression_names])

    def made(talk: FaceTalk, guidance: float | None = None) -> np.ndarray:
        motion = talk.generate(sound(), seed=3, guidance=guidance, look_ahead=look_ahead)
        assert motion.provenance["guidance"] == (guidance or (2.0 if talk is other else 1.5))
        return motion.expressions

    np.testing.assert_allclose(made(other)[:, ~upper], made(plain, 2.0)[:, ~upper], atol=1e-5)
    np.testing.assert_allclose(made(other)[:, upper], made(plain)[:, upper], atol=1e-5)
    assert np.abs(made(other) - made(plain))[:, ~upper].max() > 3e-3
    assert np.abs(made(plain, 2.0) - made(plain))[:, upper].max() > 3e-3
    np.testing.assert_allclose(made(other, 1.25), made(plain, 1.25), atol=1e-5)
    for bad in (-1.0, "much", 21.0):
        place.write_text(json.dumps({**json.loads(place.read_text()), "guidance": bad}))
        with pytest.raises(InputError, match="guidance"):
            made(FaceTalk.from_pretrained(guided, "cpu", backend=backend, encoder="whisper"))


@pytest.mark.usefixtures("not_installed")
def test_without_whisper_the_models_own_hears(model: Path) -> None:
    auto = FaceTalk.from_pretrained(model, "cpu", encoder="auto")
    assert auto.hears(whole=True) == auto.hears(whole=False) == "model"
    motion = auto.generate(sound(), seed=1)
    assert same(motion, FaceTalk.from_pretrained(model, "cpu").generate(sound(), seed=1))
    assert auto.live_native_model is auto.native_model


@pytest.mark.usefixtures("installed")
def test_a_model_without_an_adapter_hears_by_itself(model: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(model, bare)
    shutil.rmtree(bare / FOLDER)
    assert FaceTalk.from_pretrained(bare, "cpu", encoder="auto").hears(whole=True) == "model"


@pytest.mark.usefixtures("installed")
def test_the_command_line_takes_what_is_there(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", *sound())
    common = [str(tmp_path / "in" / "a.wav"), "--model", str(model), "--device", "cpu", "--seed", "1"]
    made = {}
    for name, options in {
        "auto": [], "own": ["--encoder", "model"], "live": ["--look-ahead", "0.2"],
    }.items():  # fmt: skip
        out = tmp_path / f"{name}.safetensors"
        assert main(["generate", *common, "-o", str(out), *options]) == 0
        assert ("heard by Whisper" in capsys.readouterr().out) == (name == "auto")
        made[name] = Motion.load(out)
    assert {name: motion.provenance.get("encoder") for name, motion in made.items()} == {
        "auto": "whisper", "own": None, "live": None,
    }  # fmt: skip
    assert not same(made["auto"], made["own"])
    assert main(["batch", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(model)]) == 0
    heard = Motion.load(next((tmp_path / "out").rglob("*.safetensors")))
    assert heard.provenance["encoder"] == "whisper"


@pytest.mark.usefixtures("installed")
def test_a_report_tells_what_heard(model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", *sound())
    line = {"audio": "a.wav", "phones": [["AA1", 0.1, 0.5], ["M", 0.5, 0.7]], "alphabet": "arpabet"}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(line) + "\n")
    told = {}
    for name, options in {
        "auto": [], "own": ["--encoder", "model"], "live": ["--look-ahead", "0.2"],
        "live by Whisper": ["--look-ahead", "0.2", "--encoder", "whisper"],
    }.items():  # fmt: skip
        out = tmp_path / f"{name}.json"
        words = ["--seeds", "1", "--steps", "1", "--model", str(model), "--device", "cpu", "--pooled"]
        assert main(["evaluate", str(tmp_path), "--json", str(out), *words, *options]) == 0
        told[name] = json.loads(out.read_text())["settings"]["encoder"]
    assert told == {"auto": "whisper", "own": "model", "live": "model", "live by Whisper": "whisper"}


@pytest.mark.usefixtures("installed")
def test_a_batch_goes_on_by_the_encoder_that_it_began_with(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", *sound())
    asked: list[tuple[EncoderName, int]] = [("auto", 0), ("whisper", 1)]
    for encoder, kept in asked:
        report = generate_batch(tmp_path / "in", tmp_path / "out", model=model, encoder=encoder)
        assert report.kept == kept and not report.failed
    with pytest.raises(InputError, match="encoder"):
        generate_batch(tmp_path / "in", tmp_path / "out", model=model, encoder="model")
