"""What an engine gives of a clip, whichever it is: curves, what the tongue touches, and where the head is."""

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
        pose: (m, 6) radians and millimetres, as :mod:`facetalk.mesh.pose` has them; None of an engine that
            was not asked for it.
    """

    curves: Float32
    contacts: Float32 | None
    pose: Float32 | None = None

    @classmethod
    def joined(cls, parts: Sequence[Frames]) -> Frames:
        """One after the other, at least one."""
        columns = zip(*parts, strict=True)
        curves, contacts, pose = ([rows for rows in column if rows is not None] for column in columns)
        return cls(
            np.concatenate(curves),
            np.concatenate(contacts) if contacts else None,
            np.concatenate(pose) if pose else None,
        )
