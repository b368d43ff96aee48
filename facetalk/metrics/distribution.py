"""Distances between two sets of feature vectors, for what is decided by chance: Fréchet and kernel
distance."""

from __future__ import annotations

import numpy as np

from facetalk.arrays import AnyFloat, Float64
from facetalk.metrics.landmarks import require_finite

_BLOCK = 1024


def frechet_distance(a: AnyFloat, b: AnyFloat) -> float:
    """Fréchet distance of the normal distributions that fit two sets (Heusel et al., NeurIPS 2017).

    |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), S with N - 1 in the denominator. It is biased upwards
    for small N (about tr(S) F / N), so compare only sets of one size, and take N well above F.

    Args:
        a: (N, F).
        b: (M, F).

    Returns:
        In the squared unit of the features, at least 0.

    Raises:
        ValueError: other shapes, fewer than two vectors, or values that are not finite.
    """
    first, second = _features(a, b)
    return frechet_of_moments((first.mean(0), _covariance(first)), (second.mean(0), _covariance(second)))


def frechet_of_moments(a: tuple[Float64, Float64], b: tuple[Float64, Float64]) -> float:
    """Fréchet distance of two normal distributions, each (mean (F,), covariance (F, F))."""
    (mean_a, cov_a), (mean_b, cov_b) = a, b
    root = _root(cov_a)
    # S_a S_b has the eigenvalues of the symmetric R S_b R with R = S_a^(1/2), which cannot be complex.
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0.0)).sum()
    away = mean_a - mean_b
    return max(float(away @ away + np.trace(cov_a) + np.trace(cov_b) - 2.0 * cross), 0.0)


def kernel_distance(a: AnyFloat, b: AnyFloat) -> float:
    """Kernel distance (KID; Binkowski et al., ICLR 2018): squared maximum mean discrepancy, unbiased.

    mean k(a_i, a_j) over i != j + mean k(b_i, b_j) over i != j - 2 mean k(a_i, b_j), with the polynomial
    kernel k(x, y) = (x.y / F + 1)^3, over all vectors at once (the 100 subsets of the paper estimate the
    same). Unbiased for any N, so it may be a little below 0 for equal distributions. The kernel has no unit
    of length: scale the features to a mean square of about 1.

    Args:
        a: (N, F).
        b: (M, F).

    Raises:
        ValueError: other shapes, fewer than two vectors, or values that are not finite.
    """
    first, second = _features(a, b)
    within = sum(_kernel_sum(x, x, distinct=True) / (len(x) * (len(x) - 1)) for x in (first, second))
    return within - 2.0 * _kernel_sum(first, second) / (len(first) * len(second))


def kernel(a: Float64, b: Float64) -> Float64:
    """(N, F), (M, F) -> (N, M): (x.y / F + 1)^3."""
    return np.asarray((a @ b.T / a.shape[1] + 1.0) ** 3)


def _kernel_sum(a: Float64, b: Float64, *, distinct: bool = False) -> float:
    """Sum over all pairs, without those of a vector with itself where ``distinct``; in blocks to save
    memory."""
    total = sum(float(kernel(a[i : i + _BLOCK], b).sum()) for i in range(0, len(a), _BLOCK))
    return total - float((((a**2).sum(1) / a.shape[1] + 1.0) ** 3).sum()) if distinct else total


def _features(a: AnyFloat, b: AnyFloat) -> tuple[Float64, Float64]:
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or not first.shape[1]:
        raise ValueError(f"features must have shapes (N, F) and (M, F), got {first.shape} and {second.shape}")
    for name, array in (("a", first), ("b", second)):
        if len(array) < 2:
            raise ValueError(f"{name} has {len(array)} feature vectors; a distance needs at least 2")
        require_finite(name, array)
    return first, second


def _covariance(features: Float64) -> Float64:
    return np.atleast_2d(np.cov(features, rowvar=False))


def _root(matrix: Float64) -> Float64:
    """Symmetric square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)
