"""The canonical cache in the memory of a GPU; see csrc/cuda/surface/canonical_cache.cuh."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetalk.arrays import Bool, Float32, Int32
from facetalk.ops._extension import load
from facetalk.ops.cuda.lifetime import Kept
from facetalk.ops.field.kernels import constants


class CudaCanonicalCache:
    """A canonical signed distance on a sparse lattice, in the memory of a CUDA device.

    The arguments are those of :class:`facetalk.ops.field.surface.CanonicalCache`, and so are the answers, but
    for rounding: the GPU fuses multiply-adds.

    Args:
        device: a CUDA device.

    Raises:
        TypeError, ValueError: arrays of the wrong dtype or shape, or entries out of range.
        RuntimeError: the core was built without CUDA.
    """

    def __init__(
        self,
        *,
        origin: Sequence[float],
        spacing: float,
        table: Int32,
        children: Int32,
        data: Float32,
        error: Float32,
        far_origin: Sequence[float],
        far_spacing: float,
        far: Float32,
        device: torch.device | str = "cuda",
        _core: Any = None,
    ) -> None:
        if not (spacing > 0 and far_spacing > 0):
            raise ValueError(f"spacing: expected above 0, got {spacing} and {far_spacing}")
        nodes, group = constants().cache_nodes, constants().cache_children
        _check("table", table, np.int32, (None, None, None))
        _check("children", children, np.int32, (None, group))
        _check("data", data, np.float32, (None, nodes, nodes, nodes))
        _check("error", error, np.float32, (len(data),))
        _check("far", far, np.float32, (None, None, None))
        _check_entries(table, children, len(data))
        self.core = _core if _core is not None else _load_core()
        arrays = (table, children, data, error, far)
        self._held = [torch.from_numpy(np.array(a, order="C")).to(device) for a in arrays]
        self.device = self._held[0].device
        self._kept = Kept()
        self._kept.add(*self._held)
        held = [a.data_ptr() for a in self._held]
        self.packed = self.core.Cache(
            origin=[float(v) for v in origin], spacing=float(spacing), shape=table.shape, table=held[0],
            children=held[1], data=held[2], error=held[3], far_origin=[float(v) for v in far_origin],
            far_spacing=float(far_spacing), far_shape=far.shape, far=held[4],
        )  # fmt: skip

    @property
    def bytes(self) -> int:
        """Memory held on the device."""
        return sum(a.numel() * a.element_size() for a in self._held)

    def stream(self) -> int:
        """The device's current stream, as kernels take it that read the cache on it."""
        return self._kept.use(self.device)

    def query(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """At points (N, 3) float32 on the device, each (N,): values, whether cached, signed lower bounds of
        the distance, errors. Values and errors are 0 where nothing is cached.
        """
        if points.device != self.device or points.dtype != torch.float32:
            raise TypeError(
                f"points: expected float32 on {self.device}, got {points.dtype} on {points.device}"
            )
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"points: expected shape (N, 3), got {tuple(points.shape)}")
        points = points.contiguous()
        values, far, error = (torch.empty_like(points[:, 0]) for _ in range(3))
        covered = torch.empty_like(values, dtype=torch.uint8)
        with torch.cuda.device(self.device) if self.device.type == "cuda" else contextlib.nullcontext():
            self.core.query(
                self.packed, self.stream(),
                points=points.data_ptr(), n=len(points), values=values.data_ptr(),
                covered=covered.data_ptr(), far=far.data_ptr(), error=error.data_ptr(),
            )  # fmt: skip
        return values, covered.bool(), far, error

    def look_up(self, points: Float32) -> tuple[Float32, Bool, Float32, Float32]:
        """The same at points (N, 3) in the CPU's memory, and the answers there."""
        found = self.query(torch.from_numpy(points).to(self.device))
        values, covered, far, error = (answer.cpu().numpy() for answer in found)
        return values, covered, far, error


def _check(name: str, array: NDArray[Any], dtype: type, shape: tuple[int | None, ...]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"{name}: expected a NumPy array of {np.dtype(dtype)}, got {got}")
    if array.ndim != len(shape) or any(
        n is not None and n != m for n, m in zip(shape, array.shape, strict=True)
    ):
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")


def _check_entries(table: Int32, children: Int32, bricks: int) -> None:
    """A group may only name later groups, so that no lookup runs in circles."""
    before = np.concatenate([np.full(table.size, -1), np.repeat(np.arange(len(children)), children.shape[1])])
    entries = np.concatenate([table.reshape(-1), children.reshape(-1)]).astype(np.int64)
    group = -2 - entries
    wrong = (entries >= bricks) | ((entries < -1) & ((group >= len(children)) | (group <= before)))
    if wrong.any():
        raise ValueError(
            f"table, children: expected bricks below {bricks} and later groups below {len(children)}, "
            f"got {entries[wrong][0]}"
        )


def _load_core() -> Any:
    core = getattr(load(), "cuda_guided", None)
    if core is None:
        raise RuntimeError("cache: facetalk's compiled core was built without CUDA; use CanonicalCache")
    return core
