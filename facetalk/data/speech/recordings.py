"""Recordings with transcripts that Debian packages carry: telephone prompts (Asterisk), picture names (Tux
Paint), LibriVox.

Asterisk's prompts are Creative Commons (attribution, two languages share-alike); Tux Paint's are GPL-2, so
they are never a default. The English and Spanish prompts are one speaker, kept for acceptance together with
the LibriVox sentences: training sources do not offer them.
"""

from __future__ import annotations

import dataclasses
import gzip
import re
from collections.abc import Iterator
from pathlib import Path

from facetalk.errors import InputError, NotInstalledError


@dataclasses.dataclass(frozen=True)
class Recording:
    """One recording: file, text, language, and where it comes from."""

    name: str
    path: Path
    text: str
    voice: str
    language: str
    licence: str
    source: str


@dataclasses.dataclass(frozen=True)
class PromptSet:
    """A language of Asterisk's core sounds."""

    folder: str
    voice: str
    licence: str


ASTERISK = {
    "fr": PromptSet("fr_CA_f_June", "asterisk-june-wallack", "CC-BY-SA-3.0"),
    "it": PromptSet("it_IT_m_Carlo", "asterisk-carlo-flora", "CC-BY-3.0"),
    "ru": PromptSet("ru_RU_f_IvrvoiceRU", "asterisk-ivrvoice-ru", "CC-BY-3.0"),
}
#: Held for acceptance: never trained, tuned or selected on.
ASTERISK_RESERVED = {"en": PromptSet("en_US_f_Allison", "asterisk-allison-smith", "CC-BY-SA-3.0")}

#: Italian prompts of the demo recording in the repository, kept out of training.
DEMO_PROMPTS = ("queue-periodic-announce", "tt-monkeysintro", "privacy-unident", "demo-thanks")

# Stage directions and letters that were lost to a wrong encoding ("pu? essere").
_SUSPECT = re.compile(r"[\[(<\ufffd]|\?\w|\w\? [a-z]")


def asterisk(language: str, *, root: Path = Path("/"), reserved: bool = False) -> Iterator[Recording]:
    """The prompts of one language with their transcripts.

    Args:
        language: ``"fr"``, ``"it"``, ``"ru"``; with ``reserved`` also ``"en"``.
        root: folder under which the packages ``asterisk-core-sounds-LL`` and ``-LL-g722`` are installed or
        unpacked.
        reserved: allow the language kept for acceptance.

    Raises:
        InputError: the packages are not there.
    """
    known = {**ASTERISK, **(ASTERISK_RESERVED if reserved else {})}
    if language not in known:
        raise InputError(
            f"no Asterisk prompts to train on for language {language!r}; known are {', '.join(known)}"
        )
    chosen = known[language]
    package = f"asterisk-core-sounds-{language}"
    sounds = root / "usr/share/asterisk/sounds" / chosen.folder
    if not sounds.is_dir():
        sounds = Path("/usr/share/asterisk/sounds") / chosen.folder
    texts = root / "usr/share/doc" / package / f"core-sounds-{language}.txt.gz"
    for path, hint in ((sounds, f"{package}-g722"), (texts, package)):
        if not path.exists():
            raise NotInstalledError(
                f"{path} is missing; `apt-get install {hint}`, or unpack it with dpkg-deb and give its folder"
            )
    with gzip.open(texts, "rt", encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, text = line.lstrip("\ufeff").partition(":")
            name, text = name.strip(), text.strip()
            path = sounds / f"{name}.g722"
            if line.startswith(";") or not text or _SUSPECT.search(text) or not path.is_file():
                continue
            yield Recording(
                f"{package}/{name}", path, text, chosen.voice, language, chosen.licence, f"Debian {package}"
            )


def tuxpaint(language: str, *, root: Path = Path("/")) -> Iterator[Recording]:
    """Tux Paint's spoken stamp descriptions in one language (GPL-2), each text once.

    Raises:
        InputError: the package is not there.
    """
    stamps = root / "usr/share/tuxpaint/stamps"
    if not stamps.is_dir():
        raise NotInstalledError(
            f"{stamps} is missing; `apt-get install tuxpaint-stamps-default`, or unpack it and give its "
            f"folder"
        )
    seen: set[str] = set()
    for path in sorted(stamps.rglob(f"*_desc_{language}.ogg")):
        caption = path.with_name(path.name.replace(f"_desc_{language}.ogg", ".txt"))
        if not caption.is_file():
            continue
        for line in caption.read_text(encoding="utf-8", errors="replace").splitlines():
            code, _, text = line.partition("=")
            text = text.split("\\n")[0].strip()
            if code.split(".")[0] == language and text and not _SUSPECT.search(text) and text not in seen:
                seen.add(text)
                name = str(path.relative_to(stamps).with_suffix(""))
                voice = f"tuxpaint-{language}"
                yield Recording(
                    f"tuxpaint/{name}",
                    path,
                    text,
                    voice,
                    language,
                    "GPL-2.0",
                    "Debian tuxpaint-stamps-default",
                )


def librivox(*, root: Path = Path("/")) -> Iterator[Recording]:
    """The LibriVox sentences of PocketSphinx' test data (kept for acceptance).

    Raises:
        InputError: the package is not there.
    """
    folder = root / "usr/share/pocketsphinx/test/data/librivox"
    if not folder.is_dir():
        raise InputError(f"{folder} is missing; `apt-get install pocketsphinx-testdata`")
    for transcript in sorted(folder.glob("*transcription")):
        for line in transcript.read_text().splitlines():
            match = re.match(r"(?:<s>)?\s*(.*?)\s*(?:</s>)?\s*\((\S+)\)\s*$", line)
            if match is None:
                continue
            path = folder / f"{match.group(2)}.wav"
            if path.is_file():
                voice = "librivox-" + path.stem.split("-")[0]
                yield Recording(
                    f"librivox/{path.stem}", path, match.group(1), voice, "en", "public-domain",
                    "Debian pocketsphinx-testdata (LibriVox)",
                )  # fmt: skip
