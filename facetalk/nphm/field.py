"""A head bound to one identity: queries, grids, meshes and tracked vertices on the compiled core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetalk.ambient import plainly
from facetalk.arrays import Float32, Int32
from facetalk.errors import InputError
from facetalk.mesh.mesh import Mesh
from facetalk.mesh.smoothing import FacialSmoothing
from facetalk.nphm.binding import Precision
from facetalk.nphm.bound import Bound, Networks
from facetalk.nphm.field_operator import field_query, is_traced, register
from facetalk.nphm.lattice import (
    DEFAULT_BOUNDS,
    DEFAULT_RESOLUTION,
    Bounds,
    Resolution,
    check_memory,
    lattice_axes,
)
from facetalk.nphm.surface import find
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

Array = NDArray[Any]
Codes = Tensor | Array | Sequence[Any] | None
"""Expressions: (T, E), or (E,) for one frame, or None for the canonical head, which is one frame."""
Units = Literal["metres", "head"]


class Field:
    """A neural head field of one identity, evaluated for any expressions.

    Arrays may be NumPy or torch, in the CPU's memory or on the field's device. Results are float32 of the
    kind of the first array given; tensors lie on the device that the field was bound on. Expressions are
    (T, E), or (E,) for one frame, or None for the canonical head (one frame).

    Args:
        model: the head model.
        identity: (L,) identity code.
        facial_smoothing: spatial weight that multiplies the offset before the identity network.
        cull: fraction of the nearest anchor's weight below which a member of the ensemble is not evaluated at
            a point; 0 is exact, None the default, which is below float32 rounding.
        device: the CPU or a CUDA device.
        precision: of hidden units and weights on a CUDA device: "fp16" (None), "bf16", or "fp32"; derivatives
            and fixed topology are always in fp32, and so is everything on the CPU.

    Raises:
        InputError: kernels cannot run on the device; the message says why.

    Attributes:
        model: the head model.
        identity: (L,) identity code.
        bound: what surface finding and tracking work with: packed weights and kernels.
        knowledge: what was learned of the identity so far, to find surfaces faster.
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
    ) -> None:
        self.model = model
        self.identity = identity.detach().clone()
        self._settings = {
            "facial_smoothing": facial_smoothing, "cull": cull, "device": device, "precision": precision
        }  # fmt: skip
        self.bound = Bound(
            model, self.identity, facial_smoothing=facial_smoothing, cull=cull, device=device,
            precision=precision,
        )  # fmt: skip
        self.device, self.source = self.bound.device, self.bound.source
        self.anchors = self.source.anchors
        self.knowledge = CanonicalKnowledge(self.bound.kernels, self.bound.source, self.bound.cull)
        self._name = register(self.bound)
        self._canonical_mesh: dict[Any, tuple[Float32, Int32]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are bound anew: packed weights belong to the process and its device."""
        return _bound_again, (self.model, self.identity, self._settings)

    # Points ---------------------------------------------------------------------------------------------

    @overload
    def query(self, points: Tensor, expressions: Codes = None) -> Tensor: ...
    @overload
    def query(self, points: Array, expressions: Codes = None) -> Float32: ...
    def query(self, points: Tensor | Array, expressions: Codes = None) -> Tensor | Float32:
        """Signed distances (T, N) at points (N, 3), negative inside.

        Raises:
            TypeError: not an array of floating-point numbers on the CPU or the field's device.
            ValueError: a shape does not fit, or a number is not finite (the message names the point). Points
                on a CUDA device are not looked at; there such a point gives NaN.
        """
        return self._query(points, expressions, "sdf")

    @overload
    def gradient(self, points: Tensor, expressions: Codes = None) -> Tensor: ...
    @overload
    def gradient(self, points: Array, expressions: Codes = None) -> Float32: ...
    def gradient(self, points: Tensor | Array, expressions: Codes = None) -> Tensor | Float32:
        """Gradients (T, N, 3) of the signed distance by the point; for the canonical field by all its
        coordinates.
        """
        return self._query(points, expressions, "gradient")

    @overload
    def offsets(self, points: Tensor, expressions: Codes) -> Tensor: ...
    @overload
    def offsets(self, points: Array, expressions: Codes) -> Float32: ...
    def offsets(self, points: Tensor | Array, expressions: Codes) -> Tensor | Float32:
        """Offsets (T, N, 3) of the deformation, smoothing included; MonoNPHM (T, N, 3 + m), hyper last."""
        return self._query(points, expressions, "offsets")

    @overload
    def jacobian(self, points: Tensor, expressions: Codes) -> Tensor: ...
    @overload
    def jacobian(self, points: Array, expressions: Codes) -> Float32: ...
    def jacobian(self, points: Tensor | Array, expressions: Codes) -> Tensor | Float32:
        """Derivatives (T, N, 3, 3) of the offsets by the point, [..., output, input]; MonoNPHM (T, N, 3 + m,
        3).
        """
        return self._query(points, expressions, "jacobian")

    def _query(self, points: Any, expressions: Any, output: str) -> Tensor | Float32:
        if is_traced(points, expressions):
            traced: Tensor = field_query(points, expressions, self._name, output)
            return traced
        return _like(self.bound.evaluate(points, expressions, output), points)

    # Lattices -------------------------------------------------------------------------------------------

    @overload
    def grid(
        self, expressions: Tensor | None = None, resolution: Resolution = ..., bounds: Bounds = ...
    ) -> Tensor: ...
    @overload
    def grid(
        self, expressions: Array | Sequence[Any], resolution: Resolution = ..., bounds: Bounds = ...
    ) -> Float32: ...
    @plainly
    def grid(
        self,
        expressions: Codes = None,
        resolution: Resolution = DEFAULT_RESOLUTION,
        bounds: Bounds = DEFAULT_BOUNDS,
    ) -> Tensor | Float32:
        """Signed distances on a dense lattice.

        Args:
            expressions: (T, E) codes, or None for the canonical field.
            resolution: samples along every axis, or (nx, ny, nz); both ends of the bounds are samples.
            bounds: ((x0, y0, z0), (x1, y1, z1)), head space.

        Returns:
            (T, nx, ny, nz) float32, x slowest; a torch tensor unless the expressions are a NumPy array.
        """
        biases = self.bound.biases(expressions)
        axes = lattice_axes(resolution, bounds)
        check_memory(axes, 1 if biases is None else len(biases[0]), self.device)
        return _like(self.bound.kernels.grid(axes, biases, weight=self.bound.weight), expressions)

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
    ) -> list[Mesh]:
        """Extract the surface of every frame with marching cubes.

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

        Returns:
            one mesh a frame; empty where the field has no zero inside the bounds.
        """
        options = ExtractionOptions(tolerance_mm, exact, cache, coarse)
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
    ) -> Iterator[Surface]:
        """The frames of :meth:`iterate`, head space: NumPy arrays, or tensors on the field's CUDA device."""
        options = options or ExtractionOptions()
        biases = self.bound.biases(expressions)
        axes = lattice_axes(resolution, bounds, least=2)
        check_memory(axes, 2 if options.exact else 1 / 16, self.device)
        return _plain_steps(find.surfaces(self.bound, self.knowledge, biases, axes, bounds, options))

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

        The deformation maps posed points to canonical ones, so every vertex is found by inverting it. See
        :func:`facetalk.nphm.tracking.track`, and :meth:`tracked` for how well each was found.

        Args:
            expressions: (T, E) codes.
            vertices: (V, 3) canonical mesh, head space; None extracts one from the canonical field.
            faces: (F, 3) int32 of that mesh.
            resolution: of the extraction.
            bounds: of the extraction, head space.
            tolerance: largest |x + offset(x) - canonical| that counts as converged, head units; the
                search aims at a tenth of it, so 2e-4 (0.05 mm) saves steps that the default makes.

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
            key = (str(resolution), str(np.asarray(bounds).tolist()))
            if key not in self._canonical_mesh:
                (mesh,) = self.extract(None, resolution, bounds, units="head")
                self._canonical_mesh[key] = mesh.vertices, mesh.faces
            vertices, faces = self._canonical_mesh[key]
        return track(self.bound, biases, _on_host(vertices), _on_host(faces), tolerance, normals=normals)


def _bound_again(model: Any, identity: Tensor, settings: dict[str, Any]) -> Field:
    return Field(model, identity, **settings)


@plainly
def _plain_steps(steps: Iterator[Surface]) -> Iterator[Surface]:
    yield from steps


def _like(result: Tensor, given: object) -> Tensor | Float32:
    """The result as the kind of array that was given; a tensor where none was."""
    return result if given is None or isinstance(given, Tensor) else result.cpu().numpy()


def _on_host(array: Any) -> NDArray[Any]:
    return array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)
