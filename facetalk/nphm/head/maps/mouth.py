"""Teeth, gums and the tongue."""

from __future__ import annotations

import numpy as np

from facetalk.arrays import AnyFloat, Float32, UInt8
from facetalk.mesh.strips import in_strips, strips_of
from facetalk.mesh.textures import Maps
from facetalk.nphm.head.albedo import mix, smooth
from facetalk.nphm.head.maps.layout import Ground, bytes_of, quarter
from facetalk.nphm.head.noise import in_space
from facetalk.nphm.head.regions import Region
from facetalk.nphm.head.template_mesh import TemplateMesh

__all__ = ["paint_mouth"]

_MM = 0.004  # head units
_EDGE = np.array([206, 214, 222], np.float32)
_NECK = np.array([228, 198, 150], np.float32)


def paint_mouth(under: Ground, mesh: TemplateMesh, plain: UInt8) -> Maps:
    """Maps of teeth, gums and tongue.

    Args:
        under: what lies under the texels of their picture.
        mesh: template.
        plain: (V, 3) colours of its vertices.
    """
    x, region = mesh.vertices, mesh.region
    teeth = [
        ((region == kind).astype(np.float32), way, np.quantile(way * x[region == kind, 1], 0.02))
        for kind, way in ((Region.UPPER_TEETH, 1.0), (Region.LOWER_TEETH, -1.0))
    ]
    wet = np.isin(region, (Region.TONGUE, Region.UPPER_GUM, Region.LOWER_GUM)).astype(np.float32)
    tongue = (region == Region.TONGUE).astype(np.float32)
    paint = plain.astype(np.float32)

    def strip(rows: slice) -> Float32:
        """(N, 4) colour and roughness."""
        texels = under.part(rows)
        color: AnyFloat = texels.of(paint)
        place = texels.of(x)
        rough = np.full(len(color), 1.0, np.float32)
        for of_kind, way, edge in teeth:
            share = texels.of(of_kind)
            height = (way * place[:, 1] - edge) / _MM  # from the edge to the root, mm
            light = np.maximum(color.max(axis=1), 1.0) / 255.0
            color = mix(color, _EDGE * light[:, None], 0.25 * share * (1.0 - smooth(height, 0.0, 2.2)))
            color = mix(color, _NECK * light[:, None], 0.2 * share * smooth(height, 4.5, 9.0))
            rough = np.where(share > 0.5, 0.6, rough)
        soft = texels.of(wet)
        mottled = 0.5 * in_space(place, 0.009, 21) + 0.5 * in_space(place, 0.004, 22)
        color = color * (1.0 + 0.05 * mottled * soft)[:, None]
        papillae = in_space(place, 0.0035, 23)
        color = color * (1.0 + 0.10 * papillae * texels.of(tongue))[:, None]
        out = np.empty((len(color), 4), np.float32)
        out[:, :3], out[:, 3] = color, rough + (0.8 - rough) * soft
        return out

    picture = under.picture(np.concatenate(list(in_strips(strip, strips_of(len(under.texels))))))
    return Maps(bytes_of(picture[..., :3]), None, quarter(picture[..., 3]))
