"""One training loop for every network of the package, over Hugging Face Accelerate.

The loop owns what all trainings share: device placement, learning-rate schedule, seeds, progress,
a log, checkpoints that survive a kill at any moment, and averaging of gradients over processes.
What a batch is and what the loss is stays with the caller, in one function ``step(index)``.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, set_seed
from torch import Tensor, nn
from tqdm import tqdm

from facetalk.errors import InputError

__all__ = ["cosine_factor", "train_loop"]

_STATE_FILE = "loop.json"


def cosine_factor(progress: float, floor: float = 0.01) -> float:
    """Learning-rate factor of half a cosine: 1 at ``progress`` 0, ``floor`` at 1."""
    progress = min(max(progress, 0.0), 1.0)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


def train_loop(
    *,
    name: str,
    out: str | Path,
    modules: dict[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    step: Callable[[int], dict[str, Tensor]],
    steps: int,
    lr_schedule: str | Callable[[float], float] = "cosine",
    warmup: int = 0,
    save_every_s: float = 300.0,
    log_every: int = 50,
    seed: int = 0,
    resume: bool = True,
    on_save: Callable[[Path], None] | None = None,
    max_minutes: float | None = None,
    clip_norm: float | None = None,
) -> dict[str, Any]:
    """Train until ``steps`` steps are done or ``max_minutes`` have passed, whichever comes first.

    The modules are moved to Accelerate's device in place (look at a parameter's ``device`` to place a
    batch) and are not wrapped, so ``step`` may call any method of them; with several processes the
    gradients are averaged after the backward pass. Global random states are seeded with ``seed`` plus the
    process index and are part of the checkpoint. A generator of the caller's own should be derived from
    ``(seed, index)``, so that a resumed run sees the batches that an unbroken one would have seen.

    Args:
        name: Shown in the progress bar and in errors.
        out: Folder for ``checkpoint/`` and ``log.jsonl``; made if missing.
        modules: What is trained and saved, by name.
        optimizer: Over parameters of ``modules``; its learning rates are the peak of the schedule.
        step: Maps the step index to at least ``{"loss": scalar}``; every entry is averaged and logged.
        steps: Number of optimizer steps in all, earlier sessions included.
        lr_schedule: ``"cosine"``, ``"constant"``, or a function of progress in [0, 1] giving a factor.
        warmup: Steps over which the factor rises linearly to the schedule.
        save_every_s: Seconds between checkpoints; there is always one at the end.
        log_every: Steps between lines of the log.
        seed: Seed of torch, numpy and random.
        resume: Continue from ``out/checkpoint`` where there is one; otherwise it is replaced.
        on_save: Called with ``out`` on the main process after each checkpoint.
        max_minutes: Limit on training time, earlier sessions included. Progress of the schedule is the
            larger of the steps' and the time's, so that a run cut by time ends annealed as well.
        clip_norm: Largest norm of the gradient, None for no clipping.

    Returns:
        ``{"step", "minutes", "resumed_at", **metrics}``, the metrics averaged over the last log interval.

    Raises:
        InputError: ``steps`` or ``max_minutes`` is not positive, or the checkpoint does not fit.
        FloatingPointError: The loss stopped being finite; the checkpoint before it is kept.
    """
    if steps < 1:
        raise InputError(f"{name}: the number of training steps is {steps}; give at least 1")
    if max_minutes is not None and not max_minutes > 0:
        raise InputError(f"{name}: the time limit is {max_minutes} minutes; give more than 0")
    factor = _schedule(lr_schedule)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)

    accelerator = Accelerator()
    set_seed(seed + accelerator.process_index)
    for module in modules.values():
        # evaluation_mode places the module on the device but does not wrap it for distribution.
        accelerator.prepare_model(module, evaluation_mode=True)
    prepared = accelerator.prepare_optimizer(optimizer)
    if accelerator.num_processes > 1:
        for module in modules.values():
            for tensor in module.state_dict().values():
                tensor.copy_(broadcast(tensor))
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    peaks = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]

    state = {"step": 0, "seconds": 0.0}
    checkpoint = out / "checkpoint"
    if resume:
        state = _restore(accelerator, checkpoint, state, name)
    elif accelerator.is_main_process:
        for stale in (checkpoint, _sibling(checkpoint, "old"), out / "log.jsonl"):
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink(missing_ok=True)
    start = resumed_at = int(state["step"])
    begun = last_save = time.monotonic()
    sums: dict[str, Tensor] = {}
    counted = 0
    metrics: dict[str, float] = {}
    limit = math.inf if max_minutes is None else 60.0 * max_minutes

    def elapsed() -> float:
        return float(state["seconds"]) + time.monotonic() - begun

    def save(index: int) -> None:
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            _save(accelerator, checkpoint, {"step": index, "seconds": elapsed()})
            if on_save is not None:
                on_save(out)
        accelerator.wait_for_everyone()

    def flush(index: int) -> dict[str, float]:
        means = {key: float(value) / max(counted, 1) for key, value in sums.items()}
        if accelerator.is_main_process:
            line = {
                "step": index,
                "seconds": round(elapsed(), 1),
                "lr": optimizer.param_groups[0]["lr"],
                **means,
            }
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
        if not all(math.isfinite(value) for value in means.values()):
            raise FloatingPointError(f"{name}: a metric is not finite at step {index}: {means}")
        return means

    index = start
    bar = tqdm(
        total=steps,
        initial=start,
        desc=name,
        unit="step",
        disable=not accelerator.is_main_process,
        mininterval=2.0,
    )
    try:
        while index < steps and elapsed() < limit:
            rate = factor(max(index / steps, elapsed() / limit)) * min(1.0, (index + 1) / max(warmup, 1))
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * rate
            result = step(index)
            accelerator.backward(result["loss"])
            if accelerator.num_processes > 1:
                for parameter in parameters:
                    if parameter.grad is not None:
                        parameter.grad.copy_(accelerator.reduce(parameter.grad, reduction="mean"))
            if clip_norm is not None:
                accelerator.clip_grad_norm_(parameters, clip_norm)
            prepared.step()
            prepared.zero_grad(set_to_none=True)
            index += 1
            bar.update(1)
            for key, value in result.items():
                sums[key] = sums.get(key, torch.zeros((), device=value.device)) + value.detach()
            counted += 1
            if counted >= log_every:
                metrics = flush(index)
                bar.set_postfix({key: f"{value:.4g}" for key, value in metrics.items()}, refresh=False)
                sums, counted = {}, 0
            if time.monotonic() - last_save > save_every_s:
                save(index)
                last_save = time.monotonic()
        if counted:
            metrics = flush(index)
        if index > start or not checkpoint.exists():
            save(index)
    except KeyboardInterrupt:
        save(index)
        raise
    finally:
        bar.close()
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak
        minutes = elapsed() / 60.0
        accelerator.free_memory()
    return {"step": index, "minutes": minutes, "resumed_at": resumed_at, **metrics}


def _schedule(lr_schedule: str | Callable[[float], float]) -> Callable[[float], float]:
    if callable(lr_schedule):
        return lr_schedule
    known: dict[str, Callable[[float], float]] = {"cosine": cosine_factor, "constant": lambda progress: 1.0}
    if lr_schedule not in known:
        raise InputError(f"unknown learning-rate schedule {lr_schedule!r}; known are {', '.join(known)}")
    return known[lr_schedule]


def _sibling(folder: Path, suffix: str) -> Path:
    return folder.with_name(f"{folder.name}.{suffix}")


def _save(accelerator: Accelerator, folder: Path, state: dict[str, float]) -> None:
    """Write a checkpoint beside the old one and swap them: at every moment one of the two is whole."""
    fresh, old = _sibling(folder, "new"), _sibling(folder, "old")
    shutil.rmtree(fresh, ignore_errors=True)
    accelerator.save_state(str(fresh))
    (fresh / _STATE_FILE).write_text(json.dumps(state))
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _restore(accelerator: Accelerator, folder: Path, state: dict[str, float], name: str) -> dict[str, float]:
    for candidate in (folder, _sibling(folder, "old")):
        if (candidate / _STATE_FILE).is_file():
            try:
                accelerator.load_state(str(candidate))
                return {**state, **json.loads((candidate / _STATE_FILE).read_text())}
            except (RuntimeError, ValueError, KeyError, OSError) as error:
                reason = str(error).splitlines()[0]
                raise InputError(
                    f"{name}: the checkpoint in {candidate} does not fit this training ({reason}); "
                    "use another output folder or start afresh"
                ) from error
    return state
