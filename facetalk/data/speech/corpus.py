"""Speech corpora on disk: recordings, synthetic and real, with phone times.

A corpus is a folder with ``audio/*.flac`` (16 kHz mono) and ``manifest.jsonl``, one :class:`Utterance` a
line. Splits go by voice: a voice is in ``train`` or in ``valid``, never in both, and what synthesizers of one
say those of the other do not (:func:`facetalk.data.speech.text.is_held_out`). Default sources are free to
train redistributable weights on (permissive, CC-BY, CC-BY-SA); Tux Paint's GPL recordings need an explicit
flag; the acceptance set is never a training source.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from facetalk.arrays import Float32
from facetalk.audio.load import load_audio
from facetalk.data.captured import is_captured
from facetalk.data.phones import ALPHABETS, Phone, phone_times
from facetalk.data.speech.kokoro import HELD_OUT
from facetalk.data.speech.synth import Speech
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.reading import MANIFEST, one_line, read_json_lines
from facetalk.units import SAMPLE_RATE

#: Voices that are never trained on, for choosing between settings.
VALID_VOICES = (
    "flite-rms", "espeak-f2", "espeak-m3", "hibari-heart", *(f"kokoro-{name}" for name in HELD_OUT),
)  # fmt: skip


def split_of(voice: str) -> str:
    """The split of a voice, ``"train"`` or ``"valid"``."""
    return "valid" if voice in VALID_VOICES or voice.startswith("tuxpaint") else "train"


@dataclasses.dataclass(frozen=True)
class Utterance:
    """A line of a manifest.

    Attributes:
        id: unique name.
        audio: path relative to the corpus folder (in memory: absolute).
        text: what is said.
        voice: speaker or synthesizer voice.
        language: two letters.
        licence: SPDX-like name.
        source: where the recording or the voice comes from.
        split: ``"train"`` or ``"valid"``.
        phones: ``(symbol, start_s, end_s)`` in order.
        alphabet: ``"arpabet"`` or ``"ipa"``.
    """

    id: str
    audio: Path
    text: str
    voice: str
    language: str
    licence: str
    source: str
    split: str
    phones: list[Phone]
    alphabet: str

    @property
    def seconds(self) -> float:
        """Length of the audio file."""
        return float(soundfile.info(str(self.audio)).duration)

    def samples(self) -> Float32:
        """(N,) float32, 16 kHz mono."""
        return load_audio(self.audio)


def read_manifest(path: str | Path, *, split: str | None = None) -> list[Utterance]:
    """Read a corpus.

    Args:
        path: a corpus folder or its manifest file.
        split: only utterances of this split.

    Raises:
        InputError: no manifest there, or a line of it is damaged.
    """
    path = Path(path)
    file = path / MANIFEST if path.is_dir() else path
    if is_captured(file.parent):
        raise InputError(
            f"{path} holds captured faces, of whose sound no phones are known: `facetalk train motion` alone "
            f"reads it"
        )
    if not file.is_file():
        raise InputError(f"{path}: no {MANIFEST} there; make a corpus with `facetalk data --out {path}`")
    out = []
    for number, fields in read_json_lines(file):
        try:
            utterance = _utterance(fields, file.parent)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else one_line(error)
            raise InputError(f"{file}, line {number}: damaged ({reason}); make the corpus again") from error
        if split is None or utterance.split == split:
            out.append(utterance)
    return out


def _utterance(fields: dict[str, Any], folder: Path) -> Utterance:
    told = {**fields, "phones": phone_times(fields["phones"])}
    for name, value in told.items():
        if name != "phones" and not isinstance(value, str):
            raise ValueError(f"{name} is no text")
    if not told["audio"] or "\0" in told["audio"]:
        raise ValueError("audio is no path")
    utterance = Utterance(**{**told, "audio": folder / told["audio"]})
    if utterance.alphabet not in ALPHABETS:
        raise ValueError(f"alphabet {utterance.alphabet!r}")
    return utterance


def write_manifest(folder: Path, utterances: Iterable[Utterance]) -> None:
    """Write ``manifest.jsonl`` at once, paths relative to ``folder``."""
    with atomic_path(folder / MANIFEST) as temporary, temporary.open("w", encoding="utf-8") as file:
        for utterance in utterances:
            fields = dataclasses.asdict(utterance)
            fields["audio"] = str(utterance.audio.relative_to(folder))
            fields["phones"] = [[s, round(a, 4), round(b, 4)] for s, a, b in utterance.phones]
            file.write(json.dumps(fields, ensure_ascii=False) + "\n")


class CorpusWriter:
    """Adds utterances to a corpus folder and keeps its manifest whole; what an earlier run added stays."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            (self.folder / "audio").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {self.folder}: {error.strerror}") from error
        existing = read_manifest(self.folder) if (self.folder / MANIFEST).is_file() else []
        self.utterances = {utterance.id: utterance for utterance in existing}

    def __contains__(self, name: str) -> bool:
        """Whether an utterance of that id is there."""
        return name in self.utterances

    def add(
        self, name: str, speech: Speech, *, text: str, voice: str, language: str, licence: str, source: str
    ) -> None:
        """Write one recording; its split follows from the voice."""
        path = self.folder / "audio" / (name.replace("/", "__") + ".flac")
        peak = float(np.abs(speech.samples).max(initial=1e-9))
        # By way of memory: libsndfile's error on a full disk does not tell what it is.
        sound = io.BytesIO()
        samples = speech.samples / max(1.0, peak * 1.01)
        soundfile.write(sound, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        path.write_bytes(sound.getbuffer())
        self.utterances[name] = Utterance(
            name,
            path,
            text,
            voice,
            language,
            licence,
            source,
            split_of(voice),
            speech.phones,
            speech.alphabet,
        )

    def flush(self) -> None:
        """Write the manifest."""
        write_manifest(self.folder, self.utterances.values())
