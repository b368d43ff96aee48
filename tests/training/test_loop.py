"""The training loop: it learns, resumes exactly, stops on time, and says what is wrong."""

import json
import math
import signal
import threading
import warnings

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from facetalk.errors import InputError
from facetalk.interrupts import Terminable, Terminated
from facetalk.training.loop import LoopOptions, TrainingLoop, cosine_factor, follow


def _run(out, steps, *, stop_after=None, **options):
    """Fit a line; with ``stop_after`` the run is broken off as by Ctrl-C at that step."""
    torch.manual_seed(3)
    model = nn.Linear(2, 1)

    def step(index):
        if stop_after is not None and index == stop_after:
            raise KeyboardInterrupt
        x = torch.randn(16, 2, generator=torch.Generator().manual_seed(index))
        return {"loss": (model(x)[:, 0] - x @ torch.tensor([1.0, -2.0])).square().mean()}

    on_save = options.pop("on_save", None)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    loop = TrainingLoop("line", out, {"line": model}, optimizer, LoopOptions(steps, log_every=10, **options))
    result = loop.run(step, on_save)
    return model, result


def test_it_learns_and_logs(tmp_path):
    saved = []
    model, result = _run(tmp_path, 200, on_save=saved.append)
    assert torch.allclose(model.weight, torch.tensor([[1.0, -2.0]]), atol=0.02)
    assert result["step"] == 200 and result["loss"] < 1e-2 and saved == [tmp_path]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(10, 201, 10))
    assert lines[0]["lr"] > lines[-1]["lr"]


def test_nobody_is_told_of_trackers_that_are_not_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("facetalk.training.loop._trackers", list)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*trackers")
        _run(tmp_path, 1)


def test_resumed_run_equals_unbroken_run(tmp_path):
    whole, _ = _run(tmp_path / "whole", 40)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path / "broken", 40, stop_after=17)
    resumed, result = _run(tmp_path / "broken", 40)
    assert result["resumed_at"] == 17
    assert torch.equal(whole.weight, resumed.weight) and torch.equal(whole.bias, resumed.bias)
    _, again = _run(tmp_path / "broken", 40, resume=False)
    assert again["resumed_at"] == 0


def test_time_limit_ends_annealed(tmp_path):
    _, result = _run(tmp_path, 10**9, max_minutes=0.02)
    assert 0 < result["step"] < 10**9 and result["minutes"] == pytest.approx(0.02, rel=0.5)
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["lr"] < 0.05 * 0.1
    assert cosine_factor(0.0) == 1.0 and cosine_factor(2.0) == cosine_factor(1.0) == pytest.approx(0.01)


@pytest.mark.parametrize("clip, moved", [(None, 50.0), (1.0, 1.0), (80.0, 50.0)])
def test_gradients_are_clipped_to_their_norm(tmp_path, clip, moved):
    network = nn.Linear(2, 1, bias=False)
    before = network.weight.detach().clone()
    pull = torch.tensor([[30.0, -40.0]])
    options = LoopOptions(1, lr_schedule="constant", clip_norm=clip)
    loop = TrainingLoop(
        "pull", tmp_path, {"n": network}, torch.optim.SGD(network.parameters(), lr=1.0), options
    )
    loop.run(lambda index: {"loss": (network.weight * pull).sum()})
    torch.testing.assert_close(before - network.weight.detach(), pull / 50.0 * moved)


def test_rates_warm_up_and_follow_half_a_cosine(tmp_path):
    network = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=2.0)
    rates = []
    loop = TrainingLoop("rates", tmp_path, {"n": network}, optimizer, LoopOptions(40, warmup=4))
    descend = loop._descend
    loop._descend = lambda result: (descend(result), rates.append(optimizer.param_groups[0]["lr"]))
    loop.run(lambda index: {"loss": 0.0 * network.weight.sum()})
    cosine = [0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * i / 40)) for i in range(40)]
    expected = [2.0 * c * min(1.0, (i + 1) / 4) for i, c in enumerate(cosine)]
    assert rates == pytest.approx(expected, rel=1e-6)
    assert optimizer.param_groups[0]["lr"] == 2.0  # as it was given, for whoever trains on


def test_a_term_of_some_steps_is_averaged_over_those(tmp_path):
    network = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)

    def step(index):
        told = {"loss": 0.0 * network.weight.sum() + index}
        return told if index % 4 else {**told, "seldom": torch.tensor(2.0 + index)}

    loop = TrainingLoop("seldom", tmp_path, {"n": network}, optimizer, LoopOptions(9, log_every=6))
    assert loop.run(step)["seldom"] == 10.0
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["loss"], line["seldom"]) for line in lines] == [(2.5, 4.0), (7.0, 10.0)]

    loop = TrainingLoop("nan", tmp_path / "nan", {"n": network}, optimizer, LoopOptions(9))
    with pytest.raises(FloatingPointError, match="not finite"):
        loop.run(lambda index: {**step(index), **({"nan": torch.tensor(math.nan)} if index == 3 else {})})


