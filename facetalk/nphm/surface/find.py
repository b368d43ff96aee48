"""Finding the surfaces of frames, from every sample of the volume to a cached identity.

From slow to fast; each takes one more short cut, and says what it rests on:

======  =============================================================================================
dense   every sample (`exact=True`).
band    samples near the surface, found by bounds on the field's slope; the dense mesh, cell for cell,
        as far as the bounds hold. They are checked against all that is evaluated.
cache   the identity is baked once (:mod:`facetalk.nphm.surface.bake`); a frame costs its deformation. With a
        tolerance of 0 the cache only guides, and values at the surface are the networks'.
coarse  the deformation is interpolated where it is smooth.
======  =============================================================================================

On a CUDA device the frames of a chunk go through in one set of launches, by the same rules, but that a band
is found by the field's values at corners of blocks, without bounds on its slope (see
:meth:`facetalk.ops.cuda.field.CudaField.bricks`), and its counts are the mean of its chunk. Points, offsets,
samples and lists of a frame never leave the device; the host waits for counts. What it sees beside them is
the identity, once, while the cache is baked, and, once a call, how much the deformation stretches: at a few
thousand of its points, and by offsets on a coarse lattice in the box.

The networks run in the precision that the field was bound with. Rounding to 16 bit is in no tolerance: there
`tolerance_mm` is the distance to the dense mesh of the same rounded networks, but for cached values, which
are baked in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from facetalk.arrays import Float32
from facetalk.nphm.bound import Bound
from facetalk.nphm.lattice import Bounds
from facetalk.nphm.surface.identity import CanonicalKnowledge
from facetalk.nphm.surface.options import ExtractionOptions, Surface
from facetalk.nphm.surface.plan import Plan


def surfaces(
    bound: Bound,
    knowledge: CanonicalKnowledge,
    biases: Sequence[Tensor] | None,
    axes: Sequence[Float32],
    bounds: Bounds,
    options: ExtractionOptions,
    around: Bounds | None = None,
) -> Iterator[Surface]:
    """The surface of every frame, one at a time.

    Args:
        bound: the bound head.
        knowledge: what was learned of it; grows.
        biases: per deformation layer (T, out), or None for the canonical field.
        axes: sample positions along x, y, z.
        bounds: their ends.
        options: what may be used.
        around: see :class:`facetalk.nphm.surface.plan.Plan`.
    """
    plan = Plan(bound, knowledge, biases, axes, bounds, options, around)
    kernels, weight = bound.kernels, bound.weight
    together = kernels.frames_together(plan.points, exact=options.exact)
    for first in range(0, plan.frames, together):
        part = None if biases is None else [bias[first : first + together] for bias in biases]
        if options.exact:
            found = kernels.dense_meshes(axes, bounds, part, weight=weight)
        elif plan.guide is None:
            known = plan.known if kernels.bounded_bands else None
            found = kernels.band_meshes(axes, bounds, part, known, weight=weight)
        else:
            assert part is not None
            guide = plan.guide
            found = kernels.guided_meshes(
                axes, bounds, part, guide.baked.lattice, guide.bounds, weight=weight, exact=guide.exact,
                tolerance=guide.tolerance, cache_tolerance=guide.cache_tolerance, spacing=guide.spacing,
            )  # fmt: skip
        for mesh in found:
            yield Surface(mesh.vertices, mesh.faces, plan.info(mesh.counts))
