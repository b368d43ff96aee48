"""The operations on torch tensors: on any device, traced, differentiated; ``torch.ops.facetalk`` has them.

``facetalk.ops`` imports it with the first tensor, or at once where torch is there already.
"""

from facetalk.ops.torch_ops import attention, marching_cubes, normals

__all__ = ["attention", "marching_cubes", "normals"]
