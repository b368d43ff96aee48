"""What the tip of the tongue does for speech: phones in, how nearly it touches out.

Places of articulation are those of the International Phonetic Alphabet (Handbook of the International
Phonetic Association, 1999): dental th and dh have the tip between the teeth, alveolar t, d, n and l have it
at the ridge behind the upper ones, s and z leave a groove below it; r and the postalveolar sh raise it, and
touch nothing. How much these count for, and how quickly a tip moves, was chosen here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facetalk.arrays import Float32, Float64
from facetalk.data.phones import Phone, lookup

__all__ = ["CONTACTS", "contacts"]

CONTACTS = ("ridge", "teeth")
"""What the tip touches: the ridge behind the upper teeth, the edges of the teeth."""

_OF_VISEME: dict[str, tuple[float, float]] = {
    "TDN": (1.0, 0.0), "L": (1.0, 0.0), "TH": (0.0, 1.0), "S": (0.7, 0.0), "SJ": (0.5, 0.0),
    "SH": (0.45, 0.0), "R": (0.35, 0.0),
}  # fmt: skip
_RAMP_S = 0.07
"""From apart to touching, or back."""
_INNER = 0.15
"""Share of a phone at its ends in which the tip is still on its way, or already on it."""


def contacts(phones: Sequence[Phone], duration: float, fps: float, *, alphabet: str) -> Float32:
    """How nearly the tip touches, frame by frame.

    Args:
        phones: ``(symbol, start_s, end_s)`` in order.
        duration: length of the clip in seconds.
        fps: frames a second; frame i is taken at ``(i + 0.5) / fps`` s.
        alphabet: ``"arpabet"`` or ``"ipa"``.

    Returns:
        (T, 2) float32 in [0, 1], T = max(1, round(duration * fps)), in the order of :data:`CONTACTS`. Every
        contact is whole in at least one frame.
    """
    times: Float64 = (np.arange(max(1, round(duration * fps)), dtype=np.float64) + 0.5) / fps
    out = np.zeros((len(times), len(CONTACTS)))
    for symbol, start, end in phones:
        for viseme, first, last, _ in lookup(symbol, alphabet)[1]:
            touch = _OF_VISEME.get(viseme)
            if touch is None:
                continue
            length = (last - first) * (end - start)
            low, high = start + first * (end - start), start + last * (end - start)
            low, high = low + _INNER * length, high - _INNER * length
            a, b = np.searchsorted(times, (low - _RAMP_S, high + _RAMP_S))
            away = np.maximum(low - times[a:b], times[a:b] - high).clip(0.0, _RAMP_S) / _RAMP_S
            share = (1.0 - away) ** 2 * (1.0 + 2.0 * away)
            if not (away == 0.0).any():
                middle = min(int(np.argmin(np.abs(times - (low + high) / 2))), len(times) - 1)
                a, share = (middle, np.ones(1)) if not len(share) else (a, share)
                share[min(max(middle - a, 0), len(share) - 1)] = 1.0
            part = out[a : a + len(share)]
            part[:] = np.maximum(part, share[:, None] * touch)
    return out.astype(np.float32)
