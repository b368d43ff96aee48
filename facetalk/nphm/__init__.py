"""Neural parametric head models: networks, official checkpoint formats, bound fields, tracking."""

from facetalk.nphm.checkpoint import load_checkpoint
from facetalk.nphm.field import Field
from facetalk.nphm.model import NPHM
from facetalk.nphm.root_search import RootWarning

__all__ = ["NPHM", "Field", "RootWarning", "load_checkpoint"]
