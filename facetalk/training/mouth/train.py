"""An autoencoder of rendered mouths, trained on truth: ``facetalk train mouth-features``."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from facetalk.arrays import Float32, UInt8
from facetalk.data.speech.corpus import Utterance, read_manifest
from facetalk.data.visemes import curves
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.metrics.image_features import FEATURES, Mirror, MouthFeatures
from facetalk.metrics.images import image_distances, mouth_crops
from facetalk.metrics.manifest import Spoken, read, with_phones
from facetalk.motion import Motion
from facetalk.training.loop import LoopOptions, TrainingLoop
from facetalk.training.processes import is_main_process, step_generator
from facetalk.training.resume import check_resume
from facetalk.units import DEFAULT_FPS


class Head(Protocol):
    """What of :class:`facetalk.FaceTalk` is needed here."""

    @property
    def head(self) -> Any:
        """Its neural parametric head."""

    def decode(self, motion: Motion) -> Any:
        """Motion -> meshes."""

    def landmarks(self, motion: Motion) -> Float32:
        """Motion -> (T, 68, 3) metres."""


@dataclasses.dataclass(frozen=True)
class MouthTraining:
    """Settings of a run.

    Attributes:
        corpus: folder with a manifest whose utterances have phone times; its split "train" is taken.
        out: checkpoint, log and features go here.
        crops: pictures to train on.
        identities: heads drawn; the first is the default one, and half of the pictures are of it.
        steps: optimizer steps.
        minutes: stop, annealed, after this time.
        batch: pictures in a step.
        learning_rate: peak.
        seed: of everything random.
        resume: continue from the checkpoint in ``out``.
    """

    corpus: Path
    out: Path
    crops: int = 4000
    identities: int = 3
    steps: int = 2500
    minutes: float | None = None
    batch: int = 48
    learning_rate: float = 2e-3
    seed: int = 0
    resume: bool = False


def truth_frames(utterances: Sequence[Utterance], count: int, rng: np.random.Generator) -> Float32:
    """(count, 53) expression codes of frames of truth, a few of each utterance, each with another face."""
    frames: list[Float32] = []
    while sum(map(len, frames)) < count:
        utterance = utterances[int(rng.integers(len(utterances)))]
        weights = curves(
            utterance.phones, utterance.seconds, DEFAULT_FPS, alphabet=utterance.alphabet, rng=rng
        )
        chosen = rng.permutation(len(weights))[: max(1, len(weights) // 8)]
        frames.append(weights[chosen])
    return np.concatenate(frames)[:count]


def train(config: MouthTraining, model: Head) -> dict[str, Any]:
    """Train the features and save them to ``out/features``.

    Args:
        config: settings.
        model: whose head is drawn.

    Returns:
        What training.json says: sizes, steps, minutes, and how well pictures that were left out are seen.

    Raises:
        InputError: a setting out of range, no corpus, or nothing in it to train on.
    """
    for name, least in (("crops", 20), ("identities", 1), ("batch", 1)):
        if getattr(config, name) < least:
            raise InputError(f"{name} must be at least {least}, got {getattr(config, name)}")
    if not config.learning_rate > 0:
        raise InputError(f"the learning rate must be positive, got {config.learning_rate:g}")
    check_resume(config.out, config.resume)
    utterances = read_manifest(config.corpus, split="train")
    if not utterances:
        raise InputError(f"{config.corpus}: no utterance of split 'train' there")
    config.out.mkdir(parents=True, exist_ok=True)
    pictures = _pictures(config, model, utterances)
    held_out = np.sort(
        np.random.default_rng((config.seed, 1)).permutation(len(pictures))[: len(pictures) // 20]
    )
    used = np.setdiff1d(np.arange(len(pictures)), held_out)
    torch.manual_seed(config.seed)  # the loop's own comes too late for what is made here
    features, mirror = MouthFeatures(), Mirror()
    optimizer = torch.optim.AdamW(
        [*features.parameters(), *mirror.parameters()], lr=config.learning_rate, weight_decay=1e-4
    )

    def step(index: int) -> dict[str, Tensor]:
        rng = step_generator(config.seed, index)
        batch = _tensor(pictures[used[rng.integers(len(used), size=config.batch)]])
        batch = batch.to(features.mean.device)
        codes = features.encode(batch)
        # Noise on the codes keeps their scale from growing and near codes near in the picture.
        noisy = codes + 0.1 * torch.randn_like(codes)
        error = functional.mse_loss(mirror(noisy), batch / 127.5 - 1.0)
        return {"loss": error + 1e-4 * codes.square().mean(), "mse": error}

    options = LoopOptions(
        steps=config.steps,
        max_minutes=config.minutes,
        warmup=min(100, config.steps // 20 + 1),
        clip_norm=1.0,
        save_every_s=120.0,
        seed=config.seed,
        resume=config.resume,
    )
    modules: dict[str, nn.Module] = {"features": features, "mirror": mirror}
    result = TrainingLoop("mouth-features", config.out, modules, optimizer, options).run(step)
    _standardise(features, pictures[used])
    told = {
        "parameters": sum(p.numel() for p in features.parameters()),
        "crops": len(pictures),
        "identities": config.identities,
        "steps": result["step"],
        "minutes": round(result["minutes"], 1),
        "psnr_held_out_db": round(_psnr(features, mirror, pictures[held_out]), 2),
    }
    if is_main_process():
        features.save(config.out / "features")
        with atomic_path(config.out / "training.json") as temporary:
            temporary.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return told


def measure(
    features: nn.Module, recordings: Sequence[Spoken], model: Head, count: int, seed: int
) -> dict[str, dict[str, Any]]:
    """FID and KID of control motions to truth, on the default identity.

    Args:
        features: what is compared.
        recordings: what truth is made of; they are gone through again until there are enough frames.
        model: whose head is drawn.
        count: pictures a side.
        seed: of the draws.

    Returns:
        Row -> :func:`facetalk.metrics.images.image_distances`. "truth again" has other draws of the same
        recordings; the rest change these.
    """
    if count < 2:
        raise InputError(f"a distance needs at least 2 pictures a side, got {count}")
    clips: list[list[Float32]] = [[], []]
    for draw, clip in enumerate(clips):
        rng = np.random.default_rng((seed, draw))
        while sum(map(len, clip)) < count:
            for spoken in recordings:
                phones = spoken.phones or []
                seconds = phones[-1][2] if phones else 1.0
                clip.append(curves(phones, seconds, DEFAULT_FPS, alphabet=spoken.alphabet, rng=rng))
    reference, again = (np.concatenate(clip) for clip in clips)
    smoothed = np.concatenate([gaussian_filter1d(clip, 3.0, axis=0) for clip in clips[1]])
    rows = {
        "truth again": again,
        "smoothed (3 frames)": smoothed,
        "half": 0.5 * again,
        "doubled": np.clip(2.0 * again, 0.0, 1.0),
        "frozen": np.repeat(again.mean(0, keepdims=True), len(again), axis=0),
    }
    rest = _rest(model, model.head.default_identity)

    def drawn(weights: Float32) -> UInt8:
        chosen = np.linspace(0, len(weights) - 1, count).round().astype(int)
        motion = Motion(weights[chosen].astype(np.float32), DEFAULT_FPS, model.head.default_identity)
        return mouth_crops(model.decode(motion), rest)

    truth = drawn(reference)
    bar = tqdm(rows.items(), "measure", unit="row", disable=not sys.stderr.isatty())
    return {
        name: image_distances(truth, drawn(weights), features=features, seed=seed) for name, weights in bar
    }


def validate_folder(
    folder: Path, manifest: Path, model: Head, *, split: str | None, count: int, seed: int
) -> dict[str, Any]:
    """:func:`measure` the features in ``folder`` on a manifest (with phone times, or texts to be aligned).

    Returns:
        The rows, with what they were measured on.

    Raises:
        InputError: no features there, a manifest that cannot be used, or fewer than 2 pictures asked for.
    """
    features = MouthFeatures.from_pretrained(folder)
    rows = measure(features, list(with_phones(read(manifest, split=split))), model, count, seed)
    return {"manifest": manifest.name, "split": split, "seed": seed, "pictures": count, "distances": rows}


def _pictures(config: MouthTraining, model: Head, utterances: Sequence[Utterance]) -> UInt8:
    """Crops of truth, cached beside the checkpoint."""
    file = config.out / f"crops-{config.crops}-{config.identities}-{config.seed}.npy"
    if file.is_file():
        return np.asarray(np.load(file, allow_pickle=False))
    rng = np.random.default_rng(config.seed)
    shares = [config.crops]
    if config.identities > 1:
        each = config.crops // 2 // (config.identities - 1)
        shares = [config.crops - each * (config.identities - 1), *[each] * (config.identities - 1)]
    drawn = []
    with tqdm(total=config.crops, desc="draw", unit="picture", disable=not sys.stderr.isatty()) as bar:
        for number, share in enumerate(shares):
            identity = model.head.default_identity
            if number:  # as in MouthRig: faces, not caricatures
                identity = model.head.encode_identity(0.8 * np.clip(rng.standard_normal(100), -2.0, 2.0))
            rest = _rest(model, identity)
            frames = truth_frames(utterances, share, rng)
            meshes = model.decode(Motion(frames, DEFAULT_FPS, identity))
            for start in range(0, share, 200):
                drawn.append(mouth_crops(meshes[start : start + 200], rest))
                bar.update(len(drawn[-1]))
    pictures = np.concatenate(drawn)
    with atomic_path(file) as temporary:
        np.save(temporary, pictures)
    return pictures


def _rest(model: Head, identity: Float32) -> Float32:
    """(68, 3) metres."""
    still = np.zeros((1, len(model.head.expression_names)), np.float32)
    return np.asarray(model.landmarks(Motion(still, DEFAULT_FPS, identity))[0])


def _tensor(pictures: UInt8) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float()


@torch.inference_mode()
def _standardise(features: MouthFeatures, pictures: UInt8) -> None:
    """Give the features mean 0 and variance 1 over ``pictures``."""
    features.eval()
    device = features.mean.device
    parts = [features.encode(_tensor(pictures[i : i + 256]).to(device)) for i in range(0, len(pictures), 256)]
    codes = torch.cat(parts)
    features.mean.copy_(codes.mean(0))
    features.scale.copy_(codes.std(0).clamp(min=1e-3))
    assert codes.shape[1] == FEATURES


@torch.inference_mode()
def _psnr(features: MouthFeatures, mirror: Mirror, pictures: UInt8) -> float:
    """Peak signal to noise ratio of reconstructions, dB."""
    batch = _tensor(pictures)
    seen = (mirror.cpu()(features.encode(batch)) + 1.0) * 127.5
    return float(20 * np.log10(255.0) - 10 * torch.log10(functional.mse_loss(seen, batch)))
