"""What the compiled core is set to for a test, and was before."""

import pytest

from facetalk import ops
from facetalk.ops._extension import load


@pytest.fixture
def simd():
    yield lambda level: load().set_simd_level(level)
    load().set_simd_level(load().build_info()["simd_detected"])


@pytest.fixture
def thread_count():
    before = ops.threads()
    yield ops.set_threads
    ops.set_threads(before)
