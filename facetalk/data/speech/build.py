"""Building speech corpora: which synthesizers and recordings, how much of each, which voices are held out."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from facetalk.audio.load import load_audio
from facetalk.data.speech.align import Aligner, AlignmentError, uncovered_share
from facetalk.data.speech.corpus import CorpusWriter, Utterance, split_of
from facetalk.data.speech.kokoro import Kokoro
from facetalk.data.speech.neural import add_hibari, add_kokoro, hibari
from facetalk.data.speech.recordings import ASTERISK, DEMO_PROMPTS, Recording, asterisk, librivox, tuxpaint
from facetalk.data.speech.synth import FESTIVAL_VOICES, Flite, Speech, espeak, festival
from facetalk.data.speech.text import sentences
from facetalk.errors import InputError, NotInstalledError
from facetalk.units import SAMPLE_RATE

DEFAULT_SOURCES = ("flite", "espeak", "festival", "asterisk")
#: Share of each source in the minutes asked of the synthesizers.
SHARES = {"flite": 0.66, "espeak": 0.17, "festival": 0.17, "hibari": 0.1, "kokoro": 0.5}
KNOWN_SOURCES = (*SHARES, "asterisk", "tuxpaint")

_FLITE_PITCH = {"slt": (140.0, 230.0), "awb": (85.0, 160.0), "kal16": (75.0, 170.0), "rms": (75.0, 140.0)}
_FLITE_WEIGHT = {"slt": 0.36, "awb": 0.32, "kal16": 0.24, "rms": 0.08}
_ESPEAK_VARIANTS = str.split(
    "f1 f2 f3 f4 f5 m1 m2 m3 m4 m5 m6 m7 m8 klatt klatt2 klatt3 klatt4 Andrea Annie Denis Lee Michael Mike "
    "Steph "
    "anika aunty belinda david ed gene iven jonas linda max michel mario pablo paul quincy rob robert sandro"
)
# Languages read the same words by their own rules: nonsense, but in the phones of the language.
_ESPEAK_LANGUAGES = ("en-us", "en-us", "en-us", "en-gb-x-rp", "fr", "it", "es", "de", "pt", "pl")


def add_flite(writer: CorpusWriter, minutes: float, seed: int) -> None:
    """Statistical and diphone voices of flite, with varied rate and pitch."""
    engine = Flite()
    rng = np.random.default_rng(seed)
    for voice, weight in _FLITE_WEIGHT.items():
        text_for = _texts(seed + 1000 * (1 + list(_FLITE_WEIGHT).index(voice)))

        def speak(
            voice: str = voice, text_for: Callable[[str], str] = text_for
        ) -> tuple[Speech, str, str, str]:
            text = text_for(f"flite-{voice}")
            low, high = _FLITE_PITCH[voice]
            stretch, pitch = float(rng.uniform(0.8, 1.35)), float(rng.uniform(low, high))
            return engine.say(text, voice, stretch=stretch, pitch_hz=pitch), text, f"flite-{voice}", "en"

        _fill(writer, f"flite-{voice}", minutes * weight, speak, "flite (BSD-like)", "flite 2.2")


def add_espeak(writer: CorpusWriter, minutes: float, seed: int) -> None:
    """espeak-ng's formant voices in several languages."""
    rng = np.random.default_rng(seed + 1)
    text_for = _texts(seed + 2)

    def speak() -> tuple[Speech, str, str, str]:
        variant, language = str(rng.choice(_ESPEAK_VARIANTS)), str(rng.choice(_ESPEAK_LANGUAGES))
        rate, pitch = int(rng.integers(120, 200)), int(rng.integers(20, 85))
        text = text_for(f"espeak-{variant}")
        speech = espeak().say(text, f"{language}+{variant}", rate=rate, pitch=pitch)
        return speech, text, f"espeak-{variant}", language[:2]

    _fill(writer, "espeak", minutes, speak, "free (sound made by espeak-ng)", "espeak-ng")


def add_festival(writer: CorpusWriter, minutes: float, seed: int) -> None:
    """Diphone voices of festival."""
    rng = np.random.default_rng(seed + 3)
    text_for = _texts(seed + 4)
    queue: list[tuple[Speech, str, str]] = []

    def speak() -> tuple[Speech, str, str, str]:
        if not queue:
            voices = [
                (str(rng.choice(list(FESTIVAL_VOICES))), float(rng.uniform(0.8, 1.35))) for _ in range(32)
            ]
            jobs = [(text_for(f"festival-{voice}"), voice, stretch) for voice, stretch in voices]
            queue.extend((s, t, v) for s, (t, v, _) in zip(festival(jobs), jobs, strict=True))
        speech, text, voice = queue.pop()
        return speech, text, f"festival-{voice}", "en"

    _fill(writer, "festival", minutes, speak, "festvox (BSD-like)", "festival")


