"""Reading and writing models: every form, every size from shapes, and errors that name what is wrong."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from facetalk.cli import main
from facetalk.errors import InputError
from facetalk.nphm import load_checkpoint
from facetalk.nphm.checkpoint_files import read_checkpoint


def state_dicts(model) -> dict:
    return {
        "identity": model.identity.state_dict(),
        "deformation": model.deformation.state_dict(),
        "anchors": model.identity.anchors_mean,
        "config": {
            "nneigh": model.identity.config.neighbours,
            "blend_std": model.identity.config.blend_std,
            "direction": model.direction,
        },
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


@pytest.mark.filterwarnings("error")
def test_nobody_is_advised_to_unpickle(tmp_path) -> None:
    """The line says what stood in the way, and not how torch would let it in."""
    (tmp_path / "old.pt").write_bytes(pickle.dumps({"a": print}))
    torch.save({"a": Path("x")}, tmp_path / "path.pt")
    torch.save({"a": print}, tmp_path / "print.pt")
    for name, why in (("old.pt", "operand"), ("path.pt", "GLOBAL pathlib"), ("print.pt", "GLOBAL print")):
        with pytest.raises(InputError) as caught:
            read_checkpoint(tmp_path / name)
        told = str(caught.value)
        assert why in told and len(told.splitlines()) == 1
        assert not re.search(r"weights_only|trust|Re-running|add_safe_globals|\x1b", told), told


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


WRAPPERS = ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."]


@pytest.mark.parametrize("prefix", WRAPPERS)
def test_what_wrappers_add_to_names(model, prefix: str, tmp_path) -> None:
    """DataParallel and DDP put `module.` in front, torch.compile `_orig_mod.`, also around inner modules."""
    parts = state_dicts(model)

    def wrapped(state: dict) -> dict:
        inner = {k.replace(".", "._orig_mod.", 1) if "_orig" in prefix else k: v for k, v in state.items()}
        return {prefix + k: v for k, v in inner.items()}

    networks = {name: wrapped(parts[name]) for name in ("identity", "deformation")}
    code, points = torch.zeros(model.identity_dim), torch.rand(4, 3) - 0.5
    expected = model.sdf(points, code)
    loaded = load_checkpoint({**parts, **networks}, family=model.family)
    assert torch.equal(loaded.sdf(points, code), expected) and loaded.expression_dim == 4
    if model.family == "nphm":
        np.save(tmp_path / "anchors.npy", parts["anchors"].numpy())
        torch.save({"decoder_state_dict": {**networks["identity"], **networks["deformation"]}},
                   tmp_path / "both.tar")  # fmt: skip
        loaded = load_checkpoint(tmp_path / "both.tar")
        assert torch.equal(loaded.sdf(points, code), expected) and loaded.expression_dim == 4


def test_wrapped_by_torch_itself(model) -> None:
    compiled = torch.compile(torch.nn.DataParallel(model.identity))
    parts = {**state_dicts(model), "identity": compiled.state_dict()}
    assert any(key.startswith("_orig_mod.module.") for key in parts["identity"])
    points, code = torch.rand(4, 3) - 0.5, torch.zeros(model.identity_dim)
    assert torch.equal(load_checkpoint(parts, family=model.family).sdf(points, code), model.sdf(points, code))


def test_numpy_scalars_beside_the_weights(model, tmp_path) -> None:
    """Trainings keep their losses and epochs as NumPy has them."""
    parts = state_dicts(model)
    beside = {"epoch": np.int64(3), "loss": np.float64(0.25), "best": np.float32(0.1), "done": np.bool_(True),
              "lr": [np.float16(1e-3)], "count": np.uint8(7)}  # fmt: skip
    names = ("identity", "deformation") if model.family == "nphm" else ("id_decoder", "ex_decoder")
    content = {names[0]: parts["identity"], names[1]: parts["deformation"], **beside}
    torch.save(content, tmp_path / "latest.pt")
    np.save(tmp_path / "anchors.npy", parts["anchors"].numpy())
    loaded = load_checkpoint(tmp_path / "latest.pt", family=model.family)
    assert loaded.expression_dim == 4

    class Hostile:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'owned')!r}, 'w')",))

    torch.save({**content, "loss": Hostile()}, tmp_path / "latest.pt")
    with pytest.raises(InputError, match="more than tensors"):
        load_checkpoint(tmp_path / "latest.pt", family=model.family)
    assert not (tmp_path / "owned").exists()


def test_three_files(make_model, tmp_path, capsys) -> None:
    """What `facetalk convert --help` says: two networks and an array of anchors, under any names."""
    model = make_model(3, layers=3)
    parts = state_dicts(model)
    torch.save({"decoder_state_dict": parts["identity"], "epoch": np.int64(1)}, tmp_path / "a.tar")
    torch.save({"decoder_state_dict": parts["deformation"]}, tmp_path / "b.tar")
    np.save(tmp_path / "c.npy", parts["anchors"].numpy()[None, None])
    files = [str(tmp_path / name) for name in ("a.tar", "b.tar", "c.npy")]
    points, code = torch.rand(6, 3) - 0.5, 0.1 * torch.ones(model.identity_dim)
    for words, direction in (([], "forward"), (["--direction", "backward"], "backward")):
        assert main(["convert", *files, "-o", str(tmp_path / direction), *words]) == 0
        assert f"nphm, deformation {direction}, written" in capsys.readouterr().out
        loaded = load_checkpoint(tmp_path / direction)
        assert loaded.direction == direction
        assert torch.equal(loaded.sdf(points, code), model.sdf(points, code))
        assert torch.equal(
            loaded.offsets(points, code, torch.ones(4)), model.offsets(points, code, torch.ones(4))
        )
    save_file({"anchors_mean": parts["anchors"]}, tmp_path / "c.safetensors")
    keys = ("identity", "deformation", "anchors")
    named = dict(zip(keys, [*files[:2], tmp_path / "c.safetensors"], strict=True))
    assert torch.equal(load_checkpoint(named).identity.anchors_mean, parts["anchors"])
    (tmp_path / "d.npy").write_bytes(b"nothing")
    for files_, message in (
        ((files[0], files[1], str(tmp_path / "d.npy")), "d.npy"),
        ((files[0], files[1], str(tmp_path / "e.npy")), "e.npy"),
        ((files[0], files[1], files[1]), "b.tar: holds no anchors_mean"),
        ((files[0], files[2], files[1]), "c.npy"),
        ((files[1], files[0], files[2]), "b.tar: identity: tensor mlp_pos.0.weight is missing"),
        (files[:2], "three files"),
    ):
        assert main(["convert", *files_, "-o", str(tmp_path / "no")]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
        assert not (tmp_path / "no").exists()


def test_a_downloaded_folder(make_model, tmp_path) -> None:
    """A folder for each network, with the epochs of its training, and the anchors somewhere."""
    model, other = make_model(3, layers=3), make_model(4, layers=3)
    for folder, name in (("nphm", "identity"), ("nphm_def", "deformation")):
        place = tmp_path / folder / "checkpoints"
        place.mkdir(parents=True)
        for epoch, source in ((900, other), (6500, model), (1200, other)):
            state = {"decoder_state_dict": state_dicts(source)[name], "epoch": epoch}
            torch.save(state, place / f"checkpoint_epoch_{epoch}.tar")
    with pytest.raises(InputError, match="mean anchors are missing"):
        load_checkpoint(tmp_path)
    np.save(tmp_path / "nphm" / "anchors_39.npy", model.identity.anchors_mean.numpy())
    loaded = load_checkpoint(tmp_path)
    code, points = torch.zeros(model.identity_dim), torch.rand(4, 3) - 0.5
    assert loaded.direction == "forward" and torch.equal(loaded.sdf(points, code), model.sdf(points, code))
    assert torch.equal(
        loaded.offsets(points, code, torch.ones(4)), model.offsets(points, code, torch.ones(4))
    )
    shutil.copytree(tmp_path / "nphm_def", tmp_path / "another")
    with pytest.raises(InputError, match=r"both hold a network for the deformation; name the files") as told:
        load_checkpoint(tmp_path)
    assert "nphm_def/checkpoints/checkpoint_epoch_6500.tar" in str(told.value)
    shutil.rmtree(tmp_path / "another")
    np.save(tmp_path / "anchors.npy", model.identity.anchors_mean.numpy())
    with pytest.raises(InputError, match="several anchor files"):
        load_checkpoint(tmp_path)
