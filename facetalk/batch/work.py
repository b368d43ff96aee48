"""The task of a batch: one recording to the bytes of its output. The same function in a pool and on Ray.

It is called in a process of its own, which loads the model at its first call and keeps it. Torch is imported
there and not by the driver.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import hashlib
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import fsspec

from facetalk.arrays import Float32
from facetalk.batch.listing import Recording, is_address
from facetalk.errors import HearingWarning, InputError
from facetalk.models import find_model
from facetalk.reading import one_line
from facetalk.style import Style
from facetalk.tensors import tensor_bytes
from facetalk.version import __version__

if TYPE_CHECKING:
    from facetalk.audio.load import AudioReader
    from facetalk.backend import Listener
    from facetalk.mesh.arkit import ShapeNames
    from facetalk.pipeline import FaceTalk

Kind = Literal["motion", "glb", "csv", "json", "features"]
SUFFIX: dict[str, str] = {
    "motion": ".safetensors",
    "glb": ".glb",
    "csv": ".csv",
    "json": ".json",
    "features": ".safetensors",
}
CURVES = ("csv", "json")
"""Kinds that are curves for engines, as :mod:`facetalk.live.curves` writes them."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FEATURES_FORMAT = "facetalk-features"


@dataclasses.dataclass(frozen=True, eq=False)
class Settings:
    """What is done with every recording of a batch.

    Attributes:
        to: kind of output.
        model: name of a built-in model, or a folder.
        digest: of the model's files (:func:`model_digest`); workers refuse to work with another.
        device: for the audio encoder and the denoiser.
        steps: denoising steps; None = the model's default.
        guidance: guidance weight; None = the model's default.
        seed: noise seed of recordings that have none of their own.
        identity: (I,) float32 identity code; None = the default identity; "voice" or "voice:SEED" = one for
            each recording's voice.
        style: sliders.
        texture_size: of heads, as :func:`facetalk.mesh.export.export` takes it.
        fps: frames a second of heads and curves; None = the motion's, and for curves what their files usually
            have.
        shapes: names of morph targets, as :func:`facetalk.mesh.export.export` takes them.
        encoder: what hears, as :meth:`facetalk.FaceTalk.from_pretrained` takes it.
    """

    to: Kind
    model: str
    digest: str
    device: str = "cpu"
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    identity: Float32 | str | None = None
    style: Style = dataclasses.field(default_factory=Style)
    texture_size: int | None = None
    fps: float | None = None
    shapes: ShapeNames | None = None
    encoder: Listener = "model"

    def record(self) -> dict[str, Any]:
        """All that the outputs depend on, as JSON values; a batch goes on only by the same."""
        code = self.identity
        return {
            "facetalk": __version__,
            "to": self.to,
            "model": self.digest,
            "device": self.device,
            "steps": self.steps,
            "guidance": self.guidance,
            "seed": self.seed,
            "identity": code if code is None or isinstance(code, str) else _sha256(code),
            "style": self.style.changed(),
            # What an earlier version began without it goes on.
            **({} if self.texture_size is None else {"texture_size": self.texture_size}),
            **({} if self.fps is None else {"fps": self.fps}),
            **({} if self.shapes is None else {"shapes": self.shapes}),
            **({} if self.encoder == "model" else {"encoder": self.encoder}),
        }


