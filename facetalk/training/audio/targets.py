"""What the audio encoder is trained to tell, frame by frame: articulatory classes and how the lips stand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from facetalk.arrays import Float32, Float64
from facetalk.data.expressions import INDEX
from facetalk.data.phones import BILABIAL_CLASSES, CLASSES, LABIODENTAL_CLASSES, Phone, class_track
from facetalk.data.visemes import curves, lip_gap

#: Rate at which targets are kept, Hz; frames of any motion rate and any speed are read from it.
TARGET_RATE = 100.0

#: Regression targets: name, blendshapes whose mean it is, and the scale that brings it to about unit
# variance.
CURVES: tuple[tuple[str, tuple[str, ...], float], ...] = (
    ("lip_gap_mm", (), 3.5),
    ("jaw", ("jawOpen",), 0.08),
    ("pucker", ("mouthPucker",), 0.13),
    ("funnel", ("mouthFunnel",), 0.08),
    ("stretch", ("mouthStretch_L", "mouthStretch_R"), 0.06),
    ("press", ("mouthPress_L", "mouthPress_R"), 0.08),
    ("upper_up", ("mouthUpperUp_L", "mouthUpperUp_R"), 0.06),
    ("lower_down", ("mouthLowerDown_L", "mouthLowerDown_R"), 0.06),
    ("roll", ("mouthRollLower",), 0.1),
)
BILABIAL = tuple(CLASSES.index(name) for name in BILABIAL_CLASSES)
LABIODENTAL = tuple(CLASSES.index(name) for name in LABIODENTAL_CLASSES)


@dataclasses.dataclass(frozen=True)
class Targets:
    """Targets of one utterance at :data:`TARGET_RATE`: (N,) class indices (-1 unknown), (N, 9) scaled
    curves, where the lower lip is, (N, 3) in mm, if the head was told, and what a teacher makes of the sound,
    (M, D) at ``taught_rate`` Hz, if one heard it."""

    classes: npt.NDArray[np.int8]
    curves: npt.NDArray[np.float16]
    lower: npt.NDArray[np.float16] | None = None
    taught: npt.NDArray[np.float16] | None = None
    taught_rate: float = TARGET_RATE

    def at(self, times: npt.NDArray[Any], frame_s: float) -> tuple[Float32, Float32]:
        """Read frames of ``frame_s`` seconds centred at ``times`` (outside the utterance is silence).

        Returns:
            (T, classes) shares of each class within the frame (unknown: all zero), and (T, 9) curves.
        """
        parts = (np.arange(4) - 1.5) / 4 * frame_s
        index = np.floor((times[:, None] + parts) * TARGET_RATE).astype(int)
        outside = (index < 0) | (index >= len(self.classes))
        labels = self.classes[np.clip(index, 0, len(self.classes) - 1)].astype(int)
        labels[outside] = 0
        shares = np.zeros((len(times), len(CLASSES)), np.float32)
        for part in range(labels.shape[1]):
            known = labels[:, part] >= 0
            shares[np.flatnonzero(known), labels[known, part]] += 1 / labels.shape[1]
        return shares, self._read(self.curves, times)

    def lower_lip(self, times: npt.NDArray[Any]) -> Float32:
        """(T, 3) place of the lower lip at ``times``, mm; of targets that were made with a head."""
        assert self.lower is not None
        return self._read(self.lower, times)

    def teacher(self, times: npt.NDArray[Any]) -> Float32:
        """(T, D) what a teacher makes of the sound at ``times``; of targets that have it."""
        assert self.taught is not None
        return self._read(self.taught, times, self.taught_rate)

    def told(self, times: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """(T,) whether the teacher heard anything there: not before a recording, and not after it."""
        assert self.taught is not None
        return (times >= 0.0) & (times < len(self.taught) / self.taught_rate)

    @staticmethod
    def _read(track: npt.NDArray[np.float16], times: npt.NDArray[Any], rate: float = TARGET_RATE) -> Float32:
        position = times * rate - 0.5
        low = np.clip(np.floor(position).astype(int), 0, len(track) - 1)
        high = np.minimum(low + 1, len(track) - 1)
        share = np.clip(position - low, 0.0, 1.0)[:, None].astype(np.float32)
        return np.asarray(track[low] * (1 - share) + track[high] * share, np.float32)


def make_targets(
    phones: list[Phone], seconds: float, alphabet: str, lower_mm: Float64 | None = None
) -> Targets:
    """Targets of an utterance of ``seconds`` from its phones; with the lower lip's if it is told how far
    each expression moves it, (53, 3) in mm."""
    weights = curves(phones, seconds, TARGET_RATE, alphabet=alphabet)
    columns = [lip_gap(weights)]
    columns += [weights[:, [INDEX[n] for n in names]].mean(axis=1) for _, names, _ in CURVES[1:]]
    scaled = np.stack(columns, axis=1) / np.array([scale for _, _, scale in CURVES])
    classes = class_track(phones, seconds, TARGET_RATE, alphabet=alphabet)
    lower = None if lower_mm is None else (weights @ lower_mm).astype(np.float16)
    return Targets(classes.astype(np.int8), scaled.astype(np.float16), lower)
