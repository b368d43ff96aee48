"""Where on the skin's picture is what: all that does not depend on the identity."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from facetalk.arrays import AnyFloat, Float32, UInt8
from facetalk.mesh.strips import in_strips, strips_of
from facetalk.nphm.head.albedo import brow_curves, brow_width, lip_depth, nearest, smooth
from facetalk.nphm.head.complexion import lid_margins
from facetalk.nphm.head.hair import hair_cover, hair_depth, strands, uneven
from facetalk.nphm.head.maps.brows import brow_hairs
from facetalk.nphm.head.maps.layout import Ground, quarter
from facetalk.nphm.head.maps.relief import normals
from facetalk.nphm.head.noise import band, in_space
from facetalk.nphm.head.regions import Region
from facetalk.nphm.head.template_mesh import TemplateMesh

__all__ = ["SkinPlan", "plan_skin"]

_TEXEL_MM = 0.29 * 1024  # of the face, times the picture's side
_MM = 0.004  # head units


class Texels(NamedTuple):
    """What is told texel by texel.

    Attributes:
        other: (N,) share of what is no skin: mouth, sockets, lashes, the neck's cut.
        lips: (N,) how much a texel is of the lips.
        creases: (N,) light and dark of the lips' furrows.
        hairs: (N,) cover of the brows.
        shade: (N,) the skin under a brow's hairs.
        cover, strand: (N,) of cropped hair, and how light its strands are.
        margin: (N,) dark line at the roots of the lashes.
        rim: (N,) wet edge of the lids.
    """

    other: Float32
    lips: Float32
    creases: Float32
    hairs: Float32
    shade: Float32
    cover: Float32
    strand: Float32
    margin: Float32
    rim: Float32

    def part(self, rows: slice) -> Texels:
        """Some of them."""
        return Texels(*(values[rows] for values in self))


@dataclasses.dataclass(frozen=True)
class SkinPlan:
    """What all identities share: where on the picture is what.

    Attributes:
        ground: template under the texels.
        texels: what is told of each.
        pores: (h, w) darkness of pores.
        normal, roughness: maps.
    """

    ground: Ground
    texels: Texels
    pores: Float32
    normal: UInt8
    roughness: UInt8


def plan_skin(mesh: TemplateMesh, landmarks: AnyFloat, uv: Float32, under: Ground) -> SkinPlan:
    """Find everything that does not depend on the identity.

    Args:
        mesh: template.
        landmarks: (68, 3) of the mean canonical head.
        uv: (U, 2) places on the picture.
        under: what lies under the picture's texels.
    """
    x, region = mesh.vertices, mesh.region
    at_lid = np.full(len(x), 1.0, np.float32)
    near, distance = lid_margins(mesh)
    at_lid[near] = distance
    fine = _fineness(mesh, landmarks)
    columns = (
        x, region != Region.SKIN, at_lid, region == Region.EYE_SOCKET, hair_depth(x),
        _roughness(mesh, landmarks), fine["pores"], fine["lines"], fine["edge"],
    )  # fmt: skip
    vertices = np.column_stack(columns).astype(np.float32)
    count = len(under.texels)
    texels = Texels(*(np.empty(count, np.float32) for _ in Texels._fields))
    rough, relief = np.empty(count, np.float32), np.empty((count, 4), np.float32)

    def put(rows: slice) -> None:
        parts, rough[rows], relief[rows] = _texels(under.part(rows), vertices, landmarks)
        for whole, part in zip(texels, parts, strict=True):
            whole[rows] = part

    for _ in in_strips(put, strips_of(count)):
        pass
    pores, height = _relief(under, relief)
    return SkinPlan(under, texels, pores, normals(mesh, uv, under, height), quarter(under.picture(rough)))


def _texels(under: Ground, vertices: Float32, landmarks: AnyFloat) -> tuple[Texels, Float32, Float32]:
    """Some of the texels; the factor (N,) of their roughness; how far (N, 4) pores, fine lines, furrows
    (these in millimetres) and hairs stand out.

    Args:
        under: what lies under them.
        vertices: (V, 11) what vertices say: place, share of what is no skin, distance from the lids' margin,
            share of the sockets, depth within the hairline, roughness; pores, lines, distance from seams.
        landmarks: (68, 3).
    """
    told = np.ascontiguousarray(under.of(vertices).T)
    place = np.ascontiguousarray(told[:3].T)
    other, at_lid, sockets, depth, rough, pores, lines, edge = told[3:]
    texel = _TEXEL_MM / under.shape[0] * _MM  # head units
    soft = max(0.0016, 0.7 * texel)
    lips = smooth(lip_depth(place, landmarks[48:60], 4), -soft, 1.4 * soft).astype(np.float32)
    hairs = brow_hairs(place, landmarks)
    skin = 1.0 - other
    margin = (1.0 - smooth(at_lid, 0.0008, max(0.0036, texel))).astype(np.float32) * skin
    rim = smooth(sockets, 0.02, 0.35).astype(np.float32) * (1.0 - smooth(at_lid, 0.004, 0.02)).astype(
        np.float32
    )
    creases = (_creases(place, landmarks) * lips).astype(np.float32)
    cover, strand = _hair(depth, place)
    furrows = _furrows(place, landmarks, creases) * (1.0 - cover)
    bare = (1.0 - lips) * (skin * (1.0 - cover))
    relief = np.empty((len(place), 4), np.float32)
    relief[:, 0], relief[:, 1] = pores * bare, lines * bare
    relief[:, 2] = skin * edge * furrows
    relief[:, 3] = (hairs + 0.9 * cover * strand) * skin
    rough = rough + (0.62 - rough) * lips
    rough += (0.35 - rough) * rim
    rough += (1.0 - rough) * np.maximum(hairs, cover)
    shade = _brow_shade(place, landmarks)
    texels = Texels(other, lips, creases, hairs, shade, cover, strand, margin, rim)
    return texels, rough, relief


def _hair(depth: Float32, place: Float32) -> tuple[Float32, Float32]:
    """Cover (N,) of cropped hair and how light its strands are.

    Args:
        depth: (N,) how far the texels lie within the hairline.
        place: (N, 3) template points under them.
    """
    cover, strand = np.zeros(len(place), np.float32), np.zeros(len(place), np.float32)
    near = np.flatnonzero(depth > -0.065)  # beyond which no rag of it reaches
    grows, thick = hair_cover(depth[near], place[near])
    near, grows, thick = near[grows > 0.0], grows[grows > 0.0], thick[grows > 0.0]
    strand[near] = strands(place[near])
    cover[near] = uneven(grows, strand[near]) * thick
    return cover, strand


def _fineness(mesh: TemplateMesh, landmarks: AnyFloat) -> dict[str, Float32]:
    """Amounts (V,) by which the skin of regions is rough: of pores, and of fine lines."""
    x = mesh.vertices

    def around(centre: AnyFloat, reach: float) -> AnyFloat:
        return np.exp(-(((x - centre) / reach) ** 2).sum(axis=1))

    nose = around(landmarks[30], 0.075) + around(landmarks[28], 0.06)
    cheeks = sum(
        around(landmarks[[jaw, wing]].mean(0) * [0.8, 0.8, 1.0] + [0.0, 0.0, 0.06], 0.11)
        for jaw, wing in ((2, 31), (14, 35))
    )
    forehead = around(landmarks[27] + np.array([0.0, 0.14, 0.0]), 0.16)
    chin = around(landmarks[8] + np.array([0.0, 0.03, 0.0]), 0.09)
    eyes = sum(around(landmarks[row].mean(0), 0.06) for row in (slice(36, 42), slice(42, 48)))
    seam = np.bincount(mesh.uv_vertex, minlength=len(x)) > 1
    faces = mesh.faces()
    edge = np.where(seam, 0.0, 1.0)
    edge = np.where(mesh.region == Region.SKIN, edge, 0.0)
    for step in (1.0 / 3.0, 2.0 / 3.0):  # fades over three rings of vertices
        least = np.full(len(x), 2.0)
        for a in range(3):
            np.minimum.at(least, faces[:, a], edge[faces].min(axis=1))
        edge = np.minimum(edge, np.where(least <= step - 1.0 / 3.0 + 1e-6, step, edge))
    pores = np.clip(0.34 + 0.75 * nose + 0.55 * cheeks + 0.30 * forehead + 0.3 * chin - 0.8 * eyes, 0.08, 1.0)
    lines = np.clip(0.45 + 0.35 * eyes + 0.2 * forehead, 0.0, 1.0)
    return {
        "pores": (pores * edge).astype(np.float32),
        "lines": (lines * edge).astype(np.float32),
        "edge": edge.astype(np.float32),
    }


def _relief(under: Ground, amounts: Float32) -> tuple[Float32, Float32]:
    """Darkness of pores (h, w), and heights (h, w) of pores, lines and furrows in millimetres.

    Args:
        under: what lies under the picture's texels.
        amounts: (N, 4) of :class:`_Texels`.
    """
    texel_mm = _TEXEL_MM / under.shape[0]

    def texels(mm: float) -> float:
        return max(mm / texel_mm, 2.2)

    asked = [((texels(0.75), texels(1.6)), 1), ((texels(1.3), texels(3.2)), 2)]
    grain, lines = (band(under.shape, waves, seed) for waves, seed in asked)
    amount = under.picture(amounts)
    dark, height = np.empty(under.shape, np.float32), np.empty(under.shape, np.float32)

    def put(rows: slice) -> None:
        pores, net, soft, strands = np.moveaxis(amount[rows], 2, 0)
        pits = np.maximum(0.0, grain[rows] - 0.85)
        height[rows] = -0.09 * pits * pores - 0.02 * np.abs(lines[rows]) * net + soft + 0.10 * strands
        dark[rows] = 0.09 * np.maximum(0.0, pits - 0.45) * np.maximum(0.0, pores - 0.3)

    for _ in in_strips(put, strips_of(*under.shape)):
        pass
    return dark, height


def _creases(place: Float32, landmarks: AnyFloat) -> AnyFloat:
    """-1 to 1, the furrows of lips: across them, closer together where they are redder."""
    middle = landmarks[48:60].mean(axis=0)
    near = np.flatnonzero((np.abs(place - middle) < 0.16).all(axis=1))
    out = np.zeros(len(place), np.float32)
    x, y = place[near, 0] - middle[0], place[near, 1] - middle[1]
    # They fan out from the middle of the mouth.
    turn = x / (0.10 + 0.9 * np.abs(y))
    points = np.stack([turn * 0.10, np.sign(y) * 0.05, np.zeros_like(x)], axis=1)
    out[near] = 0.6 * in_space(points, 0.0024, 31) + 0.4 * in_space(points + y[:, None] * 0.3, 0.0055, 32)
    return out


def _furrows(place: Float32, landmarks: AnyFloat, creases: Float32) -> AnyFloat:
    """Heights (N,) in millimetres of furrows on the lips and faint lines of the forehead."""
    out = 0.045 * creases
    brow = landmarks[19:25, 1].mean()
    above = place[:, 1] - brow
    bent = above - 0.35 * place[:, 0] ** 2 + 0.004 * np.sin(40.0 * place[:, 0])
    wave = np.sin(2.0 * np.pi * bent / 0.042)
    where = (
        smooth(above, 0.035, 0.07)
        * (1.0 - smooth(above, 0.15, 0.2))
        * (1.0 - smooth(np.abs(place[:, 0]), 0.1, 0.2))
    )
    return out - 0.07 * np.maximum(0.0, wave - 0.6) * where * (place[:, 2] > 0.0)


def _brow_shade(place: Float32, landmarks: AnyFloat) -> Float32:
    """How much (N,) the skin below brows is darkened by hairs that no texel shows."""
    out = np.zeros(len(place), np.float32)
    for curve in brow_curves(landmarks):
        distance, index = nearest(place, curve, 0.03)
        along = index / (len(curve) - 1)
        strength = 1.0 - smooth(distance / brow_width(along), 0.3, 1.5)
        out = np.maximum(
            out,
            (strength * np.interp(along, [0.0, 0.15, 0.85, 1.0], [0.3, 1.0, 1.0, 0.35])).astype(np.float32),
        )
    return out


def _roughness(mesh: TemplateMesh, landmarks: AnyFloat) -> Float32:
    """(V,) factor of the roughness: oily forehead, nose and chin."""
    x, region = mesh.vertices, mesh.region

    def around(centre: AnyFloat, reach: float) -> AnyFloat:
        return np.exp(-(((x - centre) / reach) ** 2).sum(axis=1))

    oil = np.clip(
        around(landmarks[30], 0.07) + 0.8 * around(landmarks[28], 0.05)
        + 0.75 * around(landmarks[27] + np.array([0.0, 0.14, 0.0]), 0.14)
        + 0.5 * around(landmarks[8] + np.array([0.0, 0.03, 0.0]), 0.07), 0.0, 1.0,
    )  # fmt: skip
    value = 1.0 - 0.24 * oil
    value[np.isin(region, (Region.MOUTH, Region.EYE_SOCKET))] = 0.5
    return value.astype(np.float32)
