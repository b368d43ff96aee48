"""Making clean training speech sound like anybody's: other voices, rooms, microphones, noise.

The training voices are few; what makes the encoder hear strangers is variation of pitch and formants (by
resampling, with the targets' time axis following), of formants alone (by another vocal tract), rooms
(decaying noise), microphones (random spectral tilt and band limits), noise and babble.
"""

from __future__ import annotations

import numpy as np
import soxr
from scipy import fft, signal

from facetalk.arrays import Float32
from facetalk.units import SAMPLE_RATE

_TRACT = (-0.16, 0.16)
"""Log of how much longer or shorter another tract is: from a child's to a big man's."""
_TRACT_HZ = np.array([0.0, 1000.0, 2500.0, 8000.0])
_TRACT_REGION = 0.05
"""Deviation of the log by which each region between these frequencies differs from the others."""
_TRACT_WINDOW = 512
_TRACT_QUEFRENCIES = 32
"""2 ms: shorter than a period of any voice under 500 Hz, so that pitch is no part of the envelope."""
_TRACT_MOST = 2.8
"""Log of the most that a frequency is made louder or softer: between harmonics there is noise to lift."""


def change_speed(samples: Float32, factor: float) -> Float32:
    """Play ``factor`` times faster: duration / factor, pitch and formants * factor."""
    out: Float32 = soxr.resample(samples, SAMPLE_RATE * factor, SAMPLE_RATE, quality="LQ").astype(np.float32)
    return out


