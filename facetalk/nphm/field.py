"""A head bound to one identity: queries, grids, meshes and tracked vertices on the compiled core."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from facetalk.errors import InputError
from facetalk.nphm.binding import ExpressionBiases, Precision, bind_kernels
from facetalk.nphm.field_operator import field_query, is_traced, register
from facetalk.nphm.lattice import Bounds, Resolution, check_memory, lattice_axes
from facetalk.nphm.networks import FoldedNetwork
from facetalk.nphm.surface import cpu as extraction
from facetalk.nphm.surface.cpu import ExtractionInfo, ExtractionOptions, Surface
from facetalk.nphm.surface.identity import CanonicalKnowledge
from facetalk.nphm.surface.plan import DEFAULT_TOLERANCE_MM
from facetalk.ops._device import floats_on
from facetalk.ops.cuda.field import CudaField
from facetalk.ops.field.cpu import DEFAULT_CULL, FieldSource, OffsetWeight, PackedField
from facetalk.units import HEAD_UNIT_METRES

if TYPE_CHECKING:
    from facetalk.mesh.mesh import Mesh
    from facetalk.mesh.smoothing import FacialSmoothing
    from facetalk.nphm.canonical_mesh import BudgetMesh
    from facetalk.nphm.model import NPHM
    from facetalk.nphm.tracking import TrackInfo

# Extraction box of the NPHM and MonoNPHM fitting scripts, head space.
DEFAULT_BOUNDS = ((-0.55, -0.5, -0.95), (0.55, 0.75, 0.4))
DEFAULT_RESOLUTION = 128


class Field:
    """A neural head field of one identity, evaluated for any expressions.

    Everything of the identity is folded into packed weights once; a frame costs its expression's biases.
    Arrays may be NumPy or torch; results are float32 of the kind of the first array given, or tensors on the
    CUDA device that the field was bound on, whatever was given. Expressions are (T, E), or (E,) for one
    frame, or None for the canonical head (one frame).

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
        device: where the field is evaluated.
        kernels: what evaluates it there.
        anchors: (K, 3) anchor positions, head space.
        source: the folded networks, in the form that `facetalk.ops.reference.field` takes too (float32).
    """

    def __init__(
        self,
        model: NPHM,
        identity: Tensor,
        *,
        facial_smoothing: FacialSmoothing | None = None,
        cull: float | None = None,
        device: torch.device | str = "cpu",
        precision: Precision | None = None,
    ) -> None:
        self.model = model
        self.identity = identity.detach().clone()
        self.weight = None if facial_smoothing is None else _offset_weight(facial_smoothing)
        with torch.no_grad():
            network = model.identity
            anchors = network.anchors(self.identity[None])
            folded = network.fold(self.identity[None])
            compressed = deformation = None
            if model.deformation is not None:
                compressed = model.deformation.compress(self.identity[None], anchors)
                deformation = _weights(
                    model.deformation.fold(compressed, anchors.new_zeros(1, model.expression_dim))
                )
        self.source = FieldSource(
            identity=_weights(folded),
            identity_bias=[layer.bias[0].float().cpu() for layer in folded.layers],
            anchors=anchors[0].float().cpu(),
            member_set=network.member_set.cpu(),
            mirror=network.mirror[:, 0].float().cpu(),
            deformation=deformation,
            blending=network.config.family,
            neighbours=network.config.neighbours,
            blend_std=network.config.blend_std,
        )
        self.anchors = self.source.anchors
        self._cull = DEFAULT_CULL if cull is None else cull
        self.kernels = bind_kernels(self.source, cull=cull, device=torch.device(device), precision=precision)
        self.device = self.kernels.device if isinstance(self.kernels, CudaField) else torch.device("cpu")
        self.coords = self.kernels.coords
        self._biases = ExpressionBiases(model.deformation, compressed, self.device)
        self._name = register(self)
        self._knowledge: CanonicalKnowledge | None = None
        self._canonical_mesh: dict[Any, tuple[np.ndarray, np.ndarray]] = {}

    @cached_property
    def packed(self) -> PackedField:
        """The field on the CPU, made when it is first asked for where another device evaluates."""
        if isinstance(self.kernels, PackedField):
            return self.kernels
        return PackedField(self.source, cull=self._cull)

    # Points ---------------------------------------------------------------------------------------------

    def query(self, points: Any, expressions: Any = None) -> Any:
        """Signed distances (T, N) at points (N, 3), negative inside.

        Raises:
            TypeError: not an array of floating-point numbers on the CPU or the field's device.
            ValueError: a shape does not fit, or a number is not finite (the message names the point). Points
                on a CUDA device are not looked at; there such a point gives NaN.
        """
        return self._query(points, expressions, "sdf")

    def gradient(self, points: Any, expressions: Any = None) -> Any:
        """Gradients (T, N, 3) of the signed distance by the point; for the canonical field by all its
        coordinates.
        """
        return self._query(points, expressions, "gradient")

    def offsets(self, points: Any, expressions: Any) -> Any:
        """Offsets (T, N, 3) of the deformation, smoothing included; MonoNPHM (T, N, 3 + m), hyper last."""
        return self._query(points, expressions, "offsets")

    def jacobian(self, points: Any, expressions: Any) -> Any:
        """Derivatives (T, N, 3, 3) of the offsets by the point, [..., output, input]; MonoNPHM (T, N, 3 + m,
        3).
        """
        return self._query(points, expressions, "jacobian")

    def _query(self, points: Any, expressions: Any, output: str) -> Any:
        if is_traced(points, expressions):
            return field_query(points, expressions, self._name, output)
        return self._give(self.evaluate(points, expressions, output), points)

    def evaluate(self, points: Any, expressions: Any, output: str) -> Tensor:
        """An output of the kernels' `query` by name, as a tensor on the field's device."""
        points, biases = self.put(points, "points"), self._biases(expressions)
        return self.kernels.query(points, biases, weight=self.weight, outputs=(output,))[output]

    def put(self, array: Any, name: str) -> Any:
        """An array of floats as the kernels take it; the name is for messages."""
        return floats_on(self.device, array, name) if isinstance(self.kernels, CudaField) else array

    def _give(self, result: Tensor, given: Any) -> Any:
        return result if isinstance(self.kernels, CudaField) else _like(result, given)

    # Lattices -------------------------------------------------------------------------------------------

    def grid(
        self,
        expressions: Any = None,
        resolution: Resolution = DEFAULT_RESOLUTION,
        bounds: Bounds = DEFAULT_BOUNDS,
    ) -> Any:
        """Signed distances on a dense lattice.

        Args:
            expressions: (T, E) codes, or None for the canonical field.
            resolution: samples along every axis, or (nx, ny, nz); both ends of the bounds are samples.
            bounds: ((x0, y0, z0), (x1, y1, z1)), head space.

        Returns:
            (T, nx, ny, nz) float32, x slowest; a torch tensor unless the expressions are a NumPy array and
            the field is on the CPU.
        """
        biases = self._biases(expressions)
        axes = lattice_axes(resolution, bounds)
        check_memory(axes, 1 if biases is None else len(biases[0]), self.device)
        return self._give(self.kernels.grid(axes, biases, weight=self.weight), expressions)

    def extract(
        self,
        expressions: Any = None,
        resolution: Resolution = DEFAULT_RESOLUTION,
        bounds: Bounds = DEFAULT_BOUNDS,
        *,
        exact: bool = False,
        tolerance_mm: float = DEFAULT_TOLERANCE_MM,
        units: Literal["metres", "head"] = "metres",
        cache: bool | None = None,
        coarse: bool = True,
        coherence: bool = True,
        return_info: bool = False,
    ) -> Any:
        """Extract the surface of every frame with marching cubes.

        On a CUDA device frames go through in chunks, by the same short cuts but for `coherence`, which
        changes nothing there; meshes are copied to the CPU's memory (see `surfaces` for those that stay).
        The identity is baked by the device's kernels in float32 and sorted by the CPU, once. The networks
        run in the field's precision, whose rounding in 16 bit comes on top of `tolerance_mm`.

        Args:
            expressions: (T, E) codes, or None for the canonical head.
            resolution: samples along every axis, or (nx, ny, nz).
            bounds: ((x0, y0, z0), (x1, y1, z1)), head space.
            exact: evaluate every sample of the volume; no short cut.
            tolerance_mm: how far the mesh may be from that of the dense volume, millimetres. 0 keeps to short
                cuts that give the same mesh, to the last bit, as long as the bounds hold that they rest on
                (what does not is counted, see `return_info`). Above 0, the identity may come from a cache and
                the deformation from a coarse lattice; their errors, measured, add up to no more than the
                tolerance but where the field is nearly flat. On a CUDA device bands rest on values at the
                corners of blocks instead of on bounds, and nothing is counted for them.
            units: unit of the vertices; "head" leaves them in head space.
            cache: bake the identity once and look it up; None: where it pays for this many frames. Not for
                models with hyper-coordinates, whose canonical field is not one of space alone.
            coarse: with a cache, interpolate the deformation where it is smooth.
            coherence: without a cache, start a frame's band from the frame before; on the CPU.
            return_info: also return a list of :class:`facetalk.nphm.surface.cpu.ExtractionInfo`.

        Returns:
            one mesh a frame; empty where the field has no zero inside the bounds.
        """
        options = ExtractionOptions(tolerance_mm, exact, cache, coarse, coherence)
        frames = list(self.iterate(expressions, resolution, bounds, options=options, units=units))
        meshes = [mesh for mesh, _ in frames]
        return (meshes, [info for _, info in frames]) if return_info else meshes

    def iterate(
        self,
        expressions: Any = None,
        resolution: Resolution = DEFAULT_RESOLUTION,
        bounds: Bounds = DEFAULT_BOUNDS,
        *,
        options: ExtractionOptions | None = None,
        units: Literal["metres", "head"] = "metres",
    ) -> Iterator[tuple[Mesh, ExtractionInfo]]:
        """The frames of :meth:`extract`, one at a time, so that any number fits in memory."""
        from facetalk.nphm.surface.cuda import mesh_of

        if units not in ("metres", "head"):
            raise InputError(f"units: expected metres or head, got {units!r}")
        scale = np.float32(HEAD_UNIT_METRES if units == "metres" else 1.0)
        found = self.surfaces(expressions, resolution, bounds, options=options)
        return ((mesh_of(surface, scale), surface.info) for surface in found)

    def surfaces(
        self,
        expressions: Any = None,
        resolution: Resolution = DEFAULT_RESOLUTION,
        bounds: Bounds = DEFAULT_BOUNDS,
        *,
        options: ExtractionOptions | None = None,
    ) -> Iterator[Surface]:
        """The frames of :meth:`iterate`, head space: NumPy arrays, or tensors on the field's CUDA device."""
        from facetalk.nphm.surface import cuda as extraction_cuda

        options = options or ExtractionOptions()
        biases = self._biases(expressions)
        axes = lattice_axes(resolution, bounds, least=2)
        check_memory(axes, 2 if options.exact else 1 / 16, self.device)
        where = extraction_cuda if isinstance(self.kernels, CudaField) else extraction
        return where.surfaces(self, biases, axes, bounds, options)

    @property
    def knowledge(self) -> CanonicalKnowledge:
        """What was learned of the identity so far, to find surfaces faster."""
        if self._knowledge is None:
            self._knowledge = CanonicalKnowledge(self.kernels)
        return self._knowledge

    # Fixed topology -------------------------------------------------------------------------------------

    def track(
        self,
        expressions: Any,
        *,
        vertices: Any = None,
        faces: Any = None,
        resolution: Resolution = DEFAULT_RESOLUTION,
        bounds: Bounds = DEFAULT_BOUNDS,
        tolerance: float = 1e-5,
        return_info: bool = False,
        normals: bool = False,
    ) -> tuple[Any, Any] | tuple[Any, Any, TrackInfo]:
        """Carry one canonical mesh to every frame, so that topology stays fixed.

        The deformation maps posed points to canonical ones, so every vertex is found by inverting it. See
        :func:`facetalk.nphm.tracking.track`.

        Args:
            expressions: (T, E) codes.
            vertices: (V, 3) canonical mesh, head space; None extracts one from the canonical field.
            faces: (F, 3) int32 of that mesh.
            resolution: of the extraction.
            bounds: of the extraction, head space.
            tolerance: largest |x + offset(x) - canonical| that counts as converged, head units; the
                search aims at a tenth of it, so 2e-4 (0.05 mm) saves steps that the default makes.
            return_info: also return residuals and what converged.
            normals: with `return_info`, also unit normals from the posed field's gradient; they cost several
                times what the positions do.

        Returns:
            vertices (T, V, 3) float32, head space, and faces (F, 3) int32, NumPy or, where the field is on a
            CUDA device, tensors there; with `return_info` also a :class:`facetalk.nphm.tracking.TrackInfo`.
        """
        from facetalk.nphm.tracking import track

        biases = self._biases(expressions)
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
        if normals and not return_info:
            raise InputError("normals: they are part of the info; pass return_info=True as well")
        moved, triangles, info = track(
            self, biases, _on_host(vertices), _on_host(faces), tolerance, normals=normals
        )
        return (moved, triangles, info) if return_info else (moved, triangles)

    def canonical_mesh(self, triangles: int = 20_000, **options: Any) -> BudgetMesh:
        """A canonical mesh with about so many triangles, denser around eyes and mouth, for :meth:`track`.

        See :func:`facetalk.nphm.canonical_mesh.canonical_mesh` for the options.
        """
        from facetalk.nphm.canonical_mesh import canonical_mesh

        return canonical_mesh(self, triangles, **options)


def _weights(folded: FoldedNetwork) -> list[tuple[Tensor | None, Tensor | None]]:
    def part(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.detach().float().cpu().contiguous()

    return [(part(layer.hidden), part(layer.coords)) for layer in folded.layers]


def _offset_weight(smoothing: FacialSmoothing) -> OffsetWeight:
    scale = 1.0 / (smoothing.highest - smoothing.lowest)
    return OffsetWeight(smoothing.centre, smoothing.sigma, scale, -smoothing.lowest * scale)


def _like(result: Tensor, given: Any) -> Any:
    return result.numpy() if given is not None and not isinstance(given, Tensor) else result


def _on_host(array: Any) -> np.ndarray:
    return array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)
