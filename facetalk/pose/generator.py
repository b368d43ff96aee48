"""The pose of a head that speaks, from the sound of its voice.

What people do is published (:mod:`facetalk.pose.human`); nothing here is learned. Four things add up:

- *accents*: at peaks of loudness and pitch the head nods, nods with an overshoot, or swings to where it then
  stays, as often as Graf et al. (2002) counted, mostly in pitch and by a habit of the seed in yaw;
- *melody*: it rises with F0 and falls with it (Yehia et al. 2002, Munhall et al. 2004);
- *posture*: it takes another place when a phrase begins and about every other phrase (Hadar et al. 1984);
- *drift*, which is all that is left in pauses, where a head hardly moves (Hadar et al. 1983).

All of it is a causal function of the sound, every 10 ms; a frame takes what it has come to some 0.25 s after
its middle, since what is heard has to be recognised and a head has mass. A stream that looks ahead less has
the same motion, later by as much. Frames do not depend on how the sound is cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from facetalk.arrays import Float32, Float64
from facetalk.diffusion.noise import frame_noise
from facetalk.pose.prosody import HOP, HOP_S, Prosody

AHEAD_S = 0.25
"""Seconds after a frame's middle that its pose listens to, if they may be heard: about what it takes to
notice an accent and to carry a head of 4.5 kg through a nod, so that its lowest point is on the vowel."""

LIMITS = np.array([14.0, 16.0, 9.0, 12.0, 8.0, 16.0])
"""Degrees and millimetres that a pose approaches and never passes, however it is driven: a third of what a
neck can do, and what leaves a face that speaks to somebody turned to them."""

_NOISE_STEP = 0x706F7365
"""Which noise of the seed is the head's: far beyond the steps of any sampler."""
_DRAWS = 12
_KEPT = 512
"""Measurements that no frame needs any more, of which so many are let go at a time."""

# Standard deviations of the posture that is taken with a phrase, and of the drift around it, in the columns
# of a pose: degrees, millimetres.
_POSTURE = np.array([3.8, 1.8, 1.7, 2.5, 1.0, 3.0])
_DRIFT = np.array([0.25, 0.3, 0.3, 0.4, 0.3, 0.5])
_NOD = 4.0
"""Degrees of a nod of usual prominence."""
_SWING = np.array([0.9, 1.2, 1.2, 1.2, 0.3, 1.0])
_MELODY = 1.0
"""Degrees that the head rises by with a semitone of F0; speech has a standard deviation of 2 to 4."""
_LOUDNESS = 0.1
"""Degrees that it rises by with a decibel over the speaker's mean, and half as many millimetres forward."""
_PULSE_S = (0.24, 0.40)
"""Length of a stroke: two to four phones, 0.15 to 0.4 s (Graf et al. 2002)."""
_REFRACTORY_S = 0.32
_PHRASE_S = 2.0
"""Usual time between shifts of posture in speech without a pause; an intonation unit takes 1.6 s (Inbar
et al., A Universal of Speech Timing, PNAS 2025)."""
_PAUSE_S = 0.25
"""A silence that ends a phrase."""
_RISING = 1e-3
"""Decibels a second from which on a voice becomes louder: a level that keeps still does so to rounding alone,
which is not the same on every machine, and is no accent."""


class _Spring:
    """Critically damped second-order follower: moves as a mass does, without overshoot."""

    def __init__(self, hertz: float, state: Float64) -> None:
        omega = 2.0 * math.pi * hertz
        decay = math.exp(-omega * HOP_S)
        self._a, self._b = (1.0 + omega * HOP_S) * decay, HOP_S * decay
        self._c, self._d = -(omega**2) * HOP_S * decay, (1.0 - omega * HOP_S) * decay
        self.place, self.speed = np.array(state, np.float64), np.zeros_like(np.asarray(state, np.float64))

    def step(self, target: Float64) -> Float64:
        """The place after 10 ms with a constant target (the exact solution)."""
        away = self.place - target
        self.place, self.speed = (
            target + self._a * away + self._b * self.speed,
            self._c * away + self._d * self.speed,
        )
        return self.place


