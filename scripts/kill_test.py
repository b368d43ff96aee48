"""End runs of facetalk by a signal at random moments, and look at what is left.

    python scripts/kill_test.py [--runs 200] [--cases generate,export,render,convert,train] [--json FILE]

Every run writes over an older output. Afterwards the output has to be the old one or the new one, to the last
byte, and nothing else may lie beside it. SIGKILL leaves no time to clear up: there a scratch folder
``.NAME.DIGEST.RANDOM.part`` may stay, which the next run of the same output has to remove.

One process imports everything and loads the model; each run is a fork of it, so that it costs a second and
not ten. "train" is the training loop on a network of three weights that saves all the time: what can break is
the saving, and a real network would only save less often.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import soundfile
import torch
from tqdm import tqdm

from facetalk.cli import main
from facetalk.errors import InputError
from facetalk.interrupts import Terminable
from facetalk.pipeline import FaceTalk
from facetalk.training.checkpoint import restore
from facetalk.training.loop import LoopOptions, TrainingLoop

# Its watching thread could hold a lock at the moment of a fork, for ever in the child.
tqdm.monitor_interval = 0

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
GOLDEN = Path(__file__).parent.parent / "tests" / "golden" / "nphm_tiny"
Run = Callable[[int], int]
"""Writes variant 0 or 1 of an output and gives the exit status."""


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


def fork(run: Callable[[], int]) -> int:
    """Start ``run`` in a child whose exit status is what it gives; return the child's number."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        signal.alarm(120)  # a run that hangs is a fault, and not the end of the test
        signal.signal(signal.SIGINT, signal.default_int_handler)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        status = run()
    except SystemExit as stop:
        status = int(stop.code or 0)
    except KeyboardInterrupt:  # before the verb began
        status = 130
    finally:
        os._exit(status)


def finished(child: int) -> bool:
    """Whether a child has ended; it stays to be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def scratch_there(folder: Path) -> bool:
    """Whether somebody is writing."""
    with contextlib.suppress(OSError):
        return any(name.endswith(".part") for name in os.listdir(folder))  # noqa: PTH208  # as fast as can be
    return False


def end_once(
    run: Callable[[], int], number: int, folder: Path, span: float, writing: float, rng: random.Random
) -> str:
    """Start a run, send a signal at a random moment, and tell how it ended.

    Half of the moments lie anywhere in the run, half after it began to write, which is the shorter part.
    """
    child = fork(run)
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
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return f"exit {code}" if code >= 0 else signal.Signals(-code).name


class Place:
    """A folder for one case, its two whole outputs, and how long a run takes."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.folder, self.run = folder, run
        self.whole: list[dict[str, str]] = []
        for variant in (0, 1):
            begun, wrote = time.perf_counter(), None
            child = fork(lambda variant=variant: run(variant))  # type: ignore[misc]
            while not finished(child):
                if wrote is None and scratch_there(folder):
                    wrote = time.perf_counter()
                time.sleep(0.0005)
            _, status = os.waitpid(child, 0)
            if os.waitstatus_to_exitcode(status):
                raise SystemExit(f"{folder.name}: an undisturbed run ended with {status}")
            self.span = time.perf_counter() - begun
            self.writing = time.perf_counter() - (wrote or begun)
            self.whole.append(tree(folder))
            if variant == 0:
                self.old = folder.with_name(f"{folder.name}.old")
                shutil.copytree(folder, self.old)

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


