"""Memory that ends where nobody may read or write, so that what lies behind an array is no other array.

A kernel that reads past its operand finds the heap's bytes otherwise, and computes on. Here it stops: the
emulation says which thread it was, see emulate/faults.h.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import mmap
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

PAGE = mmap.PAGESIZE
GUARD = 16 * PAGE  # on both sides: strides of a row or two still end there
ALIGN = 16  # what kernels may count on: the widest load
_NOTHING = 0
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def pages(size: int) -> tuple[mmap.mmap, int]:
    """Memory between pages that nobody may touch.

    Returns:
        the map, and how many bytes of it from GUARD on may be touched, which are at least `size`.
    """
    inside = max(1, -(-size // PAGE)) * PAGE
    memory = mmap.mmap(-1, inside + 2 * GUARD)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for guard in (base, base + GUARD + inside):
        if _libc.mprotect(guard, GUARD, _NOTHING) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    return memory, inside


@contextmanager
def guarded(arrays: Sequence[np.ndarray]) -> Iterator[list[int]]:
    """The addresses of copies, as aligned as the arrays, that end at such a page to within `ALIGN` bytes.

    What is written there is in the arrays at the end. Arrays that share memory do so still.

    Raises:
        AssertionError: somebody wrote before an array or into the bytes that are left behind it.
    """
    spans = sorted({(a.ctypes.data, a.ctypes.data + a.nbytes) for a in arrays})
    joined: list[list[int]] = []
    for start, end in spans:
        if joined and start < joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    held = []
    for start, end in joined:
        memory, size = pages(end - start + ALIGN)
        inside = np.frombuffer(memory, np.uint8, size, GUARD)
        inside[:] = 0xFF
        at = len(inside) - (end - start)
        at -= (inside.ctypes.data + at - start) % ALIGN
        ctypes.memmove(inside.ctypes.data + at, start, end - start)
        held.append((start, end, inside, at))

    def address(array: np.ndarray) -> int:
        start = array.ctypes.data
        for begin, end, inside, at in held:
            if begin <= start and start + array.nbytes <= end:
                return int(inside.ctypes.data) + at + start - begin
        raise AssertionError("an array that was not given")

    yield [address(a) for a in arrays]
    for start, end, inside, at in held:
        ctypes.memmove(start, inside.ctypes.data + at, end - start)
        rest = itertools.chain(inside[:at][-ALIGN:], inside[at + end - start :])
        assert all(byte == 0xFF for byte in rest), "somebody wrote outside an array"


@functools.cache
def _heap(compiler: str) -> ctypes.CDLL:
    target = Path(tempfile.mkdtemp(prefix="facetalk-heap-")) / "guarded_heap.so"
    of_torch = Path(torch.__file__).parent
    command = [
        *compiler.split(), "-std=c++20", "-O1", "-fPIC", "-shared", f"-I{of_torch / 'include'}",
        str(Path(__file__).parent / "emulate" / "guarded_heap.cpp"), "-o", str(target),
        f"-L{of_torch / 'lib'}", "-lc10",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(target))


@contextmanager
def guarded_heap(compiler: str) -> Iterator[None]:
    """Tensors that torch makes on the CPU meanwhile end at such a page."""
    library = _heap(compiler)
    library.guarded_heap(1)
    try:
        yield
    finally:
        library.guarded_heap(0)