class _Heard:
    """What the ear makes of the rows of :class:`Prosody`: activity, melody, and peaks that stand out."""

    def __init__(self) -> None:
        self.top, self.mean = -45.0, -60.0
        self.activity = self.loud = 0.0
        self.silence = 10.0
        self.melody = _Spring(3.0, np.zeros(1))
        self._centre, self._voiced = 0.0, 0
        self._deviation = 0.0
        self._envelope = _Spring(6.0, np.full(1, -80.0))
        self._rising, self._peak, self._held = False, -120.0, 0.0

    def step(self, level: float, periodic: float, pitch: float) -> tuple[bool, float]:
        """Take 10 ms of sound.

        Returns:
            whether a phrase begins, and how prominent a peak was that has just passed, 0 where none has.
        """
        # Loudness is only loud against the speaker's own; a release of 3 dB a second follows a room.
        self.top = max(level, self.top - 3.0 * HOP_S, -60.0)
        voiced = min(1.0, max(0.0, (periodic - 0.55) / 0.2)) * (level > self.top - 30.0)
        self.activity += (1.0 - self.activity) * 0.12 * voiced - self.activity * 0.022 * (1.0 - voiced)
        begins = voiced > 0.5 and self.silence > _PAUSE_S
        self.silence = 0.0 if voiced > 0.5 else self.silence + HOP_S
        if voiced > 0.5:
            # A mean of what was heard so far, then one that follows; voices begin high.
            self._voiced += 1
            # A leap of nearly an octave is an error of the ear, not of the voice.
            leap = abs(pitch - self._centre) > 9.0
            self._centre += (pitch - self._centre) * max(0.02 if leap else 0.006, 1.0 / self._voiced)
            if not leap:
                self._deviation += (max(-6.0, min(6.0, pitch - self._centre)) - self._deviation) * 0.35
            self.mean += (level - self.mean) * (0.01 if self.mean > self.top - 40.0 else 1.0)
        else:
            self._deviation *= 0.955
        self.melody.step(np.array([self._deviation]))
        return begins, self._accent(level, voiced)

    def _accent(self, level: float, voiced: float) -> float:
        loud = float(self._envelope.step(np.array([max(level, self.top - 40.0)]))[0])
        self.loud = max(-8.0, min(8.0, loud - self.mean))
        rising = float(self._envelope.speed[0]) > _RISING
        prominence = 0.0
        if voiced > 0.5:
            self._held = max(self._held * 0.97, 0.5 * (loud - self.mean) / 5.0 + 0.5 * self._deviation / 2.5)
        if self._rising and not rising and self.silence < 0.1:
            prominence = max(0.0, 0.6 + self._held)
            self._held = 0.0
        self._rising = rising
        return prominence


