"""CUDA: the same operations on arrays that lie on a device; chosen by where the arrays are."""
