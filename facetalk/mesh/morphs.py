"""From many posed frames to few morph targets, with an error that is measured over all frames.

Two representations are tried and the smaller one is kept: the rig's own shapes, which touch few vertices
each, or the leading singular vectors of the motion, which are fewer. For a rig both are found in the space
of its weights: with basis = Q_b R_b and weights = Q_w R_w the motion's singular vectors are those of the
small matrix R_w R_b^T, so no (frames x vertices) matrix is ever made.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from facetalk.arrays import Bool, Float32, Float64
from facetalk.mesh.mesh import Mesh, vertex_normals
from facetalk.mesh.sequence import RiggedSequence

_BLOCK = 64
"""Frames that are posed at a time."""

_FIT_BLOCK = 16

_NORMAL_FRAMES = 160
"""Frames that morph normals are fitted to at most: several times the number of shapes."""

_NORMAL_STEP = 0.006
"""A normal that a shape never turns by more (a third of a degree) counts as unmoved."""


@dataclasses.dataclass
class MorphTargets:
    """A sequence as base + weights x shapes, ready to be written.

    Attributes:
        base: mesh at weights of zero, metres.
        shapes: (K, V, 3) float32, metres at weight 1, rounded to the grid of ``step``; zero where
            ``touched`` is False.
        normals: (K, V, 3) float32 change of the unit normal at weight 1.
        touched: (K, V) bool.
        weights: (T, K) float32.
        names: K names.
        step: grid of ``shapes`` in metres, or 0 when they are not rounded.
        error: largest distance of a vertex of a frame from where it should be, metres.
    """

    base: Mesh
    shapes: Float32
    normals: Float32
    touched: Bool
    weights: Float32
    names: tuple[str, ...]
    step: float
    error: float

    @property
    def size(self) -> int:
        """Bytes of the shapes and weights in a file with 16-bit targets."""
        return 14 * int(self.touched.sum()) + 4 * self.weights.size  # row number, position, normal


def reduce(sequence: RiggedSequence, tolerance: float, *, quantize: bool = True) -> MorphTargets:
    """Find the smallest set of morph targets that keeps every vertex of every frame within ``tolerance`` m.

    Raises:
        ValueError: the tolerance is not positive.
    """
    if not tolerance > 0.0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    candidates = [_own_shapes(sequence), _singular_shapes(sequence, 0.7 * tolerance)]
    kept = [_thin_out(sequence, c, tolerance, quantize) for c in candidates]
    kept = [k for k in kept if k.error <= tolerance]
    if not kept:
        if not quantize:
            raise ValueError(f"a tolerance of {tolerance:g} m is finer than float32 positions can be")
        return reduce(sequence, tolerance, quantize=False)  # finer than 16 bits can be
    _add_normals(sequence, kept)
    # On a near tie the rig's own shapes, which come first, win: people can read them.
    return min(kept, key=lambda k: k.size * (1.0 if k is kept[0] else 1.1))


@dataclasses.dataclass
class _Candidate:
    """Shapes, and how the rig's weights become theirs."""

    shapes: Float32  # (K, V, 3)
    mapping: Float64  # (E, K): weights of these shapes = weights of the rig @ mapping
    names: tuple[str, ...]


def _own_shapes(sequence: RiggedSequence) -> _Candidate:
    """The rig's shapes that the motion uses."""
    names = sequence.names or tuple(f"shape_{j}" for j in range(len(sequence.basis)))
    reach = np.abs(sequence.weights).max(axis=0, initial=0.0)
    used = np.flatnonzero((reach > 0.0) & np.abs(sequence.basis).any(axis=(1, 2)))
    mapping = np.eye(len(sequence.basis))[:, used]
    return _Candidate(sequence.basis[used], mapping, tuple(names[j] for j in used))


def _singular_shapes(sequence: RiggedSequence, tolerance: float) -> _Candidate:
    """Leading singular vectors of the motion; the smallest number of them that stays within the tolerance."""
    vertices = len(sequence.base)
    flat = sequence.basis.reshape(len(sequence.basis), 3 * vertices).astype(np.float32)
    # Through Gram matrices in float64: (E, E) instead of a factorisation of (3V, E).
    gram_b, gram_w = np.zeros((len(flat),) * 2), np.zeros((len(flat),) * 2)
    for start in range(0, flat.shape[1], 1 << 16):
        part = flat[:, start : start + (1 << 16)].astype(np.float64)
        gram_b += part @ part.T
    for start in range(0, len(sequence), 4096):
        rows = sequence.weights[start : start + 4096].astype(np.float64)
        gram_w += rows.T @ rows
    root_b, inverse_b = _square_root(gram_b)
    # motion^T motion in the orthonormal frame of the basis: its eigenvectors are the singular vectors.
    values, vectors = np.linalg.eigh(root_b @ gram_w @ root_b)
    order = np.argsort(values)[::-1]
    rank_limit = int((values > max(values.max(initial=0.0), 0.0) * 1e-14).sum())
    vectors = vectors[:, order[:rank_limit]]
    shapes = (vectors.T @ inverse_b @ flat).astype(np.float32)
    mapping = root_b @ vectors
    weights = (sequence.weights @ mapping).astype(np.float32)
    low, high = 0, rank_limit
    while low < high:
        middle = (low + high) // 2
        rest = slice(middle, None)
        if _largest(weights[:, rest], shapes[rest], vertices, stop=tolerance) <= tolerance:
            high = middle
        else:
            low = middle + 1
    # Weights of at most 1: editors clamp sliders.
    reach = np.maximum(np.abs(weights[:, :low]).max(axis=0, initial=0.0), 1e-12)
    shapes = (shapes[:low] * reach[:, None]).astype(np.float32).reshape(low, vertices, 3)
    return _Candidate(shapes, mapping[:, :low] / reach, tuple(f"motion_{j}" for j in range(low)))


