"""Files that head models come in: the package's folders, official checkpoints, what a download looks like.

Nothing but tensors and NumPy's scalars, which trainings leave beside them, is unpickled.
"""

from __future__ import annotations

import codecs
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetalk.errors import InputError
from facetalk.reading import one_line, read_array, read_json, usable
from facetalk.weights import read_tensors

_NETWORKS = {
    "identity": (("identity", "id_decoder"), "mlp_pos."),
    "deformation": (("deformation", "ex_decoder"), "defDeepSDF."),
}
"""Names of each network in a file that holds both, and what names of its tensors begin with."""
_PICKLES = (".tar", ".pt", ".pth", ".ckpt", ".bin")
_DEPTH = 2  # folders below a downloaded one in which checkpoints lie, such as nphm/checkpoints

# What a pickled NumPy scalar is made of, under the names of NumPy 1 and 2. None of it runs what a file says.
_SCALARS: list[Any] = [
    *((np.int64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    np.dtype, codecs.encode, *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdFD"),
]  # fmt: skip


def read_folder(path: Path) -> dict[str, Any]:
    """The parts of a model folder, or of a folder into which official files were downloaded.

    Raises:
        InputError: it is neither, or a file is damaged.
    """
    if not (path / "identity.safetensors").exists():
        return _read_download(path)
    parts: dict[str, Any] = {"identity": read_checkpoint(path / "identity.safetensors")}
    if (path / "deformation.safetensors").exists():
        parts["deformation"] = read_checkpoint(path / "deformation.safetensors")
    if (path / "config.json").exists():
        parts["config"] = read_json(path / "config.json")
    for name in ("anchors.safetensors", "golden.safetensors"):
        if (path / name).exists() and "anchors" not in parts:
            tensors = read_checkpoint(path / name)
            if "anchors_mean" in tensors:
                parts["anchors"] = tensors["anchors_mean"]
    if "anchors" not in parts and (path / "anchors.npy").exists():
        parts["anchors"] = read_array(path / "anchors.npy")
    return parts


def _read_download(path: Path) -> dict[str, Any]:
    """Checkpoints anywhere in a folder, told apart by their tensors; of a run's epochs the last one."""
    levels = ["*/" * depth for depth in range(_DEPTH + 1)]
    runs: dict[Path, list[Path]] = {}
    for level in levels:
        for file in sorted(path.glob(level + "*")):
            if file.suffix in _PICKLES and file.is_file():
                runs.setdefault(file.parent, []).append(file)
    parts: dict[str, Any] = {}
    origin: dict[str, Path] = {}
    for files in runs.values():
        for file in _last_epochs(files):
            for name, state in _networks(read_checkpoint(file)).items():
                if name in parts:
                    raise InputError(
                        f"{path}: {origin[name].relative_to(path)} and {file.relative_to(path)} both hold a "
                        f"network for the {name}; name the files: identity deformation anchors.npy"
                    )
                parts[name], origin[name] = state, file
    if "identity" not in parts:
        raise InputError(
            f"{path}: identity.safetensors is missing; a model folder has identity.safetensors, "
            f"deformation.safetensors, config.json and anchors.npy, or the official checkpoints"
        )
    anchors = [file for level in levels for file in sorted(path.glob(level + "anchors*.npy"))]
    return parts | _anchors(anchors, path)


def _last_epochs(files: list[Path]) -> list[Path]:
    """Of files whose names differ in one number the one where it is largest; others as they are."""
    last: dict[str, tuple[int, Path]] = {}
    for file in files:
        numbers = re.findall(r"\d+", file.stem)
        key, epoch = re.sub(r"\d+(?=\D*$)", "#", file.stem), int(numbers[-1][:18]) if numbers else -1
        if key not in last or epoch > last[key][0]:
            last[key] = epoch, file
    return [file for _, file in last.values()]


def _anchors(files: list[Path], where: Path) -> dict[str, Any]:
    if len(files) > 1:
        names = ", ".join(str(file.relative_to(where)) for file in files)
        raise InputError(f"{where}: several anchor files ({names}); keep the one that belongs to the model")
    return {"anchors": read_array(files[0])} if files else {}


def read_official(path: Path) -> dict[str, Any]:
    """One file: MonoNPHM's (id_decoder, ex_decoder), a merged file, or a single NPHM network."""
    tensors = read_checkpoint(path)
    parts = _networks(tensors)
    if "identity" not in parts:
        parts["identity"] = tensors.get("decoder_state_dict", tensors)
    if isinstance(tensors.get("anchors_mean"), Tensor):
        return parts | {"anchors": tensors["anchors_mean"]}
    return parts | _anchors(sorted(path.parent.glob("anchors*.npy")), path.parent)


def _networks(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The networks of one file, each by its own name or told by its tensors."""
    parts: dict[str, Any] = {}
    for name, (keys, _) in _NETWORKS.items():
        for key in keys:
            if isinstance(tensors.get(key), Mapping):
                parts[name] = tensors[key]
            inside = {k.removeprefix(key + "."): v for k, v in tensors.items() if k.startswith(key + ".")}
            if inside:
                parts[name] = inside
    if not parts:
        whole = tensors.get("decoder_state_dict", tensors)
        names = strip(whole) if isinstance(whole, Mapping) else {}
        for name, (_, beginning) in _NETWORKS.items():
            if any(key.startswith(beginning) for key in names):
                parts[name] = whole
    return parts


def strip(state: Mapping[str, Any]) -> dict[str, Any]:
    """Names without what wrappers add: torch.compile ``_orig_mod.`` anywhere, DDP ``module.`` in front."""
    names = {str(key): re.sub(r"^(module\.)+", "", str(key).replace("_orig_mod.", "")) for key in state}
    return {names[str(key)]: value for key, value in state.items()}


def _reason(error: pickle.UnpicklingError) -> str:
    """Why torch did not read a file, without its advice to read it unsafely or to allow what it holds."""
    text, told, rest = str(error).partition("WeightsUnpickler error:")
    text = rest if told else text.partition("\n\n")[2] or text
    return one_line(ValueError(text.partition("\n\nCheck the")[0].partition(". Please")[0]), 160)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a .safetensors file or a pickle of tensors holds, by name.

    Raises:
        InputError: no such file, a damaged one, or one with more than tensors and NumPy's scalars.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.suffix == ".safetensors":
        return dict(read_tensors(path))
    with usable(path, "not a readable checkpoint, perhaps cut off or corrupt"):
        try:
            with torch.serialization.safe_globals(_SCALARS), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the pickle's protocol, to be told to torch's authors
                content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise InputError(
                f"{path}: not a readable checkpoint, perhaps corrupt, or it holds more than tensors, "
                f"which is not unpickled ({_reason(error)})"
            ) from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}")
    return {str(name): value for name, value in content.items()}
