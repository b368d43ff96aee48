"""Colours, normals and roughness of the skin, with lips, brows, lids and all that hangs on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facetalk.arrays import AnyFloat, Float32, UInt8
from facetalk.mesh.textures import Maps
from facetalk.nphm.head.albedo import (
    BROW_STRENGTH,
    LIP_STRENGTH,
    Palette,
    brow_curves,
    brow_width,
    complexion,
    lip_depth,
    mix,
    nearest,
    smooth,
)
from facetalk.nphm.head.complexion import lid_margins
from facetalk.nphm.head.hair import covered, hair_cover, hair_depth, strands, uneven
from facetalk.nphm.head.maps.brows import brow_hairs
from facetalk.nphm.head.maps.layout import Ground, bytes_of, quarter
from facetalk.nphm.head.maps.relief import normals
from facetalk.nphm.head.noise import band, in_space
from facetalk.nphm.head.regions import Region
from facetalk.nphm.head.template_mesh import TemplateMesh

__all__ = ["SkinPlan", "paint_skin", "plan_skin"]

_TEXEL_MM = 0.29 * 1024  # of the face, times the picture's side
_MM = 0.004  # head units


@dataclass(frozen=True)
class SkinPlan:
    """What all identities share: where on the picture is what.

    Attributes:
        ground: template under the texels.
        other: (N,) share of what is no skin: mouth, sockets, lashes, the neck's cut.
        lips: (N,) how much a texel is of the lips.
        creases: (N,) light and dark of the lips' furrows.
        hairs: (N,) cover of the brows.
        shade: (N,) the skin under a brow's hairs.
        cover, strand: (N,) of cropped hair, and how light its strands are.
        margin: (N,) dark line at the roots of the lashes.
        rim: (N,) wet edge of the lids.
        pores: (h, w) darkness of pores.
        normal, roughness: maps.
    """

    ground: Ground
    other: Float32
    lips: Float32
    creases: Float32
    hairs: Float32
    shade: Float32
    cover: Float32
    strand: Float32
    margin: Float32
    rim: Float32
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
    place = under.of(x)
    other = under.of((region != Region.SKIN).astype(np.float32))
    side = under.shape[0]
    texel = _TEXEL_MM / side * _MM  # head units
    soft = max(0.0016, 0.7 * texel)
    depth = lip_depth(place, landmarks[48:60], 4)
    lips = smooth(depth, -soft, 1.4 * soft).astype(np.float32)
    hairs = brow_hairs(place, landmarks)
    margin_at = np.full(len(x), 1.0, np.float32)
    near, distance = lid_margins(mesh)
    margin_at[near] = distance
    at_lid = under.of(margin_at)
    skin = 1.0 - other
    margin = (1.0 - smooth(at_lid, 0.0008, max(0.0036, texel))).astype(np.float32) * skin
    sockets = under.of((region == Region.EYE_SOCKET).astype(np.float32))
    rim = smooth(sockets, 0.02, 0.35).astype(np.float32) * (1.0 - smooth(at_lid, 0.004, 0.02)).astype(
        np.float32
    )
    fine = _fineness(mesh, landmarks)
    creases = (_creases(place, landmarks) * lips).astype(np.float32)
    cover, strand = _hair(under, mesh, place)
    furrows = _furrows(place, landmarks, creases) * (1.0 - cover)
    pits, height = _relief(
        under, fine, lips, furrows, hairs + 0.9 * cover * strand, skin * (1.0 - cover), skin
    )
    normal = normals(mesh, uv, under, height)
    return SkinPlan(
        ground=under, other=other, lips=lips, creases=creases, hairs=hairs,
        shade=_brow_shade(place, landmarks), cover=cover, strand=strand, margin=margin, rim=rim, pores=pits,
        normal=normal, roughness=_roughness(under, mesh, landmarks, lips, rim, np.maximum(hairs, cover)),
    )  # fmt: skip


def paint_skin(
    plan: SkinPlan, mesh: TemplateMesh, landmarks: AnyFloat, palette: Palette, plain: UInt8, seed: int
) -> Maps:
    """Maps of a person's skin.

    Args:
        plan: of :func:`plan_skin`.
        mesh, landmarks: as there.
        palette: of the person.
        plain: (V, 3) colours of the vertices.
        seed: of the person's mottling and freckles.
    """
    under, x = plan.ground, mesh.vertices
    base = _mottled(complexion(x, landmarks, palette), x, landmarks, palette, seed)
    skin = under.of(base)
    lip = palette.of("lips") * (1.0 + plan.creases[:, None] * np.array([0.16, 0.22, 0.22], np.float32))
    skin += (lip - skin) * (LIP_STRENGTH * 1.06 * plan.lips)[:, None]
    skin = mix(skin, palette.of("brow"), 0.34 * plan.shade)
    skin = mix(skin, palette.of("brow") * np.float32(0.88), min(1.0, BROW_STRENGTH * 1.12) * plan.hairs)
    skin = mix(skin, palette.of("lash"), 0.72 * plan.margin)
    skin = covered(skin, plan.cover, plan.strand, palette)
    share = plan.other[:, None]
    color = skin * (1.0 - share) + under.of(plain.astype(np.float32)) * share
    wet = 0.55 * palette.of("lids") + 0.45 * np.array([226.0, 150.0, 140.0], np.float32)
    color = mix(color, wet, 0.85 * plan.rim)
    picture = under.picture(color)
    picture *= (1.0 - plan.pores)[..., None]
    return Maps(bytes_of(picture), plan.normal, plan.roughness)


def _mottled(color: AnyFloat, x: AnyFloat, landmarks: AnyFloat, palette: Palette, seed: int) -> AnyFloat:
    """Skin (V, 3) of uneven redness and tone: vessels over a centimetre, pigment over some millimetres."""
    red = 0.6 * in_space(x, 0.055, seed) + 0.4 * in_space(x, 0.022, seed + 1)
    tone = 0.5 * in_space(x, 0.09, seed + 2) + 0.5 * in_space(x, 0.03, seed + 3)
    blood = palette.of("blush") - palette.of("skin")
    out = color + (0.30 * red)[:, None] * blood
    return out * (1.0 + 0.022 * tone[:, None])


def _hair(under: Ground, mesh: TemplateMesh, place: Float32) -> tuple[Float32, Float32]:
    """Cover (N,) of cropped hair and how light its strands are, of texels at template points (N, 3)."""
    depth = under.of(hair_depth(mesh.vertices))
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


def _relief(
    under: Ground, fine: dict[str, Float32], lips: Float32, furrows: AnyFloat, hairs: Float32, bare: Float32,
    skin: Float32,
) -> tuple[Float32, Float32]:  # fmt: skip
    """Darkness of pores (h, w), and heights (h, w) of pores, lines and furrows in millimetres."""
    side = under.shape[0]
    texel_mm = _TEXEL_MM / side

    def texels(mm: float) -> float:
        return max(mm / texel_mm, 2.2)

    grain = band(under.shape, (texels(0.75), texels(1.6)), 1)
    lines = band(under.shape, (texels(1.3), texels(3.2)), 2)
    pits = np.maximum(0.0, grain - 0.85)
    bare = (1.0 - lips) * bare
    pores = under.picture(under.of(fine["pores"]) * bare)
    net = under.picture(under.of(fine["lines"]) * bare)
    soft = under.picture((skin * under.of(fine["edge"]) * furrows).astype(np.float32))
    strands = under.picture(hairs * skin)
    height = -0.09 * pits * pores - 0.02 * np.abs(lines) * net + soft + 0.10 * strands
    dark = 0.09 * np.maximum(0.0, pits - 0.45) * np.maximum(0.0, pores - 0.3)
    return dark.astype(np.float32), height.astype(np.float32)


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


def _roughness(
    under: Ground, mesh: TemplateMesh, landmarks: AnyFloat, lips: Float32, rim: Float32, hairs: Float32
) -> UInt8:
    """(h / 4, w / 4) factor of the roughness: oily forehead, nose and chin, moist lips and lids."""
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
    at = under.of(value.astype(np.float32))
    at += (0.62 - at) * lips
    at += (0.35 - at) * rim
    at += (1.0 - at) * hairs
    return quarter(under.picture(at))
