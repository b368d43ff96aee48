"""The typed face of the compiled operations.

Each operation takes NumPy arrays or torch tensors and gives back the same kind. It checks its arguments:
TypeError for a wrong kind, dtype or device, ValueError for a wrong value or shape; the message names the
argument, what was expected and what came. Each has a slow, obvious twin in `facetalk.ops.reference`, against
which it is tested. NumPy's arrays need no torch.
"""

import sys

from facetalk.ops._arrays import set_threads, threads
from facetalk.ops.attention import masked_cross_attention
from facetalk.ops.marching_cubes import marching_cubes, marching_cubes_frames
from facetalk.ops.normals import vertex_normals

if "torch" in sys.modules:
    from facetalk.ops import torch_ops  # noqa: F401  # operators that a loaded graph may name before any call

__all__ = [
    "marching_cubes",
    "marching_cubes_frames",
    "masked_cross_attention",
    "set_threads",
    "threads",
    "vertex_normals",
]
