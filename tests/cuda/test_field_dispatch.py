"""`Field` bound on a CUDA device, over kernels on the host: what reaches them, and what comes back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from extraction import told
from field_host import emulated_core
from safetensors.torch import load_file
from test_field_cached import QUICK
from test_marching_cubes_face import EmulatedCore

from facetalk.errors import InputError
from facetalk.mesh import Mesh
from facetalk.mesh.smoothing import FacialSmoothing
from facetalk.nphm import NPHM, binding, load_checkpoint
from facetalk.nphm.field import Field
from facetalk.nphm.lattice import DEFAULT_BOUNDS
from facetalk.nphm.surface import plan as extraction_plan
from facetalk.nphm.surface.options import ExtractionOptions
from facetalk.ops import _device
from facetalk.ops.cuda import canonical_cache as field_cuda_cache
from facetalk.ops.cuda import field as cuda_field
from facetalk.ops.cuda import marching_cubes as cuda_marching_cubes
from facetalk.ops.cuda.field import CudaField
from facetalk.ops.cuda.surface_band import FieldBricks

GOLDEN = Path(__file__).parents[1] / "golden" / "nphm_tiny"
SMOOTHING = FacialSmoothing((0.0, -0.1, 0.2), (0.3, 0.3, 0.3), DEFAULT_BOUNDS)
RESOLUTION = (12, 10, 14)


class Recorded(CudaField):
    """The field over emulated kernels; notes what was asked of it."""

    def __init__(self, source, *, device, **options) -> None:
        self.asked, self.calls = (device, options), []
        super().__init__(source, device="cpu", _core=emulated_core().cuda_field, **options)

    def bricks(self, axes, biases=None, **options) -> FieldBricks:
        self.calls.append(("bricks", 1 if biases is None else len(biases[0]), options.get("weight")))
        return super().bricks(axes, biases, **options)

    def grid(self, axes, biases=None, **options) -> torch.Tensor:
        self.calls.append(("grid", 1 if biases is None else len(biases[0]), options.get("weight")))
        return super().grid(axes, biases, **options)


@pytest.fixture(scope="module")
def head() -> SimpleNamespace:
    arrays = load_file(GOLDEN / "golden.safetensors")
    codes = arrays["lat_expr"]
    return SimpleNamespace(
        model=load_checkpoint(GOLDEN, family="nphm"),
        identity=arrays["lat_id"],
        codes=torch.cat([codes, 0.5 * codes[:2]])[:5],
        points=arrays["points"][:40].float(),
    )


@pytest.fixture
def bind(head, emulated, monkeypatch):
    """Binds on a device whose kernels run here."""
    core = EmulatedCore(emulated("marching_cubes"))
    monkeypatch.setattr(binding, "CudaField", Recorded)
    monkeypatch.setattr(binding, "why_not", lambda device: None)
    monkeypatch.setattr(cuda_marching_cubes, "cuda_core", lambda name, where: core)
    monkeypatch.setattr(cuda_marching_cubes, "current_stream", lambda device: 7)
    return lambda **options: head.model.bind(
        head.identity, **{"device": "cuda:3", "precision": "fp32"} | options
    )


def test_what_binding_asks_of_the_kernels(head, bind) -> None:
    field = bind(precision=None)
    assert isinstance(field, Field) and isinstance(field.bound.kernels, Recorded)
    device, options = field.bound.kernels.asked
    assert device == torch.device("cuda:3") and options["precision"] == "float16" and options["cull"] is None
    asked = bind(precision="bf16", cull=0.0, path="portable").bound.kernels.asked[1]
    assert asked == {"precision": "bfloat16", "cull": 0.0, "path": "portable"}
    assert options["path"] == "auto"
    for wrong in ({"path": "fast"}, {"path": "hopper", "precision": "fp32"}):
        with pytest.raises(InputError, match="path: expected"):
            bind(**wrong)
    with pytest.raises(InputError, match="path: expected auto on the CPU"):
        head.model.bind(head.identity, path="portable")
    assert bind().bound.kernels.precision == "float32"
    assert "packed" not in field.bound.__dict__  # no field on the CPU before somebody asks for it
    assert field.bound.packed.deforms


def test_device_auto_is_a_gpu_only_where_kernels_run(head, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(
        "facetalk.nphm.bound.bind_kernels", lambda *a, device, **k: seen.append(device) or 1 / 0
    )
    for reason in (None, "no driver"):
        monkeypatch.setattr(_device, "why_not", lambda device, reason=reason: reason)
        with pytest.raises(ZeroDivisionError):
            head.model.bind(head.identity, device="auto")
    with pytest.raises(ZeroDivisionError):
        head.model.bind(head.identity)
    assert [d.type for d in seen] == ["cuda", "cpu", "cpu"]


@pytest.mark.parametrize("smoothing", [None, SMOOTHING])
def test_queries_are_those_of_the_cpu_in_the_kind_that_was_given(head, bind, smoothing) -> None:
    field = bind(facial_smoothing=smoothing)
    cpu = head.model.bind(head.identity, facial_smoothing=smoothing)
    codes, points = head.codes[:2], head.points
    for name in ("query", "gradient", "offsets", "jacobian"):
        expected = getattr(cpu, name)(points, codes)
        scale = float(expected.abs().max().clamp_min(1.0))
        kinds = [(points, codes), (points.numpy(), codes.numpy()), (points.double(), codes.tolist())]
        results = [getattr(field, name)(p, np.asarray(c, np.float32)) for p, c in kinds]
        results.append(getattr(field, name)(points, codes))
        assert [isinstance(result, torch.Tensor) for result in results] == [True, False, True, True]
        for result in results:
            assert torch.equal(torch.as_tensor(result), results[0])
        assert results[0].shape == expected.shape
        assert (results[0] - expected).abs().max() <= 2e-4 * scale, name
    torch.testing.assert_close(field.query(points), cpu.query(points), rtol=2e-5, atol=2e-5)


def test_grids(head, bind) -> None:
    field, cpu = bind(facial_smoothing=SMOOTHING), head.model.bind(head.identity, facial_smoothing=SMOOTHING)
    for codes in (head.codes[:2].numpy(), None):
        result = field.grid(codes, RESOLUTION)
        expected = torch.as_tensor(cpu.grid(codes, RESOLUTION))
        assert isinstance(result, torch.Tensor) == (codes is None) and result.shape == expected.shape
        torch.testing.assert_close(torch.as_tensor(result), expected, rtol=2e-5, atol=2e-5)
    assert field.bound.kernels.calls == [("grid", 2, field.bound.weight), ("grid", 1, field.bound.weight)]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("together", [1, 2, 32])
def test_frames_go_through_in_chunks_and_come_back_one_by_one(
    head, bind, monkeypatch, exact: bool, together: int
) -> None:
    points = int(np.prod(RESOLUTION))
    monkeypatch.setattr(cuda_field, "CHUNK_DENSE" if exact else "CHUNK_SAMPLES", together * points)
    field, cpu = bind(facial_smoothing=SMOOTHING), head.model.bind(head.identity, facial_smoothing=SMOOTHING)
    codes = head.codes
    meshes, infos = told(field, codes, RESOLUTION, exact=exact)
    name, count = ("grid" if exact else "bricks"), len(codes)
    sizes = [min(together, count - first) for first in range(0, count, together)]
    assert field.bound.kernels.calls == [(name, size, field.bound.weight) for size in sizes]
    assert len(meshes) == len(infos) == count
    assert [info.method for info in infos] == ["dense" if exact else "band"] * count
    assert all(info.points == points for info in infos)
    assert exact or all(0 < info.counts.evaluated == info.counts.deformed for info in infos)
    expected = cpu.extract(codes, RESOLUTION, exact=True)
    for mesh, wanted in zip(meshes, expected, strict=True):
        assert isinstance(mesh, Mesh) and mesh.faces.dtype == np.int32 and len(wanted) > 0
        assert np.array_equal(mesh.faces, wanted.faces)
        assert np.abs(mesh.vertices - wanted.vertices).max() < 2e-5  # metres
        assert np.abs(mesh.normals - Mesh(mesh.vertices, mesh.faces).normals).max() == 0.0


def test_surfaces_stay_on_the_device_and_the_canonical_one_has_no_short_cuts(head, bind) -> None:
    field = bind()
    (plain,) = field.surfaces(None, RESOLUTION)
    assert isinstance(plain.vertices, torch.Tensor) and isinstance(plain.faces, torch.Tensor)
    assert plain.info.counts.deformed == 0 < plain.info.counts.evaluated
    options = ExtractionOptions(tolerance_mm=0.0, cache=True, coarse=False)
    (other,) = field.surfaces(None, RESOLUTION, options=options)
    assert torch.equal(plain.vertices, other.vertices) and torch.equal(plain.faces, other.faces)
    (mesh,) = field.extract(None, RESOLUTION, units="head")
    assert np.array_equal(mesh.vertices, plain.vertices.numpy())
    (metres,) = field.extract(None, RESOLUTION)
    assert np.array_equal(metres.vertices, mesh.vertices * np.float32(0.25))
    assert list(field.surfaces(head.codes[:0], RESOLUTION)) == []
    far = field.extract(None, 4, ((5.0, 5, 5), (6, 6, 6)))[0]
    assert far.vertices.shape == (0, 3) and far.faces.shape == (0, 3)


def test_the_identity_is_cached_when_asked(head, bind, monkeypatch) -> None:
    """The rest of it is in test_field_cached.py, on smaller heads."""
    for (module, name), value in (QUICK | {(extraction_plan, "BOX_MARGIN"): 0.02}).items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(field_cuda_cache, "_load_core", lambda: emulated_core().cuda_guided)
    box = ((-0.06, -0.06, 0.18), (0.06, 0.06, 0.3))
    options = {"bounds": box, "cache": True, "tolerance_mm": 0.0}
    (mesh, _), infos = told(bind(), head.codes[:2], 8, **options)
    (wanted, _), known = told(head.model.bind(head.identity), head.codes[:2], 8, **options)
    assert [info.method for info in infos] == ["cache"] * 2 and len(mesh) > 0
    assert [info.counts.bricks for info in infos] == [info.counts.bricks for info in known]
    assert np.array_equal(mesh.faces, wanted.faces)
    assert np.abs(mesh.vertices - wanted.vertices).max() < 2e-5  # metres


@pytest.mark.parametrize(
    ("points", "exact", "frames"),
    [(128**3, False, 32), (256**3, False, 32), (512**3, False, 4), (1024**3, False, 1), (1024**3, True, 1),
     (256**3, True, 8)],
)  # fmt: skip
def test_chunks_keep_memory_in_bounds(points: int, exact: bool, frames: int) -> None:
    assert CudaField.frames_together(None, points, exact=exact) == frames


def test_tracks(head, bind, monkeypatch) -> None:
    field, cpu = bind(), head.model.bind(head.identity)
    codes = head.codes[:2]
    (mesh,) = cpu.extract(None, 12, units="head")
    known = cpu.tracked(codes, vertices=mesh.vertices, faces=mesh.faces, tolerance=1e-5, normals=True)
    info = field.tracked(
        codes, vertices=torch.from_numpy(mesh.vertices), faces=mesh.faces, tolerance=1e-5, normals=True
    )
    expected, faces, moved, triangles = known.vertices, known.faces, info.vertices, info.faces
    for value in (moved, triangles, info.residual, info.converged, info.normals):
        assert isinstance(value, torch.Tensor)
    assert np.array_equal(triangles.numpy(), faces) and triangles.dtype == torch.int32
    assert info.failed == known.failed == 0 and float(info.residual.max()) <= 1e-5
    assert np.abs(moved.numpy() - expected).max() < 1e-4
    assert np.abs(info.normals.numpy() - known.normals).max() < 2e-2
    own, _ = field.track(codes[:1], resolution=10)  # its own canonical mesh
    assert own.shape[0] == 1 and own.shape[1] > 0

    invert, lost = field.bound.kernels.invert, torch.arange(5)

    def partly(*args, **kwargs):
        positions, residuals = invert(*args, **kwargs)
        where = (1, lost) if len(positions) == 2 else slice(None)
        positions[where], residuals[where] = 77.0, torch.nan
        return positions, residuals

    monkeypatch.setattr(field.bound.kernels, "invert", partly)
    info = field.tracked(codes, vertices=mesh.vertices, faces=mesh.faces)
    filled = info.vertices
    assert info.failed == len(lost) and not info.converged[1, lost].any()
    assert torch.isfinite(filled).all() and float((filled[1, lost] - moved[1, lost]).abs().max()) < 0.05
    keep = torch.ones(len(mesh.vertices), dtype=torch.bool)
    keep[lost] = False
    assert torch.equal(filled[0], moved[0]) and torch.equal(filled[1, keep], moved[1, keep])


def test_marching_cubes_of_the_whole_pipeline_use_the_device_it_has(monkeypatch) -> None:
    from facetalk import FaceTalk
    from facetalk.motion import Motion

    model = FaceTalk(FaceTalk.from_pretrained("default", device="cpu").config, torch.device("cuda", 1))
    asked = []

    def bind(self, identity, **options):
        asked.append(options["device"])
        raise InputError("stop here")

    monkeypatch.setattr(NPHM, "bind", bind)
    motion = Motion(np.zeros((1, model.head.expression_dim), np.float32), 25.0)
    for reason, kind in ((None, "cuda"), ("no kernels", "cpu")):
        monkeypatch.setattr(_device, "why_not", lambda device, reason=reason: reason)
        with pytest.raises(InputError, match="stop here"):
            list(model.decode(motion, topology="marching-cubes", resolution=16))
        assert asked[-1].type == kind
    assert asked[0].index == 1


def test_refusals(head, bind) -> None:
    field = bind()
    with pytest.raises(TypeError, match="expressions: expected a tensor on the CPU, got one on meta"):
        field.query(head.points, head.codes.to("meta"))
    with pytest.raises(ValueError, match=r"points: expected finite numbers, got inf at \[2, 1\]"):
        field.query(torch.tensor([[0.0, 0, 0], [0, 0, 0], [0, np.inf, 0]]), head.codes)
    with pytest.raises(TypeError, match="points: expected an array on the CPU or on cpu, got one on meta"):
        field.query(head.points.to("meta"), head.codes)
    with pytest.raises(TypeError, match="points: expected float32"):
        field.query(torch.zeros(2, 3, dtype=torch.int64), head.codes)
    with pytest.raises(InputError, match=r"needs .* GiB"):
        field.grid(head.codes, 20000)


def test_reasons_why_a_device_has_no_kernels(monkeypatch) -> None:
    monkeypatch.setattr(_device, "_missing", lambda *_: "built without CUDA")
    assert _device.why_not(torch.device("cpu")) is None
    assert _device.why_not(torch.device("cuda")) == "built without CUDA"
    assert "CUDA devices alone" in _device.why_not(torch.device("meta"))
    assert _device.with_kernels(torch.device("cuda", 5)) == torch.device("cpu")
    monkeypatch.setattr(_device, "_missing", lambda *_: None)
    if not torch.cuda.is_available():  # a build with kernels, a torch without a driver or without CUDA
        assert _device.why_not(torch.device("cuda"))


def test_copies_of_the_deformation_fold_on_the_device(head) -> None:
    """The network is only copied where it has to be; biases are the same."""
    model = head.model
    compressed = torch.zeros(1, model.deformation.config.compressed_dim)
    here = binding.ExpressionBiases(model.deformation, compressed, torch.device("cpu"))
    assert here._network is model.deformation
    away = binding.ExpressionBiases(model.deformation, compressed, torch.device("meta"))
    assert away._network is not model.deformation
    assert {p.device.type for p in away._network.parameters()} == {"meta"}
    assert next(model.deformation.parameters()).device.type == "cpu"
