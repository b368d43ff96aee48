"""Whisper as a teacher: what is kept of what it hears, and how ours learns it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facetalk.audio import AudioEncoder
from facetalk.cli import main
from facetalk.data.speech.corpus import read_manifest
from facetalk.errors import InputError
from facetalk.models import find_model
from facetalk.training.audio import finetune
from facetalk.training.audio.finetune import FineTuning
from facetalk.training.audio.finetune_batches import Batches
from facetalk.training.audio.teachers import COMPONENTS, read_taught, taught_file, teach
from facetalk.training.audio.train import Speech, load_heads
from tests.helpers.noise_corpus import write_corpus
from tests.helpers.untaught_whisper import write_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("whisper") / "weights.npz")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    phones = [("SIL", 0.0, 0.3), ("M", 0.3, 0.5), ("AA", 0.5, 3.0)]
    return write_corpus(tmp_path_factory.mktemp("corpus"), phones, (3.0, 3.4, 3.0))


def test_what_was_heard_is_kept_and_goes_on(corpus: Path, weights: Path) -> None:
    utterances = read_manifest(corpus)
    assert teach(utterances, weights) == 3 and teach(utterances, weights) == 0
    first = [read_taught(u) for u in utterances]
    assert all(f is not None and f.shape[1] == COMPONENTS for f in first)
    assert [len(f) for f in first if f is not None] == [150, 170, 150]
    # Components do not tell the same twice, and weigh about 1 each on the whole.
    # They are those of the voices that are trained on.
    trained = [f for u, f in zip(utterances, first, strict=True) if f is not None and u.split == "train"]
    assert len(trained) == 2
    together = np.concatenate(trained).astype(np.float64)
    likeness = np.corrcoef(together.T) - np.eye(COMPONENTS)
    assert np.abs(likeness).max() < 0.05 and (together**2).mean() == pytest.approx(1.0, abs=0.05)
    taught_file(utterances[1]).unlink()
    assert read_taught(utterances[1]) is None and teach(utterances, weights) == 1
    np.testing.assert_allclose(read_taught(utterances[1]), first[1], atol=0.02)
    basis = taught_file(utterances[1]).parent / "basis.npz"
    whole = basis.read_bytes()
    for content in (b"", b"nothing"):
        taught_file(utterances[1]).write_bytes(content)
        with pytest.raises(InputError, match="damaged"):
            read_taught(utterances[1])
        taught_file(utterances[1]).unlink()
        basis.write_bytes(content)
        with pytest.raises(InputError, match="damaged"):
            teach(utterances, weights)
    basis.write_bytes(whole)


def test_folders_share_their_components_in_any_order(corpus: Path, weights: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        shutil.copytree(corpus, tmp_path / name, ignore=shutil.ignore_patterns("teachers"))
    one, other = (read_manifest(tmp_path / name)[:1] for name in ("one", "other"))
    places = [tmp_path / name / "teachers" for name in ("one", "other")]
    assert teach([*other, *one], weights) == 2
    kept = {name: (places[0] / name).read_bytes() for name in ("basis.npz", "about.json")}
    assert all((place / name).read_bytes() == kept[name] for place in places for name in kept)
    first = read_taught(one[0])
    assert first is not None
    # What one folder knows, another takes over, whichever comes first.
    shutil.rmtree(places[0])
    assert teach([*one, *other], weights) == 1 and (places[0] / "basis.npz").read_bytes() == kept["basis.npz"]
    np.testing.assert_allclose(read_taught(one[0]), first, atol=0.02)

    (places[1] / "basis.npz").unlink()  # as earlier versions left it
    with pytest.raises(InputError, match=r"other/teachers .*copy .*one/teachers/basis\.npz there"):
        teach([*other, *one], weights)
    with pytest.raises(InputError, match=r"tells its components; delete the folder"):
        teach(other, weights)
    shutil.copyfile(places[0] / "basis.npz", places[1] / "basis.npz")
    assert teach([*other, *one], weights) == 0
    with np.load(places[0] / "basis.npz") as arrays:
        np.savez(places[1] / "basis.npz", mean=arrays["mean"] + 1.0, basis=arrays["basis"])
    with pytest.raises(InputError, match=r"one/teachers and .*other/teachers .*different components"):
        teach([*other, *one], weights)


def test_crops_have_what_the_teacher_made_of_them(corpus: Path, weights: Path) -> None:
    utterances = read_manifest(corpus, split="train")
    teach(read_manifest(corpus), weights)
    taught_file(utterances[0]).unlink()  # whom the teacher has not heard
    encoder = AudioEncoder.from_pretrained(find_model("default").folder / "audio")
    speech = Speech(utterances, teacher=True)
    batches = Batches(speech, FineTuning(corpus, corpus, batch=24), encoder)
    batch = batches(0)
    told, known = batch["told"] > 0.5, batch["taught"].abs().amax((1, 2)) > 0.0
    assert told.any() and not told.all(1).all() and not told[~known].any()
    assert (batch["spoken"][known] > 0.5).all() and not known.all()
    assert float(batch["taught"][told].std()) > 0.5
    # A frame's middle lies between two of the teacher's.
    taught = read_taught(utterances[1])
    assert taught is not None
    found = speech.targets[1].teacher(np.array([0.5 / 25, 10.5 / 25]))
    expected = [taught[2 * k : 2 * k + 2].astype(np.float32).mean(0) for k in (0, 10)]
    np.testing.assert_allclose(found, expected, atol=2e-3)
    # Beyond a recording's ends nobody heard anything.
    seconds = len(taught) / 50
    heard = speech.targets[1].told(np.array([-0.01, 0.0, seconds - 0.01, seconds + 0.01]))
    assert heard.tolist() == [False, True, True, False]


def test_a_batch_again_is_the_same_sound_cut_elsewhere(corpus: Path) -> None:
    encoder = AudioEncoder.from_pretrained(find_model("default").folder / "audio")
    batches = Batches(
        Speech(read_manifest(corpus, split="train")), FineTuning(corpus, corpus, batch=4), encoder
    )
    one = batches(5)
    two, three = batches.again(one, 11), batches.again(one, 11)
    assert two["spoilt"] is one["spoilt"] and torch.equal(two["cuts"], three["cuts"])
    assert not torch.equal(two["cuts"], one["cuts"]) and two["cuts"].shape == one["cuts"].shape
    assert int(two["seed"]) != int(one["seed"])


def test_the_encoder_learns_from_it(
    corpus: Path, weights: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    command = [
        "train",
        "audio",
        "--init",
        "default",
        "--corpus",
        str(corpus),
        "--out",
        str(out),
        "--batch",
        "2",
    ]
    teacher = ["--teacher", "--teacher-weights", str(weights), "--uses", "2"]
    assert main([*command, *teacher, "--steps", "3"]) == 0
    assert "taught" in capsys.readouterr().out
    heads = load_heads(out / "heads.pt", 192)
    assert heads.taught is not None and heads.taught.weight.shape == (COMPONENTS, 192)
    assert main([*command, *teacher, "--steps", "4", "--resume"]) == 0  # in the middle of a batch's uses
    # As a process of a launch that is not the main one, and does not see what that one heard.
    taught_file(read_manifest(corpus)[0]).unlink()
    monkeypatch.setattr(finetune, "by_main_process", lambda work, what: None)
    assert main([*command, *teacher, "--steps", "5", "--resume"]) == 2
    assert "let it lie where all processes see it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--teacher"], "--teacher goes with --init"),
        (["--uses", "2"], "--uses goes with --init"),
        (["--init", "default", "--teacher-weights", "x"], "goes with --teacher"),
        (["--evaluate", "x", "--uses", "2"], "--uses does nothing with --evaluate"),
        (["--evaluate", "x", "--steps", "9"], "--steps does nothing with --evaluate"),
        (["--evaluate", "x", "--seed", "4"], "--seed does nothing with --evaluate"),
        (["--evaluate", "x", "--teacher"], "--teacher does nothing with --evaluate"),
    ],
)
def test_options_that_would_do_nothing(
    corpus: Path, tmp_path: Path, capsys: Any, options: list[str], said: str
) -> None:
    assert main(["train", "audio", "--corpus", str(corpus), "--out", str(tmp_path / "out"), *options]) == 2
    assert said in capsys.readouterr().err
