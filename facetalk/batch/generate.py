"""The driver of a batch: lists, gives out, writes, keeps the books."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from facetalk.arguments import real_number, whole_number
from facetalk.arrays import Float32
from facetalk.backend import EncoderName, check_encoder, listener
from facetalk.batch.ledger import Ledger, Row, stamp
from facetalk.batch.listing import Recording, read_recordings
from facetalk.batch.place import Place
from facetalk.batch.work import CURVES, SUFFIX, Kind, Settings, model_digest, work
from facetalk.batch.workers import Pool, RayCluster, Workers, results
from facetalk.casting import seed_of
from facetalk.errors import InputError
from facetalk.files import output_error
from facetalk.mesh.arkit import NAMINGS, ShapeNames
from facetalk.mesh.textures import checked_size
from facetalk.models import builtin_models, find_model
from facetalk.motion import frame_rate
from facetalk.style import Style, checked_style


@dataclasses.dataclass(frozen=True)
class BatchReport:
    """What a batch did.

    Attributes:
        rows: one for every recording, in the order of the list: "id", "audio", "status" ("done" or "failed");
            done: "output", "bytes", "sha256", "frames", "fps", "seed", "hearing", "wall_s"; failed: "error",
            and "again" where it was not the recording's fault.
        kept: how many of them an earlier run had finished.
        seconds: wall time of this run.
    """

    rows: list[Row]
    kept: int
    seconds: float

    @property
    def failed(self) -> list[Row]:
        """The rows of recordings that failed."""
        return [row for row in self.rows if row["status"] == "failed"]

    @property
    def per_minute(self) -> float:
        """Recordings a minute of this run."""
        return 60.0 * (len(self.rows) - self.kept) / max(self.seconds, 1e-9)


def generate_batch(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    to: Kind = "motion",
    model: str | os.PathLike[str] = "default",
    device: str = "cpu",
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    identity: ArrayLike | str | None = None,
    style: Style | None = None,
    texture_size: int | None = None,
    shapes: ShapeNames | None = None,
    encoder: EncoderName = "model",
    fps: float | None = None,
    workers: int | None = None,
    ray: str | None = None,
    force: bool = False,
    progress: bool = False,
    on_row: Callable[[Row], None] | None = None,
) -> BatchReport:
    """Turn many recordings into motions, heads, curves or features, as :meth:`FaceTalk.generate` would each.

    Workers are processes of one thread each that load the model once; the outputs do not depend on how many
    there are and where. What an earlier run of the same settings has finished is kept. A script that calls
    this has to do so inside ``if __name__ == "__main__":``, since workers import it.

    Args:
        source: a folder of recordings, or a manifest (``{"audio": "a.wav"}`` a line; "id" names the output,
            "seed" is a seed of its own; "audio" may be an fsspec address).
        output: a folder, or an fsspec address; it gets ``batch.jsonl``, one row a recording.
        to: ``"motion"`` (NAME.safetensors, as ``Motion.save`` writes), ``"glb"`` (NAME.glb, without sound),
            ``"csv"`` (NAME.csv, a take of Live Link Face), ``"json"`` (NAME.json, curves as Audio2Face
            exports them) or ``"features"`` (NAME.safetensors with "features" (T, A) float32, frame rate in
            its metadata).
        model: built-in name or folder; with Ray, at the same path on every machine.
        device: of the audio encoder and the denoiser.
        steps: denoising steps; the model's default when None.
        guidance: guidance weight; the model's default when None.
        seed: noise seed of all recordings that have none of their own.
        identity: (I,) identity code; the default identity when None; ``"voice"`` or ``"voice:SEED"`` draws
            one for the voice of each recording.
        style: sliders, as :meth:`facetalk.FaceTalk.generate` takes them.
        texture_size: pixels along a side of the skin's maps of ``"glb"``, as :func:`facetalk.export` has it.
        shapes: names of the morph targets of ``"glb"``, as :func:`facetalk.export` has them.
        encoder: what hears, as :meth:`facetalk.FaceTalk.from_pretrained` takes it.
        fps: frames a second of ``"glb"``, ``"csv"`` and ``"json"``, by resampling; when None the motion's, 60
            and 30.
        workers: recordings at a time; when None one a core (one alone with another device than the CPU), with
            Ray as many as the cluster takes.
        ray: address of a Ray cluster, as ``ray.init`` takes it, or ``"local"``. Where the caller is connected
            to one already, that is used and stays connected.
        force: begin again where outputs of other settings, or other files, lie; those of other names stay.
        progress: show how far it is, at what rate, and how long it will take, on stderr.
        on_row: called with every row of this run once its output is in its place.

    Raises:
        InputError: the list, the output, the model or an option cannot be used. What is wrong with a single
            recording becomes its row.
    """
    if to not in SUFFIX:
        raise InputError(f"a batch makes {', '.join(SUFFIX)}; got {to!r}")
    given = [value for value in (steps, guidance, identity, style) if value is not None]
    if to == "features" and (given or seed != 0):
        raise InputError(
            "features depend on the sound alone: leave out steps, guidance, seed, identity and style"
        )
    if texture_size is not None and to != "glb":
        raise InputError("--texture-size (texture_size=) is for heads: give --to glb (to='glb')")
    if shapes not in (None, *NAMINGS):
        raise InputError(f"shapes must be one of {', '.join(NAMINGS)}, or None, got {shapes!r}")
    if shapes is not None and to != "glb":
        raise InputError("--shapes (shapes=) is for heads: give --to glb (to='glb')")
    if fps is not None and to not in ("glb", *CURVES):
        raise InputError("--fps (fps=) is for heads and curves: give --to glb, csv or json (to=)")
    if identity is not None and to in CURVES:
        raise InputError("curves are everybody's: leave out --identity (identity=)")
    count = None if workers is None else whole_number("workers", workers)
    if count is not None and not 1 <= count <= 4096:
        raise InputError(f"workers must lie in 1..4096, got {count}")
    first = whole_number("seed", seed)
    if not 0 <= first < 2**64:
        raise InputError(f"seed must be a whole number in 0..2**64-1, got {first}")
    name = os.fspath(model)
    folder = find_model(name).folder
    check_encoder(encoder, folder)
    settings = Settings(
        to,
        name if name in builtin_models() else str(Path(name).absolute()),
        model_digest(name),
        device,
        None if steps is None else whole_number("steps", steps),
        None if guidance is None else real_number("guidance", guidance),
        first,
        _identity(identity),
        checked_style(style),
        checked_size(texture_size) if texture_size else texture_size,
        None if fps is None else frame_rate(fps),
        shapes,
        listener(encoder, folder, whole=True),
    )
    recordings = read_recordings(source)
    place = Place(output)

    def hire(folder: Path) -> Workers:
        if ray is not None:
            return RayCluster(work, settings, ray, count)
        return Pool(work, settings, count or (default_workers() if device == "cpu" else 1), folder)

    return drive(
        recordings, place, settings.record(), hire, suffix=SUFFIX[to], seed=first, force=force,
        progress=progress, on_row=on_row,
    )  # fmt: skip


def default_workers() -> int:
    """The cores that this process may use."""
    with contextlib.suppress(AttributeError):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def drive(
    recordings: Sequence[Recording],
    place: Place,
    settings: dict[str, Any],
    hire: Callable[[Path], Workers],
    *,
    suffix: str,
    seed: int = 0,
    force: bool = False,
    progress: bool = False,
    on_row: Callable[[Row], None] | None = None,
) -> BatchReport:
    """Do what is left of a list of recordings.

    Args:
        recordings: all of them.
        place: where outputs go.
        settings: what they depend on, for the output manifest.
        hire: brings in workers, given a folder for their outputs.
        suffix: of the outputs.
        seed: of recordings that have none of their own.
        force: see :func:`generate_batch`.
        progress: see :func:`generate_batch`.
        on_row: see :func:`generate_batch`.
    """
    start = time.perf_counter()
    with place.opened() as scratch:
        ledger = Ledger(place, settings, force=force)
        left = [r for r in recordings if not ledger.knows(r, seed if r.seed is None else r.seed)]
        kept = len(recordings) - len(left)
        if left:
            workers = hire(scratch)
            finished = False
            try:
                _work_off(workers, left, kept, place, ledger, suffix, progress, on_row)
                finished = True
            finally:
                # What is done is written before anything else can go wrong.
                try:
                    ledger.close()
                finally:
                    workers.close(now=not finished)
        rows = [ledger.rows[recording.name] for recording in recordings]
    return BatchReport(rows, kept, time.perf_counter() - start)


def _work_off(
    workers: Workers,
    left: Sequence[Recording],
    kept: int,
    place: Place,
    ledger: Ledger,
    suffix: str,
    progress: bool,
    on_row: Callable[[Row], None] | None,
) -> None:
    stamps = {recording.name: stamp(recording.audio) for recording in left}
    failed = 0
    bar = tqdm(
        total=kept + len(left), initial=kept, unit="recording", desc="batch", disable=not progress,
        # A log gets a line now and then; a terminal sees it move.
        mininterval=0.2 if sys.stderr.isatty() else 30.0, maxinterval=60.0,
    )  # fmt: skip
    with bar:
        try:
            for recording, result in results(workers, left):
                if result.fatal is not None:
                    raise InputError(result.fatal)
                row = {**result.row, "source": stamps[recording.name]}
                if result.data is not None:
                    row["output"] = recording.name + suffix
                    place.put(row["output"], result.data)
                ledger.add(row)
                failed += row["status"] == "failed"
                bar.set_postfix(failed=failed, refresh=False)
                bar.update()
                if on_row is not None:
                    on_row(row)
        except OSError as error:  # a worker found the disk full
            raise output_error(Path(place.address), error) from error


def _identity(identity: ArrayLike | str | None) -> Float32 | str | None:
    if identity is None or (isinstance(identity, str) and seed_of(identity) is not None):
        return identity
    if isinstance(identity, str):
        raise InputError(f"identity must be a code, voice or voice:SEED, got {identity!r}")
    return np.asarray(identity, np.float32)
