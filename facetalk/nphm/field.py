"""A head bound to one identity: queries, grids, meshes and tracked vertices on the compiled core."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from facetalk.errors import InputError
from facetalk.nphm.extraction import (
    DEFAULT_TOLERANCE_MM,
    CanonicalKnowledge,
    ExtractionInfo,
    ExtractionOptions,
    surfaces,
)
from facetalk.nphm.networks import FoldedNetwork
from facetalk.ops.field import DEFAULT_CULL, FieldSource, OffsetWeight, PackedField
from facetalk.units import HEAD_UNIT_METRES

if TYPE_CHECKING:
    from facetalk.mesh.mesh import Mesh
    from facetalk.mesh.smoothing import FacialSmoothing
    from facetalk.nphm.canonical_mesh import BudgetMesh
    from facetalk.nphm.model import NPHM
    from facetalk.nphm.tracking import TrackInfo

Bounds = Sequence[Sequence[float]]
Resolution = int | Sequence[int]

# Extraction box of the NPHM and MonoNPHM fitting scripts, head space.
DEFAULT_BOUNDS = ((-0.55, -0.5, -0.95), (0.55, 0.75, 0.4))
DEFAULT_RESOLUTION = 128


class Field:
    """A neural head field of one identity, evaluated for any expressions.

    Everything of the identity is folded into packed weights once; a frame costs its expression's biases.
    Arrays may be NumPy or torch; results are float32 of the kind of the first array given. Expressions are
    (T, E), or (E,) for one frame, or None for the canonical head (one frame).

    Args:
        model: the head model.
        identity: (L,) identity code.
        facial_smoothing: spatial weight that multiplies the offset before the identity network.
        cull: fraction of the nearest anchor's weight below which a member of the ensemble is not evaluated at
            a point; 0 is exact, None the default, which is below float32 rounding.

    Attributes:
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
    ) -> None:
        self.model = model
        self.identity = identity.detach().clone()
        self.weight = None if facial_smoothing is None else _offset_weight(facial_smoothing)
        with torch.no_grad():
            network = model.identity
            anchors = network.anchors(self.identity[None])
            folded = network.fold(self.identity[None])
            self._compressed = None
            deformation = None
            if model.deformation is not None:
                self._compressed = model.deformation.compress(self.identity[None], anchors)
                deformation = _weights(
                    model.deformation.fold(self._compressed, anchors.new_zeros(1, model.expression_dim))
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
        self.packed = PackedField(self.source, cull=DEFAULT_CULL if cull is None else cull)
        self._knowledge: CanonicalKnowledge | None = None
        self._canonical_mesh: dict[Any, tuple[np.ndarray, np.ndarray]] = {}

    # Points ---------------------------------------------------------------------------------------------

    def query(self, points: Any, expressions: Any = None) -> Any:
        """Signed distances (T, N) at points (N, 3), negative inside.

        Raises:
            TypeError: not an array of floating-point numbers on the CPU.
            ValueError: a shape does not fit, or a number is not finite (the message names the point).
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
        biases = self._biases(expressions)
        result = self.packed.query(points, biases, weight=self.weight, outputs=(output,))[output]
        return _like(result, points)

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
            (T, nx, ny, nz) float32, x slowest; a torch tensor unless the expressions are a NumPy array.
        """
        biases = self._biases(expressions)
        axes = lattice_axes(resolution, bounds)
        _check_memory(axes, 1 if biases is None else len(biases[0]))
        return _like(self.packed.grid(axes, biases, weight=self.weight), expressions)

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

        Args:
            expressions: (T, E) codes, or None for the canonical head.
            resolution: samples along every axis, or (nx, ny, nz).
            bounds: ((x0, y0, z0), (x1, y1, z1)), head space.
            exact: evaluate every sample of the volume; no short cut.
            tolerance_mm: how far the mesh may be from that of the dense volume, millimetres. 0 keeps to short
                cuts that give the same mesh, to the last bit, as long as the bounds hold that they rest on
                (what does not is counted, see `return_info`). Above 0, the identity may come from a cache and
                the deformation from a coarse lattice; their errors, measured, add up to no more than the
                tolerance but where the field is nearly flat.
            units: unit of the vertices; "head" leaves them in head space.
            cache: bake the identity once and look it up; None: where it pays for this many frames. Not for
                models with hyper-coordinates, whose canonical field is not one of space alone.
            coarse: with a cache, interpolate the deformation where it is smooth.
            coherence: without a cache, start a frame's band from the frame before.
            return_info: also return a list of :class:`facetalk.nphm.extraction.ExtractionInfo`.

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
        from facetalk.mesh.mesh import Mesh

        if units not in ("metres", "head"):
            raise InputError(f"units: expected metres or head, got {units!r}")
        options = options or ExtractionOptions()
        biases = self._biases(expressions)
        axes = lattice_axes(resolution, bounds, least=2)
        _check_memory(axes, 2 if options.exact else 1 / 16)
        scale = np.float32(HEAD_UNIT_METRES if units == "metres" else 1.0)

        def frames() -> Iterator[tuple[Mesh, ExtractionInfo]]:
            for surface in surfaces(self, biases, axes, bounds, options):
                yield Mesh(surface.vertices * scale, surface.faces), surface.info

        return frames()

    @property
    def knowledge(self) -> CanonicalKnowledge:
        """What was learned of the identity so far, to find surfaces faster."""
        if self._knowledge is None:
            self._knowledge = CanonicalKnowledge(self)
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
    ) -> tuple[np.ndarray, np.ndarray] | tuple[np.ndarray, np.ndarray, TrackInfo]:
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
            vertices (T, V, 3) float32, head space, and faces (F, 3) int32; with `return_info` also a
            :class:`facetalk.nphm.tracking.TrackInfo`.
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
            self, biases, np.asarray(vertices), np.asarray(faces), tolerance, normals=normals
        )
        return (moved, triangles, info) if return_info else (moved, triangles)

    def canonical_mesh(self, triangles: int = 20_000, **options: Any) -> BudgetMesh:
        """A canonical mesh with about so many triangles, denser around eyes and mouth, for :meth:`track`.

        See :func:`facetalk.nphm.canonical_mesh.canonical_mesh` for the options.
        """
        from facetalk.nphm.canonical_mesh import canonical_mesh

        return canonical_mesh(self, triangles, **options)

    # Frames ---------------------------------------------------------------------------------------------

    def _biases(self, expressions: Any) -> list[Tensor] | None:
        """Per deformation layer (T, out): the expressions folded into biases."""
        if expressions is None:
            return None
        if self._compressed is None:
            raise InputError("expressions: this model has no deformation network; pass None")
        assert self.model.deformation is not None
        if not isinstance(expressions, (Tensor, np.ndarray, list, tuple)):
            raise TypeError(f"expressions: expected an array (T, E), got {type(expressions).__name__}")
        codes = (
            torch.as_tensor(np.asarray(expressions))
            if not isinstance(expressions, Tensor)
            else expressions.detach()
        )
        if codes.device.type != "cpu":
            raise TypeError(
                f"expressions: expected a tensor on the CPU, got one on {codes.device}; pass .cpu()"
            )
        if not codes.is_floating_point():
            raise TypeError(f"expressions: expected floating-point numbers, got {codes.dtype}")
        codes = codes[None] if codes.ndim == 1 else codes
        if codes.ndim != 2 or codes.shape[1] != self.model.expression_dim:
            raise ValueError(
                f"expressions: expected shape (T, {self.model.expression_dim}), got {tuple(codes.shape)}"
            )
        if not torch.isfinite(codes).all():
            raise ValueError(
                f"expressions: expected finite numbers, got {codes[~torch.isfinite(codes)][0].item()}"
            )
        with torch.no_grad():
            compressed = self._compressed.expand(len(codes), -1)
            folded = self.model.deformation.fold(compressed, codes.to(compressed))
        return [layer.bias[:, 0].float() for layer in folded.layers]