def _square_root(gram: Float64) -> tuple[Float64, Float64]:
    """Symmetric square root of a positive semi-definite matrix, and its pseudo-inverse."""
    values, vectors = np.linalg.eigh(gram)
    keep = values > values.max(initial=0.0) * 1e-12
    root = np.sqrt(np.where(keep, values, 0.0))
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=keep)
    return (vectors * root) @ vectors.T, (vectors * inverse) @ vectors.T


def _largest(weights: Float32, shapes: Float32, vertices: int, *, stop: float = np.inf) -> float:
    """Largest length of ``weights @ shapes`` over frames and vertices; may stop early once above ``stop``.

    Frames are visited in the order of a bound (sum of weight times longest vector of the shape), so that
    most of a long sequence never has to be posed.
    """
    if not weights.size or not shapes.size:
        return 0.0
    flat = shapes.reshape(len(shapes), -1)
    longest = np.linalg.norm(flat.reshape(len(flat), vertices, 3), axis=2).max(axis=1)
    bound = np.abs(weights) @ longest
    order = np.argsort(bound)[::-1]
    worst = 0.0
    for start in range(0, len(order), _BLOCK):
        frames = order[start : start + _BLOCK]
        if bound[frames[0]] <= worst:
            break
        offsets = (weights[frames] @ flat).reshape(len(frames), vertices, 3)
        worst = max(worst, float(np.sqrt(np.einsum("tvc,tvc->tv", offsets, offsets).max())))
        if worst > stop:
            break
    return worst


def _thin_out(sequence: RiggedSequence, found: _Candidate, tolerance: float, quantize: bool) -> MorphTargets:
    """Drop what no frame needs and round the rest, as coarsely as the tolerance allows."""
    shapes, vertices = found.shapes, len(sequence.base)
    weights = (sequence.weights @ found.mapping).astype(np.float32)
    reach = np.abs(weights).max(axis=0, initial=0.0)
    size = np.linalg.norm(shapes, axis=2) * reach[:, None]
    largest = float(np.abs(shapes).max(initial=0.0))
    # A power of two, so that dividing the base by it loses nothing.
    scale = 2.0 ** np.ceil(np.log2(largest)) if largest > 0.0 else 1.0
    step = scale / 32767.0 if quantize else 0.0
    threshold, error = tolerance / 2.0, np.inf
    for attempt in range(7):
        if attempt == 6:
            threshold = 0.0
        touched = size > threshold
        kept = np.where(touched[..., None], shapes, np.float32(0.0))
        if quantize:
            kept = (np.rint(kept / step) * step).astype(np.float32)
        # What every frame loses, exactly: the rig's weights times what is left of each of its shapes.
        rebuilt = found.mapping.astype(np.float32) @ kept.reshape(len(kept), vertices * 3)
        lost = sequence.basis.reshape(len(sequence.basis), vertices * 3) - rebuilt
        error = _largest(sequence.weights, lost, vertices, stop=tolerance)
        if error <= tolerance:
            break
        threshold /= 2.0
    normals = np.zeros_like(kept)
    return MorphTargets(sequence.base, kept, normals, touched, weights, found.names, step, error)


def _add_normals(sequence: RiggedSequence, found: list[MorphTargets]) -> None:
    """Fit the change of the normals per weight to the posed normals, by least squares over some frames."""
    if not len(sequence):
        return
    number = min(len(sequence), _NORMAL_FRAMES)
    frames = np.unique(np.linspace(0, len(sequence) - 1, number).round().astype(int))
    base, columns = sequence.base, sequence.base.vertices.size
    sums = [np.zeros((t.weights.shape[1], columns), np.float32) for t in found]
    changes = np.empty((_FIT_BLOCK, columns), np.float32)
    for start in range(0, len(frames), _FIT_BLOCK):
        block = frames[start : start + _FIT_BLOCK]
        for row, index in enumerate(block):
            posed = sequence.positions(slice(index, index + 1))[0]
            changes[row] = (vertex_normals(posed, base.faces) - base.normals).reshape(-1)
        for total, targets in zip(sums, found, strict=True):
            total += targets.weights[block].T @ changes[: len(block)]
    for total, targets in zip(sums, found, strict=True):
        weights = targets.weights[frames].astype(np.float64)
        count = weights.shape[1]
        gram = weights.T @ weights
        # Shapes that hardly move, or always together, would otherwise get normals that explode.
        ridge = 1e-4 * np.trace(gram) / max(count, 1) + 1e-12
        solve = np.linalg.inv(gram + ridge * np.eye(count)).astype(np.float32)
        normals = np.clip(solve @ total, -1.0, 1.0).reshape(count, len(base), 3)
        reach = np.abs(targets.weights).max(axis=0)
        turned = np.linalg.norm(normals, axis=2) * reach[:, None] > _NORMAL_STEP
        targets.touched |= turned
        normals[~targets.touched] = 0.0
        targets.normals = normals
