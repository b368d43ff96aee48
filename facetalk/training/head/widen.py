"""A deformation network made wider without changing what it computes, to be trained on from there.

As Net2Net does it (Chen et al., "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR 2016), but that
new units are drawn by chance and read by nobody at first, so that no two begin alike.
"""

from __future__ import annotations

import torch

from facetalk.errors import InputError
from facetalk.nphm.networks import DeformationNetwork

__all__ = ["widen"]


@torch.no_grad()
def widen(narrow: DeformationNetwork, wide: DeformationNetwork) -> None:
    """Let ``wide`` begin as ``narrow``.

    Args:
        narrow: what has been trained; it may be as wide.
        wide: initialised; its own weights remain those of the units that ``narrow`` lacks. Changed in place.

    Raises:
        InputError: they differ in more than width, or ``wide`` is the narrower one.
    """
    a, b = narrow.config, wide.config
    if (a.layers, a.input_dim, a.family) != (b.layers, b.input_dim, b.family) or a.hidden > b.hidden:
        raise InputError(
            f"a backward network of {a.layers} layers of {a.hidden} cannot be the start of one of "
            f"{b.layers} layers of {b.hidden}: only more units of as many layers can be added"
        )
    wide.compressor.load_state_dict(narrow.compressor.state_dict())
    known = 0  # hidden inputs that the trained layer reads
    for i in range(a.layers + 1):
        old, new = getattr(narrow.defDeepSDF, f"lin{i}"), getattr(wide.defDeepSDF, f"lin{i}")
        inputs = a.input_dim if i in (0, a.layers // 2) else 0
        outputs, last = len(old.bias), new.in_features - inputs
        new.weight[:outputs, known:last] = 0.0  # what was there reads nothing new
        new.weight[:outputs, :known] = old.weight[:, :known]
        if inputs:
            new.weight[:outputs, last:] = old.weight[:, known:]
        new.bias[:outputs] = old.bias
        known = outputs
