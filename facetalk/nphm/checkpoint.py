"""Head models from their weights: sizes, direction, and networks filled with what files hold.

Every dimension comes from the shapes of the tensors; the official YAML files are known to contradict them.
What shapes cannot tell (the direction of the deformation, MonoNPHM's number of neighbours and blending
constant, and for a model without deformation its number of hyper-coordinates) comes from the configuration.
The files are read by :mod:`facetalk.nphm.checkpoint_files`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetalk.ambient import loading
from facetalk.errors import InputError
from facetalk.nphm.checkpoint_files import read_checkpoint, read_folder, read_official, strip
from facetalk.nphm.model import NPHM
from facetalk.nphm.networks import (
    DeformationConfig,
    DeformationNetwork,
    Direction,
    Family,
    IdentityConfig,
    IdentityNetwork,
)
from facetalk.reading import one_line, read_array, usable
from facetalk.weights import check_tensors

# Values of the released MonoNPHM configuration.
DEFAULT_NEIGHBOURS = 12
DEFAULT_BLEND_STD = 3.75
DEFAULT_HYPER = 2

DEFAULT_DIRECTION: dict[Family, Direction] = {"nphm": "forward", "mononphm": "backward"}
"""As released: NPHM's expression network moves the neutral head (README of its code, "Stage 2 - Learning
Forward Deformations"), MonoNPHM's moves queries."""

_ENSEMBLE = {"nphm": "ensembled_deep_sdf", "mononphm": "deepSDFensemble"}

Source = str | os.PathLike[str] | Mapping[str, Any]


@loading
def load_checkpoint(source: Source, *, family: Family = "nphm", direction: Direction | None = None) -> NPHM:
    """Load a neural parametric head model.

    Args:
        source: one of
            a folder with ``identity.safetensors``, ``deformation.safetensors`` (may be missing),
            ``config.json`` (may be missing) and the mean anchors: tensor ``anchors_mean`` of
            ``anchors.safetensors`` or ``golden.safetensors``, or ``anchors.npy``;
            a folder with the official checkpoints and ``anchors*.npy`` up to two levels below it (of a run's
            epochs the last one is taken);
            an official ``.pt``/``.pth``/``.tar``/``.safetensors`` file with the mean anchors in an
            ``anchors*.npy`` beside it;
            ``{"identity": ..., "deformation": ... or None, "anchors": (K, 3), "config": {...}}`` with state
            dicts, arrays or paths of files. ``config`` may hold ``direction``, ``nneigh``, ``blend_std`` and
            ``n_hyper``.
        family: "nphm" or "mononphm".
        direction: which way the deformation goes, which weights cannot tell: "forward" moves the neutral head
            (posed = x + F(x)), "backward" moves queries (posed field = f(x + F(x))). None: what the config
            says, else as the family was released: nphm forward, mononphm backward. FaceTalk's own retrained
            NPHM is backward.

    Returns:
        the model, float32, in evaluation mode, parameters frozen.

    Raises:
        InputError: a file is missing or corrupt, or a tensor is missing, has the wrong shape or is not
            finite; the message names it.
    """
    if family not in _ENSEMBLE:
        raise InputError(f"unknown model family {family!r}; choose nphm or mononphm")
    if isinstance(source, Mapping):
        where, parts = "the model given", dict(source)
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source)
        where, parts = str(path), read_folder(path) if path.is_dir() else read_official(path)
    else:
        raise InputError(f"a model is a folder, a file or a dictionary, got {type(source).__name__}")
    # Whatever else a hostile file holds (sparse or meta tensors, names that are no text) fails in here.
    with usable(where):
        return _assemble(parts, family, direction, where)


def _assemble(parts: dict[str, Any], family: Family, direction: Direction | None, where: str) -> NPHM:
    identity = _state(parts.get("identity"), "identity", where)
    deformation = None
    if parts.get("deformation") is not None:
        deformation = _state(parts["deformation"], "deformation", where)
    config = dict(parts.get("config") or {})
    if parts.get("anchors") is None:
        raise InputError(
            f"{where}: the mean anchors are missing; they are not part of official state dicts, "
            f"give them as anchors.npy (K, 3) beside the model"
        )
    anchors = _anchors(parts["anchors"], where)
    here, there = (f"{_file(parts, name, where)}: {name}" for name in ("identity", "deformation"))
    sizes = _configs(identity, deformation, anchors, config, family, (where, here, there))
    identity_config, deformation_config = sizes
    network = IdentityNetwork(identity_config, anchors)
    _fill(network, identity, here)
    mover = None
    if deformation_config is not None and deformation is not None:
        mover = DeformationNetwork(deformation_config)
        _fill(mover, deformation, there)
    model = NPHM(network, mover, direction=_direction(config, family, direction, where))
    _prove(model, where)
    return model


