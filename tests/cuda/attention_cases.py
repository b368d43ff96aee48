"""Attention kernels compiled for the host, called with torch tensors."""

import ctypes

import numpy as np
import torch
from host_kernels import Emulated, KernelError

DTYPES = {torch.float32: 2, torch.float16: 0, torch.bfloat16: 1}  # numbers of facetalk::DType
LEVELS = {torch.float32: 4e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def inputs(rows, keys, depth, width, *, batch=1, heads=2, seed=0, dtype=torch.float32):
    random = torch.Generator().manual_seed(seed)
    sizes = ((rows, depth), (keys, depth), (keys, width))
    return tuple(torch.randn(batch, heads, *size, generator=random).to(dtype) for size in sizes)


def bounds(window):
    return tuple(-1 if side is None else side for side in window)


def pointer(tensor):
    return ctypes.c_void_p(tensor.data_ptr())


def describe(query, key, value, out, window):
    sizes = [
        *query.shape[:3],
        key.shape[2],
        query.shape[3],
        value.shape[3],
        *bounds(window),
        DTYPES[query.dtype],
    ]
    for tensor in (query, key, value, out):
        assert tensor.stride(3) == 1 or tensor.shape[3] <= 1
        sizes += tensor.stride()[:3]
    return np.array(sizes, np.int64)


class Attention:
    """The entry file's functions; `kernel` is the one that ran last."""

    def __init__(self, library: Emulated) -> None:
        self.library = library
        library.library.attention_message.restype = ctypes.c_char_p
        self.kernel = ""

    def forward(self, query, key, value, window, scale=None, *, lse=None, out=None):
        """Give the result, with the log-sum-exp in `lse` (batch, heads, rows) where one is passed."""
        scale = query.shape[3] ** -0.5 if scale is None else scale
        if out is None:
            # What a kernel forgets to write is seen.
            out = torch.full((*query.shape[:3], value.shape[3]), torch.nan, dtype=query.dtype)
        self._call(
            "attention_forward",
            *map(pointer, (query, key, value, out)),
            None if lse is None else pointer(lse),
            describe(query, key, value, out, window),
            scale,
        )
        return out

    def backward(self, grad, query, key, value, out, lse, window, scale=None):
        """Give the gradients of query, key and value from what `forward` gave."""
        scale = query.shape[3] ** -0.5 if scale is None else scale
        grads = [grad, *(torch.full_like(x, torch.nan) for x in (query, key, value))]
        delta = torch.full(lse.shape, torch.nan)
        self._call(
            "attention_backward",
            *map(pointer, (query, key, value, out, lse)),
            describe(query, key, value, out, window),
            scale,
            np.array([x.data_ptr() for x in grads], np.int64),
            np.array([step for x in grads for step in x.stride()[:3]], np.int64),
            pointer(delta),
        )
        return tuple(grads[1:])

    def _call(self, name, *args):
        try:
            self.library.call(name, *args)
        except KernelError as error:
            said = self.library.library.attention_message().decode()
            raise KernelError(f"{said}; {error}") from error
        self.kernel = self.library.library.attention_message().decode()
