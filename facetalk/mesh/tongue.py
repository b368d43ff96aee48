"""How a tongue stands: three weights a frame, beside the expression codes as the head's pose is.

``tongueOut`` is ARKit's name, which is what receivers of its 52 blendshapes look for; ARKit has no others for
a tongue, so the other two are named in its manner. (Rigs of avatars, and MetaHuman's, have many names.)
"""

from __future__ import annotations

import numpy as np

from facetalk.arrays import AnyFloat, Float32
from facetalk.errors import InputError

__all__ = ["TONGUE_NAMES", "checked_tongue"]

TONGUE_NAMES = ("tongueUp", "tongueForward", "tongueOut")
"""Tip up to the ridge behind the upper teeth, forward between the teeth, out of the mouth."""


def checked_tongue(tongue: AnyFloat, frames: int) -> Float32:
    """(frames, 3) float32 weights of :data:`TONGUE_NAMES`, in [0, 1].

    Raises:
        InputError: another shape, values that are not finite, or weights that are no shares.
    """
    found = np.ascontiguousarray(tongue, np.float32)
    if found.shape != (frames, len(TONGUE_NAMES)):
        raise InputError(f"tongue must have shape ({frames}, {len(TONGUE_NAMES)}), got {found.shape}")
    if not np.isfinite(found).all():
        raise InputError(f"tongue has {np.count_nonzero(~np.isfinite(found))} values that are not finite")
    if found.size and (found.min() < -1e-4 or found.max() > 1.0 + 1e-4):
        raise InputError(f"weights of a tongue lie in 0..1, got {found.min():.3g} to {found.max():.3g}")
    return np.clip(found, 0.0, 1.0)
