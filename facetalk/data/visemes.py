"""What a face does for speech: phones in, blendshape weights of the 53 ICT-FaceKit expressions out.

Reads ``visemes.json`` (targets, dominance, timing; CC0) with the dominance model of Cohen & Massaro (1993):
every phone pulls each group of blendshapes towards its target with a strength that decays before and after
it,

    w(t) = sum_i D_i(t) k_i target_i / sum_i D_i(t),    D_i(t) = alpha_i exp(-dist(t) / T_i),

followed by a short smoothing and by what must hold whatever the blend says: p, b, m close the lips
(mouthClose solved from a linear model of the inner-lip gap), f, v bring the lower lip to the upper teeth.
With a random generator the rest of the face comes alive as well (:mod:`facetalk.data.upper_face`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from facetalk.arrays import Float32, Float64, Int64
from facetalk.data import phones as _phones
from facetalk.data.expressions import EXPRESSION_NAMES, INDEX
from facetalk.data.phones import Phone
from facetalk.data.upper_face import add_life
from facetalk.errors import InputError

#: Gap that a sealed mouth is solved for, mm: a little below 0, so that lips touch, not graze.
SEAL_MM = -0.3
#: mouthRollLower of a lower lip at the upper teeth, at least.
TOUCH_ROLL = 0.34
#: A lower lip that a curve rolls in this far is at the teeth; nothing else that is said comes near.
AT_TEETH_ROLL = TOUCH_ROLL - 0.01


@dataclasses.dataclass(frozen=True)
class Style:
    """How a speaker moves: factors on the jaw and on the lips, JALI's two axes (Edwards et al. 2016).

    At 1 they move as in the table.
    """

    jaw: float = 1.0
    lips: float = 1.0

    @staticmethod
    def draw(rng: np.random.Generator) -> Style:
        """A random speaker, from mumbling to over-articulated."""
        ranges = _phones.table()["coarticulation"]["style"]
        return Style(float(rng.uniform(*ranges["jaw"])), float(rng.uniform(*ranges["lips"])))


@dataclasses.dataclass(frozen=True)
class _Table:
    """visemes.json as arrays: G groups, E expressions."""

    group: Int64  # (E,) group of each expression, -1 = not moved by speech
    groups: tuple[str, ...]
    targets: dict[str, Float64]  # viseme -> (E,)
    classes: dict[str, Float64]  # class -> (G, 3) alpha, T_pre, T_post
    viseme_class: dict[str, str]
    gap_bias: float
    gap_weights: Float64  # (E,) mm per unit


@functools.cache
def _table() -> _Table:
    data = _phones.table()
    groups = tuple(data["groups"])
    group = np.full(len(EXPRESSION_NAMES), -1)
    for position, name in enumerate(groups):
        for shape in data["groups"][name]:
            group[INDEX[shape]] = position

    def vector(weights: dict[str, float]) -> Float64:
        out = np.zeros(len(EXPRESSION_NAMES))
        for name, value in weights.items():
            out[INDEX[name]] = value
        return out

    return _Table(
        group=group,
        groups=groups,
        targets={name: vector(v["targets"]) for name, v in data["visemes"].items()},
        classes={
            name: np.array([[rows[g]["alpha"], rows[g]["T_pre"], rows[g]["T_post"]] for g in groups])
            for name, rows in data["classes"].items()
        },
        viseme_class={name: v["class"] for name, v in data["visemes"].items()},
        gap_bias=float(data["lip_gap_mm"]["bias"]),
        gap_weights=vector(data["lip_gap_mm"]["per_unit"]),
    )


def lip_gap(weights: npt.NDArray[Any]) -> Float64:
    """Inner-lip gap (...) in mm of weights (..., 53) on the ICT generic head; 0 or less is closed.

    A linear model, within 0.1 mm of the mesh.
    """
    table = _table()
    gap: Float64 = table.gap_bias + np.asarray(weights, np.float64) @ table.gap_weights
    return gap


def gap_slopes() -> tuple[float, dict[str, float]]:
    """The model of :func:`lip_gap`, mm: the gap of a face at rest, and what weight 1 of a name adds."""
    table = _table()
    pairs = zip(EXPRESSION_NAMES, table.gap_weights.tolist(), strict=True)
    return table.gap_bias, {name: slope for name, slope in pairs if slope}


def curves(
    phones: Sequence[Phone],
    duration: float,
    fps: float,
    *,
    alphabet: str,
    rng: np.random.Generator | None = None,
    style: Style | None = None,
    life: bool = True,
) -> Float32:
    """Blendshape weights for a phone sequence.

    Args:
        phones: ``(symbol, start_s, end_s)`` in order; what they leave uncovered is silence.
        duration: length of the clip in seconds.
        fps: frames a second; frame i is taken at ``(i + 0.5) / fps`` s.
        alphabet: ``"arpabet"`` or ``"ipa"``.
        rng: None for the mouth alone; a generator draws a style (unless one is given) and, with ``life``,
            blinks, brows, gaze and idle motion.
        style: factors on jaw and lips.
        life: whether a given ``rng`` also moves the upper face.

    Returns:
        (T, 53) float32 in [0, 1], T = max(1, round(duration * fps)), in the order of
        :data:`facetalk.data.expressions.EXPRESSION_NAMES`.

    Raises:
        InputError: a duration or frame rate that is not positive, an unknown alphabet, or phone times out
            of order.
    """
    _phones.check_alphabet(alphabet)
    if not (np.isfinite(duration) and duration > 0 and np.isfinite(fps) and fps > 0):
        raise InputError(f"visemes need a positive duration and frame rate, got {duration} s and {fps} fps")
    for symbol, start, end in phones:
        if not end >= start:
            raise InputError(f"phone {symbol!r} ends at {end} s before it starts at {start} s")
    if style is None:
        style = Style() if rng is None else Style.draw(rng)
    times: Float64 = (np.arange(max(1, round(duration * fps)), dtype=np.float64) + 0.5) / fps
    full = fill_silence(phones, duration, alphabet)
    weights = _blend(full, duration, times, alphabet, style)
    _smooth(weights, fps)
    _constrain(weights, full, times, alphabet)
    if rng is not None and life:
        add_life(weights, full, times, alphabet, rng)
        _constrain(weights, full, times, alphabet)
    return np.clip(weights, 0.0, 1.0).astype(np.float32)


def fill_silence(phones: Sequence[Phone], duration: float, alphabet: str) -> list[Phone]:
    """Phones with the gaps before, between and after them filled with silence.

    Args:
        phones: ``(symbol, start_s, end_s)`` in order.
        duration: length of the clip in seconds.
        alphabet: of the phones.
    """
    silence = "SIL" if alphabet == "arpabet" else "_:"
    out: list[Phone] = []
    clock = 0.0
    for symbol, start, end in phones:
        if start > clock + 1e-3:
            out.append((silence, clock, start))
        out.append((symbol, start, end))
        clock = max(clock, end)
    if clock < duration - 1e-3:
        out.append((silence, clock, duration))
    return _phones.merge_silence(out, alphabet=alphabet)


def _blend(phones: Sequence[Phone], duration: float, times: Float64, alphabet: str, style: Style) -> Float64:
    """Dominance blending, (T, E).

    Only frames within a second of a unit are touched: the tails are gone by then.
    """
    table, rules = _table(), _phones.table()["coarticulation"]
    plateau = rules["plateau"]
    count, groups = len(times), len(table.groups)
    numerator = np.zeros((count, len(EXPRESSION_NAMES)))
    denominator = np.full((count, groups), float(rules["floor"]["alpha"]))
    scalable = np.array([name in ("jaw", "spread", "lips") for name in table.groups])
    factors = {"jaw": style.jaw, "lips": style.lips, "rounding": style.lips, "spread": style.lips}
    styled = np.array([factors.get(name, 1.0) for name in table.groups])
    moved = table.group >= 0
    for symbol, start, end in phones:
        _, units, stress = _phones.lookup(symbol, alphabet)
        length = end - start
        stress_scale = rules["stress_scale"][stress if stress in rules["stress_scale"] else "unknown"]
        # Vowel undershoot with duration (Lindblom 1963).
        rate_scale = float(np.clip((length / 0.10) ** 0.35, 0.55, 1.15)) if length > 0 else 1.0
        for viseme, first, last, scale in units:
            begin, stop = start + first * length, start + last * length
            a = begin + plateau["start_frac"] * (stop - begin)
            z = begin + plateau["end_frac"] * (stop - begin)
            kind = table.viseme_class[viseme]
            if kind == "silence" and length >= rules["long_silence"]["min_s"]:
                # The mouth relaxes after the voice and prepares before it.
                a, z = begin + 0.15 * (start > 0), stop - 0.12 * (end < duration - 1e-3)
            low, high = np.searchsorted(times, (a - 1.0, z + 1.0))
            t = times[low:high]
            alpha, pre, post = table.classes[kind].T
            distance = np.maximum(a - t, 0.0)[:, None] / pre + np.maximum(t - z, 0.0)[:, None] / post
            dominance = alpha * np.exp(-distance)
            gain = scale * styled
            if kind.startswith("vowel"):
                gain = np.where(scalable, gain * stress_scale * rate_scale, gain)
            pull = dominance * gain
            numerator[low:high][:, moved] += pull[:, table.group[moved]] * table.targets[viseme][moved]
            denominator[low:high] += dominance
    out = np.zeros_like(numerator)
    out[:, moved] = numerator[:, moved] / denominator[:, table.group[moved]]
    return out


def _smooth(weights: Float64, fps: float) -> None:
    """Zero-phase Gaussian over all but the closure group, in place.

    Articulators have mass, closures stay crisp.
    """
    table, rule = _table(), _phones.table()["coarticulation"]["smoothing"]
    sigma = float(rule["sigma_s"]) * fps
    if sigma <= 0.3:
        return
    radius = int(4 * sigma) + 1
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    skipped = [table.groups.index(name) for name in rule["skip_groups"]]
    for column in np.flatnonzero((table.group >= 0) & ~np.isin(table.group, skipped)):
        padded = np.pad(weights[:, column], radius, mode="edge")
        weights[:, column] = np.convolve(padded, kernel, "valid")


def _constrain(weights: Float64, phones: Sequence[Phone], times: Float64, alphabet: str) -> None:
    """Close the lips of p, b, m and bring the lip to the teeth of f, v, in place."""
    rules = _phones.table()["constraints"]
    closed, dental = [], []
    for symbol, start, end in phones:
        length = end - start
        if _phones.is_bilabial(symbol, alphabet):
            rule = rules["bilabial"]
            name = _phones.lookup(symbol, alphabet)[0][:1].upper()
            last = rule["to_frac"].get(name, rule["to_frac"]["default"])
            low, high = start + rule["from_frac"] * length, start + last * length
            short = max(0.0, rule["hold_s"] - (high - low))
            closed.append((low - short / 2, high + short / 2))
        elif _phones.is_labiodental(symbol, alphabet):
            rule = rules["labiodental"]
            dental.append((start + rule["from_frac"] * length, start + rule["to_frac"] * length))
    ramp = _ramp(dental, rules["labiodental"], times)[:, None]
    if ramp.any():
        touch = weights.copy()
        touch[:, INDEX["jawOpen"]] = np.minimum(touch[:, INDEX["jawOpen"]], 0.07)
        touch[:, INDEX["mouthRollLower"]] = np.maximum(touch[:, INDEX["mouthRollLower"]], TOUCH_ROLL)
        for side in ("_L", "_R"):
            upper = INDEX["mouthUpperUp" + side]
            touch[:, upper] = np.maximum(touch[:, upper], 0.2)
            touch[:, INDEX["mouthLowerDown" + side]] = 0.0
        touch[:, INDEX["mouthClose"]] = 0.0
        weights += ramp * (touch - weights)
    weights[:] = np.clip(weights, 0.0, 1.0)
    ramp = _ramp(closed, rules["bilabial"], times)
    if ramp.any():
        table, close = _table(), INDEX["mouthClose"]
        per_unit = table.gap_weights[close]
        others = lip_gap(weights) - per_unit * weights[:, close]
        need = np.maximum(weights[:, close], (others - SEAL_MM) / -per_unit)
        weights[:, close] += ramp * (need - weights[:, close])


def _ramp(spans: Sequence[tuple[float, float]], rule: dict[str, Any], times: Float64) -> Float64:
    """(T,) 1 inside the spans, smoothstep to 0 outside; every span is 1 in at least one frame."""
    out = np.zeros(len(times))
    for low, high in spans:
        a, b = np.searchsorted(times, (low - rule["ramp_in_s"], high + rule["ramp_out_s"]))
        t = times[a:b]
        away = np.maximum(
            np.maximum(low - t, 0.0) / rule["ramp_in_s"], np.maximum(t - high, 0.0) / rule["ramp_out_s"]
        )
        u = np.clip(1.0 - away, 0.0, 1.0)
        out[a:b] = np.maximum(out[a:b], u * u * (3.0 - 2.0 * u))
        if not ((times >= low) & (times <= high)).any():
            out[np.argmin(np.abs(times - (low + high) / 2))] = 1.0
    return out
