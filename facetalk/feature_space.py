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

__all__ = ["check_space", "differ", "space_of"]


def differ(one: object, other: object) -> bool:
    """Whether two names say that features are not the same; who says none says nothing."""
    return isinstance(one, str) and isinstance(other, str) and "" not in (one, other) and one != other


def space_of(model: Path) -> str | None:
    """That of a model folder's features, by its encoder, or else by what its motion was trained on.

    Raises:
        InputError: a file that says so is damaged.
    """
    told: list[object] = []
    for part in ("audio", "motion"):
        path = model / part / "config.json"
        content = read_json(path) if path.is_file() else {}
        notes = content.get("notes") if part == "motion" else content
        told.append(notes.get("feature_space") if isinstance(notes, dict) else None)
    return next((name for name in told if isinstance(name, str) and name), None)


def check_space(part: Path, does: str, told: object, model: Path, advice: str) -> None:
    """Refuse a part that gives or takes the features of another encoder than a model's own.

    Args:
        part: its folder.
        does: ``"gives"`` or ``"was trained on"``, for the message.
        told: its ``feature_space``.
        model: the model's folder.
        advice: what to do about it.

    Raises:
        InputError: it does, in the C library's words; or a file that says so is damaged.
    """
    if differ(told, space_of(model)):
        raise InputError(f"{part} {does} the features of another encoder than {model / 'audio'}; {advice}")
