"""The pictures of a head's template: what identities share is found once, then each one is painted."""

from __future__ import annotations

import hashlib
import multiprocessing
import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from tqdm import tqdm

from facetalk.arrays import Float32
from facetalk.kept import cache_folder
from facetalk.mesh.materials import EYES, SKIN, TEETH
from facetalk.mesh.textures import Maps
from facetalk.nphm.head.albedo import Palette
from facetalk.nphm.head.complexion import paint_template
from facetalk.nphm.head.maps.drawer import FORMAT, ROOM, read_maps, write_maps
from facetalk.nphm.head.maps.eyes import paint_eyes
from facetalk.nphm.head.maps.layout import Ground, ground, picture_size, placed
from facetalk.nphm.head.maps.mouth import paint_mouth
from facetalk.nphm.head.maps.skin import paint_skin
from facetalk.nphm.head.maps.skin_plan import SkinPlan, plan_skin
from facetalk.nphm.head.template_mesh import TemplateMesh
from facetalk.version import __version__

__all__ = ["Canvas"]

_KEPT = 4
"""Painted identities that are kept, a few megabytes each."""


class Canvas:
    """Paints maps for identities of one head.

    Args:
        mesh: the head's template.
        landmarks: (68, 3) of the mean canonical head.
    """

    def __init__(self, mesh: TemplateMesh, landmarks: Float32) -> None:
        self._mesh, self._landmarks = mesh, landmarks
        self._lock = threading.Lock()
        self._plans: dict[int, tuple[SkinPlan, Ground]] = {}
        self._painted: OrderedDict[tuple[Palette, int, int], Mapping[str, Maps]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Without what can be painted anew."""
        return {"_mesh": self._mesh, "_landmarks": self._landmarks}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As new."""
        self.__init__(state["_mesh"], state["_landmarks"])  # type: ignore[misc]

    @cached_property
    def uv(self) -> Float32:
        """(U, 2) places of the template's texture vertices on the pictures, v upwards."""
        return placed(self._mesh)

    def paint(self, palette: Palette, seed: int, size: int) -> Mapping[str, Maps]:
        """Maps by material. The same arguments give the same maps; the last few are kept.

        Args:
            palette: of the person.
            seed: of what chance does to the person's skin and eyes.
            size: pixels along a side of the skin's maps.
        """
        key = palette, seed, size
        with self._lock:
            if key not in self._painted:
                self._painted[key] = self._kept(palette, seed, size)
                while len(self._painted) > _KEPT:
                    self._painted.popitem(last=False)
            self._painted.move_to_end(key)
            return self._painted[key]

    def _kept(self, palette: Palette, seed: int, size: int) -> Mapping[str, Maps]:
        """Maps that an earlier process painted, or those that are painted now, for the next one."""
        if cache_folder(ROOM) is None:
            return self._paint(palette, seed, size)
        asked = f"{FORMAT} {__version__} {palette!r} {seed} {size} {self._digest}"
        key = hashlib.sha256(asked.encode()).hexdigest()
        found = read_maps(key)
        if found is None:
            found = self._paint(palette, seed, size)
            write_maps(key, found)
        return found

    @cached_property
    def _digest(self) -> str:
        """Of the head's template."""
        digest, mesh = hashlib.sha256(), self._mesh
        shapes = mesh.vertices, mesh.uv, mesh.uv_vertex, mesh.corners[0], mesh.part, mesh.region, mesh.colors
        for array in (*shapes, mesh.landmarks, self._landmarks):
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _paint(self, palette: Palette, seed: int, size: int) -> Mapping[str, Maps]:
        """Painted anew, with a bar for whoever waits: of large pictures it takes a while.

        A process that another one started (a batch's) leaves the terminal to that.
        """
        hidden = None if multiprocessing.parent_process() is None else True
        mesh, landmarks = self._mesh, self._landmarks
        steps = 4 if size in self._plans else 6
        with tqdm(total=steps, desc="paint textures", disable=hidden, leave=False, delay=1.0) as bar:
            if size not in self._plans:
                self._plans = {}  # of another size; both would be more memory than one has
                under = ground(mesh, self.uv, SKIN.name, picture_size(SKIN.name, size))
                mouth = ground(mesh, self.uv, TEETH.name, picture_size(TEETH.name, size))
                bar.update()
                self._plans = {size: (plan_skin(mesh, landmarks, self.uv, under), mouth)}
                bar.update()
            skin, mouth = self._plans[size]
            plain = paint_template(mesh, landmarks, palette)
            painted = {}
            for name, paint in (
                (SKIN.name, lambda: paint_skin(skin, mesh, landmarks, palette, plain, seed)),
                (EYES.name, lambda: paint_eyes(palette, seed, picture_size(EYES.name, size)[0])),
                (TEETH.name, lambda: paint_mouth(mouth, mesh, plain)),
            ):
                painted[name] = paint()
                bar.update()
            # Encoded here, where somebody is told of it; whoever wants maps wants files of them.
            for maps in painted.values():
                _ = maps.files
            bar.update()
            return painted
