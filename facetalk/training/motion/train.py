"""``facetalk train motion``: the denoiser, from a speech corpus and a frozen audio encoder.

As in the paper: x_0 prediction, mean squared error, null condition with probability 0.25, expression
augmentation w <- r w. Ours: coordinates with a geometric metric (see ``facetalk.diffusion.representation``),
a weight per coordinate by how much one sees of it, a loss on velocities against jitter, and a loss on the
inner-lip gap in millimetres that is strictest where the lips are closed.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetalk.data.speech.corpus import read_manifest
from facetalk.data.visemes import EXPRESSION_NAMES
from facetalk.diffusion.denoiser import Denoiser, DenoiserConfig
from facetalk.diffusion.lip_contact import LipContact
from facetalk.diffusion.model import MotionModel
from facetalk.diffusion.representation import Representation, face_metric, lip_gap_matrix
from facetalk.diffusion.schedule import NoiseSchedule
from facetalk.errors import InputError
from facetalk.training.motion.dataset import MotionData, build
from facetalk.units import DEFAULT_FPS, HEAD_UNIT_MM

_FACE_FRONT = 6706
"""Vertices of ICT-FaceKit's narrow face, which come first in its part ``face``."""
_GAP_WEIGHT, _VELOCITY_WEIGHT = 1.0, 1.0
_VISIBLE_MM = (0.3, 3.0)
"""A coordinate's error counts by its size in mm within these limits; beyond them all count alike."""
_GAP_SOFT_MM = 1.0
"""An error of the gap counts relative to (gap + this): 0.5 mm matters at a closure, not in an open vowel."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    parser.add_argument(
        "--corpus", type=Path, required=True, metavar="DIR", help="from `facetalk data speech`"
    )
    parser.add_argument(
        "--audio", required=True, metavar="MODEL", help="audio encoder: a folder or a hub name"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoints, log, and model/")
    parser.add_argument(
        "--head", type=Path, required=True, metavar="NPZ", help="ict_facekit_light.npz, for the metric"
    )
    parser.add_argument("--preset", choices=("mini", "paper"), default="mini", help="size of the denoiser")
    parser.add_argument(
        "--init", type=Path, default=None, metavar="MODEL", help="start from this motion model"
    )
    parser.add_argument("--steps", type=int, default=20_000, help="training steps")
    parser.add_argument("--minutes", type=float, default=None, help="limit on training time")
    parser.add_argument("--batch", type=int, default=16, help="crops per step")
    parser.add_argument("--crop", type=int, default=96, help="frames per crop")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument(
        "--variants", type=int, default=4, help="encoded copies of the corpus, all but one augmented"
    )
    parser.add_argument("--share", type=float, default=1.0, help="share of the corpus in each encoded copy")
    parser.add_argument("--cache-minutes", type=float, default=None, help="no new copies after this long")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
    parser.add_argument("--resume", action="store_true", help="continue from --out")


def run(args: argparse.Namespace) -> None:
    """Train and write the model to ``out/model``."""
    from facetalk.audio import AudioEncoder
    from facetalk.training.loop import train_loop

    if not 0.0 < args.share <= 1.0:
        raise InputError(f"--share must lie in (0, 1], got {args.share}")
    if args.crop < 2 or args.batch < 1:
        raise InputError(
            f"--crop must be at least 2 and --batch at least 1, got {args.crop} and {args.batch}"
        )
    encoder = AudioEncoder.from_pretrained(args.audio)
    begun = time.monotonic()

    def in_time() -> bool:
        return args.cache_minutes is None or time.monotonic() - begun < 60.0 * args.cache_minutes

    cache = args.out / "cache"
    data = build(
        read_manifest(args.corpus, split="train"), encoder, cache, fps=DEFAULT_FPS, variants=args.variants,
        draws=3, seed=args.seed, share=args.share, keep_going=in_time,
    )  # fmt: skip
    held_out = build(
        read_manifest(args.corpus, split="valid"), encoder, cache, fps=DEFAULT_FPS, variants=1, draws=1,
        seed=args.seed + 1,
    )  # fmt: skip
    print(f"{data.frames} frames of features to train on, {held_out.frames} held out")
    torch.manual_seed(args.seed)
    training = MotionTraining(data, held_out, prepare(data, args.head, args.preset, args.init), args)
    result = train_loop(
        name="motion",
        out=args.out,
        modules={"denoiser": training.net, "average": training.average},
        optimizer=training.optimizer,
        step=training.step,
        steps=args.steps,
        warmup=200,
        seed=args.seed,
        resume=args.resume,
        on_save=training.save,
        max_minutes=args.minutes,
        clip_norm=1.0,
    )
    training.save(args.out)
    print(f"{result['step']} steps in {result['minutes']:.1f} min; the model is in {args.out / 'model'}")


def prepare(data: MotionData, head: Path, preset: str, init: Path | None = None) -> MotionModel:
    """A model to train, with everything that follows from the data: coordinates, feature scale, contact.

    Args:
        data: training data.
        head: the packed ICT-FaceKit head.
        preset: "mini" or "paper" (its sizes; motion and audio sizes follow the data).
        init: a motion model to start from, for another corpus or a newer audio encoder; it keeps its sizes
            and coordinates and takes the feature scale of the new data.

    Raises:
        InputError: the head cannot be read or has other expressions than the corpus, or the encoder's
            features have another size than ``init`` was made for.
    """
    heard = np.concatenate(data.features)
    heard = heard[:: max(1, len(heard) // 50_000)].astype(np.float32)
    feature_mean, feature_scale = torch.from_numpy(heard.mean(0)), torch.from_numpy(heard.std(0) + 1e-3)
    if init is not None:
        model = MotionModel.load(init)
        size = model.denoiser.config.audio_dim
        if size != heard.shape[1]:
            raise InputError(
                f"{init} takes {size} audio features, this encoder gives {heard.shape[1]}; drop --init"
            )
        model.feature_mean, model.feature_scale = feature_mean, feature_scale
        return model
    from facetalk.data.heads.ict import MorphableHead

    morphable = MorphableHead.load(head)
    names = list(morphable.expression_names)
    if tuple(names) != tuple(EXPRESSION_NAMES):
        raise InputError(f"{head} has other expressions than the built-in head; give ict_facekit_light.npz")
    moves, rest = morphable.expression_basis * HEAD_UNIT_MM, morphable.neutral * HEAD_UNIT_MM
    landmarks = morphable.landmark_ids
    metric = face_metric(moves, rest, landmarks, _FACE_FRONT, names)
    weights = np.concatenate([part.reshape(-1, part.shape[-1]) for part in data.weights]).astype(np.float32)
    representation = Representation.fit(weights[:: max(1, len(weights) // 100_000)], metric)
    rest_gap = (rest[landmarks[[61, 62, 63]], 1] - rest[landmarks[[67, 66, 65]], 1]).mean()
    per_unit = lip_gap_matrix(moves, landmarks).mean(0)
    contact = LipContact(float(rest_gap), per_unit, names.index("mouthClose"))
    config = getattr(DenoiserConfig, preset)(motion_dim=representation.dim, audio_dim=heard.shape[1])
    return MotionModel(
        Denoiser(config),
        representation,
        expression_names=names,
        feature_mean=feature_mean,
        feature_scale=feature_scale,
        contact=contact,
    )


class MotionTraining:
    """The training step and what it needs.

    Attributes:
        net: the denoiser that is trained.
        average: its exponential moving average, which is what gets saved.
        optimizer: AdamW over ``net``.
    """

    def __init__(
        self, data: MotionData, held_out: MotionData, model: MotionModel, args: argparse.Namespace
    ) -> None:
        self.data, self.held_out, self.model, self.args = data, held_out, model, args
        self.net = model.denoiser.train().requires_grad_(True)
        self.average = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=0.01
        )
        self.schedule: NoiseSchedule = model.schedule
        scale = model.representation.scale_mm.clip(*_VISIBLE_MM)
        assert model.contact is not None
        gap = model.contact.per_unit_mm
        self._constants = {
            "weight": torch.from_numpy(scale / scale.mean()).float(),
            "gap": torch.from_numpy(gap @ model.representation.decode_matrix).float(),
            "mean": model.feature_mean,
            "scale": model.feature_scale,
        }
        self._gap_bias = float(model.contact.gap(model.representation.mean))

    def step(self, index: int) -> dict[str, Tensor]:
        """One batch: the loss and its parts. Every 50th step also measures the held-out voices."""
        self._update_average(index)
        losses = self._loss(self.net, self.data, np.random.default_rng((self.args.seed, index)), augment=True)
        if index % 50 == 0:
            with torch.no_grad():
                held = self._loss(self.average, self.held_out, np.random.default_rng(1), augment=False)
            self._held = {f"held_out_{name}": value.detach() for name, value in held.items()}
        return {**losses, **self._held}

    def save(self, out: Path) -> None:
        """Write the averaged model to ``out/model``."""
        trained = copy.deepcopy(self.average).cpu()
        model = self.model
        notes: dict[str, Any] = {"trained_with": _command(self.args), "frames_of_features": self.data.frames}
        if model.notes:
            notes["started_from"] = model.notes
        MotionModel(
            trained,
            model.representation,
            expression_names=model.expression_names,
            feature_mean=model.feature_mean.cpu(),
            feature_scale=model.feature_scale.cpu(),
            schedule=model.schedule,
            default_steps=model.default_steps,
            default_guidance=model.default_guidance,
            contact=model.contact,
            notes=notes,
        ).save(out / "model", half=True)

    def _update_average(self, index: int) -> None:
        decay = min(0.999, (1 + index) / (10 + index))
        with torch.no_grad():
            for kept, now in zip(self.average.parameters(), self.net.parameters(), strict=True):
                kept.lerp_(now, 1.0 - decay)

    def _loss(
        self, net: Denoiser, data: MotionData, rng: np.random.Generator, *, augment: bool
    ) -> dict[str, Tensor]:
        device = net.motion_in.weight.device
        fixed = {name: value.to(device) for name, value in self._constants.items()}
        pairs = [data.crop(rng, self.args.crop) for _ in range(self.args.batch)]
        features = torch.from_numpy(np.stack([heard for heard, _ in pairs])).to(device)
        weights = np.stack([moved for _, moved in pairs])
        if augment:
            weights = weights * rng.uniform(0.85, 1.15, (len(weights), 1, 1)).astype(np.float32)
        clean = torch.from_numpy(self.model.representation.encode(weights)).to(device)
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32)).to(device)
        timesteps = torch.from_numpy(rng.integers(0, self.schedule.train_steps, len(pairs))).to(device)
        drop = torch.from_numpy(rng.random(len(pairs)) < (0.25 if augment else 0.0)).to(device)

        condition = net.condition((features - fixed["mean"]) / fixed["scale"], drop=drop)
        predicted, _ = net(self.schedule.add_noise(clean, noise, timesteps), timesteps, condition)

        squared = ((predicted - clean).square() * fixed["weight"]).mean()
        error_mm = (predicted - clean) @ fixed["gap"]
        true_mm = (clean @ fixed["gap"] + self._gap_bias).clamp_min(0.0)
        gap = torch.nn.functional.huber_loss(
            error_mm / (true_mm + _GAP_SOFT_MM), torch.zeros_like(error_mm), delta=1.0
        )
        velocity = ((predicted - clean).diff(dim=1).square() * fixed["weight"]).mean()
        loss = squared + _VELOCITY_WEIGHT * velocity + _GAP_WEIGHT * gap
        return {"loss": loss, "mse": squared, "velocity": velocity, "gap": gap}


def _command(args: argparse.Namespace) -> str:
    """The options that matter for the result, without the paths of this machine."""
    told = {
        k: v
        for k, v in vars(args).items()
        if k not in ("corpus", "audio", "out", "head", "part", "resume", "init")
    }
    return "facetalk train motion " + " ".join(
        f"--{k.replace('_', '-')} {v}" for k, v in told.items() if v is not None
    )
