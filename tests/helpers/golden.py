"""Golden data of the official networks."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from facetalk.nphm import NPHM, load_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"


class Golden:
    """One folder of golden data: the model, and its arrays as attributes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mono = "mono" in folder.name
        self.family = "mononphm" if self.mono else "nphm"
        self.model: NPHM = load_checkpoint(folder, family=self.family)
        self.arrays = load_file(folder / "golden.safetensors")

    def __getattr__(self, name: str) -> torch.Tensor:
        return self.arrays[name]

    @property
    def canonical_points(self) -> torch.Tensor:
        return self.arrays["points_can" if self.mono else "points"]
