"""Where the models that travel with the package are, and how a model folder is found and checked."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from facetalk.errors import InputError

_FORMAT = "facetalk-model"
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Contents of a model folder's ``config.json``.

    Attributes:
        folder: the folder itself; it holds ``head/``, ``audio/`` and ``motion/``.
        name: name of the model.
        fps: motion frame rate.
        bounds: head-space box ((x0, y0, z0), (x1, y1, z1)) of extraction and facial smoothing.
        mouth_centre: centre C of the facial smoothing, head space (FaceTalk, section on facial smoothing).
        mouth_sigma: standard deviations of its Gaussian along x, y, z, head space.
        temporal_sigma: standard deviation of the temporal Gaussian in seconds; 0 switches it off.
    """

    folder: Path
    name: str
    fps: float
    bounds: tuple[tuple[float, float, float], tuple[float, float, float]]
    mouth_centre: tuple[float, float, float]
    mouth_sigma: tuple[float, float, float]
    temporal_sigma: float


def builtin_models() -> list[str]:
    """Names of the models inside the package."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/config.json"))


def find_model(name_or_path: str | os.PathLike[str]) -> ModelConfig:
    """Find a model by the name of a built-in one or by its folder and read its configuration.

    Raises:
        InputError: no such model, or its config.json is missing, damaged, or of another kind.
    """
    builtin = Path(__file__).parent / str(name_or_path)
    folder = builtin if str(name_or_path) in builtin_models() else Path(name_or_path)
    if not folder.is_dir():
        known = ", ".join(builtin_models())
        raise InputError(f"no model {str(name_or_path)!r}: neither a folder nor one of {known}")
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder} is not a model folder: it has no config.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError(f"{path} does not describe a facetalk model (format is not {_FORMAT!r})")
    if content.get("version") != _VERSION:
        raise InputError(f"{path} has version {content.get('version')!r}; this facetalk reads {_VERSION}")
    return _parse(folder, path, content)


def _parse(folder: Path, path: Path, content: dict[str, Any]) -> ModelConfig:
    def triple(value: Any) -> tuple[float, float, float]:
        x, y, z = (float(v) for v in value)
        return x, y, z

    try:
        geometry = content["geometry"]
        low, high = geometry["bounds"]
        return ModelConfig(
            folder=folder,
            name=str(content["name"]),
            fps=float(content["fps"]),
            bounds=(triple(low), triple(high)),
            mouth_centre=triple(geometry["mouth_centre"]),
            mouth_sigma=triple(geometry["mouth_sigma"]),
            temporal_sigma=float(geometry["temporal_sigma"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} lacks or misstates an entry: {error!r}") from error