def change_tract(samples: Float32, rng: np.random.Generator) -> Float32:
    """Speak by another vocal tract: formants move, pitch and time stay.

    Each short-time spectrum is multiplied by what its envelope (the low quefrencies of its cepstrum) has at
    the warped frequency, over what it has there now. The warp is a length of the tract, as in Jaitly and
    Hinton, "Vocal Tract Length Perturbation (VTLP) improves speech recognition" (2013), and a little for each
    region of formants by itself: mouths and throats do not differ by the same share.

    Args:
        samples: (N,) speech.
        rng: source of all chance.

    Returns:
        (N,) float32.
    """
    common = rng.uniform(*_TRACT)
    slopes = np.exp(common + rng.normal(0.0, _TRACT_REGION, len(_TRACT_HZ) - 1))
    warped = np.concatenate([[0.0], np.cumsum(np.diff(_TRACT_HZ) * slopes)])
    bins = np.fft.rfftfreq(_TRACT_WINDOW, 1 / SAMPLE_RATE)
    # Where a formant of today goes to: the envelope at a frequency is that of the one that comes there.
    at = np.interp(bins, warped, _TRACT_HZ) / bins[1]
    low = np.minimum(at.astype(np.int64), len(bins) - 2)
    share = np.minimum(at - low, 1.0).astype(np.float32)

    hop = _TRACT_WINDOW // 4
    frames = -(-len(samples) // hop) + 3
    padded = np.zeros((frames + 3) * hop, np.float32)
    padded[3 * hop : 3 * hop + len(samples)] = samples
    index = np.arange(frames)[:, None] * hop + np.arange(_TRACT_WINDOW)
    # The root of a Hann window before the spectrum and after it; four of them, a hop apart, sum to 2.
    taper = np.sqrt(signal.get_window("hann", _TRACT_WINDOW)).astype(np.float32)
    spectra = fft.rfft(padded[index] * taper)
    logs = np.log(np.abs(spectra) + np.float32(1e-4))
    cepstra = fft.irfft(logs, _TRACT_WINDOW)
    cepstra[:, _TRACT_QUEFRENCIES : 1 - _TRACT_QUEFRENCIES] = 0.0
    envelope = np.asarray(fft.rfft(cepstra).real, np.float32)
    there = envelope[:, low] + share * (envelope[:, low + 1] - envelope[:, low])
    spectra *= np.exp(np.clip(there - envelope, -_TRACT_MOST, _TRACT_MOST))
    pieces = fft.irfft(spectra, _TRACT_WINDOW).astype(np.float32) * (taper * np.float32(0.5))
    out = np.zeros_like(padded)
    for part in range(4):  # frames of one part do not overlap, and each lies a hop after the one before
        rows = pieces[part::4].reshape(-1)
        out[part * hop : part * hop + len(rows)] += rows
    return out[3 * hop : 3 * hop + len(samples)]


def colour(samples: Float32, rng: np.random.Generator) -> Float32:
    """A random microphone, line and room, by one multiplication in the frequency domain."""
    size = fft.next_fast_len(len(samples) + SAMPLE_RATE // 2, real=True)
    spectrum = fft.rfft(np.asarray(samples, np.float32), size)  # in single precision, in half the time
    hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    if rng.random() < 0.7:
        knots = np.array([0.0, 200.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0])
        gain_db = np.interp(hertz, knots, rng.normal(0.0, 4.0, len(knots)))
        spectrum *= (10 ** (gain_db / 20)).astype(np.float32)
    if rng.random() < 0.35:  # telephone, old recordings, thick cloth over the microphone
        low, high = rng.uniform(0.0, 300.0), rng.uniform(3200.0, 8000.0)
        below, above = (low / np.maximum(hertz, 1.0)) ** 8, (hertz / high) ** 16
        spectrum *= (1 / np.sqrt((1 + below) * (1 + above))).astype(np.float32)
    if rng.random() < 0.3:
        decay = rng.uniform(0.05, 0.5)  # seconds to -60 dB
        length = int(min(decay, 0.45) * SAMPLE_RATE)
        tail = rng.normal(0.0, 1.0, length) * 10 ** (-3.0 * np.arange(length) / (decay * SAMPLE_RATE))
        tail *= 10 ** (rng.uniform(-15.0, 3.0) / 20) / np.sqrt((tail**2).sum())
        room = np.zeros(size, np.float32)
        delay = int(rng.uniform(0.001, 0.012) * SAMPLE_RATE)
        room[0] = 1.0
        room[delay : delay + length] += tail
        spectrum *= fft.rfft(room)
    return np.asarray(fft.irfft(spectrum, size)[: len(samples)], np.float32)


def noise(count: int, rng: np.random.Generator) -> Float32:
    """Noise of a random slope from white to brown, unit variance; sometimes with hum."""
    spectrum = rng.standard_normal(2 * (count // 2 + 1), np.float32).view(np.complex64)
    hertz = np.maximum(np.arange(count // 2 + 1, dtype=np.float32) * np.float32(SAMPLE_RATE / count), 20.0)
    out = fft.irfft(spectrum * hertz ** np.float32(-rng.uniform(0.0, 1.2)), count)
    if rng.random() < 0.2:
        base = rng.choice([50.0, 60.0])
        time = np.arange(count) / SAMPLE_RATE
        out /= out.std() + 1e-9
        out += sum(
            rng.uniform(0, 1) * np.sin(2 * np.pi * base * k * time + rng.uniform(0, 6.28))
            for k in (1, 2, 3, 5)
        )
    return (out / (out.std() + 1e-9)).astype(np.float32)


def spoil(samples: Float32, rng: np.random.Generator, babble: Float32 | None = None) -> Float32:
    """Colour, add noise or other voices, clip, and bring to about unit variance with a random gain.

    Args:
        samples: (N,) clean speech.
        rng: source of all chance.
        babble: (N,) other speech to mix in quietly.
    """
    clean = rng.random() < 0.25  # a good microphone in a quiet room is common too
    out = samples if clean else colour(samples, rng)
    level = float(np.sqrt((out**2).mean()) + 1e-6)
    if babble is not None:
        other = colour(babble, rng)
        snr = rng.uniform(6.0, 25.0)
        out = out + other * (level / (float(np.sqrt((other**2).mean())) + 1e-6)) * 10 ** (-snr / 20)
    if not clean and rng.random() < 0.8:
        out = out + noise(len(out), rng) * level * 10 ** (-rng.uniform(6.0, 45.0) / 20)
    else:
        out = out + rng.normal(0.0, level * 3e-3, len(out)).astype(np.float32)
    if not clean and rng.random() < 0.08:
        limit = np.percentile(np.abs(out), rng.uniform(95.0, 99.5)) + 1e-6
        out = np.clip(out, -limit, limit)
    gain = 10 ** (rng.normal(0.0, 3.0) / 20)
    return (out / (np.sqrt((out**2).mean()) + 1e-6) * gain).astype(np.float32)
