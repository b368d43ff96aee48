"""What an engine gives of a clip, whichever it is: curves, and what the tongue touches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from facetalk.arrays import Float32


class Frames(NamedTuple):
    """Some frames of a clip, as an engine gives them.

    Attributes:
        curves: (m, E) expression codes.
        contacts: (m, 2) in [0, 1], what the tip of the tongue touches, in the order of
            :data:`facetalk.data.tongue.CONTACTS`; None of a model without a tongue that moves.
    """

    curves: Float32
    contacts: Float32 | None

    @classmethod
    def joined(cls, parts: Sequence[Frames]) -> Frames:
        """One after the other, at least one."""
        told = [part.contacts for part in parts if part.contacts is not None]
        return cls(np.concatenate([part.curves for part in parts]), np.concatenate(told) if told else None)
