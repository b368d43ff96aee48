"""Bound neural head fields on the compiled core.

A field is packed once per identity from folded networks (every latent code already inside a bias; see
`facetalk.nphm.networks`), and evaluated for any number of frames, each given by the biases of its
deformation. The slow twin is `facetalk.ops.reference.field`.

Guarantees: a point's result does not depend on the other points of the call, on the number of threads, or on
whether it came through `query`, `grid` or a band (`facetalk.ops.field.surface`). `cull` leaves out members
whose unnormalised blending weight is below that fraction of the nearest anchor's; 0 leaves out nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from facetalk.arrays import Bool, Float32
from facetalk.ops._arrays import as_array, contiguous, describe
from facetalk.ops._extension import load
from facetalk.ops.field.bounds import SlopeBounds
from facetalk.ops.field.kernels import Box, FieldCache, FrameMesh, constants, place, power_of_two
from facetalk.ops.field.source import (
    DEFAULT_CULL,
    FieldSource,
    LayerWeights,
    OffsetWeight,
    as_axes,
    cull_to_cut,
)
from facetalk.ops.field.surface import CanonicalCache, band, dense_mesh, guided

COARSE_BAND = 0.15
"""Step of a band's first lattice, head units."""


def _float32(value: object, name: str) -> Tensor:
    array = contiguous(as_array(value, name), name, "float32", convert=("float64", "float16"))
    if not isinstance(array, Tensor):
        # torch has no read-only tensors; the copy keeps it from warning about one.
        array = torch.from_numpy(array if array.flags.writeable else array.copy())
    return array


def _finite(value: Tensor, name: str) -> Tensor:
    if not torch.isfinite(value).all():
        where = torch.nonzero(~torch.isfinite(value))[0].tolist()
        raise ValueError(f"{name}: expected finite numbers, got {value[tuple(where)].item()} at {where}")
    return value


def _results(found: dict[str, Tensor], places: str, name_of: Callable[[int], object]) -> dict[str, Tensor]:
    """The results (T, N, ...) of points, which are numbers unless a network overflowed.

    Raises:
        ValueError: a result is NaN or infinite; names the point by `name_of` its number.
    """
    for name, result in found.items():
        # The sum is a number where all are, and much faster to look at; it may overflow where none is wrong.
        if not torch.isfinite(result.sum()) and not torch.isfinite(result).all():
            frame, point = torch.nonzero(~torch.isfinite(result))[0].tolist()[:2]
            raise ValueError(
                f"{places}: expected points at which the field has a value, but {name} is not finite at "
                f"{name_of(point)} in frame {frame}; the networks overflow float32 there"
            )
    return found