def _texts(seed: int) -> Callable[[str], str]:
    """What a voice says next: held-out voices say what no other does."""
    streams = {split: sentences(seed, held_out=split == "valid") for split in ("train", "valid")}
    return lambda voice: next(streams[split_of(voice)])


def _fill(
    writer: CorpusWriter,
    name: str,
    minutes: float,
    speak: Callable[[], tuple[Speech, str, str, str]],
    licence: str,
    source: str,
) -> None:
    """Call ``speak`` until ``minutes`` of speech are there."""
    have, index = 0.0, 0
    if f"{name}/00000" in writer:
        return
    with tqdm(total=round(minutes * 60), desc=name, unit="s", disable=not sys.stderr.isatty()) as bar:
        while have < minutes * 60.0:
            speech, text, voice, language = speak()
            seconds = len(speech.samples) / SAMPLE_RATE
            if seconds < 0.5 or not speech.phones:
                continue
            writer.add(
                f"{name}/{index:05d}",
                speech,
                text=text,
                voice=voice,
                language=language,
                licence=licence,
                source=source,
            )
            index += 1
            have += seconds
            bar.update(round(seconds))
    writer.flush()


def add_recordings(
    writer: CorpusWriter,
    recordings: Iterable[Recording],
    *,
    join: bool = True,
    min_s: float = 0.6,
    name: str = "aligned",
) -> tuple[int, int]:
    """Align recordings with their texts and add those that pass the quality gate.

    Args:
        writer: the corpus.
        recordings: what to align.
        join: put short recordings of a voice together, with pauses, into utterances of about 5 s.
        min_s: shorter recordings are left out.
        name: shown in the progress bar.

    Returns:
        Numbers of recordings taken and left out.
    """
    aligner, taken, dropped = Aligner(), 0, 0
    rng = np.random.default_rng(0)
    pending: list[tuple[Recording, Speech]] = []
    for recording in tqdm(list(recordings), desc=name, unit="file", disable=not sys.stderr.isatty()):
        if recording.name in writer:
            taken += 1
            continue
        try:
            samples = load_audio(recording.path)
            if len(samples) < min_s * SAMPLE_RATE:
                dropped += 1
                continue
            samples = samples / max(float(np.abs(samples).max()), 1e-3) * 0.7
            phones, alphabet = aligner.align(samples, recording.text, recording.language)
            if uncovered_share(samples, phones, alphabet) > 0.15:
                raise AlignmentError("the text does not fit the sound")
        except (AlignmentError, InputError):
            dropped += 1
            continue
        taken += 1
        pending.append((recording, Speech(samples.astype(np.float32), phones, alphabet)))
        voices_differ = pending[0][0].voice != recording.voice
        if voices_differ:
            _join(writer, pending[:-1], rng)
            pending = pending[-1:]
        if not join or sum(len(s.samples) for _, s in pending) > 4.5 * SAMPLE_RATE:
            _join(writer, pending, rng)
            pending = []
    _join(writer, pending, rng)
    writer.flush()
    return taken, dropped


def _join(writer: CorpusWriter, parts: list[tuple[Recording, Speech]], rng: np.random.Generator) -> None:
    """Write recordings of one voice as one utterance, faint noise between them."""
    if not parts:
        return
    samples, phones, offset = [], [], 0.0
    for position, (_, speech) in enumerate(parts):
        if position:
            pause = rng.normal(0.0, 3e-4, int(rng.uniform(0.1, 0.7) * SAMPLE_RATE)).astype(np.float32)
            samples.append(pause)
            offset += len(pause) / SAMPLE_RATE
        samples.append(speech.samples)
        phones += [(s, a + offset, b + offset) for s, a, b in speech.phones]
        offset += len(speech.samples) / SAMPLE_RATE
    first, speech = parts[0]
    writer.add(
        first.name,
        Speech(np.concatenate(samples), phones, speech.alphabet),
        text=" ".join(r.text for r, _ in parts),
        voice=first.voice,
        language=first.language,
        licence=first.licence,
        source=first.source,
    )


