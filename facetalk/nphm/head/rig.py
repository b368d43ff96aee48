"""Forward deformation of the built-in head: a blendshape rig that lives on the canonical surface.

Three small networks share one idea, a *template coordinate*: where a canonical point of any identity would
lie on the mean head.

* :class:`TemplateMap` takes canonical points of an identity there. Anchors do the first part (a blend of
  their displacements, with the weights of the identity network); a network conditioned on the identity code
  does the rest, and does exactly nothing at the zero code.
* :class:`BlendshapeField` gives the displacement of a template point for every expression weight. Posing is
  then linear in the expression code: ``posed = x + sum_j e_j basis_j(T(x))``, which game engines call a rig.
* :class:`PartField` tells which part a template point belongs to.

The part is an input of the field, so lids slide over eyeballs and lips over teeth without tearing either.
Frequency encoding of points: Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions in
Low Dimensional Domains", NeurIPS 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facetalk.nphm.head.blendshapes import CENTIMETRE, ForwardConfig
from facetalk.nphm.networks import NPHM_VARIANCE

__all__ = ["BlendshapeField", "ForwardConfig", "PartField", "TemplateMap", "encode_frequencies"]


def encode_frequencies(points: Tensor, octaves: int) -> Tensor:
    """Points (..., 3) with sines and cosines of ``octaves`` octaves: (..., 3 + 6 * octaves)."""
    scales = torch.pi * 2.0 ** torch.arange(octaves, device=points.device, dtype=points.dtype)
    angles = (points[..., None, :] * scales[:, None]).flatten(-2)
    return torch.cat([points, torch.sin(angles), torch.cos(angles)], dim=-1)


def _mlp(inputs: int, hidden: int, layers: int, outputs: int) -> nn.Sequential:
    modules: list[nn.Module] = []
    for i in range(layers):
        modules += [nn.Linear(inputs if i == 0 else hidden, hidden), nn.SiLU()]
    return nn.Sequential(*modules, nn.Linear(hidden, outputs))


class TemplateMap(nn.Module):
    """Canonical points of an identity to template coordinates on the mean head."""

    OCTAVES = 4

    def __init__(self, config: ForwardConfig) -> None:
        super().__init__()
        self.compressor = nn.Linear(config.code_dim, config.template_code, bias=False)
        inputs = 3 + 6 * self.OCTAVES + config.parts + config.template_code
        self.net = _mlp(inputs, config.template_hidden, 3, 3)
        self.parts = config.parts

    def forward(
        self, points: Tensor, part: Tensor, code: Tensor, anchors: Tensor, mean_anchors: Tensor
    ) -> Tensor:
        """Template coordinates (B, N, 3).

        Args:
            points: (B, N, 3) canonical points.
            part: (B, N) int64 moving part of each.
            code: (B, L) identity codes.
            anchors: (B, K, 3) anchors of these identities.
            mean_anchors: (K, 3) anchors of the mean head.
        """
        near = torch.cdist(points, anchors).square() / -NPHM_VARIANCE
        shift = torch.softmax(near, dim=-1) @ (anchors - mean_anchors)
        start = points - shift
        features = [
            encode_frequencies(start, self.OCTAVES),
            nn.functional.one_hot(part, self.parts).to(points),
        ]
        compressed = self.compressor(code)[:, None].expand(-1, points.shape[1], -1)
        given = self.net(torch.cat([*features, compressed], dim=-1))
        neutral = self.net(torch.cat([*features, torch.zeros_like(compressed)], dim=-1))
        return start + (given - neutral) * CENTIMETRE


class BlendshapeField(nn.Module):
    """Displacement of template points for every expression weight.

    It is what is trained; :class:`facetalk.nphm.head.blendshapes.Blendshapes` gives the same of its weights.
    """

    def __init__(self, config: ForwardConfig) -> None:
        super().__init__()
        self.config = config
        inputs = 3 + 6 * config.frequencies + config.parts
        self.net = _mlp(inputs, config.hidden, config.layers, 3 * config.expressions)

    def forward(self, points: Tensor, part: Tensor) -> Tensor:
        """Displacements (N, E, 3) in head units of template points (N, 3) on moving parts (N,)."""
        features = [
            encode_frequencies(points, self.config.frequencies),
            nn.functional.one_hot(part, self.config.parts).to(points),
        ]
        out = self.net(torch.cat(features, dim=-1))
        return out.unflatten(-1, (self.config.expressions, 3)) * CENTIMETRE


class PartField(nn.Module):
    """Surface class of template points, as logits."""

    OCTAVES = 8

    def __init__(self, config: ForwardConfig) -> None:
        super().__init__()
        self.net = _mlp(3 + 6 * self.OCTAVES, config.part_hidden, 3, config.classes)

    def forward(self, points: Tensor) -> Tensor:
        """Logits (N, classes) of template points (N, 3)."""
        return self.net(encode_frequencies(points, self.OCTAVES))
