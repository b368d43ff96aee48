"""What happens to recordings here, and sound without speech, made in other ways than training makes it."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from facetalk.training.audio.degrade import mu_law
from facetalk.units import SAMPLE_RATE

Sound = NDArray[np.float32]
Change = Callable[[Sound, Sound, np.random.Generator], Sound]
"""A recording, another speaker of the same length, and chance -> what was recorded instead."""


def _level(samples: Sound) -> float:
    return float(np.sqrt((samples**2).mean())) + 1e-9


def _db(decibels: float) -> float:
    return float(10.0 ** (decibels / 20.0))


def _quiet_with_pop(samples: Sound, _: Sound, rng: np.random.Generator) -> Sound:
    out = samples * _db(-26.0)
    time = np.arange(int(0.03 * SAMPLE_RATE)) / SAMPLE_RATE
    pop = 0.9 * np.exp(-time / 0.006) * np.cos(2 * np.pi * 90.0 * time)
    at = int(rng.integers(len(out) // 4, 3 * len(out) // 4))
    out[at : at + len(pop)] += pop[: len(out) - at]
    return out


def _far_speaker(samples: Sound, other: Sound, _: np.random.Generator) -> Sound:
    return samples + other * (_level(samples) / _level(other) * _db(-24.0))


def _rumble(samples: Sound, _: Sound, __: np.random.Generator) -> Sound:
    time = np.arange(len(samples)) / SAMPLE_RATE
    return samples + np.sin(2 * np.pi * 10.0 * time) * (np.sqrt(2.0) * _level(samples) * _db(6.0))


def _telephone(samples: Sound, _: Sound, __: np.random.Generator) -> Sound:
    narrow = mu_law(soxr.resample(samples, SAMPLE_RATE, 8000))
    return np.asarray(soxr.resample(narrow, 8000, SAMPLE_RATE), np.float32)


def _mp3(samples: Sound, _: Sound, __: np.random.Generator) -> Sound:
    file = io.BytesIO()
    soundfile.write(
        file, samples, SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.95
    )
    file.seek(0)
    return np.asarray(soundfile.read(file, dtype="float32")[0], np.float32)


def _room(samples: Sound, _: Sound, rng: np.random.Generator) -> Sound:
    time = np.arange(int(0.5 * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.normal(size=len(time)) * 10 ** (-3.0 * time / 0.5)
    tail *= _db(-3.0) / np.sqrt((tail**2).sum())
    tail[: int(0.004 * SAMPLE_RATE)] = 0.0
    tail[0] = 1.0
    size = 1 << int(np.ceil(np.log2(len(samples) + len(tail))))
    return np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)[: len(samples)].astype(
        np.float32
    )


def _noise(samples: Sound, _: Sound, rng: np.random.Generator) -> Sound:
    spectrum = np.fft.rfft(rng.normal(size=len(samples)))
    pink = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 20.0), len(samples))
    return samples + pink * (_level(samples) / pink.std() * _db(-15.0))


#: What is done to a recording, by the name of its row.
CHANGES: dict[str, Change] = {
    "quiet_with_pop": _quiet_with_pop, "far_speaker": _far_speaker, "rumble": _rumble,
    "telephone": _telephone, "mp3": _mp3, "room": _room, "noise_15_db": _noise,
}  # fmt: skip


def changed(name: str, samples: Sound, other: Sound, seed: int) -> Sound:
    """A recording after the change of that name, within -1..1."""
    other = np.resize(other, len(samples)).astype(np.float32)
    out = CHANGES[name](samples.copy(), other, np.random.default_rng(seed))
    out = np.pad(out, (0, max(0, len(samples) - len(out))))[: len(samples)]
    return np.clip(out, -1.0, 1.0).astype(np.float32)


def _bells(time: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Frequency modulation (Chowning, 1973): bells at random moments."""
    out = np.zeros_like(time)
    for start in np.cumsum(rng.uniform(0.2, 0.8, int(2 * time[-1]))):
        t = np.maximum(time - start, 0.0)
        pitch = 220.0 * 2.0 ** (rng.integers(0, 25) / 12)
        ring = np.exp(-2.5 * t) * (time >= start)
        out += ring * np.sin(2 * np.pi * pitch * t + 5.0 * ring * np.sin(2 * np.pi * 1.4 * pitch * t))
    return out


def _strings(time: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Plucked strings (Karplus and Strong, 1983)."""
    out = np.zeros_like(time)
    for start in range(0, len(time), SAMPLE_RATE // 4):
        period = int(SAMPLE_RATE / (110.0 * 2.0 ** (rng.choice((0, 3, 5, 7, 10, 12, 15)) / 12)))
        line = rng.uniform(-1.0, 1.0, period)
        played = []
        while period * len(played) < SAMPLE_RATE:
            played.append(line)
            line = 0.498 * (line + np.roll(line, 1))
        note = np.concatenate(played)[: len(time) - start]
        out[start : start + len(note)] += note
    return out


def _chiptune(time: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Square waves, eight notes a second over a bass."""
    steps = rng.choice((0, 3, 7, 12, 10, 5), int(8 * time[-1]) + 2)
    high = 440.0 * 2.0 ** (steps[(8 * time).astype(int)] / 12)
    low = 110.0 * 2.0 ** (steps[(time * 2).astype(int)] / 12)
    wave = sum(
        gain * np.sign(np.sin(2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE))
        for gain, hertz in ((0.5, high), (0.4, low))
    )
    return np.convolve(wave, (0.25, 0.5, 0.25), "same") + 0.002 * rng.normal(size=len(time))


def _rain(time: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Thousands of drops over a hiss."""
    drops = np.zeros_like(time)
    drops[rng.integers(0, len(time), int(300 * time[-1]))] = rng.exponential(1.0, int(300 * time[-1]))
    shape = np.exp(-np.arange(200) / 30.0) * np.sin(np.arange(200) * 0.9)
    return np.convolve(drops, shape, "same") + 0.05 * rng.normal(size=len(time))


def _engine(time: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A motor: a saw of pulses whose pace rises and falls."""
    pace = 60.0 + 40.0 * np.sin(2 * np.pi * 0.15 * time + rng.uniform(0.0, 6.28))
    saw = (np.cumsum(pace) / SAMPLE_RATE) % 1.0 - 0.5
    return saw + 0.2 * rng.normal(size=len(time)) * (saw > 0.2)


def _test_tone(time: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return np.sin(2 * np.pi * rng.uniform(200.0, 2000.0) * time)


def _white(time: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.normal(size=len(time))


#: Sound over which a face should rest. Training has tones and noise of its own; none of the music and none of
#: the machines here is in it.
UNSPOKEN: dict[str, Callable[[NDArray[np.float64], np.random.Generator], NDArray[np.float64]]] = {
    "tone": _test_tone, "white_noise": _white, "bells": _bells, "strings": _strings, "chiptune": _chiptune,
    "rain": _rain, "engine": _engine,
}  # fmt: skip


def unspoken(name: str, seconds: float, seed: int) -> Sound:
    """Sound without speech, its peak at 0.5."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    out = UNSPOKEN[name](time, np.random.default_rng(seed))
    return (0.5 * out / np.abs(out).max()).astype(np.float32)
