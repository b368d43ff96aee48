"""Scratch folders beside an output, and the renaming that puts what is in them in its place."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system: no locks, so what a killed writer left stays
    fcntl = None  # type: ignore[assignment]

_SUFFIX, _HELD = ".part", "replaced"
_CWD, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
ATTEMPTS = 100
"""Another writer may come between looking and renaming, but not for ever."""


class Scratch:
    """A folder beside the output that says by a lock whether its writer lives."""

    def __init__(self, place: Path) -> None:
        recover(place)
        for _ in range(ATTEMPTS):
            made = tempfile.mkdtemp(prefix=_prefix(place), suffix=_SUFFIX, dir=place.parent)
            self.folder = Path(made)
            with contextlib.suppress(BlockingIOError):
                self._lock = lock_folder(self.folder)
                # Between making and locking, another writer may have taken it for a dead one's.
                if self.folder.exists():
                    return
                unlock_folder(self._lock)
        raise OSError(errno.EBUSY, "too many writers of the same file")

    def remove(self) -> None:
        """Remove it with everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        unlock_folder(self._lock)
        self._lock = None


def _prefix(place: Path) -> str:
    """The start of the names of the scratch folders of ``place``: readable, unique, and not too long."""
    short = place.name
    while len(os.fsencode(short)) > 80:
        short = short[:-1]
    return f".{short}.{hashlib.sha256(os.fsencode(place.name)).hexdigest()[:10]}."


def lock_folder(folder: Path) -> int | None:
    """An open, locked descriptor of a folder; None where folders cannot be locked.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return descriptor


def unlock_folder(descriptor: int | None) -> None:
    """Let go of what :func:`lock_folder` gave."""
    if descriptor is not None:
        os.close(descriptor)


def recover(path: str | os.PathLike[str]) -> None:
    """Remove what killed writers of ``path`` left; an old folder that only they still hold is put back.

    Every writer does this first; a reader of a folder may, so that it finds the old one.
    """
    place = Path(path).absolute()
    prefix = _prefix(place)
    with contextlib.suppress(OSError):
        for entry in sorted(place.parent.iterdir()):
            if not (entry.name.startswith(prefix) and entry.name.endswith(_SUFFIX)):
                continue
            with contextlib.suppress(OSError):
                lock = lock_folder(entry)
                if lock is None:
                    continue
                try:
                    held = entry / _HELD
                    if held.is_dir() and not os.path.lexists(place):
                        held.rename(place)
                    shutil.rmtree(entry, ignore_errors=True)
                finally:
                    unlock_folder(lock)


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """The C library's ``renameat2``, where it has one."""
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return function


def _exchange(first: Path, second: Path) -> bool:
    """Let two things change places in one step; False where the system cannot.

    Raises:
        OSError: it could, but one of them is not there or must not be moved.
    """
    function = _renameat2()
    if function is None:
        return False
    if function(_CWD, os.fsencode(first), _CWD, os.fsencode(second), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(second))


def put_folder(temporary: Path, place: Path, scratch: Path, may_go: Callable[[Path], bool]) -> bool:
    """Move a folder to its place; the one that was there ends in the scratch folder.

    Args:
        temporary: the folder, inside ``scratch``.
        place: where it belongs.
        scratch: the scratch folder.
        may_go: asked about a folder that is there.

    Returns:
        False, and nothing is moved, if ``may_go`` refuses.
    """
    for _ in range(ATTEMPTS):
        try:
            if not os.path.lexists(place):
                temporary.rename(place)
                return True
            if not may_go(place):
                return False
            if _exchange(temporary, place):
                return True
            held = scratch / _HELD
            place.rename(held)
            try:
                temporary.rename(place)
            except BaseException:
                held.rename(place)
                raise
            return True
        except OSError as error:
            # Another writer of the same place was quicker: look again.
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST) or not temporary.exists():
                raise
    raise OSError(errno.EBUSY, "too many writers of the same folder", str(place))


def put_files(pairs: Sequence[tuple[Path, Path]], scratch: Path) -> None:
    """Rename files to their places: all of them, or none."""
    done: list[tuple[Path, Path | None]] = []
    try:
        for number, (temporary, place) in enumerate(pairs):
            old: Path | None = None
            if number + 1 < len(pairs) and os.path.lexists(place):
                old = scratch / f"{_HELD}.{number}"
                try:
                    os.link(place, old, follow_symlinks=False)
                except OSError:  # a file system without hard links
                    shutil.copy2(place, old, follow_symlinks=False)
            temporary.replace(place)
            done.append((place, old))
    except BaseException:
        for place, old in reversed(done):
            if old is None:
                place.unlink(missing_ok=True)
            else:
                old.replace(place)
        raise
