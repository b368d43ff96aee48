"""Loads the compiled core on first use and says readably what is wrong when it does not load."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from types import ModuleType

from facetalk.errors import ExtensionError, InputError

_NAME = "facetalk._C"


@functools.cache
def load() -> ModuleType:
    """Return the extension module `facetalk._C`.

    Raises:
        ExtensionError: if it was never built or does not load; the message has the loader's own reason.
        InputError: if FACETALK_SIMD names no instruction set.
    """
    module = _import()
    try:
        module.simd_level()
    except ValueError as error:
        raise InputError(f"{error}; it is an environment variable, unset it for the best") from error
    return module


def _import() -> ModuleType:
    try:
        return importlib.import_module(_NAME)
    except ModuleNotFoundError as error:
        if error.name != _NAME:
            raise
        installed = _installed()
        if installed is not None:
            return installed
        raise ExtensionError(
            "facetalk's compiled core is missing: install the package (pip install .) or, in a checkout, "
            "build it in place (python setup.py build_ext --inplace)"
        ) from error
    except ImportError as error:
        raise ExtensionError(f"facetalk's compiled core is there but does not load: {error}") from error


def _installed() -> ModuleType | None:
    """The core of an installed facetalk.

    Python started in a checkout finds the checkout's package before the installed one; it has no core of its
    own unless it was built in place.
    """
    from importlib.metadata import distributions  # takes as long as NumPy, and is seldom needed

    for distribution in distributions(name="facetalk"):
        for file in distribution.files or ():
            if file.match("facetalk/_C.*.so") or file.match("facetalk/_C.*.pyd"):
                spec = importlib.util.spec_from_file_location(_NAME, str(file.locate()))
                if spec is None or spec.loader is None:
                    continue
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                sys.modules[_NAME] = module
                return module
    return None
