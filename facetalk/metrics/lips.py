"""What the lips do while a phone is spoken, in millimetres.

Landmarks are the 68 of Multi-PIE; 60 to 67 are the inner lips. The gap is the mean vertical distance of the
pairs 61-67, 62-66 and 63-65. A closure counts when the smallest gap within the phone, give or take 40 ms, is
under 1.5 mm: lips move a little ahead of the sound, and alignments are 10 ms off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from facetalk.arrays import AnyFloat, Bool, Float64
from facetalk.data import visemes
from facetalk.data.phones import Phone, is_bilabial, is_labiodental, is_silence, lookup
from facetalk.metrics.landmarks import as_landmarks, pearson
from facetalk.multi_pie import LOWER_LIP, MOUTH, UPPER_LIP

CLOSED_MM = 1.5
"""A gap below this is a closure."""
MARGIN_S = 0.04
"""How far before and after a phone its gesture may lie."""
ELSEWHERE_S = 0.1
"""Further than this from every p, b, m and silence, closed lips are a mistake."""
TOUCH_MM = 2.5
"""A lower lip this near to where a reading of the phones has it at the teeth touches them. On the built-in
head closed lips as of a p are 3 to 5 mm from there, a face at rest 5.6."""
OPEN_VISEMES = frozenset({"AA", "AE", "AO"})
"""Mouth shapes of the open vowels (as in father, cat, caught, and the first halves of buy and cow)."""
MIN_SILENCE_S, SILENCE_EDGE_S = 0.4, 0.15
"""Silences shorter than this are between words; the edge of a longer one belongs to the sound beside it."""


def lip_gap(landmarks: AnyFloat) -> Float64:
    """Inner-lip gap of every frame.

    Args:
        landmarks: (T, 68, 3) metres, +y up.

    Returns:
        (T,) mm, at least 0: a distance, so lips that pass through each other are apart again.
    """
    points = as_landmarks("landmarks", landmarks)
    return np.asarray(np.abs(points[:, UPPER_LIP, 1] - points[:, LOWER_LIP, 1]).mean(1) * 1000.0)


def mouth_deviation(landmarks: AnyFloat, rest: AnyFloat) -> Float64:
    """Mean distance of the mouth landmarks from a resting face: (T, 68, 3) and (68, 3) metres -> (T,) mm."""
    difference = np.asarray(landmarks, np.float64)[:, MOUTH] - np.asarray(rest, np.float64)[list(MOUTH)]
    return np.linalg.norm(difference, axis=-1).mean(1) * 1000.0


def frames_of(start: float, end: float, fps: float, count: int, margin: float = MARGIN_S) -> slice:
    """Frames whose centres lie in [start - margin, end + margin], at least the nearest one.

    Args:
        start: seconds.
        end: seconds.
        fps: frames per second; frame i is centred at (i + 0.5) / fps.
        count: frames of the clip.
        margin: seconds.
    """
    first = int(np.ceil((start - margin) * fps - 0.5 - 1e-9))
    last = int(np.floor((end + margin) * fps - 0.5 + 1e-9))
    if last < first:
        first = last = round((start + end) / 2 * fps - 0.5)
    first, last = (min(max(n, 0), count - 1) for n in (first, last))
    return slice(first, last + 1)


def kind_of(symbol: str, alphabet: str) -> str | None:
    """What is measured of a phone: "bilabial", "labiodental", "open", "silence", or None."""
    if is_silence(symbol, alphabet):
        return "silence"
    if is_bilabial(symbol, alphabet):
        return "bilabial"
    if is_labiodental(symbol, alphabet):
        return "labiodental"
    opened = sum(
        end - start for viseme, start, end, _ in lookup(symbol, alphabet)[1] if viseme in OPEN_VISEMES
    )
    return "open" if opened >= 0.4 else None


COUNTS = {
    "bilabials": "bilabial",
    "labiodentals": "labiodental",
    "open_vowels": "opened",
    "silent_frames": "silent_gap",
}
"""Names of the numbers of cases in a summary, and what they count."""
MEDIANS = {
    "bilabial_gap_mm": "bilabial",
    "labiodental_gap_mm": "labiodental",
    "touch_mm": "touch",
    "open_gap_mm": "opened",
    "silent_gap_mm": "silent_gap",
    "silent_deviation_mm": "silent_deviation",
}
"""Names of the medians in a summary, and of what they are medians."""


@dataclasses.dataclass
class LipFigures:
    """Figures of one or many utterances, as the raw numbers behind them so that they can be pooled.

    Attributes:
        bilabial: smallest gap of each p, b, m, in mm.
        labiodental: smallest gap of each f, v.
        touch: smallest distance of the lower lip from its place at the upper teeth in each f, v; empty
            without a reading that knows it.
        opened: largest gap of each open vowel.
        elsewhere: 1 for each closed frame of speech that is not near a p, b, m or a silence, 0 for an open
            one.
        silent_gap: gap of each frame of silence.
        silent_deviation: mean distance of the mouth from rest in each of these frames, mm.
        agreement: per clip, the correlation over time of the gap with that of a rule-based reading of the
            phones.
    """

    bilabial: list[float] = dataclasses.field(default_factory=list)
    labiodental: list[float] = dataclasses.field(default_factory=list)
    touch: list[float] = dataclasses.field(default_factory=list)
    opened: list[float] = dataclasses.field(default_factory=list)
    elsewhere: list[float] = dataclasses.field(default_factory=list)
    silent_gap: list[float] = dataclasses.field(default_factory=list)
    silent_deviation: list[float] = dataclasses.field(default_factory=list)
    agreement: list[float] = dataclasses.field(default_factory=list)

    def add(self, other: LipFigures) -> None:
        """Pool the numbers of another one into this one."""
        for field in dataclasses.fields(self):
            getattr(self, field.name).extend(getattr(other, field.name))

    def shares(self) -> dict[str, list[float]]:
        """What the shares are means of, 1 or 0 for each case: ``closed`` of p, b, m; ``touching`` of f, v;
        ``shut_elsewhere`` of the frames where lips should be apart."""
        return {
            "closed": [float(gap < CLOSED_MM) for gap in self.bilabial],
            "touching": [float(distance < TOUCH_MM) for distance in self.touch],
            "shut_elsewhere": self.elsewhere,
        }

    def summary(self) -> dict[str, float | int | None]:
        """Counts, rates and medians; None where nothing was counted."""
        shares = {**self.shares(), "agreement": self.agreement}
        return {
            **{name: len(getattr(self, field)) for name, field in COUNTS.items()},
            **{name: _median(getattr(self, field)) for name, field in MEDIANS.items()},
            **{name: float(np.mean(cases)) if cases else None for name, cases in shares.items()},
        }


def measure(
    landmarks: AnyFloat,
    rest: AnyFloat,
    phones: Sequence[Phone],
    *,
    fps: float,
    alphabet: str = "arpabet",
    reading: AnyFloat | None = None,
) -> LipFigures:
    """Compare the lips of a motion with the phones that are heard.

    Args:
        landmarks: (T, 68, 3) metres.
        rest: (68, 3) landmarks of the resting face, metres.
        phones: (symbol, start_s, end_s); what they leave uncovered is silence, and those that lie wholly
            before or after the motion are not measured.
        fps: frame rate of the landmarks.
        alphabet: "arpabet" or "ipa".
        reading: (T, 68, 3) metres, a face that says the phones as the table has it; where its lower lip is in
            the middle of an f, v is at the teeth. None = that touch is not measured. (The gap tells little of
            it: lips that close as in a p have none.)

    Returns:
        The figures of this clip. A symbol that nobody knows counts as sound of no kind.

    Raises:
        InputError: the alphabet is unknown.
    """
    gap, deviation = lip_gap(landmarks), mouth_deviation(landmarks, rest)
    reference = visemes.lip_gap(visemes.curves(phones, len(gap) / fps, fps, alphabet=alphabet))
    out = LipFigures(agreement=[pearson(gap, reference[: len(gap)])])
    # What is beyond the motion may still pull at its ends, but the nearest frame is not its own.
    phones = [phone for phone in phones if phone[1] < len(gap) / fps and phone[2] > 0.0]
    for start, end in silences(phones, len(gap) / fps, alphabet):
        inner = frames_of(start + SILENCE_EDGE_S, end - SILENCE_EDGE_S, fps, len(gap), 0.0)
        out.silent_gap.extend(gap[inner].tolist())
        out.silent_deviation.extend(deviation[inner].tolist())
    lower = _lower_lip(landmarks)
    teeth = None if reading is None else _lower_lip(reading)
    out.elsewhere = (gap[_elsewhere(phones, len(gap), fps, alphabet)] < CLOSED_MM).astype(float).tolist()
    for symbol, start, end in phones:
        kind = kind_of(symbol, alphabet)
        seen = gap[frames_of(start, end, fps, len(gap))]
        if kind == "bilabial":
            out.bilabial.append(float(seen.min()))
        elif kind == "labiodental":
            out.labiodental.append(float(seen.min()))
            if teeth is not None:
                place = teeth[frames_of((start + end) / 2, (start + end) / 2, fps, len(teeth), 0.0)]
                near = lower[frames_of(start, end, fps, len(gap))]
                out.touch.append(float(np.linalg.norm(near - place[0], axis=-1).min()))
        elif kind == "open":
            # Without the margin: the mouth has to be open while the vowel sounds.
            out.opened.append(float(gap[frames_of(start, end, fps, len(gap), 0.0)].max()))
    return out


def silences(phones: Sequence[Phone], duration: float, alphabet: str) -> list[tuple[float, float]]:
    """Stretches of at least ``MIN_SILENCE_S`` that no sounding phone covers.

    Args:
        phones: (symbol, start_s, end_s).
        duration: length of the clip in seconds.
        alphabet: of the phones.
    """
    heard = sorted((a, b) for symbol, a, b in phones if not is_silence(symbol, alphabet))
    out, clock = [], 0.0
    for start, end in [*heard, (duration, duration)]:
        if start - clock >= MIN_SILENCE_S:
            out.append((clock, start))
        clock = max(clock, end)
    return out


def _lower_lip(landmarks: AnyFloat) -> Float64:
    """Middle of the inner lower lip: (T, 68, 3) metres -> (T, 3) mm."""
    return np.asarray(as_landmarks("landmarks", landmarks)[:, LOWER_LIP].mean(1) * 1000.0)


def _elsewhere(phones: Sequence[Phone], count: int, fps: float, alphabet: str) -> Bool:
    """(T,) frames of speech that are not near a p, b, m or a silence, whether or not it has a symbol."""
    spoken, shut = np.zeros(count, bool), np.zeros(count, bool)
    in_order = sorted(phones, key=lambda phone: phone[1])
    for symbol, start, end in visemes.fill_silence(in_order, count / fps, alphabet):
        kind = kind_of(symbol, alphabet)
        if kind in ("bilabial", "silence"):
            shut[frames_of(start, end, fps, count, ELSEWHERE_S)] = True
        else:
            spoken[frames_of(start, end, fps, count, 0.0)] = True
    return np.asarray(spoken & ~shut)


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None
