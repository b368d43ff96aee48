"""Motions of another system, judged in place of generated ones."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from listener import SECONDS, Listener, write_manifest

from facetalk.cli import main
from facetalk.data.expressions import EXPRESSION_NAMES, INDEX
from facetalk.errors import InputError
from facetalk.live.curves import write_curves
from facetalk.metrics.evaluate import evaluate
from facetalk.metrics.given import GivenMotions
from facetalk.metrics.manifest import read
from facetalk.motion import Motion


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_manifest(tmp_path_factory.mktemp("manifest"))


def say(name: str, seed: int = 0) -> Motion:
    return Listener().generate(Path(f"{name}.wav"), seed=seed)


def given(folder: Path, manifest: Path, fps: float = 25.0) -> GivenMotions:
    found = GivenMotions(folder, fps=fps)
    items = read(manifest)
    found.find(items, items)
    return found


class Refuses(Listener):
    """A head that wears motions and must not make any."""

    def generate(self, audio: Path, **options: object) -> Motion:
        raise AssertionError("nothing is to be generated")


def test_given_motions_have_the_figures_of_generated_ones(manifest: Path, tmp_path: Path) -> None:
    for index, name in enumerate("ab"):
        for seed in range(2):
            (tmp_path / f"seed{seed}").mkdir(exist_ok=True)
            say(name, 1000 * seed + index).save(tmp_path / f"seed{seed}" / f"{name}.safetensors")
    shutil.copy(tmp_path / "seed0" / "a.safetensors", tmp_path / "seed0" / "of no recording.safetensors")
    (tmp_path / "notes").mkdir()
    told = evaluate(Listener(), manifest, split="valid").as_dict()
    found = evaluate(Refuses(), manifest, split="valid", motions=GivenMotions(tmp_path)).as_dict()
    assert found.pop("settings") == {**told.pop("settings"), "motions": tmp_path.name}
    assert json.dumps(found) == json.dumps(told)


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_curves_at_other_rates_are_the_same_face(manifest: Path, tmp_path: Path, suffix: str) -> None:
    for name in "ab":
        write_curves(tmp_path / f"{name}{suffix}", say(name), EXPRESSION_NAMES)
    found = given(tmp_path, manifest)
    jaw = INDEX["jawOpen"]
    assert found.seeds == 1 and found.missing == ()
    for item in read(manifest):
        (motion,) = found.motions(item)
        true = say(item.audio.stem)
        assert motion.fps == 25.0 and motion.expressions.shape == true.expressions.shape
        # In time to a fraction of a frame: a frame or half of one later fits worse.
        near = np.abs(motion.expressions[:, jaw] - true.expressions[:, jaw]).mean()
        times = (np.arange(len(true)) + 0.5) / 25.0
        for late in (-0.02, 0.02):
            assert near < 0.5 * np.abs(motion.expressions[:, jaw] - true.at(times + late)[:, jaw]).mean()


def test_silence_around_a_motion_is_left_out(manifest: Path, tmp_path: Path) -> None:
    for name in "ab":
        motion = say(name)
        frames = motion.expressions
        around = np.concatenate([np.zeros((25, 53)), frames, np.zeros((25, 53))])
        Motion(around, 25.0, provenance={"pad": [1.0, 1.0]}).save(tmp_path / f"{name}.safetensors")
    found = given(tmp_path, manifest)
    for item in read(manifest):
        expected = say(item.audio.stem).expressions
        np.testing.assert_allclose(found.motions(item)[0].expressions, expected, atol=1e-5)


@pytest.mark.parametrize("change", [-2, -1, 1, 2])
def test_two_frames_more_or_less_are_cut_or_held(manifest: Path, tmp_path: Path, change: int) -> None:
    for name in "ab":
        codes = np.pad(say(name).expressions, ((0, max(change, 0)), (0, 0)), constant_values=0.5)
        Motion(codes[: len(codes) + min(change, 0)], 25.0).save(tmp_path / f"{name}.safetensors")
    item = read(manifest)[0]
    (motion,) = given(tmp_path, manifest).motions(item)
    whole = say("a").expressions
    assert len(motion) == round(SECONDS["a"] * 25) == len(whole)
    kept = len(whole) + min(change, 0)
    np.testing.assert_array_equal(motion.expressions[:kept], whole[:kept])
    np.testing.assert_array_equal(motion.expressions[kept:], whole[[kept - 1] * (len(whole) - kept)])


def test_recordings_of_one_name_are_told_by_their_paths(manifest: Path, tmp_path: Path) -> None:
    corpus, motions = tmp_path / "corpus", tmp_path / "motions"
    lines = []
    for index, voice in enumerate(("ann", "bob")):
        (corpus / voice).mkdir(parents=True)
        shutil.copy(manifest.parent / "a.wav", corpus / voice / "a.wav")
        line = json.loads(manifest.read_text().splitlines()[0])
        lines.append(json.dumps(line | {"audio": f"{voice}/a.wav", "voice": voice}))
        (motions / voice).mkdir(parents=True)
        say("a", index).save(motions / voice / "a.safetensors")
    (corpus / "manifest.jsonl").write_text("\n".join(lines))
    found = given(motions, corpus)
    for index, item in enumerate(read(corpus)):
        (motion,) = found.motions(item)
        np.testing.assert_array_equal(motion.expressions, say("a", index).expressions)
    shutil.rmtree(motions)
    motions.mkdir()
    say("a").save(motions / "a.safetensors")  # of which of them?
    with pytest.raises(InputError, match=r"no motion .* of 2 of 2 recordings: ann/a, bob/a$"):
        given(motions, corpus)


def test_recordings_that_only_suffixes_tell_apart_are_refused(manifest: Path, tmp_path: Path) -> None:
    corpus, motions = tmp_path / "corpus", tmp_path / "motions"
    corpus.mkdir()
    motions.mkdir()
    line = json.loads(manifest.read_text().splitlines()[0])
    lines = [json.dumps(line | {"audio": name}) for name in ("a.wav", "a.wave", "b.wav", "a.wav")]
    for name in ("a.wav", "a.wave", "b.wav"):
        shutil.copy(manifest.parent / "a.wav", corpus / name)
        say("a").save(motions / f"{name[0]}.safetensors")
    (corpus / "manifest.jsonl").write_text("\n".join(lines))
    items = read(corpus)
    with pytest.raises(InputError, match=r"a\.wav and .*a\.wave have one name but for their suffixes"):
        given(motions, corpus)
    with pytest.raises(InputError, match="one name but for"):
        GivenMotions(motions).find(items[:1], items)  # the motion may be the other one's
    GivenMotions(motions).find(items[2:3], items)
    GivenMotions(motions).find([items[0]], [items[0], items[3]])  # one recording in two lines


def test_a_folder_is_told_by_its_name_wherever_it_is_called_from(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        say(name).save(tmp_path / f"{name}.safetensors")
    monkeypatch.chdir(tmp_path)
    report = evaluate(Refuses(), manifest, motions=GivenMotions(Path()), limit=1)
    assert report.settings["motions"] == tmp_path.name


def test_a_motion_without_frames_is_refused_of_the_shortest_recording(manifest: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(800, np.float32), 16_000)
    item = dataclasses.replace(read(manifest)[0], audio=tmp_path / "a.wav", phones=[])
    Motion(np.zeros((0, len(EXPRESSION_NAMES))), 25.0).save(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"a\.safetensors has no frames$"):
        GivenMotions(tmp_path).find([item], [item])


def test_missing_curves_are_said_once(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        jaw = say(name).expressions[:, INDEX["jawOpen"]]
        rows = [[float(value)] for value in jaw]
        content = {"exportFps": 25, "facsNames": ["JawOpen"], "weightMat": rows}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    report = evaluate(Refuses(), manifest, motions=GivenMotions(tmp_path), split="valid")
    error = capsys.readouterr().err
    assert error.count("and 0 there") == 1 and "browDown_L, " in error and "jawOpen" not in error
    assert report.settings["without"].count(",") == 51 and report.settings["seeds"] == 1
    assert report.rows["model"]["blinks_per_minute"] == 0.0 < report.rows["model"]["agreement"]


def longer(folder: Path) -> None:
    codes = np.pad(say("a").expressions, ((0, 3), (0, 0)))
    Motion(codes, 25.0).save(folder / "a.safetensors")


def narrow(folder: Path) -> None:
    Motion(np.zeros((155, 12)), 25.0).save(folder / "a.safetensors")


def twice(folder: Path) -> None:
    write_curves(folder / "a.csv", say("a"), EXPRESSION_NAMES)


def damaged(folder: Path) -> None:
    (folder / "a.safetensors").write_bytes(b"no motion at all")


def incomplete(folder: Path) -> None:
    for seed, name in enumerate("ba"):
        (folder / str(seed)).mkdir()
        (folder / f"{name}.safetensors").replace(folder / str(seed) / f"{name}.safetensors")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (longer, r"a\.safetensors has 158 frames of 25 a second, 6\.32 s, but .*a\.wav lasts 6\.20 s"),
        (narrow, r"a\.safetensors has 12 values a frame"),
        (twice, r"a\.safetensors and a\.csv are of the same recording"),
        (damaged, r"a\.safetensors"),
        (lambda folder: (folder / "a.safetensors").unlink(), r"of 1 of 2 recordings: a$"),
        (incomplete, r"0 has no motion .* of 1 of 2 recordings: a$"),
    ],
)
def test_what_cannot_be_judged_is_one_line_before_the_work(
    manifest: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    for name in "ab":
        say(name).save(tmp_path / f"{name}.safetensors")
    spoil(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        evaluate(Refuses(), manifest, motions=GivenMotions(tmp_path))
    assert "\n" not in str(caught.value)


def test_with_a_limit_the_others_may_be_missing(manifest: Path, tmp_path: Path) -> None:
    say("a").save(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="of 1 of 2 recordings: b"):
        evaluate(Refuses(), manifest, motions=GivenMotions(tmp_path))
    report = evaluate(Refuses(), manifest, motions=GivenMotions(tmp_path), limit=1)
    assert report.settings["clips"] == 1
    for options in ({"steps": 1}, {"seeds": 2}, {"guidance": 1.0}, {"pad": 1.0}):
        with pytest.raises(InputError, match=f"{next(iter(options))} is for motions that are generated"):
            evaluate(Refuses(), manifest, motions=GivenMotions(tmp_path), **options)


def test_the_command_judges_a_folder(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    motions = tmp_path / "other"
    motions.mkdir()
    for name in "ab":
        write_curves(motions / f"{name}.json", say(name), EXPRESSION_NAMES)
    words = ["evaluate", str(manifest), "--motions", str(motions), "--limit", "2", "--threads", "1"]
    for more, message in (
        (["--steps", "2"], "--steps is for motions that are generated"),
        (["--seeds", "2"], "--seeds is for"),
        (["--pad", "0"], "--pad is for"),
        (["--guidance", "1"], "--guidance is for"),
        (["--look-ahead", "0.2"], "--look-ahead is for"),
        (["--encoder", "whisper"], "--encoder is for"),
        (["--rendered"], "leave it out with --motions"),
        (["--rendered", "--look-ahead", "0.2"], "leave it out with --look-ahead"),
        (["--motions", str(tmp_path / "none")], "no folder of motions"),
        (["--json", str(motions / "a.json")], "it is the input"),
    ):
        assert main([*words, *more]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    out = tmp_path / "report.json"
    assert main([*words, "--json", str(out)]) == 0
    assert "motions other" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["rows"]["model"]["agreement"] > 0.8 and found["settings"]["steps"] is None
