"""facetalk._C with CUDA functions whose kernels run on the host, and a guard in front of each.

The guard knows what a GPU would only show as wrong numbers or a crash: a stream that is not the caller's, and
addresses that are not, or no longer, memory of the device.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from standin.api import current_stream
from standin.dispatch import STATE, record
from standin.memory import MEMORY
from standin.order import ORDER

_TOP_LEVEL = ("masked_cross_attention_cuda", "masked_cross_attention_backward_cuda", "vertex_normals_cuda",
              "marching_cubes_cases", "marching_cubes_workspace", "marching_cubes_count",
              "marching_cubes_emit")  # fmt: skip
# Of arguments by place and by name, what a function writes. Descriptions (Mlp, Cache, Bricks ...) are read.
_WRITTEN: dict[str, tuple[int, ...]] = {
    "masked_cross_attention_cuda": (3, 4),
    "masked_cross_attention_backward_cuda": (5, 6),
    "vertex_normals_cuda": (4,),
    "marching_cubes_count": (7, 8),
    "marching_cubes_emit": (10, 11, 12),
}
_WRITTEN_NAMES = {
    *("y", "offsets", "jacobian", "seed", "value", "slope", "sdf", "raw_sdf", "gradient", "table", "points"),
    *("samples", "wanted", "due", "state", "values", "covered", "left", "level", "mask", "block_start"),
    *("member_total", "start", "tile_start", "point", "inverse", "unshrink", "sigma", "scale_from"),
}
_WITHOUT_STREAM = ("marching_cubes_cases", "marching_cubes_workspace", "wgmma_columns", "wgmma_missing")
_ADDRESS = 1 << 32  # no size in these tests is as large, and no address as small
_one_at_a_time = threading.RLock()  # the emulation has one machine

CALLS: dict[str, int] = {}
"""How often each function was called."""


class Wrong(AssertionError):
    """A call that would go wrong on a GPU."""


def _addresses(value: Any) -> list[int]:
    if isinstance(value, int) and not isinstance(value, bool):
        return [value] if value >= _ADDRESS else []
    if isinstance(value, (list, tuple)):
        return [address for part in value for address in _addresses(part)]
    return []


class Guarded:
    """A function or a class of the module."""

    def __init__(self, name: str, target: Any, described: dict[int, tuple[Any, list[int]]]) -> None:
        self.name, self._target, self._described = name, target, described

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with _one_at_a_time:
            CALLS[self.name] = CALLS.get(self.name, 0) + 1
            values = [*args, *kwargs.values()]
            named = [(name, value) for name, value in kwargs.items()] + [("", value) for value in args]
            makes = isinstance(self._target, type)
            held = [(name, address) for name, value in named for address in _addresses(value)]
            for value in values:
                held += [
                    ("what was described before", a) for a in self._described.get(id(value), (None, []))[1]
                ]
                self._check_tensor(value)
            for name, address in held:
                if MEMORY.block_of(address) is None:
                    raise Wrong(f"{self.name}: {name} {address:#x} is no memory of the device, or was freed")
            if not makes and self.name not in _WITHOUT_STREAM:
                handle = current_stream().cuda_stream
                if not any(type(value) is int and value == handle for value in values):
                    raise Wrong(f"{self.name}: the stream passed is not the caller's")
            made = self._target(*args, **kwargs)
            if makes:
                self._described[id(made)] = (made, [address for _, address in held])
            else:
                touch = self._touch(args, held)
                if STATE.recording is None:
                    ORDER.work(MEMORY.stream(), *touch, self.name)
                record(lambda: ORDER.work(MEMORY.stream(), *touch, f"a replay's {self.name}"))
                record(lambda: self._target(*args, **kwargs))
            return made

    def _touch(self, args: tuple[Any, ...], held: list[tuple[str, int]]) -> tuple[list[Any], list[Any]]:
        """Blocks that are read, and that are written."""
        names = _WRITTEN_NAMES - {"points"} if self.name == "deform" else _WRITTEN_NAMES
        written = [a for name, a in held if name in names]
        read = [a for name, a in held if name not in names]
        for place, value in enumerate(args):
            for part in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(part, torch.Tensor):
                    (written if place in _WRITTEN.get(self.name, ()) else read).append(part.data_ptr())

        def blocks(addresses: list[int]) -> list[Any]:
            found = [MEMORY.block_of(address) for address in addresses]
            return [block for block in found if block is not None]

        return blocks(read), blocks(written)

    def _check_tensor(self, value: Any) -> None:
        if isinstance(value, (list, tuple)):
            for part in value:
                self._check_tensor(part)
        if isinstance(value, torch.Tensor) and value.device.type != "cuda":
            raise Wrong(f"{self.name}: a tensor on {value.device}")


class Part:
    """A module of the extension with guards."""

    def __init__(self, module: Any) -> None:
        self._module, self._described = module, {}
        for name in dir(module):
            if not name.startswith("_"):
                value = getattr(module, name)
                setattr(self, name, Guarded(name, value, _DESCRIBED) if callable(value) else value)


_DESCRIBED: dict[int, tuple[Any, list[int]]] = {}


def install(library: Path) -> None:
    """Put the module in facetalk._C's place, for the rest of the process."""
    from facetalk.ops._extension import load

    real = load()  # of a checkout without a core, the installed one
    spec = importlib.util.spec_from_file_location("standin_core", library)
    assert spec is not None and spec.loader is not None
    kernels = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kernels)
    module = ModuleType("facetalk._C")
    module.__dict__.update(real.__dict__)
    for name in _TOP_LEVEL:
        setattr(module, name, Guarded(name, getattr(kernels, name), _DESCRIBED))
    module.cuda_field, module.cuda_guided = Part(kernels.cuda_field), Part(kernels.cuda_guided)  # type: ignore[attr-defined]

    def build_info() -> dict[str, Any]:
        info = dict(real.build_info())
        info["backends"] = ["cpu", "cuda"]
        info["missing"] = {k: v for k, v in info["missing"].items() if k != "cuda"}
        return info

    module.build_info = build_info  # type: ignore[attr-defined]
    sys.modules["facetalk._C"] = module
    load.cache_clear()  # from now on it finds the module above
    import facetalk

    facetalk._C = module  # type: ignore[attr-defined]
