"""Golden data of the official networks, and small random models."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from facetalk.nphm import NPHM, load_checkpoint
from facetalk.nphm.networks import DeformationConfig, DeformationNetwork, IdentityConfig, IdentityNetwork

GOLDEN = Path(__file__).parents[2] / "golden"


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


@pytest.fixture(scope="session", params=["nphm_tiny", "mononphm_tiny", "nphm_official"])
def golden(request: pytest.FixtureRequest) -> Golden:
    """The official sizes are 19 MB, so they are not part of the repository; FACETALK_GOLDEN names their
    folder.
    """
    folder = GOLDEN / request.param
    if not folder.exists():
        folder = Path(os.environ.get("FACETALK_GOLDEN", "")) / request.param
    if not (folder / "golden.safetensors").exists():
        pytest.skip(f"{request.param}: set FACETALK_GOLDEN to the folder that holds it")
    return Golden(folder)


@pytest.fixture(scope="session", params=["nphm_tiny", "mononphm_tiny"])
def tiny(request: pytest.FixtureRequest) -> Golden:
    return Golden(GOLDEN / request.param)


ModelFactory = Callable[..., NPHM]


@pytest.fixture(scope="session")
def make_model() -> ModelFactory:
    """Random models of any size, scaled so that fields and offsets vary as a head's do."""

    def make(
        seed: int = 0, *, family: str = "nphm", deformation: bool = True, layers: int = 2, **sizes: int
    ) -> NPHM:
        torch.manual_seed(seed)
        defaults = {
            "anchors": 7, "pairs": 2, "global_dim": 5, "local_dim": 3, "hidden": 19, "anchor_hidden": 11
        }  # fmt: skip
        hyper = 2 if family == "mononphm" else 0
        if hyper:
            defaults |= {"hyper_dim": hyper, "neighbours": 5, "blend_std": 2.5}
        config = IdentityConfig(**{**defaults, **sizes}, layers=layers, family=family)
        identity = IdentityNetwork(config, torch.rand(config.anchors, 3) - 0.5)
        moves = None
        if deformation:
            moves = DeformationNetwork(
                DeformationConfig(
                    code_dim=config.code_dim,
                    anchors=config.anchors,
                    expression_dim=4,
                    hidden=23,
                    layers=layers,
                    compressed_dim=6,
                    family=family,
                    hyper_dim=hyper,
                )
            )
        with torch.no_grad():
            for network in (identity, moves):
                for parameter in network.parameters() if network is not None else ():
                    parameter.mul_(2.0)
            for parameter in identity.mlp_pos[4].parameters():
                parameter.mul_(0.1)  # anchors stay near their means, among the points
            if moves is not None:
                last = getattr(moves.defDeepSDF, f"lin{layers}")
                last.weight.mul_(0.05)
                last.bias.mul_(0.1)
        for network in (identity, moves):
            if network is not None:
                network.requires_grad_(False)
        return NPHM(identity, moves)

    return make
