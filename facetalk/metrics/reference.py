"""What a face could have done for these phones: draws of the curves that the built-in model was trained on.

The mouth follows from the phones (:mod:`facetalk.data.visemes`) up to the speaker's style; blinks, brows,
gaze and idle motion are chance. So lips may be compared frame by frame with one reading, and all else only
with many draws as a distribution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from facetalk.arrays import Float32
from facetalk.data.phones import CLASSES, Phone, class_track
from facetalk.data.visemes import Style, curves

SEGMENT_FRAMES = 10
"""Length of what the nearest neighbour copies at once: 0.4 s, about two syllables."""
MAX_SEGMENT_SOURCE_S = 60.0
"""Of longer clips, only the beginning is cut into segments."""
CONTEXT_FRAMES = 1.0
"""Blur of the phone classes over time, so that neighbours a frame apart are near."""


def reading(phones: Sequence[Phone], frames: int, fps: float, alphabet: str, seed: int) -> Float32:
    """One reading in the table's own style, with life: the reference of :func:`facetalk.metrics.compare`.

    Args:
        phones: (symbol, start_s, end_s).
        frames: T.
        fps: frames per second.
        alphabet: of the phones.
        seed: of blinks, brows, gaze and idle motion.

    Returns:
        (T, 53) weights in the order of ``EXPRESSION_NAMES``.
    """
    rng = np.random.default_rng(seed)
    return curves(phones, frames / fps, fps, alphabet=alphabet, rng=rng, style=Style())


def draw(phones: Sequence[Phone], frames: int, fps: float, alphabet: str, seed: int) -> Float32:
    """One draw of what training saw: :func:`reading`, but the style is drawn as well."""
    return curves(phones, frames / fps, fps, alphabet=alphabet, rng=np.random.default_rng(seed))


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """Segments of draws for other texts, to be found by their phones.

    Attributes:
        keys: (M, SEGMENT_FRAMES x classes) blurred phone classes of every segment.
        motions: (N, 53) weights of all clips, one after the other.
        starts: (M,) first frame of each segment within ``motions``.
        texts: (M,) number of the text that a segment is from.
        ends: (C,) frame of ``motions`` after the last one of each clip.
    """

    keys: Float32
    motions: Float32
    starts: NDArray[np.intp]
    texts: NDArray[np.intp]
    ends: NDArray[np.intp]

    @classmethod
    def of(
        cls, spoken: Sequence[tuple[Sequence[Phone], str]], texts: Sequence[int], fps: float, seed: int
    ) -> Neighbours:
        """Draw a motion for every (phones, alphabet) and cut it into overlapping segments.

        Args:
            spoken: phones and their alphabet, clip by clip.
            texts: number of each clip's text; equal texts have equal numbers.
            fps: frames per second.
            seed: of the draws.
        """
        keys, motions, starts, owners, ends, count = [], [], [], [], [], 0
        for index, ((phones, alphabet), text) in enumerate(zip(spoken, texts, strict=True)):
            seconds = max((end for _, _, end in phones), default=0.0)
            frames = round(min(seconds, MAX_SEGMENT_SOURCE_S) * fps)
            if frames < SEGMENT_FRAMES:
                continue
            motions.append(draw(phones, frames, fps, alphabet, seed + index))
            key = _keys(phones, frames, fps, alphabet)
            first = np.arange(len(key))
            keys.append(key)
            starts.append(first + count)
            owners.append(np.full(len(first), text))
            count += frames
            ends.append(count)
        if not keys:
            width = SEGMENT_FRAMES * len(CLASSES)
            none = np.zeros(0, np.intp)
            return cls(np.zeros((0, width), np.float32), np.zeros((0, 0), np.float32), none, none, none)
        first_frames, texts_of = np.concatenate(starts), np.concatenate(owners)
        bounds = np.array(ends, np.intp)
        return cls(np.concatenate(keys), np.concatenate(motions), first_frames, texts_of, bounds)

    def find(
        self, phones: Sequence[Phone], frames: int, fps: float, alphabet: str, text: int
    ) -> Float32 | None:
        """A motion put together of the nearest segments, of other texts than this one.

        Every 0.4 s the segment is copied whose phone classes are nearest (Euclidean), as in the nearest
        neighbour by audio of Ng et al. (Learning to Listen, CVPR 2022), seams and all.

        Returns:
            (T, 53) weights; None where no other text is there or the clip is shorter than a segment.
        """
        others = np.flatnonzero(self.texts != text)
        if not len(others) or frames < SEGMENT_FRAMES:
            return None
        wanted = _keys(phones, frames, fps, alphabet)
        bank = self.keys[others]
        out = np.empty((frames, self.motions.shape[1]), np.float32)
        # The last segment ends with the clip and overwrites a part of the one before.
        for first in (*range(0, frames - SEGMENT_FRAMES, SEGMENT_FRAMES), frames - SEGMENT_FRAMES):
            # |k - w|^2 without the part that is the same for every k.
            best = others[np.argmin((bank**2).sum(1) - 2.0 * bank @ wanted[first])]
            start = self.starts[best]
            out[first : first + SEGMENT_FRAMES] = self.motions[start : start + SEGMENT_FRAMES]
        return out


def _keys(phones: Sequence[Phone], frames: int, fps: float, alphabet: str) -> Float32:
    """(T - SEGMENT_FRAMES + 1, SEGMENT_FRAMES x classes) blurred one-hot classes of every segment."""
    track = class_track(phones, frames / fps, fps, alphabet=alphabet)[:frames]
    known = (track[:, None] == np.arange(len(CLASSES))).astype(np.float32)
    blurred = gaussian_filter1d(known, CONTEXT_FRAMES, axis=0, mode="nearest")
    windows = np.lib.stride_tricks.sliding_window_view(blurred, SEGMENT_FRAMES, axis=0)
    return np.ascontiguousarray(windows.reshape(len(windows), -1))
