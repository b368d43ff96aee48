"""Models whose deformation moves the neutral head: posed values through roots, at three sizes.

Golden sets hold the NumPy twin to the official code (roots, offsets, moved meshes); the twin holds the
package, also at a size of which there is no golden set. Tolerances are those that the golden data asks of
float32.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden import GOLDEN
from numpy_nphm import NumpyNphm
from safetensors.torch import load_file

from facetalk.errors import InputError
from facetalk.mesh.smoothing import FacialSmoothing
from facetalk.nphm import NPHM, RootWarning, load_checkpoint
from facetalk.nphm.field_operator import field_query
from facetalk.nphm.lattice import DEFAULT_BOUNDS, lattice_axes
from facetalk.nphm.networks import DeformationConfig, DeformationNetwork, IdentityConfig, IdentityNetwork
from facetalk.nphm.root_search import find_roots, official_search
from facetalk.nphm.surface import forward
from facetalk.nphm.surface.options import ExtractionOptions
from facetalk.ops import vertex_normals

OFFSETS, VALUES, GRADIENT, ROOT, RESIDUAL = 3e-6, 1e-5, 1e-4, 3e-6, 2e-6


def folder_of(name: str) -> Path:
    folder = GOLDEN / name
    return folder if folder.exists() else Path(os.environ.get("FACETALK_GOLDEN", "")) / name


def of_golden(name: str) -> SimpleNamespace:
    folder = folder_of(name)
    if not (folder / "golden.safetensors").exists():
        pytest.skip(f"{name}: set FACETALK_GOLDEN to the folder that holds it")
    arrays = load_file(folder / "golden.safetensors")
    model = load_checkpoint(folder, direction="forward")
    return SimpleNamespace(
        model=model, golden=arrays, code=arrays["lat_id"], codes=arrays["lat_expr"],
        official="official" in name,
        points=arrays["points"][-120:] if "official" in name else arrays["points"][-400:],
    )  # fmt: skip


def between() -> SimpleNamespace:
    """Sizes between the two: 21 anchors, 5 pairs, codes of 12 and 6, 4 x 48 and 5 x 72, 9 expressions."""
    torch.manual_seed(5)
    config = IdentityConfig(
        anchors=21, pairs=5, global_dim=12, local_dim=6, hidden=48, layers=4, anchor_hidden=24
    )
    anchors = torch.rand(21, 3) - 0.5
    identity = IdentityNetwork(config, anchors)
    moves = DeformationNetwork(
        DeformationConfig(
            code_dim=config.code_dim, anchors=21, expression_dim=9, hidden=72, layers=5, compressed_dim=32
        )
    )
    with torch.no_grad():
        for parameter in [*identity.parameters(), *moves.parameters()]:
            parameter.mul_(2.0)
        for parameter in identity.mlp_pos[4].parameters():
            parameter.mul_(0.1)
        identity.ensembled_deep_sdf.lin4.bias.sub_(0.05)  # some of the space is inside
        moves.defDeepSDF.lin5.weight.mul_(0.1)
        moves.defDeepSDF.lin5.bias.mul_(0.2)
    model = NPHM(identity.requires_grad_(False), moves.requires_grad_(False), direction="forward")
    rng = torch.Generator().manual_seed(6)
    code = 0.2 * torch.randn(model.identity_dim, generator=rng)
    codes = 0.3 * torch.randn(3, 9, generator=rng)
    points = 1.2 * torch.rand(300, 3, generator=rng) - 0.6
    return SimpleNamespace(model=model, golden={}, code=code, codes=codes, official=False, points=points)


@pytest.fixture(scope="module", params=["nphm_tiny", "between", "nphm_official"])
def case(request: pytest.FixtureRequest) -> SimpleNamespace:
    found = between() if request.param == "between" else of_golden(request.param)
    found.twin, found.field = NumpyNphm.of(found.model), found.model.bind(found.code)
    found.z, found.e = found.code.double().numpy(), found.codes.double().numpy()
    assert found.field.direction == "forward"
    return found


def gap(a, b) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape
    return float(np.abs(a - b).max())


class TestGolden:
    def test_the_twin_is_the_official_code(self, case) -> None:
        if not case.golden:
            pytest.skip("no golden set of this size")
        g, n = case.golden, 60
        assert gap(case.twin.sdf(g["points"][:n].double().numpy(), case.z), g["sdf_can_f64"][:n]) < 1e-13
        moved = case.twin.offsets(g["points"][:n].double().numpy(), case.z, case.e[2])
        assert gap(moved, g["offsets_f64"][2, :n]) < 1e-13
        obs = g["broyden_obs"][:n].double().numpy()
        x, left, valid = case.twin.search(obs, case.z, case.e[0])
        # Its Jacobian is by differences, so the last digits of a step differ.
        assert gap(x, g["broyden_xc_f64"][:n]) < 1e-8 and gap(left, g["broyden_diff_f64"][:n]) < 1e-8
        assert (valid == g["broyden_valid_f64"][:n].bool().numpy()).all()

    def test_roots(self, case) -> None:
        if not case.golden:
            pytest.skip("no golden set of this size")
        g = case.golden
        roots = case.field.roots(g["broyden_obs"], case.codes[:1])
        assert roots.failed == 0 and bool(roots.converged.all()) and bool(g["broyden_valid_f64"].all())
        assert gap(roots.points[0], g["broyden_xc_f64"]) < ROOT
        assert gap(roots.points[0], g["broyden_x_true"]) < ROOT
        moved = case.model.offsets(roots.points[0], case.code, case.codes[0])
        left = torch.linalg.vector_norm(roots.points[0] + moved - g["broyden_obs"], dim=1)
        assert left.max() <= RESIDUAL and gap(left, roots.residual[0]) < 1e-6

    def test_values_at_roots(self, case) -> None:
        if not case.golden:
            pytest.skip("no golden set of this size")
        g, n = case.golden, 100
        expected = case.twin.sdf(g["broyden_xc_f64"][:n].numpy(), case.z)
        assert gap(case.field.query(g["broyden_obs"][:n], case.codes[0])[0], expected) < VALUES
        assert gap(case.model.sdf(g["broyden_obs"][:n], case.code, case.codes[0]), expected) < VALUES

    def test_moved_mesh(self, case) -> None:
        if not case.golden:
            pytest.skip("no golden set of this size")
        g = case.golden
        faces = np.zeros((0, 3), np.int32)
        moved, _ = case.field.track(case.codes[:1], vertices=g["deform_mesh_in"], faces=faces)
        assert gap(moved[0], g["deform_mesh_out_e0_f32"]) < OFFSETS


class TestValues:
    def test_queries(self, case) -> None:
        expected = [case.twin.posed(case.points.double().numpy(), case.z, e) for e in case.e]
        given = case.field.query(case.points, case.codes)
        assert isinstance(given, torch.Tensor) and gap(given, expected) < VALUES
        array = case.field.query(case.points.numpy(), case.codes.numpy())
        assert isinstance(array, np.ndarray) and np.array_equal(array, given.numpy())
        dense = case.model.sdf(case.points[:60], case.code, case.codes)
        assert gap(dense, np.stack(expected)[:, :60]) < VALUES
        # Neither points nor frames lead each other; a code folded alone is rounded otherwise.
        assert torch.equal(case.field.query(case.points[::2], case.codes), given[:, ::2])
        assert gap(case.field.query(case.points, case.codes[2])[0], given[2]) < 2e-6
        # Where the other direction would be something else entirely.
        other = NPHM(case.model.identity, case.model.deformation, direction="backward").bind(case.code)
        assert gap(other.query(case.points, case.codes), given) > 1e-3

    def test_gradients(self, case) -> None:
        points, h = case.points[:40].double().numpy(), 1e-6
        numeric = np.stack(
            [
                (case.twin.posed(points + h * d, case.z, case.e[0])
                 - case.twin.posed(points - h * d, case.z, case.e[0])) / (2 * h)
                for d in np.eye(3)
            ], axis=1,
        )  # fmt: skip
        assert gap(case.field.gradient(case.points[:40], case.codes[:1])[0], numeric) < GRADIENT
        x, e = case.points[:40].clone().requires_grad_(), case.codes[0].clone().requires_grad_()
        value = case.model.sdf(x, case.code, e)
        by_point, by_code = torch.autograd.grad(value.sum(), (x, e))
        assert gap(by_point, numeric) < GRADIENT
        step = np.zeros(len(case.e[0]))
        step[3] = 1e-5
        high, low = (case.twin.posed(points, case.z, case.e[0] + sign * step) for sign in (1, -1))
        change = high - low
        assert abs(float(by_code[3]) - change.sum() / 2e-5) < 1e-3 * max(1.0, abs(float(by_code[3])))

    def test_grids(self, case) -> None:
        resolution = (5, 6, 7)
        volume = case.field.grid(case.codes[:2], resolution)
        axes = [torch.from_numpy(axis) for axis in lattice_axes(resolution, DEFAULT_BOUNDS)]
        points = torch.cartesian_prod(*axes)
        assert torch.equal(volume.reshape(2, -1), case.field.query(points, case.codes[:2]))
        expected = case.twin.posed(points.double().numpy(), case.z, case.e[1])
        assert gap(volume[1].flatten(), expected) < VALUES
        assert torch.equal(
            case.field.grid(None, 4), case.field.bound.kernels.grid(lattice_axes(4, DEFAULT_BOUNDS))
        )

    def test_smoothing_weighs_the_offset_of_neutral_points(self, case) -> None:
        smoothing = FacialSmoothing((0.0, -0.1, 0.2), (0.3, 0.4, 0.4), DEFAULT_BOUNDS)
        field = case.model.bind(case.code, facial_smoothing=smoothing)
        roots = field.roots(case.points[:50], case.codes[:1])
        neutral = roots.points[0].numpy()
        plain = case.twin.offsets(neutral.astype(np.float64), case.z, case.e[0])
        posed = neutral + smoothing.weight(neutral)[:, None] * plain
        assert roots.failed == 0 and gap(posed, case.points[:50]) < RESIDUAL + 1e-6
        value = case.twin.sdf(neutral.astype(np.float64), case.z)
        assert gap(field.query(case.points[:50], case.codes[:1])[0], value) < VALUES


class TestSurfaces:
    def test_extraction_moves_the_neutral_mesh(self, case) -> None:
        resolution = 16 if case.official else (18, 20, 22)
        meshes = case.field.extract(case.codes, resolution, units="head")
        (neutral,) = case.field.extract(None, resolution, units="head")
        assert len(neutral.faces) > 100
        for mesh, e in zip(meshes, case.e, strict=True):
            assert np.array_equal(mesh.faces, neutral.faces)
            moved = neutral.vertices + case.twin.offsets(neutral.vertices.astype(np.float64), case.z, e)
            assert gap(mesh.vertices, moved) < OFFSETS
            assert gap(mesh.normals, vertex_normals(mesh.vertices, mesh.faces)) < 1e-6
        metres = case.field.extract(case.codes[0], resolution)[0]
        assert gap(metres.vertices, 0.25 * meshes[0].vertices) < 1e-7
        infos = [info for _, info in case.field.iterate(case.codes, resolution)]
        assert [info.method for info in infos] == ["moved"] * 3
        assert all(info.counts.deformed == len(neutral.vertices) for info in infos)

    def test_tracks_are_direct(self, case) -> None:
        resolution = 16 if case.official else 20
        info = case.field.tracked(case.codes, resolution=resolution, normals=True)
        (neutral,) = case.field.extract(None, resolution, units="head")
        assert np.array_equal(info.faces, neutral.faces) and info.failed == 0
        assert info.converged.all() and not info.residual.any()
        for vertices, normals, e in zip(info.vertices, info.normals, case.codes, strict=True):
            moved = case.twin.offsets(neutral.vertices.astype(np.float64), case.z, e.double().numpy())
            assert gap(vertices, neutral.vertices + moved) < OFFSETS
            slope = case.field.gradient(vertices, e)[0]
            slope /= np.linalg.norm(slope, axis=1, keepdims=True)
            # Points on the border between cells of rounding may fall to either side: not one in a hundred.
            assert np.quantile(np.abs(slope - normals).max(axis=1), 0.99) < 1e-3

    def test_the_posed_field_on_request(self, case) -> None:
        resolution = 14 if case.official else (24, 20, 26)
        codes = case.codes[:1] if case.official else case.codes[:2]

        def ask(**options: bool) -> list:
            chosen = ExtractionOptions(posed=True, **options)
            return list(case.field.iterate(codes, resolution, options=chosen, units="head"))

        count = int(np.prod(resolution)) if isinstance(resolution, tuple) else resolution**3
        for (dense, told), (near, info), moved in zip(
            ask(exact=True), ask(), case.field.extract(codes, resolution, units="head"), strict=True
        ):
            assert np.array_equal(near.vertices, dense.vertices) and np.array_equal(near.faces, dense.faces)
            assert told.method == "dense" and told.counts.deformed == count and told.counts.lost == 0
            assert info.method == "posed" and info.counts.deformed < 0.7 * count and info.counts.lost == 0
            # Both lie on the same surface, of which each has its own samples.
            values = case.field.query(moved.vertices, codes[:1])
            assert np.median(np.abs(values)) < 0.02 and len(dense.vertices) > 0.5 * len(moved.vertices)
        volume = case.field.grid(codes[:1], resolution)[0]
        inside = (volume < 0).float().mean()
        assert 0.01 < inside < 0.9


def test_signs_that_contradict_are_followed(monkeypatch) -> None:
    """From the cells of one vertex in forty the whole surface is found, by the samples that disagree."""
    case = of_golden("nphm_tiny")
    field, shape, whole = case.model.bind(case.code), (22, 20, 24), forward._cells
    meshes = [field.extract(case.codes[:1], shape, posed=True, exact=exact)[0] for exact in (True, False)]
    monkeypatch.setattr(forward, "_cells", lambda vertices, *box: whole(vertices[::40], *box))
    meshes += field.extract(case.codes[:1], shape, posed=True)
    for mesh in meshes[1:]:
        assert np.array_equal(mesh.vertices, meshes[0].vertices) and len(mesh.vertices) > 500
    # A known sample of the other sign is what makes a neighbour fresh; the rest takes the sign of most.
    known, values = np.zeros((5, 1, 1), bool), np.full((5, 1, 1), 9.0, np.float32)
    known[[0, 4]], values[0], values[4] = True, 2.0, 3.0
    assert not forward._contradictions(known, values).any() and values[1:4, 0, 0].tolist() == [1.0] * 3
    values[0] = values[4] = -2.0
    assert not forward._contradictions(known, values).any() and values[1:4, 0, 0].tolist() == [-1.0] * 3
    values[4] = 2.0
    fresh = forward._contradictions(known, values)
    assert fresh[:, 0, 0].tolist() == [False, True, False, False, False]  # as many: outside


@pytest.fixture(scope="module")
def wall(make_model) -> NPHM:
    """posed x = x - softplus(x + 0.5), which never exceeds -0.5: nothing is posed on the other side."""
    model = make_model(0)
    network = model.deformation
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.defDeepSDF.lin0.weight[0, 0] = 1.0
        network.defDeepSDF.lin0.bias[0] = 0.5
        network.defDeepSDF.lin1.weight[0, 0] = 2.0**0.5  # undoes the skip's scale
        network.defDeepSDF.lin2.weight[0, 0] = -1.0
    return NPHM(model.identity, network, direction="forward")


class TestWithoutRoots:
    POINTS = torch.tensor(
        [[-0.9, 0.1, 0.0], [-0.6, 0.0, 0.2], [-0.45, 0.1, 0.1], [0.0, 0.0, 0.0], [0.4, -0.2, 0.1]]
    )
    LOST = (False, False, True, True, True)

    def test_points(self, wall) -> None:
        field, codes = wall.bind(torch.zeros(wall.identity_dim)), torch.zeros(2, 4)
        roots = field.roots(self.POINTS, codes)
        assert (~roots.converged).tolist() == [list(self.LOST)] * 2 and roots.failed == 6
        assert torch.isfinite(roots.points).all()
        # The residual is true, and none of a point without a root is below its distance from the wall.
        moved = roots.points[0] + field.offsets(roots.points[0], codes[:1])[0]
        assert gap(torch.linalg.vector_norm(moved - self.POINTS, dim=1), roots.residual[0]) < 1e-6
        assert (roots.residual[0, 2:] >= self.POINTS[2:, 0] + 0.5 - 1e-6).all()
        with pytest.warns(RootWarning, match="6 of 10 points have no root") as told:
            values = field.query(self.POINTS, codes)
        assert len(told) == 1
        assert (
            gap(values[1], field.query(roots.points[1])[0]) < 1e-6
        )  # of the neutral point that comes nearest
        with pytest.warns(RootWarning, match="6 of 10 points"):
            assert torch.isfinite(field.gradient(self.POINTS, codes)).all()  # the Jacobian is singular there
        with pytest.warns(RootWarning, match="3 of 5 points"):
            dense = wall.sdf(self.POINTS, torch.zeros(wall.identity_dim), codes[0])
        assert gap(dense[:2], values[0, :2]) < 1e-5 and torch.isfinite(dense).all()
        arrays = field.roots(self.POINTS.numpy(), codes)
        assert isinstance(arrays.converged, np.ndarray) and arrays.failed == 6

    def test_lattices_and_surfaces(self, wall) -> None:
        field, codes = wall.bind(torch.zeros(wall.identity_dim)), torch.zeros(1, 4)
        box = ((-1.0, -0.5, -0.5), (0.5, 0.5, 0.5))
        with pytest.warns(RootWarning, match="of 216 points") as told:
            volume = field.grid(codes, 6, box)
        assert len(told) == 1 and torch.isfinite(volume).all()
        beyond = int((np.linspace(-1.0, 0.5, 6) > -0.49).sum()) * 36
        assert str(told[0].message).startswith(f"{beyond} of ")
        options = ExtractionOptions(posed=True, exact=True)
        with pytest.warns(RootWarning):
            ((mesh, info),) = field.iterate(codes, 6, box, options=options)
        assert info.counts.lost == beyond and np.isfinite(mesh.vertices).all()

    def test_the_official_search_gives_up_where_it_should(self) -> None:
        far = torch.tensor([[0.3, 0.0, 0.0], [0.0, 0.0, 0.0]])
        offsets = lambda x: torch.where(x[:, :1] > 0.0, 0.25, 0.1).expand_as(x) * torch.eye(3)[0]  # noqa: E731
        x, left = official_search(offsets, lambda x: torch.zeros(len(x), 3, 3), far)
        # |F| is 0.25 at the first point, beyond 0.2; the second takes one step, to -0.1.
        assert torch.equal(x[0], far[0]) and left[0] == 0.25
        assert gap(x[1], [-0.1, 0.0, 0.0]) < 1e-7 and left[1] < 1e-6
        # The damped search that follows finds the first one's.
        found = find_roots(offsets, lambda x: torch.zeros(len(x), 3, 3), far)
        assert gap(found.points[0], [0.05, 0.0, 0.0]) < 1e-6 and found.failed == 0

    def test_a_long_offset_still_has_its_root(self, wall) -> None:
        """Farther than the official search goes; the field at the root is what counts."""
        with torch.no_grad():
            network = wall.deformation.requires_grad_(False)
            long = pickle.loads(pickle.dumps(network))
            long.defDeepSDF.lin2.weight.zero_()
            long.defDeepSDF.lin2.bias.copy_(torch.tensor([0.4, 0.0, 0.0]))
        model = NPHM(wall.identity, long, direction="forward")
        field, code = model.bind(torch.zeros(model.identity_dim)), torch.zeros(model.identity_dim)
        points = self.POINTS
        expected = field.query(points - torch.tensor([0.4, 0, 0]))
        assert gap(field.query(points, torch.zeros(4)), expected) < 1e-5
        assert gap(model.sdf(points, code, torch.zeros(4)), expected[0]) < 1e-5


class TestDirection:
    def test_it_is_the_configs_or_the_familys(self, make_model) -> None:
        parts = {
            "identity": load_file(GOLDEN / "nphm_tiny" / "identity.safetensors"),
            "deformation": load_file(GOLDEN / "nphm_tiny" / "deformation.safetensors"),
            "anchors": load_file(GOLDEN / "nphm_tiny" / "golden.safetensors")["anchors_mean"],
        }
        assert load_checkpoint(parts).direction == "forward"
        assert load_checkpoint(parts).bind(torch.zeros(336)).direction == "forward"
        for said in ("forward", "backward"):
            assert load_checkpoint({**parts, "config": {"direction": said}}).direction == said
            for other in ("forward", "backward"):  # what is asked for goes before what the config says
                model = load_checkpoint({**parts, "config": {"direction": said}}, direction=other)
                assert model.direction == other
        assert load_checkpoint(GOLDEN / "nphm_tiny").direction == "backward"  # as its config says
        mono = GOLDEN / "mononphm_tiny"
        assert load_checkpoint(mono, family="mononphm").direction == "backward"
        for said in ("Forward", 1, None, ["forward"]):
            with pytest.raises(InputError, match="config direction: expected forward or backward"):
                load_checkpoint({**parts, "config": {"direction": said}})
        with pytest.raises(InputError, match="direction: expected forward or backward, got 'up'"):
            load_checkpoint(parts, direction="up")  # type: ignore[arg-type]
        with pytest.raises(InputError, match="2 hyper-coordinates of queries moves queries; use backward"):
            load_checkpoint(mono, family="mononphm", direction="forward")
        plain = make_model(3, family="mononphm", hyper_dim=0)
        assert NPHM(plain.identity, plain.deformation, direction="forward").direction == "forward"

    def test_it_is_saved(self, wall, tmp_path) -> None:
        wall.save(tmp_path / "a")
        assert load_checkpoint(tmp_path / "a").direction == "forward"
        NPHM(wall.identity, wall.deformation, direction="backward").save(tmp_path / "b")
        assert load_checkpoint(tmp_path / "b").direction == "backward"
        field = pickle.loads(pickle.dumps(wall.bind(torch.zeros(wall.identity_dim))))
        assert field.direction == "forward" and field.bound.direction == "forward"

    def test_options_that_would_do_nothing(self, tiny, wall) -> None:
        backward, forward = tiny.model.bind(tiny.lat_id), wall.bind(torch.zeros(wall.identity_dim))
        codes = np.zeros((1, 4), np.float32)
        with pytest.raises(InputError, match="posed: a backward model moves no vertices"):
            backward.extract(tiny.lat_expr, 8, posed=False)
        with pytest.raises(InputError, match="posed: the canonical head has no pose"):
            forward.extract(None, 8, posed=True)
        with pytest.raises(InputError, match="cache: for backward models"):
            forward.extract(codes, 8, cache=True)
        with pytest.raises(InputError, match="roots: only expressions of a forward model"):
            backward.roots(tiny.points[:3], tiny.lat_expr)
        with pytest.raises(InputError, match="roots: only expressions of a forward model"):
            forward.roots(tiny.points[:3], None)
        (same,) = backward.extract(tiny.lat_expr[:1], 12, posed=True)
        assert np.array_equal(same.vertices, backward.extract(tiny.lat_expr[:1], 12)[0].vertices)

    def test_what_points_must_be(self, wall) -> None:
        field, codes = wall.bind(torch.zeros(wall.identity_dim)), torch.zeros(1, 4)
        with pytest.raises(ValueError, match=r"points: expected finite numbers, got inf at \[1, 2\]"):
            field.query(torch.tensor([[0.0, 0, 0], [0, 0, torch.inf]]), codes)
        with pytest.raises(ValueError, match=r"points\[1\]: expected coordinates up to 1e15"):
            field.query(torch.tensor([[0.0, 0, 0], [0, 0, 2e15]]), codes)
        with pytest.raises(ValueError, match=r"points: expected shape \(N, 3\), got \(2, 4\)"):
            field.query(torch.zeros(2, 4), codes)
        with pytest.raises(TypeError, match="points: expected"):
            field.query([[0.0, 0.0, 0.0]], codes)
        assert field.query(torch.zeros(0, 3), codes).shape == (1, 0)
        assert field.query(torch.zeros(4, 3), codes[:0]).shape == (0, 4)
        assert field.gradient(torch.zeros(4, 3), codes[:0]).shape == (0, 4, 3)
        assert field.grid(codes[:0], 3).shape == (0, 3, 3, 3) and field.extract(codes[:0], 8) == []
        empty = field.extract(codes, 5, ((5.0, 5, 5), (6, 6, 6)))[0]
        assert empty.vertices.shape == (0, 3)
        assert field.extract(codes, 5, ((5.0, 5, 5), (6, 6, 6)), posed=True)[0].vertices.shape == (0, 3)

    def test_compilers_trace_through(self) -> None:
        case = of_golden("nphm_tiny")
        field, points, codes = case.model.bind(case.code), case.points[:6].contiguous(), case.codes[:2]
        for output in ("sdf", "gradient", "offsets"):
            torch.library.opcheck(field_query, (points, codes, field._name, output))
        assert torch.equal(field_query(points, codes, field._name, "sdf"), field.query(points, codes))
