"""A model folder as ONNX graphs: encoder step, denoiser step, curves, and what a program has to know of them.

The graphs are of opset 15, which Unity's and Unreal's runtimes take as well as onnxruntime, have a dynamic
batch, and are compared with torch, step after step, before the folder is put in its place.
"""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facetalk.arrays import Float32
from facetalk.convert.denoiser_step import Curves, DenoiserStep
from facetalk.convert.encoder_step import EncoderStep
from facetalk.convert.onnx_readme import readme
from facetalk.errors import InputError
from facetalk.files import atomic_path, check_replaceable
from facetalk.optional import needed_for
from facetalk.pipeline import FaceTalk
from facetalk.reading import written_by

with needed_for("--onnx"):
    import onnx
    import onnxruntime

OPSET = 15
TOLERANCE = 1e-4
SETTINGS = "facetalk-onnx.json"
_FORMAT = "facetalk-onnx"
_STEPS = 6
"""Steps one after the other that are compared, so that caches are too."""

ENCODER = ("encoder_step.onnx", ("samples", "sound", "frames", "heard"),
           ("features", "next_sound", "next_frames", "next_heard"))  # fmt: skip
DENOISER = ("denoiser_step.onnx", ("noisy", "at", "features", "heard", "key", "value", "seen"),
            ("clean", "next_key", "next_value", "next_seen"))  # fmt: skip
CURVES = ("curves.onnx", ("clean",), ("weights",))

is_ours = written_by(SETTINGS, _FORMAT, (SETTINGS, ENCODER[0], DENOISER[0], CURVES[0], "README.md"))
"""Whether a folder holds nothing but what was written here."""


@dataclasses.dataclass(frozen=True)
class Checked:
    """Largest difference between onnxruntime and torch over some steps, per graph."""

    encoder: float
    denoiser: float
    curves: float


