"""What a training has to know of the processes that share it (``accelerate launch``)."""

from __future__ import annotations

import os

import numpy as np

__all__ = ["is_main_process", "process_index", "step_generator"]


def process_index() -> int:
    """Number of this process among those of a launch, from 0; launchers state it in the environment."""
    return int(os.environ.get("RANK", "0"))


def is_main_process() -> bool:
    """Whether this is the process that writes."""
    return process_index() == 0


def step_generator(seed: int, index: int) -> np.random.Generator:
    """Random numbers of a step, the same in every session, and others in every process of a launch."""
    rank = process_index()
    return np.random.default_rng((seed, index, rank) if rank else (seed, index))
