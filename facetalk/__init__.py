"""facetalk: speech in, an animated neural 3D head out.

The names below are imported on first use, so that ``import facetalk`` is quick and needs no GPU.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from facetalk.version import __version__

if TYPE_CHECKING:
    from facetalk import audio, batch, diffusion, mesh, metrics, nphm, ops
    from facetalk.errors import ExtensionError, InputError
    from facetalk.mesh import Mesh, RiggedSequence
    from facetalk.mesh.export import export
    from facetalk.motion import Motion
    from facetalk.native import get_include, get_library
    from facetalk.pipeline import FaceTalk

_ORIGINS = {
    "FaceTalk": "facetalk.pipeline",
    "Motion": "facetalk.motion",
    "Mesh": "facetalk.mesh",
    "RiggedSequence": "facetalk.mesh",
    "export": "facetalk.mesh.export",
    "get_include": "facetalk.native",
    "get_library": "facetalk.native",
    "InputError": "facetalk.errors",
    "ExtensionError": "facetalk.errors",
}
_SUBPACKAGES = ("audio", "batch", "diffusion", "mesh", "metrics", "nphm", "ops")

__all__ = [
    "ExtensionError",
    "FaceTalk",
    "InputError",
    "Mesh",
    "Motion",
    "RiggedSequence",
    "__version__",
    "audio",
    "batch",
    "diffusion",
    "export",
    "get_include",
    "get_library",
    "mesh",
    "metrics",
    "nphm",
    "ops",
]


def __getattr__(name: str) -> Any:
    if name in _ORIGINS:
        return getattr(importlib.import_module(_ORIGINS[name]), name)
    if name in _SUBPACKAGES:
        return importlib.import_module(f"facetalk.{name}")
    raise AttributeError(f"module 'facetalk' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
