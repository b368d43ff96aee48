"""Two processes of a launch share a training: other batches, the same weights, one checkpoint; and wait for
what one of them does for both."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from facetalk.training.processes import step_generator
from tests.helpers.launch import launch

PROGRAM = """
import sys, time, torch
from pathlib import Path
from facetalk.errors import InputError
from facetalk.training.loop import LoopOptions, TrainingLoop
from facetalk.training.processes import by_main_process, main_process_first, process_index, step_generator

done, said = Path(sys.argv[1], "done"), "nothing"
def once():
    time.sleep(0.5)  # the other would not find the file if it did not wait
    done.write_text(done.read_text() + "once" if done.exists() else "once")
by_main_process(once, "It")
assert done.read_text() == "once"
def never():
    raise InputError("no")
try:
    by_main_process(never, "It")
except InputError as error:
    said = str(error)
assert said == ("It failed in the main process, which says why" if process_index() else "no"), said
def read():
    mine = Path(sys.argv[1], "mine")
    if not mine.exists():
        time.sleep(0.5)
        mine.write_text(str(process_index()))
    return mine.read_text(), process_index()
assert main_process_first(read, "It") == ("0", process_index())

torch.manual_seed(process_index())  # the main process's start is everybody's
line = torch.nn.Linear(2, 1, bias=False)
loop = TrainingLoop("line", sys.argv[1], {"line": line}, torch.optim.SGD(line.parameters(), lr=0.1),
                    LoopOptions(steps=5, max_minutes=10, lr_schedule="constant", clip_norm=None))
def step(index):
    x = torch.from_numpy(step_generator(3, index).standard_normal((4, 2), dtype="float32"))
    return {"loss": (line(x) - x.sum(1, keepdim=True)).square().mean()}
loop.run(step)
torch.save(line.weight.detach(), f"{sys.argv[1]}/weight{process_index()}.pt")
"""


def test_two_processes_are_one_training_of_twice_the_batch(tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(PROGRAM)
    launch(str(program), str(tmp_path))
    first, second = (torch.load(tmp_path / f"weight{i}.pt") for i in (0, 1))
    assert torch.equal(first, second)

    # The same training in one process, on the batches of both.
    torch.manual_seed(0)
    line = torch.nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(line.parameters(), lr=0.1)
    for index in range(5):
        for rank in ("0", "1"):
            os.environ["RANK"] = rank
            try:
                x = torch.from_numpy(step_generator(3, index).standard_normal((4, 2), dtype="float32"))
            finally:
                del os.environ["RANK"]
            (0.5 * (line(x) - x.sum(1, keepdim=True)).square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.allclose(first, line.weight, atol=1e-5)
    assert json.loads((tmp_path / "checkpoint" / "loop.json").read_text())["step"] == 5
