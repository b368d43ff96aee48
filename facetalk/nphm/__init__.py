"""Neural parametric head models: networks, official checkpoint formats, bound fields, tracking.

The names below are imported on first use: all of them need torch, and the built-in head's rig
(:mod:`facetalk.nphm.head`) does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facetalk.optional import names_of

if TYPE_CHECKING:
    from facetalk.nphm.checkpoint import load_checkpoint
    from facetalk.nphm.field import Field
    from facetalk.nphm.model import NPHM
    from facetalk.nphm.root_search import RootWarning

__all__ = ["NPHM", "Field", "RootWarning", "load_checkpoint"]

__getattr__ = names_of(
    __name__,
    {
        "NPHM": "facetalk.nphm.model",
        "Field": "facetalk.nphm.field",
        "RootWarning": "facetalk.nphm.root_search",
        "load_checkpoint": "facetalk.nphm.checkpoint",
    },
)
