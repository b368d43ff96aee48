"""``--identity``: whose head, by a file, by chance, or for a voice."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np

from facetalk.arguments import seed_after
from facetalk.arrays import Float32
from facetalk.errors import InputError
from facetalk.motion import SUFFIX, Motion
from facetalk.reading import read_array

if TYPE_CHECKING:
    from facetalk.nphm.head.head import HeadModel
    from facetalk.nphm.plain_head import PlainHead


def add_identity(parser: argparse.ArgumentParser) -> None:
    """``--identity`` as :func:`read_drawn` reads it."""
    parser.add_argument("--identity", default=None, metavar="FILE|random:SEED|voice[:SEED]",
                        help="whose head (default: the model's default identity): a .npy code, or a motion "
                        "of the person, as facetalk fit writes it; voice draws one for the recording's "
                        "voice, which is invented and nobody's likeness: published means of men's and "
                        "women's voices and faces, and chance")  # fmt: skip


def read_drawn(text: str | None, head: HeadModel | PlainHead) -> Float32 | str | None:
    """Read an ``--identity`` that may also be ``voice`` or ``voice:SEED``, which are returned as they are.

    Raises:
        InputError: as :func:`read_identity`, or the seed is no whole number.
    """
    from facetalk.casting import seed_of

    if text is not None and seed_of(text) is not None:
        return text
    try:
        return read_identity(text, head)
    except InputError as error:
        raise InputError(f"{error} (or random:SEED, voice, voice:SEED)") from error


def read_identity(text: str | None, head: HeadModel | PlainHead) -> Float32 | None:
    """Read ``--identity``: None, ``random:SEED``, a .npy file with a code (L,) or coefficients (I,), or a
    motion of the person, as ``facetalk fit`` writes it.

    Of an NPHM, which has no coefficients, it is a code.

    Args:
        text: the option's value.
        head: whose codes and coefficients are meant.

    Raises:
        InputError: the text is none of them, or what the file holds has another shape.
    """
    if text is None:
        return None
    from facetalk.nphm.head.head import HeadModel

    named = head if isinstance(head, HeadModel) else None
    if text.startswith("random:"):
        if named is None:
            raise InputError(f"--identity {text}: an NPHM has no people to draw; give a code as a .npy file")
        try:
            seed = seed_after("random", text)
        except InputError as error:
            raise InputError(f"--identity {error}") from None
        # Unit normal coefficients, drawn in from the tails as in training: faces, not caricatures.
        draw = np.random.default_rng(seed).standard_normal(named.coefficient_dim)
        return named.encode_identity(0.8 * np.clip(draw, -2.0, 2.0))
    try:
        values = Motion.load(text).identity if text.lower().endswith(SUFFIX) else read_array(text)
    except InputError as error:
        raise InputError(f"--identity: {error}") from error
    if values.shape == (head.identity_dim,):
        return np.asarray(values, dtype=np.float32)
    if named is not None and values.shape == (named.coefficient_dim,):
        return named.encode_identity(values)
    coefficients = "" if named is None else f" or ({named.coefficient_dim},)"
    raise InputError(
        f"--identity {text}: expected shape ({head.identity_dim},){coefficients}, got {values.shape}"
    )
