"""The sample positions of a lattice on a device: copied once, as long as calls come with the same ones."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

_MOST = 8  # lattices that are kept: one for each resolution and box in use


@dataclasses.dataclass(frozen=True)
class DeviceAxes:
    """Sample positions along x, y, z.

    Attributes:
        tensors: float32 on the device.
        ends: (2, 3) float64, the first and the last position along each axis, in the CPU's memory.
    """

    tensors: tuple[Tensor, Tensor, Tensor]
    ends: np.ndarray


class AxesCache:
    """What was copied last. Positions are looked at on the CPU, so that no call waits for the device.

    Args:
        device: where they go.
        made: called with the tensors of each new lattice, which are used on any stream from then on.
    """

    def __init__(self, device: torch.device, made: Callable[..., None]) -> None:
        self._device, self._made = device, made
        self._kept: dict[bytes, DeviceAxes] = {}
        self._lock = threading.Lock()

    def take(self, axes: list[Tensor]) -> DeviceAxes:
        """The axes on the device.

        Raises:
            ValueError: an axis without samples, or numbers that are not finite.
        """
        if min(len(axis) for axis in axes) == 0:
            raise ValueError("axes: expected at least one sample along every axis")
        here = [axis.to("cpu", torch.float32).numpy() for axis in axes]
        if not all(np.isfinite(axis).all() for axis in here):
            raise ValueError("axes: expected finite numbers")
        key = b"".join(np.int64(len(axis)).tobytes() + axis.tobytes() for axis in here)
        with self._lock:
            found = self._kept.pop(key, None)
            if found is None:
                x, y, z = (torch.from_numpy(axis.copy()).to(self._device) for axis in here)
                ends = np.array([[axis[0] for axis in here], [axis[-1] for axis in here]], np.float64)
                found = DeviceAxes((x, y, z), ends)
                self._made(x, y, z)
            self._kept[key] = found  # the last to go
            while len(self._kept) > _MOST:
                del self._kept[next(iter(self._kept))]
        return found
