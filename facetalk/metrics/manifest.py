"""Reading what ``facetalk evaluate`` is given: recordings with phone times, or with their text alone."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from facetalk.audio.load import AudioReader
from facetalk.data.phones import ALPHABETS, Phone, lookup, phone_times
from facetalk.errors import InputError
from facetalk.reading import MANIFEST, one_line, read_json_lines

_BEYOND_S = 1.0
"""Aligners may put a last phone a little after the recording."""
_UNKNOWN, _FEW = 0.2, 2
"""A larger share of unknown symbols is of another alphabet, but for a few in a short word."""
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
        name: the recording's path as the manifest has it; "" where there is no manifest.
    """

    audio: Path
    voice: str
    phones: list[Phone] | None
    alphabet: str
    text: str | None
    language: str
    name: str = ""


def read(path: Path, *, split: str | None = None) -> list[Spoken]:
    """Read a manifest.jsonl (or the one in a corpus folder); audio paths are relative to it.

    Args:
        path: manifest or folder.
        split: only lines whose "split" is this one.

    Raises:
        InputError: no such file, a line that cannot be used, or nothing in it.
    """
    file = path / MANIFEST if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"no manifest at {file}; give a .jsonl file with {_FORMAT}")
    out = []
    for number, fields in read_json_lines(file):
        try:
            if split is None or fields.get("split") == split:
                out.append(_spoken(fields, file.parent))
        except KeyError as error:
            raise InputError(f"{file}, line {number}: no {error}; give {_FORMAT}") from error
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(f"{file}, line {number}: {one_line(error)}; give {_FORMAT}") from error
    if not out:
        raise InputError(f"{file} has no usable line" + (f" with split {split!r}" if split else ""))
    return out


def _spoken(fields: dict[str, object], folder: Path) -> Spoken:
    if not isinstance(fields["audio"], str) or not fields["audio"] or "\0" in fields["audio"]:
        raise ValueError(f"audio is no path: {str(fields['audio'])[:40]!r}")
    audio = folder / fields["audio"]
    text = None if fields.get("text") is None else str(fields["text"])
    phones: list[Phone] | None = None
    if fields.get("phones") is not None:
        phones = phone_times(fields["phones"])
    elif text is None:
        raise ValueError("neither phones nor text")
    alphabet = str(fields.get("alphabet", "arpabet"))
    if alphabet not in ALPHABETS:
        raise ValueError(f"unknown alphabet {alphabet}")
    voice = str(fields.get("voice", "unnamed"))
    return Spoken(audio, voice, phones, alphabet, text, str(fields.get("language", "en")), fields["audio"])


def with_phones(items: list[Spoken]) -> Iterator[Spoken]:
    """Fill in phone times by forced alignment where a line has a text only; lines that fail are skipped.

    Raises:
        InputError: alignment is needed and PocketSphinx is not installed, a recording cannot be read, or its
            phones go on after it.
    """
    for item in items:
        _check_phones(item)
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


def _check_phones(item: Spoken) -> None:
    """Refuse phones whose figures would be of something else than what is said.

    Raises:
        InputError: they end after the recording (and would all be measured in its last frame), or many of
            them are none of their alphabet (and leave the mouth of the truth at rest).
    """
    if not item.phones:
        return
    seconds, last = AudioReader(item.audio).duration, max(end for _, _, end in item.phones)
    if seconds is not None and last > seconds + _BEYOND_S:
        raise InputError(
            f"the phones of {item.audio} end at {last:.1f} s and the recording at {seconds:.1f} s; give "
            "their times in seconds of that recording"
        )
    unknown = [symbol for symbol, _, _ in item.phones if not lookup(symbol, item.alphabet)[1]]
    if len(unknown) > max(_FEW, _UNKNOWN * len(item.phones)):
        raise InputError(
            f"{len(unknown)} of the {len(item.phones)} phones of {item.audio} are unknown to the alphabet "
            f"{item.alphabet} ({', '.join(sorted(set(unknown))[:5])}); give the right one of "
            f'{", ".join(ALPHABETS)} as its "alphabet"'
        )
