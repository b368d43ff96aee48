"""One training loop for every network of the package, over Hugging Face Accelerate.

The loop owns what all trainings share: device placement, learning-rate schedule, seeds, progress, a log,
checkpoints that survive a kill at any moment, and averaging of gradients over processes. What a batch is and
what the loss is stays with the caller, in one function ``step(index)``.
"""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, set_seed
from torch import Tensor, nn
from tqdm import tqdm

from facetalk.errors import InputError
from facetalk.interrupts import Uninterrupted
from facetalk.training.checkpoint import LOG, check_out, older, restore, save

__all__ = ["LoopOptions", "TrainingLoop", "cosine_factor", "follow"]


def cosine_factor(progress: float, floor: float = 0.01) -> float:
    """Learning-rate factor of half a cosine: 1 at ``progress`` 0, ``floor`` at 1."""
    progress = min(max(progress, 0.0), 1.0)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


def follow(average: nn.Module, net: nn.Module, index: int) -> None:
    """Move the weights of ``average`` towards those of ``net``, after step ``index``: by a thousandth, and by
    more in the first steps, so that what they began as is forgotten.
    """
    decay = min(0.999, (1 + index) / (10 + index))
    with torch.no_grad():
        for kept, now in zip(average.parameters(), net.parameters(), strict=True):
            kept.lerp_(now, 1.0 - decay)


@dataclass(frozen=True)
class LoopOptions:
    """How long and how a network is trained.

    Attributes:
        steps: number of optimizer steps in all, earlier sessions included.
        max_minutes: limit on training time, earlier sessions included; None for none. Progress of the
            schedule is the larger of the steps' and the time's, so that a run cut by time ends annealed as
            well.
        lr_schedule: ``"cosine"``, ``"constant"``, or a function of progress in [0, 1] giving a factor.
        warmup: steps over which the factor rises linearly to the schedule.
        clip_norm: largest norm of the gradient, None for no clipping.
        save_every_s: seconds between checkpoints; there is always one at the end.
        log_every: steps between lines of the log.
        seed: seed of torch, numpy and random.
        resume: continue from ``out/checkpoint`` where there is one; otherwise it is replaced.
    """

    steps: int
    max_minutes: float | None = None
    lr_schedule: str | Callable[[float], float] = "cosine"
    warmup: int = 0
    clip_norm: float | None = None
    save_every_s: float = 300.0
    log_every: int = 50
    seed: int = 0
    resume: bool = True

    def check(self, name: str) -> None:
        """Refuse limits that are none.

        Raises:
            InputError: ``steps`` or ``max_minutes`` is not positive, or the schedule is unknown.
        """
        if self.steps < 1:
            raise InputError(f"{name}: the number of training steps is {self.steps}; give at least 1")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise InputError(f"{name}: the time limit is {self.max_minutes} minutes; give more than 0")
        _schedule(self.lr_schedule)


