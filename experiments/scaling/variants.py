"""The rows: parts of the corpus, and numbers of voices at one amount of sound."""

from __future__ import annotations

from functools import partial

from experiments.common.corpus import VoiceCorpus
from experiments.common.variants import Variant
from facetalk.training.motion.dataset import MotionData

SMALLEST = 1 / 8
SHARES = {"1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2}
VOICES = (1, 4)


def _share(part: float, corpus: VoiceCorpus) -> MotionData:
    return corpus.share(part)


def _voices(count: int, corpus: VoiceCorpus) -> MotionData:
    return corpus.of_voices(count, round(SMALLEST * corpus.frames))


WHOLE = Variant("full", "all of it, all voices", "the ablations' `full`")
AMOUNTS = (
    *(
        Variant(
            f"share-{name.replace('/', '-')}",
            f"{name}, all voices",
            f"{name} of every voice",
            data=partial(_share, part),
        )
        for name, part in SHARES.items()
    ),
    WHOLE,
)
FEW_VOICES = tuple(
    Variant(
        f"voices-{count}",
        f"1/8, {count} voice" + "s" * (count > 1),
        f"as much sound as 1/8, of {count} voice" + "s" * (count > 1),
        data=partial(_voices, count),
    )
    for count in VOICES
)
VARIANTS = (*AMOUNTS, *FEW_VOICES)
