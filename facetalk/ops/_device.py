"""What the operations need to run on a CUDA device: the core with kernels in it, and the caller's stream."""

from __future__ import annotations

import functools
from types import ModuleType

import torch

from facetalk.ops._extension import load


def cuda_core(name: str, where: object) -> ModuleType:
    """Return the extension for work on a CUDA device.

    Args:
        name: of the argument that lives there, for the message.
        where: the device, for the message.

    Raises:
        TypeError: if this build or this machine cannot run CUDA kernels; the message says why.
    """
    reason = _missing()
    if reason is not None:
        raise TypeError(
            f"{name}: expected an array on the CPU, got one on {where}, where facetalk cannot work: "
            f"{reason}; pass {name}.cpu()"
        )
    return load()


@functools.cache
def _missing() -> str | None:
    """Why there is no CUDA; devices do not come and go within a process."""
    return load().build_info()["missing"].get("cuda")


def current_stream(device: torch.device) -> int:
    """The stream on which torch enqueues work for a device now, as the number that CUDA knows it by."""
    return int(torch.cuda.current_stream(device).cuda_stream)
