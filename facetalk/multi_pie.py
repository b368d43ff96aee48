"""Which of the 68 Multi-PIE landmarks are what.

The order is that of Multi-PIE (Gross et al., Image and Vision Computing 2010) as the 300-W annotations use
it: 17 to 26 brows, 36 to 47 lids, 48 to 59 outer and 60 to 67 inner lips. Right and left are the face's own.
"""

from __future__ import annotations

LANDMARKS = 68
BROWS = tuple(range(17, 27))
LIDS = tuple(range(36, 48))
UPPER_FACE = BROWS + LIDS
OUTER_LIPS = tuple(range(48, 60))
MOUTH = tuple(range(48, 68))

UPPER_LIP_LINE, LOWER_LIP_LINE = (60, 61, 62, 63, 64), (60, 67, 66, 65, 64)
"""The inner lips from corner to corner, each point of one above that of the other."""
UPPER_LIP, LOWER_LIP = UPPER_LIP_LINE[1:-1], LOWER_LIP_LINE[1:-1]
"""The inner lips without their corners, in pairs that face each other."""
LIP_CENTRE = (62, 66)
"""The pair in the middle."""

UPPER_LIDS, LOWER_LIDS = ((36, 37, 38, 39), (42, 43, 44, 45)), ((36, 41, 40, 39), (42, 47, 46, 45))
"""Of the right eye and of the left one, from corner to corner, each point of one above that of the other."""
