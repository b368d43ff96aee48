"""Checkpoints of a training: Accelerate's state and how far it is, in a folder that is swapped as a whole."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import load
from safetensors import SafetensorError

from facetalk.errors import InputError
from facetalk.files import atomic_path, check_replaceable, recover
from facetalk.reading import one_line, parse_json, read_json

__all__ = ["LOG", "check_out", "make_out", "older", "restore", "save"]

_STATE_FILE, LOG = "loop.json", "log.jsonl"
_CHECKPOINT = re.compile(
    r"loop\.json|(model|pytorch_model|optimizer|scheduler|sampler|random_states|custom_checkpoint|dl_state_dict)"
    r"(_\d+)?\.(safetensors|bin|pkl|pt|json)|scaler\.pt"
)
"""Names of the files that Accelerate writes, and ours."""


def older(folder: Path) -> Path:
    """Where earlier releases kept the checkpoint before the last while they wrote."""
    return folder.with_name(f"{folder.name}.old")


def _is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds nothing but a checkpoint of this loop."""
    if not all(_CHECKPOINT.fullmatch(entry.name) for entry in folder.iterdir()):
        return False
    return {"step", "seconds"} <= set(read_json(folder / _STATE_FILE))


def make_out(out: Path, name: str, ours: Callable[[Path], bool]) -> None:
    """Make the output folder of a training and check, hours before it is needed, that the model can go there.

    Args:
        out: the folder.
        name: of the model's folder in it.
        ours: whether a folder holds nothing but such a model, as :func:`facetalk.files.atomic_path` has it.

    Raises:
        InputError: the folder cannot be made, or the model's place is taken by something else.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {out}: {error.strerror}; choose another --out") from error
    check_replaceable(out / name, directory=True, ours=ours)


def check_out(out: Path) -> None:
    """Refuse an output folder in which a training would replace what none of ours wrote.

    Raises:
        InputError: it has such files.
    """
    recover(out / "checkpoint")
    for folder in (out / "checkpoint", older(out / "checkpoint")):
        if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or _is_ours(folder))):
            raise InputError(
                f"{folder} is there and is no checkpoint of a facetalk training; use another --out, or "
                f"move it away"
            )
    log = out / LOG
    if log.exists():
        try:
            with log.open("rb") as file:
                ours = {"step", "seconds"} <= set(
                    parse_json(file.readline(1 << 16) or b'{"step":0,"seconds":0}', log)
                )
        except (OSError, InputError):
            ours = False
        if not ours:
            raise InputError(f"{log} is no log of a facetalk training; use another --out, or move it away")


def _is_ours(folder: Path) -> bool:
    try:
        return _is_checkpoint(folder)
    except InputError:
        # A damaged one of ours, on which restoring has more to say.
        return all(_CHECKPOINT.fullmatch(entry.name) for entry in folder.iterdir())


def save(accelerator: Accelerator, folder: Path, state: dict[str, float]) -> None:
    """Write a checkpoint beside the old one and swap them: at every moment one of the two is whole."""
    try:
        with atomic_path(folder, directory=True, ours=_is_ours) as fresh:
            accelerator.save_state(str(fresh))
            (fresh / _STATE_FILE).write_text(json.dumps(state))
    except (SafetensorError, RuntimeError) as error:  # how the libraries tell of a full disk
        raise InputError(f"cannot write the checkpoint {folder}: {one_line(error)}") from error


def restore(accelerator: Accelerator, folder: Path, state: dict[str, float], name: str) -> dict[str, float]:
    """Read a checkpoint into what Accelerate has prepared, where there is one.

    Args:
        accelerator: of the training.
        folder: the checkpoint.
        state: how far a training is that starts, ``{"step", "seconds"}``.
        name: of the training, for the message.

    Returns:
        how far it is.

    Raises:
        InputError: any part of it is damaged, or is of another training.
    """
    for candidate in (folder, older(folder)):  # ".old" by releases before this one
        if (candidate / _STATE_FILE).is_file():
            try:
                told = read_json(candidate / _STATE_FILE)
                step, seconds = int(told["step"]), float(told["seconds"])
                if step < 0 or seconds < 0:
                    raise ValueError(f"step {step}, {seconds} seconds")
                accelerator.load_state(str(candidate))
                if accelerator.is_main_process:
                    _restore_random(candidate / "random_states_0.pkl")
                return {**state, "step": step, "seconds": seconds}
            except Exception as error:  # of whatever kind torch, safetensors and Accelerate have
                reason = one_line(error, 120)
                raise InputError(
                    f"{name}: the checkpoint in {candidate} does not fit this training ({reason}); "
                    "use another output folder or start afresh"
                ) from error
    return state


def _restore_random(path: Path) -> None:
    """Set the random states of a checkpoint; Accelerate goes on in silence where they are damaged."""
    states = load(path)
    random.setstate(states["random_state"])
    np.random.set_state(  # noqa: NPY002  # what Accelerate saves
        states["numpy_random_seed"]
    )
    torch.set_rng_state(states["torch_manual_seed"])
