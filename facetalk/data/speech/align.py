"""Forced alignment of recordings with their text, by PocketSphinx' English acoustic model.

English uses the model's own dictionary. Words that it lacks and other languages go through espeak-ng's
pronunciation of each word, every IPA symbol taken to its nearest ARPAbet phone or two; but for English the
times then come back under the IPA symbols (Italian with known times: 10 ms median error). A quality gate
drops recordings whose text does not fit their sound.

Needs ``pip install pocketsphinx`` (the wheel carries model and dictionary) and, but for English words of that
dictionary, espeak-ng.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from facetalk.arrays import Float32
from facetalk.data.phones import Phone, is_silence, merge_silence
from facetalk.data.speech.synth import espeak
from facetalk.errors import NotInstalledError
from facetalk.units import SAMPLE_RATE

# Without some silence before it the first phone swallows the leading silence; about one try in ten finds no
# path, and another padding does.
_PADDINGS = (0.2, 0.1, 0.3, 0.0, 0.25, 0.15)

_UNITS = str.split(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen "
    "eighteen nineteen"
)
_TENS = str.split("zero ten twenty thirty forty fifty sixty seventy eighty ninety")

#: Nearest ARPAbet of an IPA symbol, for the acoustic model only.
_NEAREST = {
    "p": "P", "b": "B", "t": "T", "d": "D", "k": "K", "ɡ": "G", "g": "G", "f": "F", "v": "V", "s": "S",
    "z": "Z",
    "ʃ": "SH", "ʒ": "ZH", "m": "M", "n": "N", "ŋ": "NG", "l": "L", "ɹ": "R", "r": "R", "ɾ": "D", "w": "W",
    "j": "Y",
    "h": "HH", "x": "HH", "ɣ": "G", "β": "V", "ð": "DH", "θ": "TH", "tʃ": "CH", "dʒ": "JH", "ts": "T S",
    "dz": "D Z",
    "ss": "S", "ʎ": "L Y", "ɲ": "N Y", "ʝ": "Y", "ʁ": "R", "ç": "HH", "ɕ": "SH", "ʑ": "ZH", "ɭ": "L",
    "d̪": "D",
    "tʲ": "T", "dʲ": "D", "mʲ": "M", "sʲ": "S", "tʃʲ": "CH", "dʒʲ": "JH", "ʲ": "Y", "nʲ": "N Y", "rʲ": "R",
    "lʲ": "L",
    "pʲ": "P", "bʲ": "B", "fʲ": "F", "vʲ": "V", "zʲ": "Z", "kʲ": "K", "ɫ": "L", "ʂ": "SH", "ʐ": "ZH",
    "ɥ": "W Y",
    "tsʲ": "T S", "ʃʲ": "SH", "q": "K", "c": "K", "ɟ": "G",
    "a": "AA", "a-": "AA", "aː": "AA", "ɑ": "AA", "ɑː": "AA", "e": "EY", "eː": "EY", "e-": "EH", "ɛ": "EH",
    "ɛː": "EH",
    "i": "IY", "iː": "IY", "ɪ": "IH", "ɪ^": "IH", "ɨ": "IH", "o": "OW", "oː": "OW", "ɔ": "AO", "ɔː": "AO",
    "u": "UW",
    'u"': "UW", "uː": "UW", "ʊ": "UH", "y": "IY", "yː": "IY", "y-": "IY", "ø": "UH", "øː": "UH", "œ": "ER",
    "ə": "AH",
    "ə-": "AH", "ɐ": "AH", "ʌ": "AH", "ɵ": "OW", "æ": "AE", "ɑ̃": "AA N", "ɔ̃": "OW N", "ɛ̃": "AE N",
    "œ̃": "AE N",
    "aɪ": "AY", "aʊ": "AW", "eɪ": "EY", "oɪ": "OY", "ɔɪ": "OY", "ja": "Y AA", "ju": "Y UW", "jɛ": "Y EH",
    "jo": "Y OW",
    "əl": "AH L", "ɚ": "ER", "ɜː": "ER", "oʊ": "OW", "əʊ": "OW", "ɒ": "AA", "ɛɹ": "EH R", "ɔːɹ": "AO R",
    "oːɹ": "AO R",
    "ɑːɹ": "AA R", "ʊɹ": "UH R", "ɪɹ": "IH R", "aɪɚ": "AY ER", "aɪə": "AY AH", "iə": "IY AH", "ᵻ": "IH",
    "ʔ": "",
}  # fmt: skip


_NASALS = ("m", "n", "ŋ", "ɲ", "ɱ")
_PAUSE_S = 0.03
"""A gap between two phones from which on the first does not change the second."""


class AlignmentError(Exception):
    """No path through the recording, or a word that cannot be pronounced; the caller leaves the recording
    out."""


class Aligner:
    """Aligns recordings with texts; keeps the decoder between calls.

    Raises:
        InputError: PocketSphinx is not installed.
    """

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise NotInstalledError(
                "forced alignment needs PocketSphinx; `pip install pocketsphinx`"
            ) from error
        # The beams stay at their defaults: with 1e-80 half of the second passes die.
        self._make: Callable[[], Any] = lambda: Decoder(lm=None, loglevel="FATAL", cmn="batch")
        self._decoder: Any = None
        self._entries = 0

    def align(self, samples: Float32, text: str, language: str) -> tuple[list[Phone], str]:
        """Find the phones of ``text`` in a recording.

        Args:
            samples: (N,) 16 kHz mono.
            text: what is said.
            language: ``"en"`` or an espeak-ng voice (``"fr"``, ``"it"``, ``"ru"``, ``"es"``).

        Returns:
            Phones with times in seconds (silences included), and their alphabet: ARPAbet for English, else
            IPA.

        Raises:
            AlignmentError: the text does not fit, or a word has no pronunciation.
        """
        words = english_words(text) if language == "en" else _words(text)
        if not words:
            raise AlignmentError("no words")
        pronunciations = [self._pronounce(word, language) for word in words]
        pcm = np.clip(np.round(samples * 32767.0), -32768, 32767).astype(np.int16)
        for padding in _PADDINGS:
            alphabet = "arpabet" if language == "en" else "ipa"
            found = self._attempt(pcm, words, pronunciations, padding, alphabet)
            if found is not None:
                found = merge_silence(found, alphabet=alphabet)
                return (lenited(found) if language.partition("-")[0] == "es" else found), alphabet
        raise AlignmentError("no path")

    def _pronounce(self, word: str, language: str) -> list[tuple[str, list[str]]] | None:
        """``[(symbol, [ARPAbet, ...]), ...]`` of a word, or None where the decoder's dictionary has it."""
        if self._decoder is None:
            self._decoder = self._make()
        if language == "en" and self._decoder.lookup_word(word) is not None:
            return None
        out: list[tuple[str, list[str]]] = []
        for symbol, _, _ in espeak().say(word, "en-us" if language == "en" else language, rate=150).phones:
            if is_silence(symbol, "ipa"):
                continue
            near = "IH" if language == "ru" and symbol == "y" else None
            near = near or _NEAREST.get(symbol, _NEAREST.get(symbol.replace("ː", "").rstrip("ʲ")))
            if near is None:
                raise AlignmentError(f"no English phone is near {symbol!r} of {word!r}")
            if language == "en":  # a recording has one alphabet, and its other words are the dictionary's
                out += [(phone, [phone]) for phone in near.split()]
            elif near:
                out.append((symbol, near.split()))
        if not out:
            raise AlignmentError(f"no pronunciation of {word!r}")
        return out

    def _attempt(
        self,
        pcm: npt.NDArray[np.int16],
        words: list[str],
        pronunciations: list[list[tuple[str, list[str]]] | None],
        padding: float,
        alphabet: str,
    ) -> list[Phone] | None:
        decoder = self._decoder = self._decoder or self._make()
        names: dict[str, list[tuple[str, list[str]]]] = {}
        spelled = []
        for word, pronunciation in zip(words, pronunciations, strict=True):
            name = word
            if pronunciation is not None:
                # Names are never used twice: the dictionary keeps old entries.
                self._entries += 1
                name = f"xw{self._entries}"
                names[name] = pronunciation
                decoder.add_word(name, " ".join(a for _, near in pronunciation for a in near), True)
            spelled.append(name)
        rng = np.random.default_rng(0)
        noise = [np.round(rng.normal(0, 4, int(padding * SAMPLE_RATE))).astype(np.int16) for _ in range(2)]
        data = np.concatenate([noise[0], pcm, noise[1]]).tobytes()
        try:
            decoder.set_align_text(" ".join(spelled))
            _decode(decoder, data)
            if decoder.hyp() is None:
                return None
            # The second pass finds the phones within the words of the first. It has no hypothesis: asking for
            # one crashes.
            decoder.set_alignment()
            _decode(decoder, data)
            alignment = decoder.get_alignment()
        except RuntimeError:  # no path; the decoder has to be made anew
            self._decoder = None
            return None
        if alignment is None:
            return None
        return _collect(alignment, names, padding, len(pcm) / SAMPLE_RATE, alphabet)


