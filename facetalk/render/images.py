"""The pictures that materials of a glTF file name, as they lie in the file."""

from __future__ import annotations

import dataclasses

from facetalk.mesh.gltf_json import Fields
from facetalk.mesh.gltf_read import GlbFile

__all__ = ["ImageReader", "Pictures"]


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Encoded pictures of a material, None where it has none.

    Attributes:
        color: sRGB albedo.
        roughness: roughness in green.
        normal: in tangent space.
        strength: factor of the normal's slopes.
    """

    color: bytes | None = None
    roughness: bytes | None = None
    normal: bytes | None = None
    strength: float = 1.0


class ImageReader:
    """Finds pictures of materials.

    Those that lie in other files, and those on second texture coordinates, are left out: what is drawn is the
    material without them.

    Args:
        file: the file.
    """

    def __init__(self, file: GlbFile) -> None:
        self._file = file
        self._textures, self._images = file.root.children("textures"), file.root.children("images")

    def of(self, material: Fields) -> Pictures:
        """The pictures of a material.

        Raises:
            InputError: a field is wrong.
        """
        shine, normal = material.child("pbrMetallicRoughness"), material.child("normalTexture")
        return Pictures(
            color=self._data(shine.child("baseColorTexture")),
            roughness=self._data(shine.child("metallicRoughnessTexture")),
            normal=self._data(normal),
            strength=normal.number("scale", default=1.0, most=1e3),
        )

    def _data(self, info: Fields) -> bytes | None:
        if "index" not in info or info.integer("texCoord", high=2**31, default=0) or "extensions" in info:
            return None
        texture = self._textures[info.index("index", len(self._textures))]
        if "source" not in texture:
            return None
        image = self._images[texture.index("source", len(self._images))]
        if "bufferView" not in image:
            return None
        return self._file.view(image.integer("bufferView", high=2**31))
