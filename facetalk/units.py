"""Units and rates that every part of the package shares.

Head space is NPHM's: the FLAME frame times four, +x the head's left, +y up, +z out of the face.
"""

from __future__ import annotations

import math

HEAD_UNIT_METRES = 0.25
"""Length of one head-space unit in metres (NPHM scales FLAME, which is metric, by 4)."""

HEAD_UNIT_MM = HEAD_UNIT_METRES * 1000.0

SAMPLE_RATE = 16_000
"""Audio sample rate of Wav2Vec 2.0, in Hz."""

DEFAULT_FPS = 25.0
"""Motion frame rate when a model does not say otherwise."""

MAX_PAD = 60.0
"""Seconds of silence that may be put on a side of a recording."""

GAZE_RADIANS_PER_WEIGHT = math.radians(1.0 / 0.033)
"""By how much an eye turns at a weight of 1 of ``eyeLook*``, as in the table of gaze (data/visemes.json)."""


def frame_count(samples: int, fps: float) -> int:
    """Number of motion frames for ``samples`` audio samples at ``SAMPLE_RATE``.

    Frame ``i`` is centred at ``(i + 0.5) / fps`` seconds; a clip has at least one frame.
    """
    return max(1, round(samples / SAMPLE_RATE * fps))
