"""Sizes of the networks of a neural parametric head model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Family = Literal["nphm", "mononphm"]
Direction = Literal["forward", "backward"]
"""What a deformation F moves. Forward: points of the neutral head to where they are in the posed one, posed =
x + F(x). Backward: points of posed space to the neutral head, posed field = f(x + F(x))."""


@dataclass(frozen=True)
class IdentityConfig:
    """Sizes of an identity network.

    Attributes:
        anchors: number K of anchors.
        pairs: number S of symmetric pairs; anchors 2i and 2i+1 (i < S) share weights.
        global_dim: length g of the global code.
        local_dim: length l of each member's code; there are K + 1 of them.
        hidden: width H of the hidden layers.
        layers: number n >= 2 of hidden layers.
        anchor_hidden: width of the anchor MLP.
        hyper_dim: hyper-coordinates m beside xyz (MonoNPHM only).
        neighbours: anchors M evaluated at a point (MonoNPHM only).
        blend_std: MonoNPHM's blending constant.
    """

    anchors: int = 39
    pairs: int = 16
    global_dim: int = 64
    local_dim: int = 32
    hidden: int = 200
    layers: int = 4
    anchor_hidden: int = 256
    family: Family = "nphm"
    hyper_dim: int = 0
    neighbours: int = 12
    blend_std: float = 3.75

    def __post_init__(self) -> None:
        """Checks that the sizes fit each other."""
        if not 0 <= 2 * self.pairs <= self.anchors:
            raise ValueError(f"pairs must be 0..anchors/2, got {self.pairs} pairs of {self.anchors} anchors")
        if self.family == "nphm" and (self.layers < 2 or self.hidden <= self.input_dim):
            raise ValueError(
                f"an NPHM member needs layers >= 2 and hidden > {self.input_dim} (= 3 + global + local), "
                f"got layers={self.layers}, hidden={self.hidden}"
            )

    @property
    def members(self) -> int:
        """A = K + 1: one member an anchor, and one without."""
        return self.anchors + 1

    @property
    def sets(self) -> int:
        """U: weight sets, members less symmetric pairs."""
        return self.members - self.pairs

    @property
    def coord_dim(self) -> int:
        """Coordinates of a query: 3, and MonoNPHM's hyper-coordinates."""
        return 3 + self.hyper_dim

    @property
    def input_dim(self) -> int:
        """d: a member's inputs."""
        return self.coord_dim + self.global_dim + self.local_dim

    @property
    def code_dim(self) -> int:
        """L: length of an identity code [global, local 0 ... K-1, extra]."""
        return self.global_dim + self.members * self.local_dim


@dataclass(frozen=True)
class DeformationConfig:
    """Sizes of a deformation network.

    Attributes:
        code_dim: length L of the identity code.
        anchors: number K of anchors, which enter the compressed code too.
        expression_dim: length E of the expression code.
        hidden: width H.
        layers: number n >= 2 of hidden layers.
        compressed_dim: length of the compressed identity (32 in NPHM, 16 in MonoNPHM).
        hyper_dim: hyper-coordinates m given beside the offset (MonoNPHM only).
        code_noise: standard deviation of noise on the compressed code while training (official NPHM: 1/200).
    """

    code_dim: int
    anchors: int = 39
    expression_dim: int = 200
    hidden: int = 512
    layers: int = 6
    compressed_dim: int = 32
    family: Family = "nphm"
    hyper_dim: int = 0
    code_noise: float = 0.0

    def __post_init__(self) -> None:
        """Checks that the sizes fit each other."""
        if self.layers < 2:
            raise ValueError(f"a deformation network needs layers >= 2, got {self.layers}")
        if self.family == "nphm" and self.hidden <= self.input_dim:
            raise ValueError(
                f"hidden must exceed {self.input_dim} (= 3 + compressed + expression), got {self.hidden}"
            )

    @property
    def input_dim(self) -> int:
        """d: coordinates, compressed identity, expression."""
        return 3 + self.compressed_dim + self.expression_dim
