"""Sound that can be read only once, kept in a file: pipes, standard input, open files, bytes in memory.

The level of a recording is measured before its features are computed, so it is read twice.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from facetalk.errors import InputError
from facetalk.reading import one_line


def needs_spooling(source: Any) -> bool:
    """Whether ``source`` is ``-``, a pipe or other device, or an open file."""
    if hasattr(source, "read"):
        return True
    if not isinstance(source, str | os.PathLike):
        return False
    if os.fspath(source) == "-":
        return True
    try:
        mode = Path(source).stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)


class Spool:
    """A temporary file with everything that ``source`` gives; removed with the object.

    Args:
        source: ``-`` for standard input, the path of a pipe or device, or a file that is open for reading
            bytes.

    Raises:
        InputError: it cannot be read, or reads as text.
    """

    def __init__(self, source: Any) -> None:
        self.name = _name(source)
        suffix = Path(self.name).suffix.lower()
        suffix = suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ""
        self._file = tempfile.NamedTemporaryFile(prefix="facetalk-", suffix=suffix)  # noqa: SIM115
        self.path = Path(self._file.name)
        try:
            # A pipe gives what it gives as long as somebody speaks into it, or for ever.
            bar = tqdm(desc=self.name, unit="B", unit_scale=True, disable=None, leave=False, delay=1.0)
            with _opened(source) as stream, bar:
                while piece := stream.read(1 << 20):
                    self._file.write(piece)
                    bar.update(len(piece))
            self._file.flush()
        except InputError:
            raise
        except TypeError as error:
            raise InputError(f"{self.name}: a file of sound must be open for bytes, not text") from error
        except (OSError, ValueError, io.UnsupportedOperation) as error:
            raise InputError(f"{self.name}: cannot be read ({one_line(error)})") from error


def _name(source: Any) -> str:
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        return name if isinstance(name, str) else "sound"
    return "standard input" if os.fspath(source) == "-" else os.fsdecode(source)


@contextlib.contextmanager
def _opened(source: Any) -> Iterator[IO[bytes]]:
    if hasattr(source, "read"):
        if getattr(source, "seekable", bool)():
            before = source.tell()
            yield source
            source.seek(before)
        else:
            yield source
    elif os.fspath(source) == "-":
        if sys.stdin is None:
            raise InputError("standard input is closed; pipe a recording into it")
        if sys.stdin.isatty():
            raise InputError("standard input is a terminal; pipe a recording into it")
        yield sys.stdin.buffer
    else:
        with open(source, "rb") as file:
            yield file
