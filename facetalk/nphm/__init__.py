"""Neural parametric head models: networks, official checkpoint formats, bound fields, tracking."""

from facetalk.nphm.checkpoint import load_checkpoint
from facetalk.nphm.field import Field
from facetalk.nphm.model import NPHM

__all__ = ["NPHM", "Field", "load_checkpoint"]
