"""Training of the small audio encoder: ``facetalk train audio --corpus DIR --out DIR``.

From scratch on speech with phone times. Two linear heads read each motion frame: shares of articulatory
classes (cross entropy) and how the lips stand (regression of the viseme curves and a flag for closed lips).
Frames of p, b, m and f, v weigh more, because that is where viewers look. The heads are dropped from the
saved model.
"""

from __future__ import annotations

import dataclasses
import io
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from facetalk.arrays import Float32, Float64
from facetalk.audio.encoder import AudioEncoder, hidden_states, receptive_field
from facetalk.audio.whisper import RATE
from facetalk.data.phones import CLASSES, is_bilabial
from facetalk.data.speech.corpus import Utterance, read_manifest
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.reading import one_line
from facetalk.training.audio.augment import change_speed, spoil
from facetalk.training.audio.mini_wav2vec2 import (
    is_encoder_folder,
    name_features,
    save_encoder,
    small_model,
    whiten_filters,
)  # fmt: skip
from facetalk.training.audio.targets import BILABIAL, CURVES, LABIODENTAL, Targets, make_targets
from facetalk.training.audio.teachers import COMPONENTS, read_taught
from facetalk.training.checkpoint import make_out
from facetalk.training.loop import LoopOptions, TrainingLoop
from facetalk.training.processes import (
    check_workers,
    in_processes,
    is_main_process,
    quick_products,
    step_generator,
)
from facetalk.training.resume import check_resume
from facetalk.training.workers import Batch, Drawn
from facetalk.units import DEFAULT_FPS, SAMPLE_RATE

_HEADS = "heads.pt"
_HELD_OUT = 64
"""About so many recordings of voices that are not trained on are measured on the way."""
_HELD_OUT_EVERY = 50
"""Steps between these measurements."""
_HELD_OUT_STEP = 2**31
"""Number of their batch, which no training comes to."""
#: Lips count as closed below this gap, mm.
CLOSED_MM = 0.5


@dataclasses.dataclass(frozen=True)
class AudioTraining:
    """Settings of a run."""

    corpus: Path
    out: Path
    steps: int = 6000
    minutes: float | None = None
    batch: int = 16
    crop_s: float = 3.2
    learning_rate: float = 1.5e-3
    seed: int = 0
    resume: bool = False
    save_every_s: float = 300.0
    workers: int = 0


