"""Sound that no mouth makes: chords, arpeggios, drums, tones, sweeps and noise, over which a face is still.

All is synthesised here, so nothing has to be fetched and no licence asked.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from facetalk.arrays import Float32, Float64
from facetalk.training.audio.augment import noise
from facetalk.units import SAMPLE_RATE

_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 3, 5, 7, 10))
_CHORDS = ((0, 4, 7), (0, 3, 7), (0, 4, 7, 11), (0, 5, 7), (0, 3, 7, 10))

Maker = Callable[[int, np.random.Generator], Float64]


def tone(count: int, rng: np.random.Generator) -> Float64:
    """One tone, or a dial tone of two, steady or in beeps."""
    time = np.arange(count) / SAMPLE_RATE
    out = np.sin(2 * np.pi * 10 ** rng.uniform(1.8, 3.5) * time)
    if rng.random() < 0.4:
        out += np.sin(2 * np.pi * 10 ** rng.uniform(1.8, 3.5) * time)
    if rng.random() < 0.4:
        out *= (time * rng.uniform(0.5, 6.0) + rng.random()) % 1.0 < rng.uniform(0.3, 0.8)
    return out


def sweep(count: int, rng: np.random.Generator) -> Float64:
    """A siren: a tone whose pitch wanders."""
    time = np.arange(count) / SAMPLE_RATE
    octaves = rng.uniform(0.1, 1.5) * np.sin(2 * np.pi * rng.uniform(0.1, 4.0) * time + rng.uniform(0, 6.28))
    phase = 2 * np.pi * np.cumsum(10 ** rng.uniform(2.2, 3.2) * 2.0**octaves) / SAMPLE_RATE
    return np.asarray(np.sin(phase) + rng.uniform(0, 0.5) * np.sin(2 * phase))


def hiss(count: int, rng: np.random.Generator) -> Float64:
    """Noise of any slope, steady or swelling."""
    out = np.asarray(noise(count, rng), np.float64)
    if rng.random() < 0.4:
        time = np.arange(count) / SAMPLE_RATE
        out *= 1.0 + rng.uniform(0.3, 1.0) * np.sin(2 * np.pi * rng.uniform(0.1, 5.0) * time)
    return out


def _note(hertz: float, count: int, rng: np.random.Generator, plucked: bool) -> Float64:
    """A note of a random instrument: harmonics that fall off, an attack, a decay or a swell."""
    time = np.arange(count) / SAMPLE_RATE
    slope, out = rng.uniform(0.7, 2.2), np.zeros(count)
    wobble = rng.uniform(0.0, 0.004) * np.sin(2 * np.pi * rng.uniform(4.0, 7.0) * time)
    # The sine of each harmonic is the imaginary part of a power, a product instead of a sine.
    turn = np.exp(2j * np.pi * hertz * (time + wobble / 30.0))
    power = np.ones_like(turn)
    for harmonic in range(1, 13):
        if hertz * harmonic > 7000.0:
            break
        power *= turn
        if rng.random() < 0.85:
            out += harmonic**-slope * power.imag
    attack = np.minimum(time / rng.uniform(0.003, 0.08), 1.0)
    fall = np.exp(-time / rng.uniform(0.15, 1.0)) if plucked else np.minimum((time[-1] - time) / 0.05, 1.0)
    return np.asarray(out * attack * fall)


def _sequence(count: int, rng: np.random.Generator, chords: bool) -> Float64:
    out, at = np.zeros(count), 0
    root, scale = 2.0 ** rng.uniform(6.3, 8.6), _SCALES[int(rng.integers(len(_SCALES)))]
    beat = int(rng.uniform(0.4, 2.5) * SAMPLE_RATE) if chords else int(rng.uniform(0.1, 0.5) * SAMPLE_RATE)
    plucked = bool(rng.random() < 0.6)
    while at < count:
        length = min(count - at, int(beat * rng.choice((1, 1, 2))))
        if length < 160:
            break
        degree = scale[int(rng.integers(len(scale)))] + (0 if chords else 12 * int(rng.integers(3)))
        steps = _CHORDS[int(rng.integers(len(_CHORDS)))] if chords else (0,)
        for step in steps:
            hertz = root * 2.0 ** ((degree + step) / 12)
            out[at : at + length] += _note(hertz, length, rng, plucked) * rng.uniform(0.4, 1.0)
        at += length
    return out


def chords(count: int, rng: np.random.Generator) -> Float64:
    """Chords, one after the other."""
    return _sequence(count, rng, True)


def melody(count: int, rng: np.random.Generator) -> Float64:
    """A tune or an arpeggio."""
    return _sequence(count, rng, False)


def drums(count: int, rng: np.random.Generator) -> Float64:
    """A beat: falling thumps, and bursts of noise."""
    out = np.zeros(count)
    beat = int(rng.uniform(0.12, 0.4) * SAMPLE_RATE)
    for number, at in enumerate(range(0, count, beat)):
        time = np.arange(min(count - at, beat * 2)) / SAMPLE_RATE
        if number % int(rng.integers(2, 5)) == 0:
            out[at : at + len(time)] += np.sin(2 * np.pi * 60.0 * (time - 0.3 * time**2)) * np.exp(
                -time / 0.12
            )
        if rng.random() < 0.6:
            burst = rng.normal(size=len(time)) * np.exp(-time / rng.uniform(0.01, 0.12))
            out[at : at + len(time)] += rng.uniform(0.1, 0.7) * burst
    return out


def band(count: int, rng: np.random.Generator) -> Float64:
    """Several of them together."""
    parts = [maker(count, rng) for maker in (chords, melody, drums) if rng.random() < 0.8]
    return sum((part / (part.std() + 1e-9) * rng.uniform(0.3, 1.0) for part in parts), np.zeros(count))


#: By the name under which :mod:`experiments.hearing` tells their figures.
KINDS: dict[str, Maker] = {
    "tone": tone, "sweep": sweep, "noise": hiss, "chords": chords, "melody": melody, "drums": drums,
    "band": band,
}  # fmt: skip


def unspoken(count: int, rng: np.random.Generator, kind: str | None = None) -> Float32:
    """Sound without speech.

    Args:
        count: samples at 16 kHz.
        rng: source of all chance.
        kind: of :data:`KINDS`; None draws one, music more often than tones and noise.

    Returns:
        (count,) float32, its peak at 0.5.
    """
    name = kind or str(rng.choice(list(KINDS), p=(0.12, 0.08, 0.16, 0.14, 0.16, 0.12, 0.22)))
    out = KINDS[name](count, rng)
    return (0.5 * out / (float(np.abs(out).max(initial=0.0)) + 1e-9)).astype(np.float32)
