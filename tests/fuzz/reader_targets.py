"""Spoilt recordings, motions, manifests, models and checkpoints, through the readers that people call."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from mutate import HUGE, integer, pick, real, real32, spoil_bytes, spoil_json, to_json, values

from facetalk.audio.load import load_audio
from facetalk.diffusion import Denoiser, DenoiserConfig, MotionModel, Representation
from facetalk.diffusion.lip_contact import LipContact
from facetalk.metrics.manifest import read
from facetalk.models import find_model
from facetalk.motion import Motion
from facetalk.nphm import NPHM, load_checkpoint
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.networks import DeformationConfig, DeformationNetwork, IdentityConfig, IdentityNetwork

Run = Callable[[np.random.Generator], None]

_DEFAULT = "default"


def spoil_tensors(rng: np.random.Generator, raw: bytes) -> bytes:
    """A safetensors file with something wrong in its header, its data, or its frame."""
    length = struct.unpack_from("<Q", raw)[0]
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    kind = rng.random()
    if kind < 0.5:
        header = spoil_json(rng, header)
    elif kind < 0.8:
        data = spoil_bytes(rng, data, 2)
    else:
        return spoil_bytes(rng, raw)
    text = to_json(header)
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def audio(folder: Path) -> Run:
    """Recordings of several formats, and samples in memory."""
    rng = np.random.default_rng(0)
    tone = (np.sin(np.arange(1600) * 0.1) * 0.2 + rng.standard_normal(1600) * 0.01).astype(np.float32)
    kinds = [("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", "PCM_16"), ("ogg", "VORBIS"), ("aiff", "PCM_24"),
             ("au", "ULAW"), ("mp3", "MPEG_LAYER_III")]  # fmt: skip
    sound: list[tuple[str, bytes]] = []
    for suffix, subtype in kinds:
        path = folder / f"seed.{suffix}"
        soundfile.write(path, np.stack([tone, tone], 1), 16000, subtype=subtype)
        sound.append((suffix, path.read_bytes()))

    def run(rng: np.random.Generator) -> None:
        if rng.random() < 0.15:
            samples: Any = values(rng, (int(rng.integers(0, 300)), *([] if rng.random() < 0.5 else [2])))
            load_audio((samples, real(rng) if rng.random() < 0.3 else float(pick(rng, [16000, 44100, 1000]))))
            return
        suffix, raw = pick(rng, sound)
        path = folder / f"x.{suffix if rng.random() < 0.9 else pick(rng, ['wav', 'm4a', 'ogg', 'bin'])}"
        path.write_bytes(spoil_bytes(rng, raw))
        load_audio(path)

    return run


def motion(folder: Path) -> Run:
    """Motion files."""
    path = folder / "x.safetensors"
    Motion(np.zeros((5, 4), np.float32), 25.0, np.zeros(3, np.float32), {"seed": 1}).save(path)
    sound = path.read_bytes()

    def run(rng: np.random.Generator) -> None:
        path.write_bytes(spoil_tensors(rng, sound))
        found = Motion.load(path)
        _ = found.duration, len(found), repr(found)

    return run


def manifest(folder: Path) -> Run:
    """Lines of a manifest."""
    path = folder / "x.jsonl"
    line = {"audio": "a.wav", "phones": [["P", 0.0, 0.1], ["AA", 0.1, 0.3]], "text": "pa", "split": "test",
            "voice": "v", "alphabet": "arpabet", "language": "en"}  # fmt: skip

    def run(rng: np.random.Generator) -> None:
        raw = b"\n".join(to_json(spoil_json(rng, line)) for _ in range(int(rng.integers(1, 4))))
        if rng.random() < 0.1:
            raw = raw.replace(b"0.1", HUGE.strip("<>").encode())
        path.write_bytes(spoil_bytes(rng, raw) if rng.random() < 0.3 else raw)
        read(path)

    return run


def _motion_model() -> MotionModel:
    torch.manual_seed(1)
    rng = np.random.default_rng(0)
    config = DenoiserConfig(motion_dim=3, audio_dim=4, layers=1, heads=1, width=8, feedforward=8,
                            window=(0, 0), history=2)  # fmt: skip
    root = rng.normal(size=(3, 3))
    representation = Representation.fit(rng.uniform(0, 0.5, (50, 3)), root @ root.T + np.eye(3))
    return MotionModel(
        Denoiser(config), representation, expression_names=["jawOpen", "mouthClose", "eyeBlink_L"],
        feature_mean=torch.zeros(4), feature_scale=torch.ones(4), default_steps=2, default_guidance=1.5,
        contact=LipContact(0.8, np.array([29.0, -37.0, -1.0]), 1),
    )  # fmt: skip


def motion_model(folder: Path) -> Run:
    """Folders of a motion model, and the model's own config.json."""
    _motion_model().save(folder / "m")
    sound = {path: path.read_bytes() for path in (folder / "m").iterdir()}
    config = folder / "whole" / "config.json"
    config.parent.mkdir(exist_ok=True)
    whole = json.loads((find_model(_DEFAULT).folder / "config.json").read_text())
    features = torch.zeros(4, 4)

    def run(rng: np.random.Generator) -> None:
        if rng.random() < 0.2:
            config.write_bytes(to_json(spoil_json(rng, whole)))
            find_model(config.parent)
            return
        path = pick(rng, list(sound))
        raw = sound[path]
        try:
            if path.suffix == ".json":
                raw = to_json(spoil_json(rng, json.loads(raw)))
                path.write_bytes(spoil_bytes(rng, raw) if rng.random() < 0.1 else raw)
            else:
                path.write_bytes(
                    spoil_tensors(rng, raw) if path.suffix == ".safetensors" else spoil_bytes(rng, raw)
                )
            model = MotionModel.load(folder / "m")
            if rng.random() < 0.05 and model.denoiser.config.audio_dim == 4:
                model.sample(features, steps=1, seed=0)
        finally:
            path.write_bytes(sound[path])

    return run