class HeadMotion:
    """Pose of a clip whose sound arrives bit by bit.

    Args:
        fps: motion frame rate.
        seed: 0 to 2**64 - 1; another seed is another performance.
        look_ahead: seconds after a frame's middle that may be heard for it.
        amount: factor of all motion.
    """

    def __init__(self, fps: float, seed: int, *, look_ahead: float = AHEAD_S, amount: float = 1.0) -> None:
        self.fps, self.seed, self.amount = fps, seed, amount
        # Frames that lie between two measurements need the later one too.
        self._ahead = min(look_ahead, AHEAD_S) - HOP_S
        self._prosody, self._heard = Prosody(), _Heard()
        draws = self._draw(0, _DRAWS)
        self._habit = math.copysign(0.35, draws[6]) * (1.0 + 0.3 * draws[7])
        self._target = self._place(draws)
        self._posture = _Spring(0.7, self._target)
        self._drift, self._slow = np.zeros(6), _Spring(0.5, np.zeros(6))
        self._gate = _Spring(1.2, np.zeros(1))
        self._strokes: list[tuple[int, int, float, float]] = []
        self._body = _Spring(2.6, self._target)
        self._hops, self._last, self._next = 0, -1000, self._interval(draws[8])
        self._track: list[Float64] = []
        self._first, self._done = 0, 0

    def push(self, samples: Float32) -> Float32:
        """Take (n,) samples of 16 kHz, give the poses (m, 6) of the frames that they complete."""
        self._advance(self._prosody.push(samples))
        count = math.floor((self._hops * HOP_S - self._ahead) * self.fps - 0.5 + 1e-6) + 1
        return self._give(max(count if self._hops else 0, self._done))

    def finish(self, frames: int) -> Float32:
        """The poses of the frames up to number ``frames`` that were still waiting; silence follows."""
        lack = ((frames - 0.5) / self.fps + self._ahead) - self._hops * HOP_S
        hops = max(0, math.ceil(lack / HOP_S - 1e-6)) + 1
        self._advance(self._prosody.push(np.zeros(hops * HOP, np.float32)))
        return self._give(max(frames, self._done))

    def _draw(self, hop: int, count: int) -> Float64:
        return frame_noise(self.seed, _NOISE_STEP, hop, hop + 1, count)[0].astype(np.float64)

    @staticmethod
    def _place(draws: Float64) -> Float64:
        """A posture; nobody speaks to somebody and looks at the floor."""
        return _POSTURE * np.clip(draws[:6], -1.6, 1.6)

    def _interval(self, normal: float) -> int:
        return round(_PHRASE_S * math.exp(0.35 * normal) / HOP_S)

    def _advance(self, rows: Float64) -> None:
        first = self._hops + 1
        noise = frame_noise(self.seed, _NOISE_STEP + 1, first, first + len(rows), 6).astype(np.float64)
        for (level, periodic, pitch), kick in zip(rows.tolist(), noise, strict=True):
            self._hops += 1
            self._track.append(self._step(level, periodic, pitch, kick))

    def _step(self, level: float, periodic: float, pitch: float, kick: Float64) -> Float64:
        heard, hop = self._heard, self._hops
        begins, prominence = heard.step(level, periodic, pitch)
        busy = float(self._gate.step(np.array([heard.activity]))[0])
        self._next -= 1 if heard.activity > 0.3 else 0
        if (begins and hop - self._last > 50) or self._next <= 0:
            draws = self._draw(hop, _DRAWS)
            # Half way from where it was: people come back to who they speak to.
            self._target = 0.35 * self._target + 0.94 * self._place(draws)
            self._next = self._interval(draws[6])
        if prominence > 0.55 and hop - self._last > _REFRACTORY_S / HOP_S:
            self._last = hop
            self._accent(prominence, self._draw(hop, _DRAWS))
        # Ornstein-Uhlenbeck noise of 1.5 s, eased, so that it has no corners.
        self._drift += -self._drift * (HOP_S / 1.5) + kick * math.sqrt(2.0 * HOP_S / 1.5)
        still = 0.15 + 0.85 * min(1.0, busy)
        target = self._posture.step(self._target) + 2.0 * still * _DRIFT * self._slow.step(self._drift)
        down, aside = self._stroke(hop)
        loud = _LOUDNESS * heard.loud * busy
        down -= _MELODY * float(heard.melody.place[0]) + loud
        # A nod carries the face forward and down, a turn of the head tilts it too.
        target = target + np.array(
            [down, aside, 0.4 * aside, 0.1 * aside, -0.15 * down, 0.3 * down + 5.0 * loud]
        )
        return self._body.step(target)

    def _accent(self, prominence: float, draws: Float64) -> None:
        """Answer an accent as one of Graf et al.'s speakers did."""
        choice = 0.5 * math.erfc(-draws[0] / math.sqrt(2.0))
        low, high = _PULSE_S
        length = low + (high - low) * 0.5 * math.erfc(-draws[1] / math.sqrt(2.0))
        size = _NOD * min(1.5, 0.35 + 0.55 * prominence) * math.exp(0.25 * draws[2])
        aside = size * self._habit * (0.6 + 0.4 * draws[3])
        count = round(length / HOP_S)
        if choice < 0.60:
            self._strokes.append((self._hops, count, size, aside))
            if choice > 0.42:
                self._strokes.append((self._hops + round(0.8 * count), count, -0.45 * size, -0.3 * aside))
        elif choice < 0.80:
            self._target = self._target + _SWING * draws[4:10]

    def _stroke(self, hop: int) -> tuple[float, float]:
        """Pitch and yaw of the strokes that are under way, degrees."""
        down = aside = 0.0
        for start, count, size, side in self._strokes:
            share = (hop - start) / count
            if 0.0 < share < 1.0:
                bump = 0.5 - 0.5 * math.cos(2.0 * math.pi * share)
                down, aside = down + size * bump, aside + side * bump
        self._strokes = [stroke for stroke in self._strokes if hop < stroke[0] + stroke[1]]
        return down, aside

    def _give(self, count: int) -> Float32:
        """Poses of the frames before number ``count``, between measurements by straight lines."""
        frames = np.arange(self._done, count)
        if not len(frames):
            return np.zeros((0, 6), np.float32)
        # Measurement k is of the moment (k + 1) HOP_S; before the first the head is where that has it.
        place = np.maximum(((frames + 0.5) / self.fps + self._ahead) / HOP_S - 1.0 - self._first, 0.0)
        low = np.minimum(np.floor(place + 1e-6).astype(int), len(self._track) - 1)
        share = (place - low)[:, None].clip(0.0, 1.0)
        track = np.stack(self._track[int(low[0]) :])
        low -= int(low[0])
        high = np.minimum(low + 1, len(track) - 1)
        rows = track[low] * (1.0 - share) + track[high] * share
        self._done = count
        # What later frames need: a measurement before the next frame.
        spare = math.floor(((count + 0.5) / self.fps + self._ahead) / HOP_S) - 3 - self._first
        spare = min(spare, len(self._track) - 1)  # the next frame may need more than is known
        if spare > _KEPT:
            del self._track[:spare]
            self._first += spare
        rows = LIMITS * np.tanh(self.amount * rows / LIMITS)
        rows[:, :3] = np.radians(rows[:, :3])
        return rows.astype(np.float32)


def head_motion(
    sound: Iterable[Float32],
    fps: float,
    frames: int,
    *,
    seed: int,
    look_ahead: float = AHEAD_S,
    amount: float = 1.0,
) -> Float32:
    """The pose (frames, 6) of a recording of 16 kHz in blocks; see :class:`HeadMotion`."""
    made = HeadMotion(fps, seed, look_ahead=look_ahead, amount=amount)
    parts = [made.push(block) for block in sound]
    return np.concatenate([*parts, made.finish(frames)])[:frames]
