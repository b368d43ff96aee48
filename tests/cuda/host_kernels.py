"""Compiles CUDA kernels for the host, so that their logic is tested where there is no GPU.

The fixture `emulated("name")` compiles tests/cuda/name_entry.cpp, which includes .cu files and offers plain C
functions, against tests/cuda/emulate. The functions return a cudaError_t; `call` raises what the emulation
says when it is not 0. The same file compiles by nvcc (`nvcc -x cu -Icsrc`).
"""

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest
from guarded import guarded

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
# No contraction: nvcc fuses too, but kernels that must agree with the CPU to the bit say so by intrinsics.
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]


class KernelError(RuntimeError):
    """What the emulation, or a launcher's own check, says about a launch."""


class Emulated:
    """A compiled entry file. Arrays are passed as pointers to their data, so keep them contiguous.

    Kernels that touch what lies before or behind an array fail.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        library.facetalk_emulate_error.restype = ctypes.c_char_p

    def seed(self, value: int) -> None:
        """Choose the order in which blocks, warps and lanes run."""
        self.library.facetalk_emulate_seed(ctypes.c_uint32(value))

    def call(self, name: str, *args: object) -> None:
        """Call a C function that returns a cudaError_t. Python ints go as int64, floats as float32.

        Raises:
            KernelError: if the status is not 0.
        """
        assert all(v.flags.c_contiguous for v in args if isinstance(v, np.ndarray))
        arrays = [value for value in args if isinstance(value, np.ndarray)]
        with guarded(arrays) as addresses:
            pointers = iter(addresses)
            status = getattr(self.library, name)(
                *(
                    ctypes.c_void_p(next(pointers)) if isinstance(v, np.ndarray) else _argument(v)
                    for v in args
                )
            )
        if status != 0:
            raise KernelError(f"{name}: status {status}, {self.library.facetalk_emulate_error().decode()}")

    def value(self, name: str, *args: object) -> int:
        """Call a C function that returns an int64."""
        function = getattr(self.library, name)
        function.restype = ctypes.c_int64
        return int(function(*map(_argument, args)))


def _argument(value: object) -> object:
    if isinstance(value, np.ndarray):  # read by the host alone
        return ctypes.c_void_p(value.ctypes.data)
    if value is None:
        return ctypes.c_void_p(None)
    if isinstance(value, (bool, int, np.integer)):
        return ctypes.c_int64(int(value))
    if isinstance(value, (float, np.floating)):
        return ctypes.c_float(float(value))
    return value  # something of ctypes


def compile_entry(compiler: str, name: str, folder: Path) -> Emulated:
    """Compile tests/cuda/<name>_entry.cpp into the folder and load it."""
    target = folder / f"{name}.so"
    command = [*compiler.split(), *FLAGS, "-DFACETALK_EMULATE_CUDA", f"-I{CSRC}", f"-I{HERE}"]
    command += [str(HERE / f"{name}_entry.cpp"), "-o", str(target)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        pytest.fail(f"{' '.join(command)}:\n{result.stderr[:6000]}", pytrace=False)
    return Emulated(ctypes.CDLL(str(target)))
