"""Pictures inside a .glb: images in its buffer, textures, and what a material does with them."""

from __future__ import annotations

import numpy as np

from facetalk.arrays import UInt8
from facetalk.mesh import png
from facetalk.mesh.glb import GlbWriter
from facetalk.mesh.gltf_json import Json
from facetalk.mesh.textures import Maps

__all__ = ["add_maps", "packed_roughness"]

_LINEAR, _LINEAR_MIPMAP_LINEAR, _CLAMP = 9729, 9987, 33071


def add_maps(glb: GlbWriter, material: Json, maps: Maps) -> None:
    """Give a material its pictures.

    Tangents are left to readers, which make them as the format says (MikkTSpace).
    """
    shine = material["pbrMetallicRoughness"]
    name = material["name"]
    shine["baseColorTexture"] = {"index": _texture(glb, f"{name} color", maps.files["color"])}
    if maps.roughness is not None:
        data = png.encode(packed_roughness(maps.roughness))
        shine["metallicRoughnessTexture"] = {"index": _texture(glb, f"{name} roughness", data)}
    if maps.normal is not None:
        material["normalTexture"] = {"index": _texture(glb, f"{name} normal", maps.files["normal"])}


def packed_roughness(roughness: UInt8) -> UInt8:
    """(h, w, 3) as glTF has them: roughness in green, metal in blue, of which there is none."""
    out = np.zeros((*roughness.shape, 3), np.uint8)
    out[..., 1] = roughness
    out[..., 0] = 255  # where others look for occlusion
    return out


def _texture(glb: GlbWriter, name: str, data: bytes) -> int:
    if "samplers" not in glb.document:
        sampler = {"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP_LINEAR, "wrapS": _CLAMP, "wrapT": _CLAMP}
        glb.add("samplers", sampler)
    view = glb.view(np.frombuffer(data, np.uint8))
    image = glb.add("images", {"name": name, "mimeType": "image/png", "bufferView": view})
    return glb.add("textures", {"sampler": 0, "source": image})
