"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from facetalk.errors import InputError


def output_error(path: Path, error: OSError) -> InputError:
    """Translate an operating-system error on writing ``path`` into one line for the user."""
    if error.errno == errno.ENOSPC:
        return InputError(f"cannot write {path}: no space left on the device; free some or choose another -o")
    return InputError(f"cannot write {path}: {error.strerror or error}; choose another -o")


def check_output_folder(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` as a ``Path`` after checking that its folder exists and can be written to.

    Raises:
        InputError: the folder does not exist, is not a folder, or is read-only.
    """
    out = Path(path)
    folder = out.parent
    if not folder.exists():
        raise InputError(f"cannot write {out}: the folder {folder} does not exist; create it first")
    if not folder.is_dir():
        raise InputError(f"cannot write {out}: {folder} is not a folder")
    if not os.access(folder, os.W_OK):
        raise InputError(f"cannot write {out}: no permission to write into {folder}")
    return out


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], *, directory: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is renamed to ``path``, on failure removed.

    Args:
        path: the final place. Its folder has to exist.
        directory: the thing written is a folder; an existing one at ``path`` is replaced.

    Raises:
        InputError: the folder is missing or not writable, or the device is full.
    """
    out = check_output_folder(path)
    if out.is_dir() != directory and out.exists():
        kind = "a file" if directory else "a folder"
        raise InputError(f"cannot write {out}: {kind} of that name is in the way; choose another -o")
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    # The suffix stays, because writers choose their format by it.
    temporary = scratch / out.name
    try:
        if directory:
            temporary.mkdir()
        yield temporary
        if directory and out.exists():
            out.rename(scratch / "replaced")
        temporary.replace(out)
    except OSError as error:
        raise output_error(out, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
