"""The training corpus voice by voice, encoded once and shared by all trials, and parts of it."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from pathlib import Path

from facetalk.data.speech.corpus import Utterance, read_manifest
from facetalk.errors import InputError
from facetalk.training.motion.dataset import Encoder, MotionData, build
from facetalk.units import DEFAULT_FPS

DRAWS = 3
"""Faces per recording, as in ``facetalk train motion``."""
SMALL_S = 300.0
"""Voices with less sound than this are taken together as one: half a minute makes no voice."""


@dataclasses.dataclass(frozen=True)
class VoiceCorpus:
    """Encoded sessions by voice.

    Attributes:
        voices: voice -> its sessions, the voice with most sound first. Small voices go by the name "others".
        held_out: sessions of the corpus's split "valid", whose voices are in none of them.
    """

    voices: dict[str, MotionData]
    held_out: MotionData

    @property
    def frames(self) -> int:
        """Frames of audio features in all."""
        return sum(data.frames for data in self.voices.values())

    def everything(self) -> MotionData:
        """All sessions."""
        return _joined(list(self.voices.values()))

    def share(self, part: float) -> MotionData:
        """The same part of every voice.

        Args:
            part: in (0, 1].
        """
        return _joined([_begin(data, round(part * data.frames)) for data in self.voices.values()])

    def of_voices(self, count: int, frames: int) -> MotionData:
        """``frames`` frames in all, in equal parts of the voices with most sound.

        Raises:
            InputError: there are not so many voices, or one of them is too short.
        """
        chosen = [data for name, data in self.voices.items() if name != "others"][:count]
        each = frames // count
        if len(chosen) < count or min(data.frames for data in chosen) < each:
            raise InputError(
                f"the corpus has no {count} voices with {each / DEFAULT_FPS / 60.0:.1f} minutes each"
            )
        return _joined([_begin(data, each) for data in chosen])


def read(corpus: Path, encoder: Encoder, cache: Path, *, seed: int = 0) -> VoiceCorpus:
    """Encode a corpus, or read what an earlier run encoded.

    Args:
        corpus: folder of a speech corpus.
        encoder: the frozen audio encoder.
        cache: folder for the arrays.
        seed: of pauses and faces.

    Raises:
        InputError: the corpus cannot be used.
    """
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in read_manifest(corpus, split="train"):
        groups[utterance.voice].append(utterance)
    if not groups:
        raise InputError(f"{corpus} has no utterances to train on (split train)")
    small = [voice for voice, own in groups.items() if sum(u.seconds for u in own) < SMALL_S]
    if small:
        pooled = [utterance for voice in small for utterance in groups.pop(voice)]
        groups["others"] = pooled

    def encoded(utterances: list[Utterance], seed: int) -> MotionData:
        return build(utterances, encoder, cache, fps=DEFAULT_FPS, variants=1, draws=DRAWS, seed=seed)

    found = {voice: encoded(own, seed) for voice, own in groups.items()}
    order = sorted(found, key=lambda voice: (voice == "others", -found[voice].frames))
    held_out = encoded(read_manifest(corpus, split="valid"), seed + 1)
    return VoiceCorpus({voice: found[voice] for voice in order}, held_out)


def one_face(data: MotionData) -> MotionData:
    """The same sessions with one draw of the face each, as captured data have it."""
    return MotionData(data.features, [weights[:1] for weights in data.weights])


def _joined(parts: list[MotionData]) -> MotionData:
    return MotionData([f for p in parts for f in p.features], [w for p in parts for w in p.weights])


def _begin(data: MotionData, frames: int) -> MotionData:
    """The first ``frames`` frames."""
    out = MotionData([], [])
    for features, weights in zip(data.features, data.weights, strict=True):
        left = frames - out.frames
        if left <= 0:
            break
        out.features.append(features[:left])
        out.weights.append(weights[:, :left])
    return out
