"""Parts of the corpus, figures of known motions, and both commands from end to end in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.ablations.__main__ import write as write_ablations
from experiments.ablations.variants import FULL, VARIANTS
from experiments.common import command, page
from experiments.common import corpus as corpora
from experiments.common.trial import Bench
from experiments.common.yardstick import Face, Yardstick, spoken_clips, unspoken_clips
from experiments.scaling.__main__ import write as write_scaling
from experiments.scaling.variants import VARIANTS as SCALING
from facetalk.audio import AudioEncoder
from facetalk.errors import InputError

pytestmark = pytest.mark.usefixtures("stand_ins")
ENCODER = "stand-in"


@pytest.fixture
def voices(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_ins: None
) -> corpora.VoiceCorpus:
    monkeypatch.setattr(corpora, "SMALL_S", 1.0)
    return corpora.read(corpus, AudioEncoder.from_pretrained(ENCODER), tmp_path / "cache")


def test_a_corpus_is_read_voice_by_voice_and_held_out_voices_are_in_none(voices, corpus, tmp_path) -> None:
    assert list(voices.voices) == ["low", "high"]
    assert voices.frames > voices.held_out.frames > 0
    assert voices.everything().frames == voices.frames
    assert len(corpora.one_face(voices.everything()).weights[0]) == 1
    assert len(voices.everything().weights[0]) == corpora.DRAWS
    files = sorted((tmp_path / "cache").iterdir())
    corpora.read(corpus, AudioEncoder.from_pretrained(ENCODER), tmp_path / "cache")
    assert sorted((tmp_path / "cache").iterdir()) == files


def test_small_voices_are_pooled(corpus: Path, tmp_path: Path) -> None:
    pooled = corpora.read(corpus, AudioEncoder.from_pretrained(ENCODER), tmp_path)
    assert list(pooled.voices) == ["others"]
    with pytest.raises(InputError, match="no 1 voices"):
        pooled.of_voices(1, 10)


def test_parts_have_the_frames_and_the_voices_they_say(voices) -> None:
    half = voices.share(0.5)
    assert half.frames == sum(round(0.5 * data.frames) for data in voices.voices.values())
    one, two = voices.of_voices(1, 60), voices.of_voices(2, 60)
    assert one.frames == two.frames == 60 and len(one.features) == 1 and len(two.features) == 2
    np.testing.assert_array_equal(one.features[0], voices.voices["low"].features[0][:60])
    assert one.weights[0].shape == (corpora.DRAWS, 60, 53)
    with pytest.raises(InputError, match="no 2 voices"):
        voices.of_voices(2, 2 * voices.voices["high"].frames + 2)


@pytest.fixture(scope="module")
def faces() -> tuple[Face, Face]:
    return Face(), Face(smoothing=False)


def test_without_smoothing_the_same_weights_move_the_still_part_more(faces) -> None:
    weights = np.random.default_rng(0).random((20, 53)).astype(np.float32)
    smooth, plain = (face.still_spread_mm(weights) for face in faces)
    assert plain > 1.5 * smooth > 0
    assert faces[0].still_spread_mm(np.repeat(weights[:1], 5, 0)) == pytest.approx(0.0, abs=1e-4)
    moved = [np.abs(face.landmarks(weights) - face.rest) for face in faces]
    brows = slice(17, 27)
    assert moved[1][:, brows].sum() > moved[0][:, brows].sum()


def test_figures_of_motions_whose_quality_is_known(corpus: Path) -> None:
    clips = spoken_clips(corpus, AudioEncoder.from_pretrained(ENCODER), 2)
    assert len(clips) == 2 and clips[0].voice == "new" and clips[0].features.shape[1] == 5
    stick = Yardstick(clips)
    truth = stick.truth(2)
    good = stick.measure(truth)["figures"]
    still = stick.measure([[np.zeros_like(w) for w in own] for own in truth])["figures"]
    late = stick.measure([[np.roll(w, 5, axis=0) for w in own] for own in truth])["figures"]
    assert good["closed"] == 1.0 and good["opening_r"] > 0.9 > late["opening_r"]
    assert (
        still["shut_elsewhere"] > 0.9
        and still["diversity_mouth_mm"] == 0.0
        and still["blinks_per_minute"] == 0
    )
    assert good["diversity_upper_mm"] > 0.05 and still["opening_mm"] > good["opening_mm"]
    assert still["frechet_mouth_mm2"] > good["frechet_mouth_mm2"]
    assert still["fdd_mm2"] > 0 and still["still_spread_mm"] == pytest.approx(0.0, abs=1e-6)


def test_recordings_without_phones_have_figures_of_life_alone(corpus: Path) -> None:
    clips = unspoken_clips(corpus / "audio", AudioEncoder.from_pretrained(ENCODER), 3)
    rng = np.random.default_rng(0)
    motions = [[rng.random((len(c.features), 53), dtype=np.float32) for _ in range(2)] for c in clips]
    found = Yardstick(clips).measure(motions)
    assert {"blinks_per_minute", "diversity_mouth_mm", "mouth_jerk"} <= set(found["figures"])
    assert "closed" not in found["figures"] and found["intervals"]["mouth_jerk"] is not None
    with pytest.raises(InputError, match="has no"):
        unspoken_clips(corpus, AudioEncoder.from_pretrained(ENCODER), 3)


def options(corpus: Path, out: Path, *more: str):
    words = ["--corpus", str(corpus), "--audio", ENCODER, "--head", "h", "--out", str(out)]
    small = ["--steps", "2", "--batch", "2", "--crop", "16", "--clips", "2"]
    return command.parser("x", "words").parse_args([*words, *small, *more])


def test_the_ablations_run_from_end_to_end_and_go_on_where_they_stopped(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = options(corpus, tmp_path, "--only", "full,no-smoothing,no-diffusion")
    assert command.run(first, "ablations", VARIANTS, write_ablations) == 0
    results = json.loads((tmp_path / "ablations.json").read_text())
    rows = {row["variant"]: row for row in results["rows"]}
    assert set(rows) == {"full", "no-smoothing", "no-diffusion"}
    assert rows["full"]["steps"] == 2 and rows["full"]["minutes_of_sound"] > 0
    assert rows["no-diffusion"]["spoken"]["figures"]["diversity_mouth_mm"] == 0.0
    assert rows["full"]["spoken"]["figures"]["diversity_mouth_mm"] > 0.0
    a, b = (rows[name]["spoken"]["figures"]["still_spread_mm"] for name in ("no-smoothing", "full"))
    assert a > b
    table = (tmp_path / "ablations.md").read_text()
    assert "| no diffusion | 1 | 11.32 / 0 |" in table and "| *truth* |" in table and "nan" not in table
    assert (tmp_path / "ablations.png").stat().st_size > 10_000

    trained = []
    train = Bench.train
    monkeypatch.setattr(
        Bench, "train", lambda self, v, seed: (trained.append((v.name, seed)), train(self, v, seed))[1]
    )
    again = options(corpus, tmp_path, "--only", "full,no-film", "--docs", str(tmp_path / "docs"))
    for folder in ("docs/images", "benchmarks/results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    assert command.run(again, "ablations", VARIANTS, write_ablations) == 0
    assert trained == [("no-film", 0)]
    rows = json.loads((tmp_path / "docs/benchmarks/results/ablations.json").read_text())["rows"]
    assert [row["variant"] for row in rows] == ["full", "no-smoothing", "no-film", "no-diffusion"]
    assert (tmp_path / "docs/docs/images/ablations.png").is_file()


def test_scaling_shares_the_whole_with_the_ablations(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpora, "SMALL_S", 1.0)
    assert SCALING[3].name == FULL.name
    args = options(corpus, tmp_path, "--only", "share-1-2,full,voices-1")
    assert command.run(args, "scaling", SCALING, write_scaling) == 0
    rows = {row["variant"]: row for row in json.loads((tmp_path / "scaling.json").read_text())["rows"]}
    whole = rows["full"]["minutes_of_sound"]
    assert rows["share-1-2"]["minutes_of_sound"] == pytest.approx(whole / 2, rel=0.05)
    assert rows["voices-1"]["minutes_of_sound"] == pytest.approx(whole / 8, rel=0.05)
    assert "1/8, 1 voice" in (tmp_path / "scaling.md").read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--only", "full,nothing"], "no row 'nothing'"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--crop", "1"], "--crop must be at least 2"),
        (["--corpus", "nowhere"], "no manifest.jsonl"),
    ],
)
def test_what_cannot_run_is_said_in_one_line(corpus, tmp_path, capsys, more, message: str) -> None:
    assert command.run(options(corpus, tmp_path, *more), "ablations", VARIANTS, write_ablations) == 2
    error = capsys.readouterr().err
    assert message in error and error.strip().count("\n") == 0 and error.startswith("error: ")


def test_a_page_is_filled_from_the_results_alone(corpus: Path, tmp_path: Path) -> None:
    args = options(corpus, tmp_path, "--only", "full,no-smoothing")
    assert command.run(args, "ablations", VARIANTS, write_ablations) == 0
    blocks = [
        f"<!-- experiment: ablations {part} -->\n<!-- /experiment -->\n"
        for part in ("budget", "changes", "lips", "life")
    ]
    filled = page.fill("words\n" + "".join(blocks), tmp_path)
    assert filled.startswith("words\n") and page.fill(filled, tmp_path) == filled
    assert "2 steps of 2 crops of 16 frames" in filled and "| no smoothing | 1 | 11.35 / 0.34 |" in filled
    assert page.fill(filled.replace("| no smoothing | 1", "| no smoothing | 9"), tmp_path) == filled
    assert "*Not run yet" in page.fill(blocks[0].replace("ablations", "missing"), tmp_path)
    (tmp_path / "damaged.json").write_text("{")
    for text, message in (
        (blocks[0].replace("<!-- /experiment -->", ""), "has no"),
        (blocks[0].replace("budget", "nothing"), "'nothing'"),
        (blocks[0].replace("ablations", "damaged"), "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            page.fill(text, tmp_path)


def test_the_committed_page_says_what_the_results_say() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.fill(text) == text
