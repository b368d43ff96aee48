"""What a batch is given: a folder of recordings, or a manifest that names them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from facetalk.arguments import whole_number
from facetalk.errors import InputError
from facetalk.reading import MANIFEST, one_line, read_json_lines

_FORMAT = 'lines like {"audio": "a.wav"}, with "id" (name of the output) and "seed" if you like'
_LONGEST_NAME = 255 - len(".safetensors")
"""Bytes of a part of an output's name, of which file systems take 255 with the suffix."""

SUFFIXES = frozenset({
    ".wav", ".wave", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".spx", ".mp3", ".mp2", ".aif",
    ".aiff", ".aifc", ".au", ".snd", ".caf", ".m4a", ".m4b", ".aac", ".ac3", ".eac3", ".wma", ".amr", ".g722",
    ".gsm", ".ape", ".wv", ".tta", ".mka", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".wmv", ".flv",
    ".mpg", ".mpeg", ".ts", ".mts", ".3gp", ".ogv",
})  # fmt: skip
"""Names that a folder's recordings end in; a manifest may name any file."""


@dataclasses.dataclass(frozen=True)
class Recording:
    """One recording of a batch.

    Attributes:
        name: of its output, without suffix; "/" between folders.
        audio: path of the file, or an fsspec address (``s3://bucket/a.wav``).
        seed: noise seed, in place of the batch's.
    """

    name: str
    audio: str
    seed: int | None = None


def is_address(text: str) -> bool:
    """Whether a text is an fsspec address and not a path."""
    return "://" in text


def read_recordings(source: str | os.PathLike[str]) -> list[Recording]:
    """The recordings that a folder holds or a manifest names, in a fixed order.

    A folder with a ``manifest.jsonl`` is read by that, as everywhere in facetalk; any other is searched with
    the folders in it for files whose name ends as a recording's does. Paths in a manifest are relative to it.

    Raises:
        InputError: there is no such thing, a line cannot be used, there is no recording, or two would be
            written to the same place.
    """
    path = Path(source)
    if "\0" in str(path):
        raise InputError(f"no recordings at {str(path)!r}: that names no file")
    try:
        if path.is_dir() and not (path / MANIFEST).is_file():
            return _distinct(_found(path), path)
        file = path / MANIFEST if path.is_dir() else path
        if not file.is_file():
            raise InputError(f"no recordings at {path}; give a folder, or a .jsonl file with {_FORMAT}")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    if file.suffix.lower() in SUFFIXES:
        raise InputError(f"{file} is one recording; `facetalk generate` takes it, a batch takes its folder")
    return _distinct(_named(file), file)


def _found(folder: Path) -> Iterator[Recording]:
    """Every recording in a folder and those below it; links to folders are not followed."""

    def fail(error: OSError) -> None:
        raise InputError(f"{error.filename}: {error.strerror or error}") from error

    for where, folders, files in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            file = Path(where, name)
            if not name.startswith(".") and file.suffix.lower() in SUFFIXES:
                yield Recording(_checked(file.relative_to(folder).with_suffix("").as_posix()), str(file))


def _named(manifest: Path) -> Iterator[Recording]:
    for number, fields in read_json_lines(manifest):
        try:
            yield _recording(fields, manifest.parent)
        except KeyError as error:
            raise InputError(f"{manifest}, line {number}: no {error}; give {_FORMAT}") from error
        except (ValueError, TypeError) as error:
            raise InputError(f"{manifest}, line {number}: {one_line(error)}; give {_FORMAT}") from error


def _recording(fields: dict[str, Any], folder: Path) -> Recording:
    audio = fields["audio"]
    if not isinstance(audio, str) or not audio or "\0" in audio:
        raise ValueError(f"audio is no path: {str(audio)[:40]!r}")
    name = fields.get("id")
    if name is None:
        relative = PurePosixPath(audio).with_suffix("")
        # What lies elsewhere keeps its own name alone.
        outside = is_address(audio) or relative.is_absolute() or ".." in relative.parts
        name = relative.name if outside else relative.as_posix()
    elif not isinstance(name, str | int) or isinstance(name, bool):
        raise ValueError(f"id is no name: {str(name)[:40]!r}")
    seed = fields.get("seed")
    if seed is not None and not 0 <= whole_number("seed", seed) < 2**64:
        raise ValueError(f"seed must be a whole number in 0..2**64-1, got {seed}")
    place = audio if is_address(audio) else str(folder / audio)
    return Recording(_checked(str(name)), place, seed)


def _checked(name: str) -> str:
    """The name of an output, if it is one that stays inside the output's folder."""
    for part in name.split("/"):
        long = len(os.fsencode(part)) > _LONGEST_NAME
        if part in ("", ".", "..") or "\0" in part or long:
            told = name if len(name) <= 60 else name[:57] + "..."
            raise InputError(f"{told!r} cannot be the name of an output; name it by an id in a manifest")
    return name


def _distinct(recordings: Iterable[Recording], source: Path) -> list[Recording]:
    seen: dict[str, Recording] = {}
    for recording in recordings:
        other = seen.setdefault(recording.name, recording)
        if other is not recording:
            raise InputError(
                f"{source}: {other.audio} and {recording.audio} would both be written to {recording.name}; "
                f"tell them apart by ids in a manifest"
            )
    if not seen:
        raise InputError(
            f"{source} has no recordings; give a folder of them, or a .jsonl file with {_FORMAT}"
        )
    return list(seen.values())
