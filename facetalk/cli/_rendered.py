"""Options of ``facetalk evaluate`` that draw motions and judge the pictures."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from facetalk.cli import _options
from facetalk.errors import InputError

if TYPE_CHECKING:
    from facetalk.metrics.rendered import Rendered
    from facetalk.pipeline import FaceTalk

_CROPS = 2000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    group = parser.add_argument_group("pictures (slow: every frame is drawn)")
    group.add_argument(
        "--rendered", action="store_true", help="FID and KID of rendered mouths, beside rows of controls"
    )
    group.add_argument(
        "--crops",
        type=_options.positive_int,
        default=None,
        metavar="N",
        help=f"with --rendered: pictures a side (default {_CROPS})",
    )
    group.add_argument(
        "--inception",
        type=Path,
        default=None,
        metavar="FILE",
        help="with --rendered: Inception's features, from pytorch-fid's pt_inception-2015-12-05-6726825d.pth",
    )
    group.add_argument(
        "--syncnet",
        type=Path,
        default=None,
        metavar="FILE",
        help="with --rendered: LSE-D and LSE-C as well, from SyncNet's syncnet_v2.model",
    )


def prepare(args: argparse.Namespace) -> Callable[[FaceTalk], Rendered] | None:
    """What the options ask for, with all files read before the work: None without ``--rendered``.

    Raises:
        InputError: an option that needs ``--rendered`` without it or does nothing with it, a file that holds
            other weights, or torchmetrics is missing.
    """
    if not args.rendered:
        for option in ("crops", "inception", "syncnet"):
            if getattr(args, option) is not None:
                raise InputError(f"--{option} goes with --rendered")
        return None
    for option in ("pad", "seeds"):
        if getattr(args, option) is not None:
            raise InputError(
                f"--{option} does not go with --rendered, which draws one motion of each recording as it is"
            )
    from facetalk.metrics.images import require_torchmetrics
    from facetalk.metrics.inception import InceptionFeatures
    from facetalk.metrics.rendered import evaluate_rendered
    from facetalk.metrics.syncnet import SyncNet

    require_torchmetrics()
    return functools.partial(
        evaluate_rendered,
        manifest=args.manifest,
        split=args.split,
        limit=args.limit,
        seed=args.seed,
        steps=args.steps,
        guidance=args.guidance,
        crops=_CROPS if args.crops is None else args.crops,
        features=None if args.inception is None else InceptionFeatures.load(args.inception),
        syncnet=None if args.syncnet is None else SyncNet.load(args.syncnet),
    )
