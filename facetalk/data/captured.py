"""Corpora of captured faces on disk: sound beside the expression codes of one head.

A corpus is a folder with ``audio/*.flac`` (16 kHz mono), ``codes/*.safetensors`` (motions that begin and
end with their sound), ``manifest.jsonl`` with one :class:`Stretch` a line, and the :class:`CodeSpace` of the
codes in ``captures.json`` and ``space.safetensors``. ``facetalk fit --takes`` writes it, ``facetalk train
motion`` reads it. No phones are known of it, so that other trainings have no use for it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from facetalk.arrays import Float32, Float64
from facetalk.audio.load import load_audio
from facetalk.errors import InputError
from facetalk.motion import Motion
from facetalk.reading import MANIFEST, read_json, read_json_lines, usable
from facetalk.tensors import read_safetensors

__all__ = ["CodeSpace", "Stretch", "is_captured", "read_space", "read_stretches"]

SETTINGS, SPACE = "captures.json", "space.safetensors"
FORMAT, VERSION = "facetalk-captures", 1
_TEXTS = ("id", "audio", "codes", "voice", "licence", "split")


@dataclasses.dataclass(frozen=True)
class Stretch:
    """A piece of a recording in which the face is known in every frame; a line of the manifest.

    Attributes:
        id: unique name.
        audio: path of its sound.
        codes: path of its motion.
        voice: who speaks.
        licence: of the recording, as its owner put it.
        split: ``"train"`` or ``"valid"``.
    """

    id: str
    audio: Path
    codes: Path
    voice: str
    licence: str
    split: str

    def samples(self) -> Float32:
        """(N,) float32, 16 kHz mono."""
        return load_audio(self.audio)

    def motion(self) -> Motion:
        """Its codes."""
        return Motion.load(self.codes)


@dataclasses.dataclass(frozen=True)
class CodeSpace:
    """What the numbers of a code do to a face.

    Attributes:
        head: fingerprint of the head that the codes belong to, see :func:`facetalk.nphm.fingerprint`.
        names: of the E numbers, where each is a shape that has one; None for a learned space.
        metric: (E, E) mm², see :func:`facetalk.diffusion.representation.face_metric`, about the corpus's mean
            code.
        gap_mm: inner-lip gap of a code of zeros, linearised there.
        gap_per_unit_mm: (E,) its change.
    """

    head: str
    names: tuple[str, ...] | None
    metric: Float64
    gap_mm: float
    gap_per_unit_mm: Float64

    @property
    def size(self) -> int:
        """E."""
        return len(self.metric)


def is_captured(folder: str | Path) -> bool:
    """Whether a folder is a corpus of captures."""
    return (Path(folder) / SETTINGS).is_file()


def read_stretches(folder: str | Path, *, split: str | None = None) -> list[Stretch]:
    """The pieces of a corpus, or of one split of it.

    Raises:
        InputError: no such corpus, or a line of its manifest is damaged.
    """
    file = Path(folder) / MANIFEST
    if not is_captured(folder) or not file.is_file():
        raise InputError(f"{folder} is no corpus of captures; `facetalk fit --takes` makes one")
    found = []
    for number, fields in read_json_lines(file):
        texts = [value for value in fields.values() if isinstance(value, str) and value]
        if set(fields) != set(_TEXTS) or len(texts) != len(_TEXTS):
            raise InputError(f"{file}, line {number}: damaged; make the corpus again")
        places = {name: file.parent / fields[name] for name in ("audio", "codes")}
        stretch = Stretch(**{**fields, **places})
        if split is None or stretch.split == split:
            found.append(stretch)
    return found


def read_space(folder: str | Path) -> CodeSpace:
    """What the codes of a corpus do.

    Raises:
        InputError: no such corpus, or a damaged one.
    """
    path = Path(folder) / SETTINGS
    with usable(path, "make the corpus again"):
        told = read_json(path)
        if told.get("format") != FORMAT or told.get("version") != VERSION:
            raise InputError(f"{path} does not describe a corpus of captures of version {VERSION}")
        arrays = read_safetensors(path.parent / SPACE)
        names = None if told["names"] is None else tuple(str(name) for name in told["names"])
        metric, per_unit = arrays["metric"].astype(np.float64), arrays["gap_per_unit_mm"].astype(np.float64)
        size = len(metric)
        if metric.shape != (size, size) or per_unit.shape != (size,) or len(names or per_unit) != size:
            raise InputError(f"{path.parent / SPACE}: arrays that do not fit; make the corpus again")
        if not (np.isfinite(metric).all() and np.isfinite(per_unit).all()):
            raise InputError(f"{path.parent / SPACE}: numbers that are not finite; make the corpus again")
        return CodeSpace(str(told["head"]), names, metric, float(told["gap_mm"]), per_unit)
