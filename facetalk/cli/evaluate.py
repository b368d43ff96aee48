"""``facetalk evaluate manifest.jsonl``: do the lips do what the speech says, and does the face live?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from facetalk import version
from facetalk.arguments import check_whisper_ahead
from facetalk.cli import _compared, _options, _rendered
from facetalk.errors import InputError
from facetalk.files import check_not_input

if TYPE_CHECKING:
    from facetalk.metrics.evaluate import Scorer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    parser.add_argument("manifest", type=Path, nargs="?", default=None,
                        help="manifest.jsonl (audio + phones, or audio + text) or its folder")  # fmt: skip
    parser.add_argument("--split", default=None, help="only lines of this split")
    parser.add_argument("--limit", type=_options.positive_int, default=None, metavar="N",
                        help="N clips, spread over the manifest")  # fmt: skip
    parser.add_argument("--pad", type=_options.non_negative, default=None, metavar="SECONDS",
                        help="silence around every clip (default: 0)")  # fmt: skip
    parser.add_argument("--seed", type=_options.seed, default=0, help="seed of noise and draws")
    parser.add_argument("--seeds", type=_options.positive_int, default=None, metavar="N",
                        help="motions per clip (default: 2); more than one tell how they differ")  # fmt: skip
    parser.add_argument("--steps", type=_options.positive_int, default=None,
                        help="denoising steps (default: the model's)")  # fmt: skip
    parser.add_argument("--guidance", type=_options.non_negative, default=None,
                        help="guidance weight (default: the model's)")  # fmt: skip
    parser.add_argument("--look-ahead", type=_options.look_ahead, default=None, metavar="SECONDS",
                        help="as live: nothing later than this after a frame's middle is heard for it "
                        "(default: all of a clip)")  # fmt: skip
    parser.add_argument("--motions", type=Path, default=None, metavar="DIR",
                        help="judge another system's motions: DIR/NAME.safetensors, .csv or .json by the "
                        "recordings' names, or in DIR such a folder for each seed; --model is then the head "
                        "that wears them, --seed that of the truth's draws")  # fmt: skip
    parser.add_argument(
        "--json", type=Path, default=None, metavar="FILE.json", help="write the report as JSON"
    )
    parser.add_argument("--pooled", action="store_true",
                        help="in --json only what is pooled over clips, without what each clip adds, "
                        "which is most of it and what --compare reads")  # fmt: skip
    parser.add_argument("--plot", type=Path, default=None, metavar="FILE.png",
                        help="draw the report (needs facetalk[plot])")  # fmt: skip
    _compared.add_arguments(parser)
    _rendered.add_arguments(parser)
    _options.add_encoder_argument(parser)
    _options.add_model_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Evaluate the model on the manifest, print the tables and write what was asked for."""
    if args.compare is not None:
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        _compared.run(args, parser.parse_args([]))
        return
    if args.manifest is None:
        raise InputError("give a manifest, or --compare and two reports")
    if args.json is not None:
        _options.check_output(args.json, (".json",))
    elif args.pooled:
        raise InputError("--pooled is for the file of --json; give that too, or leave it out")
    if args.plot is not None:
        from facetalk.metrics.plot import require_matplotlib

        _options.check_output(args.plot, (".png",))
        require_matplotlib()
    _check_given(args)
    draw = _rendered.prepare(args)
    from facetalk.files import atomic_path
    from facetalk.metrics.evaluate import evaluate
    from facetalk.metrics.given import GivenMotions
    from facetalk.metrics.manifest import read
    from facetalk.pipeline import FaceTalk

    # Before the model is loaded, and before an hour of clips leads to one that is not there.
    items = read(args.manifest, split=args.split)
    if args.json is not None:
        given = () if args.motions is None else args.motions.rglob("*.json")
        check_not_input(args.json, args.manifest, *(item.audio for item in items), *given)
    if args.plot is not None:
        check_not_input(args.plot, args.manifest, *(item.audio for item in items))
    for item in items:
        if not item.audio.is_file():
            raise InputError(f"{args.manifest} names the recording {item.audio}, which is not there")
    _options.set_threads(args.threads)
    model = FaceTalk.from_pretrained(args.model, args.device, encoder=args.encoder)
    report = evaluate(
        model,
        args.manifest,
        seed=args.seed,
        seeds=args.seeds,
        limit=args.limit,
        steps=args.steps,
        guidance=args.guidance,
        look_ahead=args.look_ahead,
        split=args.split,
        pad=args.pad or 0.0,
        names=model.head.expression_names,
        scorers=_scorers(),
        motions=None if args.motions is None else GivenMotions(args.motions, fps=model.config.fps),
    )
    heard = {} if args.motions is not None else {"encoder": model.hears(whole=args.look_ahead is None)}
    report.settings = {
        "facetalk": version.__version__, "model": model.config.name, **heard, **report.settings
    }  # fmt: skip
    print(report.table())
    content = report.as_dict()
    if args.pooled:
        del content["clip_by_clip"]
    if draw is not None:
        rendered = draw(model)
        print(rendered.table())
        content["rendered"] = rendered.as_dict()
    if args.json is not None:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if args.plot is not None:
        from facetalk.metrics.plot import plot

        plot(report, args.plot, fps=model.config.fps)


def _check_given(args: argparse.Namespace) -> None:
    """Refuse what would do nothing for motions that are there, and what is not measured live.

    Raises:
        InputError: there is no such folder, or an option of generating was given; or pictures are asked for
            of live motions.
    """
    if args.rendered and args.look_ahead is not None:
        raise InputError("--rendered draws what is made of whole recordings; leave it out with --look-ahead")
    if args.encoder == "whisper" and args.look_ahead is not None:
        check_whisper_ahead(args.look_ahead)
    if args.motions is None:
        return
    if not args.motions.is_dir():
        raise InputError(f"no folder of motions at {args.motions}")
    if args.rendered:
        raise InputError("--rendered draws what the model generates; leave it out with --motions")
    for option in ("pad", "seeds", "steps", "guidance", "look_ahead"):
        if getattr(args, option) is not None:
            name = option.replace("_", "-")
            raise InputError(f"--{name} is for motions that are generated; leave it out with --motions")
    if args.encoder != "auto":
        raise InputError("--encoder is for motions that are generated; leave it out with --motions")


def _scorers() -> Mapping[str, Scorer]:
    """Judges of single clips that this version has, by the name that stands before their figures."""
    from facetalk import metrics

    expert = getattr(metrics, "SyncExpert", None)
    return {} if expert is None else {"sync": expert.from_pretrained()}
