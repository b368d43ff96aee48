"""What the operations need to run on a CUDA device: the core with kernels in it, and the caller's stream."""

from __future__ import annotations

import functools
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from facetalk.ops._arrays import as_array, contiguous
from facetalk.ops._extension import load


def cuda_core(name: str, where: object) -> ModuleType:
    """Return the extension for work on a CUDA device.

    Args:
        name: of the argument that lives there, for the message.
        where: the device, for the message.

    Raises:
        TypeError: if this build or this machine cannot run CUDA kernels; the message says why.
    """
    reason = _missing(where.index if isinstance(where, torch.device) else None)
    if reason is not None:
        raise TypeError(
            f"{name}: expected an array on the CPU, got one on {where}, where facetalk cannot work: "
            f"{reason}; pass {name}.cpu()"
        )
    return load()


@functools.cache
def _missing(index: int | None = None) -> str | None:
    """Why there is no CUDA, or none on a device of that number; devices do not come and go within a process.

    torch and the core count devices alike, since both ask the same driver and read the same environment.
    """
    info = load().build_info()
    reason: str | None = info["missing"].get("cuda")
    if reason is None and index is not None and index < len(info["devices"]):
        reason = info["devices"][index]["missing"]
    return reason


def why_not(device: torch.device) -> str | None:
    """Why kernels cannot run on a device, in words; None where they can."""
    if device.type == "cpu":
        return None
    if device.type != "cuda":
        return "there are kernels for the CPU and for CUDA devices alone"
    reason = _missing()
    if reason is not None:
        return reason
    try:
        here = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return _missing(here.index)


def with_kernels(device: torch.device) -> torch.device:
    """The device if kernels run there, else the CPU."""
    return device if why_not(device) is None else torch.device("cpu")


def floats_on(device: torch.device, value: object, name: str) -> Tensor:
    """Return an array as contiguous float32 on a device, sharing its memory where it can.

    Args:
        device: where the result lies.
        value: floating-point numbers: a torch tensor on the CPU or on `device`, a NumPy array, or anything
            else with `__dlpack__`, such as a CuPy array.
        name: the argument's name, for messages.

    Raises:
        TypeError: not such an array.
        ValueError: numbers in the CPU's memory that are not finite. Those on a device are not looked at,
            because the call would wait for them.
    """
    if not isinstance(value, (Tensor, np.ndarray)) and hasattr(value, "__dlpack__"):
        value = from_dlpack(value)
    if isinstance(value, Tensor) and value.device == device and device.type != "cpu":
        if not value.is_floating_point():
            raise TypeError(f"{name}: expected floating-point numbers, got {value.dtype}")
        return value.detach().to(torch.float32).contiguous()
    if isinstance(value, Tensor) and value.device.type != "cpu":
        raise TypeError(f"{name}: expected an array on the CPU or on {device}, got one on {value.device}")
    array = contiguous(as_array(value, name), name, "float32", convert=("float64", "float16"))
    tensor = array if isinstance(array, Tensor) else torch.from_numpy(array.copy())
    finite = torch.isfinite(tensor)
    if not finite.all():
        where = torch.nonzero(~finite)[0].tolist()
        raise ValueError(f"{name}: expected finite numbers, got {tensor[tuple(where)].item()} at {where}")
    return tensor.to(device)


def current_stream(device: torch.device) -> int:
    """The stream on which torch enqueues work for a device now, as the number that CUDA knows it by."""
    return int(torch.cuda.current_stream(device).cuda_stream)
