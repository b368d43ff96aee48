"""The modules of examples/blender that need nothing of Blender."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "examples/blender/facetalk"
_NAME = "facetalk_in_blender"  # in Blender it is not called as the package is either


def addon_module(name: str) -> types.ModuleType:
    """One of them, without the ``__init__`` that asks for bpy."""
    if _NAME not in sys.modules:
        package = types.ModuleType(_NAME)
        package.__path__ = [str(FOLDER)]
        sys.modules[_NAME] = package
    return importlib.import_module(f"{_NAME}.{name}")
