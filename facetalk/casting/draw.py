"""A draw of an identity code for a voice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from facetalk.arguments import seed_after
from facetalk.arrays import Float32, Float64
from facetalk.casting.dimorphism import direction, lean
from facetalk.casting.timbre import Timbre, built_in
from facetalk.casting.voice import Voice
from facetalk.errors import InputError

if TYPE_CHECKING:
    from facetalk.nphm.head.head import HeadModel

__all__ = ["cast", "coefficients", "seed_of"]

WORD = "voice"
TIMBRE_SHARE = 0.8
"""Share of the variance of what is drawn that goes by timbre; the rest is the seed's alone."""
_SCALE, _LIMIT = 0.8, 2.0
"""Faces and not caricatures: tails are drawn in as where heads were trained."""


def seed_of(text: str) -> int | None:
    """Seed that ``voice`` (0) or ``voice:SEED`` asks for; None where it asks for something else.

    Raises:
        InputError: what stands after ``voice:`` is no whole number of at least 0.
    """
    word, colon, _ = text.partition(":")
    if word != WORD:
        return None
    if not colon:
        return 0
    try:
        return seed_after(WORD, text)
    except InputError as error:
        raise InputError(f"identity {error}") from None


def cast(voice: Voice, head: HeadModel, seed: int = 0) -> Float32:
    """Draw an identity code (L,) for a voice; another seed draws another face."""
    linear = head.tables.linear
    step = direction(linear["landmarks_mean"], linear["landmarks_basis"])
    return head.encode_identity(coefficients(voice, step, seed))


def coefficients(voice: Voice, step: Float64, seed: int, timbre: Timbre | None = None) -> Float32:
    """Draw coefficients (I,) of a morphable head for a voice.

    They are Gaussian. Over voices and seeds they are spread as people's are; given a voice, their mean leans
    along ``step`` as far as its statistics do, and they vary the less along it. What is left goes by timbre
    through a map that is the seed's: the same voice gets about the same face again, another one another, and
    which it is means nothing.

    Args:
        voice: what was heard.
        step: (I,) of :func:`facetalk.casting.dimorphism.direction`.
        seed: of the draw.
        timbre: other than the built-in one.
    """
    known = timbre or built_in()
    place = known.of(voice)
    rng = np.random.default_rng([seed, 0x766F6963])
    arbitrary = rng.standard_normal((len(step), len(place))) @ place / np.sqrt(len(place))
    free = np.sqrt(TIMBRE_SHARE) * arbitrary + np.sqrt(1.0 - TIMBRE_SHARE) * rng.standard_normal(len(step))
    free = _SCALE * np.clip(free, -_LIMIT, _LIMIT)
    towards = lean(voice)
    length = float(step @ step)
    # The square root of I - lean^2 step step^T, which shrinks along the step alone.
    along = (step @ free) * step / max(length, 1e-12)
    kept = np.sqrt(max(1.0 - towards**2 * length, 0.0))
    return np.asarray(towards * step + free - along + kept * along, np.float32)
