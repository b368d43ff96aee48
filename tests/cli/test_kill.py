"""Runs ended by signals at random moments: a few here, hundreds by scripts/kill_test.py."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch

from facetalk.pipeline import FaceTalk

SCRIPT = Path(__file__).parents[2] / "scripts" / "kill_test.py"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a POSIX system forks")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_signal_leaves_the_old_output_or_the_new_one(monkeypatch):
    spec = importlib.util.spec_from_file_location("kill_test", SCRIPT)
    kill_test = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kill_test)
    monkeypatch.setattr(FaceTalk, "from_pretrained", FaceTalk.from_pretrained)  # the script exchanges it
    threads = torch.get_num_threads()
    try:
        results = kill_test.report(["export", "convert", "train"], 2, 0)
    finally:
        torch.set_num_threads(threads)
    assert not kill_test.faults(results), results
