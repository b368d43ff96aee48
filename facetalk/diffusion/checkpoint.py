"""The folder of a motion model: ``config.json``, ``model.safetensors``, ``student.safetensors``."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetalk.arguments import whole_number
from facetalk.arrays import Float64
from facetalk.diffusion.denoiser import Denoiser, DenoiserConfig
from facetalk.diffusion.lip_contact import LipContact
from facetalk.diffusion.representation import Representation
from facetalk.diffusion.schedule import NoiseSchedule
from facetalk.diffusion.student import Student, StudentRange
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.reading import one_line, read_json
from facetalk.tensors import check_sizes
from facetalk.weights import build_for, check_tensors, read_tensors, write_tensors

_FORMAT = "facetalk-motion-model"
_VERSION, _WITHOUT_LIMITS = 1, 2
"""The second is that of models whose values have no limits, which earlier readers would cut to 0..1."""
_CONFIG, _WEIGHTS, _STUDENT = "config.json", "model.safetensors", "student.safetensors"


@dataclasses.dataclass(frozen=True)
class MotionContent:
    """What the folder holds; see :class:`facetalk.diffusion.MotionModel` for the meaning of each."""

    denoiser: Denoiser
    representation: Representation
    expression_names: list[str]
    feature_mean: Tensor
    feature_scale: Tensor
    schedule: NoiseSchedule
    default_steps: int
    default_guidance: float
    contact: LipContact | None
    limits: tuple[float, float] | None
    notes: dict[str, Any]
    student: Student | None
    student_range: StudentRange | None


def write(folder: str | os.PathLike[str], content: MotionContent, *, half: bool, force: bool) -> None:
    """Write a folder, replacing one of a motion model as a whole.

    Args:
        folder: the place; its parent has to exist.
        content: what to write.
        half: store the networks as float16.
        force: replace the folder even if it holds other files than a motion model.

    Raises:
        InputError: the place cannot be written to, or holds something else.
    """
    kind = torch.float16 if half else torch.float32
    tensors = {
        f"denoiser.{name}": value.to(kind).contiguous()
        for name, value in content.denoiser.state_dict().items()
    }
    for field in dataclasses.fields(content.representation):
        array = getattr(content.representation, field.name)
        tensors[f"representation.{field.name}"] = torch.from_numpy(np.ascontiguousarray(array)).float()
    tensors |= {"features.mean": content.feature_mean, "features.scale": content.feature_scale}
    config: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION if content.limits is not None else _WITHOUT_LIMITS,
        "denoiser": dataclasses.asdict(content.denoiser.config),
        "schedule": {"kind": "cosine", "train_steps": content.schedule.train_steps},
        "sampling": {"steps": content.default_steps, "guidance": content.default_guidance},
        "expression_names": content.expression_names,
        "notes": content.notes,
    }
    if content.contact is not None:
        tensors["contact.per_unit_mm"] = torch.from_numpy(content.contact.per_unit_mm).float()
        config["contact"] = {
            "bias_mm": content.contact.bias_mm,
            "close": content.expression_names[content.contact.close],
            "lowest_mm": content.contact.lowest_mm,
        }
    with atomic_path(folder, directory=True, ours=None if force else is_model_folder) as temporary:
        write_tensors(temporary / _WEIGHTS, tensors)
        if content.student is not None and content.student_range is not None:
            write_tensors(
                temporary / _STUDENT, {k: v.to(kind) for k, v in content.student.state_dict().items()}
            )
            config["student"] = dataclasses.asdict(content.student_range)
        (temporary / _CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def read(folder: Path, device: str | torch.device, dtype: torch.dtype) -> MotionContent:
    """Read a folder that :func:`write` made.

    Args:
        folder: where it was written to.
        device: where the networks go.
        dtype: what they compute in.

    Raises:
        InputError: a file is missing, damaged, of another kind, or a tensor is missing or has the wrong
            shape.
    """
    for name in (_CONFIG, _WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{folder} is not a motion model folder: it has no {name}")
    content = read_json(folder / _CONFIG)
    tensors = read_tensors(folder / _WEIGHTS)
    check_tensors(tensors, folder / _WEIGHTS)
    student = None
    if (folder / _STUDENT).is_file():
        student = read_tensors(folder / _STUDENT)
        check_tensors(student, folder / _STUDENT)
    if content.get("format") != _FORMAT:
        raise InputError(f"{folder / _CONFIG} does not describe a motion model (format is not {_FORMAT!r})")
    if content.get("version") not in (_VERSION, _WITHOUT_LIMITS):
        raise InputError(
            f"{folder / _CONFIG} has version {content.get('version')!r}; this is for {_VERSION} and "
            f"{_WITHOUT_LIMITS}"
        )
    try:
        return _assemble(content, tensors, student, device, dtype)
    except Exception as error:
        reason = one_line(error, 300)
        raise InputError(
            f"the motion model in {folder} is incomplete or does not fit together: {reason}"
        ) from error


def _assemble(
    content: dict[str, Any],
    tensors: dict[str, Tensor],
    student_tensors: dict[str, Tensor] | None,
    device: str | torch.device,
    dtype: torch.dtype,
) -> MotionContent:
    check_sizes(content["denoiser"], "denoiser")
    config = DenoiserConfig(**content["denoiser"])
    denoiser = build_for(lambda: Denoiser(config), tensors, "denoiser")
    prefix = "denoiser."
    denoiser.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    if content["schedule"].get("kind", "cosine") != "cosine":
        raise ValueError("the noise schedule is not cosine")
    names = [str(name) for name in content["expression_names"]]
    size, dim = len(names), denoiser.config.motion_dim
    shapes = {
        "mean": (size,),
        "encode_matrix": (dim, size),
        "decode_matrix": (size, dim),
        "scale_mm": (dim,),
    }
    parts: dict[str, Float64] = {}
    for name, shape in shapes.items():
        parts[name] = _tensor(tensors, f"representation.{name}", shape).double().numpy()
    contact = None
    if "contact" in content:
        told = content["contact"]
        per_unit = _tensor(tensors, "contact.per_unit_mm", (size,)).double().numpy()
        contact = LipContact(
            float(told["bias_mm"]), per_unit, names.index(told["close"]), float(told["lowest_mm"])
        )
    student = None
    if student_tensors is not None and "student" in content:
        student = Student(denoiser.config)
        student.load_state_dict(student_tensors)
        student = student.to(device, dtype)
    audio = (denoiser.config.audio_dim,)
    return MotionContent(
        denoiser=denoiser.to(device, dtype),
        representation=Representation(**parts),
        expression_names=names,
        feature_mean=_tensor(tensors, "features.mean", audio),
        feature_scale=_tensor(tensors, "features.scale", audio),
        schedule=NoiseSchedule(int(content["schedule"]["train_steps"])),
        default_steps=whole_number("sampling.steps", content["sampling"]["steps"]),
        default_guidance=float(content["sampling"]["guidance"]),
        contact=contact,
        limits=(0.0, 1.0) if content["version"] == _VERSION else None,
        notes=dict(content.get("notes") or {}),
        student=student,
        student_range=StudentRange(**content["student"]) if student is not None else None,
    )


def is_model_folder(folder: Path) -> bool:
    """Whether a folder holds nothing but what :func:`write` writes."""
    names = {entry.name for entry in folder.iterdir()}
    if not names <= {_CONFIG, _WEIGHTS, _STUDENT} or _CONFIG not in names:
        return False
    return bool(read_json(folder / _CONFIG).get("format") == _FORMAT)


def _tensor(tensors: dict[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    if name not in tensors:
        raise ValueError(f"tensor {name} is missing")
    if tuple(tensors[name].shape) != shape:
        raise ValueError(f"tensor {name} should have shape {shape}, has {tuple(tensors[name].shape)}")
    return tensors[name]
