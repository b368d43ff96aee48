"""FaceTalk's own way to codes: Adam on a window of frames, with the weights and rates of its supplement."""

from __future__ import annotations

import torch

from facetalk.fitting.differentiable import DifferentiableField
from facetalk.fitting.frame import Frame, Limits
from facetalk.fitting.options import FitOptions
from facetalk.fitting.pose import rotation

__all__ = ["adam"]

# FaceTalk, CVPR 2024, supplementary material: weights of distance, change and size, and the rates.
_DISTANCE, _CHANGE, _SIZE, _RATES = 10.0, 0.1, 0.0025, (1e-3, 1e-4)


def adam(
    field: DifferentiableField,
    frames: list[Frame],
    before: Frame | None,
    limits: Limits,
    options: FitOptions,
    generator: torch.Generator,
) -> None:
    """The paper's way; poses, which it knows, are moved along where they are asked for."""
    codes = torch.stack([frame.code for frame in frames]).float().requires_grad_()
    twists = torch.zeros(len(frames), 6, requires_grad=options.pose)
    optimizer = torch.optim.Adam([codes, twists] if options.pose else [codes], lr=_RATES[0])
    first = None if before is None else before.code.float()[None]
    for step in range(options.adam_steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATES[step >= 0.6 * options.adam_steps]
        optimizer.zero_grad()
        for t, frame in enumerate(frames):
            points = frame.drawn(options.points, generator)
            if options.pose:
                points = points @ rotation(twists[t, :3]).T + twists[t, 3:]
            loss = _DISTANCE * field.distance(points, codes[t]).abs().mean() / len(frames)
            loss.backward()  # type: ignore[no-untyped-call]
        row = codes if first is None else torch.cat([first, codes])
        change = row.diff(dim=0)
        rest = _SIZE * codes.square().sum(1).mean()
        if len(change):
            rest = rest + _CHANGE * torch.nn.functional.huber_loss(change, torch.zeros_like(change))
        rest.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if limits is not None:
            with torch.no_grad():
                codes.clamp_(*limits)
    for frame, code, twist in zip(frames, codes.detach().double(), twists.detach().double(), strict=True):
        frame.code = code
        if options.pose:
            frame.pose = frame.pose.moved(twist[:3], twist[3:])
