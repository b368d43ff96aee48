"""Painted maps on disk (:mod:`facetalk.kept`): painting takes longer than all the rest of a short clip."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from facetalk.kept import Kept, read, write
from facetalk.mesh.textures import KINDS, Maps

__all__ = ["FORMAT", "ROOM", "read_maps", "write_maps"]

ROOM, FORMAT = "maps", "facetalk-maps 4"
"""Folder of the cache, and what is told apart from other ways to keep them and other ways to paint."""
_FILE = "file of "


def read_maps(key: str) -> Mapping[str, Maps] | None:
    """Maps by material that were kept under a key; None where there are none, or not all."""
    kept = read(ROOM, key)
    if kept is None:
        return None
    found: dict[str, Maps] = {}
    for material in kept.figures["materials"]:
        pictures = {kind: kept.arrays.get(f"{material} {kind}") for kind in KINDS}
        files = {kind: kept.arrays.get(f"{_FILE}{material} {kind}") for kind in KINDS}
        if pictures["color"] is None or any((pictures[k] is None) != (files[k] is None) for k in KINDS):
            return None
        encoded = {kind: data.tobytes() for kind, data in files.items() if data is not None}
        found[material] = Maps(pictures["color"], pictures["normal"], pictures["roughness"], encoded)
    return found


def write_maps(key: str, maps: Mapping[str, Maps]) -> None:
    """Keep maps by material."""
    arrays = {}
    for material, painted in maps.items():
        for kind, data in painted.files.items():
            arrays[f"{material} {kind}"] = getattr(painted, kind)
            arrays[f"{_FILE}{material} {kind}"] = np.frombuffer(data, np.uint8)
    write(ROOM, key, Kept(arrays, {"materials": list(maps)}))
