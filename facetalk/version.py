"""The version of the package, as it was installed.

``__version__`` is looked up when it is asked for: the library for that takes as long to import as NumPy.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

__all__ = ["__version__"]

if TYPE_CHECKING:
    __version__: str


def __getattr__(name: str) -> str:
    if name == "__version__":
        return _installed()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _installed() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("facetalk")
    except PackageNotFoundError:  # a source tree that was built in place, not installed
        return "0+source"