def _decode(decoder: Any, data: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(data, full_utt=True)
    decoder.end_utt()


def _collect(
    alignment: Any,
    names: dict[str, list[tuple[str, list[str]]]],
    padding: float,
    length: float,
    alphabet: str,
) -> list[Phone]:
    def seconds(frame: int) -> float:
        return float(min(max(frame * 0.01 - padding, 0.0), length))

    out: list[Phone] = []
    for word in alignment:
        segments = [(p.name, seconds(p.start), seconds(p.start + p.duration)) for p in word]
        symbols = names.get(re.sub(r"\(\d+\)$", "", word.name))
        if symbols is None:
            silent = alphabet == "ipa" and len(segments) == 1 and segments[0][0] == "SIL"
            out += [("_:", s, e) for _, s, e in segments] if silent else segments
            continue
        position = 0
        for symbol, near in symbols:
            group = segments[position : position + len(near)]
            position += len(near)
            if group:
                out.append((symbol, group[0][1], group[-1][2]))
    return [phone for phone in out if phone[2] > phone[1]]


def lenited(phones: list[Phone]) -> list[Phone]:
    """Spanish phones as they are said in a row, not word by word: a ``b`` is the approximant ``β``.

    It stays a stop after a pause and after a nasal (Hualde, "The Sounds of Spanish", 2005, chapter 8). Lips
    come near each other in it, and do not shut.

    Args:
        phones: (symbol, start_s, end_s) in IPA.
    """
    out: list[Phone] = []
    before = ("_", 0.0, -1.0)
    for phone in phones:
        runs_on = phone[1] - before[2] < _PAUSE_S and not is_silence(before[0], "ipa")
        if phone[0] == "b" and runs_on and before[0].rstrip("ʲː") not in _NASALS:
            phone = ("β", *phone[1:])
        out.append(phone)
        before = phone
    return out


def uncovered_share(samples: Float32, phones: list[Phone], alphabet: str) -> float:
    """Share of a recording's loud 10 ms frames (within 20 dB of the 95 % level) that no sounding phone
    covers.

    Over 0.15 the text differs from what is said, or a silence ate speech.
    """
    hop = SAMPLE_RATE // 100
    frames = len(samples) // hop
    if frames == 0:
        return 1.0
    level = 10.0 * np.log10((samples[: frames * hop].reshape(frames, hop) ** 2).mean(axis=1) + 1e-10)
    loud = level > np.percentile(level, 95) - 20.0
    covered = np.zeros(frames, bool)
    for symbol, start, end in phones:
        if not is_silence(symbol, alphabet):
            covered[int(start * 100) : int(np.ceil(end * 100))] = True
    return float((loud & ~covered).sum() / max(1, loud.sum()))


def _words(text: str) -> list[str]:
    clean = re.sub(r"[^\w'’ -]", " ", text).replace("-", " ")
    return [word for word in clean.split() if re.search(r"\w", word)]


def english_words(text: str) -> list[str]:
    """The words of an English text in small letters a to z, numbers as they are said."""
    # Dictionaries spell café and Zoë without their marks; what is left without those letters is other words.
    clean = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    clean = clean.replace("\u2019", "'").replace("&", " and ").replace("%", " percent ")
    clean = re.sub(r"\d+", lambda match: f" {_number(match.group())} ", clean)
    words = (word.strip("'") for word in re.sub(r"[^a-z' ]", " ", clean).split())
    return [word for word in words if word]


def _number(digits: str) -> str:
    """English words of a number as prompts say it, a long one digit by digit."""
    if len(digits) > 3:
        return " ".join(_UNITS[int(digit)] for digit in digits)
    value = int(digits)
    if value < 20:
        return _UNITS[value]
    if value < 100:
        return _TENS[value // 10] + ("" if value % 10 == 0 else " " + _UNITS[value % 10])
    rest = "" if value % 100 == 0 else " " + _number(str(value % 100))
    return f"{_UNITS[value // 100]} hundred{rest}"
