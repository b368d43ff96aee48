"""Device memory that outlives a call and is used on whatever stream a call comes on."""

from __future__ import annotations

import threading
import weakref

import torch
from torch import Tensor


class Kept:
    """Tensors that are made once, and the streams whose work reads them.

    As soon as nobody refers to a tensor, torch gives its memory to the next one on the stream that it was
    allocated on, though kernels on other streams may still read it; it waits for those that
    `Tensor.record_stream` named. Naming a stream once is enough: what is waited for is recorded when the
    memory is given back.

    A captured CUDA graph refers to nothing, and its replays name no stream: who captures keeps the owner.
    """

    def __init__(self) -> None:
        self._tensors: list[weakref.ref[Tensor]] = []
        self._streams: dict[int, torch.cuda.Stream] = {}
        self._lock = threading.Lock()

    def add(self, *tensors: Tensor) -> None:
        """Tensors that the owner holds from now on, or for a while; those of the CPU are left alone."""
        there = [tensor for tensor in tensors if tensor.device.type == "cuda"]
        with self._lock:
            self._tensors = [held for held in self._tensors if held() is not None]
            self._tensors += [weakref.ref(tensor) for tensor in there]
            for stream in self._streams.values():
                for tensor in there:
                    tensor.record_stream(stream)

    def use(self, device: torch.device) -> int:
        """The device's current stream, as kernels take it, on which the tensors are read from now on."""
        if device.type != "cuda":
            return 0
        stream = torch.cuda.current_stream(device)
        handle = int(stream.cuda_stream)
        if handle not in self._streams:
            with self._lock:
                self._streams[handle] = stream
                for held in self._tensors:
                    tensor = held()
                    if tensor is not None:
                        tensor.record_stream(stream)
        return handle
