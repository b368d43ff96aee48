"""How many threads a process computes with."""

from __future__ import annotations

import os
import sys

import threadpoolctl

from facetalk import ops

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def limit_threads(count: int) -> None:
    """Give the compiled core, torch and the BLAS of NumPy and SciPy the same number of threads.

    Those of them that are not loaded yet will be told by the environment, which they look at when they are.

    Args:
        count: at least 1.
    """
    os.environ.update(dict.fromkeys(_VARIABLES, str(count)))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    ops.set_threads(count)
    threadpoolctl.threadpool_limits(count)
