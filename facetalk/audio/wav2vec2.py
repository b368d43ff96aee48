"""Loading Wav2Vec 2.0 models, with one line for what transformers would say in many.

The files are read here and handed to transformers as settings and tensors: nothing is looked up on a network,
and no file is read that lies outside the folder. Hugging Face is asked for a model that is written
``hf:owner/name``, and for no other.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facetalk.ambient import loading
from facetalk.errors import InputError
from facetalk.reading import one_line, read_json, usable
from facetalk.tensors import check_sizes
from facetalk.weights import check_tensors, read_tensors

HUB = "hf:"
"""What a name on the Hugging Face hub starts with."""

#: Keys of a checkpoint that the features do not depend on.
_UNUSED_KEYS = ("masked_spec_embed", "adapter.")
_FILES = ("config.json", "preprocessor_config.json", "model*.safetensors*", "pytorch_model*.bin*")
_CONTEXT_LIMIT = 16_000


@loading
def load_wav2vec2(source: str | os.PathLike[str]) -> tuple[Any, dict[str, Any]]:
    """Load a ``transformers.Wav2Vec2Model`` and the settings of its preprocessor.

    Args:
        source: model folder, or ``hf:owner/name``.

    Raises:
        InputError: it is not a Wav2Vec 2.0 model, or is incomplete or damaged.
    """
    folder = _download(str(source)) if str(source).startswith(HUB) else Path(source)
    if not folder.exists():
        raise InputError(
            f"{source}: no such folder; give a Wav2Vec 2.0 model folder, or hf:owner/name for the hub"
        )
    if not folder.is_dir():
        raise InputError(f"{source} is a file; give the folder of a Wav2Vec 2.0 model")
    if not (folder / "config.json").is_file():
        raise InputError(f"{source}: no config.json there, so it is not a Wav2Vec 2.0 model folder")
    return _build(folder, _settings(folder)), _preprocessor(folder)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name.removeprefix(HUB), allow_patterns=list(_FILES)))
    except Exception as error:  # the hub's client raises its own and its libraries' unrelated kinds
        raise InputError(f"{name}: not reachable on the hub ({one_line(error)[:160]})") from error


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    content: dict[str, Any] = read_json(path)
    if content.get("model_type") != "wav2vec2":
        raise InputError(
            f"{folder}: holds a {content.get('model_type')!r} model; facetalk needs Wav2Vec 2.0 (model_type "
            f"'wav2vec2')"
        )
    check_sizes(content, path)
    with usable(path):
        kernels, strides = content.get("conv_kernel", [10]), content.get("conv_stride", [5])
        if not all(isinstance(n, int) and n >= 1 for n in (*kernels, *strides)):
            raise ValueError("conv_kernel and conv_stride must be whole numbers of at least 1")
        if math.prod(strides) > _CONTEXT_LIMIT or math.prod(kernels) > 10**9:
            raise ValueError("a frame of the feature extractor would be longer than a second")
        span = content.get("attention_span_s")
        if span is not None and not 0.0 < float(span) <= 1000.0:
            raise ValueError(f"attention_span_s must lie in (0, 1000] s, got {span!r}")
    return content


def _tensors(folder: Path) -> dict[str, Tensor]:
    """All weights of a folder, in one file or in several with an index."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return _read(folder / name)
        index = folder / f"{name}.index.json"
        if not index.is_file():
            continue
        with usable(index):
            files = sorted({str(file) for file in read_json(index)["weight_map"].values()})
            tensors: dict[str, Tensor] = {}
            for file in files:
                if Path(file).name != file or file in ("", ".."):
                    raise InputError(f"{index}: names {file!r}, a file outside this folder")
                tensors |= _read(folder / file)
            return tensors
    raise InputError(
        f"{folder}: neither model.safetensors nor pytorch_model.bin there; fetch the model again"
    )


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_tensors(path)
    with usable(path, "fetch the model again"):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise InputError(
                f"{path}: holds more than tensors, or is damaged; it is not unpickled"
            ) from error
        if not isinstance(content, Mapping):
            raise ValueError(f"a {type(content).__name__} instead of named tensors")
        return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def _build(folder: Path, settings: dict[str, Any]) -> Any:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    tensors = _tensors(folder)
    check_tensors(tensors, folder)
    # What would make transformers look for other files or other code.
    for key in (
        "auto_map",
        "quantization_config",
        "transformers_weights",
        "_name_or_path",
        "torch_dtype",
        "dtype",
    ):
        settings.pop(key, None)
    with usable(folder, "fetch the model again"), _quiet():
        config = Wav2Vec2Config.from_dict(settings)
        with torch.device("meta"):
            wanted = sum(value.numel() for value in Wav2Vec2Model(config).parameters())
        held = sum(value.numel() for value in tensors.values())
        if wanted > 2 * held + 100_000:
            raise ValueError(f"the settings ask for {wanted} weights, the files have {held}")
        loaded: Any = Wav2Vec2Model.from_pretrained(
            None, config=config, state_dict=tensors, output_loading_info=True, dtype=torch.float32,
            local_files_only=True,
        )  # fmt: skip
    model, report = loaded
    missing = sorted(k for k in report["missing_keys"] if not any(part in k for part in _UNUSED_KEYS))
    if missing or report.get("mismatched_keys"):
        names = ", ".join(missing[:3]) or "sizes differ"
        raise InputError(
            f"{folder}: {len(missing) or 'some'} weights are missing or do not fit the configuration "
            f"({names})"
        )
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' report of unused keys, which is pages long; what matters of it is raised here."""
    from transformers.utils import logging as transformers_logging

    logger, bars = (
        transformers_logging.get_logger("transformers"),
        transformers_logging.is_progress_bar_enabled(),
    )
    before = logger.level
    logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(before)
        if bars:
            transformers_logging.enable_progress_bar()


def _preprocessor(folder: Path) -> dict[str, Any]:
    """The preprocessor's settings; empty where there are none (Wav2Vec 2.0's own default is to normalise)."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return {}
    content: dict[str, Any] = read_json(path)
    floor = content.get("variance_floor", 0.0)
    if isinstance(floor, bool) or not isinstance(floor, int | float) or not 0.0 <= floor <= 1.0:
        raise InputError(f"{path}: variance_floor must lie in 0..1, got {floor!r}")
    return content
