"""The built-in head as one object: neural distance, both deformations, surface classes, colours.

A head folder holds ``config.json``, the NPHM part (``identity``, ``deformation`` and ``anchors``), the
forward part
(``forward``, ``parts``), the linear part (``encoder``, ``landmarks``) and the canonical mesh of the default
identity (``canonical``), all safetensors.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.mesh.surgery import CanonicalMesh
from facetalk.nphm.field import Field
from facetalk.nphm.head.parts import PART_NAMES, Part
from facetalk.nphm.head.rig import BlendshapeField, ForwardConfig, PartField, TemplateMap
from facetalk.nphm.model import NPHM
from facetalk.nphm.networks import DeformationConfig, DeformationNetwork, IdentityConfig, IdentityNetwork

__all__ = ["HeadModel"]

Array = NDArray[np.float32]
_FORMAT, _VERSION = "facetalk-head", 1
_CHUNK = 16384

# A gaze of one degree is a weight of 0.033 of eyeLook*, as in the package's table of gaze
# (data/visemes.json).
_RADIANS_PER_WEIGHT = float(np.deg2rad(1.0 / 0.033))


class HeadModel:
    """A neural parametric head with a rig.

    Attributes:
        config: what config.json says.
        identity: signed distance network; deformation: backward deformation network.
        template, blendshapes, parts: the forward deformation, see :mod:`facetalk.nphm.head.rig`.
        linear: tensors ``encoder`` (L, I), ``landmarks_mean`` (68, 3), ``landmarks_basis`` (I, 68, 3),
            ``eyes_mean``
            (2, 4) and ``eyes_basis`` (I, 2, 4) with centre and radius of the left and right
            eyeball, ``eye_axes`` (2, 3).
    """

    def __init__(
        self,
        config: dict[str, Any],
        identity: IdentityNetwork,
        deformation: DeformationNetwork,
        forward: tuple[TemplateMap, BlendshapeField, PartField],
        linear: dict[str, Tensor],
        default_canonical: CanonicalMesh | None = None,
    ) -> None:
        self.config = config
        self.sizes = forward[1].config
        self.identity, self.deformation = identity.eval(), deformation.eval()
        self.template, self.blendshapes, self.parts = (module.eval() for module in forward)
        self.linear = {name: value.float() for name, value in linear.items()}
        self._cache: dict[bytes, CanonicalMesh] = {}
        if default_canonical is not None:
            self._cache[self.default_identity.tobytes()] = default_canonical

    # Files ----------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, folder: str | Path) -> HeadModel:
        """Read a head folder.

        Raises:
            InputError: the folder is not a head, or a file is missing, damaged or does not fit.
        """
        folder = Path(folder)
        try:
            config = json.loads((folder / "config.json").read_text())
            if config.get("format") != _FORMAT or config.get("version") != _VERSION:
                raise InputError(f"{folder} is not a {_FORMAT} of version {_VERSION}; see its config.json")
            files = {name: load_file(folder / f"{name}.safetensors") for name in cls._FILES}
            cached = folder / "canonical.safetensors"
            mesh = load_file(cached) if cached.is_file() else None
            identity = IdentityNetwork(
                IdentityConfig(**config["identity"]), files["anchors"]["anchors_mean"].float()
            )
            deformation = DeformationNetwork(DeformationConfig(**config["deformation"]))
            sizes = ForwardConfig(**config["forward"])
            modules = {
                "template": TemplateMap(sizes),
                "blendshapes": BlendshapeField(sizes),
                "parts": PartField(sizes),
            }
            identity.load_state_dict(_float(files["identity"]))
            deformation.load_state_dict(_float(files["deformation"]))
            for name, module in modules.items():
                module.load_state_dict(_float(files["parts" if name == "parts" else "forward"], f"{name}."))
            linear = {**files["encoder"], **files["landmarks"]}
            canonical = None if mesh is None else CanonicalMesh(
                *(mesh[key].numpy() for key in ("vertices", "faces", "part", "colors"))
            )  # fmt: skip
            model = cls(config, identity, deformation, tuple(modules.values()), linear, canonical)  # type: ignore[arg-type]
        except FileNotFoundError as error:
            raise InputError(f"{error.filename} is missing; {folder} is not a whole head folder") from error
        except (SafetensorError, json.JSONDecodeError, RuntimeError, KeyError, TypeError, OSError) as error:
            reason = (str(error) or repr(error)).splitlines()[0]
            raise InputError(
                f"the head in {folder} is damaged or does not fit ({reason}); fetch it again"
            ) from error
        model._folder = folder
        return model

    _FILES = ("identity", "deformation", "anchors", "forward", "parts", "encoder", "landmarks")
    _folder: Path | None = None
    _field: Field | None = None

    def save(self, folder: str | Path) -> None:
        """Write the head folder, replacing one that is there."""
        with atomic_path(folder, directory=True) as out:
            config = {
                **self.config, "format": _FORMAT, "version": _VERSION, "family": "nphm",
                "identity": asdict(self.identity.config), "deformation": asdict(self.deformation.config),
                "forward": asdict(self.sizes), "part_names": list(PART_NAMES),
            }  # fmt: skip
            (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
            forward = {f"template.{k}": v for k, v in self.template.state_dict().items()}
            forward |= {f"blendshapes.{k}": v for k, v in self.blendshapes.state_dict().items()}
            encoder = {"encoder": self.linear["encoder"]}
            files: dict[str, dict[str, Tensor]] = {
                "identity": self.identity.state_dict(),
                "deformation": self.deformation.state_dict(),
                "anchors": {"anchors_mean": self.identity.anchors_mean},
                "forward": {k: v.half() for k, v in forward.items()},
                "parts": {f"parts.{k}": v.half() for k, v in self.parts.state_dict().items()},
                "encoder": encoder,
                "landmarks": {k: v for k, v in self.linear.items() if k not in encoder},
            }
            mesh = self._cache.get(self.default_identity.tobytes())
            if mesh is not None:
                files["canonical"] = {k: torch.from_numpy(v) for k, v in asdict(mesh).items()}
            for name, tensors in files.items():
                path = out / f"{name}.safetensors"
                save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path)
                path.chmod(0o644)  # safetensors writes for the owner alone

    @cached_property
    def nphm(self) -> NPHM:
        """The identity and backward deformation networks as the package's general NPHM."""
        return NPHM(self.identity, self.deformation)

    def _bound(self, identity: ArrayLike | None) -> Field:
        code = self._code(identity)
        if self._field is None or not torch.equal(self._field.identity, code):
            self._field = self.nphm.bind(code)
        return self._field

    # Codes ----------------------------------------------------------------------------------------------

    @property
    def expression_names(self) -> tuple[str, ...]:
        """Names of the expression weights, in order."""
        return tuple(self.config["expression_names"])

    @property
    def expression_dim(self) -> int:
        """E."""
        return len(self.config["expression_names"])

    @cached_property
    def rest_expression(self) -> Array:
        """(E,) weights of the canonical shape (jaw slightly open, so that the lips are apart)."""
        return np.array(self.config["rest_expression"], np.float32)

    @property
    def identity_dim(self) -> int:
        """Length of the identity code."""
        return self.identity.config.code_dim

    @cached_property
    def default_identity(self) -> Array:
        """(I,) the mean head: zeros."""
        return np.zeros(self.identity_dim, np.float32)

    def encode_identity(self, coefficients: ArrayLike) -> Array:
        """Identity code of morphable-head coefficients (standard normal).

        Raises:
            InputError: wrong number of coefficients, or not finite.
        """
        values = np.asarray(coefficients, np.float32)
        expected = self.linear["encoder"].shape[1]
        if values.shape != (expected,) or not np.isfinite(values).all():
            raise InputError(f"an identity has {expected} finite coefficients, got shape {values.shape}")
        return self.linear["encoder"].numpy() @ values

    def coefficients(self, identity: ArrayLike | None = None) -> Array:
        """Coefficients whose code is nearest to ``identity``; exact for encoded ones."""
        if identity is None:
            return np.zeros(self.linear["encoder"].shape[1], np.float32)
        return self._decoder @ self._code(identity).numpy()

    @cached_property
    def _decoder(self) -> Array:
        return np.linalg.pinv(self.linear["encoder"].numpy().astype(np.float64)).astype(np.float32)

    def _code(self, identity: ArrayLike | None) -> Tensor:
        code = self.default_identity if identity is None else np.asarray(identity, np.float32)
        if code.shape != (self.identity_dim,):
            raise InputError(f"an identity code has {self.identity_dim} values, got shape {code.shape}")
        return torch.from_numpy(np.ascontiguousarray(code))

    # Geometry -------------------------------------------------------------------------------------------

    def distance(self, points: Array, identity: ArrayLike | None = None) -> Array:
        """Signed distance (N,) of canonical points (N, 3)."""
        return np.asarray(self._bound(identity).query(np.ascontiguousarray(points, np.float32))[0])

    def project(
        self, points: Array, identity: ArrayLike | None = None, *, steps: int = 3, limit: float = 0.004
    ) -> Array:
        """Move points onto the zero set by Newton steps along the gradient, at most ``limit`` in all."""
        field = self._bound(identity)
        start = x = np.ascontiguousarray(points, np.float32)
        for _ in range(steps):
            gradient = np.asarray(field.gradient(x)[0])
            value = np.asarray(field.query(x)[0])
            # Where the field is much flatter than a distance, a full step would jump.
            step = value / np.maximum((gradient**2).sum(1), 0.05)
            offset = x - step[:, None] * gradient - start
            length = np.maximum(np.linalg.norm(offset, axis=1, keepdims=True), 1e-12)
            x = (start + offset * np.minimum(limit / length, 1.0)).astype(np.float32)
        return x

    def eyeballs(self, identity: ArrayLike | None = None) -> tuple[Array, Array]:
        """Centres (2, 3) and radii (2,) of the eyeballs, left first."""
        weights = torch.from_numpy(self.coefficients(identity))
        eyes = (self.linear["eyes_mean"] + torch.tensordot(weights, self.linear["eyes_basis"], 1)).numpy()
        return eyes[:, :3], eyes[:, 3]

    def landmarks(self, identity: ArrayLike | None = None) -> Array:
        """(68, 3) Multi-PIE landmarks on the canonical surface, head space."""
        weights = torch.from_numpy(self.coefficients(identity))
        points = self.linear["landmarks_mean"] + torch.tensordot(weights, self.linear["landmarks_basis"], 1)
        return self.project(points.numpy(), identity)

    @torch.inference_mode()
    def template_points(self, points: Array, identity: ArrayLike | None, part: NDArray[np.integer]) -> Array:
        """Template coordinates (N, 3) of canonical points: where they would lie on the mean head."""
        code = self._code(identity)[None]
        if not bool(code.any()):
            return np.asarray(points, np.float32)
        anchors = self.identity.anchors(code)
        x, index = (
            torch.from_numpy(np.ascontiguousarray(points, np.float32)),
            torch.from_numpy(part.astype(np.int64)),
        )
        return self.template(x[None], index[None], code, anchors, self.identity.anchors_mean)[0].numpy()

    @torch.inference_mode()
    def forward_basis(self, points: Array, identity: ArrayLike | None, part: NDArray[np.integer]) -> Array:
        """The rig at canonical points: ``posed = points + sum_j (e_j - rest_j) basis_j``.

        The canonical shape has a slightly open jaw, so its own weights are not zero: ``rest_expression``.

        Args:
            points: (N, 3) canonical points, head space.
            identity: (I,) code, None for the default identity.
            part: (N,) moving part of each point, see :class:`facetalk.nphm.head.parts.Part`.

        Returns:
            (E, N, 3) displacement for each expression weight, head space.
        """
        template = torch.from_numpy(self.template_points(points, identity, part))
        index = torch.from_numpy(np.asarray(part).astype(np.int64))
        basis = np.concatenate([
            self.blendshapes(x, i).numpy() for x, i in zip(template.split(_CHUNK), index.split(_CHUNK),
            strict=True)
        ]).transpose(1, 0, 2)  # fmt: skip
        eyes = np.asarray(part) == Part.EYEBALLS
        basis[:, eyes] = self._gaze_basis(np.asarray(points, np.float32)[eyes], identity)
        return np.ascontiguousarray(basis)

    def _gaze_basis(self, points: Array, identity: ArrayLike | None) -> Array:
        """Eyeballs turn by the weights of eyeLook*, to first order about their centres."""
        centres, _ = self.eyeballs(identity)
        left = np.linalg.norm(points - centres[0], axis=1) < np.linalg.norm(points - centres[1], axis=1)
        arm = points - np.where(left[:, None], centres[0], centres[1])
        out = np.zeros((self.expression_dim, len(points), 3), np.float32)
        # Turning axes: up is a negative turn about +x, towards the head's left a positive one about +y.
        axes = {
            "eyeLookUp_L": (-1, 0, 0), "eyeLookDown_L": (1, 0, 0), "eyeLookOut_L": (0, 1, 0),
            "eyeLookIn_L": (0, -1, 0),
            "eyeLookUp_R": (-1, 0, 0), "eyeLookDown_R": (1, 0, 0), "eyeLookOut_R": (0, -1, 0),
            "eyeLookIn_R": (0, 1, 0),
        }  # fmt: skip
        for index, name in enumerate(self.expression_names):
            if name in axes:
                turn = np.cross(np.array(axes[name], np.float32), arm) * np.float32(_RADIANS_PER_WEIGHT)
                out[index] = np.where((left == name.endswith("_L"))[:, None], turn, 0.0)
        return out

    # Canonical mesh -------------------------------------------------------------------------------------

    def canonical(self, identity: ArrayLike | None = None, *, cell: float = 0.003) -> CanonicalMesh:
        """The mesh of an identity; the default's comes with the model, others are made (half a minute) and
        kept.

        Args:
            identity: (I,) code, None for the default identity.
            cell: of the marching cubes, head units (0.003 = 0.75 mm), where a mesh has to be made.
        """
        code = self._code(identity).numpy()
        key = code.tobytes()
        if key not in self._cache:
            from facetalk.nphm.head.canonical import build_canonical

            if len(self._cache) > 4:  # the default identity is the first
                del self._cache[list(self._cache)[1]]
            self._cache[key] = build_canonical(self, code, cell=cell)
        return self._cache[key]


def _float(tensors: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Tensors whose names start with ``prefix``, without it, as float32."""
    return {
        name.removeprefix(prefix): value.float() for name, value in tensors.items() if name.startswith(prefix)
    }
