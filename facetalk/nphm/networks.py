"""Neural parametric head models as torch modules, with the official parameter names and shapes.

Two families share one anatomy: an *identity* network, an ensemble of small MLPs around anchors on the
head that gives a signed distance, and a *deformation* network, one MLP that moves points by an
expression.

* NPHM: Giebenhain et al., "Learning Neural Parametric Head Models", CVPR 2023.
* MonoNPHM: Giebenhain et al., "MonoNPHM: Dynamic Head Reconstruction from Monocular Videos", CVPR 2024.

Latent codes are constant over the points of a head, so every network first *folds* them into biases
(:class:`FoldedLayer`); per point only coordinates are left. The compiled kernels pack the same folded
form, so there is one place that knows how a code enters a network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facetalk.nphm.config import DeformationConfig, Direction, Family, IdentityConfig

__all__ = [
    "DeformationConfig", "DeformationNetwork", "Direction", "Family", "FoldedLayer", "FoldedNetwork",
    "IdentityConfig", "IdentityNetwork",
]  # fmt: skip

SOFTPLUS_BETA = 100.0
# NPHM blending (section 3.2 of the paper and its released code): exp(-(d + 1e-5)^2 / 0.01), a constant
# exp(-0.2 / 0.01) for the member without an anchor, and 1e-6 in the denominator.
NPHM_VARIANCE = 0.01
NPHM_DISTANCE_BIAS = 1e-5
NPHM_BACKGROUND_EXPONENT = 0.2
NPHM_BACKGROUND = math.exp(-NPHM_BACKGROUND_EXPONENT / NPHM_VARIANCE)
NPHM_DENOMINATOR = 1e-6
# MonoNPHM blending (released code): the scale is the eighth-nearest distance / blend_std; the member without
# an anchor counts as 0.75 away; 1e-8 in the denominator.
MONO_SCALE_RANK = 8
MONO_BACKGROUND = 0.75
MONO_DENOMINATOR = 1e-8


@dataclass
class FoldedLayer:
    """One layer after folding: ``hidden @ h + coords @ c + bias``, scalings included.

    Attributes:
        hidden: (U, out, in) or None in the first layer.
        coords: (U, out, C) where coordinates enter (first layer, skip layer), else None.
        bias: (B, A, out), one per code and member.
    """

    hidden: Tensor | None
    coords: Tensor | None
    bias: Tensor


@dataclass
class FoldedNetwork:
    """A network whose codes are folded away. ``member_set`` (A,) maps members to weight sets."""

    layers: list[FoldedLayer]
    member_set: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.long))


def _layer_sizes(
    inputs: int, hidden: int, layers: int, outputs: int, *, narrow: bool
) -> list[tuple[int, int]]:
    """(in, out) of every linear layer of an MLP with a skip before layer n // 2."""
    skip = layers // 2
    sizes = [[inputs if i == 0 else hidden, hidden if i < layers else outputs] for i in range(layers + 1)]
    if narrow:
        sizes[skip - 1][1] = hidden - inputs
    else:
        sizes[skip][0] = hidden + inputs
    return [(a, b) for a, b in sizes]


