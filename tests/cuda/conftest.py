import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # host_kernels.py
sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import native_cuda
from guarded import guarded_heap
from host_kernels import Emulated, compile_entry


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a device, so that `-m cuda` finds it."""
    for item in items:
        if item.path.name.endswith("_device.py"):
            item.add_marker("cuda")


def _compiler() -> str | None:
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")


@pytest.fixture(autouse=True)
def _guarded_tensors() -> Iterator[None]:
    """Kernels on the host that read or write past a tensor fail."""
    compiler = _compiler()
    # The stand-in has guards of its own.
    if compiler is None or "FACETALK_STANDIN" in os.environ or not sys.platform.startswith("linux"):
        yield
        return
    with guarded_heap(compiler):
        yield


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Emulated]:
    """Return the function that compiles tests/cuda/<name>_entry.cpp for the host, once per session."""
    compiler = _compiler()
    if compiler is None:
        pytest.skip("no C++ compiler: the kernels' logic cannot be tested on the host")
    folder = tmp_path_factory.mktemp("emulated")
    return functools.cache(lambda name: compile_entry(compiler, name, folder))


@pytest.fixture(scope="session")
def emulated_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C library with CUDA, over kernels on the host."""
    if native_cuda.compiler() is None:
        pytest.skip("no C++ compiler: the C library's kernels cannot be tested on the host")
    return native_cuda.build(tmp_path_factory.mktemp("native_cuda"))
