"""The denoiser: causality, alignment, relative time, conditions computed once, chunks with a cache."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk.diffusion import Denoiser, DenoiserConfig
from facetalk.diffusion.attention import _rotate_fused, rotate, rotation
from facetalk.errors import InputError

WINDOWS = [(0, 0), (2, 0), (1, 3)]


def make(window: tuple[int, int] = (0, 0), history: int | None = 6, **changes: object) -> Denoiser:
    torch.manual_seed(0)
    sizes = dict(motion_dim=5, audio_dim=7, layers=2, heads=2, width=16, feedforward=24, dropout=0.0)
    return Denoiser(DenoiserConfig(**{**sizes, "window": window, "history": history, **changes})).eval()


def inputs(frames: int = 20, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    noisy = torch.randn(batch, frames, 5, generator=generator)
    return noisy, torch.randn(batch, frames, 7, generator=generator), torch.full((batch,), 400)


@torch.no_grad()
def predict(net: Denoiser, noisy: torch.Tensor, features: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    return net(noisy, time, net.condition(features))[0]


@pytest.mark.parametrize("window", WINDOWS)
def test_a_frame_depends_on_the_past_motion_and_its_window_of_audio_alone(window: tuple[int, int]) -> None:
    net = make(window, history=None)
    noisy, features, time = inputs()
    base = predict(net, noisy, features, time)
    changed = noisy.clone()
    changed[:, 10] += 1.0
    moved = (predict(net, changed, features, time) - base).abs().amax(-1)[0]
    assert moved[:10].max() == 0 and moved[10:].min() > 0
    louder = features.clone()
    louder[:, 10] += 1.0
    moved = (predict(net, noisy, louder, time) - base).abs().amax(-1)[0]
    first = 10 - window[1]
    assert moved[:first].max() < 1e-6 and moved[first:].min() > 1e-6


def test_alignment_reaches_one_frame_when_nothing_is_remembered() -> None:
    """With one block, self-attention sees noise only, so audio at frame 10 can reach frame 10 alone."""
    net = make((0, 0), layers=1)
    noisy, features, time = inputs()
    louder = features.clone()
    louder[:, 10] += 1.0
    moved = (predict(net, noisy, louder, time) - predict(net, noisy, features, time)).abs().amax(-1)[0]
    assert torch.nonzero(moved > 1e-7).flatten().tolist() == [10]


def test_history_bounds_the_receptive_field() -> None:
    net = make(history=3)
    noisy, features, time = inputs()
    changed = noisy.clone()
    changed[:, 4] += 1.0
    moved = (predict(net, changed, features, time) - predict(net, noisy, features, time)).abs().amax(-1)[0]
    reach = 4 + 2 * 3  # two layers
    assert moved[4 : reach + 1].min() > 0 and moved[reach + 1 :].max() == 0


def test_only_time_differences_count() -> None:
    """The same second of input gives the same output late in a clip as early, once the history is full."""
    net = make(history=4)
    noisy, features, time = inputs(12)
    lead, lead_audio = torch.randn(1, 500, 5), torch.randn(1, 500, 7)
    late = predict(net, torch.cat([lead, noisy], 1), torch.cat([lead_audio, features], 1), time)[:, 500 + 8 :]
    torch.testing.assert_close(late, predict(net, noisy, features, time)[:, 8:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", WINDOWS)
def test_zero_window_is_what_attention_over_one_key_gives(window: tuple[int, int]) -> None:
    """Inference may take the algebraic or compiled path; training takes the plain one. They agree."""
    net = make(window)
    noisy, features, time = inputs(batch=2)
    plain = net(noisy, time, net.condition(features))[0].detach()
    torch.testing.assert_close(predict(net, noisy, features, time), plain, rtol=1e-4, atol=1e-5)


def test_alignment_term_equals_masked_softmax_attention() -> None:
    from facetalk.diffusion.attention import AudioAttention

    wide = AudioAttention(16, 2, (1, 1))
    narrow = AudioAttention(16, 2, (0, 0))
    narrow.load_state_dict(wide.state_dict(), strict=False)
    wide.window = (0, 0)
    x, audio = torch.randn(2, 9, 16), torch.randn(2, 9, 16)
    torch.testing.assert_close(
        wide(x, wide.prepare(audio)), narrow(x, narrow.prepare(audio)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("window", WINDOWS)
def test_null_condition_hears_nothing_and_guided_condition_holds_both(window: tuple[int, int]) -> None:
    net = make(window)
    noisy, features, time = inputs()
    drop = torch.tensor([True])
    with torch.no_grad():
        null = net(noisy, time, net.condition(features, drop=drop))[0]
        other = net(noisy, time, net.condition(features * 5 + 1, drop=drop))[0]
        torch.testing.assert_close(null, other)
        both = net(noisy.expand(2, -1, -1), time, net.guided_condition(features))[0]
    torch.testing.assert_close(both[:1], predict(net, noisy, features, time), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(both[1:], null, rtol=1e-5, atol=1e-6)
    assert (both[0] - both[1]).abs().max() > 1e-3


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 19), max_size=5, unique=True).map(sorted),
    history=st.sampled_from([None, 1, 3, 6, 40]),
)
@torch.no_grad()
def test_chunks_with_a_cache_equal_the_whole(cuts: list[int], history: int | None) -> None:
    net = make(history=history)
    noisy, features, time = inputs()
    whole = predict(net, noisy, features, time)
    parts, past = [], None
    for start, stop in zip([0, *cuts], [*cuts, 20], strict=True):
        part, past = net(noisy[:, start:stop], time, net.condition(features[:, start:stop]), past)
        parts.append(part)
        if history is not None:
            assert all(layer.key.shape[2] <= history for layer in past)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)


def test_timestep_matters_and_gradients_reach_everything() -> None:
    net = make((1, 1)).train()
    noisy, features, time = inputs(batch=2)
    drop = torch.tensor([True, False])
    out = net(noisy, time, net.condition(features, drop=drop))[0]
    assert (out - net(noisy, time * 0, net.condition(features, drop=drop))[0]).abs().max() > 1e-4
    out.square().mean().backward()
    # A key's bias shifts all scores of a query alike, which the softmax ignores: its gradient is zero by
    # right.
    silent = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not [n for n in silent if not n.endswith("key.bias")]


def test_presets() -> None:
    paper = DenoiserConfig.paper()
    assert (paper.layers, paper.heads, paper.width, paper.feedforward) == (8, 8, 512, 1024)
    assert (paper.motion_dim, paper.audio_dim, paper.window, paper.history) == (200, 768, (0, 0), None)
    assert DenoiserConfig.mini().motion_dim == 53
    assert sum(p.numel() for p in Denoiser(DenoiserConfig.mini()).parameters()) < 2_000_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "layers"),
        ({"width": 18}, "multiple"),
        ({"window": (-1, 0)}, "window"),
        ({"history": 0}, "history"),
        ({"dropout": 1.0}, "dropout"),
        ({"motion_dim": 2.5}, "motion_dim"),
    ],
)
def test_bad_sizes_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DenoiserConfig.mini(**changes)


def test_wrong_feature_size_is_named() -> None:
    with pytest.raises(ValueError, match=r"\(B, T, 7\)"):
        make().condition(torch.zeros(1, 4, 6))


def test_rotation_keeps_lengths_and_depends_on_distances_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 1, 16, generator=generator, dtype=torch.float64).expand(-1, -1, 12, -1)
    turned = rotate(x, rotation(20, 16, x), 5)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5, rtol=0)  # float32 angles
    scores = turned @ turned.transpose(-1, -2)
    for distance in range(12):
        along = scores.diagonal(distance, -2, -1)
        torch.testing.assert_close(along, along[..., :1].expand_as(along), atol=1e-4, rtol=0)
    assert (scores[..., 0, :] - scores[..., :1, 0]).abs().max() > 0.1


def test_rotation_in_fewer_kernels_is_the_same_to_rounding() -> None:
    x = torch.randn(2, 3, 4, 12, 16, generator=torch.Generator().manual_seed(0))
    turn = rotation(20, 16, x)
    part = tuple(table[3:15] for table in turn)
    torch.testing.assert_close(_rotate_fused(x, *part), rotate(x, turn, 3), atol=1e-6, rtol=0)
