"""Fields of a JSON document that somebody else wrote, checked when read and named when wrong."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from facetalk.errors import InputError

Json = dict[str, Any]

_LARGEST_INTEGER = 2**53  # beyond it JSON numbers of other languages lose their last digits


class Fields:
    """An object of a document, with the place where it stands, for messages.

    Args:
        value: what the document has there.
        place: its name, such as ``nodes[3]``; empty for the document itself.
        path: the file, for messages.

    Raises:
        InputError: ``value`` is not an object.
    """

    def __init__(self, value: object, place: str, path: Path) -> None:
        self.place, self.path = place, path
        if not isinstance(value, dict):
            raise self._wrong(None, "an object", value)
        self._value: Json = value

    def __contains__(self, name: str) -> bool:
        """Whether the object has a field of that name."""
        return name in self._value

    def get(self, name: str) -> object:
        """The field as it is, None where it is absent."""
        return self._value.get(name)

    def integer(self, name: str, *, low: int = 0, high: int, default: int | None = None) -> int:
        """A whole number in [low, high]; ``default``, unless None, stands for an absent one.

        Raises:
            InputError: it is something else, or absent without a default.
        """
        value = self._value.get(name, default)
        # Some exporters write 5.0.
        if isinstance(value, float) and abs(value) < _LARGEST_INTEGER and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self._wrong(name, f"a whole number from {low} to {high}", self._value.get(name))
        return value

    def index(self, name: str, count: int, *, default: int | None = None) -> int:
        """The number of one of ``count`` things in a list.

        Raises:
            InputError: it is something else, or absent without a default, or there are none.
        """
        if count == 0:
            raise self._wrong(name, "nothing, as the file has none", self._value.get(name))
        return self.integer(name, high=count - 1, default=default)

    def numbers(
        self, name: str, count: int, *, default: tuple[float, ...] | None = None, most: float = math.inf
    ) -> tuple[float, ...]:
        """``count`` finite numbers of at most ``most`` either way.

        Raises:
            InputError: they are something else, or absent without a default.
        """
        value = self._value.get(name)
        if value is None and default is not None and name not in self._value:
            return default
        if not isinstance(value, list) or len(value) != count or not all(_is_number(v, most) for v in value):
            limit = "finite numbers" if most == math.inf else f"numbers between -{most:g} and {most:g}"
            raise self._wrong(name, f"{count} {limit}", value)
        return tuple(float(v) for v in value)

    def number(self, name: str, *, default: float, most: float = math.inf) -> float:
        """A finite number of at most ``most`` either way; ``default`` where it is absent.

        Raises:
            InputError: it is something else.
        """
        value = self._value.get(name, default)
        if not _is_number(value, most):
            raise self._wrong(name, "a finite number", value)
        return float(value)  # type: ignore[arg-type]  # _is_number says so

    def text(self, name: str, *, default: str) -> str:
        """A string; ``default`` where it is absent.

        Raises:
            InputError: it is something else.
        """
        value = self._value.get(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, "a string", value)
        return value

    def child(self, name: str) -> Fields:
        """The object in a field; an empty one where it is absent.

        Raises:
            InputError: it is something else.
        """
        return Fields(self._value.get(name, {}), self._name(name), self.path)

    def children(self, name: str) -> list[Fields]:
        """The objects of a list; none where it is absent.

        Raises:
            InputError: it is not a list, or one of its entries is no object.
        """
        return [Fields(v, f"{self._name(name)}[{i}]", self.path) for i, v in enumerate(self._list(name))]

    def integers(self, name: str, *, high: int) -> list[int]:
        """Whole numbers of a list, each in [0, high]; none where it is absent.

        Raises:
            InputError: it is not such a list.
        """
        values = self._list(name)
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= high:
                raise self._wrong(name, f"whole numbers from 0 to {high}", value)
        return values

    def texts(self, name: str) -> list[str]:
        """Strings of a list; none where it is absent.

        Raises:
            InputError: it is not such a list.
        """
        values = self._list(name)
        for value in values:
            if not isinstance(value, str):
                raise self._wrong(name, "strings", value)
        return values

    def wrong(self, reason: str) -> InputError:
        """The error that this object is wrong, for a reason in words."""
        return InputError(f"{self.path} is damaged: {self.place or 'the document'} {reason}")

    def _list(self, name: str) -> list[Any]:
        value = self._value.get(name, [])
        if not isinstance(value, list):
            raise self._wrong(name, "a list", value)
        return value

    def _name(self, name: str | None) -> str:
        return ".".join(part for part in (self.place, name) if part) or "the document"

    def _wrong(self, name: str | None, expected: str, value: object) -> InputError:
        got = "nothing" if value is None else _brief(value)
        return InputError(f"{self.path} is damaged: {self._name(name)}: expected {expected}, got {got}")


def _is_number(value: object, most: float) -> bool:
    # Integers of any size compare with a float, where converting them would overflow.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -most <= value <= most and -1e308 <= value <= 1e308


def _brief(value: object) -> str:
    """A value in at most some sixty characters of one line."""
    if isinstance(value, (dict, list)):
        return f"a {'list' if isinstance(value, list) else 'group'} of {len(value)}"
    if isinstance(value, int) and abs(value) > 10**20:
        return "a larger one"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
