"""Noise that belongs to a frame: the same whatever the chunking, the batch or the device.

Streaming and whole-clip sampling must give the same motion, so the noise of frame ``i`` at step ``s`` is a
pure function of (seed, s, i, channel). It comes from the counter-based generator Philox4x32-10 (Salmon et
al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011), which needs no state and can be evaluated at any
counter, and the Box-Muller transform. ``numpy`` has Philox too, but one generator object per frame would cost
more than the network.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facetalk.arrays import Float32
from facetalk.errors import InputError

# Multipliers and Weyl increments of Philox4x32 (Salmon et al., SC 2011, and the authors' Random123 library).
_MULTIPLIER = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUNDS = 10

INITIAL = 0
"""Step index of the noise that sampling starts from; the noise added after the k-th step has index k + 1."""


def philox4x32(counter: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Ten rounds of Philox4x32.

    Args:
        counter: (..., 4) counters.
        key: two 32-bit words.

    Returns:
        (..., 4) random words, one block per counter.
    """
    words = np.moveaxis(np.asarray(counter, np.uint32), -1, 0).astype(np.uint64)
    a, b, c, d = words
    for turn in range(_ROUNDS):
        k0 = np.uint64((key[0] + turn * _WEYL[0]) & 0xFFFFFFFF)
        k1 = np.uint64((key[1] + turn * _WEYL[1]) & 0xFFFFFFFF)
        first, second = a * _MULTIPLIER[0], c * _MULTIPLIER[1]
        a, b, c, d = (second >> _HALF) ^ b ^ k0, second & _LOW, (first >> _HALF) ^ d ^ k1, first & _LOW
    return np.stack([a, b, c, d], axis=-1).astype(np.uint32)


def frame_noise(seed: int, step: int, start: int, stop: int, channels: int) -> Float32:
    """Standard normal noise of the frames ``start`` to ``stop`` at one sampling step.

    Args:
        seed: 0 to 2**64 - 1.
        step: ``INITIAL`` or the index of the sampling step plus one.
        start: first frame of the clip, inclusive.
        stop: last frame, exclusive.
        channels: values per frame.

    Returns:
        (stop - start, channels) float32. Row ``i`` depends on (seed, step, start + i) alone, and the first
        columns do not depend on ``channels``.

    Raises:
        InputError: the seed is not in range.
    """
    if isinstance(seed, bool) or int(seed) != seed or not 0 <= seed < 2**64:
        raise InputError(f"seed must be a whole number in 0..2**64-1, got {seed}")
    if not 0 <= start <= stop < 2**32 or not 0 <= step < 2**32:
        raise ValueError(f"frames and step must fit 32 bits, got {start}..{stop} at step {step}")
    blocks = -(-channels // 4)
    counter = np.zeros((stop - start, blocks, 4), np.uint32)
    counter[..., 0] = np.arange(blocks, dtype=np.uint32)
    counter[..., 1] = np.arange(start, stop, dtype=np.uint32)[:, None]
    counter[..., 2] = step
    words = philox4x32(counter, (int(seed) & 0xFFFFFFFF, int(seed) >> 32)).astype(np.float64)
    # Centred on the cell, so that the uniform is never 0 and its logarithm never infinite.
    uniform = (words + 0.5) * 2.0**-32
    radius = np.sqrt(-2.0 * np.log(uniform[..., 0::2]))
    angle = 2.0 * np.pi * uniform[..., 1::2]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return normal.reshape(stop - start, blocks * 4)[:, :channels].astype(np.float32)
