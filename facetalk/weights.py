"""Tensors in files: safetensors in and out, checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from facetalk.errors import InputError
from facetalk.interrupts import Uninterrupted
from facetalk.reading import usable

Module = TypeVar("Module", bound=nn.Module)

LARGEST = 1e6
"""No trained network has a weight near it; beyond, products of a few layers overflow."""
_MAX_SIZE, _MAX_LAYERS = 1 << 17, 256


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, on the CPU.

    Raises:
        InputError: no such file, or a damaged one.
    """
    with usable(path, "fetch it again"):
        if not Path(path).is_file():
            raise InputError(f"{path} is missing")
        # In Ctrl-C it sees a damaged tensor.
        with Uninterrupted():
            return dict(safetensors.torch.load_file(path, device="cpu"))


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a .safetensors file with the mode that other new files have.

    The library's own writer makes files that only their owner may read, and tells of a full disk by an error
    that is no ``OSError``.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with open(path, "wb") as file:
        file.write(safetensors.torch.save(plain, metadata=metadata))


def check_tensors(tensors: Mapping[str, Tensor], where: object) -> None:
    """Refuse weights that no training gives and that make nothing but NaN.

    Raises:
        InputError: a number is not finite, or larger than ``LARGEST``; the message names the tensor.
    """
    for name, value in tensors.items():
        if not value.is_floating_point() or not value.numel():
            continue
        largest = value.detach().abs().max().float()
        if not bool(torch.isfinite(largest)):
            raise InputError(f"{where}: tensor {name} holds numbers that are not finite; the file is damaged")
        if float(largest) > LARGEST:
            raise InputError(
                f"{where}: tensor {name} holds {float(largest):.3g}, too large for a weight; the file is "
                f"damaged"
            )


def check_sizes(config: Mapping[str, Any], where: object) -> None:
    """Refuse settings of a network that would take forever, or all memory, to build.

    Raises:
        InputError: a size is absurd; the message names it.
    """
    for name, value in config.items():
        values = value if isinstance(value, list | tuple) else [value]
        if len(values) > _MAX_LAYERS:
            raise InputError(f"{where}: {name} has {len(values)} entries")
        for entry in values:
            if isinstance(entry, int) and not -1 <= entry <= _MAX_SIZE:
                raise InputError(f"{where}: {name} is {entry}, no size of a network")
            if isinstance(entry, int) and entry > _MAX_LAYERS and "layers" in name:
                raise InputError(f"{where}: {name} is {entry}, at most {_MAX_LAYERS} are possible")


def build_for(make: Callable[[], Module], tensors: Mapping[str, Tensor], where: object) -> Module:
    """A network for the tensors of a file; one whose sizes do not fit is refused before its memory is taken.

    Args:
        make: builds it.
        tensors: what it is for, perhaps with others.
        where: file or folder, for the message.

    Raises:
        InputError: its parameters do not fit into the file's.
    """
    with torch.device("meta"):
        wanted = sum(value.numel() for value in make().parameters())
    held = sum(value.numel() for value in tensors.values())
    if wanted > held:
        raise InputError(f"{where}: the settings ask for {wanted} weights, the file has {held}")
    return make()