class Heads(nn.Module):
    """The linear readers of the features, needed in training only."""

    def __init__(self, width: int, taught: int = 0) -> None:
        super().__init__()
        self.taught = nn.Linear(width, taught) if taught else None
        self.norm = nn.LayerNorm(width)
        self.classes = nn.Linear(width, len(CLASSES))
        self.curves = nn.Linear(width, len(CURVES))
        self.closed = nn.Linear(width, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, A) features to class logits, curves and the logit of closed lips (B, T)."""
        hidden = self.norm(features)
        return self.classes(hidden), self.curves(hidden), self.closed(hidden)[..., 0]


class Speech:
    """A corpus in memory: 16-bit sound and targets.

    Args:
        utterances: what is read.
        lower_mm: (53, 3) how far each expression moves a head's lower lip, where its place is a target.
        workers: processes that read; below 2 this one does.
        teacher: read what a teacher makes of them too (:mod:`facetalk.training.audio.teachers`).
    """

    def __init__(
        self, utterances: list[Utterance], lower_mm: Float64 | None = None, workers: int = 0,
        teacher: bool = False,
    ) -> None:  # fmt: skip
        self.utterances = utterances
        self.components = COMPONENTS if teacher else 0

        def read(utterance: Utterance) -> tuple[npt.NDArray[np.int16], Targets]:
            samples = utterance.samples()
            seconds = len(samples) / SAMPLE_RATE
            targets = make_targets(utterance.phones, seconds, utterance.alphabet, lower_mm)
            if teacher:
                taught = read_taught(utterance)
                targets = dataclasses.replace(targets, taught=taught, taught_rate=RATE)
            return np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16), targets

        done = tqdm(
            in_processes(read, utterances, workers), total=len(utterances),
            desc="reading speech", unit="file", disable=not sys.stderr.isatty(),
        )  # fmt: skip
        read_in = list(done)
        self.sound = [sound for sound, _ in read_in]
        self.targets = [targets for _, targets in read_in]
        lengths = np.array([len(s) for s in self.sound], np.float64)
        # Recorded voices are few and short; synthetic ones are plenty and all alike.
        human = np.array([2.0 if u.source.startswith("Debian") else 1.0 for u in utterances])
        self.weights = lengths * human / (lengths * human).sum()

    def crop(self, index: int, start: int, count: int) -> Float32:
        """``count`` samples from ``start``, zeros outside the recording."""
        sound = self.sound[index]
        out = np.zeros(count, np.float32)
        a, b = max(0, start), min(len(sound), start + count)
        if b > a:
            out[a - start : b - start] = sound[a:b] / np.float32(32768)
        return out


def make_batch(
    speech: Speech, config: AudioTraining, step: int, geometry: tuple[int, int]
) -> dict[str, Tensor]:
    """A batch of augmented crops with its targets, the same for the same ``(seed, step)``.

    Returns:
        waves (B, N), classes (B, T, C), curves (B, T, 9).
    """
    rng = step_generator(config.seed, step)
    field, stride = geometry
    margin = (field - stride) // 2
    frames = int(config.crop_s * DEFAULT_FPS)
    length = -(-round(frames / DEFAULT_FPS * SAMPLE_RATE) // stride) * stride
    waves, classes, values = [], [], []
    for _ in range(config.batch):
        index = int(rng.choice(len(speech.sound), p=speech.weights))
        factor = float(np.exp(rng.uniform(np.log(0.78), np.log(1.28))))
        need = int(length * factor)
        slack = len(speech.sound[index]) - need
        edge = SAMPLE_RATE // 2
        start = int(rng.integers(min(0, slack) - edge, max(0, slack) + edge))
        wave = change_speed(speech.crop(index, start, need), factor)[:length]
        wave = np.pad(wave, (0, length - len(wave)))
        babble = None
        if rng.random() < 0.15:
            other = int(rng.choice(len(speech.sound)))
            babble = speech.crop(
                other, int(rng.integers(0, max(1, len(speech.sound[other]) - length))), length
            )
        if np.abs(wave).max() < 1e-4:  # nothing but silence: leave it quiet
            wave = rng.normal(0.0, 0.1, length).astype(np.float32)
        else:
            wave = spoil(wave, rng, babble)
        waves.append(np.pad(wave, (margin, field - stride - margin)))
        times = (np.arange(frames) + 0.5) / DEFAULT_FPS * factor + start / SAMPLE_RATE
        share, curve = speech.targets[index].at(times, factor / DEFAULT_FPS)
        classes.append(share)
        values.append(curve)
    return {
        "waves": torch.from_numpy(np.stack(waves)),
        "classes": torch.from_numpy(np.stack(classes)),
        "curves": torch.from_numpy(np.stack(values)),
    }


def loss_terms(
    outputs: tuple[Tensor, Tensor, Tensor], classes: Tensor, values: Tensor, share: Tensor | None = None
) -> dict[str, Tensor]:
    """Losses of a batch; frames of closed lips weigh 3, frames of lip on teeth 2, times their ``share``."""
    logits, curves, closed = outputs
    lips = classes[..., list(BILABIAL)].sum(-1).clamp(max=1)
    teeth = classes[..., list(LABIODENTAL)].sum(-1).clamp(max=1)
    given = torch.ones_like(lips) if share is None else share
    weight = (1 + 2 * lips + teeth) * given
    shut = (values[..., 0] * CURVES[0][2] < CLOSED_MM).float()
    cross = -(classes * functional.log_softmax(logits, dim=-1)).sum(-1)
    error = (curves - values) ** 2
    scale = weight.mean()
    terms = {
        "phones": (cross * weight).mean() / scale,
        "curves": (error.mean(-1) * weight).mean() / scale,
        "gap": (error[..., 0] * (weight + 2 * shut * given)).mean() / scale,
        "closed": (
            functional.binary_cross_entropy_with_logits(closed, shut, reduction="none") * weight
        ).mean()
        / scale,
    }
    terms["loss"] = terms["phones"] + terms["curves"] + 0.5 * terms["gap"] + terms["closed"]
    return terms


def train(config: AudioTraining) -> Path:
    """Train an encoder and save it to ``out/encoder`` (a Wav2Vec 2.0 folder) and its heads beside it.

    Raises:
        InputError: no corpus, or nothing to train on in it.
    """
    if config.batch < 1 or not config.learning_rate > 0:
        raise InputError(
            f"batch and learning rate must be positive, got {config.batch} and {config.learning_rate:g}"
        )
    LoopOptions(steps=config.steps, max_minutes=config.minutes).check("audio")
    check_workers(config.workers)
    check_resume(config.out, config.resume)
    make_out(config.out, "encoder", is_encoder_folder)
    if (config.out / _HEADS).exists() and not (config.out / "encoder").exists():
        raise InputError(f"{config.out / _HEADS} is of no training of an encoder; use another --out")
    utterances = read_manifest(config.corpus, split="train")
    if not utterances:
        raise InputError(f"{config.corpus}: no utterance of split 'train' there")
    speech = Speech(utterances, workers=config.workers)
    unheard = read_manifest(config.corpus, split="valid")
    held_out = Speech(unheard[:: max(1, len(unheard) // _HELD_OUT)]) if unheard else None
    model = small_model(config.seed)
    heads = Heads(model.config.hidden_size)
    modules: dict[str, nn.Module] = {"encoder": model, "heads": heads}
    geometry = receptive_field(model.config)
    whiten_filters(model, make_batch(speech, config, -1 & 0xFFFFFFFF, geometry)["waves"])
    span = round(model.config.attention_span_s * DEFAULT_FPS)
    frames = int(config.crop_s * DEFAULT_FPS)
    positions = (torch.arange(frames) + 0.5) / DEFAULT_FPS * SAMPLE_RATE / geometry[1] - 0.5
    trained = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)

    def losses(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        device = loop.device
        batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        hidden = hidden_states(model, batch["waves"], positions.to(device), span)
        return loss_terms(heads(hidden), batch["classes"], batch["curves"])

    figures: dict[str, Tensor] = {}
    # The same crops each time, so that the figures can be compared.
    unheard_batch = make_batch(held_out, config, _HELD_OUT_STEP, geometry) if held_out else None

    def step(index: int) -> dict[str, Tensor]:
        if unheard_batch is not None and (index % _HELD_OUT_EVERY == 0 or not figures):
            model.eval()
            heads.eval()
            with torch.no_grad():
                terms = losses(unheard_batch)
            figures.update({f"held_out_{name}": value for name, value in terms.items()})
        model.train()
        heads.train()
        return {**losses(drawn(index)), **figures}

    def save(out: Path) -> None:
        name_features(model)
        save_encoder(model, out / "encoder")
        content = io.BytesIO()  # torch's own error on a full disk does not tell what it is
        torch.save(heads.state_dict(), content)
        with atomic_path(out / _HEADS) as temporary:
            temporary.write_bytes(content.getbuffer())

    options = LoopOptions(
        steps=config.steps,
        max_minutes=config.minutes,
        warmup=min(100, config.steps // 20 + 1),
        clip_norm=1.0,
        save_every_s=config.save_every_s,
        seed=config.seed,
        resume=config.resume,
    )
    loop = TrainingLoop("audio", config.out, modules, optimizer, options)

    def draw(index: int) -> Batch:
        return make_batch(speech, config, index, geometry)

    pinned = loop.device.type == "cuda"
    with quick_products(loop.device), Drawn(draw, config.workers, pinned=pinned) as drawn:
        result = loop.run(step, on_save=save)
    if not is_main_process():
        return config.out / "encoder"
    save(config.out)
    print(
        f"audio encoder in {config.out / 'encoder'}: " + ", ".join(f"{k} {v:.4g}" for k, v in result.items())
    )
    return config.out / "encoder"


@torch.inference_mode()
def evaluate(encoder: AudioEncoder, heads: Heads, utterances: list[Utterance]) -> dict[str, float]:
    """How well features tell phones and lips on given recordings.

    Returns:
        Frame accuracy over the classes, recall of p, b, m (their frames told as any of the three), the share
        of their occurrences whose predicted gap falls under 1.5 mm within 40 ms of the phone, and
        correlations of the curves.
    """
    heads.eval()
    right = total = lip_right = lip_total = shut = shut_total = 0
    predicted, wanted = [], []
    for utterance in utterances:
        samples = utterance.samples()
        features = encoder.features(samples, fps=DEFAULT_FPS)
        logits, values, _ = heads(features[None])
        times = (np.arange(len(features)) + 0.5) / DEFAULT_FPS
        target = make_targets(utterance.phones, len(samples) / SAMPLE_RATE, utterance.alphabet)
        shares, curve = target.at(times, 1 / DEFAULT_FPS)
        label, guess = shares.argmax(1), logits[0].argmax(1).numpy()
        known = shares.max(1) >= 0.5
        right += int((label == guess)[known].sum())
        total += int(known.sum())
        lips = known & np.isin(label, BILABIAL)
        lip_right += int(np.isin(guess[lips], BILABIAL).sum())
        lip_total += int(lips.sum())
        predicted.append(values[0].numpy())
        wanted.append(curve)
        gap = values[0, :, 0].numpy() * CURVES[0][2]
        for symbol, start, end in utterance.phones:
            if is_bilabial(symbol, utterance.alphabet):
                near = (times >= start - 0.04) & (times <= end + 0.04)
                if near.any():
                    shut_total += 1
                    shut += int(gap[near].min() < 1.5)
    a, b = np.concatenate(predicted), np.concatenate(wanted)
    out = {
        "utterances": float(len(utterances)),
        "phone_accuracy": right / max(1, total),
        "bilabial_recall": lip_right / max(1, lip_total),
        "bilabial_closed": shut / max(1, shut_total),
    }
    for column, (name, _, _) in enumerate(CURVES):
        x, y = a[:, column] - a[:, column].mean(), b[:, column] - b[:, column].mean()
        norm = float(np.sqrt((x**2).sum() * (y**2).sum()))
        out[f"r_{name}"] = float((x * y).sum()) / norm if norm > 0 else float("nan")
    return out


def load_heads(path: Path, width: int) -> Heads:
    """Read the heads that :func:`train` saved beside the encoder.

    Raises:
        InputError: the file is missing or does not fit.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        taught = state["taught.bias"].shape[0] if "taught.bias" in state else 0
        heads = Heads(width, taught)
        heads.load_state_dict(state)
    except Exception as error:  # of whatever kind torch has for a damaged file
        raise InputError(f"{path}: no heads of an audio training there ({one_line(error, 80)})") from error
    return heads


def report(out: Path, corpus: Path) -> dict[str, dict[str, float]]:
    """Figures of a trained encoder for each voice of a corpus that it was not trained on.

    Args:
        out: folder of the training.
        corpus: a corpus; its split ``"valid"`` is used.

    Raises:
        InputError: no encoder or heads in ``out``, or nothing of split ``"valid"`` in the corpus.
    """
    encoder = AudioEncoder.from_pretrained(out / "encoder")
    utterances = read_manifest(corpus, split="valid")
    if not utterances:
        raise InputError(f"{corpus}: no utterance of split 'valid' there")
    voices: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        voices.setdefault(utterance.voice, []).append(utterance)
    heads = load_heads(out / _HEADS, encoder.feature_dim)
    return {voice: evaluate(encoder, heads, chosen) for voice, chosen in sorted(voices.items())}
