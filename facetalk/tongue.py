"""A tongue for speech: audio features in, weights of the tongue's shapes out.

A small network reads, frame by frame, how nearly the tip is at the ridge and between the teeth
(:data:`facetalk.data.tongue.CONTACTS`) from the features that the motion model hears too, so it may be heard
as late and as early as that. What brings the tip there depends on the jaw, and so on the expression codes of
the frame: :class:`facetalk.nphm.head.tongue.Reach`. It is an optional part of a model, ``tongue/``.
``csrc/cpu/network/tongue.cpp`` and ``csrc/cpu/head/tongue.cpp`` do the same for the C library.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetalk.arrays import Float32
from facetalk.data.tongue import CONTACTS
from facetalk.errors import InputError
from facetalk.feature_space import check_space
from facetalk.files import atomic_path
from facetalk.nphm.head.tongue import Reach
from facetalk.reading import read_json, read_settings, usable
from facetalk.tensors import check_arrays, read_safetensors, tensor_bytes

__all__ = ["FOLDER", "Tongue", "TongueNetwork"]

FOLDER = "tongue"
"""Where a model has it."""
_FORMAT, _VERSION = "facetalk-tongue", 1
_FILES = ("config.json", "model.safetensors")
_SURE = (0.08, 0.85)
"""Outputs of the network that count as no contact and as a whole one: a tip that rests does not tremble."""


@dataclass(frozen=True)
class TongueNetwork:
    """Two layers: ``sigmoid(W2 silu(W1 x + b1) + b2)``, the scaling of the features being in the first.

    Attributes:
        w1, b1: (H, A) and (H,) float32.
        w2, b2: (2, H) and (2,) float32.
    """

    w1: Float32
    b1: Float32
    w2: Float32
    b2: Float32

    def __post_init__(self) -> None:
        """Check that the layers fit."""
        hidden = len(self.b1)
        shapes = (self.w1.shape[:1], self.w2.shape, self.b2.shape)
        if self.w1.ndim != 2 or shapes != ((hidden,), (len(CONTACTS), hidden), (len(CONTACTS),)):
            raise ValueError("the layers of the tongue's network do not fit")

    @property
    def feature_dim(self) -> int:
        """Values A of an audio feature."""
        return self.w1.shape[1]

    def check_width(self, given: object, what: object = "the model's tongue") -> None:
        """Refuse an audio encoder that it was not trained with.

        Args:
            given: values of the encoder's features.
            what: how the tongue is called in the message.

        Raises:
            InputError: they are not ``feature_dim``; in the C library's words.
        """
        if given != self.feature_dim:
            raise InputError(
                f"{what} takes {self.feature_dim} audio features a frame, the encoder gives {given}; "
                f"train it again with facetalk train tongue"
            )

    def __call__(self, features: Float32) -> Float32:
        """Contacts (T, 2) in [0, 1] of audio features (T, A); a row is a function of its feature alone.

        Raises:
            InputError: the features are of another width, and so of another encoder.
        """
        self.check_width(features.shape[-1])
        hidden = features @ self.w1.T + self.b1
        hidden = hidden / (1.0 + np.exp(-hidden.clip(-60.0, 60.0)))
        odds = (hidden @ self.w2.T + self.b2).clip(-60.0, 60.0)
        low, high = _SURE
        return ((1.0 / (1.0 + np.exp(-odds)) - low) / (high - low)).clip(0.0, 1.0).astype(np.float32)

    def save(self, folder: Path, notes: dict[str, object]) -> None:
        """Write the folder, replacing an older one of its kind.

        Raises:
            InputError: it cannot be written, or holds something else.
        """
        config = {"format": _FORMAT, "version": _VERSION, "feature_dim": self.feature_dim, **notes}
        halves: dict[str, NDArray[np.float16]] = {
            name: value.astype(np.float16) for name, value in vars(self).items()
        }
        with atomic_path(folder, directory=True, ours=_is_ours) as scratch:
            (scratch / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
            (scratch / "model.safetensors").write_bytes(tensor_bytes(halves, {"format": _FORMAT}))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> TongueNetwork:
        """Read a folder.

        Raises:
            InputError: it is none, or damaged.
        """
        folder = Path(folder)
        with usable(f"the tongue in {folder}", "train it again with facetalk train tongue"):
            config = read_settings(folder / "config.json", _FORMAT, _VERSION)
            arrays = read_safetensors(folder / "model.safetensors")
            check_arrays(arrays, folder / "model.safetensors")
            network = cls(*(arrays[name].astype(np.float32) for name in cls.__dataclass_fields__))
            if network.feature_dim != config.get("feature_dim"):
                raise ValueError("w1 does not fit the feature_dim of config.json")
            return network


def _is_ours(folder: Path) -> bool:
    return {entry.name for entry in folder.iterdir()} <= set(_FILES)


@dataclass(frozen=True)
class Tongue:
    """The tongue of a model: its network, and the mouth that it moves in."""

    network: TongueNetwork
    reach: Reach

    @classmethod
    def of(cls, model: Path, reach: Reach | None) -> Tongue | None:
        """That of a model folder; None of one that has none, or whose head has no tongue.

        Raises:
            InputError: its files are damaged or belong to another audio encoder, whether or not the head has
                a tongue; the C library refuses such a model, too.
        """
        if not (model / FOLDER).is_dir():
            return None
        network = TongueNetwork.load(model / FOLDER)
        # From its settings, since a model that the C library runs loads no encoder here, and no torch. Where
        # they do not say, Wav2Vec 2.0 has the width of its paper.
        width = read_json(model / "audio/config.json").get("hidden_size", 768)
        network.check_width(width, model / FOLDER)
        check_space(model, FOLDER)
        return None if reach is None else cls(network, reach)