def head(folder: Path) -> Run:
    """Folders of the built-in head."""
    source = find_model(_DEFAULT).folder / "head"
    names = [path.name for path in source.iterdir() if path.suffix in (".json", ".safetensors")]
    copy = folder / "head"
    copy.mkdir(exist_ok=True)
    for name in names:
        link = copy / name
        if not link.is_symlink():
            link.symlink_to(source / name)

    def run(rng: np.random.Generator) -> None:
        name = "config.json" if rng.random() < 0.5 else pick(rng, names)
        raw, link = (source / name).read_bytes(), copy / name
        link.unlink(missing_ok=True)
        try:
            if name.endswith(".json"):
                link.write_bytes(to_json(spoil_json(rng, json.loads(raw))))
            else:
                link.write_bytes(spoil_tensors(rng, raw))
            HeadModel.load(copy)
        finally:
            link.unlink(missing_ok=True)
            link.symlink_to(source / name)

    return run


def _nphm() -> NPHM:
    torch.manual_seed(0)
    config = IdentityConfig(anchors=3, pairs=1, global_dim=2, local_dim=2, hidden=17, anchor_hidden=3,
                            layers=2, family="nphm")  # fmt: skip
    moves = DeformationConfig(code_dim=config.code_dim, anchors=3, expression_dim=2, hidden=17, layers=2,
                              compressed_dim=2, family="nphm", hyper_dim=0)  # fmt: skip
    return NPHM(IdentityNetwork(config, torch.rand(3, 3)).requires_grad_(False),
                DeformationNetwork(moves).requires_grad_(False))  # fmt: skip


def _spoil_state(rng: np.random.Generator, source: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint with a tensor dropped, reshaped, retyped, renamed or replaced."""
    found = {key: dict(value) if isinstance(value, dict) else value for key, value in source.items()}
    part = found[pick(rng, ["identity", "deformation"])]
    key = pick(rng, list(part))
    tensor, kind = part[key], int(rng.integers(8))
    if kind == 0:
        del part[key]
    elif kind == 1:
        part[key] = tensor[: int(rng.integers(0, 3))] if tensor.ndim else tensor
    elif kind == 2:
        part[key] = tensor.to(pick(rng, [torch.float16, torch.int64, torch.complex64, torch.bool]))
    elif kind == 3:
        part[key] = tensor.to("meta") if rng.random() < 0.3 else tensor.to_sparse()
    elif kind == 4:
        part[pick(rng, [key + "x", "", "lin99.weight", 5, None])] = part.pop(key)
    elif kind == 5:
        part[key] = pick(rng, [None, "x", 1, [], {}, np.zeros(3)])
    elif kind == 6:
        part[key] = tensor.clone()
        part[key].view(-1)[0] = real32(rng)
    else:
        found[pick(rng, ["identity", "deformation", "anchors", "config"])] = pick(
            rng,
            [
                None,
                {},
                [],
                "x",
                torch.zeros(2, 3),
                {"nneigh": integer(rng)},
                {"blend_std": real(rng)},
                {"direction": pick(rng, ["forward", "backward", "up", integer(rng), None, [], {}])},
            ],
        )
    return found


def checkpoint(folder: Path) -> Run:
    """Official checkpoints: state dicts in memory, pickles, safetensors, folders."""
    model = _nphm()
    states: dict[str, Any] = {
        "identity": model.identity.state_dict(),
        "deformation": model.deformation.state_dict() if model.deformation is not None else {},
        "anchors": model.identity.anchors_mean,
        "config": {"nneigh": 3},
    }
    pickled, whole = folder / "x.pt", folder / "saved"
    torch.save(states, pickled)
    sound = pickled.read_bytes()
    model.save(whole)
    saved = {path: path.read_bytes() for path in whole.iterdir()}

    def run(rng: np.random.Generator) -> None:
        kind = rng.random()
        if kind < 0.4:
            load_checkpoint(_spoil_state(rng, states))
        elif kind < 0.6:
            pickled.write_bytes(spoil_bytes(rng, sound))
            load_checkpoint(pickled)
        else:
            path = pick(rng, list(saved))
            raw = saved[path]
            try:
                if path.suffix == ".json":
                    path.write_bytes(to_json(spoil_json(rng, json.loads(raw))))
                else:
                    path.write_bytes(spoil_tensors(rng, raw))
                load_checkpoint(whole)
            finally:
                path.write_bytes(raw)

    return run


TARGETS = {
    "audio": audio,
    "motion": motion,
    "manifest": manifest,
    "motion_model": motion_model,
    "head": head,
    "checkpoint": checkpoint,
}
