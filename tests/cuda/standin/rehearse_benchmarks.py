"""The GPU's benchmarks at sizes that mean nothing, on the stand-in: every line runs, no figure counts.

Not collected by itself; tests/cuda/test_standin.py runs it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from facetalk.nphm import load_checkpoint

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import _gpu
import bench_attention_cuda
import bench_end_to_end_cuda
import bench_field
import bench_field_cuda
import bench_marching_cubes_cuda
import bench_sampler_cuda
import bench_trace_cuda


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> _gpu.Gpu:
    made = _gpu.Gpu.or_skip()
    monkeypatch.setattr(_gpu, "COPY_FLOATS", 1 << 10)
    monkeypatch.setattr(_gpu, "MATMUL_SIZE", 32)
    return made


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The lines of JSON that were written so far, checked."""
    target = tmp_path / "rows.jsonl"
    monkeypatch.setenv("FACETALK_BENCH_JSON", str(target))

    def read() -> dict[str, dict]:
        found = [json.loads(line) for line in target.read_text().splitlines()]
        for row in found:
            assert row["median_ms"] >= row["low_ms"] >= 0 and row["rounds"] >= 1
            assert row["operation"] and row["case"] and row["peer"]
            if "flops_per_s" in row:
                assert row["flops_per_s"] > 0 and row["of_matmul"] > 0
            if "bytes_per_s" in row:
                assert row["bytes_per_s"] > 0 and row["of_copy"] > 0
        return {f"{row['operation']} | {row['peer']}": row for row in found}

    return read


@pytest.mark.parametrize("dtype", bench_attention_cuda.DTYPES, ids=str)
def test_attention(gpu: _gpu.Gpu, rows, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_attention_cuda, "BATCH", 1)
    monkeypatch.setattr(bench_attention_cuda, "HEADS", 1)
    monkeypatch.setattr(bench_attention_cuda, "FLEX_FRAMES", 20)
    for name in ("0", "8", "causal"):
        bench_attention_cuda.test_window(20, name, dtype)
    if dtype == torch.float16:
        bench_attention_cuda.test_gradients(20, "8")
    assert {"attention | ours", "attention | SDPA with a mask", "attention | SDPA causal"} <= set(rows())
    if dtype == torch.float16:
        assert {"attention and gradients | ours", "attention and gradients | SDPA with a mask"} <= set(rows())


def test_widths(gpu: _gpu.Gpu, rows, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BATCH": 1, "HEADS": 1, "WIDE": 24, "WIDTHS": (1, 3, 17)}.items():
        monkeypatch.setattr(bench_attention_cuda, name, value)
    bench_attention_cuda.test_where_kernels_meet(torch.float16)
    assert list(rows()) == ["attention by width | ours"]


def test_marching_cubes(gpu: _gpu.Gpu, rows) -> None:
    from facetalk.ops._device import cuda_core

    core = cuda_core("volume", torch.device("cuda"))
    bench_marching_cubes_cuda.test_one_volume(gpu, core, 20)
    bench_marching_cubes_cuda.test_frames_in_one_set_of_launches(gpu, core, 8)
    peers = {"ours", "ours, kernels alone", "torch", "scikit-image, CPU", "ours, frame by frame"}
    assert {f"marching cubes | {peer}" for peer in peers} == set(rows())


def test_field(gpu: _gpu.Gpu, rows, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"POINTS": 32, "SLAB": 16, "RESOLUTION": 10}.items():
        monkeypatch.setattr(bench_field_cuda, name, value)
    identity = bench_field.IdentityConfig(anchors=5, pairs=2, global_dim=4, local_dim=4, hidden=16, layers=3)
    moving = {"expression_dim": 6, "hidden": 56, "layers": 4}
    monkeypatch.setitem(bench_field.SIZES, "tiny", (identity, moving))
    head = bench_field_cuda.Head("tiny", frames=2)
    for precision in bench_field_cuda.PRECISIONS:
        bench_field_cuda.test_kernels(head, precision)
    with contextlib.suppress(pytest.skip.Exception):  # the path of one generation of GPUs
        bench_field_cuda.test_hopper(head, "float16")
    bench_field_cuda.test_formula(head, torch.float32, False)
    bench_field_cuda.test_formula(head, torch.float16, True)
    peers = {f"field {name} | ours" for name in ("deformation", "ensemble")}
    assert set(rows()) - {"field deformation | ours, hopper"} == {*peers, "field formula | torch"}


def test_surfaces(gpu: _gpu.Gpu, rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_field_cuda, "RESOLUTION", 9)
    folder = Path(__file__).parents[2] / "golden" / "nphm_tiny"
    arrays = load_file(folder / "golden.safetensors")
    head = load_checkpoint(folder, family="nphm").bind(arrays["lat_id"])
    way = next(name for name, options in bench_field_cuda.WAYS.items() if not options.cache)
    speaking = ("tiny", head, arrays["lat_expr"])
    bench_field_cuda.test_surfaces(speaking, "fp16", way, "portable", 2)
    bench_field_cuda.test_bricks(speaking, "float16", "portable", 2)
    assert set(rows()) == {f"field {what}, tiny | ours" for what in ("surfaces", "bricks", "meshes")}


def test_trace(gpu: _gpu.Gpu, rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_trace_cuda, "RESOLUTION", 9)
    event = lambda key, ms, kind: types.SimpleNamespace(  # noqa: E731
        key=key, self_device_time_total=1e3 * ms, count=2, device_type=types.SimpleNamespace(name=kind)
    )
    events = [event("void a<1>(int)", 1.0, "CUDA"), event("b", 3.0, "CUDA"), event("aten::c", 9.0, "CPU")]
    traced = contextlib.nullcontext(types.SimpleNamespace(key_averages=lambda: events))
    monkeypatch.setattr(bench_trace_cuda, "profile", lambda **_: traced)
    folder = Path(__file__).parents[2] / "golden" / "nphm_tiny"
    arrays = load_file(folder / "golden.safetensors")
    head = load_checkpoint(folder, family="nphm").bind(arrays["lat_id"])
    monkeypatch.setattr(bench_trace_cuda, "official", lambda: (head, arrays["lat_expr"]))
    bench_trace_cuda.test_surfaces("official", "bands", 2)
    assert set(rows()) == {"kernels of surfaces | ours"}


def test_sampler(gpu: _gpu.Gpu, rows, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers")
    monkeypatch.setattr(bench_sampler_cuda, "FRAMES", 6)
    monkeypatch.setattr(bench_sampler_cuda, "PRESETS", {"mini": bench_sampler_cuda.PRESETS["mini"]})
    bench_sampler_cuda.test_ten_seconds("mini", 2)
    assert len(rows()) == 4


@pytest.mark.slow  # the built-in model's own size
def test_end_to_end(gpu: _gpu.Gpu, rows, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SECONDS": 1, "RESOLUTION": 6, "BATCH": 2}.items():
        monkeypatch.setattr(bench_end_to_end_cuda, name, value)
    talker = bench_end_to_end_cuda.Talker(bench_end_to_end_cuda.FaceTalk.from_pretrained(device="cuda"))
    bench_end_to_end_cuda.test_fixed_topology(talker, 1)
    bench_end_to_end_cuda.test_marching_cubes(talker)
    assert set(rows()) == {
        "speech to meshes | ours",
        "codes to surfaces | ours",
        "codes to surfaces | our CPU backend",
    }


def test_rounds_are_capped() -> None:
    assert os.environ["FACETALK_BENCH_ROUNDS"] == "1"
