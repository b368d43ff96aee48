"""The built-in head bound to one identity: its distance, landmarks, eyeballs, rig and canonical mesh."""

from __future__ import annotations

import dataclasses
import functools
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from facetalk.ambient import plainly
from facetalk.arrays import AnyInt, Bool, Float32, Int32
from facetalk.errors import InputError
from facetalk.mesh.eyes import EYE_NAMES, Eye
from facetalk.mesh.mesh import CanonicalMesh
from facetalk.mesh.textures import Texture
from facetalk.nphm.head.complexion import chance_of, paint_template, palette_of
from facetalk.nphm.head.parts import Part
from facetalk.nphm.head.regions import Region
from facetalk.nphm.head.tables import HeadTables
from facetalk.nphm.head.template_mesh import TemplateMesh
from facetalk.nphm.head.tongue import JAW, tongue_shapes
from facetalk.optional import needed_for
from facetalk.reading import one_line
from facetalk.units import GAZE_RADIANS_PER_WEIGHT

if TYPE_CHECKING:
    from facetalk.nphm.field import Field
    from facetalk.nphm.head.files import HeadContent
    from facetalk.nphm.model import NPHM

__all__ = ["Person"]

_FAR = 100.0  # head units: nothing of a head is there
_CODE_ROUNDING = 1e-3  # of a code that coefficients make

# Turning axes: up is a negative turn about +x, towards the head's left a positive one about +y.
_GAZE_AXES = {
    "eyeLookUp_L": (-1, 0, 0), "eyeLookDown_L": (1, 0, 0), "eyeLookOut_L": (0, 1, 0),
    "eyeLookIn_L": (0, -1, 0),
    "eyeLookUp_R": (-1, 0, 0), "eyeLookDown_R": (1, 0, 0), "eyeLookOut_R": (0, -1, 0),
    "eyeLookIn_R": (0, 1, 0),
}  # fmt: skip
_STILL = (0, 0, 0)


class Head(Protocol):
    """What a person is one identity of; :class:`facetalk.nphm.head.head.HeadModel` is it."""

    @property
    def tables(self) -> HeadTables:
        """What needs no torch."""

    @property
    def content(self) -> HeadContent:
        """The networks too."""

    @property
    def nphm(self) -> NPHM:
        """Signed distance and backward deformation."""


