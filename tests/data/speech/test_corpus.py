"""Corpora built and read, with the synthesizer that pip installs; others where the machine has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from facetalk.data.phones import is_bilabial, is_silence, lookup
from facetalk.data.speech import build as building
from facetalk.data.speech import corpus
from facetalk.data.speech.align import Aligner, AlignmentError, english_words, lenited, uncovered_share
from facetalk.data.speech.build import add_recordings, build
from facetalk.data.speech.recordings import ASTERISK, Recording, asterisk
from facetalk.data.speech.synth import Flite, Speech, espeak, festival
from facetalk.data.speech.text import SENTENCES, is_held_out, sentences
from facetalk.errors import InputError
from facetalk.units import SAMPLE_RATE


def have(make: object) -> bool:
    try:
        make()  # type: ignore[operator]
    except InputError:
        return False
    return True


needs_espeak = pytest.mark.skipif(
    not have(espeak), reason="espeak-ng is missing: pip install espeakng-loader"
)
needs_flite = pytest.mark.skipif(not have(Flite), reason="flite is missing: apt-get install flite")
needs_pocketsphinx = pytest.mark.skipif(not have(Aligner), reason="pocketsphinx is missing")
needs_festival = pytest.mark.skipif(
    not have(lambda: festival([("hi", "kal", 1.0)])), reason="festival is missing: apt-get install festival"
)
TEXT = "Papa may bake a big apple pie, and Mama will move five blue boats."


def check_speech(speech: Speech) -> None:
    """Phones in order within the sound; closures of p, b quieter than the rest; no speech without phones."""
    length = len(speech.samples) / SAMPLE_RATE
    assert length > 2.0 and 0.05 < np.abs(speech.samples).max() <= 1.0
    starts = [start for _, start, _ in speech.phones]
    assert starts == sorted(starts) and all(0 <= a < b <= length + 1e-6 for _, a, b in speech.phones)

    def level(start: float, end: float) -> float:
        piece = speech.samples[
            int(start * SAMPLE_RATE) : max(int(end * SAMPLE_RATE), int(start * SAMPLE_RATE) + 1)
        ]
        return float(np.sqrt((piece**2).mean()))

    lips = [(a, b) for s, a, b in speech.phones if is_bilabial(s, speech.alphabet)]
    assert len(lips) >= 9
    overall = level(0.0, length)
    stops = [(a, b) for s, a, b in speech.phones if s.lower() in ("p", "b")]
    assert np.median([level(a, a + 0.5 * (b - a)) for a, b in stops]) < 0.7 * overall
    assert uncovered_share(speech.samples, speech.phones, speech.alphabet) < 0.1


@needs_espeak
@pytest.mark.parametrize("voice", ["en-us", "en-us+f3", "it+m2"])
def test_espeak(voice: str) -> None:
    speech = espeak().say(TEXT, voice)
    assert speech.alphabet == "ipa"
    if voice.startswith("en"):
        check_speech(speech)
    slower = espeak().say(TEXT, voice, rate=110)
    assert len(slower.samples) > 1.2 * len(speech.samples)


@needs_espeak
def test_espeak_has_no_such_voice() -> None:
    with pytest.raises(InputError, match="no voice"):
        espeak().say("hello", "xx-nowhere")


@needs_flite
def test_flite() -> None:
    engine = Flite()
    check_speech(engine.say(TEXT, "slt", stretch=1.0, pitch_hz=180.0))
    with pytest.raises(InputError, match="no voice"):
        engine.say(TEXT, "nobody")


@needs_festival
def test_festival() -> None:
    for speech in festival([(TEXT, "kal", 1.0), (TEXT, "ked", 1.2)]):
        check_speech(speech)


def test_a_spanish_b_is_shut_after_pauses_and_nasals_alone() -> None:
    def said(*symbols: str) -> list[str]:
        phones = [(symbol, 0.1 * k, 0.1 * (k + 1)) for k, symbol in enumerate(symbols)]
        return [symbol for symbol, _, _ in lenited(phones)]

    assert said("b", "a", "b", "o") == ["b", "a", "β", "o"]
    assert said("l", "a", "_:", "b", "o") == ["l", "a", "_:", "b", "o"]
    assert said("u", "m", "b", "o", "n", "b", "a") == ["u", "m", "b", "o", "n", "b", "a"]
    assert said("a", "l", "b", "a", "p", "m") == ["a", "l", "β", "a", "p", "m"]
    apart = [("a", 0.0, 0.1), ("b", 0.3, 0.4)]  # a pause that nobody wrote down
    assert lenited(apart) == apart


@needs_espeak
@needs_pocketsphinx
def test_spanish_is_aligned_as_it_is_said_in_a_row() -> None:
    text = "quiero beber agua"
    found, alphabet = Aligner().align(espeak().say(text, "es", rate=140).samples, text, "es")
    assert alphabet == "ipa" and [s for s, _, _ in found if s in ("b", "β")] == ["β", "β"]


@needs_flite
@needs_pocketsphinx
def test_alignment_finds_the_synthesizers_own_times() -> None:
    speech = Flite().say(TEXT, "slt", stretch=1.1, pitch_hz=180.0)
    found, alphabet = Aligner().align(speech.samples, TEXT, "en")
    assert alphabet == "arpabet"

    def lips(phones: list[tuple[str, float, float]]) -> list[float]:
        return [a for s, a, _ in phones if is_bilabial(s, "arpabet")]

    mine, theirs = lips(found), lips(speech.phones)
    assert len(mine) == len(theirs)
    assert np.median(np.abs(np.array(mine) - np.array(theirs))) < 0.03


def testenglish_words_keep_letters_with_marks_and_numbers_of_any_length() -> None:
    words = english_words("Zoë’s café: a naïve résumé, ﬁne Straße! 7, 42 & 305%")
    assert " ".join(words) == (
        "zoe's cafe a naive resume fine strasse seven forty two and three hundred five percent"
    )
    assert english_words("1984") == ["one", "nine", "eight", "four"]
    assert english_words("9" * 5000) == ["nine"] * 5000


@needs_espeak
@needs_pocketsphinx
def test_words_that_the_dictionary_lacks_have_its_alphabet() -> None:
    text = "The peppery unmuted boat."
    speech = espeak().say(text, "en-us", rate=140)
    found, alphabet = Aligner().align(speech.samples, text, "en")
    assert alphabet == "arpabet"
    assert [s for s, _, _ in found if not lookup(s, alphabet)[1]] == []
    assert [s for s, _, _ in found if s in ("P", "M", "B")] == ["P", "P", "M", "B"]
    assert "_:" not in {s for s, _, _ in found}


@needs_flite
@needs_pocketsphinx
def test_a_text_that_is_not_said_is_refused() -> None:
    speech = Flite().say("No.", "slt")
    try:
        phones, alphabet = Aligner().align(speech.samples, TEXT * 2, "en")
    except AlignmentError:
        return
    assert uncovered_share(speech.samples, phones, alphabet) > 0.15


def test_text_is_endless_and_repeatable() -> None:
    first, again = (list(islice(sentences(4), 40)) for _ in range(2))
    assert first == again and len(set(first)) > 30
    letters = "".join(first).lower()
    assert sum(letters.count(c) for c in "pbmfvw") / sum(c.isalpha() for c in letters) > 0.12


def test_no_text_is_of_both_splits_and_each_has_own_sentences_templates_and_words() -> None:
    train, valid = (list(islice(sentences(4, held_out=held), 400)) for held in (False, True))
    assert not {text.lower() for text in train} & {text.lower() for text in valid}
    assert not any(map(is_held_out, train)) and all(map(is_held_out, valid))
    for texts in (train, valid):
        assert 50 < sum(text in SENTENCES for text in texts) < 110  # a fifth
    # Neither is drawn in another order than all texts are.
    whole = list(islice(sentences(4), 400))
    assert [t for t in whole if is_held_out(t)] == valid[: sum(map(is_held_out, whole))]
    assert is_held_out("Pop  the\nbottle.") == is_held_out("POP the bottle. ")


def test_held_out_voices_say_what_no_other_voice_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all synthesizers, in corpora of one seed and of several."""
    second = Speech(np.full(SAMPLE_RATE, 0.1, np.float32), [("M", 0.0, 1.0)], "arpabet")
    engine = SimpleNamespace(say=lambda *_, **__: second)
    monkeypatch.setattr(building, "Flite", lambda: engine)
    monkeypatch.setattr(building, "espeak", lambda: engine)
    monkeypatch.setattr(building, "festival", lambda jobs: [second for _ in jobs])
    said: dict[str, dict[str, set[str]]] = {"train": {}, "valid": {}}
    for seed in (0, 1):
        writer = corpus.CorpusWriter(tmp_path / str(seed))
        for add in (building.add_flite, building.add_espeak, building.add_festival):
            add(writer, 4.0, seed)
        for u in writer.utterances.values():
            said[u.split].setdefault(u.id.split("/")[0], set()).add(u.text)
    assert said["train"].keys() == {"flite-slt", "flite-awb", "flite-kal16", "espeak", "festival"}
    assert said["valid"].keys() == {"flite-rms", "espeak"}
    train, valid = (set.union(*said[split].values()) for split in ("train", "valid"))
    assert train & set(SENTENCES) and valid & set(SENTENCES) and not train & valid


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if not have(espeak):
        pytest.skip("espeak-ng is missing: pip install espeakng-loader")
    folder = tmp_path_factory.mktemp("corpus")
    build(folder, sources=["espeak"], minutes=0.3, seed=1)
    yield folder


