"""How many threads a process computes with."""

from __future__ import annotations

import scipy.linalg  # noqa: F401  # loads its BLAS: what is not loaded yet cannot be limited
import threadpoolctl
import torch

from facetalk import ops


def limit_threads(count: int) -> None:
    """Give the compiled core, torch and the BLAS of NumPy and SciPy the same number of threads.

    Args:
        count: at least 1.
    """
    torch.set_num_threads(count)
    ops.set_threads(count)
    threadpoolctl.threadpool_limits(count)
