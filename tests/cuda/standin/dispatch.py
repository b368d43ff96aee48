"""Runs torch's operations on tensors of the stand-in device: on the CPU, over the same memory.

Stricter than the CPU where CUDA is: operands on two devices are an error, and while a graph is captured so is
everything that waits for the device. What is captured can be replayed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from standin.memory import MEMORY, empty_strided, on_device, seen_by_cpu, touch
from standin.order import ORDER

_CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
_SET = torch.ops.aten.set_.source_Storage_storage_offset.redispatch
_VIEWS = ("as_strided", "view", "view.dtype", "_reshape_alias", "unfold")
# Operands on the CPU are moved by CUDA's own kernels of these, which waits for the device.
_TAKE_INDICES_OF_THE_CPU = ("aten::index.Tensor", "aten::index_put_", "aten::_index_put_impl_")
_WAIT = ("aten::nonzero", "aten::_local_scalar_dense", "aten::equal", "aten::masked_select",
         "aten::repeat_interleave.Tensor", "aten::_unique2", "aten::bincount")  # fmt: skip


class Recording:
    """What a captured graph does again at a replay."""

    def __init__(self) -> None:
        self.steps: list[Callable[[], object]] = []

    def replay(self) -> None:
        for step in self.steps:
            step()


class State:
    """What the device is doing."""

    recording: Recording | None = None
    may_wait = True  # False: as torch.cuda.set_sync_debug_mode("error")
    waited: list[str] | None = None  # a list takes down what waits for the device

    def waits(self, what: str) -> None:
        """Called for what waits for the device."""
        if self.recording is not None:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing: {what}")
        if self.waited is not None:
            self.waited.append(what)
        if not self.may_wait:
            raise RuntimeError(f"called a synchronizing CUDA operation: {what}")


STATE = State()


def touched(what: str, reads: list[torch.Tensor], writes: list[torch.Tensor]) -> None:
    """Note work: now, or, while a graph is captured, at each replay on whatever stream that is."""
    if STATE.recording is None:
        touch(what, reads, writes)
    else:
        STATE.recording.steps.append(lambda: touch(f"a replay's {what}", reads, writes))


def _named(op: Any, kwargs: dict[str, Any]) -> list[tuple[Any, Any]]:
    arguments = {known.name: known for known in op._schema.arguments}
    return [(value, arguments[name]) for name, value in kwargs.items() if name in arguments]


def record(step: Callable[[], object]) -> None:
    if STATE.recording is not None:
        STATE.recording.steps.append(step)


def _name(op: Any) -> str:
    return str(op.name())


def _fallback(op: Any, *args: Any, **kwargs: Any) -> Any:
    name = _name(op)
    mine: list[tuple[torch.Tensor, torch.Tensor]] = []  # on the device, and as the CPU sees it

    def lower(value: Any) -> Any:
        if isinstance(value, torch.device):
            return torch.device("cpu") if value.type == "cuda" else value
        if not isinstance(value, torch.Tensor):
            return value
        if on_device(value):
            seen = seen_by_cpu(value)
            mine.append((value, seen))
            return seen
        if value.dim() > 0 and not name.startswith(_TAKE_INDICES_OF_THE_CPU):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and "
                f"{value.device}! ({name})"
            )
        if value.dim() > 0:
            STATE.waits(f"{name} with an operand of the CPU")
        return value

    given = args
    args = tuple(
        torch.tensor(value) if type(value) in (int, float, bool) and str(known.type) == "Tensor" else value
        for value, known in zip(args, op._schema.arguments, strict=False)
    )
    cpu_args, cpu_kwargs = tree_map(lower, (args, kwargs))
    if name.startswith(_WAIT) or (name.startswith("aten::index") and _has_mask(args)):
        STATE.waits(name)
    before = [seen.shape for _, seen in mine]
    found = op(*cpu_args, **cpu_kwargs)
    fresh: list[torch.Tensor] = []
    grown: list[tuple[torch.Tensor, torch.Tensor]] = []
    for (theirs, seen), shape in zip(mine, before, strict=True):
        if seen.shape != shape:  # an empty result that the operation made as large as it had to be
            made = empty_strided(seen.shape, seen.stride(), seen.dtype)
            grown.append((seen, seen_by_cpu(made).copy_(seen)))
            _SET(_CPU, theirs, made.untyped_storage(), 0, list(made.shape), list(made.stride()))

    def raise_up(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        for theirs, seen in mine:
            if value is seen:
                return theirs
        for theirs, seen in mine:
            if value.numel() and value.untyped_storage().data_ptr() == seen.untyped_storage().data_ptr():
                raise NotImplementedError(
                    f"the stand-in takes {name} for no view, yet it is one of {theirs.shape}"
                )
        made = empty_strided(value.shape, value.stride(), value.dtype)
        if name.rpartition("::")[2].split(".")[0] not in (
            "empty",
            "empty_strided",
            "new_empty",
            "empty_like",
        ):
            seen_by_cpu(made).copy_(value)
        fresh.append(seen_by_cpu(made))
        return made

    result = tree_map(raise_up, found)

    def again() -> None:
        flat = [
            v
            for v in torch.utils._pytree.tree_leaves(op(*cpu_args, **cpu_kwargs))
            if isinstance(v, torch.Tensor)
        ]
        new = [v for v in flat if not any(v is seen for _, seen in mine)]
        for to, value in zip(fresh, new, strict=True):
            to.copy_(value)
        for seen, to in grown:
            to.copy_(seen)

    if "empty" not in name:
        written = [
            value
            for value, known in [*zip(given, op._schema.arguments, strict=False), *_named(op, kwargs)]
            if isinstance(value, torch.Tensor) and known.alias_info is not None and known.alias_info.is_write
        ]
        new = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor) and on_device(t)]
        read = [theirs for theirs, _ in mine if not any(theirs is w for w in written)]
        touched(name, read, [*written, *new])
        if name.startswith(_WAIT):
            ORDER.host_waits(ORDER.clock(MEMORY.stream()))
        record(again)
    return result


def _has_mask(args: Any) -> bool:
    return any(
        isinstance(value, torch.Tensor) and value.dtype in (torch.bool, torch.uint8)
        for value in torch.utils._pytree.tree_leaves(args[1:2])
    )


def _copy_(to: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    crosses = on_device(to) != on_device(source)
    if crosses:
        STATE.waits(f"a copy from {source.device} to {to.device}")
    a, b = (seen_by_cpu(x) if on_device(x) else x for x in (to, source))
    a.copy_(b)
    there = [t for t in (source,) if on_device(t)], [t for t in (to,) if on_device(t)]
    touched("a copy", *there)
    if crosses:
        ORDER.host_waits(ORDER.clock(MEMORY.stream()))
    record(lambda: a.copy_(b))
    return to


_libraries: list[torch.library.Library] = []


def _untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """torch.compile traces operations, not what this device does for them."""
    return torch.compiler.disable(function)  # type: ignore[no-any-return]


def install() -> None:
    """Register the operations; for the rest of the process."""
    everything = torch.library.Library("_", "IMPL")
    everything.fallback(_untraced(_fallback), "CUDA")
    aten = torch.library.Library("aten", "IMPL")
    for view in _VIEWS:
        name, _, overload = view.partition(".")
        op = getattr(getattr(torch.ops.aten, name), overload or "default")
        aten.impl(view, _untraced(lambda *args, _op=op, **kw: _op.redispatch(_CPU, *args, **kw)), "CUDA")
    aten.impl("copy_", _untraced(_copy_), "CUDA")
    _libraries.extend((everything, aten))
