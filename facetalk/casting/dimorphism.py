"""What is published of voices and faces of men and women, and the direction among heads that it makes.

Only means and spreads of groups are used. They say what is likelier, never what is so; between two voices of
the same pitch and formants they say nothing.
"""

from __future__ import annotations

import math

import numpy as np

from facetalk.arrays import Float32, Float64
from facetalk.casting.voice import Voice

__all__ = ["DISTANCES", "direction", "lean"]

F0_HZ = (120.0, 210.0)
"""Typical of men and women: Traunmüller and Eriksson, "The frequency range of the voice fundamental in the
speech of male and female adults", Stockholm 1995."""
F0_SPREAD_ST = 2.5
"""Standard deviation between speakers, semitones. Of 100 young men of one accent 60 % lie within 20 Hz about
106 Hz (Hudson et al., "F0 statistics for 100 young male speakers of Standard Southern British English", ICPhS
2007), which is 1.9; it is taken wider for other ages, languages and styles."""
TRACT_MM = (173.0, 148.0)
"""Of men's and women's voices by :mod:`facetalk.audio.formants`: ours, over the synthetic voices that
``python -m experiments.casting train`` learned from, by their makers' names for them. Anatomy has the same
order (Fitch and Giedd, "Morphology and development of the human vocal tract", JASA 106, 1999)."""
TRACT_SPREAD = 0.055
"""Standard deviation of its logarithm within each of the two."""

DISTANCES: dict[str, tuple[int, int, float]] = {
    "maximum facial width": (1, 15, 1.34),
    "mandibular width": (4, 12, 1.21),
    "morphological facial height": (27, 8, 1.58),
    "upper facial height": (27, 62, 0.81),
    "lower facial height": (33, 8, 1.17),
    "intercanthal width": (39, 42, 0.61),
    "outercanthal width": (36, 45, 0.94),
}
"""Distances between two of the 68 landmarks, and by how many standard deviations (Cohen's d) they are larger
in men: Kesterke et al., "Using the 3D Facial Norms Database to investigate craniofacial sexual dimorphism
in healthy children, adolescents, and adults", Biology of Sex Differences 7:23, 2016, table 3, adults. Those
of its distances that the landmarks mark; widths of face and jaw by the outline's points nearest to zygion
and gonion."""
_MEASURED = 0.1
"""Share of a distance's variance put down to how it is measured, which keeps the fit from small differences
of distances that nearly go together."""


def lean(voice: Voice) -> float:
    """How far the statistics of a voice lean: from -1, as women's voices are, to 1, as men's.

    The posterior expectation of two Gaussians with even odds, by pitch and, where they were found, formants.
    """
    high, low = (12.0 * math.log2(hz) for hz in F0_HZ[::-1])
    odds = _log_odds(12.0 * math.log2(voice.f0), low, high, F0_SPREAD_ST)
    if math.isfinite(voice.formant_spacing):
        long, short = (math.log(mm) for mm in TRACT_MM)
        odds += _log_odds(math.log(voice.tract_mm), long, short, TRACT_SPREAD)
    return math.tanh(0.5 * odds)


def direction(landmarks: Float32, basis: Float32) -> Float64:
    """The smallest step (I,) of head coefficients by which the published distances differ as published.

    With coefficients standard normal over everybody, those of men have this mean and those of women its
    opposite: of all such vectors the shortest, so nothing moves that the distances do not ask for.

    Args:
        landmarks: (68, 3) of the mean head.
        basis: (I, 68, 3) how each coefficient moves them.
    """
    rows, halves = [], []
    for first, second, effect in DISTANCES.values():
        along = (landmarks[first] - landmarks[second]).astype(np.float64)
        row = (basis[:, first] - basis[:, second]) @ (along / np.linalg.norm(along))
        rows.append(row / np.linalg.norm(row))
        # Within a sex the spread is smaller than over everybody, of whom the coefficients are.
        halves.append(0.5 * effect / math.sqrt(1.0 + 0.25 * effect**2))
    measures = np.array(rows)
    gram = measures @ measures.T + _MEASURED * np.eye(len(rows))
    return np.asarray(measures.T @ np.linalg.solve(gram, np.array(halves)))


def _log_odds(value: float, man: float, woman: float, spread: float) -> float:
    return ((value - woman) ** 2 - (value - man) ** 2) / (2.0 * spread**2)
