"""Figures of a head's motion, alone and beside the voice that it goes with."""

from __future__ import annotations

import numpy as np

from facetalk.arrays import Bool, Float32, Float64
from facetalk.mesh.pose import POSE_NAMES
from facetalk.pose.human import RAPID_HZ
from facetalk.pose.prosody import HOP_S, Prosody

SENTENCE_S = 3.0
"""Length of the pieces within which spread is measured, about that of a read sentence."""
MOVING = 1.0
"""Degrees a second above which a head moves: what is less, nobody sees."""
_VOICED, _RANGE_DB = 0.6, 30.0
_SPEECH_S, _PAUSE_S = 0.15, 0.5
"""How near to a voice a frame is in speech, and how far from one in a pause: consonants have no voice, and a
head that was moving takes a moment to stop."""
_SPOKEN = 0.7
"""Share of a piece that is speech, from which on it is a sentence."""
_ANGLES = POSE_NAMES[:3]


def pose_figures(pose: Float32, fps: float, sound: Float32) -> dict[str, float]:
    """How a head moves with a voice.

    Degrees and degrees a second; speed is the length of the rate of the three angles:

    - ``pitch_sd``, ``yaw_sd``, ``roll_sd`` and ``pitch_range`` ...: within pieces of 3 s of speech, their
      mean;
    - ``speed_in_speech``, ``speed_in_pauses``, ``fastest``; ``moving_in_speech``, ``moving_in_pauses``: the
      share of frames faster than one degree a second;
    - ``rapid_share``: of the variance of pitch, what lies above 3.7 Hz;
    - ``f0_explained``, ``level_explained``: share of the variance of the voice's pitch and level in voiced
      frames that a linear regression on the six numbers explains, within pieces, less what as many numbers
      of noise would (adjusted R squared);
    - ``pitch_f0_r``: correlation of the head's pitch with F0, negative where it rises with it.

    NaN where there is nothing of the kind.

    Args:
        pose: (T, 6) radians and millimetres.
        fps: frames per second.
        sound: (N,) 16 kHz, which begins with the first frame.
    """
    rows = np.asarray(pose, np.float64)
    turns = np.degrees(rows[:, :3])
    level, f0, voiced = _voice(sound, len(rows), fps)
    speaking, pausing = _near(voiced, _SPEECH_S * fps), ~_near(voiced, _PAUSE_S * fps)
    out: dict[str, float] = {}
    pieces = _pieces(len(rows), fps)
    pieces = [piece for piece in pieces if speaking[piece].mean() >= _SPOKEN] or pieces
    for column, name in enumerate(_ANGLES):
        out[f"{name}_sd"] = float(np.mean([turns[p, column].std() for p in pieces]))
        out[f"{name}_range"] = float(np.mean([np.ptp(turns[p, column]) for p in pieces]))
    speed = np.linalg.norm(np.gradient(turns, 1.0 / fps, axis=0), axis=1)
    for name, chosen in (("speech", speaking), ("pauses", pausing)):
        out[f"speed_in_{name}"] = float(speed[chosen].mean()) if chosen.any() else float("nan")
        out[f"moving_in_{name}"] = float((speed[chosen] > MOVING).mean()) if chosen.any() else float("nan")
    out["fastest"] = float(speed.max())
    spectrum = np.abs(np.fft.rfft((turns[:, 0] - turns[:, 0].mean()) * np.hanning(len(turns)))) ** 2
    rapid = np.fft.rfftfreq(len(turns), 1.0 / fps) > RAPID_HZ[0]
    out["rapid_share"] = float(spectrum[rapid].sum() / max(spectrum.sum(), 1e-12))
    for name, target in (("f0", f0), ("level", level)):
        shares = [_explained(rows[p][voiced[p]], target[p][voiced[p]]) for p in pieces]
        kept = [share for share in shares if np.isfinite(share)]
        out[f"{name}_explained"] = float(np.mean(kept)) if kept else float("nan")
    out["pitch_f0_r"] = _correlation(turns[voiced, 0], f0[voiced])
    return out


def _voice(sound: Float32, frames: int, fps: float) -> tuple[Float64, Float64, Bool]:
    """Level, F0, and whether there is a voice, of every frame."""
    measured = Prosody().push(np.concatenate([sound, np.zeros(1600, np.float32)]))
    # A measurement is of the 40 ms before it.
    middles = (np.arange(frames) + 0.5) / fps + 0.02
    nearest = np.minimum((middles / HOP_S).astype(int), len(measured) - 1)
    # Loudness is heard over some 0.1 s.
    eased = np.convolve(np.pad(measured[:, 0], 5, mode="edge"), np.full(11, 1.0 / 11.0), mode="valid")
    measured[:, 0] = eased
    level, periodic, f0 = measured[nearest].T
    voiced = (periodic > _VOICED) & (level > level.max() - _RANGE_DB)
    # What is an octave from where the voice mostly is was misheard.
    centre = np.median(f0[voiced]) if voiced.any() else 0.0
    voiced &= np.abs(f0 - centre) < 9.0
    return level, f0, voiced


def _near(voiced: Bool, frames: float) -> Bool:
    """Whether there is a voice within a number of frames of each."""
    reach = round(frames)
    counts = np.convolve(voiced, np.ones(2 * reach + 1))[reach : reach + len(voiced)]
    return np.asarray(counts > 0.5)


def _pieces(frames: int, fps: float) -> list[slice]:
    length = min(frames, round(SENTENCE_S * fps))
    return [slice(start, start + length) for start in range(0, frames - length + 1, length)]


def _explained(pose: Float64, target: Float64) -> float:
    """Adjusted R squared; NaN where there are too few frames or the target does not vary."""
    count, numbers = len(target), pose.shape[1] + 1
    if count < 3 * numbers or target.std() < 1e-6:
        return float("nan")
    spread = pose.std(axis=0)
    design = (pose - pose.mean(axis=0))[:, spread > 1e-9] / spread[spread > 1e-9]
    design = np.column_stack([design, np.ones(count)])
    left = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    share = 1.0 - left.var() / target.var()
    return float(1.0 - (1.0 - share) * (count - 1) / (count - design.shape[1]))


def _correlation(one: Float64, other: Float64) -> float:
    if len(one) < 3 or one.std() < 1e-9 or other.std() < 1e-9:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])
