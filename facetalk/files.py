"""Writing files so that nobody ever sees half of one, and nothing is lost that nobody named.

Whatever is written goes into a scratch folder beside its place and is renamed at the end. The scratch folder
is called ``.NAME.DIGEST.RANDOM.part``; it is locked as long as its writer lives. A writer that was killed
(SIGKILL, a power cut) leaves it behind, and the next writer of the same place removes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from facetalk.errors import InputError
from facetalk.interrupts import Uninterrupted
from facetalk.scratch import ATTEMPTS, Scratch, put_files, put_folder, recover

__all__ = [
    "atomic_path", "check_not_input", "check_output_folder", "check_replaceable", "keep_others",
    "output_error", "recover",
]  # fmt: skip

Source = str | os.PathLike[str]


def output_error(path: Path, error: OSError) -> InputError:
    """Translate an operating-system error on writing ``path`` into one line for the user."""
    if isinstance(error, shutil.Error):  # of a folder, whose files each had one: (from, to, what) of them
        told = str(error.args[0][0][-1] if error.args and error.args[0] else error)
        full = f"[Errno {errno.ENOSPC}]" in told or f"[Errno {errno.EDQUOT}]" in told
        reason = told.partition("] ")[2].partition(":")[0]
        return output_error(path, OSError(errno.ENOSPC if full else errno.EIO, reason))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(f"cannot write {path}: no space left on the device; free some or choose another -o")
    return InputError(f"cannot write {path}: {error.strerror or error}; choose another -o")


def check_output_folder(path: Source) -> Path:
    """Return ``path`` as a ``Path`` after checking that its folder exists and can be written to.

    Raises:
        InputError: the folder does not exist, is not a folder, or is read-only.
    """
    out = Path(path)
    if "\0" in str(out) or out.name in ("", ".."):
        raise InputError(f"cannot write {str(out)!r}: that names no file; choose another -o")
    folder = out.parent
    try:
        if not folder.exists():
            raise InputError(f"cannot write {out}: the folder {folder} does not exist; create it first")
        if not folder.is_dir():
            raise InputError(f"cannot write {out}: {folder} is not a folder")
        os.path.lexists(out)
        out.exists()
    except OSError as error:  # a name that is too long, links in a circle
        raise output_error(out, error) from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"cannot write {out}: no permission to write into {folder}")
    return out


def check_not_input(out: Source, *inputs: Source | None) -> None:
    """Refuse an output that is one of the inputs, or a folder that holds one, whatever their names are.

    Raises:
        InputError: it is; links of both kinds are seen through.
    """
    place = Path(out)
    for given in inputs:
        if given is None:
            continue
        try:
            source = Path(given)
            there = place.exists() and source.exists()
            same = there and place.samefile(source)
            inside = there and place.is_dir() and place.resolve() in source.resolve().parents
        except (OSError, ValueError):
            continue  # whoever reads or writes it has more to say
        if same:
            raise InputError(f"cannot write {out}: it is the input {given}; choose another -o")
        if inside:
            raise InputError(f"cannot write {out}: the input {given} lies in it; choose another -o")


def check_replaceable(
    path: Source, *, directory: bool = False, ours: Callable[[Path], bool] | None = None
) -> Path:
    """Return ``path`` after checking that something may be written there; see :func:`atomic_path`.

    Raises:
        InputError: what :func:`check_output_folder` refuses; something else than a file or folder is in the
            way; a folder holds what facetalk did not write.
    """
    out = check_output_folder(path)
    if not os.path.lexists(out):
        return out
    if directory and not out.is_dir():
        raise InputError(f"cannot write {out}: a file of that name is in the way; choose another -o")
    if not directory and out.is_dir():
        raise InputError(f"cannot write {out}: a folder of that name is in the way; choose another -o")
    if not directory and out.exists() and not out.is_file():
        raise InputError(f"cannot write {out}: it is not a plain file; choose another -o")
    if not directory and out.exists() and not os.access(out, os.W_OK):
        raise InputError(f"cannot write {out}: the file is write-protected; choose another -o")
    if directory and not _may_go(out, ours):
        raise _not_ours(out)
    return out


def _not_ours(folder: Path) -> InputError:
    return InputError(
        f"cannot write {folder}: it holds other files, which facetalk did not write; choose another -o, "
        f"or replace it and everything in it with --force (force=True)"
    )


def _may_go(folder: Path, ours: Callable[[Path], bool] | None) -> bool:
    """Whether a folder may be replaced: nobody asks, it is empty, or facetalk wrote it."""
    if ours is None:
        return True
    for _ in range(ATTEMPTS):
        try:
            before = folder.stat().st_ino
            if not folder.is_dir():
                return False
            answer = not any(folder.iterdir()) or ours(folder)
            if folder.stat().st_ino == before:
                return answer
        except FileNotFoundError:
            if not os.path.lexists(folder):
                return True
        except (OSError, ValueError):
            return False
        # Another writer put a new folder there while this one was looked at.
    return False


@contextlib.contextmanager
def atomic_path(
    path: Source,
    *,
    directory: bool = False,
    ours: Callable[[Path], bool] | None = None,
    beside: Sequence[Source] = (),
) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is renamed to ``path``, on failure removed.

    On Linux an old folder and the new one change places in one step, so that there is a whole one at every
    moment; elsewhere there is none for an instant. Signals that would end the run wait until the renaming is
    done.

    Args:
        path: the final place. Its folder has to exist. A file that is there already was named by the user and
            is replaced.
        directory: the thing written is a folder.
        ours: tells whether a folder holds nothing but what facetalk wrote; one that does not, and is not
            empty, is not replaced. None: every folder is.
            together with it: where the scratch folder holds one of such an ending after the temporary stem,
            it is renamed as well, or none of them is.

    Raises:
        InputError: the folder is missing or not writable, something is in the way, or the device is full.
    """
    out = check_replaceable(path, directory=directory, ours=ours)
    place = out.absolute()  # the caller may change the working directory meanwhile
    scratch: Scratch | None = None
    try:
        try:
            with Uninterrupted():
                scratch = Scratch(place)
            temporary = scratch.folder / _fitting_name(place)
            if directory:
                temporary.mkdir()
            yield temporary
            with Uninterrupted():
                if directory:
                    # Asked again: something may have been put there while the new one was written.
                    if not put_folder(temporary, place, scratch.folder, lambda folder: _may_go(folder, ours)):
                        raise _not_ours(out)
                else:
                    stem = temporary.stem
                    more = [
                        (temporary.with_name(stem + near.name.removeprefix(place.stem)), near.absolute())
                        for near in map(Path, beside)
                    ]
                    pairs = [pair for pair in more if pair[0].exists()]
                    put_files([*pairs, (temporary, place)], scratch.folder)
        except OSError as error:
            raise _explained(out, scratch, error) from error
        finally:
            with Uninterrupted():
                if scratch is not None:
                    scratch.remove()
    except BaseException:
        # A signal may come between the end of the body and the lines that hold signals back.
        with Uninterrupted():
            if scratch is not None:
                scratch.remove()
        raise


def _explained(out: Path, scratch: Scratch | None, error: OSError) -> InputError:
    """The error in words: of the output, unless it tells of another file."""
    name = error.filename
    if isinstance(name, (str, os.PathLike)) and scratch is not None and error.errno not in (errno.ENOSPC,):
        told = Path(str(name).removeprefix("file:"))  # as FFmpeg calls it
        if scratch.folder not in told.parents and told.absolute() != out.absolute():
            return InputError(f"{name}: {error.strerror or error}")
    return output_error(out, error)


def _fitting_name(place: Path) -> str:
    """The name of the temporary file: with the same suffix, by which writers choose their format, and short
    enough that a writer may lengthen it.
    """
    return place.name if len(os.fsencode(place.name)) <= 200 else "out" + place.suffix[-32:]


def keep_others(old: Path, new: Path, names: Collection[str]) -> None:
    """Give a folder that will take another's place the files of that one, but for those of some names.

    They become further names of the same files; where the file system has no hard links, copies.
    """
    for entry in old.iterdir():
        if entry.name in names:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, new / entry.name, symlinks=True, copy_function=_link)
        else:
            _link(entry, new / entry.name)


def _link(source: Source, target: Source, **options: Any) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
