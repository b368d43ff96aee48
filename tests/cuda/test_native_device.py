"""The C library's fields on a GPU against the same library on the CPU, and what a frame takes there.

Each row of the figures is also printed, and appended to the file that FACETALK_BENCH_JSON names.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
from golden import GOLDEN
from native_fields import CUDA, FLOAT16, FLOAT32, UNSUPPORTED, Field, Library, Refused
from scipy.spatial import cKDTree

from facetalk.library import get_library
from facetalk.models import find_model

FRAMES, ROUNDS = 2, 5
PRECISIONS = {"float32": FLOAT32, "float16": FLOAT16}
# Millimetres from a vertex to the nearest of the CPU's: most, and of all but a thousandth. Where the field is
# nearly flat a rounding moves the surface far; 16 bit moves all of it, and makes or loses vertices.
MOST = {"float32": (1.0, 0.01), "float16": (3.0, 0.5)}
RANDOM = 10.0  # of a random head's, whose flat places are many, in 16 bit


@pytest.fixture(scope="module")
def library() -> Library:
    """The library that is installed; where there is no GPU, the one of test_standin.py."""
    if emulated := os.environ.get("FACETALK_EMULATED_LIBRARY"):
        return Library(emulated)
    found = Library(get_library())
    try:
        found.field(GOLDEN / "nphm_tiny", CUDA)
    except Refused as error:
        if error.status != UNSUPPORTED:
            raise
        pytest.skip(f"CUDA in the C library: {error}")
    return found


def head(name: str) -> tuple[Path, int, list[list[float]], np.ndarray]:
    """Folder, resolution, box and codes of a case."""
    rng = np.random.default_rng(5)
    if name == "small":
        return (
            GOLDEN / "mononphm_tiny",
            10,
            [[-0.55, -0.5, -0.95], [0.55, 0.75, 0.4]],
            (0.3 * rng.normal(size=(FRAMES, 16))).astype(np.float32),
        )
    model = find_model("default").folder
    rest = json.loads((model / "head/config.json").read_text())["rest_expression"]
    box = json.loads((model / "config.json").read_text())["geometry"]["bounds"]
    codes = np.array(rest) + rng.uniform(0.0, 0.5, (FRAMES, len(rest)))
    return model / "head", int(name.rpartition("_")[2]), box, codes.astype(np.float32)


def meshes(
    field: Field, codes: np.ndarray, resolution: int, box: object, rounds: int
) -> tuple[list[tuple[np.ndarray, np.ndarray]], float]:
    """Of every code, and milliseconds a frame: the median of some rounds, once memory was taken."""
    found = [field.extract(code, resolution, box) for code in codes]
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        for code in codes:
            field.extract(code, resolution, box)
        taken.append(1e3 * (time.perf_counter() - start) / len(codes))
    return found, statistics.median(taken) if taken else math.nan


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["small", "built_in_64", "built_in_128"])
def test_surfaces_are_the_cpus(library: Library, name: str, precision: str) -> None:
    folder, resolution, box, codes = head(name)
    rounds = 0 if name == "small" else ROUNDS
    on_gpu = library.field(folder, CUDA).bind(None, PRECISIONS[precision])
    found, milliseconds = meshes(on_gpu, codes, resolution, box, rounds)
    on_cpu = library.field(folder).bind()
    start = time.perf_counter()
    expected = [on_cpu.extract(code, resolution, box) for code in codes]
    of_cpu = 1e3 * (time.perf_counter() - start) / len(codes)
    away = [
        cKDTree(want).query(vertices)[0] for (vertices, _), (want, _) in zip(found, expected, strict=True)
    ]
    missed = [
        cKDTree(vertices).query(want)[0] for (vertices, _), (want, _) in zip(found, expected, strict=True)
    ]
    distances = 1e3 * np.concatenate(away + missed)
    row = {
        "operation": "C library: a frame's mesh", "case": {"head": name, "precision": precision},
        "peer": "facetalk", "median_ms": milliseconds, "cpu_ms": of_cpu, "vertices": len(found[0][0]),
        "same_faces": sum(np.array_equal(a[1], b[1]) for a, b in zip(found, expected, strict=True)),
        "most_mm": float(distances.max()), "most_of_999_in_1000_mm": float(np.percentile(distances, 99.9)),
        "mean_mm": float(distances.mean()),
    }  # fmt: skip
    print(json.dumps(row))
    if (target := os.environ.get("FACETALK_BENCH_JSON")) and rounds:
        with open(target, "a") as file:
            file.write(json.dumps(row) + "\n")
    for (vertices, faces), (want, want_faces) in zip(found, expected, strict=True):
        assert abs(len(vertices) - len(want)) <= 0.02 * len(want) + 10
        assert abs(len(faces) - len(want_faces)) <= 0.02 * len(want_faces) + 20
    most, usual = (RANDOM * (name == "small" and precision == "float16") or 1.0) * np.array(MOST[precision])
    assert distances.max() < most and np.percentile(distances, 99.9) < usual
    if precision == "float32":
        assert np.median(distances) < 1e-3


def test_small_distances_are_the_cpus(library: Library) -> None:
    folder, _, _, codes = head("small")
    points = np.random.default_rng(6).uniform(-0.15, 0.15, (200, 3)).astype(np.float32)
    on_gpu, on_cpu = library.field(folder, CUDA).bind(), library.field(folder).bind()
    for code in (None, codes[0]):
        assert np.abs(on_gpu.query(code, points) - on_cpu.query(code, points)).max() < 1e-5


def test_a_gpu_that_is_not_there_is_refused(library: Library) -> None:
    with pytest.raises(Refused, match="device_index"):
        library.field(GOLDEN / "nphm_tiny", CUDA, 999)
