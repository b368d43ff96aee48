"""From many posed frames to morph targets that any viewer plays right, with their error over all frames.

By default the targets are the rig's own shapes under its own names: what people can edit, and the same for
every clip of a head, so that clips can share a mesh. What of them is left out, because it is too small to be
seen, does not depend on the clip either (unless the clip needs more). The other basis is the leading singular
vectors of the motion: fewer, smaller, and of that clip alone. For a rig they are found in the space of its
weights: with basis = Q_b R_b and weights = Q_w R_w the motion's singular vectors are those of the small
matrix R_w R_b^T, so no (frames x vertices) matrix is ever made.

Weights always lie in [0, 1], where editors and engines clamp them (Blender's importer does:
github.com/KhronosGroup/glTF-Blender-IO/issues/1364).
"""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import numpy as np

from facetalk.arrays import Bool, Float32, Float64
from facetalk.mesh.eyes import TurningEye
from facetalk.mesh.mesh import Mesh, vertex_normals
from facetalk.mesh.sequence import RiggedSequence

Basis = Literal["shapes", "pca"]
BASES: tuple[Basis, ...] = get_args(Basis)
"""What morph targets can be: the rig's own shapes, or the motion's principal components."""

_BLOCK = 64
"""Frames that are posed at a time."""

_FIT_BLOCK = 16

_NORMAL_FRAMES = 160
"""Frames that morph normals are fitted to at most: several times the number of shapes."""

_NORMAL_STEP = 0.02
"""A normal that a shape never turns by more (a degree, at weight 1) counts as unmoved."""

_ATTEMPTS = 7
"""How often the threshold below which a shape leaves a vertex alone is halved; at the last it is 0."""


@dataclasses.dataclass
class MorphTargets:
    """A sequence as base + weights x shapes, ready to be written.

    Attributes:
        base: mesh at weights of zero, metres.
        shapes: (K, V, 3) float32, metres at weight 1, rounded to the grid of ``step``; zero where
            ``touched`` is False.
        normals: (K, V, 3) float32 change of the unit normal at weight 1.
        touched: (K, V) bool.
        weights: (T, K) float32 in [0, 1].
        rest: (K,) float32 in [0, 1], weights of the face at rest.
        names: K names.
        step: grid of ``shapes`` in metres, or 0 when they are not rounded.
        error: largest distance of a vertex of a frame from where it should be, metres.
        eyes: what turns instead of being moved by shapes.
    """

    base: Mesh
    shapes: Float32
    normals: Float32
    touched: Bool
    weights: Float32
    rest: Float32
    names: tuple[str, ...]
    step: float
    error: float
    eyes: tuple[TurningEye, ...] = ()


def reduce(
    sequence: RiggedSequence, tolerance: float, *, basis: Basis | None = None, quantize: bool = True
) -> MorphTargets:
    """Find morph targets that keep every vertex of every frame within ``tolerance`` m.

    Args:
        sequence: the frames.
        tolerance: metres.
        basis: ``"shapes"`` or ``"pca"``; None takes the shapes of a rig that names them.
        quantize: round shapes to 16 bits.

    Raises:
        ValueError: the tolerance is not positive, or finer than float32 positions can be.
    """
    if not tolerance > 0.0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    if basis is None:
        basis = "pca" if sequence.names is None else "shapes"
    if basis == "shapes":
        sequence = _within_unit(sequence)
    found = _own_shapes(sequence) if basis == "shapes" else _singular_shapes(sequence, 0.7 * tolerance)
    targets = _thin_out(sequence, found, tolerance, quantize)
    if targets.error > tolerance:
        if not quantize:
            raise ValueError(f"a tolerance of {tolerance:g} m is finer than float32 positions can be")
        return reduce(sequence, tolerance, basis=basis, quantize=False)  # finer than 16 bits can be
    if basis == "shapes":
        _own_normals(sequence, targets)
    else:
        _fit_normals(sequence, targets)
    targets.eyes = tuple(
        TurningEye(
            eye.name,
            eye.centre,
            eye.rows,
            eye.turns(sequence.weights),
            eye.rates if basis == "shapes" else None,
        )
        for eye in sequence.eyes
    )
    return targets


