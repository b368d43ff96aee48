"""Where the models that travel with the package are, and how a model folder is found and checked."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

from facetalk.errors import InputError
from facetalk.mesh.smoothing import FacialSmoothing
from facetalk.reading import one_line, read_json

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
    content = read_json(path)
    if content.get("format") != _FORMAT:
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
        config = ModelConfig(
            folder=folder,
            name=str(content["name"]),
            fps=float(content["fps"]),
            bounds=(triple(low), triple(high)),
            mouth_centre=triple(geometry["mouth_centre"]),
            mouth_sigma=triple(geometry["mouth_sigma"]),
            temporal_sigma=float(geometry["temporal_sigma"]),
        )
        if not 1.0 <= config.fps <= 1000.0:
            raise ValueError(f"fps must lie in 1..1000, got {config.fps:g}")
        if not 0.0 <= config.temporal_sigma <= 60.0:
            raise ValueError(f"temporal_sigma must lie in 0..60 s, got {config.temporal_sigma:g}")
        if not all(math.isfinite(x) and abs(x) <= 100.0 for corner in config.bounds for x in corner):
            raise ValueError(f"bounds must lie within 100 head units, got {config.bounds}")
        FacialSmoothing(config.mouth_centre, config.mouth_sigma, config.bounds)  # checks the rest
        return config
    except KeyError as error:
        raise InputError(f"{path} lacks the entry {error}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path} misstates an entry: {one_line(error)}") from error
