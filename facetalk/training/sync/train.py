"""Training of the sync expert."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetalk.data.speech.corpus import read_manifest
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.metrics.sync import SyncExpert
from facetalk.metrics.sync_network import SyncConfig, SyncNetworks
from facetalk.training.loop import LoopOptions, TrainingLoop
from facetalk.training.processes import is_main_process, step_generator
from facetalk.training.resume import check_resume
from facetalk.training.sync.dataset import Head, MouthRig, build, duration, make_batch, without_texts
from facetalk.training.sync.loss import contrastive_terms


@dataclasses.dataclass(frozen=True)
class SyncTraining:
    """Settings of a run.

    Attributes:
        corpus: folder with a manifest whose utterances have phone times; split "valid" is held out, voices
            and texts.
        out: checkpoints, log and the expert go here.
        steps: optimizer steps.
        minutes: stop, annealed, after this time.
        batch: crops of 3.2 s in a step.
        variants: passes over the corpus with other sound.
        faces: faces drawn per recording.
        identities: heads drawn.
        learning_rate: peak.
        seed: of everything random.
        resume: continue from the checkpoint in ``out``.
        save_every_s: seconds between checkpoints.
    """

    corpus: Path
    out: Path
    steps: int = 8000
    minutes: float | None = None
    batch: int = 24
    variants: int = 3
    faces: int = 3
    identities: int = 16
    learning_rate: float = 2e-3
    seed: int = 0
    resume: bool = False
    save_every_s: float = 300.0


def train(config: SyncTraining, model: Head, networks: SyncConfig | None = None) -> dict[str, Any]:
    """Train an expert and save it to ``out/expert``.

    Args:
        config: settings.
        model: whose rig moves the mouths.
        networks: sizes.

    Returns:
        What training.json says: settings, sizes of corpus and networks, steps, minutes, the last means.

    Raises:
        InputError: a setting out of range, no corpus, or nothing in it to train on.
    """
    for name in ("batch", "variants", "faces", "identities"):
        if getattr(config, name) < 1:
            raise InputError(f"{name} must be at least 1, got {getattr(config, name)}")
    if not config.learning_rate > 0:
        raise InputError(f"the learning rate must be positive, got {config.learning_rate:g}")
    check_resume(config.out, config.resume)
    held_out = read_manifest(config.corpus, split="valid")
    utterances = without_texts(read_manifest(config.corpus, split="train"), held_out)
    rig = MouthRig.of(model, config.identities, config.seed)
    data = build(
        utterances, config.out / "cache", variants=config.variants, faces=config.faces, seed=config.seed
    )
    torch.manual_seed(config.seed)  # the loop's own comes too late for what is made here
    nets = SyncNetworks(networks or SyncConfig())
    decayed = [p for p in nets.parameters() if p.ndim > 1]
    other = [p for p in nets.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.02}, {"params": other, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
    reference = _typical_speed(_speed(make_batch(data, rig, np.random.default_rng(config.seed), 32)))

    def step(index: int) -> dict[str, Tensor]:
        nets.train()
        rng = step_generator(config.seed, index)
        batch = make_batch(data, rig, rng, config.batch)
        device = nets.log_scale.device
        # A resting mouth fits any silence, so windows count by how much moves in them.
        weight = (_speed(batch) / reference).clamp(0.02, 1.0).to(device)
        return contrastive_terms(
            nets.embed_motion(batch["motion"].to(device)),
            nets.embed_audio(batch["audio"].to(device)),
            nets.log_scale,
            weight,
            torch.Generator().manual_seed(int(rng.integers(2**31))),
        )

    def expert() -> SyncExpert:
        return SyncExpert(nets, rig.template)

    options = LoopOptions(
        steps=config.steps,
        max_minutes=config.minutes,
        warmup=min(200, config.steps // 20 + 1),
        clip_norm=1.0,
        save_every_s=config.save_every_s,
        seed=config.seed,
        resume=config.resume,
    )
    loop = TrainingLoop("sync", config.out, {"networks": nets}, optimizer, options)
    result = loop.run(step, on_save=lambda out: expert().save(out / "expert"))
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k not in ("corpus", "out", "resume")}
    told = {
        "settings": settings,
        "parameters": sum(p.numel() for p in nets.parameters()),
        "utterances": len(utterances),
        "voices": len({u.voice for u in utterances}),
        "minutes_of_speech": round(sum(u.seconds for u in utterances) / 60.0, 1),
        "minutes_with_variants": round(duration(data), 1),
        "held_out_voices": sorted({u.voice for u in held_out}),
        **result,
    }
    if is_main_process():
        expert().save(config.out / "expert")
        with atomic_path(config.out / "training.json") as temporary:
            temporary.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return told


def _speed(batch: dict[str, Tensor]) -> Tensor:
    """(B, W) mean absolute speed of the mouth within each window."""
    speed = batch["motion"][..., batch["motion"].shape[-1] // 2 :].abs().mean(-1)
    return torch.nn.functional.avg_pool1d(speed[:, None], 16, stride=1)[:, 0]


def _typical_speed(speed: Tensor) -> float:
    return max(float(speed.median()), 1e-6)
