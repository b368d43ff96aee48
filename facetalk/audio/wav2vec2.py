"""Loading Wav2Vec 2.0 models, with one line for what transformers would say in many."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import torch

from facetalk.errors import InputError

#: Keys of a checkpoint that the features do not depend on.
_UNUSED_KEYS = ("masked_spec_embed", "adapter.")


def load_wav2vec2(source: str | os.PathLike[str]) -> tuple[Any, dict[str, Any]]:
    """Load a ``transformers.Wav2Vec2Model`` and the settings of its preprocessor.

    Args:
        source: model folder, or a name on the Hugging Face hub.

    Raises:
        InputError: it is not a Wav2Vec 2.0 model, or is incomplete or damaged.
    """
    _check_folder(source)
    return _load_model(source), _preprocessor(source)


def _check_folder(source: str | os.PathLike[str]) -> None:
    """Say in one line what transformers would say in many."""
    path = Path(source)
    if not path.exists():
        looks_local = path.is_absolute() or str(source).startswith((".", "~")) or str(source).count("/") != 1
        if looks_local:
            raise InputError(
                f"{source}: no such folder; give a Wav2Vec 2.0 model folder or a hub name like 'owner/name'"
            )
        return
    if not path.is_dir():
        raise InputError(f"{source} is a file; give the folder of a Wav2Vec 2.0 model")
    config = path / "config.json"
    if not config.is_file():
        raise InputError(f"{source}: no config.json there, so it is not a Wav2Vec 2.0 model folder")
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        kind = content.get("model_type")
    except (ValueError, OSError, AttributeError) as error:
        raise InputError(f"{config}: damaged ({_one_line(error)})") from error
    if kind != "wav2vec2":
        raise InputError(
            f"{source}: holds a {kind!r} model; facetalk needs Wav2Vec 2.0 (model_type 'wav2vec2')"
        )


def _load_model(source: str | os.PathLike[str]) -> Any:
    from transformers import Wav2Vec2Model
    from transformers.utils import logging as transformers_logging

    # Their report of unused keys is pages long; what matters of it is raised below.
    logger, bars = (
        transformers_logging.get_logger("transformers"),
        transformers_logging.is_progress_bar_enabled(),
    )
    before = logger.level
    logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        loaded: Any = Wav2Vec2Model.from_pretrained(
            str(source), output_loading_info=True, dtype=torch.float32
        )
    except Exception as error:  # transformers, safetensors and the hub raise their own unrelated kinds
        where = (
            "damaged or incomplete" if Path(source).is_dir() else "neither a folder nor reachable on the hub"
        )
        raise InputError(f"{source}: {where} ({_one_line(error)[:160]})") from error
    finally:
        logger.setLevel(before)
        if bars:
            transformers_logging.enable_progress_bar()
    model, report = loaded
    missing = sorted(k for k in report["missing_keys"] if not any(part in k for part in _UNUSED_KEYS))
    if missing or report.get("mismatched_keys"):
        names = ", ".join(missing[:3]) or "sizes differ"
        raise InputError(
            f"{source}: {len(missing) or 'some'} weights are missing or do not fit the configuration "
            f"({names})"
        )
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError(f"{source}: weight {name} is not finite; the file is damaged")
    return model


def _preprocessor(source: str | os.PathLike[str]) -> dict[str, Any]:
    """The preprocessor's settings; empty where there are none (Wav2Vec 2.0's own default is to normalise)."""
    path = Path(source) / "preprocessor_config.json"
    if not Path(source).is_dir():
        try:
            from transformers.utils.hub import cached_file

            found = cached_file(
                str(source), "preprocessor_config.json", _raise_exceptions_for_missing_entries=False
            )
        except (OSError, ValueError):
            return {}
        path = Path(found) if found else path
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: damaged ({_one_line(error)})") from error
    return content if isinstance(content, dict) else {}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
