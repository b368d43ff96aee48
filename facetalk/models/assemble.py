"""A model folder from parts that were trained or converted apart: ``facetalk assemble``."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from facetalk.audio import AudioEncoder
from facetalk.audio.whisper_encoder import Adapter
from facetalk.audio.whisper_weights import LISTENER, find_weights, write_listener
from facetalk.diffusion import MotionModel
from facetalk.errors import InputError
from facetalk.feature_space import differ, told_by
from facetalk.files import atomic_path, check_replaceable
from facetalk.models import builtin_models, find_model
from facetalk.models.heads import open_head
from facetalk.nphm.head.head import HeadModel
from facetalk.tongue import TongueNetwork
from facetalk.units import DEFAULT_FPS

__all__ = ["assemble"]

Place = str | os.PathLike[str]

# Where a training puts its model inside its own folder, and where a model folder has it.
_INNER = {
    "audio": ("encoder", "audio"),
    "motion": ("model", "motion"),
    "head": ("head",),
    "tongue": ("tongue",),
    "whisper": ("whisper",),
}
# What tells the part itself: files that are there, besides config.json.
_MARKS = {
    "audio": ("preprocessor_config.json",),
    "motion": ("model.safetensors",),
    "head": ("identity.safetensors", "deformation.safetensors"),
    "tongue": ("model.safetensors",),
    "whisper": ("model.safetensors",),
}
_OURS = {"audio", "motion", "head", "tongue", "whisper", "config.json"}


def assemble(
    audio: Place,
    motion: Place,
    head: Place,
    out: Place,
    *,
    tongue: Place | None = None,
    whisper: Place | None = None,
    listener: bool = False,
    name: str | None = None,
) -> Path:
    """Copy parts that fit into a model folder, which ``FaceTalk.from_pretrained`` reads.

    Args:
        audio: audio encoder: its folder, the folder of its training, or a model: its folder (its ``audio/``),
            or the name of a built-in one.
        motion: motion model, likewise.
        head: head, likewise.
        tongue: what the tongue does, likewise; None for a model whose tongue rides on the jaw.
        whisper: adapter by which Whisper hears for the motion, likewise; None for a model without.
        listener: also put Whisper's own encoder beside the adapter (16 MB), for programs that use the C
            library without Python.
        out: folder to write. One that an earlier call wrote is replaced, nothing else is.
        name: of the model; the folder's name when None.

    Returns:
        the folder.

    Raises:
        InputError: a part is missing or damaged, the parts do not fit together, ``out`` holds something else,
            or a listener is asked for without an adapter.
        NotInstalledError: a listener is asked for, and the package with Whisper's weights is not installed.
    """
    if listener and whisper is None:
        raise InputError("--listener goes with the adapter of --whisper; give both, or leave it out")
    if listener:
        find_weights()  # before parts are read, which takes seconds
    out = check_replaceable(out, directory=True, ours=is_assembled)
    places = {"audio": audio, "motion": motion, "head": head}
    if tongue is not None:
        places["tongue"] = tongue
    if whisper is not None:
        places["whisper"] = whisper
    parts = {kind: _find(kind, Path(place)) for kind, place in places.items()}
    for part in parts.values():
        if out.exists() and part.resolve().is_relative_to(out.resolve()):
            raise InputError(f"{part} lies inside the output {out}; choose another -o")
    _check_fit(parts)
    with atomic_path(out, directory=True, ours=is_assembled) as scratch:
        for kind, part in parts.items():
            # A listener that the part has is copied with it, unless one is written anew.
            left = shutil.ignore_patterns(LISTENER) if listener and kind == "whisper" else None
            shutil.copytree(part, scratch / kind, ignore=left)
        if listener:
            write_listener(scratch / "whisper" / LISTENER)
        content = {**_base(), "name": name or out.name, "assembled": True}
        (scratch / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    find_model(out)
    return out


def _find(kind: str, place: Path) -> Path:
    """The folder of a part: the place itself, or where a training or a model folder has it."""
    if not place.exists() and str(place) in builtin_models():
        place = find_model(str(place)).folder
    candidates = [place, *(place / inner for inner in _INNER[kind])]
    for folder in candidates:
        if (folder / "config.json").is_file() and all((folder / mark).is_file() for mark in _MARKS[kind]):
            return folder
    if not place.is_dir():
        known = ", ".join(builtin_models())
        raise InputError(f"--{kind} {place}: neither a folder nor a built-in model ({known})")
    tried = ", ".join(str(folder) for folder in candidates)
    needed = ", ".join(("config.json", *_MARKS[kind]))
    hint = " (a training writes it with its first checkpoint)" if (place / "checkpoint").exists() else ""
    raise InputError(f"--{kind} {place}: no {kind} there{hint}; looked for {needed} in {tried}")


def _check_fit(parts: dict[str, Path]) -> None:
    encoder = AudioEncoder.from_pretrained(parts["audio"])
    motion = MotionModel.load(parts["motion"])
    head = open_head(parts["head"])
    heard = motion.denoiser.config.audio_dim
    if encoder.feature_dim != heard:
        raise InputError(
            f"{parts['motion']} was trained on {heard} audio features a frame, {parts['audio']} gives "
            f"{encoder.feature_dim}; give the encoder that it was trained with"
        )
    given, taken = encoder.feature_space, motion.notes.get("feature_space")
    if differ(given, taken):
        raise InputError(
            f"{parts['motion']} was trained on the features of another encoder than {parts['audio']}; give "
            f"the encoder that it was trained with, or one that `facetalk train audio --init` made from that"
        )
    if "whisper" in parts:
        adapter, about = Adapter.load(parts["whisper"])
        gives, space = adapter.sizes["features"], about.get("feature_space")
        if gives != heard or differ(space, given or taken):
            raise InputError(
                f"{parts['whisper']} gives the features of another encoder than {parts['motion']} was "
                f"trained on; train it with `facetalk train whisper --init` from a model with that motion"
            )
    if "tongue" in parts:
        takes = TongueNetwork.load(parts["tongue"]).feature_dim
        if takes != encoder.feature_dim:
            raise InputError(
                f"{parts['tongue']} takes {takes} audio features a frame, {parts['audio']} gives "
                f"{encoder.feature_dim}; give the encoder that it was trained with"
            )
        if differ(told_by(parts["tongue"]), given or taken):
            raise InputError(
                f"{parts['tongue']} was trained on the features of another encoder than {parts['audio']}; "
                f"give the encoder that it was trained with, or train it again with `facetalk train tongue`"
            )
        if not isinstance(head, HeadModel) or head.tables.reach is None:
            raise InputError(f"{parts['head']} has no tongue that moves; leave out --tongue")
    if isinstance(head, HeadModel):
        _ = head.content  # damaged networks are told now
    elif motion.notes.get("head") not in (None, head.fingerprint) or motion.limits is not None:
        raise InputError(
            f"{parts['motion']} was not trained on codes of the head {parts['head']}; give the head that its "
            f"captures were fitted with"
        )
    ours, theirs = list(motion.expression_names), list(head.expression_names)
    if ours != theirs:
        odd = sorted(set(ours) ^ set(theirs))
        told = f"{', '.join(odd[:3])} are not in both" if odd else "their order differs"
        raise InputError(
            f"{parts['motion']} moves {len(ours)} expressions, {parts['head']} has {len(theirs)}, "
            f"and {told}; "
            "give a head that was trained on the same expressions"
        )


def _base() -> dict[str, Any]:
    """Geometry of smoothing and extraction, as the built-in model has it: heads share their space."""
    content = json.loads((find_model("default").folder / "config.json").read_text(encoding="utf-8"))
    return {**{key: content[key] for key in ("format", "version", "geometry")}, "fps": DEFAULT_FPS}


def is_assembled(folder: Path) -> bool:
    """Whether a folder holds nothing but what an earlier assembly wrote."""
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    made = isinstance(content, dict) and content.get("assembled") is True
    return made and {entry.name for entry in folder.iterdir()} <= _OURS
