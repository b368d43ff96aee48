"""The head of a model folder, of whichever kind it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facetalk.arrays import Float32
from facetalk.errors import InputError
from facetalk.nphm.head.head import HeadModel
from facetalk.optional import needed_for
from facetalk.reading import read_json
from facetalk.tensors import read_safetensors

if TYPE_CHECKING:
    from facetalk.nphm.plain_head import PlainHead

__all__ = ["mean_landmarks", "open_head"]

_DEFAULT = Path(__file__).parent / "default" / "head" / "landmarks.safetensors"


def mean_landmarks() -> Float32:
    """(68, 3) landmarks of the built-in mean head, head space."""
    return np.asarray(read_safetensors(_DEFAULT)["landmarks_mean"], np.float32)


def open_head(folder: Path) -> HeadModel | PlainHead:
    """A head with a rig, or any NPHM that ``facetalk convert`` wrote.

    Raises:
        InputError: the folder is neither, or a file of it is damaged, or there is no torch for an NPHM.
    """
    path = folder / "config.json"
    if path.is_file() and read_json(path).get("format") == "facetalk-nphm":
        with needed_for(f"{folder}: an NPHM"):
            from facetalk.nphm.plain_head import PlainHead
        return PlainHead.open(folder, mean_landmarks())
    return HeadModel.open(folder)


def with_rig(head: HeadModel | PlainHead, folder: Path) -> HeadModel:
    """A head whose numbers have names.

    Raises:
        InputError: it is another.
    """
    if isinstance(head, HeadModel):
        return head
    raise InputError(
        f"{folder}: its head is an NPHM, whose {head.expression_dim} numbers of a code have no names and no "
        f"rig; this needs a head that `facetalk train nphm` makes"
    )
