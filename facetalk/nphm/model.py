"""A head model as one object: identity and deformation networks with the operations that users want from
them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetalk.ambient import plainly
from facetalk.errors import InputError
from facetalk.files import atomic_path, keep_others
from facetalk.mesh.smoothing import FacialSmoothing
from facetalk.nphm.binding import Precision, ProductPath
from facetalk.nphm.field import Field
from facetalk.nphm.networks import DeformationNetwork, Direction, IdentityNetwork
from facetalk.nphm.root_search import find_roots, inverses, offset_jacobian, warn_of
from facetalk.ops._device import with_kernels
from facetalk.reading import read_json
from facetalk.weights import write_tensors

_FORMAT = "facetalk-nphm"
_NAMES = ("config.json", "identity.safetensors", "deformation.safetensors", "anchors.safetensors")
_CHUNK = 4096  # points that the torch networks see at a time; bounds their memory


class NPHM:
    """A neural parametric head model (NPHM or MonoNPHM).

    The deformation F goes one of two ways, which its weights do not tell. Forward (the released NPHM): a
    point x of the neutral head is at x + F(x) in the posed one, and the posed field at a point is the neutral
    field at the root of that equation. Backward (FaceTalk, MonoNPHM): the posed field is f(x + F(x)).

    Points, anchors and offsets are in head space. Methods accept NumPy arrays and torch tensors and give back
    the kind of their first argument. They run the torch networks densely, without short cuts, and are
    differentiable by what they are given; for many points of one identity use :meth:`bind`.

    Args:
        identity: the identity network.
        deformation: the deformation network, or None for a model without expressions.
        direction: which way the deformation goes, "forward" or "backward".

    Attributes:
        identity, deformation: the networks, in evaluation mode.
        direction: "forward" or "backward".

    Raises:
        InputError: a direction that is none, or forward with hyper-coordinates, which have no meaning there.
    """

    def __init__(
        self,
        identity: IdentityNetwork,
        deformation: DeformationNetwork | None,
        *,
        direction: Direction = "backward",
    ) -> None:
        if direction not in ("forward", "backward"):
            raise InputError(f"direction: expected forward or backward, got {direction!r}")
        hyper = identity.config.hyper_dim
        if direction == "forward" and hyper and deformation is not None:
            raise InputError(
                f"direction: a deformation that gives {hyper} hyper-coordinates of queries moves queries; "
                f"use backward"
            )
        self.direction: Direction = direction
        self.identity = identity.eval()
        self.deformation = None if deformation is None else deformation.eval()

    @property
    def family(self) -> str:
        """ "nphm" or "mononphm"."""
        return self.identity.config.family

    @property
    def identity_dim(self) -> int:
        """L: length of an identity code."""
        return self.identity.config.code_dim

    @property
    def expression_dim(self) -> int:
        """E: length of an expression code; 0 without deformation."""
        return 0 if self.deformation is None else self.deformation.config.expression_dim

    def to(self, *args: Any, **kwargs: Any) -> NPHM:
        """Moves or converts the networks as :meth:`torch.nn.Module.to` does."""
        self.identity.to(*args, **kwargs)
        if self.deformation is not None:
            self.deformation.to(*args, **kwargs)
        return self

    # Evaluation -----------------------------------------------------------------------------------------

    @plainly
    def anchors(self, identity: Any) -> Any:
        """Anchor positions (K, 3) of an identity code (L,)."""
        return _like(self.identity.anchors(self._code(identity)[None])[0], identity)

    @plainly
    def sdf(self, points: Any, identity: Any, expression: Any = None) -> Any:
        """Signed distance, negative inside.

        Args:
            points: (N, 3) head space; without expression also (N, 3 + m) with MonoNPHM's hyper-coordinates
                (zeros when left out).
            identity: (L,) identity code.
            expression: (E,) code, or (T, E) several: the posed field, of a backward model f(x + F(x)), with F
                the deformation, of a forward one f at the root of root + F(root) = x. None: the canonical
                field f(x).

        Returns:
            (N,), or (T, N) for several expressions; float32 (the networks' dtype if they were converted).
            First derivatives of a forward model go through the root (implicit function theorem).

        Raises:
            InputError: a shape does not fit the model, or a number is not finite.

        Warns:
            RootWarning: points of a forward model without a root, see :mod:`facetalk.nphm.root_search`.
        """
        x, code = self._points(points, hyper=expression is None), self._code(identity)
        if expression is None:
            return _like(torch.cat([self._canonical(part, code) for part in x.split(_CHUNK)]), points)
        codes, single = self._expressions(expression)
        frames, lost = [], 0
        for e in codes:
            parts = []
            for part in x.split(_CHUNK):
                if self.direction == "forward":
                    query, failed = self._root(part, code, e)
                    lost += failed
                else:
                    query = self._moved(part, code, e)
                parts.append(self._canonical(query, code))
            frames.append(torch.cat(parts))
        warn_of(lost, len(codes) * len(x))
        return _like(frames[0] if single else torch.stack(frames), points)

    @plainly
    def offsets(self, points: Any, identity: Any, expression: Any, *, hyper: bool = False) -> Any:
        """Offsets F(x) by the deformation network.

        Args:
            points: (N, 3) head space.
            identity: (L,) identity code.
            expression: (E,) code, or (T, E) several.
            hyper: also give MonoNPHM's m hyper-coordinates, in the columns after the offset.

        Returns:
            (N, 3) head units ((N, 3 + m) with `hyper`), or (T, N, ...) for several expressions.
        """
        x, code = self._points(points, hyper=False), self._code(identity)
        codes, single = self._expressions(expression)
        moved = torch.stack(
            [torch.cat([self._offsets(part, code, e) for part in x.split(_CHUNK)]) for e in codes]
        )
        moved = moved if hyper else moved[..., :3]
        return _like(moved[0] if single else moved, points)

    def _canonical(self, points: Tensor, code: Tensor) -> Tensor:
        return self.identity(points[None], code[None])[0]

    def _moved(self, points: Tensor, code: Tensor, expression: Tensor) -> Tensor:
        """Queries of the canonical field, hyper-coordinates included, by a backward deformation."""
        moved = self._offsets(points, code, expression)
        return torch.cat([points + moved[:, :3], moved[:, 3:]], dim=-1)

    def _root(self, points: Tensor, code: Tensor, expression: Tensor) -> tuple[Tensor, int]:
        """The same by a forward deformation, differentiable by all arguments; how many have no root."""
        assert self.deformation is not None
        anchors = self.identity.anchors(code[None])
        folded = self.deformation.fold(self.deformation.compress(code[None], anchors), expression[None])

        def offsets(x: Tensor) -> Tensor:
            return DeformationNetwork.evaluate(x[None], folded)[0]

        found = find_roots(offsets, lambda x: offset_jacobian(x, folded), points)
        root = found.points
        # One step of Newton's method from there, the inverse Jacobian held constant, has the root's
        # derivatives.
        rest = root + offsets(root) - points
        if not rest.requires_grad:
            return root, found.failed
        with torch.no_grad():
            inverse = inverses(offset_jacobian(root, folded))
        return root - (inverse @ rest[..., None])[..., 0], found.failed

    def _offsets(self, points: Tensor, code: Tensor, expression: Tensor) -> Tensor:
        assert self.deformation is not None
        anchors = self.identity.anchors(code[None])
        return self.deformation(points[None], code[None], expression[None], anchors)[0]

    # Binding and saving ---------------------------------------------------------------------------------

    @plainly
    def bind(
        self,
        identity: Any,
        *,
        device: str | torch.device | None = None,
        facial_smoothing: FacialSmoothing | None = None,
        cull: float | None = None,
        precision: Precision | None = None,
        path: ProductPath = "auto",
    ) -> Field:
        """Packs the model for one identity on the compiled core.

        Args:
            identity: (L,) identity code.
            device: a CUDA device, "cpu" (also None), or "auto" for a CUDA device where there is one.
            facial_smoothing: spatial weight that multiplies the offset.
            cull: see :class:`facetalk.ops.field.cpu.PackedField`; 0 is exact, None 1e-7, and 1e-4 in 16 bit.
            precision: on a CUDA device "fp16" (also None), "bf16" or "fp32"; the CPU computes in fp32.
            path: on a CUDA device, how the deformation's products are made: "portable", "hopper" (compute
                capability 9.0, 16 bit) or "auto", the latter where it can be had.

        Returns:
            the bound field.

        Raises:
            InputError: facetalk cannot work on the device; the message says why.
        """
        where = with_kernels(torch.device("cuda")) if str(device) == "auto" else torch.device(device or "cpu")
        return Field(
            self,
            self._code(identity),
            facial_smoothing=facial_smoothing,
            cull=cull,
            device=where,
            precision=precision,
            path=path,
        )

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> None:
        """Writes config.json, identity.safetensors, deformation.safetensors and anchors.safetensors.

        Args:
            folder: made if missing; other files in it are left alone.
            force: replace files of these four names even if this did not write them.

        Raises:
            InputError: the place cannot be written to, or holds files of these names that this did not write.
        """
        out = Path(folder)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {out.parent}: {error.strerror or error}") from error
        c = self.identity.config
        config: dict[str, Any] = {
            "format": _FORMAT,
            "family": c.family, "lat_glob": c.global_dim, "lat_loc": c.local_dim, "n_loc": c.anchors,
            "n_symm": c.pairs, "id_hidden": c.hidden, "id_layers": c.layers, "pos_mlp": c.anchor_hidden,
        }  # fmt: skip
        if c.family == "mononphm":
            config.update(nneigh=c.neighbours, blend_std=c.blend_std, n_hyper=c.hyper_dim)
        if self.deformation is not None:
            d = self.deformation.config
            config.update(
                direction=self.direction,
                lat_expr=d.expression_dim,
                lat_dim_id=d.compressed_dim,
                def_hidden=d.hidden,
                def_layers=d.layers,
            )
        files = {
            "identity": self.identity.state_dict(),
            "anchors": {"anchors_mean": self.identity.anchors_mean},
        }
        if self.deformation is not None:
            files["deformation"] = self.deformation.state_dict()
        with atomic_path(out, directory=True, ours=None if force else is_nphm_folder) as temporary:
            for name, tensors in files.items():
                write_tensors(temporary / f"{name}.safetensors", {k: v.float() for k, v in tensors.items()})
            (temporary / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
            if out.is_dir():
                keep_others(out, temporary, _NAMES)

    # Arguments ------------------------------------------------------------------------------------------

    def _tensor(self, value: Any, name: str) -> Tensor:
        reference = self.identity.anchors_mean
        try:
            tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
            tensor = tensor.to(device=reference.device, dtype=reference.dtype)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{name}: expected an array of numbers, got {type(value).__name__} ({error})"
            ) from error
        finite = torch.isfinite(tensor.detach())
        if not finite.all():
            where = torch.nonzero(~finite)[0].tolist()
            raise InputError(
                f"{name}: expected finite numbers, got {tensor.detach()[tuple(where)].item()} at {where}"
            )
        return tensor

    def _points(self, value: Any, *, hyper: bool) -> Tensor:
        tensor = self._tensor(value, "points")
        allowed = (3, self.identity.config.coord_dim) if hyper else (3,)
        if tensor.ndim != 2 or tensor.shape[1] not in allowed:
            raise InputError(f"points: expected shape (N, {allowed[-1]}), got {tuple(tensor.shape)}")
        return tensor

    def _code(self, value: Any) -> Tensor:
        tensor = self._tensor(value, "identity")
        if tensor.shape != (self.identity_dim,):
            raise InputError(
                f"identity: expected a code of {self.identity_dim} numbers, got shape {tuple(tensor.shape)}"
            )
        return tensor

    def _expressions(self, value: Any) -> tuple[Tensor, bool]:
        """Codes (T, E), and whether a single one was given."""
        if self.deformation is None:
            raise InputError("expression: this model has no deformation network")
        tensor = self._tensor(value, "expression")
        single = tensor.ndim == 1
        if tensor.ndim not in (1, 2) or tensor.shape[-1] != self.expression_dim:
            raise InputError(
                f"expression: expected codes of {self.expression_dim} numbers, got shape "
                f"{tuple(tensor.shape)}"
            )
        return (tensor[None] if single else tensor), single


def is_nphm_folder(folder: Path) -> bool:
    """Whether :meth:`NPHM.save` may write there: no file of its names, or its own."""
    if not any((folder / name).exists() for name in _NAMES):
        return True
    return bool(read_json(folder / "config.json").get("format") == _FORMAT)


def _like(result: Tensor, given: Any) -> Any:
    """The result as a tensor if a tensor was given, else as an array."""
    return result if isinstance(given, Tensor) else result.detach().cpu().numpy()
