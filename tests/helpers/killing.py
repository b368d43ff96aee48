"""Runs of facetalk to be ended by a signal, and folders that tell whole outputs from broken ones."""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from facetalk.cli import main
from facetalk.errors import InputError
from facetalk.interrupts import Terminable
from facetalk.pipeline import FaceTalk
from facetalk.training.checkpoint import restore
from facetalk.training.loop import LoopOptions, TrainingLoop

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
HANDLED = (signal.SIGINT, signal.SIGTERM)
"""Those that a process can answer."""
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "kill_test.py"
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "nphm_tiny"
PATIENCE = 120
"""Seconds after which a run hangs."""
Run = Callable[[int], int]
"""Writes variant 0 or 1 of an output and gives the exit status."""
Start = Callable[[], int]
"""Starts a process and gives its number."""


def tree(folder: Path) -> dict[str, str]:
    """Digests of all files in a folder; scratch folders appear by their names only."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if name.parts[0].endswith(".part"):
            found[name.parts[0]] = "scratch"
        elif path.is_file():
            found[str(name)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def fork(run: Callable[[], int], told: Path | None = None) -> int:
    """Start ``run`` in a child whose exit status is what it gives; return the child's number.

    What it prints, and where it hangs, is written to the file ``told``.
    """
    # A signal that comes before the child is inside its "try" would unwind the caller's frames in the child,
    # and clear away the caller's folders: it waits until then.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return child
    status = 70
    try:
        status = _in_child(run, told, before)
    finally:
        os._exit(status)


def _in_child(run: Callable[[], int], told: Path | None, signals: set[signal.Signals]) -> int:
    """Exit status of ``run`` in a child that was forked with signals blocked; ``signals`` are let through."""
    status = 70
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        null = os.open(os.devnull, os.O_RDWR)
        said = null if told is None else os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor, to in enumerate((null, said, said)):
            os.dup2(to, descriptor)
        faulthandler.register(signal.SIGALRM, sys.__stderr__, chain=True)
        signal.alarm(PATIENCE)  # a run that hangs is a fault, and not the end of the test
        signal.signal(signal.SIGINT, signal.default_int_handler)
        status = run()
    except SystemExit as stop:
        status = int(stop.code or 0)
    except KeyboardInterrupt:  # before the verb began
        status = 130
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    return status


def spawn(words: list[str]) -> int:
    """Start Python with these arguments in a process of its own."""
    null = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0) for descriptor in (0, 1, 2)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return os.posix_spawn(
        sys.executable, [sys.executable, *words], environment, file_actions=null, setsigdef=list(SIGNALS)
    )


def finished(child: int) -> bool:
    """Whether a child has ended; it stays to be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def scratch_there(folder: Path) -> bool:
    """Whether somebody is writing."""
    with contextlib.suppress(OSError):
        return any(name.endswith(".part") for name in os.listdir(folder))  # noqa: PTH208  # as fast as can be
    return False


def end_once(start: Start, number: int, folder: Path, span: float, writing: float, rng: random.Random) -> str:
    """Start a run, send a signal at a random moment, and tell how it ended.

    Half of the moments lie anywhere in the run, half after it began to write, which is the shorter part.
    """
    child = start()
    begun = time.perf_counter()
    if rng.random() < 0.5:
        wait = rng.uniform(0.0, 1.05 * span)
    else:
        while not (scratch_there(folder) or finished(child)):
            time.sleep(0.0005)
        wait = time.perf_counter() - begun + rng.uniform(0.0, 1.1 * writing)
    while time.perf_counter() - begun < wait and not finished(child):
        time.sleep(0.0005)
    if not finished(child):
        os.kill(child, number)
    while not finished(child):
        if time.perf_counter() - begun > wait + 1.5 * PATIENCE:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hung"
        time.sleep(0.002)
    return ending(os.waitpid(child, 0)[1])


