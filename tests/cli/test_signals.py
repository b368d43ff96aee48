"""Signals that end a run: how it says so, also where a library on the way takes them for something else."""

import contextlib
import signal

import pytest
import safetensors.torch
import torch

from facetalk.cli import info, main
from facetalk.errors import InputError
from facetalk.weights import read_tensors, write_tensors

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.fixture(autouse=True)
def default_handler():
    """Where a shell starts the tests with "&", Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", STATUS)
@pytest.mark.parametrize("error", [InputError("x is damaged"), TypeError("no shape"), OSError(5, "torn")])
def test_a_signal_that_a_library_turns_into_an_error(monkeypatch, capsys, number, error):
    def run(args):
        with contextlib.suppress(KeyboardInterrupt):  # as compiled code that calls Python may
            signal.raise_signal(number)
        raise error

    monkeypatch.setattr(info, "run", run)
    assert main(["info"]) == STATUS[number]
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "error" not in said


def test_what_goes_wrong_while_a_signal_is_dealt_with_is_told(monkeypatch, capsys):
    def run(args):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as ended:
            raise InputError("no space for the last checkpoint") from ended

    monkeypatch.setattr(info, "run", run)
    assert main(["info"]) == 2
    assert "no space" in capsys.readouterr().err


def test_ctrl_c_while_tensors_are_read_is_not_lost(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"x": torch.zeros(2)})
    load = safetensors.torch.load_file

    def interrupted(*args, **options):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("a damaged tensor") from None
        return load(*args, **options)

    monkeypatch.setattr(safetensors.torch, "load_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_tensors(path)
