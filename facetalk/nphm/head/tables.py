"""What of a head folder is read without torch: settings, the linear part, the rig, the canonical mesh.

It is all that the default identity's morph targets need. The networks' weights lie beside it as they were
read; :mod:`facetalk.nphm.head.files` makes networks of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from facetalk.arrays import Float32
from facetalk.mesh.mesh import CanonicalMesh
from facetalk.nphm.head.blendshapes import Blendshapes, ForwardConfig
from facetalk.nphm.head.checks import (
    FILES,
    FORMAT,
    MESHES,
    VERSION,
    check_linear,
    check_settings,
    checked_mesh,
)
from facetalk.nphm.head.maps.canvas import Canvas
from facetalk.nphm.head.template_mesh import TemplateMesh
from facetalk.nphm.head.tongue import JAW, Mouth, Reach, neutral_mean
from facetalk.reading import read_settings, usable
from facetalk.tensors import check_arrays, check_sizes, read_safetensors

__all__ = ["HeadTables", "read_tables"]


@dataclass(frozen=True)
class HeadTables:
    """A head without its networks.

    Attributes:
        config: what config.json says beside the networks' sizes: ``expression_names``, ``rest_expression``,
            ``bounds`` of the canonical mesh and the ``neck`` plane (``point``, ``normal``), head space.
        linear: float32 arrays ``encoder`` (L, I), ``landmarks_mean`` (68, 3), ``landmarks_basis``
            (I, 68, 3), ``eyes_mean`` (2, 4) and ``eyes_basis`` (I, 2, 4) with centre and radius of the left
            and right eyeball, ``eye_axes`` (2, 3).
        blendshapes: the rig on template coordinates.
        canonical: mesh of the default identity, or None while nobody has made it or a template stands for it.
        mesh: template mesh that every identity wears, or None.
        folder: where it was read.
        files: arrays of all files of the folder, by the file's name.
    """

    config: dict[str, Any]
    linear: dict[str, Float32]
    blendshapes: Blendshapes
    canonical: CanonicalMesh | None
    mesh: TemplateMesh | None = None
    folder: Path | None = None
    files: Mapping[str, Mapping[str, np.ndarray]] | None = None

    @property
    def expression_names(self) -> tuple[str, ...]:
        """Names of the E expression weights, in order."""
        return tuple(self.config["expression_names"])

    @cached_property
    def canvas(self) -> Canvas | None:
        """What paints pictures on the template mesh, or None where there is none."""
        return None if self.mesh is None else Canvas(self.mesh, self.linear["landmarks_mean"])

    @cached_property
    def mouth(self) -> Mouth | None:
        """What the tongue of the template mesh goes by, or None where it has none."""
        if self.mesh is None or JAW not in self.expression_names:
            return None
        return Mouth.of(self.mesh, neutral_mean(self.mesh, self._rest))

    @cached_property
    def reach(self) -> Reach | None:
        """How much of the tongue's shapes takes it to where sounds are made, or None where there is none."""
        if self.mesh is None or self.mouth is None:
            return None
        return Reach.of(self.mesh, self.mouth, neutral_mean(self.mesh, self._rest), self.expression_names)

    @property
    def _rest(self) -> Float32:
        return np.array(self.config["rest_expression"], np.float32)


def read_tables(folder: str | Path) -> HeadTables:
    """Read a head folder.

    Raises:
        InputError: the folder is not a head, or a file is missing or damaged, or the rig does not fit.
    """
    folder = Path(folder)
    with usable(f"the head in {folder}", "fetch it again"):
        config = read_settings(folder / "config.json", FORMAT, VERSION)
        check_settings(config)
        files = {}
        for name in (*FILES, *MESHES):
            path = folder / f"{name}.safetensors"
            if name not in MESHES or path.is_file():
                files[name] = read_safetensors(path)
                check_arrays(files[name], path)
        for name in ("identity", "deformation", "forward"):
            check_sizes(config[name], f"{folder / 'config.json'}: {name}")
        sizes = ForwardConfig(**config["forward"])
        linear = {
            name: value.astype(np.float32)
            for name, value in {**files["encoder"], **files["landmarks"]}.items()
        }
        check_linear(linear, sizes.code_dim)
        prefix = "blendshapes."
        tensors = {
            name.removeprefix(prefix): value
            for name, value in files["forward"].items()
            if name.startswith(prefix)
        }
        canonical = checked_mesh(files["canonical"], sizes.parts) if "canonical" in files else None
        mesh = None
        if "template" in files:
            mesh = TemplateMesh.read(files["template"], linear["encoder"].shape[1], sizes.expressions)
        return HeadTables(config, linear, Blendshapes(sizes, tensors), canonical, mesh, folder, files)