def test_corpus_on_disk(little: Path) -> None:
    utterances = corpus.read_manifest(little)
    assert sum(u.seconds for u in utterances) >= 0.3 * 60
    for utterance in utterances:
        info = soundfile.info(str(utterance.audio))
        assert info.samplerate == SAMPLE_RATE and info.channels == 1
        assert utterance.phones[-1][2] <= utterance.seconds + 1e-3
        assert any(not is_silence(s, utterance.alphabet) for s, _, _ in utterance.phones)
        assert utterance.licence and utterance.source == "espeak-ng"
        assert utterance.split == ("valid" if utterance.voice in corpus.VALID_VOICES else "train")
    train, valid = (corpus.read_manifest(little, split=s) for s in ("train", "valid"))
    assert not {u.voice for u in train} & {u.voice for u in valid}


def test_a_finished_source_is_kept(little: Path) -> None:
    before = (little / corpus.MANIFEST).read_text()
    build(little, sources=["espeak"], minutes=0.3, seed=99)
    assert (little / corpus.MANIFEST).read_text() == before


@needs_flite
@needs_pocketsphinx
def test_recordings_are_aligned_and_joined(tmp_path: Path) -> None:
    engine = Flite()
    recordings = []
    for i, text in enumerate(("My name is Bob.", "Please move the map.")):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, engine.say(text, "slt").samples, SAMPLE_RATE)
        recordings.append(Recording(f"r/{i}", path, text, "someone", "en", "CC0-1.0", "test"))
    writer = corpus.CorpusWriter(tmp_path / "out")
    assert add_recordings(writer, recordings) == (2, 0)
    (utterance,) = corpus.read_manifest(tmp_path / "out")
    assert utterance.text == "My name is Bob. Please move the map."
    assert sum(is_bilabial(s, "arpabet") for s, _, _ in utterance.phones) == 8


