"""Recordings to a corpus: what is kept of them, and the whole way to a head that speaks."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile
from golden import GOLDEN

from facetalk.cli import main
from facetalk.data.captured import read_space, read_stretches
from facetalk.data.captured_writer import CorpusWriter
from facetalk.data.speech.corpus import read_manifest
from facetalk.errors import InputError
from facetalk.fitting.corpus import CorpusOptions, build_corpus
from facetalk.fitting.takes import Take, read_takes
from facetalk.models import find_model
from facetalk.motion import Motion
from facetalk.nphm import load_checkpoint
from facetalk.pipeline import FaceTalk

DEMO = GOLDEN.parents[1] / "examples" / "demo.flac"
DEFAULT = find_model("default").folder


@pytest.fixture(scope="module")
def spoken():
    """The demo's sound and what the built-in model makes of it."""
    model = FaceTalk.from_pretrained(device="cpu")
    return model, model.generate(DEMO, seed=0)


def take(name, motion, folder, **more):
    motion.save(folder / f"{name}.safetensors")
    found = Take(f"{name}/1", DEMO, (), folder / f"{name}.safetensors", name)
    return dataclasses.replace(found, **more)


def test_frames_that_are_not_explained_are_cut_out(spoken, tmp_path):
    model, motion = spoken
    flagged = [*range(60, 66), 100]
    motion = dataclasses.replace(motion, provenance={"flagged": flagged, "median_mm": 0.8})
    bad = dataclasses.replace(motion, provenance={"flagged": list(range(len(motion) - 5))})
    takes = [take("a", motion, tmp_path), take("b", bad, tmp_path)]
    outcomes = build_corpus(takes, model.head, tmp_path / "corpus")
    pieces = read_stretches(tmp_path / "corpus")
    lengths = [len(piece.motion()) for piece in pieces]
    assert lengths == [60, 34, len(motion) - 101]
    np.testing.assert_array_equal(pieces[1].motion().expressions, motion.expressions[66:100])
    sound, rate = soundfile.read(DEMO, dtype="float32")
    heard = pieces[1].samples()
    wanted = sound[round(66 / 25 * rate) : round(66 / 25 * rate) + len(heard)]
    assert len(heard) == round(34 / 25 * 16000)
    if rate == 16000:
        assert np.abs(heard - wanted).max() < 1e-3
    assert {piece.split for piece in pieces} == {"train", "valid"}
    assert outcomes[0].lips_late_s == 0.0 and outcomes[0].flagged == 7 and outcomes[0].median_mm == 0.8
    assert "not well explained" in outcomes[1].left_out
    space = read_space(tmp_path / "corpus")
    assert space.names == model.head.expression_names
    with pytest.raises(InputError, match="train motion"):
        read_manifest(tmp_path / "corpus")
    with pytest.raises(InputError, match=r"b/1: .* not well explained"):
        build_corpus(takes[1:], model.head, tmp_path / "nothing")


def test_lips_are_laid_on_the_sound(spoken, tmp_path):
    model, motion = spoken
    # As if the scanner had begun a fifth of a second after the sound, and nobody had said so.
    late = take("a", motion[5:], tmp_path)
    with pytest.raises(InputError, match=r"the lips come 0.20 s before the sound; its offset is 0.20"):
        build_corpus([late], model.head, tmp_path / "checked")
    both = [late, dataclasses.replace(take("b", motion[5:], tmp_path), offset=0.2)]
    told = build_corpus(both, model.head, tmp_path / "moved", options=CorpusOptions("shift"))
    assert [outcome.lips_late_s for outcome in told] == [-0.2, 0.0]
    first, second = read_stretches(tmp_path / "moved")
    assert np.abs(first.samples() - second.samples()).max() < 1e-3
    told = build_corpus(both, model.head, tmp_path / "ignored", options=CorpusOptions("ignore"))
    assert [outcome.lips_late_s for outcome in told] == [None, None]
    first, second = read_stretches(tmp_path / "ignored")
    assert np.abs(first.samples() - second.samples()).max() > 0.05


