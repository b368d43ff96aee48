"""The two attentions of the denoiser: windowed causal self-attention and attention to the audio.

Both are relative in time: frame numbers never enter, only distances, so a network trained on crops of a few
seconds runs on hours, and a chunk of a clip needs no more than the keys and values of the frames before it.
That holds for a bounded history; with the paper's unbounded one, distances longer than the training crops are
new to the network, and memory grows with the clip.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facetalk.ops import masked_cross_attention

_ROTARY_BASE = 10_000.0


@dataclasses.dataclass
class KeyValue:
    """Keys and values of past frames, before rotation: two (B, H, P, D) tensors."""

    key: Tensor
    value: Tensor


class Rotation(NamedTuple):
    """Cosines and sines of the rotary encoding, each (positions, D / 2)."""

    cos: Tensor
    sin: Tensor


def rotation(positions: int, depth: int, like: Tensor) -> Rotation:
    """The rotary encoding (Su et al., "RoFormer", 2021) of positions 0 .. positions - 1 for heads of a depth.

    Args:
        positions: how many.
        depth: D, even.
        like: a tensor of the dtype and on the device that are wanted.
    """
    half = depth // 2
    frequency = _ROTARY_BASE ** (-torch.arange(half, device=like.device, dtype=torch.float32) / half)
    angle = torch.arange(positions, device=like.device, dtype=torch.float32)[:, None] * frequency
    return Rotation(angle.cos().to(like.dtype), angle.sin().to(like.dtype))


def rotate(x: Tensor, turn: Rotation, start: int) -> Tensor:
    """Turn (..., T, D), whose first row has position ``start``.

    The product of a rotated query and a rotated key depends on their distance alone.
    """
    half = x.shape[-1] // 2
    cos, sin = (table[start : start + x.shape[-2]] for table in turn)
    if x.is_cuda and not torch.is_grad_enabled():
        return _rotate_fused(x, cos, sin)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def _rotate_fused(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The same in four kernels instead of seven, for a GPU that waits for launches more than for numbers.

    A multiply-add rounds once where the other way rounds twice, so results differ in the last place.
    """
    out, half = torch.empty_like(x), x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-1.0)
    torch.mul(first, sin, out=out[..., half:]).addcmul_(second, cos)
    return out


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, C) -> (B, heads, T, C / heads)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, heads, T, D) -> (B, T, heads * D)."""
    return x.transpose(1, 2).flatten(2)


def windowed_attention(query: Tensor, key: Tensor, value: Tensor, left: int | None, right: int) -> Tensor:
    """Attention in which query i sees the keys i - left to i + right: (B, H, T, D) -> (B, H, T, D).

    Inference takes the compiled operation, whose work grows with the window; training takes torch's, whose
    backward pass is the quicker one for crops of a few seconds.
    """
    if not torch.is_grad_enabled():
        return masked_cross_attention(query, key, value, window=(left, right))
    distance = torch.arange(query.shape[2], device=query.device)[:, None] - torch.arange(
        key.shape[2], device=query.device
    )
    visible = distance >= -right
    if left is not None:
        visible &= distance <= left
    return F.scaled_dot_product_attention(query, key, value, attn_mask=visible)


class SelfAttention(nn.Module):
    """Self-attention with a look-ahead mask: frame i sees the frames i - history to i.

    Args:
        width: channels.
        heads: attention heads; ``width / heads`` has to be even (rotary encoding turns pairs).
        history: how many past frames a frame sees besides itself; None = all of them.
    """

    def __init__(self, width: int, heads: int, history: int | None) -> None:
        super().__init__()
        self.heads, self.history = heads, history
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)

    def forward(self, x: Tensor, turn: Rotation, past: KeyValue | None = None) -> tuple[Tensor, KeyValue]:
        """Attend within a clip, or within a chunk of it given the frames before.

        Args:
            x: (B, T, C).
            turn: rotary encoding of at least P + T positions.
            past: keys and values of the P frames before the chunk; None at the start of a clip.

        Returns:
            (B, T, C), and the keys and values that the next chunk needs.
        """
        parts = self.project_in(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind()
        if past is not None:
            key, value = torch.cat([past.key, key], 2), torch.cat([past.value, value], 2)
        frames, seen = query.shape[2], key.shape[2]
        before = seen - frames
        # Positions count from the first key, so they stay small however long the clip is.
        if before:
            turned_query, turned_key = rotate(query, turn, before), rotate(key, turn, 0)
        else:
            turned_query, turned_key = rotate(parts[:2], turn, 0).unbind()
        left = None if self.history is None else self.history - before
        mixed = windowed_attention(turned_query, turned_key, value, left, before)
        kept = seen if self.history is None else min(seen, self.history)
        return self.project_out(join_heads(mixed)), KeyValue(
            key[:, :, seen - kept :], value[:, :, seen - kept :]
        )


class AudioAttention(nn.Module):
    """Cross-attention under an alignment mask: frame i sees the audio of frames i - left to i + right.

    The paper's mask is δ_ij, the window (0, 0). The softmax then runs over one key and is 1, so the attention
    is W_o(W_v a_i + b_v) + b_o whatever the motion: no query, no key, and nothing that changes from one
    denoising step to the next. ``prepare`` computes that term once per clip; only wider windows have queries
    and keys at all.
    """

    def __init__(self, width: int, heads: int, window: tuple[int, int]) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.aligned = window == (0, 0)
        self.value = nn.Linear(width, width)
        self.project_out = nn.Linear(width, width)
        if not self.aligned:
            self.query = nn.Linear(width, width)
            self.key = nn.Linear(width, width)

    def prepare(self, audio: Tensor) -> Tensor | KeyValue:
        """What of this layer depends on the audio alone.

        Args:
            audio: (B, T, C) projected features; for a chunk, with ``window`` frames of context on each side
                where the clip has them.
        """
        if self.aligned:
            return self.project_out(self.value(audio))
        return KeyValue(split_heads(self.key(audio), self.heads), split_heads(self.value(audio), self.heads))

    def forward(self, x: Tensor, prepared: Tensor | KeyValue, offset: int = 0) -> Tensor:
        """Attend.

        Args:
            x: (B, T, C) motion.
            prepared: from :meth:`prepare`.
            offset: how many frames of left context the prepared audio has.

        Returns:
            (B, T, C).
        """
        if isinstance(prepared, Tensor):
            return prepared
        query = split_heads(self.query(x), self.heads)
        left, right = self.window
        mixed = windowed_attention(query, prepared.key, prepared.value, left - offset, right + offset)
        return self.project_out(join_heads(mixed))
