"""``facetalk train motion``: the denoiser, from a speech corpus and a frozen audio encoder.

As in the paper: x_0 prediction, mean squared error, null condition with probability 0.25, expression
augmentation w <- r w. Ours: coordinates with a geometric metric (see ``facetalk.diffusion.representation``),
a weight per coordinate by how much one sees of it, a loss on velocities against jitter, and a loss on the
inner-lip gap in millimetres that is strictest where the lips are closed.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetalk.audio import AudioEncoder
from facetalk.data.captured import CodeSpace, is_captured, read_space, read_stretches
from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.data.heads.ict import BUILT_IN, MorphableHead
from facetalk.data.speech.corpus import read_manifest
from facetalk.diffusion.checkpoint import is_model_folder
from facetalk.diffusion.denoiser import Denoiser, DenoiserConfig
from facetalk.diffusion.lip_contact import LipContact, LipGap
from facetalk.diffusion.model import MotionModel
from facetalk.diffusion.representation import Representation, face_metric, lip_gap_matrix
from facetalk.diffusion.schedule import NoiseSchedule
from facetalk.errors import InputError
from facetalk.multi_pie import LOWER_LIP, UPPER_LIP
from facetalk.training.checkpoint import make_out
from facetalk.training.loop import LoopOptions, TrainingLoop, follow
from facetalk.training.motion.captured import build_captured, lips_of, prepare_learned
from facetalk.training.motion.dataset import MotionData, build
from facetalk.training.processes import check_workers, is_main_process, step_generator
from facetalk.training.resume import check_resume
from facetalk.units import DEFAULT_FPS, HEAD_UNIT_MM

_FACE_FRONT = 6706
"""Vertices of ICT-FaceKit's narrow face, which come first in its part ``face``."""
_VISIBLE_MM = (0.3, 3.0)
"""A coordinate's error counts by its size in mm within these limits; beyond them all count alike."""
_GAP_SOFT_MM = 1.0
"""An error of the gap counts relative to (gap + this): 0.5 mm matters at a closure, not in an open vowel."""


@dataclass(frozen=True)
class MotionTrainingOptions:
    """What a training of the motion model is told.

    Attributes:
        corpus: folder of a speech corpus.
        audio: audio encoder, a folder or a hub name.
        out: folder for checkpoints, log, and ``model/``.
        head: packed morphable head, for the metric; None takes the copy in the package.
        preset: size of the denoiser, "mini" or "paper".
        init: motion model to start from.
        steps, minutes: limits; the first that is reached ends the training.
        batch, crop: crops per step, and frames per crop.
        rate: peak learning rate.
        variants: encoded copies of the corpus, all but one augmented.
        share: share of the corpus in each encoded copy.
        workers: processes that encode it, 0 = this one.
        cache_minutes: no new copies after this long.
        seed: seed of everything random.
        resume: continue from ``out``.
    """

    corpus: Path
    audio: str
    out: Path
    head: Path | None = None
    preset: str = "mini"
    init: Path | None = None
    steps: int = 20_000
    minutes: float | None = None
    batch: int = 16
    crop: int = 96
    rate: float = 1e-3
    variants: int = 4
    share: float = 1.0
    workers: int = 0
    cache_minutes: float | None = None
    seed: int = 0
    resume: bool = False

    def check(self) -> None:
        """Refuse values that cannot be.

        Raises:
            InputError: the share is not in (0, 1], or a crop or batch is too small.
        """
        check_workers(self.workers)
        if not 0.0 < self.share <= 1.0:
            raise InputError(f"--share must lie in (0, 1], got {self.share}")
        if self.crop < 2 or self.batch < 1:
            raise InputError(
                f"--crop must be at least 2 and --batch at least 1, got {self.crop} and {self.batch}"
            )

    def command(self) -> str:
        """The options that matter for the result as a command, without the paths of this machine."""
        unsaid = ("corpus", "audio", "out", "head", "resume", "init")
        told = {name: value for name, value in asdict(self).items() if name not in unsaid}
        return "facetalk train motion " + " ".join(
            f"--{name.replace('_', '-')} {value}" for name, value in told.items() if value is not None
        )