def lattice_axes(resolution: Resolution, bounds: Bounds, *, least: int = 1) -> list[np.ndarray]:
    """Sample positions along x, y, z: float64 spacing, rounded to float32; both ends are samples.

    Raises:
        InputError: a resolution that is no positive whole number, or bounds that are not two ordered corners.
    """
    counts: list[Any] = (
        list(resolution) if isinstance(resolution, (tuple, list, np.ndarray)) else [resolution] * 3
    )
    whole = all(isinstance(c, (int, np.integer)) and not isinstance(c, bool) for c in counts)
    if len(counts) != 3 or not whole:
        raise InputError(f"resolution: expected a whole number or three, got {resolution!r}")
    if min(counts) < least:
        raise InputError(f"resolution: expected at least {least} samples along every axis, got {resolution}")
    try:
        box = np.asarray(bounds, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"bounds: expected ((x0, y0, z0), (x1, y1, z1)), got {bounds!r}") from error
    if box.shape != (2, 3) or not np.isfinite(box).all() or not (box[0] < box[1]).all():
        raise InputError(
            f"bounds: expected ((x0, y0, z0), (x1, y1, z1)) growing along every axis, got {bounds!r}"
        )
    return [
        np.linspace(a, b, int(n)).astype(np.float32) for a, b, n in zip(box[0], box[1], counts, strict=True)
    ]


def _check_memory(axes: Sequence[np.ndarray], volumes: float) -> None:
    """Refuses lattices that memory cannot hold, before an allocation is tried that would end the process."""
    need = 4 * volumes * np.prod([float(len(a)) for a in axes])
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > 0.8 * have:
        size = " x ".join(str(len(a)) for a in axes)
        raise InputError(
            f"resolution: a lattice of {size} samples needs {need / 2**30:.0f} GiB, this machine "
            f"has {have / 2**30:.0f}; choose a smaller resolution"
        )


def _weights(folded: FoldedNetwork) -> list[tuple[Tensor | None, Tensor | None]]:
    def part(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.detach().float().cpu().contiguous()

    return [(part(layer.hidden), part(layer.coords)) for layer in folded.layers]


def _offset_weight(smoothing: FacialSmoothing) -> OffsetWeight:
    scale = 1.0 / (smoothing.highest - smoothing.lowest)
    return OffsetWeight(smoothing.centre, smoothing.sigma, scale, -smoothing.lowest * scale)


def _like(result: Tensor, given: Any) -> Any:
    return result.numpy() if given is not None and not isinstance(given, Tensor) else result