def _direction(config: dict[str, Any], family: Family, asked: Direction | None, where: str) -> Direction:
    """The direction of the deformation: that which was asked for, the config's, or the family's."""
    found = config.get("direction", DEFAULT_DIRECTION[family]) if asked is None else asked
    if found not in ("forward", "backward"):
        place = f"{where}: config direction" if asked is None else "direction"
        raise InputError(f"{place}: expected forward or backward, got {found!r}")
    direction: Direction = found
    return direction


def _prove(model: NPHM, where: str) -> None:
    """Refuse weights of which each is a number and the field is none."""
    points = 0.3 * torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [-1.0, 1.0, -1.0]], dtype=torch.float32)
    code = torch.full((model.identity_dim,), 0.01, dtype=torch.float32)
    values = [model.anchors(code), model.sdf(points, code)]
    if model.deformation is not None:
        expression = torch.full((model.expression_dim,), 0.01, dtype=torch.float32)
        moves = model.offsets(points, code, expression)
        values += [moves, model.sdf(points + moves, code)]
    if not all(bool(torch.isfinite(value).all()) for value in values):
        raise InputError(f"{where}: the field is not finite at points of the head; the file is damaged")


def _file(parts: dict[str, Any], name: str, where: str) -> str:
    """The file that a part was given as, or where the model as a whole is from."""
    return str(parts[name]) if isinstance(parts.get(name), (str, os.PathLike)) else where


def _state(value: Any, name: str, where: str) -> dict[str, Tensor]:
    if isinstance(value, (str, os.PathLike)):
        where, value = str(value), read_checkpoint(Path(value))
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: the {name} network is missing")
    value = value.get("decoder_state_dict", value)
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: the {name} network is no dictionary of tensors")
    state: dict[str, Tensor] = {}
    for key, tensor in strip(value).items():
        if isinstance(tensor, np.ndarray):
            tensor = torch.from_numpy(np.array(tensor))
        if isinstance(tensor, Tensor) and (tensor.layout != torch.strided or tensor.is_meta):
            raise InputError(f"{where}: {name} tensor {key} holds no plain numbers")
        if isinstance(tensor, Tensor) and tensor.is_floating_point():
            state[key] = tensor.detach().to("cpu", torch.float32)
    return state


def _anchors(value: Any, where: str) -> Tensor:
    if isinstance(value, (str, os.PathLike)):
        where, path = str(value), Path(value)
        value = read_array(path) if path.suffix == ".npy" else read_checkpoint(path).get("anchors_mean")
        if value is None:
            raise InputError(f"{where}: holds no anchors_mean; give the mean anchors as a .npy file (K, 3)")
    try:
        anchors = (
            torch.as_tensor(np.array(value) if not isinstance(value, Tensor) else value)
            .detach()
            .float()
            .cpu()
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{where}: the mean anchors are not an array of numbers ({one_line(error, 160)})"
        ) from error
    while anchors.ndim > 2 and anchors.shape[0] == 1:  # official arrays may be (1, 1, K, 3)
        anchors = anchors[0]
    if anchors.ndim != 2 or anchors.shape[1] != 3 or len(anchors) == 0:
        raise InputError(f"{where}: the mean anchors must have shape (K, 3), got {tuple(anchors.shape)}")
    if not torch.isfinite(anchors).all():
        raise InputError(f"{where}: the mean anchors hold numbers that are not finite")
    return anchors


def _count(state: dict[str, Tensor], pattern: str) -> int:
    """One more than the largest number that `pattern` matches among the names."""
    found = [int(m.group(1)) for m in (re.match(pattern, key) for key in state) if m]
    return max(found) + 1 if found else 0


def _shape(state: dict[str, Tensor], key: str, rank: int, where: str) -> tuple[int, ...]:
    if key not in state:
        raise InputError(f"{where}: tensor {key} is missing")
    shape = tuple(state[key].shape)
    if len(shape) != rank:
        raise InputError(f"{where}: tensor {key} must have {rank} axes, got shape {shape}")
    return shape


