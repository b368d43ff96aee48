"""Motions that another system made of the recordings of a manifest."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from facetalk.arrays import Float32
from facetalk.audio.load import AudioReader, load_audio
from facetalk.data import curve_files
from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.errors import InputError
from facetalk.metrics.manifest import Spoken
from facetalk.motion import SUFFIX, Motion
from facetalk.units import DEFAULT_FPS, SAMPLE_RATE

__all__ = ["SUFFIXES", "TOLERANCE_FRAMES", "GivenMotions"]

SUFFIXES = (SUFFIX, *curve_files.SUFFIXES)
"""Files that are read as a motion."""
TOLERANCE_FRAMES = 2
"""A motion may be longer or shorter than its recording by so many frames, of the lower of both rates."""
_FEW = 5


class GivenMotions:
    """Motions in files that are called like the recordings.

    ``FOLDER/NAME.safetensors``, ``.csv`` or ``.json``, NAME being the recording's path in the manifest or its
    file's name alone, without the suffix. Where the folder has none of them, each of its folders that has
    some is one seed, and has all.

    Args:
        folder: of the files.
        fps: frames per second that all motions are brought to.

    Attributes:
        folder: of the files.
        seeds: motions of each recording, once :meth:`find` has found them.
        missing: expressions, in the order of ``EXPRESSION_NAMES``, that some file has no curve for: 0 there.

    Raises:
        InputError: there is no such folder.
    """

    def __init__(self, folder: Path, *, fps: float = DEFAULT_FPS) -> None:
        if not folder.is_dir():
            raise InputError(f"no folder of motions at {folder}")
        self.folder, self.fps = folder, fps
        self.seeds = 0
        self.missing: tuple[str, ...] = ()
        self._files: dict[Path, list[Path]] = {}

    def find(self, items: Sequence[Spoken], every: Sequence[Spoken]) -> None:
        """Find the motions of recordings and read each once, so that a bad one is told before the work.

        Args:
            items: recordings whose motions are needed.
            every: all recordings of the manifest; a file's name alone tells those that share it not apart.

        Raises:
            InputError: a recording has no motion or two in one folder, one cannot be used (named), or a
                motion would be that of two recordings.
        """
        recordings: dict[str, set[Path]] = {}
        for item in every:
            recordings.setdefault(item.audio.stem, set()).add(item.audio)
        _check_apart(items, every)
        places = {item.audio: _places(item, alone=len(recordings[item.audio.stem]) == 1) for item in items}
        folders = [self.folder]
        if not any(_file(self.folder, names) for names in places.values()):
            inner = sorted(entry for entry in self.folder.iterdir() if entry.is_dir())
            folders = [one for one in inner if any(_file(one, names) for names in places.values())] or folders
        for folder in folders:
            found = {audio: _file(folder, names) for audio, names in places.items()}
            lost = [
                names[0] if names else str(audio) for audio, names in places.items() if found[audio] is None
            ]
            if lost:
                more = ", ..." if len(lost) > _FEW else ""
                raise InputError(
                    f"{folder} has no motion ({', '.join(SUFFIXES)}) of {len(lost)} of {len(places)} "
                    f"recordings: {', '.join(lost[:_FEW])}{more}"
                )
            for audio, file in found.items():
                if file is not None:
                    self._files.setdefault(audio, []).append(file)
        self.seeds = len(folders)
        self._check()

    def motions(self, item: Spoken) -> list[Motion]:
        """The motions of a recording, one of each seed, all as long as it is, on the default identity.

        Raises:
            InputError: a file cannot be used.
        """
        seconds = _duration(item.audio)
        return [self._read(file, item.audio, seconds)[0] for file in self._files[item.audio]]

    def _check(self) -> None:
        missing: set[str] = set()
        for audio, files in self._files.items():
            seconds = _duration(audio)
            for file in files:
                missing.update(self._read(file, audio, seconds)[1])
        self.missing = tuple(name for name in EXPRESSION_NAMES if name in missing)
        if self.missing:
            print(
                f"not in all motions of {self.folder}, and 0 there: {', '.join(self.missing)}",
                file=sys.stderr,
            )

    def _read(self, file: Path, audio: Path, seconds: float) -> tuple[Motion, tuple[str, ...]]:
        """A motion as long as its recording, and the expressions that the file has nothing for."""
        missing: tuple[str, ...] = ()
        if file.suffix.lower() == SUFFIX:
            motion = Motion.load(file)
            if motion.expressions.shape[1] != len(EXPRESSION_NAMES):
                raise InputError(
                    f"{file} has {motion.expressions.shape[1]} values a frame, figures are of "
                    f"{len(EXPRESSION_NAMES)} expressions by their names; give it as curves, .csv or .json"
                )
            before, after = motion.pad
            begins, lasts = before, motion.seconds - before - after
        else:
            curves = curve_files.read_curve_file(file)
            codes, missing = curves.codes()
            motion = Motion(codes, curves.fps)
            # A row stands for the moment at which a motion's frame begins.
            begins, lasts = 0.5 / curves.fps, motion.duration
        if not len(motion):
            raise InputError(f"{file} has no frames")
        if abs(lasts - seconds) > TOLERANCE_FRAMES / min(motion.fps, self.fps) + 1e-6:
            raise InputError(
                f"{file} has {len(motion)} frames of {motion.fps:g} a second, {lasts:.2f} s, but its "
                f"recording {audio} lasts {seconds:.2f} s; they may differ by {TOLERANCE_FRAMES} frames"
            )
        return Motion(_frames(motion, begins, max(1, round(seconds * self.fps)), self.fps), self.fps), missing


def _frames(motion: Motion, begins: float, count: int, fps: float) -> Float32:
    """(count, E) codes of the frames of a recording that begins ``begins`` seconds after its motion."""
    if not begins and motion.fps == fps:
        return motion.expressions[np.minimum(np.arange(count), len(motion) - 1)]
    return motion.at((np.arange(count) + 0.5) / fps + begins, fps=fps)


def _places(item: Spoken, *, alone: bool) -> list[str]:
    """Names, without suffix, that a motion of the recording may have; ``alone``: its file's name tells it."""
    path = PurePosixPath(item.name or item.audio.name)
    told = path.parent / path.stem
    outside = told.is_absolute() or ".." in told.parts
    return list(dict.fromkeys([*([] if outside else [told.as_posix()]), *([told.name] if alone else [])]))


