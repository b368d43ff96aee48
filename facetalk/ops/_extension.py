"""Loads the compiled core on first use and says readably what is wrong when it does not load."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType


@functools.cache
def load() -> ModuleType:
    """Return the extension module `facetalk._C`.

    Raises:
        ImportError: if it was never built or does not load; the message has the loader's own reason.
    """
    try:
        return importlib.import_module("facetalk._C")
    except ModuleNotFoundError as error:
        if error.name != "facetalk._C":
            raise
        raise ImportError(
            "facetalk's compiled core is missing: install the package (pip install .) or, in a checkout, "
            "build it in place (python setup.py build_ext --inplace)"
        ) from error
    except ImportError as error:
        raise ImportError(f"facetalk's compiled core is there but does not load: {error}") from error