def build(
    out: str | Path, *, sources: Iterable[str] | None = None, minutes: float = 120.0, seed: int = 0,
    packages: str | Path = "/", gpl: bool = False, kokoro: str | Path | None = None,
) -> list[Utterance]:  # fmt: skip
    """Build a training corpus.

    Args:
        out: corpus folder; a source that an earlier run finished is kept.
        sources: of :data:`KNOWN_SOURCES`; None takes those of :data:`DEFAULT_SOURCES` that are installed and
            says on stderr what was left out. ``hibari`` is one voice, held out; ``kokoro`` takes as long as
            it speaks.
        minutes: synthetic speech in all, shared out by :data:`SHARES`; recordings are taken whole.
        seed: seed of texts, rates and pitches.
        packages: folder under which Debian packages with recordings are installed or unpacked.
        gpl: allow GPL recordings (weights trained on them are not ours to relicense).
        kokoro: folder with Kokoro's model and voices; None takes the installed packages.

    Raises:
        NotInstalledError: a source that was named is not installed, or none is.
        InputError: an unknown source, a GPL source without ``gpl``, or ``kokoro`` without that source.
    """
    named = sources is not None
    sources = list(DEFAULT_SOURCES if sources is None else sources)
    unknown = sorted(set(sources) - set(KNOWN_SOURCES))
    if unknown or not sources:
        raise InputError(
            f"unknown speech source {', '.join(unknown) or 'list: empty'}; known are "
            f"{', '.join(KNOWN_SOURCES)}"
        )
    if kokoro is not None and "kokoro" not in sources:
        raise InputError("--kokoro names the folder of the source kokoro; add it to --sources")
    if str(packages) != "/" and not {"asterisk", "tuxpaint"} & set(sources):
        raise InputError("--packages holds the recordings of asterisk and tuxpaint; add one to --sources")
    _check_packages(packages)
    if "tuxpaint" in sources and not gpl:
        raise InputError(
            "tuxpaint is GPL-2; add --gpl if you may use it (never for weights under another licence)"
        )
    if not minutes > 0:
        raise InputError(f"minutes of synthetic speech must be positive, got {minutes:g}")
    if not named:
        sources = [source for source in sources if source not in SHARES or _installed(source)]
    if "kokoro" in sources:  # before anything else takes its time
        hibari()
        speaker = Kokoro(None if kokoro is None else Path(kokoro))
    writer = CorpusWriter(out)
    share = sum(SHARES.get(source, 0.0) for source in sources) or 1.0
    makers: dict[str, Callable[[CorpusWriter, float, int], None]] = {
        "flite": add_flite,
        "espeak": add_espeak,
        "festival": add_festival,
        "hibari": add_hibari,
        "kokoro": lambda to, length, start: add_kokoro(to, length, start, speaker),
    }
    for source in sources:
        if source in makers:
            makers[source](writer, minutes * SHARES[source] / share, seed)
        languages = {"asterisk": list(ASTERISK), "tuxpaint": ["es", "fr", "ru"]}.get(source, [])
        for language in languages:
            try:
                _add_prompts(writer, source, language, Path(packages))
            except NotInstalledError as error:
                if named:
                    raise
                _skipped(f"{source}-{language}", error)
    if not writer.utterances:
        raise NotInstalledError(
            f"none of the speech sources {', '.join(DEFAULT_SOURCES)} is installed; "
            "`pip install 'facetalk[speech]'` has one of them"
        )
    return list(writer.utterances.values())


def _installed(source: str) -> bool:
    """Whether a synthesizer speaks here; if not, say so and how to get it."""
    probes: dict[str, Callable[[], object]] = {
        "flite": Flite,
        "espeak": espeak,
        "festival": lambda: festival([("a", voice, 1.0) for voice in FESTIVAL_VOICES]),
    }
    try:
        probes[source]()
    except NotInstalledError as error:
        _skipped(source, error)
        return False
    return True


def _skipped(source: str, error: NotInstalledError) -> None:
    print(f"skipped {source}: {error}", file=sys.stderr)


def _add_prompts(writer: CorpusWriter, source: str, language: str, packages: Path) -> None:
    """Add the recorded prompts of one language."""
    find = asterisk if source == "asterisk" else tuxpaint
    found = find(language, root=packages)
    kept = [r for r in found if not (language == "it" and r.name.rsplit("/", 1)[-1] in DEMO_PROMPTS)]
    taken, left = add_recordings(writer, kept, name=f"{source}-{language}")
    print(f"{source}-{language}: {taken} recordings taken, {left} left out", file=sys.stderr)


def _check_packages(packages: str | Path) -> None:
    """Refuse a folder that is not there before an hour of speech was made."""
    if not Path(packages).is_dir():
        raise InputError(f"--packages {packages}: no such folder; name where packages are unpacked")


def build_acceptance(out: str | Path, *, packages: str | Path = "/") -> list[Utterance]:
    """Align the reserved recordings (English prompts of 2 s and more, LibriVox) into their own folder."""
    _check_packages(packages)
    writer = CorpusWriter(out)
    reserved = [*asterisk("en", root=Path(packages), reserved=True), *librivox()]
    counts = add_recordings(writer, reserved, join=False, min_s=2.0, name="acceptance")
    writer.utterances = {k: dataclasses.replace(u, split="valid") for k, u in writer.utterances.items()}
    writer.flush()
    print(f"acceptance: {counts[0]} recordings taken, {counts[1]} left out", file=sys.stderr)
    return list(writer.utterances.values())