class TrainingLoop:
    """Trains modules until their steps are done or their time has passed, whichever comes first.

    The modules are moved to Accelerate's device in place (look at a parameter's ``device`` to place a
    batch) and are not wrapped, so a step may call any method of them; with several processes the
    gradients are averaged after the backward pass. Global random states are seeded with the seed plus the
    process index and are part of the checkpoint. A generator of the caller's own should be derived from
    ``(seed, index)``, so that a resumed run sees the batches that an unbroken one would have seen.
    """

    def __init__(
        self,
        name: str,
        out: str | Path,
        modules: dict[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        options: LoopOptions,
    ) -> None:
        """Prepare a training, and read its checkpoint where it is to be resumed.

        Args:
            name: shown in the progress bar and in errors.
            out: folder for ``checkpoint/`` and ``log.jsonl``; made if missing.
            modules: what is trained and saved, by name.
            optimizer: over parameters of ``modules``; its learning rates are the peak of the schedule.
            options: how long and how.

        Raises:
            InputError: a limit is not positive, or the checkpoint does not fit.
        """
        options.check(name)
        self.name, self.out, self.options, self.optimizer = name, Path(out), options, optimizer
        self.out.mkdir(parents=True, exist_ok=True)
        check_out(self.out)
        self._accelerator = Accelerator(log_with=_trackers() or None, project_dir=self.out)
        with Uninterrupted():  # see _flush
            self._accelerator.init_trackers(name)
        set_seed(options.seed + self._accelerator.process_index)
        for module in modules.values():
            # evaluation_mode places the module on the device but does not wrap it for distribution.
            self._accelerator.prepare_model(module, evaluation_mode=True)
        self._prepared = self._accelerator.prepare_optimizer(optimizer)
        if self._accelerator.num_processes > 1:
            for module in modules.values():
                for tensor in module.state_dict().values():
                    tensor.copy_(broadcast(tensor))
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._peaks = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
        self._factor = _schedule(options.lr_schedule)
        state = {"step": 0, "seconds": 0.0}
        if options.resume:
            state = restore(self._accelerator, self._checkpoint, state, name)
        elif self._accelerator.is_main_process:
            for stale in (self._checkpoint, older(self._checkpoint), self.out / LOG):
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink(missing_ok=True)
        self.index = self.resumed_at = int(state["step"])
        self._seconds_before = float(state["seconds"])
        self._begun = time.monotonic()
        self._at = self._seconds_before
        self._sums: dict[str, Tensor] = {}
        self._times: Counter[str] = Counter()  # a term need not be of every step
        self._counted = 0

    @property
    def device(self) -> torch.device:
        """Where the modules are, and batches have to be."""
        return self._accelerator.device

    @property
    def _checkpoint(self) -> Path:
        return self.out / "checkpoint"

    @property
    def _limit(self) -> float:
        minutes = self.options.max_minutes
        return math.inf if minutes is None else 60.0 * minutes

    def run(
        self, step: Callable[[int], dict[str, Tensor]], on_save: Callable[[Path], None] | None = None
    ) -> dict[str, Any]:
        """Train.

        Args:
            step: maps the step index to at least ``{"loss": scalar}``; every entry is averaged over
                the steps that have it, and logged.
            on_save: called with ``out`` on the main process after each checkpoint.

        Returns:
            ``{"step", "minutes", "resumed_at", **metrics}``, the metrics averaged over the last log interval.

        Raises:
            FloatingPointError: the loss stopped being finite; the checkpoint before it is kept.
        """
        steps, metrics = self.options.steps, dict[str, float]()
        self._begun = time.monotonic()
        last_save = self._look_at_clock()
        bar = tqdm(
            total=1.0,
            initial=self._progress(),
            desc=self.name,
            disable=not self._accelerator.is_main_process,
            mininterval=2.0,
            bar_format="{desc}: {percentage:3.0f}%|{bar:20}| {elapsed}<{remaining}{postfix}",
        )
        try:
            while self.index < steps and self._look_at_clock() < self._limit:
                # A signal waits for the end of the step: a checkpoint in the middle of one would be of none.
                with Uninterrupted():
                    self._descend(step(self.index))
                if self._counted >= self.options.log_every:
                    metrics = self._flush()
                bar.set_postfix_str(self._told(metrics), refresh=False)
                bar.update(self._progress() - bar.n)
                if self._at - last_save > self.options.save_every_s:
                    self._save(on_save)
                    last_save = self._at
            if self._counted:
                metrics = self._flush()
            if self.index > self.resumed_at or not self._checkpoint.exists():
                self._save(on_save)
        except KeyboardInterrupt:
            self._save(on_save)
            raise
        finally:
            bar.close()
            for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
                group["lr"] = peak
            minutes = self._elapsed() / 60.0
            with Uninterrupted():
                self._accelerator.end_training()
                self._accelerator.free_memory()
        return {"step": self.index, "minutes": minutes, "resumed_at": self.resumed_at, **metrics}

    def _descend(self, result: dict[str, Tensor]) -> None:
        """One step of the optimizer, at the learning rate that progress asks for."""
        rate = self._factor(self._progress()) * min(1.0, (self.index + 1) / max(self.options.warmup, 1))
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * rate
        self._accelerator.backward(result["loss"])
        if self._accelerator.num_processes > 1:
            for parameter in self._parameters:
                if parameter.grad is not None:
                    parameter.grad.copy_(self._accelerator.reduce(parameter.grad, reduction="mean"))
        if self.options.clip_norm is not None:
            self._accelerator.clip_grad_norm_(self._parameters, self.options.clip_norm)
        self._prepared.step()
        self._prepared.zero_grad(set_to_none=True)
        self.index += 1
        self._counted += 1
        for key, value in result.items():
            self._sums[key] = self._sums.get(key, torch.zeros((), device=value.device)) + value.detach()
        self._times.update(result.keys())

    def _progress(self) -> float:
        """Share of the limit that is used up, by whichever of steps and time is nearer to its end."""
        return min(1.0, max(self.index / self.options.steps, self._at / self._limit))

    def _told(self, metrics: dict[str, float]) -> str:
        """How far it is, in the unit of the limit that rules, and the last metrics."""
        by_time = self._at / self._limit > self.index / self.options.steps
        limits = f"step {self.index}" + ("" if by_time else f" of {self.options.steps}")
        if by_time:
            limits += f", {self._at / 60:.1f} of {self._limit / 60:.3g} min"
        return ", ".join([limits, *(f"{key}={value:.4g}" for key, value in metrics.items())])

    def _look_at_clock(self) -> float:
        """Seconds of training by the main process's clock: all have to take the same steps and stops."""
        self._at = self._elapsed()
        if self._accelerator.num_processes > 1:
            seconds = torch.tensor([self._at], dtype=torch.float32, device=self._accelerator.device)
            self._at = float(broadcast(seconds))
        return self._at

    def _elapsed(self) -> float:
        return self._seconds_before + time.monotonic() - self._begun

    def _flush(self) -> dict[str, float]:
        """Write a line of the log: means of what was logged since the line before."""
        means = {key: float(value) / self._times[key] for key, value in self._sums.items()}
        self._sums, self._times, self._counted = {}, Counter(), 0
        if self._accelerator.is_main_process:
            line = {
                "step": self.index,
                "seconds": round(self._elapsed(), 1),
                "lr": self.optimizer.param_groups[0]["lr"],
                **means,
            }
            with (self.out / LOG).open("a") as log:
                log.write(json.dumps(line) + "\n")
        # A signal in the middle of a tracker could leave one of its locks locked, on which the end of the
        # training would wait for ever.
        with Uninterrupted():
            self._accelerator.log(means, step=self.index)
        if not all(math.isfinite(value) for value in means.values()):
            raise FloatingPointError(f"{self.name}: a metric is not finite at step {self.index}: {means}")
        return means

    def _save(self, on_save: Callable[[Path], None] | None) -> None:
        self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            save(self._accelerator, self._checkpoint, {"step": self.index, "seconds": self._elapsed()})
            if on_save is not None:
                on_save(self.out)
        self._accelerator.wait_for_everyone()


def _trackers() -> list[str]:
    """Accelerate's trackers that can be used here without an account."""
    return ["tensorboard"] if importlib.util.find_spec("tensorboard") else []


def _schedule(lr_schedule: str | Callable[[float], float]) -> Callable[[float], float]:
    if callable(lr_schedule):
        return lr_schedule
    known: dict[str, Callable[[float], float]] = {"cosine": cosine_factor, "constant": lambda progress: 1.0}
    if lr_schedule not in known:
        raise InputError(f"unknown learning-rate schedule {lr_schedule!r}; known are {', '.join(known)}")
    return known[lr_schedule]