def _check_apart(items: Sequence[Spoken], every: Sequence[Spoken]) -> None:
    """Refuse recordings that one motion would stand for.

    Raises:
        InputError: one of ``items`` and another of ``every`` have the same path but for the suffix.
    """
    wanted = {item.audio for item in items}
    owners: dict[str, Path] = {}
    for item in every:
        for name in _places(item, alone=False):
            pair = {owners.setdefault(name, item.audio), item.audio}
            if len(pair) > 1 and pair & wanted:
                one, other = sorted(map(str, pair))
                raise InputError(
                    f"{one} and {other} have one name but for their suffixes, which motions are not told "
                    "apart by; rename one of them, or leave it out of the manifest"
                )


def _file(folder: Path, names: Sequence[str]) -> Path | None:
    """The motion in a folder that has the first of the names that there is.

    Raises:
        InputError: there are two.
    """
    for name in names:
        files = [file for suffix in SUFFIXES if (file := folder / f"{name}{suffix}").is_file()]
        if len(files) > 1:
            raise InputError(
                f"{files[0]} and {files[1].name} are of the same recording; leave one of them there"
            )
        if files:
            return files[0]
    return None


def _duration(audio: Path) -> float:
    """Seconds of a recording."""
    told = AudioReader(audio).duration
    return len(load_audio(audio)) / SAMPLE_RATE if told is None else told
