"""``facetalk batch FOLDER -o OUT``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from facetalk.cli import _identity, _options
from facetalk.cli._style import add_style_arguments, read_style

if TYPE_CHECKING:
    from facetalk.arrays import Float32

_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    parser.add_argument("source", help="folder of recordings, or a manifest.jsonl with lines like "
                        '{"audio": "a.wav", "id": "name of the output", "seed": 1}')  # fmt: skip
    parser.add_argument("-o", "--output", required=True,
                        help="folder, or fsspec address (s3://bucket/talks), of the outputs and of "
                        "batch.jsonl, the manifest by which a run goes on where an earlier "
                        "one ended")  # fmt: skip
    parser.add_argument("--to", choices=("motion", "glb", "csv", "json", "features"),
                        default="motion",
                        help="motions (.safetensors), heads without sound (.glb), curves (.csv, takes of "
                        "Live Link Face; .json, as Audio2Face exports them), or audio features "
                        "(.safetensors)")  # fmt: skip
    parser.add_argument("--workers", type=_options.positive_int, default=None, metavar="N",
                        help="recordings at a time, one core each (default: all cores; on a cluster, what it "
                        "takes)")  # fmt: skip
    parser.add_argument("--ray", default=None, metavar="ADDRESS",
                        help="work on a Ray cluster (facetalk[ray]): auto, HOST:PORT, ray://HOST:PORT, or "
                        "local")  # fmt: skip
    parser.add_argument("--steps", type=_options.positive_int, default=None,
                        help="denoising steps (default: the model's)")  # fmt: skip
    parser.add_argument("--guidance", type=_options.non_negative, default=None,
                        help="guidance weight, 1 = none (default: the model's)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="noise seed of recordings without their own")
    _identity.add_identity(parser)
    add_style_arguments(parser)
    parser.add_argument("--fps", type=_options.rate, default=None,
                        help="frames a second of heads and curves, by resampling (default: the motion's; of "
                        ".csv 60, of .json 30)")  # fmt: skip
    _options.add_texture_size(parser)
    _options.add_shapes(parser)
    parser.add_argument("--force", action="store_true",
                        help="begin again in a folder with outputs of other settings, or write into one with "
                        "other files; those of other names stay")  # fmt: skip
    _options.add_encoder_argument(parser)
    parser.add_argument("--model", default="default", help="built-in model name or model folder")
    parser.add_argument("--device", default="cpu",
                        help="cpu, or with --workers to fit its memory cuda, cuda:1, ...; on a cluster cuda "
                        "gives every worker a GPU")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Do the batch and tell what came of it; status 1 where recordings failed."""
    from facetalk.batch import generate_batch

    report = generate_batch(
        args.source,
        args.output,
        to=args.to,
        model=args.model,
        device=args.device,
        steps=args.steps,
        guidance=args.guidance,
        seed=args.seed,
        identity=_chosen(args),
        style=read_style(args),
        texture_size=args.texture_size,
        shapes=args.shapes,
        encoder=args.encoder,
        fps=args.fps,
        workers=args.workers,
        ray=args.ray,
        force=args.force,
        progress=True,
    )
    failed = report.failed
    kept = f" ({report.kept} by an earlier run)" if report.kept else ""
    print(f"{args.output}: {len(report.rows) - len(failed)} of {len(report.rows)} recordings done{kept}, "
          f"{len(failed)} failed; {report.seconds:.0f} s, {report.per_minute:.1f} recordings a "
          f"minute")  # fmt: skip
    for row in failed[:_SHOWN]:
        print(f"  {row['id']}: {row['error']}")
    if len(failed) > _SHOWN:
        print(f"  and {len(failed) - _SHOWN} more, which batch.jsonl lists")
    return 1 if failed else 0


def _chosen(args: argparse.Namespace) -> Float32 | str | None:
    if args.identity is None:
        return None
    from facetalk.pipeline import FaceTalk

    return _identity.read_drawn(args.identity, FaceTalk.from_pretrained(args.model, "cpu").any_head)
