"""The folder of a built-in head: its networks, made of what was read, and writing it.

These are ``config.json``, the NPHM part (``identity``, ``deformation`` and ``anchors``), the rig (``forward``
and ``parts``), the linear part (``encoder`` and ``landmarks``) and a mesh: ``template``, which every identity
wears, or ``canonical``, that of the default identity alone. All tensors are safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetalk.ambient import loading
from facetalk.arrays import AnyInt, Float32
from facetalk.files import atomic_path
from facetalk.mesh.mesh import CanonicalMesh
from facetalk.nphm.head.blendshapes import Blendshapes, ForwardConfig
from facetalk.nphm.head.checks import FORMAT, MESHES, VERSION, is_head_folder
from facetalk.nphm.head.parts import PART_NAMES
from facetalk.nphm.head.rig import BlendshapeField, PartField, TemplateMap
from facetalk.nphm.head.tables import HeadTables
from facetalk.nphm.head.template_mesh import TemplateMesh
from facetalk.nphm.model import NPHM
from facetalk.nphm.networks import DeformationConfig, DeformationNetwork, IdentityConfig, IdentityNetwork
from facetalk.reading import usable
from facetalk.tensors import tensor_bytes
from facetalk.weights import build_for, write_tensors

__all__ = ["HeadContent", "build_head", "nphm_of", "prove", "write_head"]

_TURNS = 12  # of the fixed point that inverts the template map
_CHUNK = 16384  # points that the networks see at a time; bounds their memory


@dataclass
class HeadContent:
    """What a head folder holds, networks included.

    Attributes:
        config: what config.json says beside the networks' sizes: ``expression_names``, ``rest_expression``,
            ``bounds`` of the canonical mesh and the ``neck`` plane (``point``, ``normal``), head space.
        identity: signed distance network.
        deformation: backward deformation network.
        template, blendshapes, parts: the forward deformation, see :mod:`facetalk.nphm.head.rig`.
        linear: tensors ``encoder`` (L, I), ``landmarks_mean`` (68, 3), ``landmarks_basis`` (I, 68, 3),
            ``eyes_mean`` (2, 4) and ``eyes_basis`` (I, 2, 4) with centre and radius of the left and right
            eyeball, ``eye_axes`` (2, 3).
        canonical: mesh of the default identity, or None while nobody has made it or a template stands for it.
        mesh: template mesh that every identity wears, or None.
    """

    config: dict[str, Any]
    identity: IdentityNetwork
    deformation: DeformationNetwork
    template: TemplateMap
    blendshapes: BlendshapeField
    parts: PartField
    linear: dict[str, Tensor]
    canonical: CanonicalMesh | None = None
    mesh: TemplateMesh | None = None

    def __post_init__(self) -> None:
        """Bring the networks to the state in which they are evaluated."""
        for network in (self.identity, self.deformation, self.template, self.blendshapes, self.parts):
            network.eval()
        self.linear = {name: value.float() for name, value in self.linear.items()}

    @property
    def tables(self) -> HeadTables:
        """What of it needs no torch; the arrays share its memory."""
        rig = {name: value.detach().cpu().numpy() for name, value in self.blendshapes.state_dict().items()}
        linear = {name: value.detach().cpu().numpy() for name, value in self.linear.items()}
        shapes = Blendshapes(self.blendshapes.config, rig)
        return HeadTables(self.config, linear, shapes, self.canonical, self.mesh)

    # Evaluation ------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def template_points(self, points: Float32, part: AnyInt, code: Float32) -> Float32:
        """Template coordinates (N, 3) of points (N, 3) of moving parts (N,) on an identity's head."""
        given = torch.from_numpy(code)[None]
        x, index = torch.from_numpy(np.ascontiguousarray(points, np.float32)), _index(part)
        anchors = self.identity.anchors(given)
        return self.template(x[None], index[None], given, anchors, self.identity.anchors_mean)[0].numpy()

    @torch.inference_mode()
    def carried(self, points: Float32, part: AnyInt, code: Float32) -> Float32:
        """Where the inverse of an identity's template map puts points (N, 3) of the mean head."""
        out, index, given = torch.from_numpy(points.copy()), _index(part), torch.from_numpy(code)[None]
        anchors = self.identity.anchors(given)
        for x, kinds in zip(out.split(_CHUNK), index.split(_CHUNK), strict=True):
            start = x.clone()
            for _ in range(_TURNS):  # displacements between heads are far smaller than their size
                mapped = self.template(x[None], kinds[None], given, anchors, self.identity.anchors_mean)[0]
                x.copy_(start - (mapped - x))
        return out.numpy()

    @torch.inference_mode()
    def surface_logits(self, template: Float32) -> Float32:
        """Logits (N, classes) of each surface class at template coordinates (N, 3)."""
        points = torch.from_numpy(np.ascontiguousarray(template, np.float32))
        return torch.cat([self.parts(block) for block in points.split(_CHUNK)]).numpy()


