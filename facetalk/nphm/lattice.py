"""Lattices of samples: where they lie, and whether memory holds them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from facetalk.errors import InputError

Bounds = Sequence[Sequence[float]]
Resolution = int | Sequence[int]

DEFAULT_BOUNDS = ((-0.55, -0.5, -0.95), (0.55, 0.75, 0.4))
"""Extraction box of the NPHM and MonoNPHM fitting scripts, head space."""
DEFAULT_RESOLUTION = 128


def lattice_axes(resolution: Resolution, bounds: Bounds, *, least: int = 1) -> list[np.ndarray]:
    """Sample positions along x, y, z: float64 spacing, rounded to float32; both ends are samples.

    Raises:
        InputError: a resolution that is no positive whole number, or bounds that are not two ordered corners.
    """
    counts: list[Any] = (
        list(resolution) if isinstance(resolution, (tuple, list, np.ndarray)) else [resolution] * 3
    )
    whole = all(isinstance(c, (int, np.integer)) and not isinstance(c, bool) for c in counts)
    if len(counts) != 3 or not whole:
        raise InputError(f"resolution: expected a whole number or three, got {resolution!r}")
    if min(counts) < least:
        raise InputError(f"resolution: expected at least {least} samples along every axis, got {resolution}")
    try:
        box = np.asarray(bounds, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"bounds: expected ((x0, y0, z0), (x1, y1, z1)), got {bounds!r}") from error
    if box.shape != (2, 3) or not np.isfinite(box).all() or not (box[0] < box[1]).all():
        raise InputError(
            f"bounds: expected ((x0, y0, z0), (x1, y1, z1)) growing along every axis, got {bounds!r}"
        )
    return [
        np.linspace(a, b, int(n)).astype(np.float32) for a, b, n in zip(box[0], box[1], counts, strict=True)
    ]


def check_memory(axes: Sequence[np.ndarray], volumes: float, device: torch.device) -> None:
    """Refuses lattices that memory cannot hold, before an allocation is tried that would end the process."""
    need = 4 * volumes * np.prod([float(len(a)) for a in axes])
    if device.type == "cuda":
        have, where = torch.cuda.get_device_properties(device).total_memory, str(device)
    else:
        have, where = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine"
    if need > 0.8 * have:
        size = " x ".join(str(len(a)) for a in axes)
        raise InputError(
            f"resolution: a lattice of {size} samples needs {need / 2**30:.0f} GiB, {where} "
            f"has {have / 2**30:.0f}; choose a smaller resolution"
        )
