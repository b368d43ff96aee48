"""Which sound belongs to which motion: multi-way cross-entropy over shifts and over other clips."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

NEAR = 2
"""Shifts up to this are no negatives: one frame off is half right, two are too close to call wrong."""
SIGMA = 0.7
"""Standard deviation in frames of the soft label."""
OTHERS = 24
"""Embeddings of other clips that each anchor is compared with."""
_LARGEST_SCALE = 50.0


def soft_labels(windows: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(W, W) labels exp(-s^2 / (2 SIGMA^2)) for |s| <= 1, and what takes part: |s| <= 1 and |s| >= 3."""
    index = torch.arange(windows, device=device)
    shift = (index[None] - index[:, None]).abs()
    labels = torch.where(shift <= 1, torch.exp(-(shift.float() ** 2) / (2 * SIGMA**2)), 0.0)
    return labels / labels.sum(1, keepdim=True), shift != NEAR


def contrastive_terms(
    motion: Tensor, audio: Tensor, log_scale: Tensor, weight: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Loss of a batch of clips.

    Args:
        motion: (B, W, E) unit vectors of B clips' W windows.
        audio: (B, W, E), the sound of the same windows.
        log_scale: logarithm of the factor on the cosines (one over the temperature), learned.
        weight: (B, W) how much each window counts.
        generator: draws the windows of other clips.

    Returns:
        loss, and the share of windows whose best match in their own clip is at most one frame off.
    """
    clips, windows, _ = motion.shape
    scale = log_scale.exp().clamp(max=_LARGEST_SCALE)
    labels, mask = soft_labels(windows, motion.device)
    cosines = motion @ audio.transpose(1, 2)
    loss = motion.new_zeros(())
    for own, other, near in ((motion, audio, cosines), (audio, motion, cosines.transpose(1, 2))):
        inside = (scale * near).masked_fill(~mask, -torch.inf)
        logits = inside
        if clips > 1:
            # Row (b, w) meets the windows of OTHERS clips, never its own.
            which = torch.randint(1, clips, (clips, OTHERS), generator=generator)
            which = (which + torch.arange(clips)[:, None]) % clips
            when = torch.randint(windows, (clips, OTHERS), generator=generator)
            strangers = other[which.to(own.device), when.to(own.device)]
            logits = torch.cat([inside, scale * (own @ strangers.transpose(1, 2))], dim=2)
        log_share = functional.log_softmax(logits, dim=2)[..., :windows]
        cross = -(labels * log_share.masked_fill(~mask, 0.0)).sum(2)
        loss = loss + 0.5 * (cross * weight).sum() / weight.sum()
    with torch.no_grad():
        away = (cosines.argmax(2) - torch.arange(windows, device=motion.device)).abs()
        right = ((away <= 1).float() * weight).sum() / weight.sum()
    return {"loss": loss, "within_1": right, "scale": scale.detach()}