@dataclasses.dataclass
class _Candidate:
    """Shapes, and how the rig's weights become theirs."""

    shapes: Float32  # (K, V, 3)
    mapping: Float64 | None  # (E, K): weights of these shapes = weights of the rig @ mapping; None: the same
    lowest: Float32  # (K,) least weight, 0 or less: the base moves there, and weights count from it
    names: tuple[str, ...]


def _within_unit(sequence: RiggedSequence) -> RiggedSequence:
    """The same frames by weights in [0, 1]: what lies beyond has shapes of its own, after the others.

    A weight of 1.3 is 1 of the shape and 1 of a ``...Beyond`` that holds 0.3 of it; one of -0.2 is 1 of a
    ``...Negative`` that holds -0.2 of it. The rig's own shapes stay what they are in every clip.
    """
    names = sequence.names or tuple(f"shape_{j}" for j in range(len(sequence.basis)))
    weights = sequence.weights
    shapes, columns, labels = [sequence.basis], [np.clip(weights, 0.0, 1.0)], list(names)
    rates = [[eye.rates] for eye in sequence.eyes]
    for label, beyond in (
        ("Beyond", np.maximum(weights - 1.0, 0.0)),
        ("Negative", np.maximum(-weights, 0.0)),
    ):
        reach = beyond.max(axis=0, initial=0.0)
        used = np.flatnonzero(reach > 0.0)
        sign = np.float32(-1.0 if label == "Negative" else 1.0)
        shapes.append(sign * reach[used, None, None] * sequence.basis[used])
        columns.append(beyond[:, used] / reach[used])
        for eye, known in zip(sequence.eyes, rates, strict=True):
            known.append(sign * reach[used, None] * eye.rates[used])
        labels += [names[j] + label for j in used]
    if len(labels) == len(names):
        return RiggedSequence(sequence.base, sequence.basis, columns[0], names=names, eyes=sequence.eyes)
    eyes = [
        dataclasses.replace(eye, rates=np.concatenate(known))
        for eye, known in zip(sequence.eyes, rates, strict=True)
    ]
    return RiggedSequence(
        sequence.base, np.concatenate(shapes), np.concatenate(columns, axis=1), names=labels, eyes=eyes
    )


def _own_shapes(sequence: RiggedSequence) -> _Candidate:
    """All of the rig's shapes, whether this motion uses them or not: clips of a head have the same."""
    assert sequence.names is not None
    return _Candidate(sequence.basis, None, np.zeros(len(sequence.basis), np.float32), sequence.names)


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
        if largest_offset(weights[:, rest], shapes[rest], stop=tolerance) <= tolerance:
            high = middle
        else:
            low = middle + 1
    # Weights span [0, 1]: they count from their least one, where the base goes.
    least, most = weights[:, :low].min(axis=0, initial=0.0), weights[:, :low].max(axis=0, initial=0.0)
    span = np.maximum(most - least, 1e-12)
    shapes = (shapes[:low] * span[:, None]).astype(np.float32).reshape(low, vertices, 3)
    names = tuple(f"motion_{j}" for j in range(low))
    return _Candidate(shapes, mapping[:, :low] / span, (least / span).astype(np.float32), names)


def _square_root(gram: Float64) -> tuple[Float64, Float64]:
    """Symmetric square root of a positive semi-definite matrix, and its pseudo-inverse."""
    values, vectors = np.linalg.eigh(gram)
    keep = values > values.max(initial=0.0) * 1e-12
    root = np.sqrt(np.where(keep, values, 0.0))
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=keep)
    return (vectors * root) @ vectors.T, (vectors * inverse) @ vectors.T


