"""Models as ONNX graphs, run by onnxruntime: the curves of a live stream, whoever runs the networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("onnxruntime", reason="pip install 'facetalk[onnx]'")
onnx = pytest.importorskip("onnx")

from small_networks import small_motion  # noqa: E402

from facetalk.audio.level import HOP  # noqa: E402
from facetalk.audio.live import RunningLevel  # noqa: E402
from facetalk.cli import main  # noqa: E402
from facetalk.convert import onnx as module  # noqa: E402
from facetalk.convert.denoiser_step import DenoiserStep  # noqa: E402
from facetalk.convert.encoder_step import EncoderStep  # noqa: E402
from facetalk.diffusion import frame_noise  # noqa: E402
from facetalk.errors import InputError  # noqa: E402
from facetalk.pipeline import FaceTalk  # noqa: E402

DEMO = Path(__file__).resolve().parents[2] / "examples/demo.flac"


@pytest.fixture(scope="module")
def model() -> FaceTalk:
    return FaceTalk.from_pretrained("default", "cpu", backend="torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("onnx") / "graphs"
    assert main(["convert", "--onnx", str(place)]) == 0
    return place


def normalised(model: FaceTalk, sound: np.ndarray) -> np.ndarray:
    level = RunningLevel(model.audio_encoder.floor)
    whole = len(sound) // HOP * HOP
    return np.concatenate([level.normalise(hop) for hop in sound[:whole].reshape(-1, HOP)])


def test_the_graphs_give_the_curves_of_a_stream(model: FaceTalk, folder: Path) -> None:
    sound, rate = soundfile.read(DEMO, dtype="float32", frames=48_000)
    with model.stream(seed=3, look_ahead=0.2) as stream:
        expected = np.concatenate([stream.push(sound).expressions, stream.finish().expressions])
    dim = model.motion_model.representation.dim
    found = module.run_folder(folder, normalised(model, sound), lambda i: frame_noise(3, 0, i, i + 1, dim)[0])
    assert rate == 16_000 and len(found) > 60
    assert np.ptp(expected, axis=0).max() > 0.2
    np.testing.assert_allclose(found, expected[: len(found)], atol=1e-4)


def test_the_graphs_are_what_the_readme_says(folder: Path) -> None:
    about, text = json.loads((folder / module.SETTINGS).read_text()), (folder / "README.md").read_text()
    for file, given, made in (module.ENCODER, module.DENOISER, module.CURVES):
        graph = onnx.load(folder / file)
        assert [entry.version for entry in graph.opset_import] == [15]
        for entries, names in ((graph.graph.input, given), (graph.graph.output, made)):
            assert [entry.name for entry in entries] == list(names)
            for entry in entries:
                shape = entry.type.tensor_type.shape.dim
                assert (
                    shape[0].dim_param == "batch"
                    and entry.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
                )
                if entry in list(graph.graph.input):
                    sizes = ", ".join(str(size.dim_value) for size in shape[1:])
                    assert entry.name in text and f"(batch, {sizes})" in text
        assert {node.domain for node in graph.graph.node} == {""}, "nothing but the standard's operators"
    assert len(about["names"]) == 53 and set(about["steps"]) == {"1", "2", "4", "8"}


def test_a_batch_is_several_speakers(folder: Path) -> None:
    import onnxruntime

    about = json.loads((folder / module.SETTINGS).read_text())
    session = onnxruntime.InferenceSession(str(folder / "encoder_step.onnx"))
    rng = np.random.default_rng(0)
    shapes = [
        (about["hop"],),
        (about["overlap"],),
        (about["window"] - 1, about["channels"]),
        (about["window"] - 1,),
    ]
    given = [rng.standard_normal((5, *shape)).astype(np.float32) for shape in shapes]
    given[3] = (given[3] > 0).astype(np.float32)
    together = session.run(None, dict(zip(module.ENCODER[1], given, strict=True)))
    alone = session.run(None, {n: v[2:3] for n, v in zip(module.ENCODER[1], given, strict=True)})
    for many, one in zip(together, alone, strict=True):
        np.testing.assert_allclose(many[2:3], one, atol=1e-5)


def test_a_model_without_a_student_takes_two_rows() -> None:
    """A frame of the step against the network itself, with and without the sound."""
    motion = small_motion(11)
    motion.student = None
    step = DenoiserStep(motion).eval()
    config, rng = motion.denoiser.config, torch.Generator().manual_seed(0)
    x, heard = (
        torch.randn(6, config.motion_dim, generator=rng),
        torch.randn(6, config.audio_dim, generator=rng),
    )
    at = torch.tensor([500])
    drop = torch.tensor([False, True])
    with torch.inference_mode():
        scaled = (heard - motion.feature_mean) / motion.feature_scale
        condition = motion.denoiser.condition(scaled.expand(2, -1, -1), drop=drop)
        expected, _ = motion.denoiser(x.expand(2, -1, -1), at, condition)
        caches, found = step.start(2), []
        for i in range(6):
            row, sound = x[i].expand(2, -1), heard[i].expand(2, -1)
            clean, *caches = step(row, torch.full((2, 1), 500.0), sound, 1.0 - drop.float()[:, None], *caches)
            found.append(clean)
    torch.testing.assert_close(torch.stack(found, 1), expected, atol=2e-5, rtol=0)
    assert (expected[0] - expected[1]).abs().max() > 1e-3


def test_what_has_no_steps_is_refused(model: FaceTalk) -> None:
    with pytest.raises(InputError, match="no whole number"):
        EncoderStep(model.audio_encoder, 30.0, 0.2)
    with pytest.raises(InputError, match="look-ahead"):
        EncoderStep(model.audio_encoder, 25.0, 0.0)
    with pytest.raises(InputError, match="look_ahead must be a finite number"):
        EncoderStep(model.audio_encoder, 25.0, float("nan"))
    for setting in ({"history": None}, {"window": (1, 1)}):
        with pytest.raises(InputError, match="bounded history"):
            DenoiserStep(small_motion(11, **setting))


def test_a_graph_that_differs_is_not_written(
    model: FaceTalk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    with pytest.raises(InputError, match="differs from torch"):
        module.to_onnx(model, tmp_path / "graphs")
    assert not (tmp_path / "graphs").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--onnx", "x", "some.pt"], "leave out a checkpoint"),
        (["--onnx", "x", "-o", "y"], "leave out -o"),
        (["--onnx", "x", "--family", "nphm"], "leave out --family"),
        (["--onnx", "x", "--model", "nobody"], "no model"),
        (["--onnx", "full"], "full"),
        (["some.pt", "-o", "y", "--look-ahead", "1"], "goes with --onnx"),
        (["some.pt"], "-o FOLDER"),
    ],
)
def test_bad_words(
    words: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    assert main(["convert", *words]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_a_folder_of_ours_is_replaced(folder: Path) -> None:
    assert module.is_ours(folder)
