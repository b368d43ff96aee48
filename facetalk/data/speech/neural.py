"""Speech of neural synthesizers for a corpus: voices that sound like people, aligned by PocketSphinx.

Their own durations are right to some 50 ms only, so the forced aligner places the phones, and what it cannot
follow is left out. Utterance ``i`` depends on ``(seed, i)`` alone: a build that was stopped goes on where it
was. Held-out voices read texts of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import soxr
from tqdm import tqdm

from facetalk.arrays import Float32
from facetalk.data.speech import kokoro
from facetalk.data.speech.align import Aligner, AlignmentError, uncovered_share
from facetalk.data.speech.corpus import CorpusWriter, split_of
from facetalk.data.speech.synth import Speech
from facetalk.data.speech.text import spoken_sentences
from facetalk.errors import NotInstalledError
from facetalk.units import SAMPLE_RATE

HIBARI_VOICE = "hibari-heart"
_LICENCE = "Apache-2.0"  # of both
_FLUSH_EVERY = 20
_UNCOVERED = 0.15
_MIXED = 0.35
"""Share of utterances by a speaker who is a mix of two trained voices."""

#: One way to speak: what makes the sound from phonemes, name of the voice.
Speaker = tuple[Callable[[str], Float32], str]


def hibari() -> Any:
    """hibari-tts: its voice "heart", and the phonemes that Kokoro reads.

    Raises:
        NotInstalledError: the package is missing.
    """
    try:
        from hibari import Hibari
    except ImportError as error:
        raise NotInstalledError(
            "hibari-tts is not installed; `pip install 'facetalk[voices]'` or leave hibari and kokoro out"
        ) from error
    return Hibari()


def add_hibari(writer: CorpusWriter, minutes: float, seed: int) -> None:
    """The voice of hibari-tts (held out, see :data:`facetalk.data.speech.kokoro.HELD_OUT`)."""
    from importlib.metadata import version

    engine = hibari()

    def speaker(rng: np.random.Generator) -> Speaker:
        speed, noise = float(rng.uniform(0.8, 1.25)), int(rng.integers(2**31))

        def say(symbols: str) -> Float32:
            sound = engine.from_phonemes(symbols, speed=speed, seed=noise)
            out: Float32 = soxr.resample(sound, engine.sample_rate, SAMPLE_RATE).astype(np.float32)
            return out

        return say, HIBARI_VOICE

    _fill(writer, "hibari", minutes, seed + 10, engine, speaker, f"hibari-tts {version('hibari-tts')}")


def add_kokoro(writer: CorpusWriter, minutes: float, seed: int, model: kokoro.Kokoro) -> None:
    """Kokoro's voices and mixes of two; a sixth of the utterances is by held-out voices.

    Args:
        writer: the corpus.
        minutes: of sound that passes the aligner.
        seed: seed of texts, voices, pace.
        model: the synthesizer.
    """
    engine = hibari()
    trained = sorted(set(model.voices) - set(kokoro.HELD_OUT))
    # English is what is read; voices of other languages read it with an accent, and less often.
    weights = np.array([3.0 if name[0] in "ab" else 1.0 for name in trained])
    weights /= weights.sum()

    def speaker(rng: np.random.Generator) -> Speaker:
        speed = float(rng.uniform(0.8, 1.25))
        if rng.random() < 1 / 6:
            name = str(rng.choice(kokoro.HELD_OUT))
            style = model.voices[name]
        elif rng.random() < _MIXED:
            first, second = (str(v) for v in rng.choice(trained, 2, replace=False, p=weights))
            share = float(rng.uniform(0.25, 0.75))
            style = kokoro.mix([model.voices[first], model.voices[second]], share)
            name = f"{first}+{second}"
        else:
            name = str(rng.choice(trained, p=weights))
            style = model.voices[name]
        return (lambda symbols: model.say(symbols, style, speed).samples), f"kokoro-{name}"

    _fill(writer, "kokoro", minutes, seed + 20, engine, speaker, kokoro.SOURCE)


def _fill(
    writer: CorpusWriter,
    name: str,
    minutes: float,
    seed: int,
    engine: Any,
    speaker: Callable[[np.random.Generator], Speaker],
    source: str,
) -> None:
    """Speak and align until ``minutes`` are there; what an earlier run made counts."""
    texts = {
        split: enumerate(spoken_sentences(seed, held_out=split == "valid")) for split in ("train", "valid")
    }
    aligner, left = Aligner(), 0
    have = sum(u.seconds for u in writer.utterances.values() if u.id.startswith(f"{name}/"))
    done = [int(u.rsplit("/", 1)[1]) for u in writer.utterances if u.startswith(f"{name}/")]
    index = max(done, default=-1) + 1
    with tqdm(
        total=round(minutes * 60), initial=round(have), desc=name, unit="s", disable=not sys.stderr.isatty()
    ) as bar:
        while have < minutes * 60.0:
            say, voice = speaker(np.random.default_rng([seed, index]))
            text = next(text for number, text in texts[split_of(voice)] if number == index)
            samples = say(" ".join(engine.phonemize(text)))
            samples = samples / max(float(np.abs(samples).max(initial=0.0)), 1e-3) * np.float32(0.7)
            index += 1
            try:
                phones, alphabet = aligner.align(samples, text, "en")
                if uncovered_share(samples, phones, alphabet) > _UNCOVERED:
                    raise AlignmentError("the text does not fit the sound")
            except AlignmentError:
                left += 1
                continue
            speech = Speech(samples.astype(np.float32), phones, alphabet)
            writer.add(
                f"{name}/{index - 1:05d}", speech, text=text, voice=voice, language="en",
                licence=_LICENCE, source=source,
            )  # fmt: skip
            have += len(samples) / SAMPLE_RATE
            bar.update(round(len(samples) / SAMPLE_RATE))
            if index % _FLUSH_EVERY == 0:
                writer.flush()
    writer.flush()
    print(f"{name}: {have / 60:.1f} min, {left} utterances left out that did not align", file=sys.stderr)
