"""A head bound to one identity: queries, grids, meshes and tracked vertices on the compiled core."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetalk.ambient import plainly
from facetalk.errors import InputError
from facetalk.mesh.mesh import Mesh
from facetalk.mesh.smoothing import FacialSmoothing
from facetalk.nphm.binding import Precision, ProductPath
from facetalk.nphm.bound import Bound, Networks
from facetalk.nphm.field_operator import register
from facetalk.nphm.field_values import Array, Codes, FieldValues
from facetalk.nphm.lattice import (
    DEFAULT_BOUNDS,
    DEFAULT_RESOLUTION,
    Bounds,
    Resolution,
    check_memory,
    lattice_axes,
)
from facetalk.nphm.networks import Direction
from facetalk.nphm.surface import find, forward
from facetalk.nphm.surface.identity import CanonicalKnowledge
from facetalk.nphm.surface.options import (
    DEFAULT_TOLERANCE_MM,
    ExtractionInfo,
    ExtractionOptions,
    Surface,
    mesh_of,
)
from facetalk.nphm.tracking import Track, track
from facetalk.units import HEAD_UNIT_METRES

Units = Literal["metres", "head"]


class Field(FieldValues):
    """A neural head field of one identity, evaluated for any expressions.

    Arrays may be NumPy or torch, in the CPU's memory or on the field's device. Results are float32 of the
    kind of the first array given; tensors lie on the device that the field was bound on. Expressions are
    (T, E), or (E,) for one frame, or None for the canonical head (one frame).

    `direction` says which way the model's deformation F goes. Of a backward one the posed field at x is
    f(x + F(x)); of a forward one, which moves the neutral head, it is f at the root of root + F(root) = x.
    Roots are searched within the limits of the NPHM project (15 updates to 1e-6; what has none by then is
    searched longer). Points without a root get the value of the neutral point that comes nearest, a
    `RootWarning` counts them, and `roots` says which they are.

    Args:
        model: the head model.
        identity: (L,) identity code.
        facial_smoothing: spatial weight that multiplies the offset, at the points that the deformation moves.
        cull: fraction of the nearest anchor's weight below which a member of the ensemble is not evaluated at
            a point; 0 is exact, None the default, which is below float32 rounding.
        device: the CPU or a CUDA device.
        precision: of hidden units and weights on a CUDA device: "fp16" (None), "bf16", or "fp32"; derivatives
            and fixed topology are always in fp32, and so is everything on the CPU.
        path: on a CUDA device, how the deformation's products are made; see :meth:`facetalk.nphm.NPHM.bind`.

    Raises:
        InputError: kernels cannot run on the device; the message says why.

    Attributes:
        model: the head model.
        identity: (L,) identity code.
        bound: what surface finding and tracking work with: packed weights and kernels.
        knowledge: what was learned of the identity so far, to find surfaces faster.
        direction: "forward" or "backward".
        device: where the field is evaluated.
        anchors: (K, 3) anchor positions, head space.
        source: the folded networks, in the form that `facetalk.ops.reference.field` takes too (float32).
    """

    @plainly
    def __init__(
        self,
        model: Networks,
        identity: Tensor,
        *,
        facial_smoothing: FacialSmoothing | None = None,
        cull: float | None = None,
        device: torch.device | str = "cpu",
        precision: Precision | None = None,
        path: ProductPath = "auto",
    ) -> None:
        self.model = model
        self.identity = identity.detach().clone()
        self._settings = {
            "facial_smoothing": facial_smoothing, "cull": cull, "device": device, "precision": precision,
            "path": path,
        }  # fmt: skip
        bound = Bound(
            model, self.identity, facial_smoothing=facial_smoothing, cull=cull, device=device,
            precision=precision, path=path,
        )  # fmt: skip
        super().__init__(bound, register(bound))
        self.source = bound.source
        self.direction: Direction = self.bound.direction
        self.anchors = self.source.anchors
        self.knowledge = CanonicalKnowledge(self.bound.kernels, self.bound.source, self.bound.cull)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are bound anew: packed weights belong to the process and its device."""
        return _bound_again, (self.model, self.identity, self._settings)

    # Surfaces -------------------------------------------------------------------------------------------

    def extract(
        self,
        expressions: Codes = None,
        resolution: Resolution = DEFAULT_RESOLUTION,
        bounds: Bounds = DEFAULT_BOUNDS,
        *,
        exact: bool = False,
        tolerance_mm: float = DEFAULT_TOLERANCE_MM,
        units: Units = "metres",
        cache: bool | None = None,
        coarse: bool = True,
        posed: bool | None = None,
    ) -> list[Mesh]:
        """Extract the surface of every frame with marching cubes.

        Of a forward model the neutral field is meshed, once, and its vertices are moved, as its authors do;
        the bounds are those of the neutral head, and all frames have the same faces. `posed=True` meshes the
        posed field instead.

        On a CUDA device frames go through in chunks, by the same short cuts; meshes are copied to the CPU's
        memory (see `surfaces` for those that stay). The identity is baked by the device's kernels in float32
        and sorted by the CPU, once. The networks run in the field's precision, whose rounding in 16 bit comes
        on top of `tolerance_mm`.

        Args:
            expressions: (T, E) codes, or None for the canonical head.
            resolution: samples along every axis, or (nx, ny, nz).
            bounds: ((x0, y0, z0), (x1, y1, z1)), head space.
            exact: evaluate every sample of the volume; no short cut.
            tolerance_mm: how far the mesh may be from that of the dense volume, millimetres. 0 keeps to short
                cuts that give the same mesh, to the last bit, as long as the bounds hold that they rest on
                (what does not is counted, see `iterate`). Above 0, the identity may come from a cache and
                the deformation from a coarse lattice; their errors, measured, add up to no more than the
                tolerance but where the field is nearly flat. On a CUDA device bands rest on values at the
                corners of blocks instead of on bounds, and nothing is counted for them.
            units: unit of the vertices; "head" leaves them in head space.
            cache: bake the identity once and look it up; None: where it pays for this many frames. Not for
                models with hyper-coordinates, whose canonical field is not one of space alone.
            coarse: with a cache, interpolate the deformation where it is smooth.
            posed: of a forward model, mesh the posed field through its roots: near the moved neutral mesh and
                where signs contradict, or everywhere with `exact`.

        Returns:
            one mesh a frame; empty where the field has no zero inside the bounds.
        """
        options = ExtractionOptions(tolerance_mm, exact, cache, coarse, posed)
        frames = self.iterate(expressions, resolution, bounds, options=options, units=units)
        return [mesh for mesh, _ in frames]

    def iterate(
        self,
        expressions: Codes = None,
        resolution: Resolution = DEFAULT_RESOLUTION,
        bounds: Bounds = DEFAULT_BOUNDS,
        *,
        options: ExtractionOptions | None = None,
        units: Units = "metres",
    ) -> Iterator[tuple[Mesh, ExtractionInfo]]:
        """The frames of :meth:`extract` and how each was found, one at a time, so that any number fits in
        memory.
        """
        if units not in ("metres", "head"):
            raise InputError(f"units: expected metres or head, got {units!r}")
        scale = np.float32(HEAD_UNIT_METRES if units == "metres" else 1.0)
        found = self.surfaces(expressions, resolution, bounds, options=options)
        return ((mesh_of(surface, scale), surface.info) for surface in found)

    def surfaces(
        self,
        expressions: Codes = None,
        resolution: Resolution = DEFAULT_RESOLUTION,
        bounds: Bounds = DEFAULT_BOUNDS,
        *,
        options: ExtractionOptions | None = None,
        around: Bounds | None = None,
    ) -> Iterator[Surface]:
        """The frames of :meth:`iterate`, head space: NumPy arrays, or tensors on the field's CUDA device.

        `around` is for a part of a lattice looked at again: the bounds of the whole, in which the identity
        was learned. A forward model has no use for it.
        """
        options = options or ExtractionOptions()
        biases = self.bound.biases(expressions)
        options.check(self.direction, frames=biases is not None)
        axes = lattice_axes(resolution, bounds, least=2)
        check_memory(axes, 2 if options.exact or options.posed else 1 / 16, self.device)
        if biases is not None and self.direction == "forward":
            steps = forward.surfaces(self.bound, self.knowledge, biases, axes, bounds, options)
        else:
            steps = find.surfaces(self.bound, self.knowledge, biases, axes, bounds, options, around)
        return _plain_steps(steps)

    # Fixed topology -------------------------------------------------------------------------------------

    @plainly
    def track(
        self,
        expressions: Codes,
        *,
        vertices: Tensor | Array | None = None,
        faces: Tensor | Array | None = None,
        resolution: Resolution = DEFAULT_RESOLUTION,
        bounds: Bounds = DEFAULT_BOUNDS,
        tolerance: float = 1e-5,
    ) -> tuple[Any, Any]:
        """Carry one canonical mesh to every frame, so that topology stays fixed.

        A forward deformation moves its vertices. A backward one maps posed points to canonical ones, so every
        vertex is found by inverting it. See :func:`facetalk.nphm.tracking.track`, and :meth:`tracked` for how
        well each was found.

        Args:
            expressions: (T, E) codes.
            vertices: (V, 3) canonical mesh, head space; None extracts one from the canonical field.
            faces: (F, 3) int32 of that mesh.
            resolution: of the extraction.
            bounds: of the extraction, head space.
            tolerance: largest |x + offset(x) - canonical| that counts as converged, head units; the
                search aims at a tenth of it, so 2e-4 (0.05 mm) saves steps that the default makes. A forward
                model's vertices are exact.

        Returns:
            vertices (T, V, 3) float32, head space, and faces (F, 3) int32: NumPy arrays or, where the field
            is on a CUDA device, tensors there.

        Raises:
            InputError: no expressions, half a mesh, or a tolerance that is none.
        """
        found = self.tracked(
            expressions, vertices=vertices, faces=faces, resolution=resolution, bounds=bounds,
            tolerance=tolerance,
        )  # fmt: skip
        return found.vertices, found.faces

    def tracked(
        self,
        expressions: Codes,
        *,
        vertices: Tensor | Array | None = None,
        faces: Tensor | Array | None = None,
        resolution: Resolution = DEFAULT_RESOLUTION,
        bounds: Bounds = DEFAULT_BOUNDS,
        tolerance: float = 1e-5,
        normals: bool = False,
    ) -> Track:
        """The same as :meth:`track`, with residuals, what converged and, if asked for, `normals`.

        The normals are unit gradients of the posed field; they cost several times what the positions do.
        """
        biases = self.bound.biases(expressions)
        if biases is None:
            raise InputError("expressions: tracking needs expression codes (T, E), got None")
        if (vertices is None) != (faces is None):
            raise InputError("vertices, faces: give both or neither")
        if vertices is None:
            axes = lattice_axes(resolution, bounds, least=2)
            check_memory(axes, 1 / 16, self.device)
            found = forward.neutral_surface(self.bound, self.knowledge, axes, bounds, ExtractionOptions())
            vertices, faces = found.vertices, found.faces
        return track(self.bound, biases, _on_host(vertices), _on_host(faces), tolerance, normals=normals)


def _bound_again(model: Any, identity: Tensor, settings: dict[str, Any]) -> Field:
    return Field(model, identity, **settings)


@plainly
def _plain_steps(steps: Iterator[Surface]) -> Iterator[Surface]:
    yield from steps


def _on_host(array: Any) -> NDArray[Any]:
    return array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)
