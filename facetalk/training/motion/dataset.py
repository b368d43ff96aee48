"""Training data of the motion model: audio features beside blendshape weights, cached on disk.

Utterances are joined to sessions of about half a minute with pauses between them, so that a crop can lie
anywhere: within a sentence, across its start or end, or in silence. Each pass over the corpus gives one
*variant*: another order, other pauses, and (but for the first) other rates, levels, rooms and noise. Features
are encoded once per variant and kept as float16; the faces of a session are drawn several times, with another
style and other blinks, brows and gazes, because one recording goes with many faces.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facetalk.arrays import Float32
from facetalk.data.phones import Phone
from facetalk.data.speech.corpus import Utterance
from facetalk.data.visemes import curves
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.reading import read_arrays, usable
from facetalk.training.audio.augment import change_speed, spoil
from facetalk.training.processes import in_processes
from facetalk.units import SAMPLE_RATE, frame_count

_SESSION_S, SHORT_S = 30.0, 4.0
_PAUSE_S, _SHORT_PAUSE_S = (0.15, 1.5), (0.0, 0.5)
"""Before each utterance, and before the first of a short session: files are cut close to what is said."""
_TOGETHER = 60
"""Utterances that sessions are drawn from at a time: what one process does at once."""


class Encoder(Protocol):
    """What of :class:`facetalk.audio.AudioEncoder` is needed here."""

    def features(self, samples: Float32, *, fps: float) -> object:
        """(N,) 16 kHz -> (T, A) tensor."""


@dataclasses.dataclass
class Session:
    """Joined utterances.

    Attributes:
        samples: (N,) 16 kHz mono.
        phones: (symbol, start_s, end_s).
        alphabet: of the phones.
    """

    samples: Float32
    phones: list[Phone]
    alphabet: str


@dataclasses.dataclass
class MotionData:
    """Sessions as arrays.

    Attributes:
        features: per session (T, A) float16.
        weights: per session (D, T, E) float16, D draws of the face.
    """

    features: list[NDArray[np.float16]]
    weights: list[NDArray[np.float16]]

    @property
    def frames(self) -> int:
        """Frames of audio features."""
        return sum(len(part) for part in self.features)

    @classmethod
    def joined(cls, parts: Iterable[MotionData]) -> MotionData:
        """The sessions of several."""
        out = cls([], [])
        for part in parts:
            out.features += part.features
            out.weights += part.weights
        return out

    def read(self, file: Path) -> None:
        """Add the sessions of a file that :func:`store` wrote."""
        with usable(file, "remove it, and it is made again"):
            archive = read_arrays(file)
            cuts = np.cumsum(archive["lengths"])[:-1]
            self.features += np.split(archive["features"], cuts)
            self.weights += np.split(archive["weights"], cuts, axis=1)

    def crop(self, rng: np.random.Generator, length: int) -> tuple[Float32, Float32]:
        """A random stretch: features (length, A) and weights (length, E).

        Raises:
            InputError: no session is that long.
        """
        lengths = np.array([len(part) for part in self.features])
        room = np.maximum(lengths - length + 1, 0)
        if not room.any():
            raise too_short(length, int(lengths.max(initial=0)))
        session = int(rng.choice(len(room), p=room / room.sum()))
        start = int(rng.integers(room[session]))
        draw = int(rng.integers(len(self.weights[session])))
        stop = start + length
        return (
            self.features[session][start:stop].astype(np.float32),
            self.weights[session][draw, start:stop].astype(np.float32),
        )


def too_short(crop: int, longest: int) -> InputError:
    """What is said where no recording is as long as a crop; both in frames."""
    return InputError(
        f"no recording is as long as a crop of {crop} frames, the longest has {longest}; "
        "give a smaller --crop"
    )


def sessions(
    utterances: Sequence[Utterance], rng: np.random.Generator, *, augment: bool, short: bool = False
) -> Iterator[Session]:
    """Join utterances in random order, with pauses of 0.15 to 1.5 s.

    Args:
        utterances: at least one.
        rng: source of order, pauses and augmentation.
        augment: vary rate, level, colour, room and noise.
        short: sessions as long as a sentence or two that begin like a file, with at most half a second of
            silence, for what is particular to the beginning of a recording.
    """
    enough = (SHORT_S if short else _SESSION_S) * SAMPLE_RATE
    for alphabet in sorted({u.alphabet for u in utterances}):
        group = [u for u in utterances if u.alphabet == alphabet]
        parts: list[Float32] = []
        phones: list[Phone] = []
        clock = 0
        for position in rng.permutation(len(group)):
            bounds = _SHORT_PAUSE_S if short and not parts else _PAUSE_S
            pause = np.zeros(int(rng.uniform(*bounds) * SAMPLE_RATE), np.float32)
            samples, spoken = _varied(group[position], rng) if augment else _plain(group[position])
            offset = (clock + len(pause)) / SAMPLE_RATE
            phones += [(s, a + offset, b + offset) for s, a, b in spoken]
            parts += [pause, samples]
            clock += len(pause) + len(samples)
            if clock > enough:
                yield _finish(parts, phones, alphabet, rng, augment)
                parts, phones, clock = [], [], 0
        if parts:
            yield _finish(parts, phones, alphabet, rng, augment)


def build(
    utterances: Sequence[Utterance],
    encoder: Encoder,
    cache: Path,
    *,
    fps: float,
    variants: int,
    draws: int,
    seed: int,
    augment: bool = True,
    share: float = 1.0,
    short: bool = False,
    workers: int = 0,
    keep_going: Callable[[], bool] = lambda: True,
) -> MotionData:
    """Encode a corpus, or read what an earlier run encoded.

    Args:
        utterances: the corpus, or a split of it.
        encoder: the frozen audio encoder.
        cache: folder for the arrays, one file per variant; made if missing.
        fps: motion frame rate.
        variants: passes over the corpus.
        draws: faces per session.
        seed: seed of everything random here.
        augment: vary the sound of all variants but the first.
        share: how much of the corpus each variant takes, at random.
        short: short sessions, see :func:`sessions`.
        workers: processes that encode at the same time, 0 = this one; the result is the same.
        keep_going: asked before each variant but the first; False stops early.

    Raises:
        InputError: there are no utterances.
    """
    if not utterances:
        raise InputError("the corpus has no utterances for this split; make one with `facetalk data speech`")
    cache.mkdir(parents=True, exist_ok=True)
    data = MotionData([], [])
    for variant in range(variants):
        # Only where it matters, so that what is cached from before keeps its name.
        name = _key(
            utterances, encoder, fps, draws, seed, variant, augment, share, *(["short"] if short else [])
        )
        file = cache / f"variant{variant}-{name}.npz"
        if not file.is_file():
            if variant and not keep_going():
                break
            rng = np.random.default_rng((seed, variant))
            noisy = augment and variant > 0
            chosen = rng.permutation(len(utterances))[: max(1, round(share * len(utterances)))]
            part = [utterances[i] for i in chosen]
            work = functools.partial(
                _encode, encoder, fps=fps, draws=draws, seeds=(seed, variant), augment=noisy, short=short
            )
            _encode_all(part, work, file, workers)
        data.read(file)
    return data


Part = tuple[list[NDArray[np.float16]], list[NDArray[np.float16]]]
"""Features and weights of sessions."""


def _encode_all(
    utterances: Sequence[Utterance],
    work: Callable[[tuple[int, list[Utterance]]], Part],
    file: Path,
    workers: int,
) -> None:
    """Encode a variant, piece by piece, and write it."""
    pieces = [list(utterances[first : first + _TOGETHER]) for first in range(0, len(utterances), _TOGETHER)]
    features: list[NDArray[np.float16]] = []
    weights: list[NDArray[np.float16]] = []
    total = sum(u.seconds for u in utterances)
    bar = tqdm(total=round(total), desc=file.stem, unit="s", disable=not sys.stderr.isatty(), mininterval=1.0)
    with bar:
        for piece, (heard, faces) in zip(pieces, in_processes(work, enumerate(pieces), workers), strict=True):
            features += heard
            weights += faces
            bar.update(round(sum(u.seconds for u in piece)))
    store(file, features, weights)


def _encode(
    encoder: Encoder,
    piece: tuple[int, list[Utterance]],
    *,
    fps: float,
    draws: int,
    seeds: tuple[int, ...],
    augment: bool,
    short: bool,
) -> Part:
    """Sessions of some utterances, encoded; what is random follows from the seeds and the piece's number."""
    number, utterances = piece
    rng = np.random.default_rng((*seeds, number))
    features, weights = [], []
    for session in sessions(utterances, rng, augment=augment, short=short):
        duration = frame_count(len(session.samples), fps) / fps
        faces = []
        for _ in range(draws):
            faces.append(curves(session.phones, duration, fps, alphabet=session.alphabet, rng=rng))
        weights.append(np.stack(faces).astype(np.float16))
        heard = np.asarray(encoder.features(session.samples, fps=fps))
        features.append(heard.astype(np.float16))
    return features, weights


