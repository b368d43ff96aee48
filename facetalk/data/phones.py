"""Phones: ARPAbet and IPA symbols, their segments in time, and the classes an audio encoder learns.

A *phone* is ``(symbol, start_s, end_s)``. Symbols are ARPAbet (with or without stress digits, any case) or
IPA as espeak-ng writes it. Both map onto one small set of articulatory classes, so that recordings in several
languages train one encoder.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

import numpy as np

from facetalk.arrays import Int64
from facetalk.errors import InputError

Phone = tuple[str, float, float]
#: A viseme within a phone: name, start and end as fractions of the phone, scale of its targets.
Unit = tuple[str, float, float, float]

ALPHABETS = ("arpabet", "ipa")

#: What the audio encoder tells apart. Voicing is dropped where lips do not show it; tongue sounds keep coarse
# places.
CLASSES: tuple[str, ...] = (
    "silence", "p", "b", "m", "f", "v", "th", "t", "n", "l", "s", "sh", "k", "h", "r", "w", "j",
    "i", "e", "a", "ah", "o", "u", "y", "er",
)  # fmt: skip
BILABIAL_CLASSES: tuple[str, ...] = ("p", "b", "m")
LABIODENTAL_CLASSES: tuple[str, ...] = ("f", "v")

#: Class of each viseme of visemes.json; bilabials and labiodentals are told apart by their symbol.
_VISEME_CLASS = {
    "sil": "silence", "pause": "silence", "breath": "silence",
    "PB": "p", "M": "m", "BETA": "b", "FV": "f", "TH": "th", "TDN": "t", "L": "l", "S": "s", "SH": "sh",
    "SJ": "sh",
    "KG": "k", "H": "h", "R": "r", "W": "w", "HY": "w", "Y": "j",
    "IY": "i", "IH": "i", "E": "e", "EH": "e", "AE": "a", "AA": "a", "AH": "ah", "AX": "ah",
    "AO": "o", "OH": "o", "UH": "u", "UW": "u", "YY": "y", "OE": "y", "OEH": "er", "ER": "er",
}  # fmt: skip
_BACK_NASALS = ("NG", "ŋ", "ɴ", "ɲ")


_MARGIN_S, _LONGEST_S = 1.0, 1e6
"""Aligners may put a first phone a little before the recording; no recording is longer than eleven days."""


@functools.cache
def table() -> dict[str, Any]:
    """The content of ``visemes.json``."""
    text = resources.files("facetalk.data").joinpath("visemes.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def check_alphabet(alphabet: str) -> None:
    """Raise ``InputError`` unless ``alphabet`` is known."""
    if alphabet not in ALPHABETS:
        raise InputError(f"unknown phone alphabet {alphabet!r}; known are {', '.join(ALPHABETS)}")


@functools.lru_cache(maxsize=4096)
def lookup(symbol: str, alphabet: str) -> tuple[str, tuple[Unit, ...], str | None]:
    """Resolve a phone symbol.

    Args:
        symbol: ARPAbet (``AH0``, ``pau``) or IPA symbol (stress marks are ignored).
        alphabet: ``"arpabet"`` or ``"ipa"``.

    Returns:
        The bare symbol, its visemes, and the stress digit (ARPAbet only, else None). An unknown IPA symbol is
        tried without its diacritics; a phone nobody knows has no visemes and leaves the mouth to its
        neighbours.
    """
    data = table()
    if alphabet == "arpabet":
        name = data["arpabet_alias"].get(symbol, symbol).upper()
        stress = name[-1] if name[-1:].isdigit() else None
        name = name.rstrip("012")
        units = data["arpabet"].get(name, [])
    else:
        check_alphabet(alphabet)
        stress = None
        name = symbol.replace("ˈ", "").replace("ˌ", "").replace("'", "") if symbol not in ("'", "ˈ") else ""
        candidates = (name, name.replace("ː", ""), name.rstrip('ːʲʰ̪̩̃̆-^"'), name[:1])
        units = next((data["ipa"][c] for c in candidates if c in data["ipa"] and (c or not name)), [])
    return name, tuple((str(u[0]), float(u[1]), float(u[2]), float(u[3])) for u in units), stress


def is_silence(symbol: str, alphabet: str) -> bool:
    """Whether the symbol is a pause or silence."""
    units = lookup(symbol, alphabet)[1]
    return bool(units) and all(_VISEME_CLASS[u[0]] == "silence" for u in units)


def is_bilabial(symbol: str, alphabet: str) -> bool:
    """Whether the lips must close for the phone: p, b, m and their variants."""
    rule = table()["constraints"]["bilabial"]
    return lookup(symbol, alphabet)[0] in rule["phones" if alphabet == "arpabet" else "ipa"]


def is_labiodental(symbol: str, alphabet: str) -> bool:
    """Whether the lower lip must touch the upper teeth: f, v and their variants."""
    rule = table()["constraints"]["labiodental"]
    return lookup(symbol, alphabet)[0] in rule["phones" if alphabet == "arpabet" else "ipa"]


def units_with_classes(symbol: str, alphabet: str) -> list[tuple[int, float, float]]:
    """Articulatory classes of a phone: ``(class index, start fraction, end fraction)``, covering the whole
    phone."""
    name, units, _ = lookup(symbol, alphabet)
    out: list[tuple[int, float, float]] = []
    for position, (viseme, _, _, _) in enumerate(units):
        start = 0.0 if position == 0 else 0.5 * (units[position - 1][2] + units[position][1])
        end = 1.0 if position == len(units) - 1 else 0.5 * (units[position][2] + units[position + 1][1])
        label = _VISEME_CLASS[viseme]
        first = name[:1].lower()
        if label == "p" and first in ("b", "ɓ"):
            label = "b"
        elif label == "f" and first in ("v", "ʋ", "ɱ"):
            label = "v"
        elif (label == "t" and (first in ("n", "ɳ") or name == "EN")) or name in _BACK_NASALS:
            label = "n"
        out.append((CLASSES.index(label), start, end))
    return out


def class_track(phones: Iterable[Phone], duration: float, rate: float, *, alphabet: str) -> Int64:
    """Class index at ``rate`` samples a second, sampled at ``(i + 0.5) / rate``; what no phone covers is
    silence.

    Returns:
        (round(duration * rate),) int64 of indices into :data:`CLASSES`; -1 where a phone has no known class.
    """
    times = (np.arange(max(1, round(duration * rate))) + 0.5) / rate
    out = np.full(len(times), CLASSES.index("silence"), np.int64)
    for symbol, start, end in phones:
        low, high = np.searchsorted(times, (start, end))
        units = units_with_classes(symbol, alphabet)
        if not units:
            out[low:high] = -1
        for index, first, last in units:
            a, b = np.searchsorted(times, (start + first * (end - start), start + last * (end - start)))
            out[a:b] = index
    return out


def merge_silence(phones: Sequence[Phone], *, alphabet: str) -> list[Phone]:
    """Drop empty phones and join silences that follow each other."""
    out: list[Phone] = []
    for symbol, start, end in phones:
        if end - start < 1e-4:
            continue
        if out and is_silence(symbol, alphabet) and is_silence(out[-1][0], alphabet):
            out[-1] = (out[-1][0], out[-1][1], end)
        else:
            out.append((symbol, start, end))
    return out


def phone_times(told: object) -> list[Phone]:
    """Phones as (symbol, start, end) from a list of a manifest, in seconds.

    Raises:
        ValueError: it is no list of such, or a time is not one.
    """
    if not isinstance(told, list):
        raise ValueError("phones must be a list of [symbol, start, end]")
    phones = []
    for entry in told:
        if not isinstance(entry, list) or len(entry) != 3 or not isinstance(entry[0], str):
            raise ValueError(f"a phone must be [symbol, start, end], got {str(entry)[:60]}")
        start, end = float(entry[1]), float(entry[2])
        if not (math.isfinite(start) and math.isfinite(end) and -_MARGIN_S <= start <= end <= _LONGEST_S):
            raise ValueError(f"phone {entry[0]!r} lasts from {start} to {end} s")
        phones.append((entry[0], start, end))
    return phones
