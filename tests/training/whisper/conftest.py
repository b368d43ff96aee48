"""Weights of a Whisper that knows nothing, and a corpus of noise with phones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.noise_corpus import write_corpus
from tests.helpers.untaught_whisper import write_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("whisper") / "weights.npz")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    phones = [("SIL", 0.0, 0.3), ("M", 0.3, 0.8), ("AA", 0.8, 2.0), ("F", 2.0, 2.4), ("AA", 2.4, 4.0)]
    return write_corpus(tmp_path_factory.mktemp("corpus"), phones, (4.0, 4.0, 4.0))
