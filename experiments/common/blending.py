"""The mean of two networks' weights, of which the second was taught on from the first."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from facetalk.errors import InputError


def parser(module: str, description: str | None, what: str) -> argparse.ArgumentParser:
    """``BEFORE AFTER --share S --out X`` of ``python -m module``; ``what`` the folders hold."""
    made = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    made.add_argument("before", type=Path, help=f"folder of the {what} that training began from")
    made.add_argument("after", type=Path, help=f"folder of the {what} that came of it")
    made.add_argument("--share", type=float, required=True, help="of the second, 0 to 1")
    made.add_argument("--out", type=Path, required=True, help="folder to write; must not be there")
    return made


def require_new(out: Path) -> None:
    """Refuse a place where something is.

    Raises:
        InputError: there is.
    """
    if out.exists():
        raise InputError(f"{out} is there already; name another --out")


def mean_weights(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], share: float, what: str
) -> dict[str, Tensor]:
    """``(1 - share)`` times the weights of ``before`` and ``share`` times those of ``after``, in double.

    Raises:
        InputError: they have other shapes, or the share lies outside 0 to 1.
    """
    if not 0.0 <= share <= 1.0:
        raise InputError(f"the share must lie in 0..1, got {share:g}")
    if {name: value.shape for name, value in before.items()} != {k: v.shape for k, v in after.items()}:
        raise InputError(f"the {what}s have other shapes; blend one with what it was trained on from")
    return {name: torch.lerp(before[name].double(), after[name].double(), share) for name in after}