def _sha256(code: Float32) -> str:
    return hashlib.sha256(code.tobytes()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of a recording.

    Attributes:
        row: for the output manifest.
        data: the output, or the file that holds it; None where the recording failed.
        fatal: why no recording can be done like this; None as a rule.
    """

    row: dict[str, Any]
    data: bytes | Path | None = None
    fatal: str | None = None


Task = Callable[[Any, Recording, "Path | None"], Result]
"""Settings, a recording, and where to put the output (None: into the result)."""


def model_digest(name_or_path: str) -> str:
    """SHA-256 of a model folder's files and their names.

    Raises:
        InputError: no such model.
    """
    folder = find_model(name_or_path).folder
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".safetensors", ".npz", ".bin") and path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def work(settings: Settings, recording: Recording, folder: Path | None = None) -> Result:
    """Do one recording.

    Args:
        settings: of the batch.
        recording: which one.
        folder: where the output is put; None: it comes back in the result.

    Returns:
        The row, whatever was wrong with the recording.

    Raises:
        OSError: no space is left for the output.
    """
    try:
        model = _loaded(settings)
    except InputError as error:
        return Result({"id": recording.name}, fatal=one_line(error))
    start = time.perf_counter()
    row: dict[str, Any] = {"id": recording.name, "audio": recording.audio}
    try:
        with tempfile.TemporaryDirectory(prefix="work.", dir=folder) as scratch:
            file = Path(scratch, "output" + SUFFIX[settings.to])
            facts = _write(model, settings, recording, file)
            data = file.read_bytes()
            facts |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            row |= {"status": "done", **facts, "wall_s": round(time.perf_counter() - start, 3)}
            if folder is None:
                return Result(row, data)
            with tempfile.NamedTemporaryFile(prefix="done.", dir=folder, delete=False) as kept:
                place = Path(kept.name)
            file.replace(place)
            return Result(row, place)
    except Exception as error:
        if _is_full(error):
            raise OSError(errno.ENOSPC, "no space left on the device") from error
        return Result(failure(recording, error))


def failure(recording: Recording, error: BaseException | str) -> dict[str, Any]:
    """The row of a recording that failed; what is not the recording's fault is tried again next time."""
    told = one_line(error, 1000) if isinstance(error, BaseException) else error
    if isinstance(error, MemoryError):
        told = "not enough memory; use fewer workers"
    elif isinstance(error, BaseException) and not isinstance(error, InputError):
        told = f"{type(error).__name__}: {told}"
    row = {"id": recording.name, "audio": recording.audio, "status": "failed", "error": told}
    return row if isinstance(error, InputError) else {**row, "again": True}


def _is_full(error: BaseException) -> bool:
    """Whether an error, or what it tells of, is a full disk."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        cause = cause.__cause__
    return False


def _loaded(settings: Settings) -> FaceTalk:
    model = _load(settings.model, settings.digest, settings.device, settings.encoder)
    _check(model, settings)
    return model


@functools.lru_cache(maxsize=1)
def _load(name: str, digest: str, device: str, encoder: Listener) -> FaceTalk:
    """The model, once a process, and one thread for it: workers share the cores among them."""
    from facetalk.pipeline import FaceTalk
    from facetalk.threads import limit_threads

    if model_digest(name) != digest:
        raise InputError(f"the model {name!r} of a worker is another than the driver's; bring them together")
    limit_threads(1)
    return FaceTalk.from_pretrained(name, device, encoder=encoder)


_checked: list[Settings] = []


def _check(model: FaceTalk, settings: Settings) -> None:
    """Refuse options that the model refuses, before they fail with every recording.

    Raises:
        InputError: the steps, the guidance, the identity, the size of textures, the names of shapes or the
            kind of output does not fit the model.
    """
    key = settings.record()
    if any(key == known.record() for known in _checked):
        return
    if settings.to in CURVES:
        from facetalk.data.arkit import ArkitFace

        ArkitFace(model.head.expression_names)
    if settings.to != "features":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HearingWarning)
            # A tenth of a second of a tone asks everything that a recording would ask.
            tone = [0.1 if i // 40 % 2 else -0.1 for i in range(1600)]
            motion = model.generate(
                (tone, 16_000), steps=settings.steps, guidance=settings.guidance, seed=settings.seed,
                # A tone has no voice; what is asked for in words has been read.
                identity=None if isinstance(settings.identity, str) else settings.identity,
                style=settings.style,
            )  # fmt: skip
        if settings.texture_size or settings.shapes:
            from facetalk.mesh import RiggedSequence
            from facetalk.mesh.arkit import in_arkit

            meshes = model.decode(motion)
            if settings.shapes:
                in_arkit(meshes)
            textured = isinstance(meshes, RiggedSequence) and meshes.base.texture is not None
            if settings.texture_size and not textured:
                raise InputError("the model's head has no textures: leave out --texture-size (texture_size=)")
    _checked.append(settings)


def _write(model: FaceTalk, settings: Settings, recording: Recording, file: Path) -> dict[str, Any]:
    """Write the output of a recording and return what the row says of it."""
    from facetalk.live.curves import write_curves
    from facetalk.live.take import curve_times
    from facetalk.mesh.export import export

    seed = settings.seed if recording.seed is None else recording.seed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HearingWarning)  # it is in the row
        sound = _opened(recording.audio)
        if settings.to == "features":
            return _write_features(model, sound, file)
        motion = model.generate(
            sound, steps=settings.steps, guidance=settings.guidance, seed=seed, identity=settings.identity,
            style=settings.style,
        )  # fmt: skip
        # A recording that was fetched has lost its name on the way.
        motion.provenance["audio"] = recording.audio.replace("\\", "/").rsplit("/", 1)[-1]
        frames, fps = len(motion), motion.fps
        if settings.to == "motion":
            motion.save(file)
        elif settings.to in CURVES:
            _, fps = write_curves(file, motion, model.head.expression_names, fps=settings.fps)
            frames = len(curve_times(motion, fps))
        else:
            shown = motion if settings.fps is None else motion.resample(settings.fps)
            frames, fps = len(shown), shown.fps
            export(
                file, model.decode(shown), fps=fps, texture_size=settings.texture_size, shapes=settings.shapes
            )
    return {"frames": frames, "fps": fps, "seed": seed, "hearing": motion.provenance["hearing"]}


def _opened(audio: str) -> AudioReader:
    from facetalk.audio import AudioReader

    if audio == "-":
        raise InputError("standard input is no recording of a batch")
    if not is_address(audio):
        if Path(audio).exists() and not Path(audio).is_file():  # a pipe might never say anything
            raise InputError(f"{audio} is no plain file; a batch reads files")
        return AudioReader(audio)
    try:
        with fsspec.open(audio, "rb") as file:
            return AudioReader(file)
    except InputError as error:
        raise InputError(f"{audio}: {error}") from error
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{audio}: cannot be read ({one_line(error)})") from error


def _write_features(model: FaceTalk, sound: AudioReader, file: Path) -> dict[str, Any]:
    features = model.features(sound)
    fps = model.config.fps
    header = {"format": _FEATURES_FORMAT, "version": "1", "fps": repr(fps), "model": model.config.name}
    file.write_bytes(tensor_bytes({"features": features}, header))
    return {"frames": len(features), "fps": fps, "hearing": sound.notes}