class Training(Place):
    """The training loop: its output is never the same, so it is judged by whether it can be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(folder, lambda variant: self._train(40))

    def reset(self) -> None:
        """Every run goes on where the one before ended."""

    def _train(self, more: int) -> int:
        state = self.folder / "checkpoint" / "loop.json"
        done = json.loads(state.read_text())["step"] if state.exists() else 0
        torch.manual_seed(0)
        network = torch.nn.Linear(2, 1)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        options = LoopOptions(done + more, save_every_s=0.0, log_every=20)
        loop = TrainingLoop("line", self.folder, {"line": network}, optimizer, options)
        try:
            with Terminable():
                loop.run(lambda index: {"loss": network(torch.ones(4, 2)).square().mean()})
        except KeyboardInterrupt:
            return 130
        return 0

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

    def verb(*words: Any) -> Run:
        return lambda variant: main([str(word).replace("{n}", str(variant)) for word in words])

    out = {name: work / name for name in ("generate", "export", "render", "convert", "train")}
    runs = {
        "generate": verb("generate", work / "speech{n}.wav", "-o", out["generate"] / "o.glb"),
        "export": verb(
            "export", work / "motion{n}.safetensors", "-o", out["export"] / "o.ply",
            "--audio", work / "speech{n}.wav",
        ),
        "render": verb(
            "render", work / "scene{n}.glb", "-o", out["render"] / "o.mp4", "--size", "64", "--frames", "6",
            "--threads", "1",
        ),
        "convert": verb("convert", work / "checkpoint{n}", "-o", out["convert"] / "o.nphm"),
    }  # fmt: skip
    if "render" in wanted:
        for variant in (0, 1):
            words = ["export", work / f"motion{variant}.safetensors", "-o", work / f"scene{variant}.glb",
                     "--audio", work / f"speech{variant}.wav"]  # fmt: skip
            if os.waitstatus_to_exitcode(os.waitpid(fork(lambda w=words: main(list(map(str, w)))), 0)[1]):  # type: ignore[misc]
                raise SystemExit("the scene to render could not be made")
    for name in wanted:
        out[name].mkdir()
    return {name: Training(out[name]) if name == "train" else Place(out[name], runs[name]) for name in wanted}


def report(wanted: list[str], runs: int, seed: int) -> dict[str, Any]:
    """End ``runs`` runs of every case by every signal."""
    rng = random.Random(seed)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="facetalk_kill_") as name:
        for case, place in cases(Path(name), wanted).items():
            results[case] = {}
            for number in SIGNALS:
                ends: collections.Counter[str] = collections.Counter()
                left: collections.Counter[str] = collections.Counter()
                for _ in tqdm(range(runs), f"{case} {number.name}", disable=not sys.stderr.isatty()):
                    place.reset()
                    ends[
                        end_once(
                            lambda p=place: p.run(1), number, place.folder, place.span, place.writing, rng
                        )
                    ] += 1  # type: ignore[misc]
                    left[place.judge()] += 1
                cleared = place.clear()
                results[case][number.name] = {
                    "runs": runs, "ended": dict(ends), "left": dict(left), "next_run_cleared_scratch": cleared
                }  # fmt: skip
    return results


def faults(results: dict[str, Any]) -> list[str]:
    """What should not have happened, in words."""
    found = []
    for case, signals in results.items():
        for name, told in signals.items():
            # Two files, a .glb and its sound, cannot be renamed in one step: SIGKILL may come between.
            fine = {"old", "new"} | (
                {"old, scratch", "new, scratch", "mixed, scratch"} if name == "SIGKILL" else set()
            )
            bad = {what: count for what, count in told["left"].items() if what not in fine}
            if bad or not told["next_run_cleared_scratch"]:
                found.append(f"{case} {name}: {bad or 'scratch folders stayed'}")
            if any(end in told["ended"] for end in ("exit 1", "exit 2", "exit 70", "SIGALRM")):
                found.append(f"{case} {name}: an error or a run that hung ({told['ended']})")
    return found


def command_line() -> int:
    """Run as a script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5, help="of each case and signal (default 5)")
    parser.add_argument("--cases", default="generate,export,render,convert,train", help="comma-separated")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", type=Path, default=None, help="also write the counts there")
    args = parser.parse_args()
    results = report(args.cases.split(","), args.runs, args.seed)
    print(json.dumps(results, indent=1))
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    bad = faults(results)
    print("\n".join(bad) if bad else "every output was the old one or the new one")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(command_line())
