"""Folded networks in the layouts of the CUDA field's kernels; see csrc/cuda/field/field.h, FieldDeviceMlp.

The C library packs its own, without torch and from the CPU's panels, in csrc/cuda/head/pack.cu;
``tests/cuda/test_field_pack.py`` holds the two together.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from facetalk.ops.field.source import FieldSource, LayerWeights

Precision = Literal["float32", "float16", "bfloat16"]
PrecisionName = Literal["fp32", "fp16", "bf16"]
PRECISIONS: dict[PrecisionName, Precision] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""The short names that users give, and the dtypes."""
FieldPath = Literal["portable", "hopper"]

# Base-2 softplus of the networks' softplus with beta 100; see csrc/core/field.h.
SOFTPLUS_UNITS = 100.0 * math.log2(math.e)


def pad(count: int, step: int) -> int:
    """`count` rounded up to a multiple of `step`."""
    return -(-count // step) * step


def padded_outputs(outputs: int, *, last: bool) -> int:
    """Outputs of a layer with those that only biases and weights of coordinates have, zeros."""
    return pad(outputs, 8 if last else 64)


def fragments(weights: Tensor, chunks: int) -> Tensor:
    """Lay weights (U, out, in) out as B fragments of mma.m16n8k16: (U, elements), see FieldDeviceMlp."""
    sets, outputs, inputs = weights.shape
    tiles, steps = pad(outputs, 8) // 8, pad(inputs, 16) // 16
    padded = weights.new_zeros(sets, tiles * 8, steps * 16)
    padded[:, :outputs, :inputs] = weights
    # out = 8 * tile + g; in = 16 * step + 8 * high + 2 * t + low
    split = padded.reshape(sets, tiles, 8, steps, 2, 4, 2).permute(0, 3, 1, 2, 5, 4, 6)
    bounds = [tiles * c // chunks for c in range(chunks + 1)]
    parts = [split[:, :, a:b].reshape(sets, -1) for a, b in itertools.pairwise(bounds)]
    return torch.cat(parts, dim=1)


def stages(weights: Tensor, columns: int) -> Tensor:
    """Lay weights (1, out, in) out as wgmma's stages: (1, elements), see FieldDeviceMlp, `staged`.

    Args:
        weights: of a hidden layer.
        columns: outputs of its last pass; another of 256 goes before where there are more.
    """
    _, outputs, inputs = weights.shape
    parts = []
    for first in range(0, outputs, 256):
        rows = 256 if outputs - first > 256 else columns
        padded = weights.new_zeros(rows, pad(inputs, 64))
        here = weights[0, first : first + rows]
        padded[: len(here), :inputs] = here
        # out = 8 * atom + row; in = 64 * step + 8 * chunk + k
        split = padded.reshape(rows // 8, 8, -1, 8, 8).permute(2, 0, 1, 3, 4)
        row = torch.arange(8, device=weights.device)
        parts.append(split[:, :, row[:, None], row[:, None] ^ row].reshape(1, -1))
    return torch.cat(parts, dim=1)


@dataclasses.dataclass(frozen=True)
class PackedNetwork:
    """A packed network: the kernels' description, and the tensors that it points into."""

    mlp: Any
    coord_weights: Tensor
    weights: Tensor


def pack_network(
    core: Any,
    layers: Sequence[LayerWeights],
    precision: Precision,
    device: torch.device,
    *,
    staged: bool = False,
) -> PackedNetwork:
    """Pack a folded network for the kernels; `core` is the extension's `cuda_field`.

    `staged`: in 16 bit, for compute capability 9.0, a network of one set.
    """
    dtype = getattr(torch, precision)
    outputs = [int((h if h is not None else c).shape[1]) for h, c in layers]  # type: ignore[union-attr]
    first = layers[0][1]
    assert first is not None
    sets, coords = int(first.shape[0]), int(first.shape[2])
    wide = max(outputs[1:-1], default=0) > 8 * core.chunk_tiles
    chunks = 2 if wide and precision != "float32" else 1
    table, coord_parts, weight_parts = [], [], []
    bias = coord_count = weight_count = 0
    for i, (hidden, inputs) in enumerate(layers):
        last = i == len(layers) - 1
        rows, columns = padded_outputs(outputs[i], last=last), pad(outputs[i], 8)
        coord_at, weight_at = -1, weight_count
        if inputs is not None:
            block = torch.zeros(sets, rows, coords, device=device)
            block[:, : outputs[i]] = inputs.to(device, torch.float32) * (1.0 if last else SOFTPLUS_UNITS)
            coord_parts.append(block.reshape(sets, -1))
            coord_at, coord_count = coord_count, coord_count + rows * coords
        if hidden is not None:
            values = hidden.to(device, torch.float32)
            if precision == "float32":
                block = torch.zeros(sets, values.shape[2], columns, device=device)
                block[:, :, : outputs[i]] = values.transpose(1, 2)
                flat = block.reshape(sets, -1)
            elif staged and not last:
                flat = stages(values, core.wgmma_columns(outputs[i]))
            else:
                flat = fragments(values, 1 if last else chunks)
            weight_parts.append(flat)
            weight_count += flat.shape[1]
        table.append((0 if hidden is None else int(hidden.shape[2]), outputs[i], bias, coord_at, weight_at))
        bias += rows
    coord_weights = torch.cat(coord_parts, dim=1).contiguous()
    weights = torch.cat(weight_parts, dim=1).to(dtype).contiguous()
    mlp = core.Mlp(
        layers=table,
        coords=coords,
        chunks=chunks,
        staged=staged,
        bias_count=bias,
        coord_count=coord_count,
        weight_count=weight_count,
        coord_weights=coord_weights.data_ptr(),
        weights=weights.data_ptr(),
    )
    return PackedNetwork(mlp, coord_weights, weights)


def pack_biases(layers: Sequence[Tensor], device: torch.device) -> Tensor:
    """Rows of biases (rows, bias_count) from per-layer (rows, out), hidden layers in softplus units."""
    parts = []
    for i, bias in enumerate(layers):
        last = i == len(layers) - 1
        block = torch.zeros(bias.shape[0], padded_outputs(bias.shape[1], last=last), device=device)
        block[:, : bias.shape[1]] = bias.to(device, torch.float32) * (1.0 if last else SOFTPLUS_UNITS)
        parts.append(block)
    return torch.cat(parts, dim=1).contiguous()


def check_source(source: FieldSource) -> None:
    """Shapes that the kernels rely on; the messages name the layer."""
    members = len(source.anchors) + 1
    if source.anchors.ndim != 2 or source.anchors.shape[1] != 3 or not 2 <= members <= 4096:
        raise ValueError(f"anchors: expected shape (1 to 4095, 3), got {tuple(source.anchors.shape)}")
    if len(source.member_set) != members or len(source.mirror) != members:
        raise ValueError(f"member_set, mirror: expected {members} members")
    if source.blending == "mononphm" and (source.neighbours < 1 or not source.blend_std > 0.0):
        raise ValueError("neighbours, blend_std: expected both above 0")
    made: dict[str, int] = {}
    for name, layers in (("identity", source.identity), ("deformation", source.deformation)):
        if layers is None:
            continue
        before, coords = 0, None if layers[0][1] is None else int(layers[0][1].shape[-1])
        for i, (hidden, inputs) in enumerate(layers):
            label = f"{name} layer {i}"
            part = hidden if hidden is not None else inputs
            if part is None or (i == 0) == (hidden is not None) or coords is None:
                raise ValueError(f"{label}: expected {'coordinates only' if i == 0 else 'hidden units'}")
            want = (part.shape[0], part.shape[1])
            for tensor, columns in ((hidden, before), (inputs, coords)):
                if tensor is not None and tuple(tensor.shape) != (*want, columns):
                    raise ValueError(f"{label}: expected shape {(*want, columns)}, got {tuple(tensor.shape)}")
                if tensor is not None and not torch.isfinite(tensor).all():
                    raise ValueError(f"{label}: expected finite numbers")
            before = int(part.shape[1])
        made[name] = before
    sets = int(source.identity[0][1].shape[0])  # type: ignore[union-attr]
    if made["identity"] != 1 or not 0 <= int(source.member_set.min()) <= int(source.member_set.max()) < sets:
        raise ValueError(f"identity: expected one output and member sets below {sets}")
    for i, bias in enumerate(source.identity_bias):
        outputs = (source.identity[i][0] if i else source.identity[i][1]).shape[1]  # type: ignore[union-attr]
        if tuple(bias.shape) != (members, outputs) or not torch.isfinite(bias).all():
            raise ValueError(f"identity bias {i}: expected finite numbers of shape ({members}, {outputs})")
    coords = int(source.identity[0][1].shape[-1])  # type: ignore[union-attr]
    if source.deformation is not None and made["deformation"] != coords:
        raise ValueError(f"deformation: expected {coords} outputs, got {made['deformation']}")