def store(file: Path, features: list[NDArray[np.float16]], weights: list[NDArray[np.float16]]) -> None:
    """Write sessions, see :class:`MotionData`, as one file."""
    lengths = np.array([len(part) for part in features])
    with atomic_path(file) as temporary:
        np.savez(
            temporary,
            lengths=lengths,
            features=np.concatenate(features),
            weights=np.concatenate(weights, axis=1),
        )


def _key(utterances: Sequence[Utterance], encoder: Encoder, *settings: object) -> str:
    """A name for the cache that changes with the corpus, the encoder's weights and the settings."""
    return cache_key([[u.id, u.phones] for u in utterances], encoder, *settings)


def cache_key(content: object, encoder: Encoder, *settings: object) -> str:
    """The same of anything that JSON has for a corpus's content."""
    digest = hashlib.sha256(json.dumps(content).encode())
    probe = np.random.default_rng(0).normal(0.0, 0.1, SAMPLE_RATE).astype(np.float32)
    digest.update(np.asarray(encoder.features(probe, fps=25.0)).round(2).tobytes())
    digest.update(repr(settings).encode())
    return digest.hexdigest()[:12]


def _plain(utterance: Utterance) -> tuple[Float32, list[Phone]]:
    return utterance.samples(), utterance.phones


def _varied(utterance: Utterance, rng: np.random.Generator) -> tuple[Float32, list[Phone]]:
    """Another rate and pitch (by resampling, so the phone times scale) and level."""
    rate = float(rng.uniform(0.87, 1.15))
    samples = change_speed(utterance.samples(), rate)
    samples = samples * np.float32(10.0 ** rng.uniform(-0.4, 0.0))
    return samples, [(s, a / rate, b / rate) for s, a, b in utterance.phones]


def _finish(
    parts: list[Float32], phones: list[Phone], alphabet: str, rng: np.random.Generator, augment: bool
) -> Session:
    """Join the parts; another microphone, room and noise, or the faint noise that all recordings have."""
    samples: Float32 = np.concatenate(parts)
    if augment:
        samples = spoil(samples, rng) * np.float32(0.1)
    else:
        level = float(np.sqrt(np.mean(samples**2)) + 1e-6)
        samples = samples + rng.normal(0.0, 2e-3 * level, len(samples)).astype(np.float32)
    return Session(np.clip(samples, -1.0, 1.0).astype(np.float32), phones, alphabet)
