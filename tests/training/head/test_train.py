"""Training of a head on a synthetic morphable head: every stage learns, resumes, and the folder loads."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from facetalk.data.heads.ict import MorphableHead
from facetalk.data.heads.samples import DistancePool, random_identities
from facetalk.errors import InputError
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.networks import IdentityConfig, IdentityNetwork
from facetalk.training.head import identity
from facetalk.training.head import train as training
from facetalk.training.head.identity_codes import anchor_vertices, build_codes, initialise

pytest.importorskip("igl", reason="libigl makes training data; pip install 'facetalk[train]'")

TINY = {
    "global_dim": 3, "local_dim": 2, "hidden": 16, "layers": 2, "deformation_hidden": 64,
    "deformation_layers": 2,
    "forward": {"hidden": 24, "layers": 2, "template_hidden": 16, "part_hidden": 24}, "identities": 2,
    "mean_points": 3000, "points": 500, "surface_points": 3000, "identity_batch": (1, 1, 200), "cell": 0.03,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(synthetic_data, tmp_path_factory):
    """A short training, broken off after the identity stage and taken up again."""
    out = tmp_path_factory.mktemp("head")
    config = training.HeadTraining(synthetic_data, out, steps=130, seed=2, **TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_blendshapes", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            training.train_head(config)
    before = json.loads((out / "identity" / "checkpoint" / "loop.json").read_text())
    with pytest.raises(InputError, match="add --resume"):
        training.train_head(config)
    model = training.train_head(dataclasses.replace(config, resume=True))
    after = json.loads((out / "identity" / "checkpoint" / "loop.json").read_text())
    assert before == after, "a finished stage must not be trained again"
    return config, model


def test_every_stage_learns(trained):
    config, _ = trained
    for stage in training.SHARES:
        log = [json.loads(line) for line in (config.out / stage / "log.jsonl").read_text().splitlines()]
        assert log[-1]["step"] == config.budget(stage).steps
    log = [json.loads(line) for line in (config.out / "identity" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < 0.95 * log[0]["loss"]


def test_one_stage_goes_on_from_a_head(trained, tmp_path):
    config, model = trained
    more = dataclasses.replace(
        config, out=tmp_path / "more", steps=4, start=config.out / "head", stages=("backward",),
        deformation_hidden=80, backward_batch=(3, 16),
    )  # fmt: skip
    assert more.budget("backward").steps == 4
    found = training.train_head(more)
    assert not (tmp_path / "more" / "distances.npz").exists()
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (50, 3)).astype(np.float32)
    assert np.array_equal(found.bind().distance(points), model.bind().distance(points))
    assert found.content.deformation.config.hidden == 80
    (line,) = (tmp_path / "more" / "backward" / "validation.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 4 and json.loads(line)["others, lips"] > 0.0
    for other, message in ((("hidden", 24), "other sizes"), (("deformation_hidden", 60), "only more units")):
        with pytest.raises(InputError, match=message):
            training.train_head(dataclasses.replace(more, out=tmp_path / other[0], **dict([other])))


def test_heads_drawn_anew_teach_network_and_codes(trained, tmp_path, monkeypatch):
    config, before = trained
    monkeypatch.setattr(identity, "HEADS", 3)
    monkeypatch.setattr(identity, "POINTS", 300)
    more = dataclasses.replace(
        config, out=tmp_path / "more", steps=12, start=config.out / "head", stages=("identity",),
        fresh_batch=(4, 120),
    )  # fmt: skip
    after = training.train_head(more)
    old, new = (model.content.linear["encoder"].numpy() for model in (before, after))
    fixed = before.content.identity.config.global_dim
    assert np.array_equal(old[:fixed], new[:fixed]) and np.abs(old[fixed:] - new[fixed:]).max() > 1e-5
    lines = (more.out / "identity" / "validation.jsonl").read_text().splitlines()
    assert len(lines) == 2 and '"others, surface"' in lines[0]
    # What else takes codes gives what it gave, for the same head.
    row = random_identities(MorphableHead.load(config.data), 1, 5)[0]
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (50, 3)).astype(np.float32)
    weights = np.full(before.expression_dim, 0.3, np.float32)
    moved = [model.nphm.offsets(points, model.encode_identity(row), weights) for model in (before, after)]
    assert np.allclose(*moved, atol=1e-3 * np.abs(moved[0]).max() + 1e-5)
    again = training.train_head(dataclasses.replace(more, steps=13, resume=True))
    learned = again.content.linear["encoder"].numpy()
    assert not np.array_equal(learned, new)
    # The head that has learned codes is a start as well, for any stage.
    last = dataclasses.replace(
        config, out=tmp_path / "last", steps=2, start=more.out / "head", stages=("backward",)
    )
    assert np.array_equal(training.train_head(last).content.linear["encoder"].numpy(), learned)


def test_what_cannot_be_learned_is_refused(synthetic_data, tmp_path):
    config = training.HeadTraining(synthetic_data, tmp_path, steps=1, fresh_batch=(4, 100))
    with pytest.raises(InputError, match="name --start"):
        training.train_head(config)
    for batch in ((4, 39), (1, 100)):
        with pytest.raises(InputError, match="two heads and 40 points at least"):
            training.train_head(dataclasses.replace(config, start=tmp_path, fresh_batch=batch))


def test_folder_round_trip(trained, tmp_path):
    config, model = trained
    loaded = HeadModel.load(config.out / "head")
    assert loaded.expression_names == model.expression_names and loaded.identity_dim == model.identity_dim
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (50, 3)).astype(np.float32)
    assert np.array_equal(loaded.bind().distance(points), model.bind().distance(points))
    part = np.arange(50) % 4
    a, b = (m.bind().forward_basis(points, part) for m in (loaded, model))
    assert a.shape == (6, 50, 3) and np.abs(a - b).max() < 1e-3  # forward weights are stored as float16
    assert np.array_equal(loaded.bind().canonical().vertices, model.bind().canonical().vertices)
    assert np.allclose(loaded.rest_expression, [0, 0, 0, 0.25, 0, 0])
    with pytest.raises(InputError, match="5 finite coefficients"):
        loaded.encode_identity(np.zeros(7))
    (config.out / "head" / "anchors.safetensors").rename(tmp_path / "gone")
    with pytest.raises(InputError, match="is missing"):
        HeadModel.load(config.out / "head")
    (tmp_path / "gone").rename(config.out / "head" / "anchors.safetensors")


def test_codes_give_the_true_anchors(synthetic_data):
    """The anchor network is the exact linear map, and coefficients come back from their code."""
    head = MorphableHead.load(synthetic_data)
    codes = build_codes(head, global_dim=5, local_dim=2)
    sets, pairs = anchor_vertices(head)
    network = IdentityNetwork(
        IdentityConfig(
            anchors=len(sets), pairs=pairs, global_dim=5, local_dim=2, hidden=16, layers=2, anchor_hidden=16
        )
    )
    initialise(network, codes)
    weights = np.random.default_rng(1).normal(size=head.identity_dim).astype(np.float32)
    shape = head.canonical(weights)
    expected = np.stack([shape[ids].mean(0) for ids in sets])
    # Five coefficients fit into five global dimensions, so nothing is lost.
    got = network.anchors(torch.from_numpy(codes.encoder @ weights)[None])[0].detach().numpy()
    assert np.abs(got - expected).max() < 1e-4
    assert np.allclose(np.linalg.pinv(codes.encoder) @ codes.encoder @ weights, weights, atol=1e-4)


def test_distances_stop_with_the_time(synthetic_data):
    """A pool that was cut short still has the mean head and another."""
    head = MorphableHead.load(synthetic_data)
    sizes = {"mean_points": 30_000, "identities": 3, "points": 4000, "seed": 1}
    short = DistancePool.make(head, **sizes, seconds=1e-9)
    assert len(short.points) == 2 and not short.coefficients[0].any() and short.coefficients[1].any()
    assert [len(x) for x in short.points] == [2000, 2000]
    assert [len(d) for d in short.distances] == [2000, 2000]


def test_few_steps_measure_few_points(synthetic_data, tmp_path):
    config = training.HeadTraining(synthetic_data, tmp_path, steps=10)
    assert config.pool_sizes() == (7200, 24, 600)
    assert dataclasses.replace(config, steps=None, minutes=5.0).pool_sizes() == (800_000, 80, 20_000)


def test_limits_are_asked_for(synthetic_data, tmp_path):
    with pytest.raises(InputError, match="--minutes or --steps"):
        training.train_head(training.HeadTraining(synthetic_data, tmp_path))
    with pytest.raises(InputError, match="unknown stage hair"):
        training.train_head(training.HeadTraining(synthetic_data, tmp_path, steps=1, stages=("hair",)))
    with pytest.raises(InputError, match="one head and one point on it at least, not 0 and 9"):
        training.train_head(training.HeadTraining(synthetic_data, tmp_path, steps=1, backward_batch=(0, 9)))
    with pytest.raises(InputError, match="no head data"):
        training.train_head(training.HeadTraining(tmp_path / "none.npz", tmp_path, steps=1))


def test_the_canonical_mesh_has_a_share_of_the_time(synthetic_data, tmp_path, monkeypatch):
    """The stages, the distances and the mesh stay within the limit together."""
    given = {}
    for stage in training.SHARES:
        monkeypatch.setattr(
            training,
            f"train_{stage}",
            lambda *a, budget, stage=stage, **k: given.update({stage: budget.minutes}),
        )

    def mesh(shape, *, cell, seconds):
        given["mesh"] = seconds / 60.0
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "build_canonical", mesh)
    for minutes, spent in ((10.0, 1.0), (10.0, 2.5), (None, 0.0)):
        monkeypatch.setattr(training, "_distances", lambda *a, spent=spent: (None, spent))
        steps = None if minutes else 5
        config = training.HeadTraining(synthetic_data, tmp_path / str(spent), minutes, steps, **TINY)
        if minutes is None:
            monkeypatch.setattr(
                training, "build_canonical", lambda *a, cell, seconds: given.update(mesh=seconds)
            )
            monkeypatch.setattr(HeadModel, "save", lambda *a: None)
            training.train_head(config)
            assert given["mesh"] is None and given["identity"] is None
            return
        with pytest.raises(KeyboardInterrupt):
            training.train_head(config)
        assert sum(given.values()) + spent == pytest.approx(minutes) and given["mesh"] > 0
