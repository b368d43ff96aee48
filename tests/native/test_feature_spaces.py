"""Parts that give or take the features of another encoder are refused, by the C library and by torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from facetalk import FaceTalk, InputError
from facetalk.cli import main
from facetalk.models import find_model
from facetalk.native import NativeModel
from tests.helpers.untaught_whisper import model_with, pretend_installed, untaught_adapter, write_weights

DEFAULT = find_model("default").folder
ADVICE = {
    "motion": ("was trained on", "give the encoder that it was trained with"),
    "tongue": ("was trained on", "train it again with facetalk train tongue"),
    "whisper": ("gives", "train it again with facetalk train whisper"),
}


def name_space(model: Path, part: str, space: object) -> None:
    """Have a part say whose features it gives or takes; None: it says nothing."""
    file = model / part / "config.json"
    content = json.loads(file.read_text())
    place = content["notes"] if part == "motion" else content
    place.pop("feature_space", None)
    if space is not None:
        place["feature_space"] = space
    file.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_with(untaught_adapter(), tmp_path_factory.mktemp("whole"))


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "model")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "model.npz")


def speak(model: Path, backend: str, encoder: str) -> None:
    FaceTalk.from_pretrained(model, "cpu", backend=backend, encoder=encoder).generate(  # type: ignore[arg-type]
        ([0.0] * 8_000, 16_000), seed=0, steps=1
    )


@pytest.mark.parametrize("part", [*ADVICE])
@pytest.mark.parametrize(
    ("own", "told", "fits"),
    [
        ("a", "a", True),
        ("a", "b", False),
        (None, "b", True),
        ("a", None, True),
        (None, None, True),
        ("a", 5, True),
    ],
)
def test_strangers_are_refused_in_the_same_words(
    model: Path, weights: Path, monkeypatch: pytest.MonkeyPatch,
    part: str, own: str | None, told: object, fits: bool,
) -> None:  # fmt: skip
    pretend_installed(monkeypatch, weights)
    encoder = "whisper" if part == "whisper" else "model"
    for each in ADVICE:
        name_space(model, each, None)
    name_space(model, "audio", own)
    name_space(model, part, told)
    said = []
    for backend in ("native", "torch"):
        if fits:
            speak(model, backend, encoder)
            continue
        with pytest.raises(InputError) as caught:
            speak(model, backend, encoder)
        said.append(str(caught.value))
    does, advice = ADVICE[part]
    expected = f"{model / part} {does} the features of another encoder than {model / 'audio'}; {advice}"
    assert said == [] if fits else said == [expected] * 2


@pytest.mark.parametrize("part", ["tongue", "whisper"])
def test_an_encoder_that_says_nothing_has_the_features_that_the_motion_was_trained_on(
    model: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    pretend_installed(monkeypatch, weights)
    for each, space in (("audio", None), ("motion", "a"), ("tongue", "a"), ("whisper", "a"), (part, "b")):
        name_space(model, each, space)
    for backend in ("native", "torch"):
        with pytest.raises(InputError, match="the features of another encoder than"):
            speak(model, backend, "whisper" if part == "whisper" else "model")


def test_a_stranger_that_nobody_asks_for_is_in_nobodys_way(model: Path) -> None:
    name_space(model, "whisper", "b")
    NativeModel(model)
    for backend in ("native", "torch"):
        speak(model, backend, "model")


@pytest.mark.parametrize("part", ["tongue", "whisper"])
def test_assembling_refuses_them_too(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    name_space(model, part, "b")
    parts = [f"--{kind}={model}" for kind in ("audio", "motion", "head", "tongue", "whisper")]
    assert main(["assemble", *parts, "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "the features of another encoder" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
