"""A face for a voice: what is heard of it, what is known of faces, and a draw between the two.

Nobody is recognised. See ``facetalk/models/timbre/README.md`` for what is drawn, on what grounds, and limits.
"""

from __future__ import annotations

from facetalk.casting.draw import cast, seed_of
from facetalk.casting.voice import Voice, hear

__all__ = ["Voice", "cast", "hear", "seed_of"]