def largest_offset(weights: Float32, shapes: Float32, *, stop: float = np.inf) -> float:
    """Largest length of ``weights @ shapes`` over frames and vertices; may stop early once above ``stop``.

    Args:
        weights: (T, K), of any size and sign.
        shapes: (K, V, 3) or (K, 3 V).
        stop: in the unit of the shapes.

    Frames are visited in the order of a bound (sum of weight times longest vector of the shape), so that
    most of a long sequence never has to be posed.
    """
    if not weights.size or not shapes.size:
        return 0.0
    flat = shapes.reshape(len(shapes), -1)
    vertices = flat.shape[1] // 3
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
    """Drop what nobody could see and round the rest, as coarsely as the tolerance allows."""
    shapes, vertices = found.shapes, len(sequence.base)
    largest = float(np.abs(shapes).max(initial=0.0))
    # A power of two, so that dividing the base by it loses nothing.
    scale = 2.0 ** np.ceil(np.log2(largest)) if largest > 0.0 else 1.0
    step = scale / 32767.0 if quantize else 0.0
    size = np.linalg.norm(shapes, axis=2)
    threshold, error = tolerance / 2.0, np.inf
    for attempt in range(_ATTEMPTS):
        if attempt == _ATTEMPTS - 1:
            threshold = 0.0
        touched = size > threshold
        kept = np.where(touched[..., None], shapes, np.float32(0.0))
        if quantize:
            kept = (np.rint(kept / step) * step).astype(np.float32)
        # What every frame loses, exactly: the rig's weights times what is left of each of its shapes.
        if found.mapping is None:
            lost = sequence.basis - kept
        else:
            rebuilt = found.mapping.astype(np.float32) @ kept.reshape(len(kept), vertices * 3)
            lost = sequence.basis - rebuilt.reshape(sequence.basis.shape)
        error = largest_offset(sequence.weights, lost, stop=tolerance)
        if error <= tolerance:
            break
        threshold /= 2.0
    base, weights = sequence.base, sequence.weights
    if found.mapping is not None:
        weights = (sequence.weights @ found.mapping).astype(np.float32) - found.lowest
        if found.lowest.any():
            # Of what was kept, so that the frames are the same whatever weights count from.
            moved = base.vertices + np.tensordot(found.lowest, kept, axes=1)
            base = dataclasses.replace(base, vertices=moved, normals=vertex_normals(moved, base.faces))
    return MorphTargets(
        base=base,
        shapes=kept,
        normals=np.zeros_like(kept),
        touched=touched,
        weights=np.clip(weights, 0.0, 1.0),
        rest=np.clip(-found.lowest, 0.0, 1.0),
        names=found.names,
        step=step,
        error=error,
    )


def _own_normals(sequence: RiggedSequence, targets: MorphTargets) -> None:
    """The change of the normals by each shape alone, at half its weight, where speech mostly is."""
    base = sequence.base
    for number, shape in enumerate(sequence.basis):
        posed = base.vertices + np.float32(0.5) * shape
        change = 2.0 * (vertex_normals(posed, base.faces) - base.normals)
        targets.normals[number] = np.clip(change, -1.0, 1.0)
    _mark_normals(targets)


def _fit_normals(sequence: RiggedSequence, targets: MorphTargets) -> None:
    """Fit the change of the normals per weight to the posed normals, by least squares over some frames."""
    count = len(targets.shapes)
    if not len(sequence) or not count:
        return
    number = min(len(sequence), _NORMAL_FRAMES)
    frames = np.unique(np.linspace(0, len(sequence) - 1, number).round().astype(int))
    base, columns = targets.base, targets.base.vertices.size
    total = np.zeros((count, columns), np.float32)
    changes = np.empty((_FIT_BLOCK, columns), np.float32)
    for start in range(0, len(frames), _FIT_BLOCK):
        block = frames[start : start + _FIT_BLOCK]
        for row, index in enumerate(block):
            posed = sequence.positions(slice(index, index + 1))[0]
            changes[row] = (vertex_normals(posed, base.faces) - base.normals).reshape(-1)
        total += targets.weights[block].T @ changes[: len(block)]
    weights = targets.weights[frames].astype(np.float64)
    gram = weights.T @ weights
    # Shapes that hardly move, or always together, would otherwise get normals that explode.
    ridge = 1e-4 * np.trace(gram) / count + 1e-12
    solve = np.linalg.inv(gram + ridge * np.eye(count)).astype(np.float32)
    targets.normals = np.clip(solve @ total, -1.0, 1.0).reshape(count, len(base), 3)
    for eye in sequence.eyes:
        targets.normals[:, eye.rows] = 0.0  # they turn with their eye
    _mark_normals(targets)


def _mark_normals(targets: MorphTargets) -> None:
    """A vertex whose normal turns is touched as well; where neither moves, nothing is written."""
    targets.touched |= np.linalg.norm(targets.normals, axis=2) > _NORMAL_STEP
    targets.normals[~targets.touched] = 0.0
