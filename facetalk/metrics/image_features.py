"""Features of mouth pictures that image distances compare: a small autoencoder's, or Inception's."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from facetalk.ambient import loading
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.reading import read_settings, usable, written_by
from facetalk.weights import check_tensors, read_tensors, write_tensors

CROP_SIZE = 64
"""Height and width in pixels of the pictures that the autoencoder reads."""
FEATURES = 64
_WIDTHS = (16, 32, 64, 64)
_FORMAT, _VERSION = "facetalk-mouth-features", 1
_WEIGHTS, _SETTINGS = "weights.safetensors", "settings.json"
_BUILT_IN = Path(__file__).resolve().parents[1] / "models" / "mouth_features"


class MouthFeatures(nn.Module):
    """Encoder of a convolutional autoencoder that was trained on renders of truth.

    Its 64 features have mean 0 and variance 1 over those renders, so that a Frechet distance counts in units
    of truth's own variance.
    """

    name = "mouth-ae"
    num_features = FEATURES
    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *_WIDTHS[:-1]), _WIDTHS, strict=True):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.GELU()]
        side = CROP_SIZE // 2 ** len(_WIDTHS)
        self.encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear(_WIDTHS[-1] * side * side, FEATURES))
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))

    def encode(self, pictures: Tensor) -> Tensor:
        """(N, 3, 64, 64) uint8 or float in 0 to 255 -> (N, 64) codes as the decoder reads them."""
        codes: Tensor = self.encoder(pictures.float() / 127.5 - 1.0)
        return codes

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 -> (N, 64) standardised features; other sizes are resampled to 64 x 64."""
        if pictures.shape[-2:] != (CROP_SIZE, CROP_SIZE):
            pictures = nn.functional.interpolate(
                pictures.float(), size=(CROP_SIZE, CROP_SIZE), mode="bicubic", antialias=True
            ).clamp(0.0, 255.0)
        return (self.encode(pictures) - self.mean) / self.scale

    @classmethod
    @loading
    def from_pretrained(cls, folder: str | os.PathLike[str] | None = None) -> MouthFeatures:
        """Load the features that travel with the package, or those ``facetalk train mouth-features`` wrote.

        Args:
            folder: None for the built-in ones.

        Raises:
            InputError: the folder holds no such features, or a file of it is missing or damaged.
        """
        folder = _BUILT_IN if folder is None else Path(folder)
        if not (folder / _SETTINGS).is_file():
            raise InputError(f"{folder / _SETTINGS} is missing; {folder} holds no mouth features")
        with usable(f"the mouth features in {folder}", "fetch them again"):
            read_settings(folder / _SETTINGS, _FORMAT, _VERSION)
            tensors = read_tensors(folder / _WEIGHTS)
            check_tensors(tensors, folder / _WEIGHTS)
            module = cls()
            module.load_state_dict({name: value.float() for name, value in tensors.items()})
        return module.eval()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write weights (float16) and settings; features that are there are replaced.

        Raises:
            InputError: the place cannot be written, or holds something else.
        """
        tensors = {k: v.detach().cpu().half().contiguous() for k, v in self.state_dict().items()}
        settings = {"format": _FORMAT, "version": _VERSION, "name": self.name, "size": CROP_SIZE}
        ours = written_by(_SETTINGS, _FORMAT, (_SETTINGS, _WEIGHTS))
        with atomic_path(folder, directory=True, ours=ours) as temporary:
            write_tensors(temporary / _WEIGHTS, tensors)
            (temporary / _SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


class Mirror(nn.Module):
    """Decoder of the autoencoder; only its training needs it."""

    def __init__(self) -> None:
        super().__init__()
        self.side = CROP_SIZE // 2 ** len(_WIDTHS)
        self.first = nn.Linear(FEATURES, _WIDTHS[-1] * self.side**2)
        layers: list[nn.Module] = []
        back = (*reversed(_WIDTHS), 3)
        for before, after in itertools.pairwise(back):
            layers += [nn.GELU(), nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, codes: Tensor) -> Tensor:
        """(N, 64) -> (N, 3, 64, 64) in -1 to 1."""
        pictures: Tensor = self.layers(self.first(codes).view(len(codes), -1, self.side, self.side))
        return pictures
