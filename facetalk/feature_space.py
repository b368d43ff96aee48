"""Whose features the parts of a model give and take.

Features of equal width may mean different things. Encoders whose features mean the same have the same name of
them, ``feature_space`` (:attr:`facetalk.audio.AudioEncoder.feature_space`), and what is trained on features
keeps it: the motion model in its notes, the tongue and the adapter for Whisper in their settings. Parts from
before features had names say nothing, and are believed. ``csrc/capi/model.cpp`` says the same.
"""

from __future__ import annotations

from pathlib import Path

from facetalk.errors import InputError
from facetalk.reading import read_json

__all__ = ["check_space", "differ", "space_of", "told_by"]

_STRANGER = {
    "motion": ("was trained on", "give the encoder that it was trained with"),
    "tongue": ("was trained on", "train it again with facetalk train tongue"),
    "whisper": ("gives", "train it again with facetalk train whisper"),
}


def differ(one: object, other: object) -> bool:
    """Whether two names say that features are not the same; who says none says nothing."""
    return isinstance(one, str) and isinstance(other, str) and "" not in (one, other) and one != other


def told_by(part: Path) -> str | None:
    """The name in a part's settings, of its encoder, motion model, tongue or adapter; None: it says none.

    Raises:
        InputError: the settings are damaged.
    """
    path = part / "config.json"
    content = read_json(path) if path.is_file() else {}
    place = content.get("notes") if "expression_names" in content else content
    name = place.get("feature_space") if isinstance(place, dict) else None
    return name if isinstance(name, str) and name else None


def space_of(model: Path) -> str | None:
    """That of a model folder's features, by its encoder, or else by what its motion was trained on.

    Raises:
        InputError: settings are damaged.
    """
    return told_by(model / "audio") or told_by(model / "motion")


def check_space(model: Path, part: str) -> None:
    """Refuse a part that gives or takes the features of another encoder than a model's own.

    Args:
        model: the model's folder.
        part: ``"motion"``, ``"tongue"`` or ``"whisper"``, its folder there.

    Raises:
        InputError: it does, in the C library's words; or settings are damaged.
    """
    if differ(told_by(model / part), space_of(model)):
        does, advice = _STRANGER[part]
        raise InputError(
            f"{model / part} {does} the features of another encoder than {model / 'audio'}; {advice}"
        )