def everything(corpus):
    return sorted(file.relative_to(corpus).as_posix() for file in corpus.rglob("*") if file.is_file())


def test_a_corpus_is_made_anew_of_other_takes(spoken, tmp_path):
    """Nothing of the earlier one is left but what is nobody's, and it stays whole until the new one is."""
    model, motion = spoken
    corpus, ignore = tmp_path / "corpus", CorpusOptions("ignore")
    a, b, c = (take(name, motion[:50], tmp_path) for name in "abc")
    build_corpus([a, b], model.head, corpus, options=ignore)
    (corpus / "audio" / "mine.flac").write_bytes(b"mine")
    (corpus / "notes.txt").write_text("mine")
    before = everything(corpus)
    assert sum(file.startswith(("audio/", "codes/")) for file in before) == 5
    content = {file: (corpus / file).read_bytes() for file in before}
    spoilt = dataclasses.replace(motion[:50], provenance={"flagged": list(range(50))})
    for takes, text in (
        ([c, dataclasses.replace(c, id="d", motion=tmp_path / "gone")], "gone"),
        ([c], "c/1.0 alone"),
        ([take("e", spoilt, tmp_path)], "nothing is left"),
        ([c, dataclasses.replace(c, id="f", audio=corpus / before[0])], "anew"),
    ):
        with pytest.raises(InputError, match=text):
            build_corpus(takes, model.head, corpus, options=ignore)
        assert {file: (corpus / file).read_bytes() for file in everything(corpus)} == content
    # The same take with other frames, and another take; one of the two earlier ones is named no more.
    longer = take("a", motion[10:70], tmp_path)
    told = build_corpus([longer, c], model.head, corpus, options=ignore)
    assert [(one.id, one.left_out[:10]) for one in told] == [("a/1", ""), ("c/1", ""), ("b/1", "not in the")]
    pieces = read_stretches(corpus)
    assert [(piece.id, len(piece.motion())) for piece in pieces] == [("a/1.0", 60), ("c/1.0", 50)]
    ours = sorted(path.relative_to(corpus).as_posix() for p in pieces for path in (p.audio, p.codes))
    rest = ["audio/mine.flac", "captures.json", "manifest.jsonl", "notes.txt", "space.safetensors"]
    assert everything(corpus) == sorted([*ours, *rest])


def test_what_a_killed_build_wrote_is_removed_by_the_next(spoken, tmp_path):
    model, motion = spoken
    corpus, ignore = tmp_path / "corpus", CorpusOptions("ignore")
    a, b = (take(name, motion[:50], tmp_path) for name in "ab")
    writer = CorpusWriter(corpus)
    writer.piece("z/1.0", np.zeros(32000, np.float32), motion[:50], voice="z", licence="CC0")
    del writer  # as if it had been killed
    assert len(everything(corpus)) == 3
    # A list of what was written is not believed beyond the folders of the pieces.
    (tmp_path / "mine.flac").write_bytes(b"mine")
    with (corpus / "unfinished.jsonl").open("a") as file:
        file.write('{"audio": "../mine.flac", "codes": "audio/../../a.safetensors"}\n[1]\nno json\n')
    build_corpus([a, b], model.head, corpus, options=ignore)
    assert not any("z__1" in file or "unfinished" in file for file in everything(corpus))
    assert (tmp_path / "mine.flac").is_file() and len(read_stretches(corpus)) == 2


