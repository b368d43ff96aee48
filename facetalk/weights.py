"""Tensors in files: safetensors in and out, checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from facetalk.errors import InputError
from facetalk.interrupts import Uninterrupted
from facetalk.reading import usable
from facetalk.tensors import check_arrays

Module = TypeVar("Module", bound=nn.Module)


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
        InputError: a number is not finite, or larger than any weight; the message names the tensor.
    """
    arrays = {
        name: (value if value.dtype == torch.float64 else value.float()).detach().cpu().numpy()
        for name, value in tensors.items()
        if value.is_floating_point()
    }
    check_arrays(arrays, where)


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
