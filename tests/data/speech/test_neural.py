"""Neural voices: Kokoro on a graph of three nodes, hibari as it is; what is held out, and going on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from facetalk.data.speech import kokoro, neural
from facetalk.data.speech.align import AlignmentError
from facetalk.data.speech.build import build
from facetalk.data.speech.corpus import VALID_VOICES, CorpusWriter, read_manifest
from facetalk.data.speech.kokoro import HELD_OUT, Kokoro, mix, phones_of
from facetalk.data.speech.text import casual_sentence, is_held_out, spoken_sentences
from facetalk.errors import InputError, NotInstalledError
from facetalk.units import SAMPLE_RATE

VOICES = ("af_bella", "am_adam", "bf_lily", "zf_xiaoni", *HELD_OUT)


def graph() -> bytes:
    """Tokens in, two frames of 25 ms for each and as much sound out, with the name of Kokoro's durations."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    kinds = {"tokens": (TensorProto.INT64, [1, "n"]), "style": (TensorProto.FLOAT, [1, 256]),
             "speed": (TensorProto.FLOAT, [1])}  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["tokens"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Sign", ["real"], ["signs"]),
        helper.make_node("Add", ["signs", "two"], ["more"]),  # 2 for the silent tokens, 3 for others
        helper.make_node("Identity", ["more"], ["/encoder/Clip_output_0"]),
        helper.make_node("ReduceSum", ["/encoder/Clip_output_0"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "frame"], ["count"]),
        helper.make_node("Cast", ["count"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["whole", "one"], ["shape"]),
        helper.make_node("Expand", ["level", "shape"], ["audio"]),
    ]
    made = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()],
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["samples"])],
        [helper.make_tensor("two", TensorProto.FLOAT, [], [2.0]),
         helper.make_tensor("frame", TensorProto.FLOAT, [], [600.0]),
         helper.make_tensor("one", TensorProto.INT64, [1], [1]),
         helper.make_tensor("level", TensorProto.FLOAT, [1], [0.25])],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as --kokoro takes it, of tiny files."""
    (tmp_path / "voices").mkdir()
    content = graph()
    (tmp_path / kokoro.MODEL_FILE).write_bytes(content)
    digest = hashlib.sha256()
    for number, name in enumerate(sorted(VOICES)):
        voice = np.full((510, 256), number, np.float32).tobytes()
        digest.update(voice)
        (tmp_path / f"voices/{name}.bin").write_bytes(voice)
    monkeypatch.setattr(kokoro, "MODEL_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(kokoro, "VOICES_SHA256", digest.hexdigest())
    return tmp_path


def test_phones_of_durations() -> None:
    """Three frames come off the start; stress goes to its vowel, length and spaces to what is before."""
    phones = phones_of("bˈɪɡ mA.", [7, 2, 1, 3, 2, 1, 2, 4, 4, 6], 0.8)
    assert [symbol for symbol, _, _ in phones] == ["_", "b", "ɪ", "ɡ", "m", "eɪ", "_"]
    ends = [end for _, _, end in phones]
    assert ends == pytest.approx([0.1, 0.15, 0.25, 0.325, 0.375, 0.475, 0.8])
    assert all(a[2] == pytest.approx(b[1]) for a, b in pairwise(phones))


def test_kokoro_gives_sound_and_the_times_of_its_graph(folder: Path) -> None:
    model = Kokoro(folder)
    assert sorted(model.voices) == sorted(VOICES)
    speech = model.say("mˈA§", model.voices["am_adam"])  # § is not of its alphabet
    assert len(speech.samples) == (2 * 2 + 3 * 3) * 600 * SAMPLE_RATE // kokoro.RATE
    assert [symbol for symbol, _, _ in speech.phones] == ["m", "eɪ", "_"]
    assert speech.phones[1][2] == pytest.approx(11 * 0.025 - 0.075)
    for symbols, style in (("", model.voices["am_adam"]), ("a" * 501, model.voices["am_adam"]),
                           ("a", np.zeros((2, 256), np.float32))):  # fmt: skip
        with pytest.raises(InputError):
            model.say(symbols, style)


def test_other_files_are_refused_and_it_is_said_how_to_get_the_right_ones(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "voices/am_adam.bin").write_bytes(bytes(510 * 256 * 4))
    with pytest.raises(InputError, match=r"12 files are not the 54 voices"):
        Kokoro(folder)
    monkeypatch.undo()
    with pytest.raises(InputError, match="voices"):
        Kokoro(folder / "nowhere")
    monkeypatch.setattr(kokoro, "read_voices", lambda _: {})
    with pytest.raises(InputError, match=r"another file .*facetalk\[kokoro\].*--kokoro"):
        Kokoro(folder)


def test_packages_are_joined_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (folder / kokoro.MODEL_FILE).read_bytes()
    parts = []
    for number in range(4):
        parts.append(tmp_path / f"part{number}")
        parts[-1].write_bytes(content[number * 400 : (number + 1) * 400 if number < 3 else None])
    cache = tmp_path / "cache"
    monkeypatch.setenv("FACETALK_CACHE", str(cache))
    monkeypatch.setattr(kokoro, "_part", lambda package: parts[int(package[-1]) - 1])

    def no_npm(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("npm")

    monkeypatch.setattr(kokoro.subprocess, "run", no_npm)
    with pytest.raises(NotInstalledError, match="npm is not installed"):
        Kokoro()
    (folder / "voices").rename(cache / "kokoro/voices")
    assert len(Kokoro().voices) == len(VOICES)
    monkeypatch.setattr(kokoro, "_PACKAGES", ("kokoro-of-nobody-9",))
    monkeypatch.undo()
    monkeypatch.setattr(kokoro, "_PACKAGES", ("kokoro-of-nobody-9",))
    with pytest.raises(NotInstalledError, match="kokoro-of-nobody-9 is not installed"):
        Kokoro()


def test_held_out_voices() -> None:
    assert len(HELD_OUT) >= 6 and sum(name[1] == "m" for name in HELD_OUT) >= 3
    assert {f"kokoro-{name}" for name in HELD_OUT} | {neural.HIBARI_VOICE} <= set(VALID_VOICES)
    assert "af_heart" in HELD_OUT  # hibari's voice is a copy of it
    first, second = np.ones((510, 256), np.float32), np.zeros((510, 256), np.float32)
    np.testing.assert_allclose(mix([first, second], 0.3), 0.3)


class FakeAligner:
    """Every fifth recording does not fit its text."""

    calls = 0

    def align(self, samples: np.ndarray, text: str, language: str) -> tuple[list[Any], str]:
        FakeAligner.calls += 1
        if len(text) % 5 == 0:
            raise AlignmentError("no path")
        return [("M", 0.0, len(samples) / SAMPLE_RATE)], "arpabet"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(neural, "Aligner", FakeAligner)
    monkeypatch.setattr(neural, "hibari", lambda: SimpleNamespace(phonemize=lambda text: [text.lower()[:40]]))
    yield


def test_a_build_goes_on_and_no_mix_has_a_held_out_voice(
    folder: Path, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Kokoro(folder)
    whole, parts = CorpusWriter(tmp_path / "whole"), tmp_path / "parts"
    neural.add_kokoro(whole, 0.8, 3, model)
    for minutes in (0.2, 0.5, 0.8, 0.8):
        neural.add_kokoro(CorpusWriter(parts), minutes, 3, model)
    a, b = (read_manifest(folder) for folder in (tmp_path / "whole", parts))
    assert [(u.id, u.text, u.voice) for u in a] == [(u.id, u.text, u.voice) for u in b]
    assert "left out that did not align" in capsys.readouterr().err
    for utterance in a:
        names = utterance.voice.removeprefix("kokoro-").split("+")
        assert utterance.split == ("valid" if names[0] in HELD_OUT else "train")
        assert len(names) == 1 or not set(names) & set(HELD_OUT)
        assert utterance.licence == "Apache-2.0" and utterance.source == kokoro.SOURCE
    assert {len(u.voice.split("+")) for u in a} == {1, 2} and {u.split for u in a} == {"train", "valid"}
    assert all(is_held_out(u.text) == (u.split == "valid") for u in a)


def test_sources_by_name(tmp_path: Path, folder: Path, quick: None) -> None:
    with pytest.raises(InputError, match="add it to --sources"):
        build(tmp_path / "a", sources=["hibari"], kokoro=folder)
    made = build(tmp_path / "b", sources=["kokoro"], minutes=0.2, kokoro=folder)
    assert made and all(u.id.startswith("kokoro/") for u in made)


def test_hibari_speaks_and_is_held_out(tmp_path: Path) -> None:
    pytest.importorskip("hibari")
    pytest.importorskip("pocketsphinx")
    made = build(tmp_path, sources=["hibari"], minutes=0.05)
    assert {(u.voice, u.split) for u in made} == {("hibari-heart", "valid")}
    [first] = made[:1]
    assert "hibari-tts 0." in first.source and len(first.phones) > 5 and first.seconds > 1.0


def test_casual_text() -> None:
    rng = np.random.default_rng(0)
    said = " ".join(casual_sentence(rng) for _ in range(60))
    for word in ("?", "um", "forty five", "percent", "And then", "We need"):
        assert word in said
    one, two = spoken_sentences(4), spoken_sentences(4)
    assert [next(one) for _ in range(8)] == [next(two) for _ in range(8)]