def train(options: MotionTrainingOptions) -> dict[str, Any]:
    """Train and write the model to ``out/model``.

    Returns:
        steps, minutes and the last metrics, see :meth:`facetalk.training.loop.TrainingLoop.run`.

    Raises:
        InputError: an option is out of range, or corpus, encoder or head cannot be used.
    """
    options.check()
    check_resume(options.out, options.resume)
    make_out(options.out, "model", is_model_folder)
    encoder = AudioEncoder.from_pretrained(options.audio)
    begun = time.monotonic()

    def in_time() -> bool:
        return options.cache_minutes is None or time.monotonic() - begun < 60.0 * options.cache_minutes

    data, held_out, space = _data(options, encoder, in_time)
    print(f"{data.frames} frames of features to train on, {held_out.frames} held out")
    torch.manual_seed(options.seed)
    model = prepare(data, options.head, options.preset, options.init, space)
    training = MotionTraining(
        data, held_out, model, options,
        gap=None if space is None else lips_of(space), feature_space=encoder.feature_space,
    )  # fmt: skip
    loop = TrainingLoop(
        "motion",
        options.out,
        {"denoiser": training.net, "average": training.average},
        training.optimizer,
        LoopOptions(
            steps=options.steps,
            max_minutes=options.minutes,
            warmup=min(200, options.steps // 20 + 1),
            clip_norm=1.0,
            seed=options.seed,
            resume=options.resume,
        ),
    )
    result = loop.run(training.step, on_save=training.save)
    if is_main_process():
        training.save(options.out)
    return result


def _data(
    options: MotionTrainingOptions, encoder: AudioEncoder, in_time: Callable[[], bool]
) -> tuple[MotionData, MotionData, CodeSpace | None]:
    """What is trained on, what is held out, and what the codes of captures do."""
    folder, fixed = options.corpus, {"cache": options.out / "cache", "fps": DEFAULT_FPS}
    ours: dict[str, Any] = {
        **fixed, "variants": options.variants, "seed": options.seed, "share": options.share,
        "keep_going": in_time,
    }  # fmt: skip
    theirs: dict[str, Any] = {**fixed, "variants": 1, "seed": options.seed + 1}
    if is_captured(folder):
        if options.workers:
            raise InputError("--workers is for a corpus of speech, and this one was captured; leave it out")
        train, valid = (read_stretches(folder, split=split) for split in ("train", "valid"))
        space = read_space(folder)
        return build_captured(train, encoder, **ours), build_captured(valid, encoder, **theirs), space
    spoken, unheard = (read_manifest(folder, split=split) for split in ("train", "valid"))
    ours, theirs = ({**told, "workers": options.workers} for told in (ours, theirs))
    return build(spoken, encoder, **ours, draws=3), build(unheard, encoder, **theirs, draws=1), None


def prepare(
    data: MotionData,
    head: Path | None,
    preset: str,
    init: Path | None = None,
    space: CodeSpace | None = None,
) -> MotionModel:
    """A model to train, with everything that follows from the data: coordinates, feature scale, contact.

    Args:
        data: training data.
        head: the packed ICT-FaceKit head; None takes the copy in the package.
        preset: "mini" or "paper" (its sizes; motion and audio sizes follow the data).
        init: a motion model to start from, for another corpus or a newer audio encoder; it keeps its sizes
            and coordinates and takes the feature scale of the new data.
        space: of codes that were captured; None for the weights of a speech corpus. Where its numbers have no
            names, its metric and lips are taken instead of the head's.

    Raises:
        InputError: the head cannot be read or has other expressions than the corpus, or the encoder's
            features or the corpus's codes have another size than ``init`` was made for, or ``head`` is given
            for codes that are not its own.
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
        size = data.weights[0].shape[-1]
        if model.expression_dim != size:
            raise InputError(
                f"{init} moves {model.expression_dim} expressions, the corpus has codes of {size}; drop "
                f"--init"
            )
        model.feature_mean, model.feature_scale = feature_mean, feature_scale
        return model
    if space is not None and space.names is None:
        if head is not None:
            raise InputError("--head is for weights with names; what captured codes do is in their corpus")
        return prepare_learned(data, space, preset, feature_mean, feature_scale)
    if space is not None and space.names != tuple(EXPRESSION_NAMES):
        raise InputError("the corpus was captured with a head of other expressions than the built-in one")
    morphable = MorphableHead.load(head or BUILT_IN)
    names = list(morphable.expression_names)
    if tuple(names) != tuple(EXPRESSION_NAMES):
        raise InputError(f"{head} has other expressions than the built-in head; give ict_facekit_light.npz")
    moves, rest = morphable.expression_basis * HEAD_UNIT_MM, morphable.neutral * HEAD_UNIT_MM
    landmarks = morphable.landmark_ids
    metric = face_metric(moves, rest, landmarks, _FACE_FRONT, names)
    weights = np.concatenate([part.reshape(-1, part.shape[-1]) for part in data.weights]).astype(np.float32)
    representation = Representation.fit(weights[:: max(1, len(weights) // 100_000)], metric)
    rest_gap = (rest[landmarks[list(UPPER_LIP)], 1] - rest[landmarks[list(LOWER_LIP)], 1]).mean()
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
        expression_scale: range of the factor r of the paper's expression augmentation, w <- r w; the paper
            does not give its own.
        gap_weight, velocity_weight: of the losses beside the squared error.

    Args:
        data: what is trained on.
        held_out: what is measured beside it.
        model: what is trained.
        options: sizes, rate and seed.
        gap: of the lips; None takes that of the model's lip contact.
        feature_space: whose features the data has, see :attr:`facetalk.audio.AudioEncoder.feature_space`.
    """

    expression_scale: tuple[float, float] = (0.85, 1.15)
    gap_weight: float = 1.0
    velocity_weight: float = 1.0

    def __init__(
        self,
        data: MotionData,
        held_out: MotionData,
        model: MotionModel,
        options: MotionTrainingOptions,
        *,
        gap: LipGap | None = None,
        feature_space: str | None = None,
    ) -> None:
        self.data, self.held_out, self.model, self.options = data, held_out, model, options
        self._feature_space = feature_space
        self._held: dict[str, Tensor] = {}
        self.net = model.denoiser.train().requires_grad_(True)
        self.average = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=options.rate, betas=(0.9, 0.99), weight_decay=0.01
        )
        self.schedule: NoiseSchedule = model.schedule
        scale = model.representation.scale_mm.clip(*_VISIBLE_MM)
        lips = model.contact if gap is None else gap
        assert lips is not None
        self._constants = {
            "weight": torch.from_numpy(scale / scale.mean()).float(),
            "gap": torch.from_numpy(lips.per_unit_mm @ model.representation.decode_matrix).float(),
            "mean": model.feature_mean,
            "scale": model.feature_scale,
        }
        self._gap_bias = float(lips.gap(model.representation.mean))

    def step(self, index: int) -> dict[str, Tensor]:
        """One batch: the loss and its parts. Every 50th step also measures the held-out voices."""
        follow(self.average, self.net, index)
        losses = self._loss(self.net, self.data, step_generator(self.options.seed, index), augment=True)
        # A training that goes on begins between two of these measurements.
        if index % 50 == 0 or not self._held:
            with torch.no_grad():
                held = self._loss(self.average, self.held_out, np.random.default_rng(1), augment=False)
            self._held = {f"held_out_{name}": value.detach() for name, value in held.items()}
        return {**losses, **self._held}

    def save(self, out: Path) -> None:
        """Write the averaged model to ``out/model``."""
        trained = copy.deepcopy(self.average).cpu()
        model = self.model
        notes: dict[str, Any] = {
            "trained_with": self.options.command(),
            "frames_of_features": self.data.frames,
        }
        if set(model.notes) - {"head"}:
            notes["started_from"] = model.notes
        if "head" in model.notes:
            notes["head"] = model.notes["head"]
        if self._feature_space is not None:
            notes["feature_space"] = self._feature_space
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
            limits=model.limits,
            notes=notes,
        ).save(out / "model", half=True)

    def _loss(
        self, net: Denoiser, data: MotionData, rng: np.random.Generator, *, augment: bool
    ) -> dict[str, Tensor]:
        device = net.motion_in.weight.device
        fixed = {name: value.to(device) for name, value in self._constants.items()}
        pairs = [data.crop(rng, self.options.crop) for _ in range(self.options.batch)]
        features = torch.from_numpy(np.stack([heard for heard, _ in pairs])).to(device)
        weights = np.stack([moved for _, moved in pairs])
        if augment:
            weights = weights * rng.uniform(*self.expression_scale, (len(weights), 1, 1)).astype(np.float32)
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
        loss = squared + self.velocity_weight * velocity + self.gap_weight * gap
        return {"loss": loss, "mse": squared, "velocity": velocity, "gap": gap}
