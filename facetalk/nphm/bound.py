"""A head bound to one identity on one device: packed weights, kernels, and how they take codes.

Surface finding and tracking take a :class:`Bound`; :class:`facetalk.nphm.Field` stands above them.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from facetalk.ambient import plainly
from facetalk.errors import InputError
from facetalk.mesh.smoothing import FacialSmoothing
from facetalk.nphm.binding import ExpressionBiases, Precision, ProductPath, bind_kernels
from facetalk.nphm.networks import DeformationNetwork, Direction, FoldedNetwork, IdentityNetwork
from facetalk.nphm.posed import posed_grid, posed_roots, posed_values
from facetalk.nphm.root_search import Roots, warn_of
from facetalk.ops._device import floats_on
from facetalk.ops.field.cpu import PackedField
from facetalk.ops.field.kernels import FieldKernels
from facetalk.ops.field.source import DEFAULT_CULL, FieldSource, LayerWeights, OffsetWeight


class Networks(Protocol):
    """What of a head model is bound; :class:`facetalk.nphm.NPHM` is one."""

    @property
    def identity(self) -> IdentityNetwork:
        """The identity network."""

    @property
    def deformation(self) -> DeformationNetwork | None:
        """The deformation network, or None."""

    @property
    def direction(self) -> Direction:
        """Which way it goes."""


class Bound:
    """Everything of an identity folded into packed weights; a frame costs its expression's biases.

    Args:
        model: the networks.
        identity: (L,) identity code.
        facial_smoothing: spatial weight that multiplies the offset, at the points that the deformation moves.
        cull: see :class:`facetalk.ops.field.cpu.PackedField`; None: its default.
        device: the CPU or a CUDA device.
        precision: of hidden units and weights on a CUDA device; None: fp16.
        path: of the deformation's products on a CUDA device.

    Raises:
        InputError: kernels cannot run on the device; the message says why.

    Attributes:
        source: the folded networks (float32).
        kernels: what evaluates them on the device.
        weight: spatial weight of the offset, or None.
        direction: which way the deformation goes, see :class:`facetalk.nphm.NPHM`.
        device: where the field is evaluated.
        coords: coordinates of the canonical field: 3, and MonoNPHM's hyper-coordinates.
        biases: folds expression codes (T, E) into biases, see
            :class:`facetalk.nphm.binding.ExpressionBiases`.
    """

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
        self.weight = None if facial_smoothing is None else _offset_weight(facial_smoothing)
        self.source, compressed = _fold(model, identity)
        self.cull = DEFAULT_CULL if cull is None else cull
        self.kernels: FieldKernels = bind_kernels(
            self.source, cull=cull, device=torch.device(device), precision=precision, path=path
        )
        self.device, self.coords = self.kernels.device, self.kernels.coords
        self.direction: Direction = model.direction
        self.biases = ExpressionBiases(model.deformation, compressed, self.device)

    @cached_property
    def packed(self) -> PackedField:
        """The field on the CPU, made when it is first asked for where another device evaluates."""
        if isinstance(self.kernels, PackedField):
            return self.kernels
        return PackedField(self.source, cull=self.cull)

    @plainly
    def evaluate(self, points: Any, expressions: Any, output: str) -> Tensor:
        """An output of the kernels' `query` by name, as a tensor on the device.

        Distances and gradients are those of the posed field, whichever way the deformation goes; offsets and
        their derivatives those of the deformation at the points given.
        """
        biases = self.biases(expressions)
        if biases is not None and self.direction == "forward" and output in ("sdf", "gradient"):
            posed = floats_on(self.device, points, "points")
            return posed_values(self.kernels, posed, biases, self.weight, output)
        points = self.kernels.put(points, "points")
        return self.kernels.query(points, biases, weight=self.weight, outputs=(output,))[output]

    @plainly
    def roots(self, points: Any, expressions: Any) -> Roots:
        """Neutral points of points (N, 3) in the frames of a forward model; tensors on the device."""
        biases = self.biases(expressions)
        if biases is None or self.direction != "forward":
            raise InputError(
                "roots: only expressions of a forward model have them; a backward model's neutral points are "
                "points + offsets(points, expressions)"
            )
        return posed_roots(self.kernels, floats_on(self.device, points, "points"), biases, self.weight)

    def grid(self, axes: list[Any], biases: list[Tensor] | None) -> Tensor:
        """Distances (T, nx, ny, nz) on a lattice, of the posed field where there are frames."""
        if biases is None or self.direction == "backward":
            return self.kernels.grid(axes, biases, weight=self.weight)
        volumes, lost = posed_grid(self.kernels, axes, biases, self.weight)
        warn_of(lost, volumes.numel())
        return volumes


@torch.no_grad()
def _fold(model: Networks, identity: Tensor) -> tuple[FieldSource, Tensor | None]:
    """The head with the identity inside its weights, and the identity as the deformation reads it."""
    network, code = model.identity, identity.detach()[None]
    anchors = network.anchors(code)
    folded = network.fold(code)
    compressed = deformation = None
    if model.deformation is not None:
        compressed = model.deformation.compress(code, anchors)
        rest = anchors.new_zeros(1, model.deformation.config.expression_dim)
        deformation = _weights(model.deformation.fold(compressed, rest))
    source = FieldSource(
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
    return source, compressed


def _weights(folded: FoldedNetwork) -> list[LayerWeights]:
    def part(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.detach().float().cpu().contiguous()

    return [(part(layer.hidden), part(layer.coords)) for layer in folded.layers]


def _offset_weight(smoothing: FacialSmoothing) -> OffsetWeight:
    scale = 1.0 / (smoothing.highest - smoothing.lowest)
    return OffsetWeight(smoothing.centre, smoothing.sigma, scale, -smoothing.lowest * scale)
