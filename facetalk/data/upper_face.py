"""Life above the mouth: blinks, brow raises, gaze and idle motion, drawn from statistics.

None of it follows from the sound alone, which is why the motion model is a diffusion model: it learns a
distribution. The statistics are in ``visemes.json``, which names their sources (Bentivoglio et al. 1997 for
blink rates, Nakano & Kitazawa 2010 for blinks at pauses, Cave et al. 1996 for brows, Lee, Badler & Badler
2002 for gaze).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from facetalk.arrays import Bool, Float64
from facetalk.data import phones as _phones
from facetalk.data.expressions import INDEX
from facetalk.data.phones import Phone


def add_life(
    weights: Float64, phones: Sequence[Phone], times: Float64, alphabet: str, rng: np.random.Generator
) -> None:
    """Add upper-face and rest motion to (T, 53) weights, in place.

    Args:
        weights: mouth curves.
        phones: phones with silences filled in.
        times: (T,) frame times in seconds.
        alphabet: of the phones.
        rng: source of all chance.
    """
    rules = _phones.table()
    pauses = [(a, b) for s, a, b in phones if _phones.is_silence(s, alphabet)]
    silent = np.zeros(len(times), bool)
    for start, end in pauses:
        silent |= (times >= start) & (times < end)
    vowels = [a for s, a, b in phones if _is_vowel(s, alphabet) and b - a > 0.09]
    _idle(weights, times, silent, rules["idle"], rng)
    down = _gaze(weights, times, rules["gaze"], rng)
    _brows(weights, times, vowels, pauses, rules["brow_prosody"], rng)
    _blinks(weights, times, pauses, rules["blink"], rng)
    follow = rules["blink"]["lid_follows_gaze"]["eyeLookDown"]
    for side in ("_L", "_R"):
        weights[:, INDEX["eyeBlink" + side]] += follow * down
    lean = float(rng.normal(0.0, rules["idle"]["laterality"]["per_identity_sd"]))
    for name in ("mouthSmile", "mouthStretch", "mouthLowerDown", "mouthUpperUp"):
        weights[:, INDEX[name + "_L"]] *= 1.0 + lean
        weights[:, INDEX[name + "_R"]] *= 1.0 - lean
    np.clip(weights, 0.0, 1.0, out=weights)


def _is_vowel(symbol: str, alphabet: str) -> bool:
    visemes = _phones.table()["visemes"]
    return any(visemes[u[0]]["class"].startswith("vowel") for u in _phones.lookup(symbol, alphabet)[1])


def _smoothstep(x: Float64) -> Float64:
    u = np.clip(x, 0.0, 1.0)
    out: Float64 = u * u * (3.0 - 2.0 * u)
    return out


def _bump(times: Float64, start: float, rise: float, hold: float, fall: float) -> Float64:
    """0 to 1 to 0: smooth rise, hold, smooth fall."""
    up = _smoothstep((times - start) / rise)
    down = _smoothstep((times - start - rise - hold) / fall)
    return up * (1.0 - down)


def _idle(
    weights: Float64,
    times: Float64,
    silent: Bool,
    rules: dict[str, Any],
    rng: np.random.Generator,
) -> None:
    """Ornstein-Uhlenbeck drift of every idle channel, clipped at 0."""
    step = float(times[1] - times[0]) if len(times) > 1 else 0.04
    for name, channel in rules["channels"].items():
        decay = np.exp(-step / channel["tau_s"])
        noise = rng.normal(0.0, channel["sd"] * np.sqrt(1.0 - decay**2), len(times))
        track = np.empty(len(times))
        state = float(rng.normal(0.0, channel["sd"]))
        for i, kick in enumerate(noise):
            state = decay * state + kick
            track[i] = state
        track += channel["mu"]
        if channel.get("only_in") == "silence":
            # A fade of 0.2 s keeps the gate from clicking.
            width = max(1, round(0.2 / step))
            gate = np.convolve(
                np.pad(silent.astype(float), width, mode="edge"), np.full(2 * width + 1, 1 / (2 * width + 1))
            )
            track = track * np.minimum(gate[2 * width : 2 * width + len(times)], 1.0)
        if "signed_with" in channel:
            weights[:, INDEX[name]] += np.maximum(track, 0.0)
            weights[:, INDEX[channel["signed_with"]]] += np.maximum(-track, 0.0)
            continue
        if name == "jawForward":
            weights[:, INDEX[name]] += np.maximum(track, 0.0)
            continue
        lean = float(rng.normal(0.0, channel.get("asym", 0.0)))
        for side, factor in (("_L", 1.0 + lean), ("_R", 1.0 - lean)):
            weights[:, INDEX[name + side]] += np.maximum(track * factor, 0.0)


def _gaze(weights: Float64, times: Float64, rules: dict[str, Any], rng: np.random.Generator) -> Float64:
    """Fixations with saccades between them, both eyes together. Returns the (T,) downward weight."""
    yaw, pitch = np.zeros(len(times)), np.zeros(len(times))
    clock, here = 0.0, np.zeros(2)
    fixation, saccade = rules["fixation_s"], rules["saccade_deg"]
    mutual = rules["mutual_gaze_fraction"]["talking"]
    while clock < times[-1]:
        clock += float(rng.lognormal(np.log(fixation["median_s"]), fixation["sigma"]))
        there = np.zeros(2)
        if rng.random() > mutual:
            size = min(float(rng.exponential(saccade["mean"])), saccade["max"])
            angle = float(rng.uniform(0.0, 2.0 * np.pi))
            # People look aside more than up and down.
            there = size * np.array([np.cos(angle), 0.6 * np.sin(angle)])
        duration = 0.021 + 0.0022 * float(np.linalg.norm(there - here))
        move = _smoothstep((times - clock) / duration)
        yaw += move * (there[0] - here[0])
        pitch += move * (there[1] - here[1])
        here = there
    scale = rules["deg_to_weight"]
    # Positive yaw looks to the head's left: the left eye turns out, the right eye in.
    for side, sign in (("_L", 1.0), ("_R", -1.0)):
        weights[:, INDEX["eyeLookOut" + side]] += scale * np.maximum(sign * yaw, 0.0)
        weights[:, INDEX["eyeLookIn" + side]] += scale * np.maximum(-sign * yaw, 0.0)
        weights[:, INDEX["eyeLookUp" + side]] += scale * np.maximum(pitch, 0.0)
        weights[:, INDEX["eyeLookDown" + side]] += scale * np.maximum(-pitch, 0.0)
    down: Float64 = scale * np.maximum(-pitch, 0.0)
    return down


def _brows(
    weights: Float64,
    times: Float64,
    vowels: Sequence[float],
    pauses: Sequence[tuple[float, float]],
    rules: dict[str, Any],
    rng: np.random.Generator,
) -> None:
    """Raises with long vowels (standing in for accents), at utterance onsets and in silences; rare frowns."""
    accent = rules["accent"]
    starts = [(a, accent["amplitude"]) for a in vowels if rng.random() < 0.35 * accent["p_brow"]]
    for low, high in pauses:
        if high - low >= 0.5 and high < times[-1] and rng.random() < rules["onset"]["p"]:
            starts.append((high, rules["onset"]["amplitude"]))
        if rng.random() < rules["silence"]["rate_per_min"] * (high - low) / 60.0:
            starts.append((float(rng.uniform(low, high)), rules["silence"]["amplitude"]))
    for moment, amplitude in starts:
        shape = float(rng.uniform(*amplitude)) * _bump(
            times,
            moment - float(rng.uniform(*accent["lead_s"])),
            float(rng.uniform(*accent["rise_s"])),
            float(rng.uniform(*accent["hold_s"])),
            float(rng.uniform(*accent["fall_s"])),
        )
        for name, weight in accent["weights"].items():
            weights[:, INDEX[name]] = np.maximum(weights[:, INDEX[name]], weight * shape)
    frown = rules["frown"]
    for _ in range(int(rng.poisson(frown["rate_per_min"] * times[-1] / 60.0))):
        length = float(rng.uniform(*frown["duration_s"]))
        shape = _bump(times, float(rng.uniform(0.0, times[-1])), 0.3 * length, 0.4 * length, 0.3 * length)
        for name, weight in frown["weights"].items():
            weights[:, INDEX[name]] += weight * float(rng.uniform(*frown["amplitude"])) * shape


def _blinks(
    weights: Float64,
    times: Float64,
    pauses: Sequence[tuple[float, float]],
    rules: dict[str, Any],
    rng: np.random.Generator,
) -> None:
    """Blinks at log-normal intervals, most of them pulled to the next pause of speech."""
    interval, shape = rules["interval"], rules["shape"]
    track = np.zeros(len(times))
    clock = float(rng.uniform(0.0, interval["talking"]["median_s"]))
    while clock < times[-1]:
        moment = clock
        near = [a for a, b in pauses if 0.0 <= a - clock < 0.8 and b - a > 0.1]
        if near and rng.random() < rules["sync"]["p_at_pause"]:
            moment = near[0] + float(rng.uniform(*rules["sync"]["window_s"]))
        full = rng.random() < rules["amplitude"]["full_p"]
        amplitude = float(rng.uniform(*rules["amplitude"]["full" if full else "partial"]))
        repeats = 2 if rng.random() < rules["double_p"] else 1
        for _ in range(repeats):
            close, hold, open_ = (float(rng.uniform(*shape[k])) for k in ("close_s", "hold_s", "open_s"))
            closing = _smoothstep((times - moment) / close)
            after = np.maximum(times - moment - close - hold, 0.0)
            track = np.maximum(track, amplitude * closing * np.exp(-after * 3.5 / open_))
            moment += close + hold + open_ + float(rng.uniform(*rules["double_gap_s"]))
        gap = float(rng.lognormal(np.log(interval["talking"]["median_s"]), interval["talking"]["sigma"]))
        clock = max(clock, moment - 0.3) + max(interval["min_s"], gap)
    skew = float(rng.normal(0.0, rules["asymmetry_sd"]))
    for name, weight in rules["weights"].items():
        side = 1.0 + skew if name.endswith("_L") else 1.0 - skew
        weights[:, INDEX[name]] = np.maximum(weights[:, INDEX[name]], weight * side * track)
