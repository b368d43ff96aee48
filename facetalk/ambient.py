"""What the caller has set for torch as a whole must not change what facetalk computes.

Where torch has not been imported nothing can have been set for it, and it is not imported here for that.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

_DEVICES = ("cpu", "cuda")


@contextlib.contextmanager
def plain_torch() -> Iterator[None]:
    """No autocast, float32 and the CPU as defaults for new tensors; what the caller has is brought back.

    Where the caller has none of these, nothing is switched. The default dtype belongs to the whole process,
    so another thread that makes tensors at the same moment sees float32 as well.
    """
    if "torch" not in sys.modules:
        yield
        return
    import torch  # at once, or when another thread is done with it

    with contextlib.ExitStack() as stack:
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        dtype = torch.get_default_dtype()
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        yield


def plainly(function: Function) -> Function:
    """Run a function, or every step of a generator, inside :func:`plain_torch`."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def stepwise(*args: Any, **kwargs: Any) -> Iterator[Any]:
            steps = function(*args, **kwargs)
            try:
                while True:
                    with plain_torch():
                        try:
                            step = next(steps)
                        except StopIteration:
                            return
                    yield step
            finally:
                steps.close()

        return cast(Function, stepwise)

    @functools.wraps(function)
    def whole(*args: Any, **kwargs: Any) -> Any:
        with plain_torch():
            return function(*args, **kwargs)

    return cast(Function, whole)


def loading(function: Function) -> Function:
    """As :func:`plainly`, and without inference mode: what is loaded there lives on outside, where tensors of
    that mode can neither be changed nor take part in a backward pass.
    """

    @functools.wraps(function)
    def whole(*args: Any, **kwargs: Any) -> Any:
        import torch

        with torch.inference_mode(False), torch.no_grad(), plain_torch():
            return function(*args, **kwargs)

    return cast(Function, whole)
