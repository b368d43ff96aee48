"""Reading and writing models: every form, every size from shapes, and errors that name what is wrong."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from facetalk.errors import InputError
from facetalk.nphm import load_checkpoint


def state_dicts(model) -> dict:
    return {
        "identity": model.identity.state_dict(),
        "deformation": model.deformation.state_dict(),
        "anchors": model.identity.anchors_mean,
        "config": {"nneigh": model.identity.config.neighbours, "blend_std": model.identity.config.blend_std},
    }


@pytest.fixture(params=["nphm", "mononphm"])
def model(request, make_model):
    return make_model(3, family=request.param, layers=3)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_sizes_come_from_shapes(make_model, data) -> None:
    family = data.draw(st.sampled_from(["nphm", "mononphm"]))
    anchors = data.draw(st.integers(2, 12))
    sizes = {
        "anchors": anchors,
        "pairs": data.draw(st.integers(0, anchors // 2)),
        "global_dim": data.draw(st.integers(1, 7)),
        "local_dim": data.draw(st.integers(1, 6)),
        "hidden": data.draw(st.integers(17, 40)),
        "anchor_hidden": data.draw(st.integers(1, 9)),
    }
    model = make_model(1, family=family, layers=data.draw(st.integers(2, 6)), **sizes)
    loaded = load_checkpoint(state_dicts(model), family=family)
    assert loaded.identity.config == model.identity.config
    assert loaded.deformation.config == model.deformation.config
    points, code, expression = torch.rand(9, 3) - 0.5, torch.randn(model.identity_dim) * 0.3, torch.randn(4)
    assert torch.equal(loaded.sdf(points, code, expression), model.sdf(points, code, expression))
    field = loaded.bind(code)
    assert (field.query(points, expression)[0] - model.sdf(points, code, expression)).abs().max() < 3e-5


def test_save_and_load(model, tmp_path) -> None:
    (tmp_path / "card.md").write_text("stays")
    model.save(tmp_path)
    loaded = load_checkpoint(tmp_path, family=model.family)
    assert (tmp_path / "card.md").read_text() == "stays"
    assert (
        loaded.identity.config == model.identity.config
        and loaded.deformation.config == model.deformation.config
    )
    for a, b in zip(loaded.identity.state_dict().items(), model.identity.state_dict().items(), strict=True):
        assert a[0] == b[0] and torch.equal(a[1], b[1])
    assert torch.equal(loaded.identity.anchors_mean, model.identity.anchors_mean)


def test_official_files(model, tmp_path) -> None:
    parts = state_dicts(model)
    code = torch.randn(model.identity_dim) * 0.1
    points = torch.rand(5, 3) - 0.5
    expected = model.sdf(points, code)
    if model.family == "mononphm":  # one file with everything, a colour branch among it
        colour = {
            "aggr_app.layers.0.weight": torch.zeros(3, 3),
            "communcation_bottleneck1.weight": torch.zeros(2),
        }
        content = {
            "id_decoder": {**parts["identity"], **colour},
            "ex_decoder": parts["deformation"],
            "epoch": 7,
        }
        torch.save(content, tmp_path / "latest.pt")
        np.save(tmp_path / "anchors_65.npy", parts["anchors"].numpy()[None, None])
        loaded = load_checkpoint(tmp_path / "latest.pt", family="mononphm")
        assert loaded.deformation is not None
    else:  # a file per network
        torch.save({"decoder_state_dict": parts["identity"], "epoch": 3}, tmp_path / "identity.pt")
        torch.save({"decoder_state_dict": parts["deformation"]}, tmp_path / "expression.pt")
        files = {"identity": tmp_path / "identity.pt", "deformation": str(tmp_path / "expression.pt")}
        loaded = load_checkpoint({**files, "anchors": parts["anchors"].numpy()})
        assert loaded.deformation is not None
        np.save(tmp_path / "anchors_39.npy", parts["anchors"].numpy())
        only = load_checkpoint(tmp_path / "identity.pt")
        assert only.deformation is None and only.expression_dim == 0
        assert torch.equal(only.bind(code).query(points), loaded.bind(code).query(points))
        with pytest.raises(InputError, match="no deformation"):
            only.sdf(points, code, torch.zeros(4))
    config = model.identity.config
    if model.family == "nphm":
        assert torch.equal(loaded.sdf(points, code), expected)
    else:  # neighbours and blending constant are not in the tensors
        assert loaded.identity.config.neighbours == 12 and config.neighbours == 5


def test_arrays_as_they_come(model) -> None:
    points, code = np.random.default_rng(0).uniform(-0.5, 0.5, (7, 3)), np.zeros(model.identity_dim)
    expression = np.full((2, 4), 0.3)
    assert model.anchors(code).shape == (7, 3) and isinstance(model.anchors(code), np.ndarray)
    assert model.sdf(points, code).dtype == np.float32 and model.sdf(points, code).shape == (7,)
    assert model.sdf(points, code, expression).shape == (2, 7)
    assert model.offsets(points, code, expression[0]).shape == (7, 3)
    assert isinstance(model.sdf(torch.from_numpy(points), code), torch.Tensor)
    assert model.sdf(points[:0], code).shape == (0,)
    with pytest.raises(InputError, match=r"points: expected finite numbers, got nan at \[2, 1\]"):
        points[2, 1] = np.nan
        model.sdf(points, code)
    with pytest.raises(InputError, match=f"identity: expected a code of {model.identity_dim} numbers"):
        model.bind(code[:-1])
    with pytest.raises(InputError, match="expression: expected codes of 4"):
        model.offsets(points[:1], code, np.zeros(5))


def test_names_the_tensor_that_is_wrong(model) -> None:
    ensemble = "ensembled_deep_sdf.lin1" if model.family == "nphm" else "deepSDFensemble.layers.2.layers.2"
    for change, message in [
        (lambda p: p["identity"].pop(f"{ensemble}.bias"), f"{ensemble}.bias is missing"),
        (lambda p: p["identity"].pop("mlp_pos.2.weight"), "mlp_pos.2.weight is missing"),
        (lambda p: p["deformation"].pop("compressor.0.weight"), "compressor.0.weight is missing"),
        (lambda p: p["deformation"].pop("defDeepSDF.lin1.weight"), "lin1.weight is missing"),
        (lambda p: cut(p["identity"], f"{ensemble}.weight"), rf"{ensemble}.weight has shape .* expected"),
        (lambda p: cut(p["deformation"], "defDeepSDF.lin1.weight"), r"lin1.weight has shape .* expected"),
        (lambda p: poison(p["identity"], f"{ensemble}.weight"), f"{ensemble}.weight holds numbers"),
        (lambda p: p.update(anchors=p["anchors"][1:]), "mean anchors"),
        (lambda p: p.update(anchors=None), "mean anchors are missing"),
        (lambda p: p.update(anchors=p["anchors"] / 0), "anchors hold numbers that are not finite"),
        (lambda p: p.pop("identity"), "identity network is missing"),
        (lambda p: p.update(config={"nneigh": "many"}), "nneigh must be a number"),
        (lambda p: p.update(config={"nneigh": 0}), "nneigh must be a number of at least 1"),
    ]:
        parts = {k: dict(v) if isinstance(v, dict) else v for k, v in state_dicts(model).items()}
        change(parts)
        with pytest.raises(InputError, match=message) as caught:
            load_checkpoint(parts, family=model.family)
        assert "\n" not in str(caught.value)


def cut(state: dict, key: str) -> None:
    state[key] = state[key][..., :-1]


def poison(state: dict, key: str) -> None:
    state[key] = state[key].clone()
    state[key].view(-1)[0] = float("nan")


def test_the_wrong_family_is_said(model) -> None:
    other = "mononphm" if model.family == "nphm" else "nphm"
    with pytest.raises(InputError, match=f"a model of family {model.family}, not {other}"):
        load_checkpoint(state_dicts(model), family=other)
    with pytest.raises(InputError, match="unknown model family"):
        load_checkpoint(state_dicts(model), family="flame")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["identity.safetensors", "deformation.safetensors", "config.json", "anchors.safetensors"]
)
def test_corrupt_folders(model, tmp_path, name: str) -> None:
    model.save(tmp_path / "good")
    content = (tmp_path / "good" / name).read_bytes()
    for i, broken in enumerate([b"", content[: len(content) // 2], b"\x00" * 64, b"[1, 2]"]):
        folder = tmp_path / str(i)
        shutil.copytree(tmp_path / "good", folder)
        (folder / name).write_bytes(broken)
        with pytest.raises(InputError, match=name.split(".")[0]) as caught:
            load_checkpoint(folder, family=model.family)
        assert "\n" not in str(caught.value)


def test_missing_and_hostile_files(model, tmp_path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        load_checkpoint(tmp_path / "nothing.pt")
    with pytest.raises(InputError, match=r"identity\.safetensors is missing"):
        load_checkpoint(tmp_path)
    with pytest.raises(InputError, match="a folder, a file or a dictionary"):
        load_checkpoint(5)  # type: ignore[arg-type]

    class Hostile:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'owned')!r}, 'w')",))

    (tmp_path / "hostile.pt").write_bytes(pickle.dumps(Hostile()))
    torch.save({"decoder_state_dict": Hostile()}, tmp_path / "hostile2.pt")
    for name in ("hostile.pt", "hostile2.pt"):
        with pytest.raises(InputError, match="not a readable checkpoint"):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "owned").exists()


def test_one_safetensors_file(model, tmp_path) -> None:
    parts = state_dicts(model)
    merged = {f"identity.{k}": v for k, v in parts["identity"].items()}
    merged.update(
        {f"deformation.{k}": v for k, v in parts["deformation"].items()}, anchors_mean=parts["anchors"]
    )
    save_file(merged, tmp_path / "model.safetensors")
    loaded = load_checkpoint(tmp_path / "model.safetensors", family=model.family)
    assert loaded.expression_dim == 4
    assert set(load_file(tmp_path / "model.safetensors")) == set(merged)


def test_config_of_a_saved_model_is_readable(model, tmp_path) -> None:
    model.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["family"] == model.family and config["n_loc"] == 7 and config["lat_expr"] == 4
