"""What is heard of a voice: pitch, formants and timbre of its voiced sound. NumPy only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from facetalk.arrays import Bool, Float32, Int64
from facetalk.audio.formants import FORMANTS, SPEED_OF_SOUND, formants, spacing
from facetalk.audio.mel_bands import FFT, MEL_BANDS, mel_filters
from facetalk.audio.mel_bands import WINDOW as SPECTRUM
from facetalk.audio.pitch import HOP, WINDOW, pitch
from facetalk.errors import InputError
from facetalk.units import SAMPLE_RATE

__all__ = ["CEPSTRA", "FEATURES", "LEAST_S", "Voice", "hear"]

LEAST_S = 1.0
"""Seconds of voiced sound, of a few words, without which nothing is said of a voice."""
_ENOUGH_S = 30.0
"""Seconds of voiced sound after which no more is heard."""
_LONGEST_S = 600.0
"""Seconds of sound after which it is not looked for any longer."""
_APERIODIC = 0.2
"""Share of a frame's power that may not repeat where it is voiced: noise is 7 dB below the voice."""
_QUIET_DB = 35.0
"""Frames as far below the loudest are not the voice that is meant."""
_STEADY_ST = 0.2
"""Semitones that the middle half of a pitch at least spans in speech; a tone of a machine does not."""
_FORMANT_FRAMES = 1000
_RANGE = 1e-7
CEPSTRA = 20
FEATURES = 2 * CEPSTRA + 2 + 1 + FORMANTS


@dataclass(frozen=True)
class Voice:
    """Measures of a voice.

    Attributes:
        f0: median fundamental frequency, Hz.
        f0_spread: between its quartiles, semitones.
        formant_spacing: Hz; NaN where no formants were found.
        seconds: of voiced sound that was heard.
        features: (FEATURES,) float32: means and standard deviations of 20 mel cepstra over voiced frames, f0
            and its spread, logarithms of the formants' spacing and of the medians of four formants. What is
            missing is NaN.
    """

    f0: float
    f0_spread: float
    formant_spacing: float
    seconds: float
    features: Float32

    @property
    def tract_mm(self) -> float:
        """Length of the vocal tract that the formants' spacing stands for, millimetres."""
        return 500.0 * SPEED_OF_SOUND / self.formant_spacing


def hear(sound: Iterable[Float32], name: str = "the sound") -> Voice:
    """Listen to a recording until half a minute of voiced sound was heard.

    Args:
        sound: blocks of 16 kHz mono samples, as :class:`facetalk.audio.AudioReader` gives them.
        name: how it is called in messages.

    Raises:
        InputError: too little of it is voiced: it is short, silent, whispered, or drowned in noise; or it is
            a steady tone.
    """
    parts: list[Float32] = []
    heard = voiced = 0.0
    for block in sound:
        parts.append(np.asarray(block, np.float32))
        heard += len(block) / SAMPLE_RATE
        voiced += float(_good(*pitch(parts[-1]), parts[-1]).sum()) * HOP / SAMPLE_RATE
        if voiced >= _ENOUGH_S or heard >= _LONGEST_S:
            break
    samples = np.concatenate([*parts, np.zeros(0, np.float32)])
    hertz, aperiodicity = pitch(samples)
    good = _good(hertz, aperiodicity, samples)
    seconds = float(good.sum()) * HOP / SAMPLE_RATE
    if seconds < LEAST_S:
        raise InputError(
            f"{name}: a face for the voice needs {LEAST_S:g} s of voiced speech, and {seconds:.1f} s of "
            f"{heard:.1f} s is (the rest is silence, whisper or noise); give a longer or cleaner recording, "
            f"or another identity"
        )
    tones = 12.0 * np.log2(hertz[good])
    low, middle, high = np.percentile(tones, (25, 50, 75))
    if high - low < _STEADY_ST:
        raise InputError(
            f"{name}: a face for the voice needs speech, and this is a steady tone of "
            f"{2.0 ** (middle / 12.0):.0f} Hz; give a recording of a voice, or another identity"
        )
    at: Int64 = np.flatnonzero(good)
    few = at[:: max(1, len(at) // _FORMANT_FRAMES)]
    found = formants(samples, few * HOP + WINDOW // 2)
    apart = spacing(found)
    cepstra = _cepstra(samples, at * HOP + (WINDOW - SPECTRUM) // 2)
    medians = np.median(found, axis=0) if len(found) else np.full(FORMANTS, np.nan)
    features = np.concatenate(
        [cepstra.mean(axis=0), cepstra.std(axis=0), [middle, high - low], [np.log(apart)], np.log(medians)]
    )
    return Voice(
        f0=float(2.0 ** (middle / 12.0)),
        f0_spread=float(high - low),
        formant_spacing=apart,
        seconds=seconds,
        features=features.astype(np.float32),
    )


def _good(hertz: Float32, aperiodicity: Float32, samples: Float32) -> Bool:
    """(F,) which frames are voiced, and about as loud as the voice is."""
    if not len(hertz):
        return np.zeros(0, bool)
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    power = np.einsum("fn,fn->f", frames, frames) / WINDOW
    return (aperiodicity < _APERIODIC) & (power > max(power.max() * 10.0 ** (-_QUIET_DB / 10.0), 1e-10))


def _cepstra(samples: Float32, starts: Int64) -> Float32:
    """(F, CEPSTRA) mel cepstra, dB, of frames from some samples on, without the first, which is loudness."""
    frames = samples[starts[:, None] + np.arange(SPECTRUM)] * np.hanning(SPECTRUM)
    spectrum = np.fft.rfft(frames, FFT, axis=1)
    power = (spectrum.real**2 + spectrum.imag**2) @ mel_filters().T
    level = 10.0 * np.log10(np.maximum(power, power.max() * _RANGE + 1e-20))
    band = (np.arange(MEL_BANDS) + 0.5) * np.pi / MEL_BANDS
    waves = np.cos(np.arange(1, CEPSTRA + 1)[:, None] * band) * np.sqrt(2.0 / MEL_BANDS)
    return np.asarray(level @ waves.T, np.float32)