def ending(status: int) -> str:
    """How a process ended, in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"exit {code}" if code >= 0 else signal.Signals(-code).name


class Place:
    """A folder for one case, its two whole outputs, and how long a run takes."""

    def __init__(self, folder: Path, run: Run, words: Callable[[int], list[str]]) -> None:
        self.folder, self.run, self.words = folder, run, words
        self.told = folder.with_name(f"{folder.name}.told")
        self.whole: list[dict[str, str]] = []
        for variant in (0, 1):
            self.span, self.writing = self.measure(
                lambda variant=variant: fork(lambda: run(variant), self.told)
            )  # type: ignore[misc]
            self.whole.append(tree(folder))
            if variant == 0:
                self.old = folder.with_name(f"{folder.name}.old")
                shutil.copytree(folder, self.old)

    def measure(self, start: Start) -> tuple[float, float]:
        """Seconds that an undisturbed run takes, and those of them since it began to write."""
        begun, wrote = time.perf_counter(), None
        child = start()
        while not finished(child):
            if wrote is None and scratch_there(self.folder):
                wrote = time.perf_counter()
            time.sleep(0.0005)
        if (end := ending(os.waitpid(child, 0)[1])) != "exit 0":
            told = self.told.read_text() if self.told.exists() else ""
            raise SystemExit(f"{self.folder.name}: an undisturbed run ended with {end}\n{told}")
        now = time.perf_counter()
        return now - begun, now - (wrote or begun)

    def judge(self) -> str:
        """What the folder holds: "old", "new", "new, scratch", "mixed" (each file whole), "broken" ..."""
        found = tree(self.folder)
        scratch = [name for name, what in found.items() if what == "scratch"]
        rest = {name: digest for name, digest in found.items() if what_is(digest)}
        if rest == self.whole[0]:
            verdict = "old"
        elif rest == self.whole[1]:
            verdict = "new"
        elif all(
            digest in (self.whole[0].get(name), self.whole[1].get(name)) for name, digest in rest.items()
        ):
            verdict = "mixed"
        else:
            verdict = "broken"
        return verdict + (", scratch" if scratch else "")

    def reset(self) -> None:
        """Put the old output there again; what a killed run left stays for the next one to clear away."""
        for path in self.folder.iterdir():
            if not path.name.endswith(".part"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self.old, self.folder, dirs_exist_ok=True)

    def clear(self) -> bool:
        """Let a run finish, and tell whether it left nothing but its output."""
        os.waitpid(fork(lambda: self.run(1)), 0)
        return self.judge() == "new"


def what_is(digest: str) -> bool:
    """Whether an entry of :func:`tree` is a file of the output."""
    return digest != "scratch"


def train(folder: Path, more: int = 12) -> int:
    """Train some steps on from where the run before ended."""
    state = folder / "checkpoint" / "loop.json"
    done = json.loads(state.read_text())["step"] if state.exists() else 0
    torch.manual_seed(0)
    network = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    options = LoopOptions(done + more, save_every_s=0.0, log_every=2)
    try:
        with Terminable():
            loop = TrainingLoop("line", folder, {"line": network}, optimizer, options)
            loop.run(lambda index: {"loss": network(torch.ones(4, 2)).square().mean()})
    except KeyboardInterrupt:
        return 130
    return 0


class Training(Place):
    """The training loop: its output is never the same, so it is judged by whether it can be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(
            folder, lambda variant: train(folder), lambda variant: [str(SCRIPT), "--train", str(folder)]
        )

    def reset(self) -> None:
        """Every run goes on where the one before ended."""

    def judge(self) -> str:
        """Whether the checkpoint is whole."""
        from accelerate import Accelerator

        # "line": what TensorBoard reads, where it is installed.
        entries = {path.name for path in self.folder.iterdir()}
        scratch = {name for name in entries if name.endswith(".part")}
        verdict = "new"
        network = torch.nn.Linear(2, 1)
        accelerator = Accelerator()
        accelerator.prepare_model(network, evaluation_mode=True)
        accelerator.prepare_optimizer(torch.optim.SGD(network.parameters(), lr=0.01))
        try:
            state = restore(accelerator, self.folder / "checkpoint", {"step": -1, "seconds": 0.0}, "line")
            if state["step"] < 0 or entries - scratch - {"line"} != {"checkpoint", "log.jsonl"}:
                verdict = "broken"
        except InputError:
            verdict = "broken"
        finally:
            accelerator.free_memory()
        return verdict + (", scratch" if scratch else "")


def cases(work: Path, wanted: list[str]) -> dict[str, Place]:
    """The inputs, made once, and the runs that are to be ended."""
    torch.set_num_threads(1)
    model = FaceTalk.from_pretrained(device="cpu")
    for variant, seconds in enumerate((0.4, 0.5)):
        time_s = np.arange(round(16000 * seconds)) / 16000
        sound = 0.3 * np.sin(2 * np.pi * 170 * time_s) * np.sin(2 * np.pi * 3 * time_s)
        soundfile.write(work / f"speech{variant}.wav", sound, 16000)
        motion = model.generate(work / f"speech{variant}.wav", seed=variant)
        motion.save(work / f"motion{variant}.safetensors")
        checkpoint = work / f"checkpoint{variant}"
        shutil.copytree(GOLDEN, checkpoint)
    # The same network, but for one weight.
    from safetensors.torch import load_file, save_file

    tensors = load_file(work / "checkpoint1" / "identity.safetensors")
    tensors["mlp_pos.0.bias"] = tensors["mlp_pos.0.bias"] + 0.001
    save_file(tensors, work / "checkpoint1" / "identity.safetensors")
    FaceTalk.from_pretrained = classmethod(lambda cls, *args, **options: model)  # type: ignore[method-assign,assignment]

    out = {name: work / name for name in ("generate", "export", "render", "convert", "train")}
    verbs: dict[str, list[Any]] = {
        "generate": [work / "speech{n}.wav", "-o", out["generate"] / "o.glb", "--seed", "1"],
        "export": [
            work / "motion{n}.safetensors", "-o", out["export"] / "o.ply", "--audio", work / "speech{n}.wav"
        ],
        "render": [
            work / "scene{n}.glb", "-o", out["render"] / "o.mp4", "--size", "64", "--frames", "6",
            "--threads", "1",
        ],
        "convert": [work / "checkpoint{n}", "-o", out["convert"] / "o.nphm"],
    }  # fmt: skip

    def words(name: str, variant: int) -> list[str]:
        return [name, *(str(word).replace("{n}", str(variant)) for word in verbs[name])]

    def place(name: str) -> Place:
        if name == "train":
            return Training(out[name])
        importlib.import_module(f"facetalk.cli.{name}")  # once, and not in every fork
        return Place(out[name], lambda v: main(words(name, v)), lambda v: ["-m", "facetalk", *words(name, v)])

    if "render" in wanted:
        for variant in (0, 1):
            export = ["export", work / f"motion{variant}.safetensors", "-o", work / f"scene{variant}.glb",
                     "--audio", work / f"speech{variant}.wav"]  # fmt: skip
            if os.waitstatus_to_exitcode(os.waitpid(fork(lambda w=export: main(list(map(str, w)))), 0)[1]):  # type: ignore[misc]
                raise SystemExit("the scene to render could not be made")
    for name in wanted:
        out[name].mkdir()
    return {name: place(name) for name in wanted}
