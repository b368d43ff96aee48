"""What an installation need not have: which extra brings a package, and what to say where it is missing."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from facetalk.errors import NotInstalledError

EXTRAS: dict[str, tuple[str, str]] = {
    "PIL": ("Pillow", "render"),
    "accelerate": ("accelerate", "train"),
    "av": ("PyAV", "ffmpeg"),
    "hibari": ("hibari-tts", "voices"),
    "igl": ("libigl", "train"),
    "matplotlib": ("Matplotlib", "plot"),
    "mediapipe": ("MediaPipe", "landmarks"),
    "onnx": ("onnx", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "pycolmap": ("pycolmap", "colmap"),
    "pyfqmr": ("pyfqmr", "torch"),
    "pxr": ("usd-core", "usd"),
    "ray": ("Ray", "ray"),
    "scipy": ("SciPy", "torch"),
    "torch": ("PyTorch", "torch"),
    "torchmetrics": ("torchmetrics", "images"),
    "transformers": ("transformers", "torch"),
    "trimesh": ("trimesh", "fit"),
}
"""Name for people, and extra of ``pyproject.toml``, of what is imported under a name."""


def explain(error: ModuleNotFoundError, what: str, extra: str | None = None) -> NotInstalledError | None:
    """What to say of a package that is missing; None for one that no extra brings.

    Args:
        error: of the import.
        what: what needs it, the beginning of the sentence.
        extra: the extra that brings everything for it, or several with commas; None for the smallest with the
            package.
    """
    known = EXTRAS.get((error.name or "").partition(".")[0])
    if known is None:
        return None
    name, smallest = known
    return NotInstalledError(
        f"{what} needs {name}, which is not installed: pip install 'facetalk[{extra or smallest}]'"
    )


@contextlib.contextmanager
def needed_for(what: str, extra: str | None = None) -> Iterator[None]:
    """Around imports: say which extra to install where one fails.

    Args:
        what: what needs them, the beginning of the sentence.
        extra: as in :func:`explain`.

    Raises:
        NotInstalledError: a package is missing that an extra brings.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        told = explain(error, what, extra)
        if told is None:
            raise
        raise told from error


def names_of(package: str, origins: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's ``__getattr__``: names, and its modules, are imported when they are first asked for.

    So a package can offer what needs torch, and a part of it be used where there is none.

    Args:
        package: its full name.
        origins: module of each name, by its full name.
    """

    def get(name: str) -> Any:
        with needed_for(f"{package}.{name}"):
            if name in origins:
                return getattr(importlib.import_module(origins[name]), name)
            if not name.startswith("_") and importlib.util.find_spec(f"{package}.{name}") is not None:
                return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get