@pytest.fixture(scope="module")
def captures(tmp_path_factory):
    """An official head, tiny; a capture of points of it, and one that was fitted before."""
    folder = tmp_path_factory.mktemp("captures")
    model = load_checkpoint(GOLDEN / "nphm_tiny", direction="forward")
    model.save(folder / "head")
    rng = np.random.default_rng(0)
    sound, rate = soundfile.read(DEMO, dtype="float32")
    for name in "ab":
        phase = rng.uniform(0, 6, model.expression_dim)
        codes = (0.2 * np.sin(np.arange(26)[:, None] * 0.2 + phase)).astype(np.float32)
        if name == "a":
            person = model.bind(np.zeros(model.identity_dim, np.float32))
            points, _ = person.track(codes, resolution=24)
            np.savez(folder / "a.npz", points=250 * points)
        else:
            Motion(codes, 25.0, np.zeros(model.identity_dim, np.float32)).save(folder / "b.safetensors")
        soundfile.write(folder / f"{name}.wav", sound[: int(rate * 26 / 25)], rate)
    lines = [
        {"id": "a/1", "points": "a.npz", "audio": "a.wav", "unit": "millimetres"},
        {"id": "b/1", "motion": "b.safetensors", "audio": "b.wav", "voice": "anna", "licence": "CC0"},
    ]
    (folder / "takes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_from_captures_to_a_head_that_speaks(captures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(captures)
    corpus = tmp_path / "corpus"
    build = ["fit", "--takes", "takes.jsonl", "--model", "head", "--aligned", "--per-frame", "300", "-o"]
    assert main([*build, str(corpus)]) == 0
    said = capsys.readouterr().out
    assert "a/1     1.04 s kept, 0 of 26 frames flagged, median" in said and "2.1 s; train on it" in said
    pieces = read_stretches(corpus)
    assert [(piece.voice, piece.licence, piece.split) for piece in pieces] == [
        ("a", "unknown", "train"), ("anna", "CC0", "valid"),
    ]  # fmt: skip
    fitted = (corpus / "fits" / "a__1.safetensors").stat().st_mtime_ns
    assert main([*build, str(corpus)]) == 0  # again: nothing is fitted that was
    assert (corpus / "fits" / "a__1.safetensors").stat().st_mtime_ns == fitted
    run, model = tmp_path / "run", tmp_path / "model"
    train = ["train", "motion", "--corpus", str(corpus), "--audio", str(DEFAULT / "audio"), "--out", str(run)]
    assert main([*train, "--steps", "2", "--batch", "2", "--crop", "20", "--variants", "2"]) == 0
    put_together = ["assemble", "--audio", str(DEFAULT), "--motion", str(run), "-o", str(model), "--head"]
    assert main([*put_together, "head"]) == 0
    talk = ["generate", "a.wav", "--model", str(model), "--steps", "2", "--pad", "0", "--detail", "low"]
    for output, more in (("talk.glb", ["--motion", str(tmp_path / "talk.safetensors")]),
                         ("torch.safetensors", ["--backend", "torch"])):  # fmt: skip
        words = [word for word in talk if output.endswith("glb") or word not in ("--detail", "low")]
        assert main([*words, *more, "-o", str(tmp_path / output)]) == 0, capsys.readouterr().err
    mine, other = (Motion.load(tmp_path / f"{name}.safetensors").expressions for name in ("talk", "torch"))
    assert mine.shape == (26, 16) and mine.min() < 0  # a learned space has no limits
    np.testing.assert_allclose(mine, other, atol=1e-4)
    assert (tmp_path / "talk.glb").stat().st_size > 10_000
    ours = FaceTalk.from_pretrained(model, "cpu")
    first = next(iter(ours.decode(Motion.load(tmp_path / "talk.safetensors"), detail="low")))
    off = ours.any_head.nphm.sdf(4 * first.vertices[:50], np.zeros(ours.any_head.identity_dim), mine[0])
    assert np.median(np.abs(off)) < 0.01 and len(first.faces) > 100
    capsys.readouterr()
    # What needs names or belongs to others is refused in a line.
    load_checkpoint(GOLDEN / "nphm_tiny", direction="backward").save(tmp_path / "other")
    for words, text in (
        (["export", str(tmp_path / "talk.safetensors"), "--model", str(model), "-o", "t.csv"], "no names"),
        (["export", str(tmp_path / "talk.safetensors"), "-o", str(tmp_path / "t.glb")], "16 values a frame"),
        ([*put_together, str(tmp_path / "other")], "not trained on codes of the head"),
        ([*put_together, str(DEFAULT)], "16 expressions"),
        ([*talk, "--identity", "random:1", "-o", str(tmp_path / "t.glb")], "no people to draw"),
        ([*train[:-1], str(tmp_path / "long"), "--crop", "96", "--steps", "1"], "smaller --crop"),
        (["train", "audio", *train[2:4], "--out", str(tmp_path / "t")], "train motion"),
        (["fit", "--takes", "takes.jsonl", "-o", str(tmp_path / "x")], "another"),
    ):
        assert main(words) == 2, words
        told = capsys.readouterr().err
        assert text in told and told.strip().splitlines()[-1].startswith("error: "), (words, told)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ({"audio": "a.wav", "points": "a.npz"}, "no id"),
        ({"id": "a"}, "no audio"),
        ({"id": "a", "audio": "gone.wav", "points": "a.npz"}, "no such file"),
        ({"id": "a", "audio": "a.wav"}, "points or views"),
        ({"id": "a", "audio": "a.wav", "points": "*.ply"}, "nothing fits"),
        ({"id": "a", "audio": "a.wav", "points": []}, "no files"),
        ({"id": "a", "audio": "a.wav", "points": "a.npz", "fps": 0}, "fps"),
        ({"id": "a", "audio": "a.wav", "points": "a.npz", "offset": "soon"}, "expected a number"),
        ({"id": "../a", "audio": "a.wav", "points": "a.npz"}, "id: expected"),
        ({"id": "a", "audio": "a.wav", "points": "a.npz", "split": "test"}, "train or valid"),
        ({"id": "a", "audio": "a.wav", "points": "a.npz", "frames": 3}, "unknown frames"),
    ],
)
def test_lines_that_describe_no_take(captures, tmp_path, line, text):
    (captures / "bad.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(InputError, match=f"bad.jsonl, line 1: .*{text}"):
        read_takes(captures / "bad.jsonl")


def test_takes_of_cameras(captures):
    """Points and cameras go together; both are beside the list."""
    line = {"id": "a/b/2", "audio": "a.wav", "points": ["a.npz"], "views": "capture.json", "offset": -0.1}
    (captures / "views.jsonl").write_text(json.dumps(line) + "\n")
    (take,) = read_takes(captures / "views.jsonl")
    assert take.views == captures / "capture.json" and take.points == (captures / "a.npz",)
    assert (take.voice, take.offset, take.motion) == ("a", -0.1, None)


def test_lists_and_places_that_cannot_be_used(captures, tmp_path, capsys):
    (captures / "empty.jsonl").write_text("")
    twice = (captures / "takes.jsonl").read_text().splitlines()[0]
    (captures / "twice.jsonl").write_text(f"{twice}\n{twice}\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    good = str(captures / "takes.jsonl")
    for words, text in (
        ([str(captures / "gone.jsonl"), "-o", str(tmp_path / "c")], "no such file"),
        ([str(captures / "empty.jsonl"), "-o", str(tmp_path / "c")], "no takes"),
        ([str(captures / "twice.jsonl"), "-o", str(tmp_path / "c")], "twice"),
        ([good, "-o", str(tmp_path / "mine")], "something else"),
        ([good, "-o", str(tmp_path / "c"), "--report", str(tmp_path / "r.json")], "--report is not for"),
    ):
        assert main(["fit", "--takes", *words, "--model", str(captures / "head")]) == 2, words
        told = capsys.readouterr().err
        assert text in told and told.startswith("error: ") and told.count("\n") == 1, (words, told)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
