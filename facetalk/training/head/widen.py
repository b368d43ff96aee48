"""A deformation network made wider without changing what it computes, to be trained on from there.

As Net2Net does it (Chen et al., "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR 2016), but that
new units are drawn by chance and read by nobody at first, so that no two begin alike.
"""

from __future__ import annotations

import torch
from torch import nn

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
    same = (a.layers, a.family, a.code_dim, a.expression_dim, a.anchors) == (
        b.layers, b.family, b.code_dim, b.expression_dim, b.anchors,
    )  # fmt: skip
    if not same or a.hidden > b.hidden or a.compressed_dim > b.compressed_dim or not _fits(narrow, wide):
        raise InputError(
            f"a backward network of {a.layers} layers of {a.hidden} cannot be the start of one of "
            f"{b.layers} layers of {b.hidden}: only more units of as many layers can be added"
        )
    old, new = narrow.compressor[0], wide.compressor[0]
    assert isinstance(old, nn.Linear) and isinstance(new, nn.Linear)
    new.weight[: a.compressed_dim] = old.weight
    new.bias[: a.compressed_dim] = old.bias
    known = 0  # hidden inputs that the trained layer reads
    for i in range(a.layers + 1):
        old, new = getattr(narrow.defDeepSDF, f"lin{i}"), getattr(wide.defDeepSDF, f"lin{i}")
        outputs = len(old.bias)
        new.weight[:outputs] = 0.0  # what was there reads nothing new
        new.weight[:outputs, :known] = old.weight[:, :known]
        if i in (0, a.layers // 2):
            start, last = 3 + a.compressed_dim, new.in_features - b.input_dim
            new.weight[:outputs, last : last + start] = old.weight[:, known : known + start]
            new.weight[:outputs, last + 3 + b.compressed_dim :] = old.weight[:, known + start :]
        new.bias[:outputs] = old.bias
        known = outputs


def _fits(narrow: DeformationNetwork, wide: DeformationNetwork) -> bool:
    """Whether every layer has room: the one before the skip is the narrower, the more inputs come back."""
    layers = range(narrow.config.layers + 1)
    sizes = [[len(getattr(n.defDeepSDF, f"lin{i}").bias) for i in layers] for n in (narrow, wide)]
    return all(old <= new for old, new in zip(*sizes, strict=True))
