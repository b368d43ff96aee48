"""The add-on of examples/blender: its modules that need nothing of Blender, and the Python that has bpy."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples/blender/facetalk"
PYTHON = os.environ.get("FACETALK_BLENDER_PYTHON") or (
    sys.executable if importlib.util.find_spec("bpy") else None
)
"""A Python that has Blender's module, or None."""
needs_blender = pytest.mark.skipif(PYTHON is None, reason="no Python with bpy: set FACETALK_BLENDER_PYTHON")
Played = Callable[..., Any]
"""The fixture ``played``: runs a scene by name, returns its result and what Blender reported."""
_NAME = "facetalk_in_blender"  # in Blender it is not called as the package is either


def addon_module(name: str) -> types.ModuleType:
    """One of them, without the ``__init__`` that asks for bpy."""
    if _NAME not in sys.modules:
        package = types.ModuleType(_NAME)
        package.__path__ = [str(FOLDER)]
        sys.modules[_NAME] = package
    return importlib.import_module(f"{_NAME}.{name}")
