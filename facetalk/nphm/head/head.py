"""The built-in head as one object: its networks, its codes, and the persons that codes stand for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from facetalk.ambient import plainly
from facetalk.arrays import Float32
from facetalk.errors import InputError
from facetalk.nphm.head.person import Person
from facetalk.nphm.head.tables import HeadTables, read_tables
from facetalk.optional import needed_for
from facetalk.reading import usable

if TYPE_CHECKING:
    from facetalk.nphm.head.files import HeadContent
    from facetalk.nphm.model import NPHM

__all__ = ["HeadModel"]

_KEPT = 5  # persons that stay bound: each holds packed weights and, once asked for, a canonical mesh


class HeadModel:
    """A neural parametric head with a rig.

    Args:
        content: its networks and tables, as a head folder holds them; None to make the networks of ``tables``
            when they are first asked for.
        tables: of a head folder, where ``content`` is None.
    """

    def __init__(self, content: HeadContent | None = None, *, tables: HeadTables | None = None) -> None:
        self._tables = tables
        if content is not None:
            self.content = content
        self._persons: dict[bytes, Person] = {}

    @classmethod
    def open(cls, folder: str | Path) -> HeadModel:
        """Read what of a head folder needs no torch; the networks are made when they are first asked for.

        Raises:
            InputError: the folder is not a head, a file is missing or damaged, or the rig does not fit.
        """
        head = cls(tables=read_tables(folder))
        with usable(f"the head in {folder}", "fetch it again"):
            points = head.tables.linear["landmarks_mean"][::16]
            part = np.arange(len(points)) % head.tables.blendshapes.config.parts
            if not np.isfinite(head.bind().forward_basis(points, part)).all():
                raise ValueError("the rig is not finite")
        return head

    @classmethod
    def load(cls, folder: str | Path) -> HeadModel:
        """Read a head folder, networks included.

        Raises:
            InputError: the folder is not a head, or a file is missing, damaged or does not fit.
        """
        head = cls.open(folder)
        _ = head.content
        return head

    @property
    def tables(self) -> HeadTables:
        """What of it needs no torch."""
        return self.content.tables if self._tables is None else self._tables

    @cached_property
    def content(self) -> HeadContent:
        """The networks and tables.

        Raises:
            InputError: weights are missing or do not fit, or nothing comes of them; or there is no torch.
        """
        assert self._tables is not None
        files = _files()
        content: HeadContent = files.build_head(self._tables)
        with usable(f"the head in {self._tables.folder}", "fetch it again"):
            files.prove(HeadModel(content))
        return content

    @cached_property
    def nphm(self) -> NPHM:
        """The identity and backward deformation networks as the package's general NPHM."""
        nphm: NPHM = _files().nphm_of(self.content)
        return nphm

    def save(self, folder: str | Path, *, force: bool = False) -> None:
        """Write the head folder, replacing one that is there.

        Args:
            folder: the place; its parent has to exist.
            force: replace the folder even if it holds other files than a head.

        Raises:
            InputError: the folder's place cannot be written to, or holds what this did not write.
        """
        _files().write_head(folder, self.content, force=force)

    def __getstate__(self) -> dict[str, Any]:
        """Without the persons that are bound, which are made anew when they are needed."""
        return {**self.__dict__, "_persons": {}}

    @plainly
    def bind(self, identity: ArrayLike | None = None) -> Person:
        """The head of one identity; the last few are kept, so asking again costs nothing.

        Args:
            identity: (L,) code, None for the default identity.

        Raises:
            InputError: the code has another length.
        """
        code = self._code(identity)
        key = code.tobytes()
        person = self._persons.pop(key, None)
        if person is None:
            person = Person(self, code, self.coefficients(code))
        self._persons[key] = person  # last, as the one that was used last
        if len(self._persons) > _KEPT:
            del self._persons[next(iter(self._persons))]
        return person

    # Codes ----------------------------------------------------------------------------------------------

    @property
    def expression_names(self) -> tuple[str, ...]:
        """Names of the expression weights, in order."""
        return self.tables.expression_names

    @property
    def expression_dim(self) -> int:
        """Number E of expression weights."""
        return len(self.expression_names)

    @cached_property
    def rest_expression(self) -> Float32:
        """(E,) weights of the canonical shape (jaw slightly open, so that the lips are apart)."""
        return np.array(self.tables.config["rest_expression"], np.float32)

    @property
    def identity_dim(self) -> int:
        """Length L of an identity code."""
        return int(self.tables.linear["encoder"].shape[0])

    @property
    def coefficient_dim(self) -> int:
        """Number I of identity coefficients."""
        return int(self.tables.linear["encoder"].shape[1])

    @cached_property
    def default_identity(self) -> Float32:
        """(L,) code of the mean head: zeros."""
        return np.zeros(self.identity_dim, np.float32)

    @plainly
    def encode_identity(self, coefficients: ArrayLike) -> Float32:
        """Identity code (L,) of morphable-head coefficients (I,), which are standard normal.

        Raises:
            InputError: wrong number of coefficients, or not finite.
        """
        values = np.asarray(coefficients, np.float32)
        expected = self.coefficient_dim
        if values.shape != (expected,) or not np.isfinite(values).all():
            raise InputError(f"an identity has {expected} finite coefficients, got shape {values.shape}")
        return np.asarray(self.tables.linear["encoder"] @ values)

    @plainly
    def coefficients(self, identity: ArrayLike | None = None) -> Float32:
        """Coefficients (I,) whose code is nearest to ``identity``; exact for encoded ones."""
        code = self._code(identity)
        return self._decoder @ code if code.any() else np.zeros(self.coefficient_dim, np.float32)

    @cached_property
    def _decoder(self) -> Float32:
        return np.linalg.pinv(self.tables.linear["encoder"].astype(np.float64)).astype(np.float32)

    def _code(self, identity: ArrayLike | None) -> Float32:
        code = self.default_identity if identity is None else np.asarray(identity, np.float32)
        if code.shape != (self.identity_dim,):
            raise InputError(f"an identity code has {self.identity_dim} values, got shape {code.shape}")
        return code.copy()  # the caller may go on to change its own


def _files() -> ModuleType:
    """What has to do with networks, and so with torch."""
    with needed_for("the networks of a head"):
        from facetalk.nphm.head import files
    return files
