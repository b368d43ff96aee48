"""What another encoder makes of a corpus, for ours to learn from: ``facetalk train audio --teacher``.

Whisper tiny.en's encoder (Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022;
MIT) heard 680,000 hours of anybody; what it makes of voices that ours never met tells more of their lips than
ours does (``python -m experiments.teachers``). It looks at 30 s at once, so for live sound it is a teacher
and no encoder to run (for recordings it is one: :mod:`facetalk.audio.whisper_encoder`). Its features of every
recording are computed once and lie beside the corpus, reduced to their principal components. Recordings of
several folders share the components, which are kept in each of the folders.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from facetalk.arrays import Float32
from facetalk.audio.whisper import RATE, Whisper
from facetalk.audio.whisper_encoder import LAYERS
from facetalk.data.speech.corpus import Utterance
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.reading import usable
from facetalk.units import SAMPLE_RATE

FOLDER, _BASIS, _ABOUT = "teachers", "basis.npz", "about.json"
COMPONENTS = 96
_FOR_BASIS = 150
_AT_ONCE = 64
_PIECE = 25 * SAMPLE_RATE
_EVEN = 0.5
"""Exponent of a component's deviation that is divided out: 1 gives all of them the same say, and the last are
noise; 0 leaves it to the first, which tell speech from silence."""
_AGAIN = "run `facetalk train audio --teacher` again"


def taught_file(utterance: Utterance) -> Path:
    """Where what the teacher makes of a recording lies."""
    return utterance.audio.parent.parent / FOLDER / f"{utterance.audio.stem}.npy"


def read_taught(utterance: Utterance) -> npt.NDArray[np.float16] | None:
    """(T, :data:`COMPONENTS`) at :data:`RATE` Hz; None if no teacher has heard it.

    Raises:
        InputError: a damaged file.
    """
    file = taught_file(utterance)
    if not file.exists():
        return None
    with usable(file, f"delete it and {_AGAIN}"):
        values = np.asarray(np.load(file, allow_pickle=False), np.float16)
        if values.ndim != 2 or values.shape[1] != COMPONENTS or not len(values):
            raise ValueError(f"{values.shape}, not what a teacher of {COMPONENTS} components makes")
        return values


def teach(
    utterances: Sequence[Utterance], weights: Path | None = None, device: str | torch.device = "cpu"
) -> int:
    """Have the teacher hear what it has not heard yet.

    Args:
        utterances: recordings of one corpus or several.
        weights: Whisper's, where the package is not installed.
        device: where it runs.

    Returns:
        How many it heard.

    Raises:
        InputError: a damaged file, no weights, or folders of which one tells components that another does
            not have.
    """
    folders = sorted({taught_file(u).parent for u in utterances})
    components = _shared(folders)
    waiting = [u for u in utterances if not taught_file(u).exists()]
    if not waiting:
        return 0
    whisper = Whisper(weights, device)
    if components is None:
        components = principal_components(utterances, whisper)
    told = {"teacher": whisper.name, "layers": LAYERS, "components": COMPONENTS, "rate": RATE}
    for folder in folders:
        _keep(folder, components, told)
    mean, basis = (torch.from_numpy(array).to(whisper.device) for array in components)
    progress = tqdm(total=len(waiting), desc="Whisper listens", unit="file", disable=not sys.stderr.isatty())
    for start in range(0, len(waiting), _AT_ONCE):
        some = waiting[start : start + _AT_ONCE]
        for utterance, heard in zip(some, _heard(whisper, some), strict=True):
            values = ((heard - mean) @ basis).cpu().numpy().astype(np.float16)
            with atomic_path(taught_file(utterance)) as temporary, temporary.open("wb") as out:
                np.save(out, values)
        progress.update(len(some))
    progress.close()
    return len(waiting)


def _heard(whisper: Whisper, utterances: Sequence[Utterance]) -> list[Tensor]:
    """For each (T, A) of the layers that teach; what follows the window's end is heard by itself."""
    out: list[Tensor] = []
    for start in range(0, len(utterances), _AT_ONCE):
        pieces: list[list[Float32]] = []
        for utterance in utterances[start : start + _AT_ONCE]:
            samples = utterance.samples()
            pieces.append([samples[k : k + _PIECE] for k in range(0, max(1, len(samples)), _PIECE)])
        states = iter(whisper([piece for parts in pieces for piece in parts]))
        for parts in pieces:
            told = [torch.cat([s[k] for k in LAYERS], 1) for s in (next(states) for _ in parts)]
            out.append(torch.cat(told))
    return out


def _shared(folders: Sequence[Path]) -> tuple[Float32, Float32] | None:
    """(A,) mean and (A, components) principal components that folders of heard recordings have; None of new
    ones.

    Raises:
        InputError: they have not the same ones, or one has lost its own.
    """
    found = {folder: _read_basis(folder / _BASIS) for folder in folders if (folder / _BASIS).exists()}
    first = next(iter(found), None)
    for folder in folders:
        if first is not None and folder in found:
            if not all(map(np.array_equal, found[first], found[folder])):
                raise InputError(
                    f"{first} and {folder} hold what a teacher made of recordings by different components; "
                    f"delete one of the two folders and {_AGAIN}"
                )
        elif next(folder.glob("*.npy"), None) is not None:
            copy = "" if first is None else f"if one run made both, copy {first / _BASIS} there; otherwise "
            raise InputError(
                f"{folder} holds what a teacher made of recordings, but no {_BASIS} that tells its "
                f"components; {copy}delete the folder and {_AGAIN}"
            )
    return None if first is None else found[first]


def principal_components(utterances: Sequence[Utterance], whisper: Whisper) -> tuple[Float32, Float32]:
    """(A,) mean and (A, components) principal components of some recordings.

    Those are of voices that are trained on, so that the others stay unheard.
    """
    heard = [u for u in utterances if u.split == "train"] or utterances
    some = heard[:: max(1, len(heard) // _FOR_BASIS)]
    frames = torch.cat(_heard(whisper, some)).double()
    mean, deviation = frames.mean(0), frames.std(0)
    standard = (frames - mean) / deviation
    values, vectors = torch.linalg.eigh(standard.T @ standard / len(frames))
    values, vectors = values.flip(0)[:COMPONENTS], vectors.flip(1)[:, :COMPONENTS]
    scaled = vectors / deviation[:, None] / values ** (0.5 * _EVEN)
    # The mean square of what is to be told is 1.
    scaled = scaled / float((values ** (1.0 - _EVEN)).mean().sqrt())
    return mean.float().cpu().numpy(), scaled.float().cpu().numpy()


def _read_basis(file: Path) -> tuple[Float32, Float32]:
    with usable(file, f"delete the folder and {_AGAIN}"), np.load(file, allow_pickle=False) as arrays:
        mean, basis = (np.asarray(arrays[name], np.float32) for name in ("mean", "basis"))
        if mean.ndim != 1 or basis.shape != (len(mean), COMPONENTS):
            raise ValueError(f"{mean.shape} and {basis.shape}")
        return mean, basis


def _keep(folder: Path, components: tuple[Float32, Float32], told: dict[str, object]) -> None:
    """Write what a folder's recordings are told by, where it is not there yet."""
    folder.mkdir(exist_ok=True)
    if not (folder / _BASIS).exists():
        with atomic_path(folder / _BASIS) as temporary, temporary.open("wb") as out:
            np.savez(out, mean=components[0], basis=components[1])
    with atomic_path(folder / _ABOUT) as temporary:
        temporary.write_text(json.dumps(told) + "\n")
