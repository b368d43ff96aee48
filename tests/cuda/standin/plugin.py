"""pytest plugin: the whole run believes that there is a CUDA device. See build.py for how it is started."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from standin import api, core, dispatch
from standin.dispatch import STATE
from standin.memory import MEMORY

_FOLDER = Path(os.environ["FACETALK_STANDIN"])
api.install(_FOLDER / "guard.so")
dispatch.install()
core.install(_FOLDER / "standin_core.so")

# There is no Triton here: everything up to the generated kernels.
torch.compile = functools.partial(torch.compile, backend="aot_eager")

# Constants of test modules, in sizes that the emulation can bear.
SMALL: dict[str, dict[str, Any]] = {
    "test_attention_device": {"FRAMES": 75},
    "test_field_device": {"POINTS": 90, "SIDES": (9, 12, 10)},
    "test_field_dispatch_device": {"POINTS": 40, "RESOLUTION": 12, "COARSE": 8},
    "test_field_guided_device": {"POINTS": 400},
    "test_streams_device": {"TIMES": 2},
    "bench_attention_cuda": {"BATCH": 1, "HEADS": 1},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if (gpu := sys.modules.get("_gpu")) is not None:
        gpu.COPY_FLOATS, gpu.MATMUL_SIZE = 1 << 10, 32  # type: ignore[attr-defined]
    for item in items:
        for name, value in SMALL.get(item.path.stem, {}).items():
            assert hasattr(item.module, name), name
            setattr(item.module, name, value)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """A test that leaves the device in a bad state fails itself, not the next one."""
    try:
        found = yield
        MEMORY.check()
        return found
    finally:
        STATE.recording, STATE.may_wait, MEMORY.keep = None, True, False
