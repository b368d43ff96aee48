"""What tests of several folders share: golden data, small random models, a small morphable head."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

# A shell starts background jobs with Ctrl-C ignored, and Python leaves it so; tests of interruptions need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Helpers are plain modules in a folder of their own; pytest's importlib mode leaves sys.path alone.
sys.path.insert(0, str(Path(__file__).parent / "helpers"))

from golden import GOLDEN, Golden
from morphable import fields

from facetalk.nphm import NPHM
from facetalk.nphm.networks import DeformationConfig, DeformationNetwork, IdentityConfig, IdentityNetwork


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


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Baked identities of tests go nowhere near the user's cache."""
    os.environ["FACETALK_CACHE"] = str(tmp_path_factory.mktemp("cache"))


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


@pytest.fixture(scope="session")
def synthetic_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a packed morphable head of a few hundred vertices."""
    path = tmp_path_factory.mktemp("synthetic") / "head.npz"
    np.savez(path, **fields())
    return path
