"""facetalk: speech in, an animated neural 3D head out.

The names below are imported on first use, so that ``import facetalk`` is quick and needs neither
torch nor a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facetalk.optional import names_of

if TYPE_CHECKING:
    from facetalk import audio, batch, diffusion, fitting, mesh, metrics, nphm, ops
    from facetalk.errors import ExtensionError, InputError
    from facetalk.library import get_include, get_library
    from facetalk.mesh import Mesh, RiggedSequence
    from facetalk.mesh.export import export
    from facetalk.motion import Motion
    from facetalk.pipeline import FaceTalk
    from facetalk.style import Style
    from facetalk.version import __version__

_ORIGINS = {
    "FaceTalk": "facetalk.pipeline",
    "Motion": "facetalk.motion",
    "Mesh": "facetalk.mesh",
    "RiggedSequence": "facetalk.mesh",
    "Style": "facetalk.style",
    "export": "facetalk.mesh.export",
    "get_include": "facetalk.library",
    "get_library": "facetalk.library",
    "InputError": "facetalk.errors",
    "ExtensionError": "facetalk.errors",
    "__version__": "facetalk.version",
}

__all__ = [
    "ExtensionError",
    "FaceTalk",
    "InputError",
    "Mesh",
    "Motion",
    "RiggedSequence",
    "Style",
    "__version__",
    "audio",
    "batch",
    "diffusion",
    "export",
    "fitting",
    "get_include",
    "get_library",
    "mesh",
    "metrics",
    "nphm",
    "ops",
]

__getattr__ = names_of(__name__, _ORIGINS)


def __dir__() -> list[str]:
    return sorted(__all__)
