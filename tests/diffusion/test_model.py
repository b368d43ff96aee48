"""The motion model: sampling in chunks, seeds, saving and loading, and what can be wrong with a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk.diffusion import Denoiser, DenoiserConfig, MotionModel, Representation, Sampler
from facetalk.diffusion.lip_contact import LipContact
from facetalk.errors import InputError

NAMES = ["jawOpen", "mouthClose", "mouthPucker", "eyeBlink_L", "eyeBlink_R", "browInnerUp_L"]


def make(window: tuple[int, int] = (0, 0), history: int | None = 5, audio_dim: int = 7) -> MotionModel:
    torch.manual_seed(1)
    config = DenoiserConfig(
        motion_dim=4,
        audio_dim=audio_dim,
        layers=2,
        heads=2,
        width=16,
        feedforward=24,
        window=window,
        history=history,
    )
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    representation = Representation.fit(rng.uniform(0, 0.5, (200, 6)), root @ root.T + np.eye(6))
    representation = Representation(
        representation.mean, representation.encode_matrix[:4], representation.decode_matrix[:, :4],
        representation.scale_mm[:4],
    )  # fmt: skip
    contact = LipContact(0.8, np.array([29.0, -37.0, -1.0, 0.0, 0.0, 0.0]), 1)
    return MotionModel(
        Denoiser(config), representation, expression_names=NAMES, feature_mean=torch.full((audio_dim,), 0.1),
        feature_scale=torch.full((audio_dim,), 2.0), default_steps=4, default_guidance=1.5, contact=contact,
    )  # fmt: skip


def features(frames: int = 30, size: int = 7) -> torch.Tensor:
    return torch.randn(frames, size, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("window", [(0, 0), (2, 1)])
@pytest.mark.parametrize("history", [5, None])
@pytest.mark.parametrize(("kind", "guidance"), [("ddim", 1.0), ("ddim", 2.0), ("ddpm", 1.5)])
def test_chunked_sampling_equals_the_whole_clip(
    window: tuple[int, int], history: int | None, kind: str, guidance: float
) -> None:
    model = make(window, history)
    settings_ = dict(seed=3, steps=4, guidance=guidance, kind=kind)
    whole = model.sample(features(), **settings_, chunk=1000)
    for chunk in (1, 7, 29):
        np.testing.assert_allclose(model.sample(features(), **settings_, chunk=chunk), whole, atol=2e-5)
    pieces = iter(features().split([3, 11, 16]))
    np.testing.assert_allclose(model.sample(pieces, **settings_), whole, atol=2e-5)


def test_memory_of_a_stream_is_bounded_by_the_history() -> None:
    stream = make((1, 1)).stream(seed=0, guidance=2.0)
    sizes = []
    for piece in features(400).split(20):
        stream.push(piece)
        sizes.append(
            sum(layer.key.numel() for step in stream._past for layer in step) + stream._heard.numel()
        )
    assert len(set(sizes[1:])) == 1


def test_frames_come_out_as_early_as_the_window_allows() -> None:
    stream = make((2, 1)).stream(seed=0)
    data = features(10)
    assert [len(stream.push(data[i : i + 2])) for i in range(0, 10, 2)] == [1, 2, 2, 2, 2]
    assert len(stream.finish()) == 1
    assert stream.frames_done == 10


def test_seed_decides_the_motion() -> None:
    model = make()
    first = model.sample(features(), seed=1)
    np.testing.assert_array_equal(first, model.sample(features(), seed=1))
    assert np.abs(first - model.sample(features(), seed=2)).max() > 1e-3
    assert np.abs(model.sample(features()) - model.sample(features())).max() > 1e-4
    assert first.shape == (30, 6) and first.dtype == np.float32
    assert first.min() >= 0 and first.max() <= 1


def test_longer_clip_begins_with_the_shorter_one() -> None:
    model = make()
    np.testing.assert_allclose(
        model.sample(features()[:12], seed=9), model.sample(features(), seed=9)[:12], atol=2e-5
    )


def test_sampling_is_the_sampler_run_on_the_guided_network() -> None:
    """Against the plain loop without cache, chunks or shared conditions."""
    from facetalk.diffusion import frame_noise, guide

    model = make()
    heard = ((features() - 0.1) / 2.0)[None]

    @torch.no_grad()
    def predict(_index: int, timestep: int, sample: torch.Tensor) -> torch.Tensor:
        at = torch.tensor([timestep])
        cond = model.denoiser(sample, at, model.denoiser.condition(heard))[0]
        null = model.denoiser(sample, at, model.denoiser.condition(heard, drop=torch.tensor([True])))[0]
        return guide(cond, null, 1.5)

    out = (
        Sampler("ddim", 4)
        .run(predict, lambda i: torch.from_numpy(frame_noise(2, i, 0, 30, 4))[None])[0]
        .numpy()
    )
    expected = model.contact.apply(model.representation.decode(out).clip(0, 1))
    np.testing.assert_allclose(model.sample(features(), seed=2), expected, atol=2e-5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6))
def test_contact_stops_lips_and_changes_nothing_else(values: list[float]) -> None:
    contact = make().contact
    weights = np.array(values, np.float32)
    out = contact.apply(weights)
    others = [i for i in range(6) if i != 1]
    np.testing.assert_array_equal(out[others], weights[others])
    assert out[1] <= weights[1]
    if contact.gap(weights) >= contact.lowest_mm:
        np.testing.assert_allclose(out, weights, atol=1e-7)
    else:
        assert contact.gap(out) >= contact.lowest_mm - 1e-4 or out[1] == 0


def test_save_and_load_keep_everything(tmp_path: Path) -> None:
    model = make((2, 1))
    model.notes = {"data": "none"}
    folder = model.save(tmp_path / "motion")
    again = MotionModel.load(folder)
    np.testing.assert_allclose(again.sample(features(), seed=4), model.sample(features(), seed=4), atol=1e-6)
    assert again.denoiser.config == model.denoiser.config
    assert (again.default_steps, again.default_guidance, again.notes) == (4, 1.5, {"data": "none"})
    assert again.expression_names == NAMES
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert len({p.stat().st_mode for p in folder.iterdir()}) == 1


def test_half_precision_halves_the_file_and_keeps_the_motion(tmp_path: Path) -> None:
    model = make()
    full, half = model.save(tmp_path / "full"), model.save(tmp_path / "half", half=True)
    size = [(folder / "model.safetensors").stat().st_size for folder in (full, half)]
    assert size[1] < 0.7 * size[0]
    # A weight in float16 is off by 2^-11; four steps of an untrained network pass on a little more.
    np.testing.assert_allclose(
        MotionModel.load(half).sample(features(), seed=4), model.sample(features(), seed=4), atol=5e-3
    )


def _edit(folder: Path, change: object) -> None:
    content = json.loads((folder / "config.json").read_text())
    change(content)
    (folder / "config.json").write_text(json.dumps(content))


def _drop_tensor(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["denoiser.motion_in.weight"]
    save_file(tensors, folder / "model.safetensors")


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda f: (f / "config.json").write_text("{"), "damaged"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "damaged"),
        (lambda f: (f / "config.json").write_text("[]"), "does not describe"),
        (lambda f: _edit(f, lambda c: c.update(version=99)), "version 99"),
        (lambda f: _edit(f, lambda c: c["denoiser"].update(width=32)), "fit together"),
        (lambda f: _edit(f, lambda c: c["denoiser"].update(wobble=1)), "fit together"),
        (lambda f: _edit(f, lambda c: c.pop("sampling")), "sampling"),
        (lambda f: _edit(f, lambda c: c["expression_names"].pop()), "should have shape"),
        (lambda f: _truncate(f / "model.safetensors"), "damaged"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "damaged"),
        (_drop_tensor, "motion_in.weight"),
    ],
)
def test_a_spoilt_folder_is_one_clear_line(tmp_path: Path, spoil: object, message: str) -> None:
    folder = make().save(tmp_path / "motion")
    spoil(folder)
    with pytest.raises(InputError, match=message) as caught:
        MotionModel.load(folder)
    assert "\n" not in str(caught.value)


def test_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a motion model folder"):
        MotionModel.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"steps": 0}, "1..1000"),
        ({"steps": 1001}, "1..1000"),
        ({"guidance": -1.0}, "guidance"),
        ({"guidance": float("nan")}, "guidance"),
        ({"seed": -1}, "seed"),
        ({"kind": "euler"}, "sampler"),
        ({"eta": 2.0}, "eta"),
        ({"chunk": 0}, "chunk"),
    ],
)
def test_bad_settings_are_one_clear_line(settings_: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make().sample(features(), **settings_)


@pytest.mark.parametrize(
    "bad", [features(size=6), features()[None], features() * float("nan"), features()[0]]
)
def test_bad_features_are_one_clear_line(bad: torch.Tensor) -> None:
    with pytest.raises(InputError, match="audio features"):
        make().sample(bad, seed=0)
