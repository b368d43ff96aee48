"""The rig's displacements without torch: what :class:`facetalk.nphm.head.rig.BlendshapeField` was trained to
give, by NumPy. A head's morph targets are this, evaluated once for an identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from facetalk.arrays import AnyInt, Float32
from facetalk.nphm.head.parts import Part, SurfaceClass

__all__ = ["CENTIMETRE", "Blendshapes", "ForwardConfig", "encode_frequencies"]

CENTIMETRE = 0.04
"""Displacements are a few centimetres; networks give them in this unit (1 cm)."""

_BLOCK = 2048  # points at a time: the layers' values stay in the second cache


@dataclass(frozen=True)
class ForwardConfig:
    """Sizes of the forward networks.

    Attributes:
        code_dim: length L of the identity code.
        expressions: number E of expression weights.
        parts: number of moving parts.
        classes: number of surface classes of the part field.
        hidden, layers: of the blendshape field.
        frequencies: octaves of its encoding; the highest has a wavelength of 2 / 2^(frequencies-1) units.
        template_hidden, template_code: of the template map.
        part_hidden: of the part field.
    """

    code_dim: int
    expressions: int
    parts: int = len(Part)
    classes: int = len(SurfaceClass)
    hidden: int = 160
    layers: int = 4
    frequencies: int = 7
    template_hidden: int = 96
    template_code: int = 32
    part_hidden: int = 96


class Blendshapes:
    """Displacement of template points for every expression weight.

    Args:
        config: sizes.
        tensors: weights and biases under the names of ``BlendshapeField.state_dict()``.

    Raises:
        KeyError: one is missing.
        ValueError: one has another shape than the config says.
    """

    def __init__(self, config: ForwardConfig, tensors: Mapping[str, np.ndarray]) -> None:
        self.config = config
        width, self._layers = 3 + 6 * config.frequencies + config.parts, []
        for index in range(config.layers + 1):
            rows = config.hidden if index < config.layers else 3 * config.expressions
            weight, bias = (tensors[f"net.{2 * index}.{name}"] for name in ("weight", "bias"))
            if weight.shape != (rows, width) or bias.shape != (rows,):
                raise ValueError(
                    f"layer {index} of the blendshapes should map {width} to {rows} values, has weights "
                    f"{weight.shape} and biases {bias.shape}"
                )
            self._layers.append((weight.astype(np.float32, copy=False), bias.astype(np.float32, copy=False)))
            width = rows

    def __call__(self, points: Float32, part: AnyInt) -> Float32:
        """Displacements in head units.

        Args:
            points: (N, 3) template coordinates.
            part: (N,) moving part of each.

        Returns:
            (E, N, 3) float32.
        """
        out = np.empty((self.config.expressions, len(points), 3), np.float32)
        for first in range(0, len(points), _BLOCK):
            block = slice(first, first + _BLOCK)
            found = self._run(np.asarray(points[block], np.float32), np.asarray(part[block]))
            out[:, block] = found.reshape(len(found), -1, 3).transpose(1, 0, 2)
        return out

    def _run(self, points: Float32, part: AnyInt) -> Float32:
        kinds = np.eye(self.config.parts, dtype=np.float32)[part]
        values = np.concatenate([encode_frequencies(points, self.config.frequencies), kinds], axis=1)
        for index, (weight, bias) in enumerate(self._layers):
            if index:
                # The layer's SiLU: x / (1 + exp(-x)), which is 0 where the exponential is infinite.
                with np.errstate(over="ignore"):
                    values /= np.exp(-values) + np.float32(1.0)
            values = values @ weight.T
            values += bias
        values *= np.float32(CENTIMETRE)
        return values


def encode_frequencies(points: Float32, octaves: int) -> Float32:
    """Points (N, 3) with sines and cosines of ``octaves`` octaves: (N, 3 + 6 * octaves)."""
    scales = (np.pi * 2.0 ** np.arange(octaves)).astype(np.float32)
    angles = (points[:, None, :] * scales[:, None]).reshape(len(points), -1)
    return np.concatenate([points, np.sin(angles), np.cos(angles)], axis=1)
