"""Assembling a model folder: parts as trainings leave them, parts that do not fit, places that are taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import facetalk
from facetalk.audio import AudioEncoder
from facetalk.cli import main
from facetalk.diffusion import MotionModel
from facetalk.errors import InputError
from facetalk.models import find_model
from facetalk.models.assemble import assemble
from facetalk.tongue import TongueNetwork
from facetalk.training.audio.mini_wav2vec2 import name_features, save_encoder, small_model

DEFAULT = find_model("default").folder


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders as trainings leave them: audio/encoder, motion/model, head/head."""
    run = tmp_path_factory.mktemp("run")
    for part, inner in (("audio", "encoder"), ("motion", "model"), ("head", "head")):
        (run / part / "checkpoint").mkdir(parents=True)
        shutil.copytree(DEFAULT / part, run / part / inner)
    return run


def test_folders_of_trainings_become_a_model(trainings: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "mymodel"
    command = ["assemble", *(f"--{p}={trainings / p}" for p in ("audio", "motion", "head")), "-o", str(out)]
    assert main(command) == 0
    assert f"--model {out}" in capsys.readouterr().out
    assert sorted(entry.name for entry in out.iterdir()) == ["audio", "config.json", "head", "motion"]
    model = facetalk.FaceTalk.from_pretrained(out)
    assert model.config.name == "mymodel"
    model.generate(([0.0] * 16000, 16000), seed=0, steps=1)
    assert main([*command, "--name", "again"]) == 0  # its own work is replaced
    assert find_model(out).name == "again"


def test_inner_folders_and_model_folders_are_parts(trainings: Path, tmp_path: Path) -> None:
    out = assemble(DEFAULT, trainings / "motion" / "model", DEFAULT / "head", tmp_path / "mixed")
    assert find_model(out).fps == 25.0


def test_a_built_in_model_is_named(trainings: Path, tmp_path: Path, capsys) -> None:
    """Who installed the package does not know where its folders are."""
    words = ["assemble", f"--audio={trainings / 'audio'}", "--motion=default", "--head=default"]
    assert main([*words, "-o", str(tmp_path / "mixed")]) == 0
    assert find_model(tmp_path / "mixed").fps == 25.0
    assert main([*words[:-1], "--head=defualt", "-o", str(tmp_path / "other")]) == 2
    assert "neither a folder nor a built-in model (default)" in capsys.readouterr().err


def test_a_tongue_is_a_part_that_may_be_left_out(trainings: Path, tmp_path: Path) -> None:
    parts = [f"--{part}={DEFAULT}" for part in ("audio", "motion", "head", "tongue")]
    assert main(["assemble", *parts, "-o", str(tmp_path / "mine")]) == 0
    assert facetalk.FaceTalk.from_pretrained(tmp_path / "mine").tongue is not None
    assert main(["assemble", *parts[:3], "-o", str(tmp_path / "mine")]) == 0
    assert facetalk.FaceTalk.from_pretrained(tmp_path / "mine").tongue is None
    layers = (np.zeros((3, 7)), np.zeros(3), np.zeros((2, 3)), np.zeros(2))
    TongueNetwork(*(layer.astype(np.float32) for layer in layers)).save(tmp_path / "tongue", {})
    with pytest.raises(InputError, match=r"takes 7 audio features a frame, .* gives 192"):
        assemble(DEFAULT, DEFAULT, DEFAULT, tmp_path / "other", tongue=tmp_path / "tongue")
    with pytest.raises(InputError, match="facetalk-tongue"):
        assemble(DEFAULT, DEFAULT, DEFAULT, tmp_path / "other", tongue=DEFAULT / "motion")
    assert not (tmp_path / "other").exists()


def named(folder: Path, audio: str | None, motion: str | None) -> Path:
    """A model whose parts say whose features they give and take."""
    for part, space in (("audio", audio), ("motion", motion)):
        shutil.copytree(DEFAULT / part, folder / part)
        content = json.loads((folder / part / "config.json").read_text())
        place = content if part == "audio" else content["notes"]
        place.pop("feature_space", None)
        if space is not None:
            place["feature_space"] = space
        (folder / part / "config.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("audio", "motion", "fits"),
    [("a", "a", True), ("a", "b", False), (None, "b", True), ("a", None, True), (None, None, True)],
)
def test_an_encoder_whose_features_a_motion_model_was_not_trained_on(
    tmp_path: Path, capsys, audio: str | None, motion: str | None, fits: bool
) -> None:
    parts = named(tmp_path / "parts", audio, motion)
    words = ["assemble", f"--audio={parts}", f"--motion={parts}", "--head=default"]
    assert main([*words, "-o", str(tmp_path / "out")]) == (0 if fits else 2)
    error = capsys.readouterr().err
    assert fits or ("the features of another encoder" in error and error.count("\n") == 1)
    assert (tmp_path / "out").exists() == fits


def test_the_parts_of_the_built_in_model_say_that_they_belong_together(tmp_path: Path) -> None:
    space = AudioEncoder.from_pretrained(DEFAULT / "audio").feature_space
    assert space and MotionModel.load(DEFAULT / "motion").notes["feature_space"] == space
    # An encoder that was trained from nothing has as many features, and they mean other things.
    model = small_model(seed=1)
    name_features(model)
    save_encoder(model, tmp_path / "encoder")
    with pytest.raises(InputError, match="the features of another encoder"):
        assemble(tmp_path / "encoder", DEFAULT, DEFAULT, tmp_path / "out")


def test_what_is_in_the_way_stays(trainings: Path, tmp_path: Path) -> None:
    precious = tmp_path / "mymodel"
    precious.mkdir()
    (precious / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="choose another -o"):
        assemble(DEFAULT, DEFAULT, DEFAULT, precious)
    assert (precious / "notes.txt").read_text() == "mine"
    out = assemble(DEFAULT, DEFAULT, DEFAULT, tmp_path / "made")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="choose another -o"):
        assemble(DEFAULT, DEFAULT, DEFAULT, out)
    (out / "notes.txt").unlink()
    with pytest.raises(InputError, match="inside the output"):
        assemble(out, DEFAULT, DEFAULT, out)


def test_parts_that_do_not_fit_are_told(tmp_path: Path) -> None:
    for part in ("motion", "head"):
        shutil.copytree(DEFAULT / part, tmp_path / part)
    config = json.loads((tmp_path / "head" / "config.json").read_text())
    names = config["expression_names"]
    names[0] = "browDance_L"
    (tmp_path / "head" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="browDance_L, browDown_L are not in both"):
        assemble(DEFAULT, DEFAULT, tmp_path / "head", tmp_path / "out")
    with pytest.raises(InputError, match="neither a folder"):
        assemble(tmp_path / "nothing", DEFAULT, DEFAULT, tmp_path / "out")
    (tmp_path / "begun" / "checkpoint").mkdir(parents=True)
    with pytest.raises(InputError, match=r"no motion there .a training writes it"):
        assemble(DEFAULT, tmp_path / "begun", DEFAULT, tmp_path / "out")
    assert not (tmp_path / "out").exists()
