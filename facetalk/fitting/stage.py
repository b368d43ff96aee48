"""A stage whose truth is known: pictures of a head with textured skin, by cameras on an arc before it."""

from __future__ import annotations

import dataclasses

import numpy as np

from facetalk.arrays import Bool, Float32, Float64, UInt8
from facetalk.fitting.cameras import Camera
from facetalk.mesh import Mesh
from facetalk.mesh.materials import MATERIAL_OF_PART, srgb_to_linear
from facetalk.ops.normals import vertex_normals
from facetalk.ops.raster import draw
from facetalk.render.studio import Look

__all__ = ["Stage", "arc"]

_OCTAVES = ((0.012, 0.5), (0.006, 0.4), (0.003, 0.3))  # metres of a cell, and how much light it changes
_HEIGHTS = 0.2  # of the distance, how much cameras go up and down along the arc


def arc(
    count: int, middle: Float64, *, focal: float, size: int, distance: float = 0.9, span: float = 130.0
) -> list[Camera]:
    """Cameras on an arc before a face, as wide as NeRSemble's, metres.

    Args:
        count: of cameras.
        middle: (3,) where they look.
        focal: pixels.
        size: height and width in pixels.
        distance: to the middle.
        span: degrees from the first to the last.
    """
    centre = (size - 1) / 2
    K = np.array([[focal, 0.0, centre], [0.0, focal, centre], [0.0, 0.0, 1.0]])
    found = []
    for angle in np.radians(np.linspace(-span / 2, span / 2, count) if count > 1 else [0.0]):
        eye = middle + distance * np.array([np.sin(angle), _HEIGHTS * np.sin(3 * angle), np.cos(angle)])
        z = (middle - eye) / np.linalg.norm(middle - eye)
        x = np.cross(z, [0.0, 1.0, 0.0])
        x /= np.linalg.norm(x)
        R = np.stack([x, np.cross(z, x), z])
        found.append(Camera(K, R, -R @ eye))
    return found


@dataclasses.dataclass(frozen=True)
class Stage:
    """Draws a head as cameras see it.

    Attributes:
        rest: the neutral mesh, metres; its skin is painted with noise that moves with it.
        size: height and width of a picture in pixels.
        noise: standard deviation of the pixels' noise, of 255.
    """

    rest: Mesh
    size: int = 256
    noise: float = 2.0

    def picture(self, mesh: Mesh, camera: Camera, *, seed: int = 0, plain: bool = False) -> UInt8:
        """(H, W, 3) uint8 sRGB of a posed mesh with the rest's faces.

        Args:
            mesh: metres.
            camera: of square pixels, without distortion.
            seed: of the noise.
            plain: the head's own colours, as a face detector knows them.
        """
        faces = self.rest.faces
        part = np.zeros(len(mesh), np.uint8) if self.rest.part is None else self.rest.part
        colors = srgb_to_linear(self._own(part))
        if not plain:
            colors = colors * self._texture()[:, None]
        look = Look()
        turn = _matrix(camera)[:, :3]
        # Lamps stay in the room, as those before a face.
        lights = np.array([[*(turn @ way), *color] for way, color in look.lights], np.float32)
        positions = np.ascontiguousarray(mesh.vertices, np.float32)
        picture = draw(
            positions, vertex_normals(positions, faces), colors.astype(np.float32), faces,
            part[faces[:, 0]].astype(np.uint8),
            background=look.backdrop(self.size, self.size),
            palette=np.array([[0.9, 0.0, m.subsurface, 0.0] for m in MATERIAL_OF_PART], np.float32),
            lights=lights, ambient=[look.sky, look.ground], camera=_matrix(camera),
            focal=float(camera.K[0, 0]), exposure=look.exposure, alone=True,
        )  # fmt: skip
        grain = np.random.default_rng(seed).normal(0.0, self.noise, picture.shape) if self.noise else 0.0
        return (picture + grain).clip(0, 255).round().astype(np.uint8)

    def mask(self, mesh: Mesh, camera: Camera) -> Bool:
        """(H, W) where the head is: what hides a white background."""
        positions = np.ascontiguousarray(mesh.vertices, np.float32)
        picture = draw(
            positions,
            np.tile(np.array([0.0, 0.0, 1.0], np.float32), (len(mesh), 1)),
            np.zeros((len(mesh), 3), np.float32),
            self.rest.faces,
            np.zeros(len(self.rest.faces), np.uint8),
            background=np.full((self.size, self.size, 3), 255, np.uint8),
            palette=np.array([[1.0, 0.0, 0.0, 0.0]], np.float32),
            lights=np.array([[0.0, 0.0, 1.0, 0.0, 0.0, 0.0]], np.float32),
            ambient=np.zeros((2, 3), np.float32),
            camera=_matrix(camera),
            focal=float(camera.K[0, 0]),
            samples=1,
            alone=True,
        )
        return np.asarray(picture.max(axis=2) < 128)

    def _own(self, part: np.ndarray) -> UInt8:
        if self.rest.colors is not None:
            return np.asarray(self.rest.colors, np.uint8)
        plain = np.array([m.color for m in MATERIAL_OF_PART]).round().astype(np.uint8)
        return np.asarray(plain[np.where(part < len(plain), part, 0)])

    def _texture(self) -> Float32:
        """(V,) factors of the skin's colours, by value noise in space."""
        found = np.ones(len(self.rest), np.float32)
        for number, (cell, strength) in enumerate(_OCTAVES):
            grid = np.random.default_rng(number).uniform(-1, 1, (64, 64, 64)).astype(np.float32)
            at = self.rest.vertices / cell
            low = np.floor(at).astype(int)
            share = at - low
            value = np.zeros(len(at), np.float32)
            for corner in np.ndindex(2, 2, 2):
                weight = np.prod(np.where(np.array(corner) == 1, share, 1 - share), axis=1)
                value += weight * grid[tuple(((low + corner) % 64).T)]
            found += strength * value
        return found.clip(0.15, 1.6)


def _matrix(camera: Camera) -> Float32:
    """(3, 4) of a camera as the rasteriser has it: it looks along -z with +y up."""
    turn = np.diag([1.0, -1.0, -1.0])
    return np.concatenate([turn @ camera.R, (turn @ camera.t)[:, None]], axis=1).astype(np.float32)
