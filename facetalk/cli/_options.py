"""Options and small pieces that several verbs share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from tqdm import tqdm

from facetalk.arguments import look_ahead_seconds
from facetalk.errors import InputError
from facetalk.files import check_not_input, check_replaceable

if TYPE_CHECKING:
    from facetalk.mesh import Mesh
    from facetalk.motion import Motion
    from facetalk.pipeline import FaceTalk

T = TypeVar("T")


def positive_int(text: str) -> int:
    """argparse type: an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def non_negative(text: str) -> float:
    """argparse type: a finite number of at least 0."""
    value = float(text)
    if not np.isfinite(value) or value < 0:
        raise argparse.ArgumentTypeError(f"must be a number >= 0, got {text}")
    return value


def positive(text: str) -> float:
    """argparse type: a finite number above 0."""
    value = float(text)
    if not np.isfinite(value) or value <= 0:
        raise argparse.ArgumentTypeError(f"must be a number > 0, got {text}")
    return value


def rate(text: str) -> float:
    """argparse type: a number, or a fraction as editors write frame rates, 30000/1001."""
    over, slash, under = text.partition("/")
    if slash and float(under) == 0.0:
        raise argparse.ArgumentTypeError(f"must not be divided by 0, got {text}")
    return float(over) / float(under) if slash else float(text)


def look_ahead(text: str) -> float:
    """argparse type: seconds that a stream may hear beyond a frame."""
    try:
        return look_ahead_seconds(text)
    except InputError as error:  # argparse says the option's own name
        raise argparse.ArgumentTypeError(str(error).removeprefix("look_ahead ")) from error


def seed(text: str) -> int:
    """argparse type: what both NumPy and torch take as a seed, and one more than it."""
    value = int(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"must lie in 0 to 2**63 - 1, got {value}")
    return value


def thread_count(text: str) -> int:
    """argparse type: threads that the compiled core takes."""
    value = int(text)
    if not 1 <= value <= 1024:
        raise argparse.ArgumentTypeError(f"must lie in 1 to 1024, got {value}")
    return value


def texture_size(text: str) -> int:
    """Pixels along a side of the skin's texture, 0 for none."""
    from facetalk.mesh.textures import SIZES

    value = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else -1
    if value not in (0, *SIZES):
        raise argparse.ArgumentTypeError(f"must be 0 or one of {', '.join(map(str, SIZES))}, got {text!r}")
    return value


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """``--model``, ``--device``, ``--threads``."""
    parser.add_argument("--model", default="default", help="built-in model name or model folder")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--threads", type=thread_count, default=None, help="CPU threads (default: all cores)")


def add_encoder_argument(parser: argparse.ArgumentParser, *, live: bool = False) -> None:
    """``--encoder``; of live sound without ``auto``, which could mean one thing alone."""
    if live:
        parser.add_argument("--encoder", choices=("model", "whisper"), default="model",
                            help="what hears: the model's own audio encoder, or Whisper, which hears people "
                            "better and takes much longer (facetalk[whisper])")  # fmt: skip
        return
    parser.add_argument("--encoder", choices=("auto", "model", "whisper"), default="auto",
                        help="what hears: the model's own audio encoder, or Whisper, which hears people "
                        "better and takes longer (facetalk[whisper]); auto: Whisper for whole recordings "
                        "where it is installed, the model's own for what is heard live")  # fmt: skip


def add_direction(parser: argparse.ArgumentParser) -> None:
    """``--direction`` of official checkpoints, whose weights do not tell it."""
    parser.add_argument("--direction", choices=("forward", "backward"), default=None,
                        help="what the expression network moves: the neutral head (forward: NPHM as "
                        "released), or queries (backward: MonoNPHM, FaceTalk); default: what config.json "
                        "says, else as the family was released")  # fmt: skip


def add_texture_size(parser: argparse.ArgumentParser) -> None:
    """``--texture-size``."""
    parser.add_argument("--texture-size", type=texture_size, default=None, metavar="PIXELS",
                        help="pixels along a side of the skin's texture: 256, 512, 1024, 2048 or 4096 "
                        "(default: 1024; 4096 takes much longer, once for a person, and gigabytes of "
                        "memory); 0 = colours of vertices instead")  # fmt: skip


def add_shapes(parser: argparse.ArgumentParser) -> None:
    """``--shapes``."""
    parser.add_argument("--shapes", choices=("arkit",), default=None,
                        help="morph targets: exactly Apple ARKit's 52 blendshapes, for what finds them by "
                        "name; default: the head's own, which has two of ARKit's in halves")  # fmt: skip