class PackedField:
    """A head field in the compiled core's form. See the module's guarantees.

    Args:
        source: the folded head; float32 (float64 is rounded), on the CPU.
        cull: fraction of the nearest anchor's blending weight below which a member is left out at a point.

    Raises:
        TypeError: an array is of the wrong kind, dtype or device.
        ValueError: shapes that do not fit, or numbers that are not finite; the message names the layer.
    """

    device = torch.device("cpu")
    bounded_bands = True
    bake_price = 1.0

    def __init__(self, source: FieldSource, *, cull: float = DEFAULT_CULL) -> None:
        def layers(
            weights: Sequence[LayerWeights], network: str
        ) -> list[tuple[Tensor | None, Tensor | None]]:
            return [
                tuple(  # type: ignore[misc]
                    None
                    if part is None
                    else _finite(_float32(part, f"{network} layer {i}"), f"{network} layer {i}")
                    for part in pair
                )
                for i, pair in enumerate(weights)
            ]

        self._made_from = source, cull
        biases = [_finite(_float32(b, f"identity bias {i}"), f"identity bias {i}")
                  for i, b in enumerate(source.identity_bias)]  # fmt: skip
        self.deforms = source.deformation is not None
        self.coords = 3
        if source.identity and source.identity[0][1] is not None:
            self.coords = int(source.identity[0][1].shape[-1])
        self.anchors = _finite(_float32(source.anchors, "anchors"), "anchors")
        self._core = load().Field(
            identity=layers(source.identity, "identity"),
            identity_bias=biases,
            anchors=self.anchors,
            member_set=[int(u) for u in source.member_set],
            mirror=[float(s) for s in source.mirror],
            deformation=None if source.deformation is None else layers(source.deformation, "deformation"),
            blending=source.blending,
            neighbours=int(source.neighbours),
            blend_std=float(source.blend_std),
            cut=cull_to_cut(cull),
        )

    @property
    def core(self) -> Any:
        """The extension's object."""
        return self._core

    @property
    def simd(self) -> str:
        """Instruction set that the weights were packed for."""
        return str(self._core.simd)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are packed anew from the same weights."""
        return _packed_again, self._made_from

    def query(
        self,
        points: object,
        biases: Sequence[Tensor] | None = None,
        *,
        weight: OffsetWeight | None = None,
        outputs: Sequence[str] = ("sdf",),
    ) -> dict[str, Tensor]:
        """Evaluate at points.

        Args:
            points: (N, 3) float32, head space; canonical queries of MonoNPHM also (N, 3 + m).
            biases: per deformation layer (T, out), one row per frame; None: the canonical field, T = 1.
            weight: spatial weight of the offset.
            outputs: any of "sdf" (T, N); "raw_sdf" (T, N) without NPHM's far-away shrinkage; "gradient" (T,
                N, 3) of sdf by the point ((1, N, 3 + m) for canonical queries with hyper-coordinates);
                "offsets" (T, N, 3 + m); "jacobian" (T, N, 3 + m, 3) of the offsets by the point.

        Returns:
            the outputs by name, float32.

        Raises:
            TypeError: wrong kind, dtype or device. ValueError: wrong shape, or a point (named) that is not
                finite, beyond 1e15, or at which the networks overflow.
        """
        known = ("sdf", "raw_sdf", "gradient", "offsets", "jacobian")
        for name in outputs:
            if name not in known:
                raise ValueError(f"outputs: expected any of {known}, got {name!r}")
        array = _float32(points, "points")
        if array.ndim != 2 or array.shape[1] not in (3, self.coords):
            raise ValueError(f"points: expected shape (N, 3), got {describe(array)}")
        flags = {name: name in outputs for name in known}
        results = self._core.query(array, self.frame_biases(biases), smoothing=_packed(weight), **flags)
        found = {name: from_dlpack(results[name]) for name in outputs}
        return _results(found, "points", lambda n: array[n].tolist())

    def grid(
        self,
        axes: Sequence[np.ndarray],
        biases: Sequence[Tensor] | None = None,
        *,
        weight: OffsetWeight | None = None,
    ) -> Tensor:
        """Signed distances (T, nx, ny, nz) on the lattice of three axes of sample positions."""
        frames, positions = self.frame_biases(biases), as_axes(axes)
        volumes = from_dlpack(self._core.grid(positions, frames, smoothing=_packed(weight)))

        def sample(number: int) -> list[float]:
            at = np.unravel_index(number, volumes.shape[1:])
            return [axis[i] for axis, i in zip(positions, at, strict=True)]

        return _results({"sdf": volumes.flatten(1)}, "axes", sample)["sdf"].reshape(volumes.shape)

    def invert(
        self,
        targets: object,
        biases: Sequence[Tensor],
        *,
        starts: object = None,
        weight: OffsetWeight | None = None,
        tolerance: float = 1e-6,
        iterations: int = 30,
    ) -> tuple[Tensor, Tensor]:
        """Solve x + offset(x) = target for every target and frame, warm-started from the frame before.

        Args:
            targets: (N, 3) float32, head space.
            biases: per deformation layer (T, out).
            starts: (N, 3) where the first frame's search starts; None: at the targets.
            weight: spatial weight of the offset.
            tolerance: wanted |x + offset(x) - target|, head units.
            iterations: most steps per frame.

        Returns:
            positions (T, N, 3), the best found, and residuals (T, N); a residual above the tolerance means
            that the point did not converge.
        """
        array = _float32(targets, "targets")
        if array.ndim != 2 or array.shape[1] != 3:
            raise ValueError(f"targets: expected shape (N, 3), got {describe(array)}")
        _finite(array, "targets")
        first = None if starts is None else _finite(_float32(starts, "starts"), "starts")
        x, residual = self._core.invert(
            array,
            self.frame_biases(biases),
            starts=first,
            smoothing=_packed(weight),
            tolerance=tolerance,
            iterations=iterations,
        )
        found = {"the residual": from_dlpack(residual), "the position": from_dlpack(x)}
        residuals, positions = _results(found, "targets", lambda n: array[n].tolist()).values()
        return positions, residuals

    def frame_biases(self, biases: Sequence[Tensor] | None) -> list[Tensor] | None:
        """What the extension takes for frames; biases per deformation layer (T, out), or None."""
        if biases is None:
            return None
        if not self.deforms:
            raise ValueError("biases: expected None, as this field has no deformation")
        return [_finite(_float32(b, f"biases[{i}]"), f"biases[{i}]") for i, b in enumerate(biases)]

    # What `facetalk.ops.field.kernels.FieldKernels` has besides ------------------------------------------

    def put(self, array: Any, name: str) -> Any:
        """The array itself: `query` takes any in the CPU's memory."""
        return array

    def mesh_array(self, array: Tensor) -> NDArray[Any]:
        """The tensor as NumPy's."""
        result: NDArray[Any] = array.numpy()
        return result

    def query_float32(
        self,
        points: Tensor,
        biases: Sequence[Tensor] | None = None,
        *,
        weight: OffsetWeight | None = None,
        outputs: Sequence[str] = ("sdf",),
    ) -> dict[str, Tensor]:
        """The same as `query`, which has no other precision."""
        return self.query(points, biases, weight=weight, outputs=outputs)

    def inside(self, axes: Sequence[Float32], bounds: SlopeBounds) -> tuple[Bool, int]:
        """Where samples are inside the canonical surface, by a band."""
        volume, counts = band(self, axes, None, bounds)
        return volume.dense().numpy() < 0, counts.evaluated

    def make_cache(self, **arrays: Any) -> CanonicalCache:
        """A cache in the CPU's memory."""
        return CanonicalCache(**arrays)

    def frames_together(self, points: int, *, exact: bool) -> int:
        """One: all cores work on a frame."""
        return 1

    def volume_meshes(self, volumes: Tensor, box: Box) -> list[FrameMesh]:
        """Surfaces at level 0 of volumes (T, nx, ny, nz)."""
        return [FrameMesh(*dense_mesh(volume, box)) for volume in volumes]

    def dense_meshes(
        self,
        axes: Sequence[Float32],
        box: Box,
        biases: Sequence[Tensor] | None,
        *,
        weight: OffsetWeight | None = None,
    ) -> list[FrameMesh]:
        """Surfaces of all frames from every sample of the lattice."""
        return self.volume_meshes(self.grid(axes, biases, weight=weight), box)

    def band_meshes(
        self,
        axes: Sequence[Float32],
        box: Box,
        biases: Sequence[Tensor] | None,
        bounds: SlopeBounds | None,
        *,
        weight: OffsetWeight | None = None,
    ) -> list[FrameMesh]:
        """The same from bands, see :func:`facetalk.ops.field.surface.band`."""
        if bounds is None:
            raise ValueError("bounds: expected those of the field's slope, got None")
        _, step = place(box, [len(axis) for axis in axes])
        spacing = power_of_two(COARSE_BAND / float(np.mean(step)), constants().brick)
        meshes = []
        for frame in _frames(biases):
            volume, counts = band(self, axes, frame, bounds, weight=weight, spacing=spacing)
            meshes.append(FrameMesh(*volume.mesh(box), counts))
        return meshes

    def guided_meshes(
        self,
        axes: Sequence[Float32],
        box: Box,
        biases: Sequence[Tensor],
        cache: FieldCache,
        bounds: SlopeBounds,
        *,
        weight: OffsetWeight | None = None,
        exact: bool = False,
        tolerance: float = 0.0,
        cache_tolerance: float = 0.0,
        spacing: int = 8,
    ) -> list[FrameMesh]:
        """The same from a cache, see :func:`facetalk.ops.field.surface.guided`."""
        if not isinstance(cache, CanonicalCache):
            raise TypeError(f"cache: expected one in the CPU's memory, got {type(cache).__name__}")
        meshes = []
        for frame in _frames(biases):
            assert frame is not None
            volume, counts = guided(
                self, axes, frame, cache, bounds, weight=weight, exact=exact, tolerance=tolerance,
                cache_tolerance=cache_tolerance, spacing=spacing,
            )  # fmt: skip
            meshes.append(FrameMesh(*volume.mesh(box), counts))
        return meshes


def _frames(biases: Sequence[Tensor] | None) -> list[list[Tensor] | None]:
    """Frames one by one; the canonical field is one."""
    if biases is None:
        return [None]
    return [[b[t : t + 1] for b in biases] for t in range(len(biases[0]))]


def _packed(weight: OffsetWeight | None) -> tuple[list[float], list[float], float, float] | None:
    return None if weight is None else weight.packed()


def _packed_again(source: FieldSource, cull: float) -> PackedField:
    return PackedField(source, cull=cull)