class _LinearStack(nn.Module):
    """``sets`` linear layers of one shape: weight (U, out, in), bias (U, out)."""

    def __init__(self, sets: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)  # torch.nn.Linear's default initialisation
        self.weight = nn.Parameter(torch.empty(sets, outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(sets, outputs).uniform_(-bound, bound))


class _PlainMlp(nn.Module):
    """A MonoNPHM member: ``layers.0, 2, 4, ...`` are linear, the odd ones activations."""

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        for i in range(layers + 1):
            modules.append(nn.Linear(inputs if i == 0 else hidden, hidden if i < layers else 1))
            if i < layers:
                modules.append(nn.Softplus(beta=SOFTPLUS_BETA))
        self.layers = nn.ModuleList(modules)


class IdentityNetwork(nn.Module):
    """Signed distance of a head: an ensemble of local MLPs blended by distance to anchors.

    Args:
        config: sizes.
        anchors_mean: (K, 3) mean anchors in head space; not part of the state dict (as in the official
            files).
    """

    anchors_mean: Tensor
    member_set: Tensor
    mirror: Tensor

    def __init__(self, config: IdentityConfig, anchors_mean: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        g, w, k = config.global_dim, config.anchor_hidden, config.anchors
        self.mlp_pos = nn.Sequential(
            nn.Linear(g, w), nn.ReLU(), nn.Linear(w, w), nn.ReLU(), nn.Linear(w, 3 * k)
        )
        ensemble = nn.Module()
        if config.family == "nphm":
            sizes = _layer_sizes(config.input_dim, config.hidden, config.layers, 1, narrow=True)
            for i, (inputs, outputs) in enumerate(sizes):
                ensemble.add_module(f"lin{i}", _LinearStack(config.sets, inputs, outputs))
            self.ensembled_deep_sdf = ensemble
        else:
            members = [_PlainMlp(config.input_dim, config.hidden, config.layers) for _ in range(config.sets)]
            ensemble.add_module("layers", nn.ModuleList(members))
            self.deepSDFensemble = ensemble
        mean = torch.zeros(k, 3) if anchors_mean is None else torch.as_tensor(anchors_mean)
        if mean.shape != (k, 3):
            raise ValueError(f"anchors_mean must have shape ({k}, 3), got {tuple(mean.shape)}")
        member = torch.arange(config.members)
        paired = member < 2 * config.pairs
        # Odd members of a pair see x negated; the index decides, not the side of the head.
        mirror = torch.ones(config.members, 3)
        mirror[paired & (member % 2 == 1), 0] = -1.0
        self.register_buffer("anchors_mean", mean.clone().float(), persistent=False)
        self.register_buffer(
            "member_set", torch.where(paired, member // 2, member - config.pairs), persistent=False
        )
        self.register_buffer("mirror", mirror, persistent=False)

    def anchors(self, code: Tensor) -> Tensor:
        """Anchor positions (B, K, 3) of identity codes (B, L)."""
        shift = self.mlp_pos(code[..., : self.config.global_dim])
        return self.anchors_mean + shift.unflatten(-1, (self.config.anchors, 3))

    def stacked(self) -> list[tuple[Tensor, Tensor]]:
        """Weights (U, out, in) and biases (U, out) of the layers, whatever their names."""
        if self.config.family == "nphm":
            stacks = [getattr(self.ensembled_deep_sdf, f"lin{i}") for i in range(self.config.layers + 1)]
            return [(s.weight, s.bias) for s in stacks]
        members = [m.layers for m in self.deepSDFensemble.layers]  # type: ignore[union-attr]
        pairs = []
        for i in range(0, 2 * self.config.layers + 1, 2):
            pairs.append(
                (torch.stack([m[i].weight for m in members]), torch.stack([m[i].bias for m in members]))
            )
        return pairs

    def fold(self, code: Tensor) -> FoldedNetwork:
        """Folds identity codes (B, L) into the ensemble's biases."""
        c = self.config
        own = code[..., c.global_dim :].unflatten(-1, (c.members, c.local_dim))
        codes = torch.cat(
            [code[..., None, : c.global_dim].expand(*own.shape[:-1], -1), own], dim=-1
        )  # (B, A, g+l)
        layers = []
        for i, (weight, bias) in enumerate(self.stacked()):
            hidden: Tensor | None = weight
            coords: Tensor | None = None
            folded = bias[self.member_set].expand(code.shape[0], -1, -1)
            if c.family == "mononphm":
                if i == 0:  # inputs are [codes, xyz, hyper]
                    split, hidden = codes.shape[-1], None
                    coords = weight[..., split:]
                    folded = folded + torch.einsum("bac,aoc->bao", codes, weight[self.member_set, :, :split])
            elif i in (0, c.layers // 2):  # inputs are [hidden, xyz, codes]; the skip divides all by sqrt 2
                start = weight.shape[-1] - c.input_dim
                scale = 1.0 if i == 0 else 1.0 / math.sqrt(2.0)
                hidden = None if i == 0 else weight[..., :start] * scale
                coords = weight[..., start : start + 3] * scale
                latent = weight[self.member_set, :, start + 3 :] * scale
                folded = folded + torch.einsum("bac,aoc->bao", codes, latent)
            layers.append(FoldedLayer(hidden, coords, folded))
        return FoldedNetwork(layers, self.member_set)

    def blend(self, points: Tensor, anchors: Tensor) -> Tensor:
        """Final blending weights (B, N, A) of points (B, N, 3+) for anchors (B, K, 3).

        MonoNPHM's members outside the nearest M have weight 0. NPHM's weights do not sum to one.
        """
        distance = torch.linalg.vector_norm(points[..., None, :3] - anchors[..., None, :, :], dim=-1)
        if self.config.family == "nphm":
            weight = torch.exp(-((distance + NPHM_DISTANCE_BIAS) ** 2) / NPHM_VARIANCE)
            weight = torch.cat([weight, torch.full_like(weight[..., :1], NPHM_BACKGROUND)], dim=-1)
            return weight / (weight.sum(-1, keepdim=True) + NPHM_DENOMINATOR)
        count = min(self.config.neighbours, self.config.anchors)
        nearest, index = torch.topk(distance, count, dim=-1, largest=False, sorted=True)
        nearest = torch.cat([nearest, torch.full_like(nearest[..., :1], MONO_BACKGROUND)], dim=-1)
        scale = nearest[..., :MONO_SCALE_RANK].amax(-1, keepdim=True) / self.config.blend_std
        weight = torch.exp(-((nearest / scale) ** 2) / 2)
        weight = weight / (weight.sum(-1, keepdim=True) + MONO_DENOMINATOR)
        index = torch.cat([index, torch.full_like(index[..., :1], self.config.anchors)], dim=-1)
        return (
            torch.zeros_like(distance[..., :1])
            .repeat(*[1] * (distance.ndim - 1), self.config.members)
            .scatter(-1, index, weight)
        )

    def member_values(self, points: Tensor, folded: FoldedNetwork, anchors: Tensor) -> Tensor:
        """Every member's own distance (A, B, N) at points (B, N, C)."""
        local = self._local(points, anchors)
        h = torch.zeros(0)
        for i, layer in enumerate(folded.layers):
            value = layer.bias.transpose(0, 1)[:, :, None, :]  # (A, B, 1, out)
            if layer.hidden is not None:
                value = value + h @ layer.hidden[self.member_set].transpose(-1, -2)[:, None]
            if layer.coords is not None:
                value = value + local @ layer.coords[self.member_set].transpose(-1, -2)[:, None]
            h = value if i == len(folded.layers) - 1 else F.softplus(value, beta=SOFTPLUS_BETA)
        return h[..., 0]

    def _local(self, points: Tensor, anchors: Tensor) -> Tensor:
        """Member coordinates (A, B, N, C): anchor subtracted, mirrored; the extra member sees xyz."""
        origin = torch.cat([anchors, torch.zeros_like(anchors[:, :1])], dim=1).transpose(0, 1)  # (A, B, 3)
        xyz = (points[None, ..., :3] - origin[:, :, None]) * self.mirror[:, None, None]
        if points.shape[-1] == 3:
            return xyz
        return torch.cat([xyz, points[None, ..., 3:].expand(*xyz.shape[:-1], -1)], dim=-1)

    def forward(
        self, points: Tensor, code: Tensor, *, anchors: Tensor | None = None, cull: float = 0.0
    ) -> Tensor:
        """Signed distance at points.

        Args:
            points: (B, N, 3), or (B, N, 3 + m) with MonoNPHM's hyper-coordinates (zeros when left out).
            code: (B, L) identity codes.
            anchors: (B, K, 3); predicted from the code when None.
            cull: members whose blending weight at a point does not exceed this are not evaluated there
                (their term counts as 0). 0 is exact; 1e-4 costs about a sixth of the members and at most
                1e-5 in accuracy near the surface.

        Returns:
            (B, N) signed distance in head units, negative inside.
        """
        if self.config.hyper_dim and points.shape[-1] == 3:
            points = F.pad(points, (0, self.config.hyper_dim))
        anchors = self.anchors(code) if anchors is None else anchors
        folded = self.fold(code)
        weight = self.blend(points, anchors)
        if cull <= 0.0 and self.config.family == "nphm":
            return torch.einsum("bna,abn->bn", weight, self.member_values(points, folded, anchors))
        return self._forward_culled(points, anchors, folded, weight, cull)

    def _forward_culled(
        self, points: Tensor, anchors: Tensor, folded: FoldedNetwork, weight: Tensor, cull: float
    ) -> Tensor:
        """Groups (point, member) pairs by weight set, and runs each set once over its pairs."""
        origin = torch.cat([anchors, torch.zeros_like(anchors[:, :1])], dim=1)
        batch, point, member = torch.nonzero(weight.detach() > cull, as_tuple=True)
        order = torch.argsort(self.member_set[member], stable=True)
        batch, point, member = batch[order], point[order], member[order]
        counts = torch.bincount(self.member_set[member], minlength=self.config.sets).tolist()
        query = points[batch, point]
        local = torch.cat(
            [(query[:, :3] - origin[batch, member]) * self.mirror[member], query[:, 3:]], dim=-1
        )
        values = []
        for u, (x, b, a) in enumerate(
            zip(local.split(counts), batch.split(counts), member.split(counts), strict=True)
        ):
            if x.shape[0] == 0:
                continue
            h = torch.zeros(0)
            for i, layer in enumerate(folded.layers):
                value = layer.bias[b, a]
                if layer.hidden is not None:
                    value = torch.addmm(value, h, layer.hidden[u].T)
                if layer.coords is not None:
                    value = torch.addmm(value, x, layer.coords[u].T)
                h = value if i == len(folded.layers) - 1 else F.softplus(value, beta=SOFTPLUS_BETA)
            values.append(h[:, 0])
        terms = torch.cat(values) * weight[batch, point, member] if values else weight.new_zeros(0)
        flat = weight.new_zeros(weight.shape[0] * weight.shape[1])
        return flat.index_add(0, batch * weight.shape[1] + point, terms).reshape(weight.shape[:2])


class DeformationNetwork(nn.Module):
    """Offsets of points by an expression, conditioned on a compressed identity ("compress" mode)."""

    def __init__(self, config: DeformationConfig) -> None:
        super().__init__()
        self.config = config
        self.compressor = nn.Sequential(
            nn.Linear(config.code_dim + 3 * config.anchors, config.compressed_dim)
        )
        sizes = _layer_sizes(
            config.input_dim,
            config.hidden,
            config.layers,
            3 + config.hyper_dim,
            narrow=config.family == "nphm",
        )
        self.defDeepSDF = nn.Module()
        for i, (inputs, outputs) in enumerate(sizes):
            self.defDeepSDF.add_module(f"lin{i}", nn.Linear(inputs, outputs))

    def compress(self, code: Tensor, anchors: Tensor) -> Tensor:
        """Compressed identity (B, compressed_dim) of codes (B, L) and their anchors (B, K, 3)."""
        compressed = self.compressor(torch.cat([code, anchors.flatten(-2)], dim=-1))
        if self.training and self.config.code_noise > 0.0:
            compressed = compressed + torch.randn_like(compressed) * self.config.code_noise
        return compressed

    def fold(self, compressed: Tensor, expression: Tensor) -> FoldedNetwork:
        """Folds compressed identities (B, c) and expressions (B, E) into the biases; one member."""
        latent = torch.cat([compressed, expression], dim=-1)
        layers = []
        for i in range(self.config.layers + 1):
            linear = getattr(self.defDeepSDF, f"lin{i}")
            weight, bias = linear.weight, linear.bias.expand(latent.shape[0], -1)
            hidden: Tensor | None = weight[None]
            coords: Tensor | None = None
            if i in (0, self.config.layers // 2):
                start = weight.shape[-1] - self.config.input_dim
                scale = 1.0 if i == 0 else 1.0 / math.sqrt(2.0)
                hidden = None if i == 0 else weight[None, :, :start] * scale
                coords = weight[None, :, start : start + 3] * scale
                bias = bias + latent @ (weight[:, start + 3 :].T * scale)
            layers.append(FoldedLayer(hidden, coords, bias[:, None]))
        return FoldedNetwork(layers)

    def forward(self, points: Tensor, code: Tensor, expression: Tensor, anchors: Tensor) -> Tensor:
        """Offsets at points.

        Args:
            points: (B, N, 3) head space.
            code: (B, L) identity codes.
            expression: (B, E).
            anchors: (B, K, 3) of the same identities (:meth:`IdentityNetwork.anchors`).

        Returns:
            (B, N, 3) offsets in head units; with MonoNPHM (B, N, 3 + m), hyper-coordinates last.
        """
        return self.evaluate(points, self.fold(self.compress(code, anchors), expression))

    @staticmethod
    def evaluate(points: Tensor, folded: FoldedNetwork) -> Tensor:
        """Offsets (B, N, 3 + m) at points (B, N, 3) with the codes of :meth:`fold`."""
        h = torch.zeros(0)
        for i, layer in enumerate(folded.layers):
            value = layer.bias  # (B, 1, out)
            if layer.hidden is not None:
                value = value + h @ layer.hidden[0].T
            if layer.coords is not None:
                value = value + points @ layer.coords[0].T
            h = value if i == len(folded.layers) - 1 else F.softplus(value, beta=SOFTPLUS_BETA)
        return h
