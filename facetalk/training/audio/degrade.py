"""What happens to speech between a mouth and a file: level, rumble, pops, other people, rooms, codecs.

:func:`facetalk.training.audio.augment.spoil` makes voices and microphones differ; here a clean recording goes
wrong in the ways that recordings do, on its own scale, so that what brings a recording to level
(:mod:`facetalk.audio.level`) takes part in what the encoder learns from.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import soundfile
import soxr

from facetalk.arrays import Float32
from facetalk.audio.level import HighPass, Level
from facetalk.audio.live import RunningLevel
from facetalk.audio.voicing import HOP
from facetalk.training.audio.augment import colour, noise
from facetalk.units import SAMPLE_RATE

_TELEPHONE_HZ = 8000
_TELEPHONE = 0.6
"""Share of telephones among codecs; the others take six times as long as all else that is done to a crop."""
_MU = 255.0  # of G.711's mu-law (ITU-T G.711)
_CODECS = (("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS"))
"""Format and subtype of libsndfile; none of them moves the sound in time."""

Draw = Callable[[], Float32]
"""Gives other sound of the same length: another voice, or music."""


def degrade(samples: Float32, rng: np.random.Generator, voice: Draw, music: Draw) -> Float32:
    """A recording as somebody else would have made it.

    Args:
        samples: (N,) clean speech, its peak at most 1.
        rng: source of all chance.
        voice: another speaker.
        music: music or noise that is no speech.

    Returns:
        (N,) float32 within -1..1.
    """
    out = samples.astype(np.float32)
    power = float(np.sqrt((out**2).mean())) + 1e-6
    if rng.random() < 0.2:  # a good recording is common too, but for its level
        return _limited(out * _gain(rng, -20.0, 3.0))
    if rng.random() < 0.65:
        out = colour(out, rng)
        out *= power / (float(np.sqrt((out**2).mean())) + 1e-6)
    for chance, other, low, high in (
        (0.15, voice, 10.0, 25.0),  # people behind
        (0.15, voice, 20.0, 32.0),  # one far speaker
        (0.10, music, 8.0, 25.0),
    ):
        if rng.random() < chance:
            out = _with(out, power, other(), rng.uniform(low, high))
    if rng.random() < 0.6:
        out = _with(out, power, noise(len(out), rng), rng.uniform(8.0, 45.0))
    if rng.random() < 0.2:
        out = codec(out, rng)
    out = out * _gain(rng, -30.0, 3.0)
    power = float(np.sqrt((out**2).mean())) + 1e-6
    if rng.random() < 0.12:
        out = out + rumble(len(out), rng) * power * _gain(rng, -6.0, 16.0)
    if rng.random() < 0.1:
        out = out + np.float32(rng.uniform(-0.1, 0.1))
    if rng.random() < 0.12:
        out = out + pops(len(out), rng)
    if rng.random() < 0.05:
        limit = np.percentile(np.abs(out), rng.uniform(95.0, 99.5)) + 1e-6
        out = np.clip(out, -limit, limit)
    return _limited(out)


def codec(samples: Float32, rng: np.random.Generator) -> Float32:
    """Through a telephone (8 kHz, mostly G.711) or a lossy file format, and back."""
    count = len(samples)
    if rng.random() < _TELEPHONE:
        narrow = soxr.resample(samples, SAMPLE_RATE, _TELEPHONE_HZ)
        if rng.random() < 0.7:
            narrow = mu_law(narrow)
        out = soxr.resample(narrow, _TELEPHONE_HZ, SAMPLE_RATE)
    else:
        form, subtype = _CODECS[int(rng.choice(len(_CODECS), p=(0.45, 0.45, 0.1)))]
        file = io.BytesIO()
        quality = float(rng.uniform(0.6, 0.95))
        soundfile.write(
            file, _limited(samples), SAMPLE_RATE, format=form, subtype=subtype, compression_level=quality
        )
        file.seek(0)
        out = soundfile.read(file, dtype="float32")[0]
    return np.pad(out, (0, max(0, count - len(out))))[:count].astype(np.float32)


def mu_law(samples: Float32) -> Float32:
    """Eight bits a sample, as the continuous form of G.711's mu-law has them."""
    loud = np.clip(samples, -1.0, 1.0)
    pressed = np.sign(loud) * np.log1p(_MU * np.abs(loud)) / np.log1p(_MU)
    steps = np.round(pressed * 127.0) / 127.0
    return np.asarray(np.sign(steps) * np.expm1(np.abs(steps) * np.log1p(_MU)) / _MU, np.float32)


def rumble(count: int, rng: np.random.Generator) -> Float32:
    """Engines, wind, footsteps: what lies below 45 Hz, unit variance."""
    time = np.arange(count) / SAMPLE_RATE
    if rng.random() < 0.5:
        out = np.sin(2 * np.pi * rng.uniform(5.0, 25.0) * time + rng.uniform(0, 6.28))
    else:
        out = np.asarray(noise(count, rng), np.float64)
        spectrum = np.fft.rfft(out)
        spectrum /= 1.0 + (np.fft.rfftfreq(count, 1 / SAMPLE_RATE) / rng.uniform(15.0, 45.0)) ** 4
        out = np.fft.irfft(spectrum, count)
    return (out / (out.std() + 1e-9)).astype(np.float32)


def pops(count: int, rng: np.random.Generator) -> Float32:
    """Knocks on a microphone and clicks of switches, some as loud as the file allows."""
    out = np.zeros(count, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        decay = 10 ** rng.uniform(-3.3, -1.4)
        length = int(5 * decay * SAMPLE_RATE) + 1
        time = np.arange(length) / SAMPLE_RATE
        shape = np.exp(-time / decay) * np.sin(2 * np.pi * rng.uniform(20.0, 400.0) * time + 1.0)
        start = int(rng.integers(max(1, count - length)))
        out[start : start + length] += (shape * rng.uniform(0.1, 1.0))[: count - start].astype(np.float32)
    return out


def heard(samples: Float32, floor: float) -> Float32:
    """Sound as :class:`facetalk.audio.AudioEncoder` hands it to the network, taken for a whole recording."""
    level = Level()
    level.update(samples, 0)
    base = HighPass()(samples) if level.rumbles else samples - level.mean
    return (base * level.scale(0, len(samples), floor)).astype(np.float32)


def heard_live(samples: Float32, floor: float) -> Float32:
    """The same of sound that comes bit by bit (:class:`facetalk.audio.live.RunningLevel`)."""
    level = RunningLevel(floor)
    whole = np.pad(samples, (0, -len(samples) % HOP)).reshape(-1, HOP)
    return np.concatenate([level.normalise(part) for part in whole])[: len(samples)]


def _with(samples: Float32, power: float, other: Float32, below_db: float) -> Float32:
    loud = float(np.sqrt((other**2).mean())) + 1e-6
    return (samples + other * (power / loud * 10 ** (-below_db / 20))).astype(np.float32)


def _gain(rng: np.random.Generator, low: float, high: float) -> np.float32:
    return np.float32(10 ** (rng.uniform(low, high) / 20))


def _limited(samples: Float32) -> Float32:
    return np.clip(samples, -1.0, 1.0).astype(np.float32)
