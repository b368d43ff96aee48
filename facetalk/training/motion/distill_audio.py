"""Audio features to distil on: any recordings do, since the teacher says what the face should do.

Recordings are joined to sessions of half a minute with pauses, once as they are and once more per further
variant with another rate, level, microphone, room and noise, and encoded once; the features are kept on disk.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facetalk.audio.load import load_audio
from facetalk.data.speech.corpus import Utterance, read_manifest
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.reading import MANIFEST
from facetalk.training.motion.dataset import Encoder, sessions
from facetalk.units import SAMPLE_RATE

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac", ".g722", ".aif", ".aiff")
_HELD_OUT_SHARE = 0.05

Features = list[NDArray[np.float16]]
"""Per session (T, A)."""


def recordings(source: Path, split: str) -> list[Utterance]:
    """The recordings of one split.

    Args:
        source: a corpus (its manifest says the split: by voice) or any folder, which is searched in depth;
            there every twentieth file, by a hash of its path, is held out.
        split: "train" or "valid".

    Raises:
        InputError: there is nothing to hear, or nothing in this split.
    """
    if (source / MANIFEST).is_file() or source.is_file():
        found = read_manifest(source, split=split)
    elif source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
        if len(files) < 2:
            raise InputError(
                f"{source}: found {len(files)} recordings ({', '.join(SUFFIXES)}); needs at least two"
            )
        order = sorted(
            files, key=lambda path: hashlib.sha256(str(path.relative_to(source)).encode()).digest()
        )
        held = order[: max(1, round(_HELD_OUT_SHARE * len(order)))]
        chosen = held if split == "valid" else order[len(held) :]
        found = [_unspoken(path, path.relative_to(source).as_posix(), split) for path in sorted(chosen)]
    else:
        raise InputError(f"{source}: no such folder of recordings or corpus")
    if not found:
        raise InputError(f"{source}: no recording in the split {split!r}; add some")
    return found


def _unspoken(path: Path, name: str, split: str) -> Utterance:
    """A recording of which nothing is known."""
    return Utterance(name, path, "", "", "", "", "", split, [], "ipa")


def features(
    source: Path,
    encoder: Encoder,
    cache: Path,
    *,
    fps: float,
    variants: int,
    seed: int,
    split: str = "train",
) -> Features:
    """Encode recordings, or read what an earlier run encoded.

    Args:
        source: corpus or folder of recordings, see :func:`recordings`.
        encoder: the audio encoder of the model.
        cache: folder for the arrays, one file per variant; made if missing.
        fps: frame rate of the motion.
        variants: passes over the recordings; all but the first vary the sound.
        seed: seed of order, pauses and variation.
        split: "train" or "valid".

    Raises:
        InputError: there are no recordings.
    """
    chosen = recordings(source, split)
    cache.mkdir(parents=True, exist_ok=True)
    out: Features = []
    for variant in range(variants):
        file = cache / f"{split}{variant}-{_key(chosen, encoder, fps, seed, variant)}.npz"
        if not file.is_file():
            _encode(chosen, encoder, file, fps, np.random.default_rng((seed, variant)), augment=variant > 0)
        with np.load(file, allow_pickle=False) as archive:
            out += np.split(archive["features"], np.cumsum(archive["lengths"])[:-1])
    return out


def _encode(
    chosen: Sequence[Utterance],
    encoder: Encoder,
    file: Path,
    fps: float,
    rng: np.random.Generator,
    *,
    augment: bool,
) -> None:
    heard: Features = []
    # The alphabet sorts the utterances of a corpus into groups, which means nothing here.
    plain = [_unspoken(u.audio, u.id, u.split) for u in chosen]
    bar = tqdm(desc=f"hearing {file.stem}", unit="s", disable=not sys.stderr.isatty(), mininterval=1.0)
    with bar:
        for session in sessions(plain, rng, augment=augment):
            heard.append(np.asarray(encoder.features(session.samples, fps=fps)).astype(np.float16))
            bar.update(round(len(session.samples) / SAMPLE_RATE))
    with atomic_path(file) as temporary:
        np.savez(temporary, lengths=[len(part) for part in heard], features=np.concatenate(heard))


def _key(chosen: Sequence[Utterance], encoder: Encoder, *settings: object) -> str:
    """A name that changes with the recordings, the encoder's weights and the settings."""
    digest = hashlib.sha256(json.dumps([[u.id, u.audio.stat().st_size] for u in chosen]).encode())
    probe = np.random.default_rng(0).normal(0.0, 0.1, SAMPLE_RATE).astype(np.float32)
    digest.update(np.asarray(encoder.features(probe, fps=25.0)).round(2).tobytes())
    digest.update(repr(settings).encode())
    return digest.hexdigest()[:12]


def check_audible(source: Path) -> None:
    """Read one recording of each split, so that a wrong folder is told of before anything long.

    Raises:
        InputError: there are none, or the first cannot be read.
    """
    for split in ("train", "valid"):
        load_audio(recordings(source, split)[0].audio)
