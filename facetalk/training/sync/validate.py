"""Is the sync expert right? Five checks on voices and texts that it never heard, as JSON.

(a) offsets found within one frame from 1 s and from 3 s; (b) m(s) smallest at 0 and rising; (c) delays
recovered; (d) nothing seen in motions that do not belong to the sound; (e) exaggeration not rewarded.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d
from tqdm import tqdm

from facetalk.arrays import Float32, Float64
from facetalk.audio.load import load_audio
from facetalk.data.visemes import curves
from facetalk.errors import InputError
from facetalk.metrics.manifest import Spoken, read, with_phones
from facetalk.metrics.sync import MAX_SHIFT, SyncExpert, mean_distances
from facetalk.metrics.sync_network import SYNC_FPS, WINDOW
from facetalk.multi_pie import MOUTH
from facetalk.training.sync.dataset import Head, MouthRig
from facetalk.units import SAMPLE_RATE, frame_count

_DELAYS = range(-8, 9)
_LEAST_S = 4.5
"""Shorter utterances are joined, so that 3 s can be looked at with all shifts on both sides."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """Sound of one voice with a truth.

    Attributes:
        voice: who speaks.
        samples: (N,) 16 kHz.
        weights: (T, 53) expression codes of the truth.
    """

    voice: str
    samples: Float32
    weights: Float32

    @property
    def sound(self) -> tuple[Float32, int]:
        """Samples and rate."""
        return self.samples, SAMPLE_RATE


def make_clips(recordings: Sequence[Spoken], count: int, seed: int) -> list[Clip]:
    """Join recordings of a voice to clips of at least 4.5 s, voices in turn, with one face each."""
    rng = np.random.default_rng(seed)
    groups: dict[tuple[str, str], list[Spoken]] = {}
    for recording in recordings:
        groups.setdefault((recording.voice, recording.alphabet), []).append(recording)
    queues = {key: [group[i] for i in rng.permutation(len(group))] for key, group in sorted(groups.items())}
    clips: list[Clip] = []
    while queues and len(clips) < count:
        for key in list(queues):
            clip = _join(queues[key], rng)
            if clip is None:
                del queues[key]
            elif len(clips) < count:
                clips.append(clip)
    return clips


def _join(queue: list[Spoken], rng: np.random.Generator) -> Clip | None:
    parts, phones, clock = [], [], 0
    while queue and clock < _LEAST_S * SAMPLE_RATE:
        recording = queue.pop()
        samples = load_audio(recording.audio)
        pause = rng.normal(0.0, 3e-4, int(rng.uniform(0.1, 0.4) * SAMPLE_RATE)).astype(np.float32)
        offset = (clock + len(pause)) / SAMPLE_RATE
        phones += [(s, a + offset, b + offset) for s, a, b in recording.phones or []]
        parts += [pause, samples]
        clock += len(pause) + len(samples)
    if clock < _LEAST_S * SAMPLE_RATE:
        return None
    # A draw of the face, so that its style and its idle motion are not those of the table.
    frames = frame_count(clock, SYNC_FPS)
    weights = curves(phones, frames / SYNC_FPS, SYNC_FPS, alphabet=recording.alphabet, rng=rng)
    return Clip(recording.voice, np.concatenate(parts), weights)


def validate(expert: SyncExpert, clips: Sequence[Clip], rig: MouthRig, seed: int = 0) -> dict[str, Any]:
    """Figures of an expert.

    Args:
        expert: the judge.
        clips: at least two, of at least 4.5 s.
        rig: how codes move the default identity.
        seed: of shuffles.

    Returns:
        Figures by check, with the number of trials of each.

    Raises:
        InputError: fewer than two clips.
    """
    if len(clips) < 2:
        raise InputError("validation needs at least two clips of 4.5 s; make a larger corpus")
    rng = np.random.default_rng(seed)
    truth, found = [], {1: [0, 0], 3: [0, 0]}
    reached: dict[int, list[float]] = {delay: [] for delay in _DELAYS}
    voices: dict[str, list[int]] = {}
    controls: dict[str, list[dict[str, float]]] = {}
    for number, clip in enumerate(tqdm(clips, "validate", unit="clip", disable=not sys.stderr.isatty())):
        motion, heard = expert.embed(clip.sound, _face(rig, clip.weights), SYNC_FPS)
        truth.append(mean_distances(motion, heard, MAX_SHIFT)[1])
        for seconds, counts in found.items():
            rights = _offsets(motion, heard, seconds * SYNC_FPS - WINDOW + 1)
            for total in (counts, voices.setdefault(clip.voice, [0, 0]) if seconds == 1 else [0, 0]):
                total[0] += sum(rights)
                total[1] += len(rights)
        for delay in _DELAYS:
            late = _face(rig, _delayed(clip.weights, delay))
            reached[delay].append(expert.score(clip.sound, late, SYNC_FPS)["offset_frames"])
        for name, sound, face in _controls(clip, clips[(number + 1) % len(clips)], rig, rng):
            controls.setdefault(name, []).append(expert.score(sound, face, SYNC_FPS))
    curve = np.mean(truth, axis=0)
    shifts = range(-MAX_SHIFT, MAX_SHIFT + 1)
    return {
        "clips": len(clips),
        "seconds": round(sum(len(c.samples) for c in clips) / SAMPLE_RATE, 1),
        "voices": {
            name: {"within_1_frame_1s": r / max(t, 1), "trials": t} for name, (r, t) in voices.items()
        },
        "offset_accuracy": {
            f"within_1_frame_{seconds}s": {"share": right / max(trials, 1), "trials": trials}
            for seconds, (right, trials) in found.items()
        },
        "chance_within_1_frame": 3 / len(shifts),
        "mean_distance_by_shift": {str(s): round(float(v), 4) for s, v in zip(shifts, curve, strict=True)},
        "minimum_at_zero": bool(np.argmin(curve) == MAX_SHIFT),
        "rises_to_shift": _rises(curve),
        "delays": _delays(reached),
        "controls": {name: _summary(rows, controls["truth"]) for name, rows in controls.items()},
    }


def _controls(
    clip: Clip, other: Clip, rig: MouthRig, rng: np.random.Generator
) -> Iterator[tuple[str, tuple[Float32, int], Float32]]:
    """Truth and motions that are worse or none: name, sound, landmarks."""
    sound, weights = clip.sound, clip.weights
    yield "truth", sound, _face(rig, weights)
    yield "half", sound, _face(rig, weights, 0.5)
    yield "doubled", sound, _face(rig, weights, 2.0)
    yield "doubled curves", sound, _face(rig, np.clip(2.0 * weights, 0.0, 1.0))
    smoothed = gaussian_filter1d(weights, 3.0, axis=0, mode="nearest")
    yield "smoothed (3 frames)", sound, _face(rig, np.asarray(smoothed))
    yield "shuffled", sound, _face(rig, weights[rng.permutation(len(weights))])
    yield "static", sound, _face(rig, np.zeros_like(weights))
    yield "sound reversed", (clip.samples[::-1].copy(), SAMPLE_RATE), _face(rig, weights)
    yield "another clip", sound, _face(rig, other.weights)


def validate_folder(
    folder: Path, manifest: Path, model: Head, *, split: str | None, clips: int, seed: int
) -> dict[str, Any]:
    """Validate the expert in ``folder`` on a manifest (with phone times, or texts that are then aligned).

    Returns:
        The figures, with what they were measured on.

    Raises:
        InputError: no expert there, or a manifest that cannot be used.
    """
    expert = SyncExpert.from_pretrained(folder)
    recordings = list(with_phones(read(manifest, split=split)))
    figures = validate(expert, make_clips(recordings, clips, seed), MouthRig.of(model, 1), seed)
    return {"manifest": manifest.name, "split": split, "seed": seed, **figures}


def table(figures: dict[str, Any]) -> str:
    """Figures as text."""
    lines = [f"{figures['clips']} clips, {figures['seconds']:.0f} s, voices {', '.join(figures['voices'])}"]
    for name, row in figures["offset_accuracy"].items():
        chance = figures["chance_within_1_frame"]
        lines.append(f"{name}: {row['share']:.1%} of {row['trials']} (chance {chance:.1%})")
    delays = figures["delays"]
    lines.append(
        f"m(s) smallest at 0: {figures['minimum_at_zero']}, rises to |s| = {figures['rises_to_shift']}; "
        f"delays: slope {delays['slope']:.3f}, {delays['within_1_frame']:.1%} within a frame"
    )
    lines.append(f"{'':<22}{'D(0)':>8}{'D min':>8}{'offset':>8}{'C':>8}{'better than truth':>20}")
    for name, row in figures["controls"].items():
        lines.append(
            f"{name:<22}{row['distance']:8.3f}{row['best_distance']:8.3f}{row['offset_frames']:8.1f}"
            f"{row['confidence']:8.3f}{row['better_than_truth']:20.1%}"
        )
    return "\n".join(lines)


def _face(rig: MouthRig, weights: Float32, factor: float = 1.0) -> Float32:
    """(T, 68, 3) landmarks whose mouth moves, ``factor`` times as far."""
    out = np.repeat(rig.template[None], len(weights), axis=0)
    out[:, list(MOUTH)] = rig.neutral[0] + factor * (rig.mouth(weights) - rig.neutral[0])
    return out


def _delayed(weights: Float32, frames: int) -> Float32:
    """The same motion ``frames`` later, held at its ends."""
    return weights[np.clip(np.arange(len(weights)) - frames, 0, len(weights) - 1)]


def _offsets(motion: Float32, sound: Float32, windows: int) -> list[bool]:
    """Whether the best of all shifts is within a frame of 0, for stretches of ``windows`` windows.

    The sound around the stretch is known, so all shifts are compared over the same windows of the motion.
    """
    out = []
    for start in range(MAX_SHIFT, len(motion) - MAX_SHIFT - windows + 1, windows):
        around = slice(start - MAX_SHIFT, start + windows + MAX_SHIFT)
        shifts, means = mean_distances(motion[around], sound[around], MAX_SHIFT)
        out.append(bool(abs(shifts[means.argmin()]) <= 1))
    return out


def _rises(curve: Float64) -> int:
    """Largest k such that m rises from shift 0 to k and to -k, step by step."""
    sides = curve[MAX_SHIFT:], curve[MAX_SHIFT::-1]
    return int(min(int(np.argmax(np.append(np.diff(side) <= 0, True))) for side in sides))


def _delays(reached: dict[int, list[float]]) -> dict[str, Any]:
    wanted = np.repeat(list(reached), [len(v) for v in reached.values()])
    got = np.concatenate(list(reached.values()))
    return {
        "slope": float(np.polyfit(wanted, got, 1)[0]),
        "median_error": float(np.median(np.abs(got - wanted))),
        "within_1_frame": float((np.abs(got - wanted) <= 1).mean()),
        "mean_by_delay": {str(k): round(float(np.mean(v)), 3) for k, v in reached.items()},
        "trials": len(got),
    }


def _summary(rows: list[dict[str, float]], truth: list[dict[str, float]]) -> dict[str, float]:
    """Means, and the share of clips whose distance is below their truth's by more than rounding."""
    out = {key: float(np.mean([row[key] for row in rows])) for key in rows[0] if key != "searched_frames"}
    out["offset_frames"] = float(np.median([row["offset_frames"] for row in rows]))
    out["offset_within_1"] = float(np.mean([abs(row["offset_frames"]) <= 1 for row in rows]))
    pairs = zip(rows, truth, strict=True)
    out["better_than_truth"] = float(np.mean([row["distance"] < t["distance"] - 1e-5 for row, t in pairs]))
    return out
