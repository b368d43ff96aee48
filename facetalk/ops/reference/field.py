"""The neural head field again, in slow and obvious torch: the standard that the compiled field is tested
against.

Written from the formulas of NPHM (Giebenhain et al., CVPR 2023) and MonoNPHM (Giebenhain et al., CVPR 2024)
and their released code, densely: every member at every point, no routing, no packing. It shares nothing with
the kernels but the description of a head, `facetalk.ops.field.source.FieldSource`. Also reachable through
`facetalk.ops.reference`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from facetalk.ops.field.source import FieldSource, LayerWeights, OffsetWeight


def _one_set(layers: Sequence[LayerWeights], u: int) -> list[LayerWeights]:
    """The weights of set `u`, (out, in) each."""
    return [(None if h is None else h[u], None if c is None else c[u]) for h, c in layers]


def _mlp(layers: Sequence[LayerWeights], biases: Sequence[Tensor], coords: Tensor) -> Tensor:
    """A folded MLP: `coords` (..., C); weights of one set (out, in); biases (out,)."""
    h = coords
    for i, ((hidden, inputs), bias) in enumerate(zip(layers, biases, strict=True)):
        value = bias
        if hidden is not None:
            value = value + h @ hidden.T
        if inputs is not None:
            value = value + coords @ inputs.T
        # The networks' activation, softplus with beta 100, linear above 0.2; none after the last layer.
        h = value if i == len(layers) - 1 else torch.nn.functional.softplus(value, beta=100.0, threshold=20.0)
    return h


def _blending(source: FieldSource, xyz: Tensor) -> Tensor:
    """Normalised blending weights (N, K + 1) at canonical positions (N, 3)."""
    distance = torch.linalg.vector_norm(xyz[:, None] - source.anchors, dim=-1)
    if source.blending == "nphm":
        weight = torch.exp(-((distance + 1e-5) ** 2) / 0.01)
        weight = torch.cat([weight, torch.full_like(weight[:, :1], math.exp(-0.2 / 0.01))], dim=1)
        return weight / (weight.sum(1, keepdim=True) + 1e-6)
    order = torch.argsort(distance, dim=1, stable=True)[:, : source.neighbours]
    near = torch.gather(distance, 1, order)
    near = torch.cat([near, torch.full_like(near[:, :1], 0.75)], dim=1)
    sigma = near[:, :8].amax(1, keepdim=True) / source.blend_std
    weight = torch.exp(-((near / sigma) ** 2) / 2)
    weight = weight / (weight.sum(1, keepdim=True) + 1e-8)
    member = torch.cat([order, torch.full_like(order[:, :1], distance.shape[1])], dim=1)
    return torch.zeros(len(xyz), distance.shape[1] + 1, dtype=xyz.dtype, device=xyz.device).scatter(
        1, member, weight
    )


def field_offsets(
    source: FieldSource, points: Tensor, biases: Sequence[Tensor], weight: OffsetWeight | None = None
) -> Tensor:
    """Offsets (T, N, 3 + m) of points (N, 3), times the spatial weight; biases (T, out) per deformation
    layer.
    """
    assert source.deformation is not None
    layers = _one_set(source.deformation, 0)
    out = torch.stack([_mlp(layers, [b[t] for b in biases], points) for t in range(len(biases[0]))])
    if weight is not None:
        centre, sigma = points.new_tensor(weight.centre), points.new_tensor(weight.sigma)
        w = torch.exp(-0.5 * (((points - centre) / sigma) ** 2).sum(-1)) * weight.scale + weight.shift
        out = torch.cat([out[..., :3] * w.clamp(0.0, 1.0)[:, None], out[..., 3:]], dim=-1)
    return out


def field(
    source: FieldSource,
    points: Tensor,
    biases: Sequence[Tensor] | None = None,
    weight: OffsetWeight | None = None,
) -> Tensor:
    """Signed distance (T, N) of points (N, 3): every member of the ensemble at every point, blended.

    Without biases the canonical field at points (N, 3) or (N, 3 + m), T = 1; with them f(x + offset(x)).
    Computes in the dtype of `source` and is differentiable.
    """
    hyper = source.identity[0][1].shape[-1] - 3  # type: ignore[union-attr]
    if biases is None:
        queries = points[None]
        if queries.shape[-1] == 3:
            queries = torch.nn.functional.pad(queries, (0, hyper))
    else:
        moved = field_offsets(source, points, biases, weight)
        queries = torch.cat([points + moved[..., :3], moved[..., 3:]], dim=-1)
    results = []
    for query in queries:
        xyz = query[:, :3]
        members = []
        for k, u in enumerate(source.member_set.tolist()):
            local = xyz - source.anchors[k] if k < len(source.anchors) else xyz
            local = local * torch.stack([source.mirror[k], *torch.ones_like(source.mirror[:2])]).to(local)
            layers = _one_set(source.identity, u)
            members.append(
                _mlp(layers, [b[k] for b in source.identity_bias], torch.cat([local, query[:, 3:]], -1))[:, 0]
            )
        results.append((_blending(source, xyz) * torch.stack(members, dim=1)).sum(1))
    return torch.stack(results)
