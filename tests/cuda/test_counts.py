"""What the GPU's search asks of the networks, counted without a GPU by benchmarks/count_field_cuda.py."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import count_field_cuda  # noqa: E402


def test_fewer_points_and_members_than_before_and_the_same_signs():
    found = count_field_cuda.count(ROOT / "tests" / "golden" / "nphm_tiny", 48, True)
    assert found["wrong_signs"] == 0
    assert found["points"] <= 0.6 * found["points_before"], found
    assert found["members"] <= 0.7 * found["members_float32"], found


OFFICIAL = Path(os.environ.get("FACETALK_GOLDEN", "")) / "nphm_official"


@pytest.mark.slow  # most of a million points of the official networks on the CPU
@pytest.mark.skipif(
    not (OFFICIAL / "golden.safetensors").exists(), reason="FACETALK_GOLDEN has no nphm_official"
)
def test_the_official_head_at_its_size():
    found = count_field_cuda.count(OFFICIAL, 256, False)
    assert found["points"] <= 800_000 and found["members"] <= 6.5, found
