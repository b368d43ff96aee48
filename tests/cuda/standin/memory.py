"""Memory of the stand-in device: blocks of the CPU's memory that torch believes to lie on cuda:0.

Every block ends, to within 16 bytes, where nobody may read or write, has a guard zone before it, and is full
of NaN until somebody writes it. The addresses of blocks that are freed are known to be nobody's.
"""

from __future__ import annotations

import bisect
import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import guarded
import torch

from standin.order import ORDER

# torch's caching allocator aligns to 512 bytes; kernels may count on what a widest load needs.
ALIGN, GUARD, POISON = guarded.ALIGN, 512, 0xFF


class _DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    pass


_Managed._fields_ = [("tensor", _DLTensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = (
    ctypes.py_object,
    [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
)
_CUDA, _UINT = 2, 1


class Block:
    """One allocation: bytes, with guards around them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.stream = 0  # whose work may use it without waiting, and takes it when it is given back
        self.writes: dict[int, int] = {}  # by stream: when it last did
        self.reads: dict[int, int] = {}
        self.recorded: set[int] = set()  # streams that Tensor.record_stream named
        room = -(-max(1, size) // ALIGN) * ALIGN
        memory, inside = guarded.pages(room + GUARD)
        with torch.inference_mode(False):  # it is written to when it is freed, in whatever mode that is
            self.whole = torch.frombuffer(memory, dtype=torch.uint8, count=inside, offset=guarded.GUARD)
            self.whole.fill_(POISON)
        self.skip = inside - room
        self.start = self.whole.data_ptr() + self.skip

    def intact(self) -> bool:
        """Whether nobody wrote into the guards."""
        end = self.skip + max(1, self.size)
        before, after = self.whole[self.skip - GUARD : self.skip], self.whole[end:]
        return bool((before == POISON).all() and (after == POISON).all())


class Memory:
    """The blocks that are in use; those made while a graph is captured stay, as in a graph's pool."""

    def __init__(self) -> None:
        self.blocks: dict[int, Block] = {}
        self._starts: list[int] = []
        self._managed: dict[int, tuple[_Managed, object]] = {}
        self.stream: Callable[[], int] = lambda: 0  # of the caller; api.py knows
        self.library: ctypes.CDLL | None = None  # guard.cpp, once it is compiled
        self.keep = False
        self.kept: set[Block] = set()
        self.damage: list[str] = []

    def new(self, size: int) -> torch.Tensor:
        """A tensor (size,) uint8 on cuda:0."""
        self.collect()
        assert self.library is not None
        block = Block(size)
        block.stream = self.stream()
        shape = (ctypes.c_int64 * 1)(max(1, size))
        managed = _Managed()
        managed.tensor = _DLTensor(block.start, _CUDA, 0, 1, _UINT, 8, 1, shape, None, 0)
        managed.deleter = ctypes.cast(self.library.standin_delete, ctypes.c_void_p)
        address = ctypes.addressof(managed)
        self._managed[address] = (managed, shape)
        managed.context = block.start
        self.blocks[block.start] = block
        bisect.insort(self._starts, block.start)
        if self.keep:
            self.kept.add(block)
        return torch._C._from_dlpack(_new_capsule(address, b"dltensor", None))

    def collect(self) -> None:
        """Take note of what was freed."""
        assert self.library is not None
        while address := self.library.standin_next_freed():
            managed, _ = self._managed.pop(address)
            block = self.blocks[managed.context]
            if not block.intact():
                self.damage.append(f"somebody wrote outside a block of {block.size} bytes")
            if block not in self.kept:
                ORDER.given_back(block)
                del self.blocks[block.start]
                self._starts.remove(block.start)
                block.whole.fill_(POISON)

    def block_of(self, address: int) -> Block | None:
        """The block in use in which an address lies."""
        self.collect()
        at = bisect.bisect_right(self._starts, address) - 1
        if at < 0:
            return None
        block = self.blocks[self._starts[at]]
        return block if address < block.start + max(1, block.size) else None

    def check(self) -> None:
        """Look at all guards."""
        self.collect()
        for block in self.blocks.values():
            if not block.intact():
                self.damage.append(f"somebody wrote outside a block of {block.size} bytes, still in use")
        self.damage += list(dict.fromkeys(ORDER.mistakes))[:5]
        ORDER.mistakes = []
        if self.damage:
            said, self.damage = "; ".join(self.damage), []
            raise RuntimeError(f"CUDA error: an illegal memory access was encountered: {said}")


MEMORY = Memory()


def touch(what: str, reads: Sequence[torch.Tensor], writes: Sequence[torch.Tensor]) -> None:
    """Work of the caller's stream on tensors of the device."""

    def blocks(tensors: Sequence[torch.Tensor]) -> list[Block]:
        found = [MEMORY.block_of(t.untyped_storage().data_ptr()) for t in tensors if t.numel()]
        return [block for block in found if block is not None]

    ORDER.work(MEMORY.stream(), blocks(reads), blocks(writes), what)


def record_stream(tensor: torch.Tensor, stream: Any) -> None:
    """torch.Tensor.record_stream"""
    block = MEMORY.block_of(tensor.untyped_storage().data_ptr())
    if block is not None:
        block.recorded.add(stream.cuda_stream)


def on_device(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cuda"


def seen_by_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory as a tensor on the CPU."""
    storage = tensor.untyped_storage()
    if storage.nbytes() == 0 or tensor.numel() == 0:
        return torch.empty_strided(tuple(tensor.shape), tensor.stride(), dtype=tensor.dtype)
    block = MEMORY.block_of(storage.data_ptr())
    if block is None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered: memory of nobody")
    seen = torch.empty(0, dtype=tensor.dtype)
    offset = block.skip + (storage.data_ptr() - block.start)
    assert offset % tensor.element_size() == 0
    seen.set_(
        block.whole.untyped_storage(), offset // tensor.element_size() + tensor.storage_offset(),
        tuple(tensor.shape), tensor.stride(),
    )  # fmt: skip
    if tensor.is_conj() or tensor.is_neg():
        raise NotImplementedError("the stand-in has no lazy conjugates")
    return seen


def empty_strided(size: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """An uninitialised tensor on cuda:0."""
    items = 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if all(size) else 0
    raw = MEMORY.new(items * dtype.itemsize)
    typed = VIEW_DTYPE(raw, dtype, items)
    return AS_STRIDED(typed, list(size), list(stride), 0)


_CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)


def AS_STRIDED(tensor, size, stride, storage_offset=None):
    return torch.ops.aten.as_strided.default.redispatch(_CPU, tensor, size, stride, storage_offset)


def VIEW_DTYPE(raw, dtype, items):
    """(items,) of a dtype from bytes."""
    if dtype == torch.uint8:
        return AS_STRIDED(raw, [items], [1], 0)
    raw = AS_STRIDED(raw, [items * dtype.itemsize], [1], 0)
    return torch.ops.aten.view.dtype(raw, dtype)
