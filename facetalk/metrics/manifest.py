"""Reading what ``facetalk evaluate`` is given: recordings with phone times, or with their text alone."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from facetalk.data.phones import ALPHABETS, Phone
from facetalk.errors import InputError

_FORMAT = (
    'lines like {"audio": "a.wav", "phones": [["AA1", 0.10, 0.22], ...]} or {"audio": "a.wav", "text": "..."}'
)


@dataclasses.dataclass(frozen=True)
class Spoken:
    """A recording and what is said in it.

    Attributes:
        audio: path of the recording.
        voice: speaker, for rows per voice.
        phones: (symbol, start_s, end_s); None where they still have to be found.
        alphabet: of the phones.
        text: what is said.
        language: "en" or an espeak-ng voice name, for the alignment.
    """

    audio: Path
    voice: str
    phones: list[Phone] | None
    alphabet: str
    text: str | None
    language: str


def read(path: Path, *, split: str | None = None) -> list[Spoken]:
    """Read a manifest.jsonl (or the one in a corpus folder); audio paths are relative to it.

    Args:
        path: manifest or folder.
        split: only lines whose "split" is this one.

    Raises:
        InputError: no such file, a line that cannot be used, or nothing in it.
    """
    file = path / "manifest.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"no manifest at {file}; give a .jsonl file with {_FORMAT}")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not a text file; give {_FORMAT}") from error
    out = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if split is None or fields.get("split") == split:
                out.append(_spoken(fields, file.parent))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{file}, line {number}: {error!r}; give {_FORMAT}") from error
    if not out:
        raise InputError(f"{file} has no usable line" + (f" with split {split!r}" if split else ""))
    return out


def _spoken(fields: dict[str, object], folder: Path) -> Spoken:
    audio = folder / str(fields["audio"])
    text = None if fields.get("text") is None else str(fields["text"])
    phones: list[Phone] | None = None
    if fields.get("phones") is not None:
        phones = [(str(s), float(a), float(b)) for s, a, b in fields["phones"]]  # type: ignore[attr-defined]
        for symbol, start, end in phones:
            if not (math.isfinite(start) and math.isfinite(end) and start <= end):
                raise ValueError(f"phone {symbol!r} lasts from {start} to {end} s")
    elif text is None:
        raise ValueError("neither phones nor text")
    alphabet = str(fields.get("alphabet", "arpabet"))
    if alphabet not in ALPHABETS:
        raise ValueError(f"unknown alphabet {alphabet}")
    voice = str(fields.get("voice", "unnamed"))
    return Spoken(audio, voice, phones, alphabet, text, str(fields.get("language", "en")))


def with_phones(items: list[Spoken]) -> Iterator[Spoken]:
    """Fill in phone times by forced alignment where a line has a text only; lines that fail are skipped.

    Raises:
        InputError: alignment is needed and PocketSphinx is not installed, or a recording cannot be read.
    """
    if all(item.phones is not None for item in items):
        yield from items
        return
    from facetalk.audio import load_audio
    from facetalk.data.speech.align import Aligner, AlignmentError

    aligner = Aligner()
    for item in tqdm(items, desc="align", unit="clip", disable=not sys.stderr.isatty()):
        if item.phones is not None:
            yield item
            continue
        assert item.text is not None
        try:
            phones, alphabet = aligner.align(load_audio(item.audio), item.text, item.language)
        except AlignmentError as error:
            print(f"skipped {item.audio}: its text does not align ({error})", file=sys.stderr)
            continue
        yield dataclasses.replace(item, phones=phones, alphabet=alphabet)
