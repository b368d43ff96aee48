"""Figures about motions: do the lips do what the speech says, and how much do samples differ."""

from facetalk.metrics.lips import LipFigures, lip_gap, measure

__all__ = ["LipFigures", "lip_gap", "measure"]
