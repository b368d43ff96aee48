"""Writing a corpus of captured faces where an earlier build of it may be.

What is there stays whole until the end: the files of a piece are named by a digest of what is in them, so
that no piece of one build is written over one of another. Then the manifest changes, and files that only the
old one named are removed, but no others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from facetalk.arrays import Float32
from facetalk.data.captured import FORMAT, SETTINGS, SPACE, VERSION, CodeSpace, Stretch, is_captured
from facetalk.errors import InputError
from facetalk.files import atomic_path, check_output_folder, output_error
from facetalk.interrupts import Uninterrupted
from facetalk.motion import SUFFIX, Motion
from facetalk.reading import MANIFEST
from facetalk.tensors import tensor_bytes
from facetalk.units import SAMPLE_RATE

__all__ = ["CorpusWriter"]

_AUDIO, _CODES = "audio", "codes"
_UNFINISHED = (
    "unfinished.jsonl"  # what a build that is not done has written, for the next one if it is killed
)


class CorpusWriter:
    """Writes a corpus piece by piece; a context that takes back what was written unless it was finished.

    Args:
        folder: of the corpus; made if missing.
        beside: names of what may lie in a folder that is no corpus yet.

    Raises:
        InputError: the folder cannot be made, or holds something else.

    Attributes:
        earlier: ids of the pieces of the build that is there.
    """

    def __init__(self, folder: Path, beside: Sequence[str] = ()) -> None:
        check_output_folder(folder)
        try:
            folder.mkdir(exist_ok=True)
            names = {entry.name for entry in folder.iterdir()}
        except OSError as error:
            raise InputError(f"cannot make the folder {folder}: {error.strerror}") from error
        if not is_captured(folder) and names - {_AUDIO, _CODES, SPACE, _UNFINISHED, *beside}:
            raise InputError(f"{folder} holds something else than a corpus of captures; choose another -o")
        self._folder = folder
        told = list(_lines(folder / MANIFEST))
        self.earlier = [fields["id"] for fields in told if isinstance(fields.get("id"), str)]
        self._named = {file for fields in told for file in _files(fields)}
        self._left = {file for fields in _lines(folder / _UNFINISHED) for file in _files(fields)}
        self._written: set[str] = set()

    def __enter__(self) -> CorpusWriter:
        """Nothing more."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what this build, the earlier one or a killed one wrote, unless the manifest names it."""
        with Uninterrupted():
            named = {file for fields in _lines(self._folder / MANIFEST) for file in _files(fields)}
            self._remove((self._written | self._left | (self._named if named else set())) - named, named)
            with contextlib.suppress(OSError):
                (self._folder / _UNFINISHED).unlink(missing_ok=True)

    def piece(self, name: str, samples: Float32, motion: Motion, *, voice: str, licence: str) -> Stretch:
        """Put sound (N,) at 16 kHz and codes of a piece into the folder; :meth:`finish` tells of it.

        Raises:
            InputError: the files cannot be written.
        """
        sound = io.BytesIO()
        peak = float(np.abs(samples).max(initial=1e-9))
        soundfile.write(sound, samples / max(1.0, peak * 1.01), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        digest = hashlib.sha256(sound.getbuffer())
        for part in (motion.expressions, motion.identity, np.float64(motion.fps)):
            digest.update(part.tobytes())
        file = f"{name.replace('/', '__')}.{digest.hexdigest()[:10]}"
        places = {"audio": f"{_AUDIO}/{file}.flac", "codes": f"{_CODES}/{file}{SUFFIX}"}
        audio, codes = (self._folder / place for place in places.values())
        try:
            for path in (audio, codes):
                path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write into {self._folder}: {error.strerror}") from error
        self._remember([places])
        self._written |= set(places.values())
        with atomic_path(audio) as temporary:
            temporary.write_bytes(sound.getbuffer())
        motion.save(codes)
        return Stretch(name, audio, codes, voice, licence, "train")

    def finish(self, stretches: Sequence[Stretch], space: CodeSpace, notes: dict[str, Any]) -> None:
        """Make the pieces the corpus, and remove the files of those of an earlier build.

        Args:
            stretches: what is in it.
            space: of the codes.
            notes: how it was made, JSON values, put into ``captures.json``.
        """
        told = {
            "format": FORMAT, "version": VERSION, "head": space.head,
            "names": None if space.names is None else list(space.names), "gap_mm": space.gap_mm, **notes,
        }  # fmt: skip
        arrays = {"metric": space.metric, "gap_per_unit_mm": space.gap_per_unit_mm}
        lines = []
        for stretch in stretches:
            fields = dataclasses.asdict(stretch)
            for name in ("audio", "codes"):
                fields[name] = fields[name].relative_to(self._folder).as_posix()
            lines.append(fields)
        # Whoever is killed below leaves the pieces of both builds to the next one.
        self._remember(list(_lines(self._folder / MANIFEST)))
        manifest = self._folder / MANIFEST
        beside = [self._folder / SPACE, self._folder / SETTINGS]
        with atomic_path(manifest, beside=beside) as temporary:
            space_file, settings_file = (temporary.with_name(temporary.stem + path.name) for path in beside)
            space_file.write_bytes(tensor_bytes(arrays, {}))
            settings_file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
            text = "".join(json.dumps(fields, ensure_ascii=False) + "\n" for fields in lines)
            temporary.write_text(text, encoding="utf-8")

    def _remember(self, pieces: Sequence[dict[str, Any]]) -> None:
        """List pieces as those of a build that is not done."""
        try:
            with (self._folder / _UNFINISHED).open("a", encoding="utf-8") as file:
                file.writelines(
                    json.dumps({k: fields.get(k) for k in ("audio", "codes")}) + "\n" for fields in pieces
                )
        except OSError as error:
            raise output_error(self._folder / _UNFINISHED, error) from error

    def _remove(self, files: set[str], kept: set[str]) -> None:
        # Where case does not tell files apart, a piece may be named anew and be the same file.
        same = {file.casefold() for file in kept}
        for file in files:
            if file.casefold() not in same:
                with contextlib.suppress(OSError):
                    (self._folder / file).unlink(missing_ok=True)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """JSON objects of a list, as far as it can be read."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                fields = json.loads(line)
                if isinstance(fields, dict):
                    yield fields


def _files(fields: dict[str, Any]) -> Iterator[str]:
    """Files of a piece that lie where a writer puts them: whatever else a list may name is not its own."""
    for name, folder, suffix in (("audio", _AUDIO, ".flac"), ("codes", _CODES, SUFFIX)):
        place = fields.get(name)
        if not isinstance(place, str) or "\0" in place or "\\" in place:
            continue
        parts = place.split("/")
        if len(parts) == 2 and parts[0] == folder and parts[1].endswith(suffix):
            yield place