def test_reserved_voices_are_no_training_source() -> None:
    assert set(ASTERISK) == {"fr", "it", "ru"}
    for language in ("en", "es"):
        with pytest.raises(InputError, match="no Asterisk prompts to train on"):
            next(asterisk(language))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sources": ["parrot"]}, "unknown speech source parrot"),
        ({"sources": []}, "empty"),
        ({"sources": ["tuxpaint"]}, "GPL"),
        ({"sources": ["espeak"], "minutes": 0.0}, "positive"),
        ({"sources": ["asterisk"], "packages": "/nonexistent"}, "apt-get install"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        build(tmp_path / "corpus", **options)  # type: ignore[arg-type]


def test_bad_manifests(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="facetalk data"):
        corpus.read_manifest(tmp_path)
    line = {
        "id": "a",
        "audio": "a.flac",
        "text": "",
        "voice": "v",
        "language": "en",
        "licence": "CC0-1.0",
        "source": "s",
        "split": "train",
        "phones": [["P", 0.0, 0.1]],
        "alphabet": "arpabet",
    }
    for change in ({"alphabet": "sampa"}, {"phones": [["P", 0.0]]}, {"extra": 1}):
        (tmp_path / corpus.MANIFEST).write_text(
            json.dumps(line) + "\n" + json.dumps({**line, **change}) + "\n"
        )
        with pytest.raises(InputError, match="line 2"):
            corpus.read_manifest(tmp_path)