@loading
def build_head(tables: HeadTables) -> HeadContent:
    """The networks of a folder that was read.

    Raises:
        InputError: weights are missing or do not fit the settings.
    """
    folder, files, config = tables.folder, tables.files, tables.config
    assert files is not None
    read = {name: _tensors(arrays) for name, arrays in files.items() if name not in MESHES}
    with usable(f"the head in {folder}", "fetch it again"):
        anchors = read["anchors"]["anchors_mean"]
        sizes = ForwardConfig(**config["forward"])
        identity, deformation = (
            IdentityConfig(**config["identity"]),
            DeformationConfig(**config["deformation"]),
        )
        if identity.code_dim != sizes.code_dim:
            raise ValueError(f"codes of {identity.code_dim} values and of {sizes.code_dim}")
        content = HeadContent(
            config=config,
            identity=build_for(lambda: IdentityNetwork(identity, anchors), read["identity"], folder),
            deformation=build_for(lambda: DeformationNetwork(deformation), read["deformation"], folder),
            template=build_for(lambda: TemplateMap(sizes), read["forward"], folder),
            blendshapes=build_for(lambda: BlendshapeField(sizes), read["forward"], folder),
            parts=build_for(lambda: PartField(sizes), read["parts"], folder),
            linear=_tensors(tables.linear),
            canonical=tables.canonical,
            mesh=tables.mesh,
        )
        content.identity.load_state_dict(read["identity"])
        content.deformation.load_state_dict(read["deformation"])
        content.template.load_state_dict(_below("template.", read["forward"]))
        content.blendshapes.load_state_dict(_below("blendshapes.", read["forward"]))
        content.parts.load_state_dict(_below("parts.", read["parts"]))
    return content


def nphm_of(content: HeadContent) -> NPHM:
    """The identity and backward deformation networks as the package's general NPHM."""
    return NPHM(content.identity, content.deformation, direction="backward")


@torch.no_grad()
def prove(head: Any) -> None:
    """Evaluate everything of a head model at a few points, for what only shows then.

    Raises:
        ValueError: a result is not finite.
    """
    points = head.tables.linear["landmarks_mean"][::16]
    code = np.full(head.identity_dim, 0.01, np.float32)
    part = np.arange(len(points)) % head.content.template.parts
    person = head.bind(code)
    results = {
        "distance": head.nphm.sdf(points, code),
        "posed distance": head.nphm.sdf(points, code, head.rest_expression),
        "rig": person.forward_basis(points, part),
        "part field": person.surface_logits(points, part),
    }
    for name, values in results.items():
        if not np.isfinite(values).all():
            raise ValueError(f"the {name} is not finite")


def write_head(folder: str | Path, content: HeadContent, *, force: bool = False) -> None:
    """Write a head folder, replacing one that is there.

    Args:
        folder: the place; its parent has to exist.
        content: the head.
        force: replace the folder even if it holds other files than a head.

    Raises:
        InputError: the folder's place cannot be written to, or holds what this did not write.
    """
    with atomic_path(folder, directory=True, ours=None if force else is_head_folder) as out:
        config = {
            **content.config, "format": FORMAT, "version": VERSION, "family": "nphm",
            "identity": asdict(content.identity.config), "deformation": asdict(content.deformation.config),
            "forward": asdict(content.blendshapes.config), "part_names": list(PART_NAMES),
        }  # fmt: skip
        (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        forward = {f"template.{k}": v for k, v in content.template.state_dict().items()}
        forward |= {f"blendshapes.{k}": v for k, v in content.blendshapes.state_dict().items()}
        files = {
            "identity": content.identity.state_dict(),
            "deformation": {k: v.half() for k, v in content.deformation.state_dict().items()},
            "anchors": {"anchors_mean": content.identity.anchors_mean},
            "forward": {k: v.half() for k, v in forward.items()},
            "parts": {f"parts.{k}": v.half() for k, v in content.parts.state_dict().items()},
            "encoder": {"encoder": content.linear["encoder"]},
            "landmarks": {k: v for k, v in content.linear.items() if k != "encoder"},
        }
        for name, tensors in files.items():
            write_tensors(out / f"{name}.safetensors", tensors)
        # NumPy's writer knows integers without a sign in every version, torch's does not.
        meshes = {}
        if content.canonical is not None:
            kept = ("vertices", "faces", "part", "colors")
            meshes["canonical"] = {k: getattr(content.canonical, k) for k in kept}
        if content.mesh is not None:
            meshes["template"] = content.mesh.tensors()
        for name, arrays in meshes.items():
            (out / f"{name}.safetensors").write_bytes(tensor_bytes(arrays, {}))


def _index(part: AnyInt) -> Tensor:
    return torch.from_numpy(np.asarray(part).astype(np.int64))


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The same as float32, copied: what a file's bytes lie in is not writable."""
    return {name: torch.from_numpy(value.astype(np.float32)) for name, value in arrays.items()}


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors whose names start with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
