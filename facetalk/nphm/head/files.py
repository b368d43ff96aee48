"""The folder of a built-in head: what it holds, reading it and writing it.

These are ``config.json``, the NPHM part (``identity``, ``deformation`` and ``anchors``), the rig (``forward``
and ``parts``), the linear part (``encoder`` and ``landmarks``) and the canonical mesh of the default identity
(``canonical``), all tensors as safetensors.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.mesh.mesh import CanonicalMesh
from facetalk.nphm.head.checks import (
    FILES,
    FORMAT,
    check_linear,
    check_settings,
    checked_mesh,
    is_head_folder,
)
from facetalk.nphm.head.parts import PART_NAMES
from facetalk.nphm.head.rig import BlendshapeField, ForwardConfig, PartField, TemplateMap
from facetalk.nphm.networks import DeformationConfig, DeformationNetwork, IdentityConfig, IdentityNetwork
from facetalk.reading import read_json, usable
from facetalk.weights import build_for, check_sizes, check_tensors, read_tensors, write_tensors

__all__ = ["HeadContent", "read_head", "write_head"]

_VERSION = 1


@dataclass
class HeadContent:
    """What a head folder holds.

    Attributes:
        config: what config.json says beside the networks' sizes: ``expression_names``, ``rest_expression``,
            ``bounds`` of the canonical mesh and the ``neck`` plane (``point``, ``normal``), head space.
        identity: signed distance network.
        deformation: backward deformation network.
        template, blendshapes, parts: the forward deformation, see :mod:`facetalk.nphm.head.rig`.
        linear: tensors ``encoder`` (L, I), ``landmarks_mean`` (68, 3), ``landmarks_basis`` (I, 68, 3),
            ``eyes_mean`` (2, 4) and ``eyes_basis`` (I, 2, 4) with centre and radius of the left and right
            eyeball, ``eye_axes`` (2, 3).
        canonical: mesh of the default identity, or None while nobody has made it.
    """

    config: dict[str, Any]
    identity: IdentityNetwork
    deformation: DeformationNetwork
    template: TemplateMap
    blendshapes: BlendshapeField
    parts: PartField
    linear: dict[str, Tensor]
    canonical: CanonicalMesh | None = None

    def __post_init__(self) -> None:
        """Bring the networks to the state in which they are evaluated."""
        for network in (self.identity, self.deformation, self.template, self.blendshapes, self.parts):
            network.eval()
        self.linear = {name: value.float() for name, value in self.linear.items()}

    @property
    def expression_names(self) -> tuple[str, ...]:
        """Names of the E expression weights, in order."""
        return tuple(self.config["expression_names"])


def read_head(folder: str | Path) -> HeadContent:
    """Read a head folder.

    Raises:
        InputError: the folder is not a head, or a file is missing, damaged or does not fit.
    """
    folder = Path(folder)
    with usable(f"the head in {folder}", "fetch it again"):
        config = read_json(folder / "config.json")
        if config.get("format") != FORMAT or config.get("version") != _VERSION:
            raise InputError(f"{folder} is not a {FORMAT} of version {_VERSION}; see its config.json")
        check_settings(config)
        files = {}
        for name in FILES:
            path = folder / f"{name}.safetensors"
            if name != "canonical" or path.is_file():
                files[name] = read_tensors(path)
                check_tensors(files[name], path)
        for name in ("identity", "deformation", "forward"):
            check_sizes(config[name], f"{folder / 'config.json'}: {name}")
        anchors = files["anchors"]["anchors_mean"].float()
        sizes = ForwardConfig(**config["forward"])
        identity, deformation = (
            IdentityConfig(**config["identity"]),
            DeformationConfig(**config["deformation"]),
        )
        content = HeadContent(
            config=config,
            identity=build_for(lambda: IdentityNetwork(identity, anchors), files["identity"], folder),
            deformation=build_for(lambda: DeformationNetwork(deformation), files["deformation"], folder),
            template=build_for(lambda: TemplateMap(sizes), files["forward"], folder),
            blendshapes=build_for(lambda: BlendshapeField(sizes), files["forward"], folder),
            parts=build_for(lambda: PartField(sizes), files["parts"], folder),
            linear={**files["encoder"], **files["landmarks"]},
            canonical=checked_mesh(files["canonical"], sizes.parts) if "canonical" in files else None,
        )
        check_linear(content.linear, identity.code_dim)
        content.identity.load_state_dict(_float(files["identity"]))
        content.deformation.load_state_dict(_float(files["deformation"]))
        content.template.load_state_dict(_float(files["forward"], "template."))
        content.blendshapes.load_state_dict(_float(files["forward"], "blendshapes."))
        content.parts.load_state_dict(_float(files["parts"], "parts."))
    return content


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
            **content.config, "format": FORMAT, "version": _VERSION, "family": "nphm",
            "identity": asdict(content.identity.config), "deformation": asdict(content.deformation.config),
            "forward": asdict(content.blendshapes.config), "part_names": list(PART_NAMES),
        }  # fmt: skip
        (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        forward = {f"template.{k}": v for k, v in content.template.state_dict().items()}
        forward |= {f"blendshapes.{k}": v for k, v in content.blendshapes.state_dict().items()}
        files: dict[str, dict[str, Tensor]] = {
            "identity": content.identity.state_dict(),
            "deformation": content.deformation.state_dict(),
            "anchors": {"anchors_mean": content.identity.anchors_mean},
            "forward": {k: v.half() for k, v in forward.items()},
            "parts": {f"parts.{k}": v.half() for k, v in content.parts.state_dict().items()},
            "encoder": {"encoder": content.linear["encoder"]},
            "landmarks": {k: v for k, v in content.linear.items() if k != "encoder"},
        }
        if content.canonical is not None:
            files["canonical"] = {k: torch.from_numpy(v) for k, v in asdict(content.canonical).items()}
        for name, tensors in files.items():
            write_tensors(out / f"{name}.safetensors", tensors)


def _float(tensors: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Tensors whose names start with ``prefix``, without it, as float32."""
    return {
        name.removeprefix(prefix): value.float() for name, value in tensors.items() if name.startswith(prefix)
    }
