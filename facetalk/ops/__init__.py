"""The typed face of the compiled operations.

Each operation takes NumPy arrays or torch tensors and gives back the same kind. It checks its arguments:
TypeError for a wrong kind, dtype or device, ValueError for a wrong value or shape; the message names the
argument, what was expected and what came. Each has a slow, obvious twin in `facetalk.ops.reference`, against
which it is tested.
"""

from facetalk.ops._arrays import set_threads, threads
from facetalk.ops.attention import masked_cross_attention
from facetalk.ops.marching_cubes import marching_cubes, marching_cubes_frames
from facetalk.ops.normals import vertex_normals

__all__ = [
    "marching_cubes",
    "marching_cubes_frames",
    "masked_cross_attention",
    "set_threads",
    "threads",
    "vertex_normals",
]
