"""Where a batch writes: a folder, or an address that fsspec knows (``s3://``, ``memory://`` ...)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from facetalk.batch.listing import is_address
from facetalk.errors import InputError
from facetalk.files import atomic_path, check_output_folder, output_error
from facetalk.reading import one_line
from facetalk.scratch import Scratch, lock_folder, unlock_folder


class Place:
    """A folder of outputs, whose names have "/" between folders.

    Args:
        address: a folder, which is made if need be (the one around it has to be there), or an fsspec address.

    Attributes:
        address: as given.
        folder: the folder; None where it is an address that is no folder of this machine.

    Raises:
        InputError: nothing can be written there, or the address is of a kind that fsspec does not know or
            whose package is not installed.
    """

    def __init__(self, address: str | os.PathLike[str]) -> None:
        self.address = os.fspath(address)
        self.folder: Path | None = None
        self._files: Any = None
        self._root = ""
        self._lock: int | None = None
        if not is_address(self.address):
            self.folder = Path(self.address)
        else:
            try:
                self._files, self._root = fsspec.core.url_to_fs(self.address)
            except ImportError as error:
                raise InputError(f"cannot write to {address}: {one_line(error)}") from error
            except Exception as error:  # every kind of address has its own
                raise InputError(f"cannot write to {address}: {one_line(error)}") from error
            if isinstance(self._files, LocalFileSystem):
                self.folder = Path(self._root)
        if self.folder is not None:
            if self.folder.exists() and not self.folder.is_dir():
                raise InputError(
                    f"cannot write {address}: a file of that name is in the way; choose another -o"
                )
            if not self.folder.exists():
                check_output_folder(self.folder)
            elif not os.access(self.folder, os.W_OK):
                raise InputError(f"cannot write {address}: no permission to write into it; choose another -o")

    @contextlib.contextmanager
    def opened(self) -> Iterator[Path]:
        """Make the folder, hold it against other batches, and yield a scratch folder for workers' outputs.

        Raises:
            InputError: another batch is writing there.
        """
        if self.folder is None:
            with tempfile.TemporaryDirectory(prefix="facetalk-") as scratch:
                yield Path(scratch)
            return
        made = not self.folder.exists()
        try:
            self.folder.mkdir(exist_ok=True)
            lock = lock_folder(self.folder)
        except BlockingIOError as error:
            raise InputError(f"another batch is writing to {self.address}; wait for it") from error
        except OSError as error:
            raise output_error(self.folder, error) from error
        try:
            outputs = Scratch(self.folder.absolute() / "outputs")
            try:
                yield outputs.folder
            finally:
                outputs.remove()
        finally:
            unlock_folder(lock)
            if made:
                with contextlib.suppress(OSError):  # something was written
                    self.folder.rmdir()

    def is_empty(self) -> bool:
        """Whether nothing lies there; scratch folders and other hidden files do not count."""
        if self.folder is not None:
            return not self.folder.is_dir() or all(e.name.startswith(".") for e in self.folder.iterdir())
        with self._told("read"):
            return not (self._files.exists(self._root) and self._files.find(self._root))

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none.

        Raises:
            InputError: it cannot be read.
        """
        try:
            with self._told("read"):
                if self.folder is not None:
                    return (self.folder / name).read_bytes()
                return bytes(self._files.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def holds(self, name: str, size: int, sha256: str) -> bool:
        """Whether a file is there and whole: by size and digest in a folder, by size at an address."""
        try:
            if self.folder is None:
                return int(self._files.info(self._path(name))["size"]) == size
            path = self.folder / name
            if path.stat().st_size != size:
                return False
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except Exception:  # missing, or not to be read: it is made anew, which has more to say
            return False

    def put(self, name: str, data: bytes | Path) -> None:
        """Write a file so that nobody ever sees half of it.

        Args:
            name: of the file; folders in it are made.
            data: its content, or a file of the scratch folder, which is moved.

        Raises:
            InputError: it cannot be written.
        """
        if self.folder is None:
            content = data if isinstance(data, bytes) else data.read_bytes()
            # What is written in a transaction is there when it ends, or never.
            with self._told("write"), self._files.transaction:
                self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
                with self._files.open(self._path(name), "wb") as file:
                    file.write(content)
            if isinstance(data, Path):
                data.unlink()
            return
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(data, Path):
                data.replace(path)
                return
        except OSError as error:
            raise output_error(path, error) from error
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Every kind of address has errors of its own."""
        try:
            yield
        except (FileNotFoundError, InputError):
            raise
        except Exception as error:
            raise InputError(f"cannot {what} {self.address}: {one_line(error)}") from error
