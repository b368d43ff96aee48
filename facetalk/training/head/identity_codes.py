"""Identity codes of the built-in head in closed form: no auto-decoding.

The morphable head is linear and its coefficients are white, so the best linear codes are known: the global
code holds the strongest shape directions of the whole head, each local code the strongest directions around
one anchor that the global code does not tell. Codes of a mirrored pair are measured in mirrored coordinates,
because the pair shares its weights. The mean head has the zero code.

The anchors are the 39 of NPHM (Giebenhain et al., CVPR 2023) and further ones at eyes, mouth, teeth and ears,
where people look and where 39 leave too little capacity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import nn

from facetalk.arrays import Float32, Int64
from facetalk.data.heads.ict import MorphableHead
from facetalk.data.heads.samples import SurfaceSampler
from facetalk.nphm.head.parts import Part
from facetalk.nphm.networks import NPHM_VARIANCE, IdentityConfig, IdentityNetwork

__all__ = ["HeadCodes", "anchor_vertices", "build_codes", "initialise"]

# Standard deviation of each entry of a code over identities; keeps codes near norm 1, as the official ones
# are.
_SPREAD = 0.3
_OFFICIAL_PAIRS, _OFFICIAL_ANCHORS = 16, 39


@dataclass(frozen=True)
class HeadCodes:
    """Linear maps from identity coefficients.

    Attributes:
        encoder: (L, I): code = encoder @ coefficients.
        anchors_mean: (K, 3) anchors of the mean head.
        anchors_basis: (3K, g): displacement of the anchors by the global code.
        pairs: number of mirrored pairs; they come first.
    """

    encoder: Float32
    anchors_mean: Float32
    anchors_basis: Float32
    pairs: int

    @property
    def anchors(self) -> int:
        """K."""
        return len(self.anchors_mean)


def anchor_vertices(head: MorphableHead) -> tuple[list[Int64], int]:
    """Vertex sets whose means are the anchors, pairs first (right, left), and the number of pairs."""
    shape, landmarks = head.canonical(), head.landmark_ids
    official = [np.array([vertex]) for vertex in head.anchor_ids]
    teeth = [np.arange(*span) for span in head.tooth_ranges]
    middle = np.array([shape[tooth, 0].mean() for tooth in teeth])
    upper = np.array([head.vertex_part[tooth[0]] == Part.UPPER_TEETH for tooth in teeth])

    def tooth_row(is_upper: bool, low: float, high: float) -> Int64:
        chosen = [
            t for t, x, u in zip(teeth, middle, upper, strict=True) if u == is_upper and low <= x <= high
        ]
        return np.concatenate(chosen or [teeth[0 if is_upper else -1]])

    width = float(np.abs(middle).max())
    front, side = 0.45 * width, width + 1.0
    eye = {
        name: np.arange(*head.part_vertices(name).indices(len(shape)))
        for name in ("sclera_right", "sclera_left")
    }
    skin = np.flatnonzero(head.vertex_part == Part.SKIN)
    skin = skin[
        (shape[skin, 1] > -0.2) & (shape[skin] @ head.neck_normal > head.neck_point @ head.neck_normal)
    ]
    pairs = [
        (eye["sclera_right"], eye["sclera_left"]),
        (landmarks[[37, 38]], landmarks[[43, 44]]),  # upper lids
        (landmarks[[40, 41]], landmarks[[46, 47]]),  # lower lids
        (landmarks[[50, 61]], landmarks[[52, 63]]),  # upper lip beside the middle
        (landmarks[[58, 67]], landmarks[[56, 65]]),  # lower lip beside the middle
        (tooth_row(True, -side, -front), tooth_row(True, front, side)),
        (tooth_row(False, -side, -front), tooth_row(False, front, side)),
        (skin[[shape[skin, 0].argmin()]], skin[[shape[skin, 0].argmax()]]),  # rims of the ears
    ]
    tongue = np.flatnonzero(head.vertex_part == Part.LOWER_TEETH)
    midline = [tooth_row(True, -front, front), tooth_row(False, -front, front), tongue]
    ordered = official[: 2 * _OFFICIAL_PAIRS]
    ordered += [side for pair in pairs for side in pair]
    return ordered + official[2 * _OFFICIAL_PAIRS : _OFFICIAL_ANCHORS] + midline, _OFFICIAL_PAIRS + len(pairs)


def build_codes(head: MorphableHead, *, global_dim: int, local_dim: int) -> HeadCodes:
    """Compute encoder and anchors; a few seconds of singular value decompositions."""
    sampler = SurfaceSampler(head)
    shape, count = head.canonical(), head.identity_dim
    mass = np.zeros(len(shape), np.float32)
    corners = shape[head.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    for i in range(3):
        np.add.at(mass, head.faces[:, i], area * sampler.importance)
    root = np.sqrt(mass)
    used = np.flatnonzero(root > 0)
    basis = head.identity_basis.transpose(1, 2, 0)  # (V, 3, I)

    gram = np.einsum("vci,vcj,v->ij", basis[used], basis[used], mass[used], optimize=True)
    strongest = np.linalg.eigh(gram)[1][:, ::-1][:, :global_dim]  # (I, g)
    sets, pairs = anchor_vertices(head)
    mean = np.stack([shape[ids].mean(0) for ids in sets])
    motion = np.stack([basis[ids].mean(0) for ids in sets])  # (K, 3, I)
    predicted = motion @ strongest  # (K, 3, g), the best guess from the global code
    remainder = np.eye(count, dtype=np.float32) - strongest @ strongest.T

    mirror = _mirror_ids(head)
    flip = np.array([-1.0, 1.0, 1.0], np.float32)[:, None]
    rows = [strongest.T]
    for k in range(len(sets)):
        if k < 2 * pairs and k % 2 == 1:
            continue
        distance = np.linalg.norm(shape[used] - mean[k], axis=1)
        near = used[distance < 0.16]
        weight = root[near] * np.exp(
            -(np.linalg.norm(shape[near] - mean[k], axis=1) ** 2) / (2 * NPHM_VARIANCE)
        )
        local = _local_field(basis[near], predicted[k] @ strongest.T, weight) @ remainder
        left, size, _ = np.linalg.svd(local, full_matrices=False)
        inverse = left[:, :local_dim].T / np.maximum(size[:local_dim, None], 1e-8)
        rows.append(_pad(inverse @ local, local_dim))
        if k < 2 * pairs:
            partner = _local_field(
                flip * basis[mirror[near]], flip * (predicted[k + 1] @ strongest.T), weight
            )
            rows.append(_pad(inverse @ partner @ remainder, local_dim))
    rows.append(
        np.zeros((local_dim, count), np.float32)
    )  # the member without an anchor is never near the surface
    return HeadCodes(
        (_SPREAD * np.concatenate(rows)).astype(np.float32),
        mean.astype(np.float32),
        (predicted.reshape(-1, predicted.shape[-1]) / _SPREAD).astype(np.float32),
        pairs,
    )


def _local_field(basis: Float32, anchor: Float32, weight: Float32) -> Float32:
    """Weighted displacement (3n, I) of vertices relative to the predicted anchor."""
    return ((basis - anchor) * weight[:, None, None]).reshape(-1, basis.shape[-1])


def _pad(rows: Float32, count: int) -> Float32:
    return np.concatenate([rows, np.zeros((count - len(rows), rows.shape[1]), rows.dtype)])


def _mirror_ids(head: MorphableHead) -> Int64:
    """Vertex on the other side: exact for the skin, the nearest of the same part elsewhere."""
    shape = head.neutral
    mirror = np.arange(len(shape))
    for part in np.unique(head.vertex_part):
        ids = np.flatnonzero(head.vertex_part == part)
        mirror[ids] = ids[cKDTree(shape[ids]).query(shape[ids] * np.array([-1, 1, 1], np.float32))[1]]
    mirror[: len(head.mirror_ids)] = head.mirror_ids
    return mirror


@torch.no_grad()
def initialise(network: IdentityNetwork, codes: HeadCodes, *, coordinate_scale: float = 3.0) -> None:
    """Start values for quick training.

    The anchor MLP becomes the exact linear map of ``codes`` (ReLU of x and of -x). The members get He
    initialisation, with coordinates scaled up: a neighbourhood is 0.1 wide, and its details are wanted.
    """
    config: IdentityConfig = network.config
    g, (first, _, second, _, last) = config.global_dim, network.mlp_pos
    if config.anchor_hidden < 2 * g:
        raise ValueError(
            f"anchor_hidden must be at least {2 * g} (twice global_dim), got {config.anchor_hidden}"
        )
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear) and isinstance(last, nn.Linear)
    for layer in (first, second, last):
        layer.weight.zero_()
        layer.bias.zero_()
    eye = torch.eye(g)
    first.weight[: 2 * g] = torch.cat([eye, -eye])
    second.weight[: 2 * g, : 2 * g] = torch.eye(2 * g)
    basis = torch.from_numpy(codes.anchors_basis)
    last.weight[:, : 2 * g] = torch.cat([basis, -basis], dim=1)
    network.anchors_mean.copy_(torch.from_numpy(codes.anchors_mean))
    skip = config.layers // 2
    for i, (weight, bias) in enumerate(network.stacked()):
        bound = (6.0 / weight.shape[-1]) ** 0.5 * (0.1 if i == config.layers else 1.0)
        weight.uniform_(-bound, bound)
        bias.zero_()
        if i in (0, skip):
            start = weight.shape[-1] - config.input_dim
            weight[..., start : start + 3] *= coordinate_scale
            weight[..., start + 3 :] *= 0.5
        if i == 0:
            bias.uniform_(-0.3, 0.3)
