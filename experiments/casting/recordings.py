"""Recordings of known voices: clips joined to some seconds, as they are or through other microphones."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetalk.arrays import Float32
from facetalk.audio import load_audio
from facetalk.data.speech.kokoro import HELD_OUT as KOKORO_HELD_OUT
from facetalk.errors import InputError
from facetalk.units import SAMPLE_RATE

__all__ = ["HELD_OUT", "RESERVED", "Recording", "microphone", "recordings"]

HELD_OUT = (
    *(f"kokoro-{name}" for name in KOKORO_HELD_OUT),
    "flite-rms", "flite-awb", "asterisk-ivrvoice-ru", "espeak-Andrea", "espeak-m2",
)  # fmt: skip
"""Voices that nothing is fitted to: neural, joined from recordings, of formants, and a person's."""
RESERVED = ("asterisk-en", "asterisk-es", "librivox", "allison", "en_US_f_Allison")
"""Never read: kept for the acceptance of the whole."""
_SAME = {"flite-kal16": "kal", "festival-kal": "kal"}
_SECONDS = 8.0


@dataclass(frozen=True)
class Recording:
    """Some clips of a voice, one after the other.

    Attributes:
        voice: its name.
        sound: (N,) 16 kHz mono.
    """

    voice: str
    sound: Float32


def recordings(folders: list[Path], *, held_out: bool, most: int, seed: int = 0) -> Iterator[Recording]:
    """Recordings of 8 s and more of the voices of some corpora, in an order of the seed.

    Args:
        folders: each with a manifest.jsonl, as ``facetalk data`` makes it, or with VOICE-NUMBER.flac
            alone.
        held_out: of the voices of ``HELD_OUT`` and of folders without a manifest, or of all others.
        most: recordings of a voice.
        seed: of the order of clips.

    Raises:
        InputError: a folder has neither.
    """
    files: dict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        for voice, path in _listed(folder):
            if any(word.lower() in f"{voice} {path}".lower() for word in RESERVED) or "+" in voice:
                continue
            files[_SAME.get(voice, voice)].append(path)
    plain = {
        _plain(path)
        for folder in folders if not (folder / "manifest.jsonl").is_file()
        for path in folder.glob("*.flac")
    }  # fmt: skip
    rng = np.random.default_rng(seed)
    for voice in sorted(files):
        if (voice in HELD_OUT or voice in plain) != held_out:
            continue
        parts: list[Float32] = []
        made = 0
        for index in rng.permutation(len(files[voice])):
            parts.append(load_audio(files[voice][index]))
            if sum(map(len, parts)) >= _SECONDS * SAMPLE_RATE:
                yield Recording(voice, np.concatenate(parts))
                parts, made = [], made + 1
            if made == most:
                break


def microphone(sound: Float32, rng: np.random.Generator, *, hard: bool = False) -> Float32:
    """A recording as another microphone, room noise and line would have it.

    Args:
        sound: (N,) 16 kHz mono.
        rng: draws the colour (6 dB up and down), the band and noise of 15 to 40 dB.
        hard: a telephone's band (300 to 3400 Hz) and noise of 15 dB instead.
    """
    spectrum = np.fft.rfft(sound)
    hertz = np.fft.rfftfreq(len(sound), 1.0 / SAMPLE_RATE)
    octave = np.log2(np.maximum(hertz, 50.0) / 50.0)
    colour = np.interp(octave, np.linspace(0.0, 7.4, 6), rng.uniform(-6.0, 6.0, 6))
    low, high = (300.0, 3400.0) if hard else (rng.uniform(40.0, 200.0), rng.choice([3800.0, 5500.0, 8000.0]))
    skirt = -24.0 * (np.maximum(np.log2(low / np.maximum(hertz, 1.0)), 0.0)
                     + np.maximum(np.log2(np.maximum(hertz, 1.0) / high), 0.0))  # fmt: skip
    changed = np.fft.irfft(spectrum * 10.0 ** ((colour + skirt) / 20.0), len(sound))
    noise = np.fft.irfft(
        np.fft.rfft(rng.standard_normal(len(sound))) / np.maximum(hertz, 100.0) ** rng.uniform(0.0, 0.5),
        len(sound),
    )
    decibels = 15.0 if hard else rng.uniform(15.0, 40.0)
    noise *= changed.std() / max(noise.std(), 1e-12) * 10.0 ** (-decibels / 20.0)
    return np.asarray(0.1 * (changed + noise) / max(float(changed.std()), 1e-9), np.float32)


def _listed(folder: Path) -> Iterator[tuple[str, Path]]:
    manifest = folder / "manifest.jsonl"
    if manifest.is_file():
        for line in manifest.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            yield row["voice"], folder / row["audio"]
        return
    found = sorted(folder.glob("*.flac"))
    if not found:
        raise InputError(f"{folder}: no manifest.jsonl and no .flac files; give a folder of `facetalk data`")
    for path in found:
        yield _plain(path), path


def _plain(path: Path) -> str:
    return path.stem.rpartition("-")[0] or path.stem
