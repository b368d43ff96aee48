"""What binds a head to a device: the kernels that evaluate it, and expression codes folded into biases."""

from __future__ import annotations

import copy
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from facetalk.ambient import plainly
from facetalk.errors import InputError
from facetalk.nphm.networks import DeformationNetwork
from facetalk.ops._device import why_not
from facetalk.ops.cuda.field import CudaField
from facetalk.ops.cuda.field_pack import PRECISIONS, PrecisionName
from facetalk.ops.field.cpu import PackedField
from facetalk.ops.field.kernels import FieldKernels
from facetalk.ops.field.source import DEFAULT_CULL, FieldSource

Precision = PrecisionName
ProductPath = Literal["auto", "portable", "hopper"]
"""How the deformation's products are made on a CUDA device: warps' tensor-core instructions, which every GPU
has, or those of warpgroups, of compute capability 9.0; "auto": the latter where they can be had."""


def bind_kernels(
    source: FieldSource,
    *,
    cull: float | None,
    device: torch.device,
    precision: Precision | None,
    path: ProductPath = "auto",
) -> FieldKernels:
    """The head in the form that the kernels of a device take.

    Args:
        source: the folded head.
        cull: see :class:`facetalk.ops.field.cpu.PackedField` and
            :class:`facetalk.ops.cuda.field.CudaField`; None: their defaults.
        device: the CPU or a CUDA device.
        precision: of hidden units and weights. None: fp32 on the CPU, which has no other, and fp16 on a CUDA
            device.
        path: of the deformation's products on a CUDA device, see :class:`facetalk.ops.cuda.field.CudaField`.

    Raises:
        InputError: a precision or a path that is none or cannot be had, or a device without kernels; the
            message says why.
    """
    if precision is not None and precision not in PRECISIONS:
        raise InputError(f"precision: expected fp32, fp16 or bf16, got {precision!r}")
    if path not in get_args(ProductPath):
        raise InputError(f"path: expected {', '.join(get_args(ProductPath))}, got {path!r}")
    reason = why_not(device)
    if reason is not None:
        raise InputError(f"a field cannot be bound on {device}: {reason}; use device='cpu'")
    if device.type == "cpu":
        if precision not in (None, "fp32"):
            raise InputError(f"precision: the CPU computes in fp32 alone, got {precision!r}")
        if path != "auto":
            raise InputError(f"path: expected auto on the CPU, which has one alone, got {path!r}")
        return PackedField(source, cull=DEFAULT_CULL if cull is None else cull)
    try:
        return CudaField(
            source, cull=cull, precision=PRECISIONS[precision or "fp16"], path=path, device=device
        )
    except ValueError as error:
        raise InputError(str(error)) from error


class ExpressionBiases:
    """Folds expression codes into the biases of the deformation's layers.

    Args:
        deformation: the network; None: the model has none. A copy of it is made on another device.
        compressed: (1, compressed) the identity as the network reads it; None without network.
        device: where codes are folded.
    """

    def __init__(
        self, deformation: DeformationNetwork | None, compressed: Tensor | None, device: torch.device
    ) -> None:
        self.device = device
        self._network, self._compressed = deformation, compressed
        if compressed is not None and compressed.device != device:
            self._network = copy.deepcopy(deformation).to(device)  # type: ignore[union-attr]
            self._compressed = compressed.to(device)

    @plainly
    def __call__(self, expressions: Any) -> list[Tensor] | None:
        """Per deformation layer (T, out) float32 on the device; None for the canonical field.

        Args:
            expressions: (T, E), or (E,) for one frame, on the CPU or the device; None: no deformation.

        Raises:
            InputError: codes for a model without deformation.
            TypeError: not an array of floating-point numbers in one of these places.
            ValueError: a wrong shape, or a number that is not finite. While a CUDA graph is being captured,
                numbers are not looked at.
        """
        if expressions is None:
            return None
        if self._compressed is None or self._network is None:
            raise InputError("expressions: this model has no deformation network; pass None")
        if not isinstance(expressions, (Tensor, np.ndarray, list, tuple)):
            raise TypeError(f"expressions: expected an array (T, E), got {type(expressions).__name__}")
        codes = (
            expressions.detach()
            if isinstance(expressions, Tensor)
            else torch.as_tensor(np.asarray(expressions))
        )
        if codes.device.type != "cpu" and codes.device != self.device:
            places = "the CPU" if self.device.type == "cpu" else f"the CPU or {self.device}"
            raise TypeError(
                f"expressions: expected a tensor on {places}, got one on {codes.device}; pass .cpu()"
            )
        if not codes.is_floating_point():
            raise TypeError(f"expressions: expected floating-point numbers, got {codes.dtype}")
        codes = codes[None] if codes.ndim == 1 else codes
        size = self._network.config.expression_dim
        if codes.ndim != 2 or codes.shape[1] != size:
            raise ValueError(f"expressions: expected shape (T, {size}), got {tuple(codes.shape)}")
        if not (codes.is_cuda and torch.cuda.is_current_stream_capturing()):
            finite = torch.isfinite(codes)
            if not finite.all():
                raise ValueError(f"expressions: expected finite numbers, got {codes[~finite][0].item()}")
        with torch.no_grad():
            compressed = self._compressed.expand(len(codes), -1)
            folded = self._network.fold(compressed, codes.to(compressed))
        return [layer.bias[:, 0].float() for layer in folded.layers]
