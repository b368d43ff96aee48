"""The output manifest of a batch: what was made of which recording, with checksums.

``batch.jsonl`` has a line that says what was done, then one for every recording that is finished. In a folder
a line is added as soon as an output is in its place; at an address, where nothing can be added to a file, the
whole is written again every few seconds. The last line of a recording counts.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import IO, Any

from facetalk.batch.listing import Recording, is_address
from facetalk.batch.place import Place
from facetalk.errors import InputError
from facetalk.files import output_error

LEDGER = "batch.jsonl"
_FORMAT = "facetalk-batch"
_EVERY_S = 5.0
"""Seconds between two writings at an address: what a driver that is killed there loses at most."""

Row = dict[str, Any]


class Ledger:
    """The rows of a batch, read from what an earlier run left.

    Args:
        place: where the outputs are.
        settings: what the outputs depend on.
        force: begin again where something else lies.

    Attributes:
        rows: the last row of every recording, by its name.

    Raises:
        InputError: the place holds outputs of other settings, or something that facetalk did not write.
    """

    def __init__(self, place: Place, settings: dict[str, Any], *, force: bool = False) -> None:
        self.rows: dict[str, Row] = {}
        self._place, self._head = place, {"format": _FORMAT, "version": 1, **settings}
        self._file: IO[str] | None = None
        self._written = time.monotonic()
        text = place.read(LEDGER)
        if text is None:
            if not force and not place.is_empty():
                raise InputError(
                    f"{place.address} holds files and no {LEDGER}: no batch wrote it; choose another -o, or "
                    f"write into it with --force (force=True)"
                )
            return
        lines = [_object(line) for line in text.split(b"\n")]
        head = lines[0] or {}
        rows = {str(row["id"]): row for row in lines[1:] if row and _is_whole(row)}
        if rows and not force:
            self._check(head, settings)
        if {**head} == self._head:
            self.rows = rows

    def _check(self, head: Row, settings: dict[str, Any]) -> None:
        if head.get("format") != _FORMAT or head.get("version") != 1:
            raise InputError(
                f"{self._place.address}/{LEDGER} is no output manifest; choose another -o, or --force"
            )
        # Of an earlier run's as well: some are written only where they were given.
        keys = [*settings, *(key for key in head if key not in {*self._head})]
        other = [f"{key} {head.get(key)!r}, now {settings.get(key)!r}" for key in keys
                 if head.get(key) != settings.get(key)]  # fmt: skip
        if other:
            raise InputError(
                f"{self._place.address} was made with other settings ({'; '.join(other)}); "
                f"choose another -o, or begin again with --force (force=True)"
            )

    def knows(self, recording: Recording, seed: int) -> bool:
        """Whether nothing is left to do for a recording: it is as it was, and its output is whole, or it
        failed by its own fault.

        Args:
            recording: which one.
            seed: its noise seed.
        """
        row = self.rows.get(recording.name)
        if row is None or row["audio"] != recording.audio or row.get("source") != stamp(recording.audio):
            return False
        if row["status"] == "failed":
            return not row.get("again")
        return row.get("seed", seed) == seed and self._place.holds(row["output"], row["bytes"], row["sha256"])

    def add(self, row: Row) -> None:
        """Add the row of a recording whose output, if it has one, is in its place.

        Raises:
            InputError: it cannot be written.
        """
        self.rows[str(row["id"])] = row
        if self._place.folder is None:
            if time.monotonic() - self._written > _EVERY_S:
                self._write()
            return
        try:
            if self._file is None:
                self._write()
                self._file = open(self._place.folder / LEDGER, "a", encoding="utf-8")  # noqa: SIM115
                return
            self._file.write(_line(row))
            self._file.flush()
        except OSError as error:
            raise output_error(self._place.folder / LEDGER, error) from error

    def close(self) -> None:
        """Write what is not written yet."""
        if self._file is not None:
            self._file.close()
            self._file = None
        elif self._place.folder is None and self.rows:
            self._write()

    def _write(self) -> None:
        lines = [_line(self._head), *map(_line, self.rows.values())]
        self._place.put(LEDGER, "".join(lines).encode())
        self._written = time.monotonic()


def stamp(audio: str) -> list[int] | None:
    """Size and time of change of a file, which tell it from another of its name; None of an address."""
    if is_address(audio):
        return None
    try:
        found = Path(audio).stat()
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns]


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


def _object(line: bytes) -> Row | None:
    """A line of a manifest; None of one that a kill has cut."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _is_whole(row: Row) -> bool:
    wanted: dict[str, type] = {"id": str, "audio": str}
    if row.get("status") == "done":
        wanted |= {"output": str, "bytes": int, "sha256": str}
    elif row.get("status") != "failed":
        return False
    return all(isinstance(row.get(name), kind) for name, kind in wanted.items())