class Person:
    """One identity of a built-in head, from ``HeadModel.bind``. Everything is in head space.

    Args:
        head: whose identity it is.
        code: (L,) identity code.
        coefficients: (I,) identity coefficients of that code.

    Attributes:
        identity: (L,) float32 identity code.
    """

    def __init__(self, head: Head, code: Float32, coefficients: Float32) -> None:
        self._head = head
        self.identity = code
        self._coefficients = coefficients
        self._mesh: CanonicalMesh | None = None

    @property
    def tables(self) -> HeadTables:
        """What of the head needs no torch."""
        return self._head.tables

    @cached_property
    def field(self) -> Field:
        """The canonical distance on the compiled core of the CPU."""
        return self._head.nphm.bind(self.identity)

    # Surface --------------------------------------------------------------------------------------------

    @plainly
    def distance(self, points: Float32) -> Float32:
        """Signed distance (N,) of canonical points (N, 3)."""
        return np.asarray(self.field.query(np.ascontiguousarray(points, np.float32))[0])

    @plainly
    def project(self, points: Float32, *, steps: int = 3, limit: float = 0.004) -> Float32:
        """Move points onto the zero set by Newton steps along the gradient, at most ``limit`` in all."""
        with needed_for("moving points onto a head"):
            from facetalk.nphm.surface.project import project
        return project(self.field, points, steps=steps, limit=limit)[0]

    @plainly
    def eyeballs(self) -> tuple[Float32, Float32]:
        """Centres (2, 3) and radii (2,) of the eyeballs, left first."""
        eyes = self._linear("eyes")
        return eyes[:, :3], eyes[:, 3]

    @plainly
    def landmarks(self) -> Float32:
        """(68, 3) Multi-PIE landmarks on the canonical surface."""
        return self.project(self._linear("landmarks"))

    def _linear(self, name: str) -> Float32:
        linear = self.tables.linear
        moved = np.tensordot(self._coefficients, linear[f"{name}_basis"], 1)
        return np.asarray(linear[f"{name}_mean"] + moved, np.float32)

    @plainly
    def canonical(self) -> CanonicalMesh:
        """The canonical mesh, kept.

        It is the template mesh in this identity's shape. A head without one makes marching cubes of the
        identity's distance (half a minute), but for the default identity, whose mesh comes with it.

        Raises:
            InputError: of another identity, whose code gives no head; or without what paints or makes it.
        """
        if self.tables.mesh is not None:
            return self._worn[0]
        if self._mesh is None:
            shipped = None if self.identity.any() else self.tables.canonical
            if shipped is not None:
                self._mesh = shipped
                return shipped
            with needed_for("the mesh of an identity other than the default"):
                from facetalk.nphm.head.canonical import build_canonical
            try:
                self._mesh = build_canonical(self)
            except (ValueError, IndexError) as error:
                raise InputError(
                    f"this identity code gives no head that a mesh could be made of ({one_line(error)}); "
                    f"codes of heads have values of about 1 and less"
                ) from error
        return self._mesh

    # Rig ------------------------------------------------------------------------------------------------

    @plainly
    def rig(self, level: int = 0) -> tuple[CanonicalMesh, Float32]:
        """The canonical mesh and the displacement (E, V, 3) of its vertices for every expression weight.

        Eyeballs are not displaced; :meth:`eyes` says how they turn.

        Args:
            level: of detail, 0 the finest; the vertices of a coarser one are some of the finest one's.

        Raises:
            InputError: a coarser level of a head that has but one mesh.
        """
        if self.tables.mesh is not None:
            mesh, basis = self._worn
            if level == 0:
                return mesh, basis
            used, faces = np.unique(self.tables.mesh.faces(level), return_inverse=True)
            corners: Int32 = faces.reshape(-1, 3).astype(np.int32)
            texture = self._texture(level, np.searchsorted(used, self.tables.mesh.uv_vertex))
            coarse = CanonicalMesh(mesh.vertices[used], corners, mesh.part[used], mesh.colors[used], texture)
            return coarse, np.ascontiguousarray(basis[:, used])
        if level:
            raise InputError("this head has one mesh only; levels of detail come with a template mesh")
        mesh = self.canonical()
        return mesh, self.forward_basis(mesh.vertices, mesh.part)

    @plainly
    def tongue(self, level: int = 0) -> Float32 | None:
        """Displacements (3, V, 3) of the vertices of :meth:`rig` by ``facetalk.mesh.tongue.TONGUE_NAMES``.

        None of a head whose mesh has no tongue to move.
        """
        worn, mouth, names = self.tables.mesh, self.tables.mouth, self.tables.expression_names
        if worn is None or mouth is None:
            return None
        mesh, basis = self._worn
        rest = np.array(self.tables.config["rest_expression"], np.float32)
        neutral = mesh.vertices - np.tensordot(rest, basis, 1)
        shapes = tongue_shapes(mouth, neutral, basis[names.index(JAW)])
        return shapes if level == 0 else np.ascontiguousarray(shapes[:, np.unique(worn.faces(level))])

    def lenders(self) -> Bool:
        """(V,) which vertices of the canonical mesh lie on the surface and can lend it their colours."""
        mesh = self.tables.mesh
        if mesh is None:
            return np.ones(len(self.canonical().vertices), bool)
        return ~np.isin(mesh.region, (Region.EYE_SOCKET, Region.LASH, Region.NECK_CAP))

    @plainly
    def closing(self) -> tuple[Float32, Float32]:
        """What was added to the template mesh of :meth:`rig` to close lips and lids, which no field knows of.

        Returns:
            (V, 3) of its vertices and (E, V, 3) of their displacements; both zero in a head without one.
        """
        closed, basis = self.rig()
        if self.tables.mesh is None:
            return np.zeros_like(closed.vertices), np.zeros_like(basis)
        vertices, moves = self._as_in_the_data(self.tables.mesh)
        moves[:, closed.part == Part.EYEBALLS] = 0.0
        return closed.vertices - vertices, basis - moves

    def _as_in_the_data(self, mesh: TemplateMesh) -> tuple[Float32, Float32]:
        """The template mesh's vertices in this identity's shape, and its displacements, seams not closed."""
        vertices, basis = mesh.shape(self._coefficients), mesh.basis()
        self._add_the_rest(mesh, vertices)
        mesh.round_eyes(vertices, self.tables.linear["eyes_mean"], self._linear("eyes"))
        return vertices, basis

    @cached_property
    def _worn(self) -> tuple[CanonicalMesh, Float32]:
        """The template mesh in this identity's shape, and its displacements."""
        mesh, tables = self.tables.mesh, self.tables
        assert mesh is not None
        names, rest = tables.expression_names, np.array(tables.config["rest_expression"], np.float32)
        eyes = self._linear("eyes")
        vertices, basis = self._as_in_the_data(mesh)
        mesh.close(vertices, basis, rest, names)
        mesh.clear_eyes(vertices, basis, eyes, names)
        basis[:, mesh.part == Part.EYEBALLS] = 0.0
        if not (np.abs(vertices).max() < _FAR):
            raise InputError(
                "this identity code gives no head; codes of heads have values of about 1 and less"
            )
        colors = mesh.colors
        if self.identity.any():
            colors = paint_template(mesh, tables.linear["landmarks_mean"], palette_of(self._coefficients))
        worn = dataclasses.replace(mesh.canonical(vertices, colors), texture=self._texture(0, mesh.uv_vertex))
        return worn, basis

    def _texture(self, level: int, number: AnyInt) -> Texture:
        """Pictures on a level of the template mesh, whose vertices have other numbers (V,)."""
        mesh, canvas = self.tables.mesh, self.tables.canvas
        assert mesh is not None and canvas is not None
        used, corners = np.unique(mesh.corners[level], return_inverse=True)
        painter = functools.partial(
            canvas.paint, palette_of(self._coefficients), chance_of(self._coefficients)
        )
        return Texture(
            canvas.uv[used], number[used].astype(np.int32), corners.reshape(-1, 3).astype(np.int32), painter
        )

    def _add_the_rest(self, mesh: TemplateMesh, vertices: Float32) -> None:
        """Add what the networks say of the code beyond the coefficients nearest to it, in place.

        Codes of coefficients have no such rest. Those of scans have: there the neural template map carries
        the mesh on from the nearest head that coefficients make.
        """
        near = self.tables.linear["encoder"] @ self._coefficients
        if np.abs(near - self.identity).max() <= _CODE_ROUNDING:
            return
        with needed_for("the mesh of an identity that no coefficients make"):
            content = self._head.content
        here, there = (content.carried(mesh.vertices, mesh.part, code) for code in (self.identity, near))
        still = mesh.part == Part.EYEBALLS
        vertices += np.where(still[:, None], np.float32(0.0), here - there)

    @plainly
    def template_points(self, points: Float32, part: AnyInt) -> Float32:
        """Template coordinates (N, 3) of canonical points: where they would lie on the mean head.

        Args:
            points: (N, 3) canonical points.
            part: (N,) moving part of each.
        """
        if not self.identity.any():
            return np.asarray(points, np.float32)
        return self._head.content.template_points(points, part, self.identity)

    @plainly
    def surface_logits(self, points: Float32, part: AnyInt) -> Float32:
        """Logits (N, classes) of each :class:`facetalk.nphm.head.parts.SurfaceClass`.

        Args:
            points: (N, 3) canonical points.
            part: (N,) moving part of each.
        """
        return self._head.content.surface_logits(self.template_points(points, part))

    @plainly
    def forward_basis(self, points: Float32, part: AnyInt) -> Float32:
        """The rig at canonical points: ``posed = points + sum_j (e_j - rest_j) basis_j``.

        The canonical shape has a slightly open jaw, so its own weights are not zero:
        ``HeadModel.rest_expression``. Eyeballs are not displaced; :meth:`eyes` says how they turn.

        Args:
            points: (N, 3) canonical points.
            part: (N,) :class:`facetalk.nphm.head.parts.Part` of each point.

        Returns:
            (E, N, 3) displacement for each expression weight.
        """
        basis = self.tables.blendshapes(self.template_points(points, part), part)
        basis[:, np.asarray(part) == Part.EYEBALLS] = 0.0
        return basis

    @plainly
    def eyes(self, mesh: CanonicalMesh) -> tuple[Eye, ...]:
        """How the eyeballs of a mesh of this identity (of :meth:`rig`) turn, in head units, left first."""
        centres, _ = self.eyeballs()
        balls = np.flatnonzero(mesh.part == Part.EYEBALLS)
        away = np.linalg.norm(mesh.vertices[balls, None] - centres, axis=2)
        side = (away[:, 0] >= away[:, 1]).astype(np.int64)
        found = []
        for number, (name, end) in enumerate(zip(EYE_NAMES, ("_L", "_R"), strict=True)):
            axes = [_GAZE_AXES.get(known, _STILL) for known in self.tables.expression_names]
            mine = [known.endswith(end) for known in self.tables.expression_names]
            rates = (
                np.where(np.array(mine)[:, None], np.array(axes, np.float64), 0.0) * GAZE_RADIANS_PER_WEIGHT
            )
            found.append(Eye(name, centres[number].astype(np.float64), balls[side == number], rates))
        return tuple(found)
