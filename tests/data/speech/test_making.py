"""How a corpus is filled: by minutes, joined by voice, with levels that fit, and what is missing is said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from facetalk.data.speech import build as making
from facetalk.data.speech.corpus import CorpusWriter, read_manifest
from facetalk.data.speech.recordings import librivox
from facetalk.data.speech.synth import Speech
from facetalk.errors import InputError
from facetalk.units import SAMPLE_RATE

PHONES = [("AA", 0.1, 0.4)]


def speech(seconds: float, level: float = 0.5) -> Speech:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return Speech((level * np.sin(2 * np.pi * 300 * time)).astype(np.float32), PHONES, "arpabet")


def add(writer: CorpusWriter, name: str, said: Speech, voice: str = "v") -> None:
    writer.add(name, said, text="a", voice=voice, language="en", licence="CC0", source="t")


def test_sound_over_full_scale_is_brought_under_it_and_other_sound_left(tmp_path: Path) -> None:
    writer = CorpusWriter(tmp_path)
    for name, level, kept in (("loud", 2.0, 1 / 1.01), ("full", 1.0, 1 / 1.01), ("quiet", 0.3, 0.3)):
        add(writer, name, speech(1.0, level))
        samples, _ = soundfile.read(writer.utterances[name].audio)
        assert np.abs(samples).max() == pytest.approx(kept, abs=2e-4)
    for voice, split in (("espeak-f2", "valid"), ("tuxpaint-x", "valid"), ("anyone", "train")):
        add(writer, voice, speech(1.0), voice)
        assert writer.utterances[voice].split == split
    writer.flush()
    assert [u.id for u in read_manifest(tmp_path, split="valid")] == ["espeak-f2", "tuxpaint-x"]


def test_speech_is_made_until_there_are_minutes_enough(tmp_path: Path) -> None:
    writer, said = CorpusWriter(tmp_path), iter([0.4, 2.0, 2.0, 2.0, 2.0])

    def speak() -> tuple[Speech, str, str, str]:
        return speech(next(said)), "text", "voice", "en"

    making._fill(writer, "one", 5.0 / 60.0, speak, "CC0", "t")
    assert sorted(writer.utterances) == ["one/00000", "one/00001", "one/00002"]  # 0.4 s is too short to count
    making._fill(writer, "one", 5.0 / 60.0, speak, "CC0", "t")  # made already
    assert next(said) == 2.0 and next(said, None) is None


def recording(folder: Path, name: str, voice: str, seconds: float, level: float = 0.5) -> SimpleNamespace:
    soundfile.write(folder / f"{name}.wav", speech(seconds, level).samples, SAMPLE_RATE)
    return SimpleNamespace(
        name=name,
        path=folder / f"{name}.wav",
        text=name,
        voice=voice,
        language="en",
        licence="CC0",
        source="t",
    )


@pytest.fixture
def aligned(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every text fits; the levels that were heard are kept."""
    levels: list[float] = []

    class Aligner:
        def align(self, samples: np.ndarray, text: str, language: str) -> Any:
            levels.append(float(np.abs(samples).max()))
            return PHONES, "arpabet"

    monkeypatch.setattr(making, "Aligner", Aligner)
    monkeypatch.setattr(making, "uncovered_share", lambda samples, phones, alphabet: 0.1)
    return levels


def test_short_recordings_of_a_voice_are_joined(tmp_path: Path, aligned: list[float]) -> None:
    found = [recording(tmp_path, f"r{i}", "one" if i < 4 else "two", 2.0, 0.1 + 0.1 * i) for i in range(6)]
    found.append(recording(tmp_path, "short", "two", 0.5))
    writer = CorpusWriter(tmp_path / "corpus")
    assert making.add_recordings(writer, found) == (6, 1)
    np.testing.assert_allclose(aligned, 0.7, atol=1e-3)
    # Three of 2 s are over 4.5 s; the fourth is written when the voice changes, the last two at the end.
    assert {name: u.text for name, u in writer.utterances.items()} == {
        "r0": "r0 r1 r2",
        "r3": "r3",
        "r4": "r4 r5",
    }
    joined = writer.utterances["r0"]
    starts = [start for _, start, _ in joined.phones]
    pauses = np.diff(starts) - 2.0
    assert len(starts) == 3 and pauses.min() >= 0.1 and pauses.max() <= 0.7
    samples, _ = soundfile.read(joined.audio)
    assert len(samples) / SAMPLE_RATE == pytest.approx(6.0 + pauses.sum(), abs=1e-3)
    between = samples[round(2.0 * SAMPLE_RATE) + 10 : round((starts[1] - 0.1) * SAMPLE_RATE) - 10]
    assert between.std() == pytest.approx(3e-4, rel=0.1)
    assert making.add_recordings(writer, found) != (0, 7)


def test_recordings_stay_alone_where_that_is_asked(tmp_path: Path, aligned: list[float]) -> None:
    found = [recording(tmp_path, f"r{i}", "one", 2.0) for i in range(3)]
    writer = CorpusWriter(tmp_path / "corpus")
    making.add_recordings(writer, found, join=False)
    assert sorted(writer.utterances) == ["r0", "r1", "r2"]
    aligned.clear()
    assert making.add_recordings(writer, found, join=False) == (3, 0) and not aligned  # they are there


def test_the_acceptance_set_is_reserved_long_and_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aligned: list[float]
) -> None:
    asked: list[Any] = []

    def asterisk(language: str, **told: Any) -> list[Any]:
        asked.append((language, told))
        return [recording(tmp_path, "prompt", "allison", 3.0), recording(tmp_path, "tiny", "allison", 1.9)]

    monkeypatch.setattr(making, "asterisk", asterisk)
    monkeypatch.setattr(making, "librivox", lambda: [recording(tmp_path, "book", "reader", 2.5)])
    found = making.build_acceptance(tmp_path / "out", packages=tmp_path)
    assert asked == [("en", {"root": tmp_path, "reserved": True})]
    assert sorted(u.id for u in found) == ["book", "prompt"] and {u.split for u in found} == {"valid"}
    assert len(read_manifest(tmp_path / "out", split="valid")) == 2


def test_prompts_come_from_their_own_source_and_the_demo_is_kept_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = next(iter(making.DEMO_PROMPTS))
    taken: list[Any] = []
    for name in ("asterisk", "tuxpaint"):
        monkeypatch.setattr(
            making,
            name,
            lambda language, root, name=name: [
                SimpleNamespace(name=f"{name}/{demo}"),
                SimpleNamespace(name=f"{name}/b"),
            ],
        )
    monkeypatch.setattr(
        making,
        "add_recordings",
        lambda writer, kept, name: taken.append((name, [r.name for r in kept])) or (1, 0),
    )
    making._add_prompts(None, "asterisk", "it", tmp_path)  # type: ignore[arg-type]
    making._add_prompts(None, "tuxpaint", "fr", tmp_path)  # type: ignore[arg-type]
    assert taken == [("asterisk-it", ["asterisk/b"]), ("tuxpaint-fr", [f"tuxpaint/{demo}", "tuxpaint/b"])]


def test_a_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="apt-get install pocketsphinx-testdata"):
        next(librivox(root=tmp_path))
