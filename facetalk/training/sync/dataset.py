"""Training data of the sync expert: log-mel spectra beside mouths that rules move to the same phones.

Truth curves come from the phones (:mod:`facetalk.data.visemes`), several faces to each recording, with jaw
and lips between half and twice as lively as the table says, on several identities of the head. Sound is
varied twice: once per recording in the time domain (rate, room, microphone, noise), and in every step in the
mel domain (formants, tilt, noise floor), which is cheap.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from facetalk.arrays import AnyFloat, Float32
from facetalk.audio.mel import MEL_RATE, log_mel
from facetalk.audio.mel_bands import MEL_BANDS
from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.data.speech.corpus import Utterance
from facetalk.data.visemes import Style, curves
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.metrics.sync_network import MEL_PER_FRAME, SYNC_FPS, audio_features, motion_features
from facetalk.motion import Motion
from facetalk.multi_pie import MOUTH
from facetalk.training.motion.dataset import sessions
from facetalk.units import SAMPLE_RATE

CROP = 80
"""Frames of a training crop, 3.2 s."""
_CONTEXT = (40, 250)
"""Frames whose mean and amplitude are taken off, at least those of the crop: a clip of up to 10 s."""
_AMPLITUDE = (0.5, 2.0)
_JITTER_MM = 0.08


class Head(Protocol):
    """What of :class:`facetalk.FaceTalk` is needed here."""

    @property
    def head(self) -> Any:
        """Its neural parametric head."""

    def landmarks(self, motion: Motion) -> Float32:
        """Motion -> (T, 68, 3) metres."""


@dataclasses.dataclass(frozen=True)
class MouthRig:
    """How expression codes move the mouth of several identities.

    Attributes:
        template: (68, 3) metres, neutral landmarks of the default identity.
        neutral: (K, 20, 3) metres, mouth landmarks of K identities at rest.
        basis: (K, 53, 20, 3) metres per unit of expression code.
    """

    template: Float32
    neutral: Float32
    basis: Float32

    @staticmethod
    def of(model: Head, identities: int, seed: int = 0) -> MouthRig:
        """Measure a head: the default identity first, then random ones."""
        if tuple(model.head.expression_names) != EXPRESSION_NAMES:
            raise InputError("this head has other expressions than the viseme table; use the built-in model")
        rng = np.random.default_rng(seed)
        codes = np.concatenate([np.zeros((1, len(EXPRESSION_NAMES))), np.eye(len(EXPRESSION_NAMES))])
        template, neutral, basis = None, [], []
        for number in range(identities):
            identity = model.head.default_identity
            if number:  # unit normal coefficients, drawn in from the tails: faces, not caricatures
                identity = model.head.encode_identity(0.8 * np.clip(rng.standard_normal(100), -2.0, 2.0))
            points = model.landmarks(Motion(codes.astype(np.float32), float(SYNC_FPS), identity))
            template = points[0] if template is None else template
            neutral.append(points[0, list(MOUTH)])
            basis.append(points[1:, list(MOUTH)] - points[0, list(MOUTH)])
        assert template is not None
        return MouthRig(template, np.stack(neutral), np.stack(basis))

    def mouth(self, weights: AnyFloat, identity: int = 0) -> Float32:
        """(T, 53) expression codes -> (T, 20, 3) landmarks 48 to 67, metres."""
        offsets = np.tensordot(np.asarray(weights, np.float32), self.basis[identity], axes=1)
        return np.asarray(self.neutral[identity] + offsets, np.float32)


@dataclasses.dataclass
class SyncData:
    """Recordings as arrays.

    Attributes:
        spectra: per recording (4 T, 80) float16 log-mel, dB.
        weights: per recording (D, T, 53) float16 expression codes of D faces.
    """

    spectra: list[NDArray[np.float16]]
    weights: list[NDArray[np.float16]]

    @property
    def frames(self) -> int:
        """Frames of sound at 25 fps."""
        return sum(len(part) // MEL_PER_FRAME for part in self.spectra)


def draw_style(rng: np.random.Generator) -> Style:
    """Jaw and lips each between half and twice as lively as the table says."""
    low, high = np.log(_AMPLITUDE)
    jaw, lips = np.exp(rng.uniform(low, high, 2))
    return Style(float(jaw), float(lips))


def without_texts(utterances: Sequence[Utterance], held_out: Sequence[Utterance]) -> list[Utterance]:
    """Utterances whose text is not said in ``held_out``."""
    heard = {_plain(u.text) for u in held_out}
    return [u for u in utterances if not u.text or _plain(u.text) not in heard]


def _plain(text: str) -> str:
    return " ".join("".join(c.lower() if c.isalnum() else " " for c in text).split())


def build(utterances: Sequence[Utterance], cache: Path, *, variants: int, faces: int, seed: int) -> SyncData:
    """Read what an earlier run prepared, or prepare it.

    Args:
        utterances: the corpus' part to train on.
        cache: folder for the arrays, one file per variant; made if missing.
        variants: passes over the corpus; the first is clean, the others are spoilt.
        faces: draws of the face per recording.
        seed: of everything random here.

    Raises:
        InputError: no utterance.
    """
    if not utterances:
        raise InputError("the corpus has no utterance to train on; make one with `facetalk data`")
    cache.mkdir(parents=True, exist_ok=True)
    said = json.dumps([[u.id, u.phones] for u in utterances]) + repr((faces, seed, _AMPLITUDE, MEL_BANDS))
    name = hashlib.sha256(said.encode()).hexdigest()[:12]
    data = SyncData([], [])
    for variant in range(variants):
        file = cache / f"sync{variant}-{name}.npz"
        if not file.is_file():
            _prepare(utterances, file, variant, faces, np.random.default_rng((seed, variant)))
        with np.load(file, allow_pickle=False) as archive:
            cuts = np.cumsum(archive["lengths"])[:-1]
            data.spectra += np.split(archive["spectra"], cuts * MEL_PER_FRAME)
            data.weights += np.split(archive["weights"], cuts, axis=1)
    return data


def _prepare(
    utterances: Sequence[Utterance], file: Path, variant: int, faces: int, rng: np.random.Generator
) -> None:
    spectra, weights = [], []
    total = round(sum(u.seconds for u in utterances))
    with tqdm(total=total, desc=file.stem, unit="s", disable=not sys.stderr.isatty(), mininterval=1.0) as bar:
        for session in sessions(utterances, rng, augment=variant > 0):
            sound = log_mel(session.samples)
            count = len(sound) // MEL_PER_FRAME
            spectra.append(sound[: count * MEL_PER_FRAME].astype(np.float16))
            drawn = [
                curves(session.phones, count / SYNC_FPS, SYNC_FPS, alphabet=session.alphabet, rng=rng,
                       style=draw_style(rng))
                for _ in range(faces)
            ]  # fmt: skip
            weights.append(np.stack(drawn).astype(np.float16))
            bar.update(round(len(session.samples) / SAMPLE_RATE))
    with atomic_path(file) as temporary:
        np.savez(
            temporary,
            lengths=np.array([part.shape[1] for part in weights]),
            spectra=np.concatenate(spectra),
            weights=np.concatenate(weights, axis=1),
        )


def make_batch(data: SyncData, rig: MouthRig, rng: np.random.Generator, count: int) -> dict[str, Tensor]:
    """Crops of different recordings, varied.

    Returns:
        motion (B, CROP, 120), audio (B, 4 CROP, 80) features.

    Raises:
        InputError: no recording is as long as a crop.
    """
    lengths = np.array([part.shape[1] for part in data.weights])
    room = np.maximum(lengths - CROP + 1, 0)
    if not room.any():
        raise InputError(f"no recording of the corpus is {CROP / SYNC_FPS:g} s long; make a larger corpus")
    motion, audio = [], []
    for recording in rng.choice(len(room), count, p=room / room.sum()):
        start = int(rng.integers(room[recording]))
        span = max(CROP, int(rng.integers(*_CONTEXT)))
        low = max(0, start + CROP // 2 - span // 2)
        around = slice(low, min(low + span, int(lengths[recording])))
        face = int(rng.integers(len(data.weights[recording])))
        posed = rig.mouth(data.weights[recording][face, around], int(rng.integers(len(rig.basis))))
        mouth = posed + rng.normal(0.0, rng.uniform(0.0, _JITTER_MM) / 1000.0, posed.shape)
        heard = data.spectra[recording][around.start * MEL_PER_FRAME : around.stop * MEL_PER_FRAME]
        first = start - around.start
        motion.append(motion_features(mouth)[first : first + CROP])
        features = audio_features(vary(heard.astype(np.float32), rng))
        audio.append(features[first * MEL_PER_FRAME : (first + CROP) * MEL_PER_FRAME])
    return {"motion": torch.from_numpy(np.stack(motion)), "audio": torch.from_numpy(np.stack(audio))}


def vary(spectra: Float32, rng: np.random.Generator) -> Float32:
    """Another voice in another room: (N, 80) dB -> (N, 80) dB.

    Formants move by up to 15 % along the mel axis, a smooth colour and a noise floor of a random slope are
    added, and now and then a few bands are lost.
    """
    bands = np.arange(MEL_BANDS, dtype=np.float32)
    if rng.random() < 0.7:
        source = np.clip(bands * np.exp(rng.uniform(-0.15, 0.15)), 0, MEL_BANDS - 1)
        low = np.minimum(source.astype(int), MEL_BANDS - 2)
        share = (source - low).astype(np.float32)
        spectra = spectra[:, low] * (1 - share) + spectra[:, low + 1] * share
    if rng.random() < 0.7:
        knots = np.linspace(0, MEL_BANDS - 1, 6)
        spectra = spectra + np.interp(bands, knots, rng.normal(0.0, 5.0, 6)).astype(np.float32)
    if rng.random() < 0.6:
        level = np.percentile(spectra, 95) - rng.uniform(15.0, 55.0)
        floor = level + rng.uniform(-15.0, 15.0) * (bands / MEL_BANDS - 0.5)
        # Power of noise in a mel band scatters by about 5 dB from spectrum to spectrum.
        noise = floor + rng.normal(0.0, 4.0, spectra.shape)
        spectra = (
            10.0 * np.logaddexp(spectra * (np.log(10) / 10), noise * (np.log(10) / 10)) * (1 / np.log(10))
        )
    if rng.random() < 0.25:
        width = int(rng.integers(3, 16))
        first = int(rng.integers(MEL_BANDS - width))
        spectra = spectra.copy()
        spectra[:, first : first + width] = spectra.min()
    return spectra.astype(np.float32)


def duration(data: SyncData) -> float:
    """Minutes of sound."""
    return data.frames / SYNC_FPS / 60.0


__all__ = [
    "CROP",
    "MEL_RATE",
    "MouthRig",
    "SyncData",
    "build",
    "draw_style",
    "make_batch",
    "vary",
    "without_texts",
]
