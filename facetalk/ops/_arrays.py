"""Arrays in and out of the compiled operations: NumPy or torch, checked, without needless copies.

Tensors are told by their type, so that NumPy's arrays need no torch.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

from facetalk.ops._extension import load

if TYPE_CHECKING:
    import torch

Array: TypeAlias = "np.ndarray | torch.Tensor"
"""What the operations take; they give back the same kind."""


def is_tensor(value: object) -> TypeGuard[torch.Tensor]:
    """Whether something is a torch tensor, without importing torch: where nobody has, it is none."""
    kind = getattr(sys.modules.get("torch"), "Tensor", None)
    return kind is not None and isinstance(value, kind)


def is_cupy(value: object) -> bool:
    """Whether something is an array of CuPy."""
    return type(value).__module__.partition(".")[0] == "cupy"


def describe(array: Array) -> str:
    """The dtype and shape of an array in words, for messages."""
    return f"{str(array.dtype).removeprefix('torch.')} {tuple(array.shape)}"


def as_array(value: Any, name: str) -> Array:
    """Return `value` as a NumPy array or a torch tensor in the CPU's memory, sharing its memory.

    Args:
        value: a NumPy array, a torch tensor, or anything else with `__dlpack__`.
        name: the argument's name, for messages.

    Raises:
        TypeError: if it is no array or lives on another device.
    """
    if is_tensor(value):
        if value.device.type != "cpu":
            raise TypeError(
                f"{name}: expected a tensor on the CPU, got one on {value.device}; "
                f"this operation has no kernel for that device yet, pass {name}.cpu()"
            )
        if value.layout != sys.modules["torch"].strided:
            raise TypeError(
                f"{name}: expected a dense tensor, got layout {value.layout}; pass {name}.to_dense()"
            )
        # What is negated lazily (the imaginary part of a conjugate) has the other sign in memory.
        return value.detach().resolve_neg()
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "__dlpack__"):
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError, ValueError) as error:
            raise TypeError(f"{name}: expected an array in the CPU's memory; {error}") from error
    raise TypeError(f"{name}: expected a NumPy array or a torch tensor, got {type(value).__name__}")


def contiguous(array: Array, name: str, dtype: str, *, convert: tuple[str, ...] = ()) -> Array:
    """Return the array as contiguous `dtype`, converting only from the dtypes in `convert`.

    Raises:
        TypeError: if the dtype is neither `dtype` nor one of `convert`.
    """
    got = array.dtype.name if isinstance(array, np.ndarray) else str(array.dtype).removeprefix("torch.")
    if got != dtype and got not in convert:
        also = f" (or {', '.join(convert)})" if convert else ""
        raise TypeError(f"{name}: expected {dtype}{also}, got {got}")
    if not isinstance(array, np.ndarray):
        return array.to(getattr(sys.modules["torch"], dtype)).contiguous()
    native = np.dtype(dtype)  # also turns foreign byte orders around
    return np.ascontiguousarray(array, dtype=native)


def give_back(result: Any, like: Array) -> Any:
    """Wrap a result of the extension as the kind of array that `like` is; no copy."""
    if isinstance(like, np.ndarray):
        return np.from_dlpack(result)
    return sys.modules["torch"].utils.dlpack.from_dlpack(result)


def threads() -> int:
    """How many threads the compiled CPU operations use (`OMP_NUM_THREADS`, else all cores it may use)."""
    return int(load().threads())


def set_threads(count: int) -> None:
    """Set how many threads the compiled CPU operations use; results do not depend on it.

    Raises:
        ValueError: if count is not between 1 and 1024.
        TypeError: if it is not an integer.
    """
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"count: expected an integer, got {type(count).__name__}")
    if not 1 <= count <= 1024:
        raise ValueError(f"count: expected 1 to 1024 threads, got {count}")
    load().set_threads(count)