def _configs(
    identity: dict[str, Tensor],
    deformation: dict[str, Tensor] | None,
    anchors: Tensor,
    config: dict[str, Any],
    family: Family,
    places: tuple[str, str, str],
) -> tuple[IdentityConfig, DeformationConfig | None]:
    """Sizes from the shapes of a few tensors; the rest is checked against them by `_fill`.

    `places`, of the model and of its two networks, are for messages.
    """
    where, here, there = places
    ensemble = _ENSEMBLE[family]
    if not any(key.startswith(ensemble + ".") for key in identity):
        other = "mononphm" if family == "nphm" else "nphm"
        if any(key.startswith(_ENSEMBLE[other] + ".") for key in identity):
            raise InputError(f"{here}: these are the weights of a model of family {other}, not {family}")
    k = len(anchors)
    anchor_hidden, global_dim = _shape(identity, "mlp_pos.0.weight", 2, here)
    if (found := _shape(identity, "mlp_pos.4.weight", 2, here)[0]) != 3 * k:
        raise InputError(
            f"{here}: tensor mlp_pos.4.weight gives {found} values, but there are {k} mean "
            f"anchors ({3 * k} values)"
        )
    if family == "nphm":
        last = _count(identity, r"ensembled_deep_sdf\.lin(\d+)\.") - 1
        sets, _, input_dim = _shape(identity, f"{ensemble}.lin0.weight", 3, here)
        _, outputs, hidden = _shape(identity, f"{ensemble}.lin{last}.weight", 3, here)
        if outputs != 1:
            raise InputError(
                f"{here}: tensor {ensemble}.lin{last + 1}.weight is missing: the last layer, "
                f"lin{last}, has {outputs} outputs instead of 1"
            )
    else:
        sets = _count(identity, r"deepSDFensemble\.layers\.(\d+)\.")
        last = (_count(identity, r"deepSDFensemble\.layers\.0\.layers\.(\d+)\.") - 1) // 2
        hidden, input_dim = _shape(identity, f"{ensemble}.layers.0.layers.0.weight", 2, here)
    hyper = 0
    compressed = expression = def_hidden = def_last = 0
    if deformation is not None:
        def_last = _count(deformation, r"defDeepSDF\.lin(\d+)\.") - 1
        compressed = _shape(deformation, "compressor.0.weight", 2, there)[0]
        inputs = _shape(deformation, "defDeepSDF.lin0.weight", 2, there)[1]
        outputs, def_hidden = _shape(deformation, f"defDeepSDF.lin{def_last}.weight", 2, there)
        expression = inputs - 3 - compressed
        hyper = outputs - 3
        if (family == "nphm" and hyper != 0) or hyper < 0 or expression < 0:
            raise InputError(
                f"{there}: lin{def_last}.weight gives {outputs} outputs and lin0.weight takes "
                f"{inputs} inputs, which fits no {family} network"
            )
    elif family == "mononphm":
        hyper = _number(config, "n_hyper", DEFAULT_HYPER, where, low=0)
    local = input_dim - 3 - hyper - global_dim
    if local < 0 or not 0 <= k + 1 - sets <= k // 2:
        raise InputError(
            f"{here}: {sets} weight sets of {input_dim} inputs do not fit {k} anchors and a "
            f"global code of {global_dim}"
        )
    try:
        sizes = IdentityConfig(
            anchors=k, pairs=k + 1 - sets, global_dim=global_dim, local_dim=local, hidden=hidden, layers=last,
            anchor_hidden=anchor_hidden, family=family, hyper_dim=hyper,
            neighbours=_number(config, "nneigh", DEFAULT_NEIGHBOURS, where, low=1),
            blend_std=float(_number(config, "blend_std", DEFAULT_BLEND_STD, where, low=1e-6)),
        )  # fmt: skip
        if deformation is None:
            return sizes, None
        return sizes, DeformationConfig(
            code_dim=sizes.code_dim, anchors=k, expression_dim=expression, hidden=def_hidden, layers=def_last,
            compressed_dim=compressed, family=family, hyper_dim=hyper,
        )  # fmt: skip
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _number(config: dict[str, Any], key: str, default: Any, where: str, *, low: float) -> Any:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value < 1e6:
        raise InputError(f"{where}: config {key} must be a number of at least {low}, got {value!r}")
    return type(default)(value)


def _fill(network: torch.nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Copies tensors into a network; others (MonoNPHM's colour branch) are left alone."""
    wanted = network.state_dict()
    for key, parameter in wanted.items():
        if key not in state:
            raise InputError(f"{where}: tensor {key} is missing")
        if state[key].shape != parameter.shape:
            raise InputError(
                f"{where}: tensor {key} has shape {tuple(state[key].shape)}, expected "
                f"{tuple(parameter.shape)}"
            )
        check_tensors({key: state[key]}, where)
    network.load_state_dict({key: state[key] for key in wanted})
    network.requires_grad_(False)