def add_decode_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of turning a motion into meshes and writing them."""
    parser.add_argument("--fps", type=rate, default=None,
                        help="frames a second, by resampling: 24, 29.97, 30000/1001, 50, 60, ... (default: "
                        "the motion's; of talk.csv 60, of talk.json 30)")  # fmt: skip
    parser.add_argument("--topology", choices=("fixed", "marching-cubes"), default=None,
                        help="one mesh that moves (default: fixed), or one extracted anew for "
                        "every frame")  # fmt: skip
    parser.add_argument("--resolution", type=int, default=None,
                        help="grid points per axis for marching cubes (default: 128)")  # fmt: skip
    parser.add_argument(
        "--detail",
        choices=("high", "medium", "low"),
        default=None,
        help="vertices of the mesh that moves: about 24, 11 or 5 thousand (default: high)",
    )
    parser.add_argument("--no-smooth", action="store_true", help="switch the facial smoothing off")
    parser.add_argument("--temporal-sigma", type=non_negative, default=None, metavar="SECONDS",
                        help="Gaussian over time (default: the model's setting)")  # fmt: skip
    parser.add_argument("--tolerance", "--tolerance-mm", dest="tolerance_mm", type=non_negative, default=None,
                        metavar="MM", help="how far a vertex may be off: with marching cubes, by short cuts "
                        "(default: 0.05; 0 = by none that change the mesh); with fixed topology, by fewer "
                        "morph targets in a .glb (default: 0.1)")  # fmt: skip
    parser.add_argument("--basis", choices=("shapes", "pca"), default=None,
                        help="morph targets: the rig's own shapes with ARKit names, the same for "
                        "every clip of a head (default), or the motion's principal components, fewer and "
                        "smaller")  # fmt: skip
    add_shapes(parser)
    bits = parser.add_mutually_exclusive_group()
    bits.add_argument("--quantize", action=argparse.BooleanOptionalAction, default=None,
                      help="morph targets of a .glb or .vrm in 16 bits, a smaller file for readers of "
                      "KHR_mesh_quantization (not Unreal up to 5.4, not Godot 3); default: floats, "
                      "which all take")  # fmt: skip
    bits.add_argument("--float", dest="quantize", action="store_false", default=None,
                      help="the same as --no-quantize")  # fmt: skip
    add_texture_size(parser)


def check_decode_arguments(args: argparse.Namespace) -> None:
    """Refuse, before the work, what :func:`add_decode_arguments` declares and nobody would look at.

    Raises:
        InputError: an option of marching cubes without it, or one of meshes for an output without meshes.
    """
    from facetalk.live.curves import SUFFIXES as CURVES
    from facetalk.mesh.export import USD_SUFFIXES as USD
    from facetalk.motion import SUFFIX as MOTION_SUFFIX
    from facetalk.motion import frame_rate

    suffix = args.output.suffix.lower()
    cubes = args.topology == "marching-cubes"
    morphs = {
        "--basis": args.basis is not None, "--shapes": args.shapes is not None,
        "--quantize": args.quantize is not None, "--texture-size": args.texture_size is not None,
    }  # fmt: skip
    given = {
        "--topology": args.topology is not None,
        "--resolution": args.resolution is not None,
        "--detail": args.detail is not None,
        "--no-smooth": args.no_smooth,
        "--temporal-sigma": args.temporal_sigma is not None,
        "--tolerance": args.tolerance_mm is not None,
        **morphs,
    }
    if args.fps is not None:
        frame_rate(args.fps)
        if suffix == MOTION_SUFFIX:
            raise InputError("--fps is for what is made of a motion; the motion keeps its model's frame rate")
    if suffix in (MOTION_SUFFIX, *CURVES) and any(given.values()):
        options = ", ".join(name for name, there in given.items() if there)
        raise InputError(f"{args.output} will hold a motion, no meshes: leave out {options}")
    gltf = (".glb", ".vrm")
    takers = dict.fromkeys(morphs, (*gltf, *USD)) | {"--quantize": gltf}
    if args.shapes is not None and args.basis == "pca":
        raise InputError("--shapes names the head's own; principal components have no names: leave out one")
    for option, there in morphs.items():
        if there and (cubes or suffix not in takers[option]):
            raise InputError(
                f"{option} is for the {'textures' if option == '--texture-size' else 'morph targets'} of "
                f"{', '.join(takers[option])} with fixed topology"
            )
    if cubes and suffix == ".vrm":
        raise InputError("a .vrm has one mesh that moves: leave out --topology marching-cubes")
    if given["--detail"] and cubes:
        raise InputError("--detail is for a mesh that moves; marching cubes have a --resolution")
    if given["--resolution"] and not cubes:
        raise InputError("--resolution is for --topology marching-cubes; a mesh that moves has its own")
    if given["--tolerance"] and not cubes:
        if suffix == ".ply":
            raise InputError(
                "--tolerance is for morph targets or --topology marching-cubes; a .ply keeps every vertex"
            )
        if args.tolerance_mm == 0.0:
            raise InputError("--tolerance must be above 0 mm: morph targets have a finite number of bits")


def add_force_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """``--force``."""
    parser.add_argument("--force", action="store_true", help=f"replace {what} that facetalk did not write")


def add_sound_argument(parser: argparse.ArgumentParser) -> None:
    """``--sound``."""
    parser.add_argument("--sound", choices=("wav", "original"), default=None,
                        help="beside the animation: a .wav of the recording (default), or the recording's "
                        "own file, copied as it is, where glTF players read it (.mp3, .ogg, .opus, .flac, "
                        ".m4a, .aac, .wav); then no silence is put around it")  # fmt: skip


def check_curves(args: argparse.Namespace, *more: str) -> None:
    """Refuse what would do nothing for one file of curves, or of a motion.

    Args:
        args: of the verb.
        more: names of options, beside ``--force``, that such a file has no use for.

    Raises:
        InputError: one of them was given.
    """
    given = [f"--{name}" for name in (*more, "force") if getattr(args, name)]
    if given:
        kind = "a motion" if args.output.suffix.lower() == ".safetensors" else "curves"
        raise InputError(f"{args.output} is one file of {kind}: leave out {' and '.join(given)}")


def check_sound(sound: str | None, output: Path) -> None:
    """Refuse ``--sound`` where no sound lies beside what is written.

    Raises:
        InputError: it was given for such an output.
    """
    from facetalk.mesh.export import SUFFIXES

    takers = [suffix for suffix in SUFFIXES if suffix != ".ply"]
    if sound is not None and output.suffix.lower() not in takers:
        raise InputError(f"--sound is for the sound beside a {', '.join(takers)}; leave it out for {output}")


def set_threads(threads: int | None) -> None:
    """``--threads`` where it was given; see :func:`facetalk.threads.limit_threads`."""
    if threads is not None:
        from facetalk.threads import limit_threads

        limit_threads(threads)


def check_output(path: Path, suffixes: Iterable[str], *inputs: Path | None) -> None:
    """Fail before the work when the file ``path`` cannot be written or has a suffix that nobody writes.

    Raises:
        InputError: unknown suffix, the folder is missing or read-only, or the file is one of the inputs.
    """
    known = tuple(suffixes)
    if path.suffix.lower() not in known:
        raise InputError(f"cannot write {path}: suffix {path.suffix!r} is not one of {', '.join(known)}")
    check_not_input(path, *inputs)
    check_replaceable(path)


def with_progress(items: Iterable[T], total: int, text: str) -> Iterator[T]:
    """Iterate with a progress bar on stderr, when somebody is there to see it."""
    yield from tqdm(items, total=total, desc=text, unit="frame", leave=False, disable=not sys.stderr.isatty())


def decode(model: FaceTalk, motion: Motion, args: argparse.Namespace) -> Iterable[Mesh]:
    """Meshes of a motion by the options of :func:`add_decode_arguments`."""
    smooth, sigma = not args.no_smooth, args.temporal_sigma
    if args.topology != "marching-cubes":
        return model.decode(motion, smooth=smooth, temporal_sigma=sigma, detail=args.detail or "high")
    given = {} if args.resolution is None else {"resolution": args.resolution}
    meshes = model.decode(
        motion, topology="marching-cubes", smooth=smooth, temporal_sigma=sigma,
        tolerance_mm=args.tolerance_mm, **given,
    )  # fmt: skip
    return with_progress(meshes, len(motion), "extract")


def morph_options(args: argparse.Namespace) -> dict[str, Any]:
    """Keywords of :func:`facetalk.mesh.export.export`, where they were given for morph targets."""
    if args.topology == "marching-cubes":
        return {}
    options: dict[str, Any] = {} if args.tolerance_mm is None else {"tolerance_mm": args.tolerance_mm}
    if args.texture_size is not None:
        options["texture_size"] = args.texture_size
    return {**options, "basis": args.basis, "shapes": args.shapes, "quantize": bool(args.quantize)}