def test_checkpoints_come_by_the_clock_and_at_the_end(tmp_path):
    saved = []
    _run(tmp_path / "often", 5, save_every_s=0.0, on_save=lambda out: saved.append(out))
    assert len(saved) == 6
    saved.clear()
    _run(tmp_path / "never", 5, on_save=lambda out: saved.append(out))
    assert len(saved) == 1
    saved.clear()
    _run(tmp_path / "never", 5, on_save=lambda out: saved.append(out))
    assert not saved  # nothing was left to do


def test_errors(tmp_path):
    with pytest.raises(InputError, match="at least 1"):
        _run(tmp_path, 0)
    with pytest.raises(InputError, match="more than 0"):
        _run(tmp_path, 5, max_minutes=0.0)
    with pytest.raises(InputError, match="cosine, constant"):
        _run(tmp_path, 5, lr_schedule="linear")
    _run(tmp_path, 5)
    other = nn.Linear(7, 1)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    with pytest.raises(InputError, match="does not fit"):
        TrainingLoop("other", tmp_path, {"line": other}, optimizer, LoopOptions(9))
    with pytest.raises(FloatingPointError, match="not finite"):
        loop = TrainingLoop("nan", tmp_path / "nan", {"line": other}, optimizer, LoopOptions(3))
        loop.run(lambda index: {"loss": other.weight.sum() * float("nan")})


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        (name, harm)
        for name in ("optimizer.bin", "model.safetensors", "random_states_0.pkl", "loop.json")
        for harm in ("cut", "noise", "gone")
        if (name, harm) != ("loop.json", "gone")  # no checkpoint then
    ],
)
def test_damaged_checkpoints_are_refused(tmp_path, name, harm):
    _run(tmp_path, 5)
    file = tmp_path / "checkpoint" / name
    data = file.read_bytes()
    file.unlink() if harm == "gone" else file.write_bytes(
        data[: len(data) // 2] if harm == "cut" else b"\xff" * 99
    )
    with pytest.raises(InputError, match="checkpoint") as caught:
        _run(tmp_path, 10)
    assert "\n" not in str(caught.value)


def test_sigterm_saves(tmp_path):
    whole, _ = _run(tmp_path / "whole", 40)

    def end(out):
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Terminated), Terminable():
        _run(tmp_path / "ended", 40, save_every_s=0.0, on_save=end)
    resumed, result = _run(tmp_path / "ended", 40)
    assert result["resumed_at"] == 1
    assert torch.equal(whole.weight, resumed.weight)


def test_what_is_of_others_stays(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "weights.bin").touch()
    for resume in (True, False):
        with pytest.raises(InputError, match="no checkpoint of a facetalk training"):
            _run(tmp_path, 5, resume=resume)
    (tmp_path / "checkpoint").rename(tmp_path / "elsewhere")
    (tmp_path / "log.jsonl").write_text("my notes\n")
    with pytest.raises(InputError, match="no log"):
        _run(tmp_path, 5)
    assert (tmp_path / "log.jsonl").read_text() == "my notes\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_inside_a_tracker_waits_until_its_locks_are_free(tmp_path, monkeypatch, number):
    """Queues take their lock in Python, where a signal may come between taking and giving back."""
    lock, ended = threading.Lock(), []

    def log(self, values, step):
        assert lock.acquire(timeout=5)
        signal.raise_signal(number)
        lock.release()

    def finish(self):
        ended.append(lock.acquire(timeout=5))

    monkeypatch.setattr(Accelerator, "log", log)
    monkeypatch.setattr(Accelerator, "end_training", finish)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Terminable(), pytest.raises(KeyboardInterrupt):
            _run(tmp_path, 100)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended == [True]
    assert json.loads((tmp_path / "checkpoint" / "loop.json").read_text())["step"] == 10


@pytest.mark.parametrize(("index", "share"), [(0, 0.9), (10, 9 / 20), (10**6, 1e-3)])
def test_an_average_forgets_its_start_and_follows_slowly(index, share):
    """The decay is (1 + i) / (10 + i), at most 0.999."""
    average, net = nn.Linear(3, 2), nn.Linear(3, 2)
    before = [p.clone() for p in average.parameters()]
    follow(average, net, index)
    for was, now, is_now in zip(before, net.parameters(), average.parameters(), strict=True):
        torch.testing.assert_close(is_now.detach() - was, share * (now - was), atol=1e-6, rtol=1e-4)
        assert not is_now.grad_fn