def to_onnx(model: FaceTalk, folder: Path, *, look_ahead: float = 0.2, force: bool = False) -> Checked:
    """Write the graphs of a model.

    Args:
        model: the model; its head stays out, whose shapes are in any .glb of it.
        folder: place of the folder; replaced if it is empty or holds what was written here.
        look_ahead: seconds after a frame's middle that are heard for it.
        force: replace the folder whatever it holds.

    Raises:
        InputError: the place cannot be written to, or the networks have no steps of a fixed size.
    """
    mine = None if force else is_ours
    check_replaceable(folder, directory=True, ours=mine)
    fps, motion = model.config.fps, model.motion_model
    encoder = EncoderStep(model.audio_encoder, fps, look_ahead).eval()
    denoiser, curves = DenoiserStep(motion).eval(), Curves(motion).eval()
    with atomic_path(folder, directory=True, ours=mine) as place:
        found = Checked(
            _convert(encoder, place, ENCODER, _encoder_inputs(encoder), encoder.start),
            _convert(denoiser, place, DENOISER, _denoiser_inputs(denoiser), denoiser.start),
            _convert(
                curves, place, CURVES, lambda batch, rng: [_normal(rng, batch, motion.representation.dim)]
            ),
        )
        settings = _settings(model, encoder, denoiser, look_ahead)
        (place / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        (place / "README.md").write_text(readme(settings, dataclasses.asdict(found)), encoding="utf-8")
    return found


Inputs = Callable[[int, np.random.Generator], list[Tensor]]
"""(batch, generator) -> what a step is given beside its caches."""


def _convert(
    step: nn.Module,
    folder: Path,
    names: tuple[str, tuple[str, ...], tuple[str, ...]],
    inputs: Inputs,
    start: Callable[[int], tuple[Tensor, ...]] = lambda batch: (),
) -> float:
    """Export a step and return the largest difference between the two runtimes.

    Raises:
        InputError: it is larger than the tolerance.
    """
    file, given, made = names
    rng = np.random.default_rng(0)
    example = (*inputs(2, rng), *start(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its successor, and of tracing constants
        torch.onnx.export(
            step, example, str(folder / file), dynamo=False, opset_version=OPSET, input_names=list(given),
            output_names=list(made), dynamic_axes={name: {0: "batch"} for name in (*given, *made)},
        )  # fmt: skip
    onnx.checker.check_model(str(folder / file), full_check=True)
    session = onnxruntime.InferenceSession(str(folder / file), providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in (1, 3):
        caches, other = start(batch), [cache.numpy() for cache in start(batch)]
        for _ in range(_STEPS):
            fresh = inputs(batch, rng)
            with torch.inference_mode():
                out = step(*fresh, *caches)
            expected = out if isinstance(out, tuple) else (out,)
            values = [tensor.numpy() for tensor in fresh] + other
            found = session.run(None, dict(zip(given, values, strict=True)))
            worst = max(
                worst, *(float(np.abs(a - b.numpy()).max()) for a, b in zip(found, expected, strict=True))
            )
            caches, other = expected[1:], found[1:]
    if not worst <= TOLERANCE:
        raise InputError(f"{file}: onnxruntime differs from torch by {worst:.2g}, more than {TOLERANCE:g}")
    return worst


def _normal(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))


def _encoder_inputs(step: EncoderStep) -> Inputs:
    return lambda batch, rng: [_normal(rng, batch, step.hop)]


def _denoiser_inputs(step: DenoiserStep) -> Inputs:
    config = step.network.config

    def inputs(batch: int, rng: np.random.Generator) -> list[Tensor]:
        at = torch.tensor([[999.0, 749.0, 1.5][: step.at_columns]]).repeat(batch, 1)
        heard = torch.from_numpy((rng.random((batch, 1)) > 0.3).astype(np.float32))
        return [_normal(rng, batch, config.motion_dim), at, _normal(rng, batch, config.audio_dim), heard]

    return inputs


def _settings(
    model: FaceTalk, encoder: EncoderStep, denoiser: DenoiserStep, look_ahead: float
) -> dict[str, Any]:
    motion = model.motion_model
    counts = motion.student_range.steps if motion.student is not None else (motion.default_steps,)
    layers, heads, history, depth = denoiser.shape
    return {
        "format": _FORMAT,
        "version": 1,
        "model": model.config.name,
        "opset": OPSET,
        "fps": model.config.fps,
        "rate": 16_000,
        "look_ahead": look_ahead,
        "hop": encoder.hop,
        "overlap": encoder.overlap,
        "lead": encoder.lead,
        "window": encoder.window,
        "ahead": encoder.ahead,
        "channels": encoder.channels,
        "features": denoiser.network.config.audio_dim,
        "coordinates": denoiser.network.config.motion_dim,
        "layers": layers, "heads": heads, "history": history, "depth": depth,
        "at": ["timestep", "end", "guidance"][: denoiser.at_columns],
        "guidance": motion.default_guidance,
        "guidance_range": list(motion.student_range.guidance) if motion.student is not None else None,
        "two_rows": denoiser.guided,
        "default_steps": motion.steps_for(None),
        "steps": {str(count): [_step(motion.schedule, *pair) for pair in motion.schedule.transitions(count)]
                  for count in counts},
        "names": list(motion.expression_names),
    }  # fmt: skip


def _step(schedule: Any, timestep: int, end: int) -> dict[str, float]:
    """A DDIM step as next = from_clean * clean + from_noisy * noisy."""
    power, after = schedule.signal_power(timestep), schedule.signal_power(end)
    noise = math.sqrt((1.0 - after) / (1.0 - power))
    return {"timestep": timestep, "end": end, "from_noisy": noise,
            "from_clean": math.sqrt(after) - noise * math.sqrt(power)}  # fmt: skip


def run_folder(
    folder: Path, sound: Float32, noise: Callable[[int], Float32], *, steps: int | None = None
) -> Float32:
    """Curves of normalised sound by the graphs of a folder: what the README describes, in its order.

    Args:
        folder: written by :func:`to_onnx`.
        sound: (N,) 16 kHz, normalised as :class:`facetalk.audio.live.RunningLevel` does.
        noise: (K,) standard normal noise of a frame, by its number.
        steps: of denoising; the folder's default when None.

    Returns:
        (T, E) weights.
    """
    about = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    sessions = [onnxruntime.InferenceSession(str(folder / names[0]), providers=["CPUExecutionProvider"])
                for names in (ENCODER, DENOISER, CURVES)]  # fmt: skip
    plan = about["steps"][str(steps or about["default_steps"])]
    tail = np.zeros((1, about["overlap"]), np.float32)
    tail[0, about["overlap"] - about["lead"] :] = sound[: about["lead"]]
    caches = [tail, np.zeros((1, about["window"] - 1, about["channels"]), np.float32),
              np.zeros((1, about["window"] - 1), np.float32)]  # fmt: skip
    empty = np.zeros((1, about["layers"], about["heads"], about["history"], about["depth"]), np.float32)
    past = [[empty, empty, np.zeros((1, about["history"]), np.float32)] for _ in plan]
    out: list[Float32] = []
    count = (len(sound) - about["lead"]) // about["hop"]
    for number in range(count):
        piece = sound[about["lead"] + number * about["hop"] :][: about["hop"]][None]
        features, *caches = sessions[0].run(None, dict(zip(ENCODER[1], [piece, *caches], strict=True)))
        frame = number - about["ahead"]
        if frame < 0:
            continue
        x = noise(frame)[None]
        for step, pair in enumerate(plan):
            at = np.array(
                [[pair["timestep"], pair["end"], about["guidance"]][: len(about["at"])]], np.float32
            )
            heard = np.ones((1, 1), np.float32)
            given = [x, at, features, heard, *past[step]]
            clean, *past[step] = sessions[1].run(None, dict(zip(DENOISER[1], given, strict=True)))
            x = (pair["from_clean"] * clean + pair["from_noisy"] * x).astype(np.float32)
        out.append(sessions[2].run(None, {"clean": x})[0][0])
    return np.array(out, np.float32).reshape(-1, len(about["names"]))
