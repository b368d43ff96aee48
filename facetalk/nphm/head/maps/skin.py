"""Colours of the skin, with lips, brows, lids and all that hangs on it."""

from __future__ import annotations

import numpy as np

from facetalk.arrays import AnyFloat, UInt8
from facetalk.mesh.strips import in_strips, strips_of
from facetalk.mesh.textures import Maps
from facetalk.nphm.head.albedo import BROW_STRENGTH, LIP_STRENGTH, Palette, complexion, mix
from facetalk.nphm.head.hair import covered
from facetalk.nphm.head.maps.layout import bytes_of
from facetalk.nphm.head.maps.skin_plan import SkinPlan
from facetalk.nphm.head.noise import in_space
from facetalk.nphm.head.template_mesh import TemplateMesh

__all__ = ["paint_skin"]


def paint_skin(
    plan: SkinPlan, mesh: TemplateMesh, landmarks: AnyFloat, palette: Palette, plain: UInt8, seed: int
) -> Maps:
    """Maps of a person's skin.

    Args:
        plan: of :func:`~facetalk.nphm.head.maps.skin_plan.plan_skin`.
        mesh, landmarks: as there.
        palette: of the person.
        plain: (V, 3) colours of the vertices.
        seed: of the person's mottling and freckles.
    """
    under, x = plan.ground, mesh.vertices
    base = _mottled(complexion(x, landmarks, palette), x, landmarks, palette, seed)
    paint = plain.astype(np.float32)
    wet = 0.55 * palette.of("lids") + 0.45 * np.array([226.0, 150.0, 140.0], np.float32)

    colors = np.empty((len(under.texels), 3), np.float32)

    def color(rows: slice) -> None:
        below, on = under.part(rows), plan.texels.part(rows)
        skin = below.of(base)
        lip = palette.of("lips") * (1.0 + on.creases[:, None] * np.array([0.16, 0.22, 0.22], np.float32))
        skin += (lip - skin) * (LIP_STRENGTH * 1.06 * on.lips)[:, None]
        skin = mix(skin, palette.of("brow"), 0.34 * on.shade)
        hairs = min(1.0, BROW_STRENGTH * 1.12) * on.hairs
        skin = mix(skin, palette.of("brow") * np.float32(0.88), hairs)
        skin = mix(skin, palette.of("lash"), 0.72 * on.margin)
        skin = covered(skin, on.cover, on.strand, palette)
        share = on.other[:, None]
        skin = skin * (1.0 - share) + below.of(paint) * share
        colors[rows] = mix(skin, wet, 0.85 * on.rim)

    for _ in in_strips(color, strips_of(len(colors))):
        pass
    picture = under.picture(colors)
    out = np.empty(picture.shape, np.uint8)

    def put(rows: slice) -> None:
        out[rows] = bytes_of(picture[rows] * (1.0 - plan.pores[rows])[..., None])

    for _ in in_strips(put, strips_of(*under.shape)):
        pass
    return Maps(out, plan.normal, plan.roughness)


def _mottled(color: AnyFloat, x: AnyFloat, landmarks: AnyFloat, palette: Palette, seed: int) -> AnyFloat:
    """Skin (V, 3) of uneven redness and tone: vessels over a centimetre, pigment over some millimetres."""
    red = 0.6 * in_space(x, 0.055, seed) + 0.4 * in_space(x, 0.022, seed + 1)
    tone = 0.5 * in_space(x, 0.09, seed + 2) + 0.5 * in_space(x, 0.03, seed + 3)
    blood = palette.of("blush") - palette.of("skin")
    out = color + (0.30 * red)[:, None] * blood
    return out * (1.0 + 0.022 * tone[:, None])
