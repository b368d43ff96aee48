"""Speech to meshes on the GPU, stage by stage: one clip at a time, and sixteen at once.

    python -m pytest benchmarks/bench_end_to_end_cuda.py -s

A round takes a clip of 10 s from samples in NumPy to vertices and normals of every frame in device memory, by
the built-in model. Stages end when their results are there; percentiles are over rounds, after two warm ones.
With sixteen streams each is a thread with a CUDA stream of its own: its times are those it waits beside the
others, and throughput is seconds of speech per second of clock.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
import torch
from _gpu import Gpu, Timing

from facetalk import FaceTalk, ops
from facetalk.motion import Motion

SECONDS, RATE = 10, 16_000
RESOLUTION, BATCH = 128, 25  # marching cubes: samples along an axis, frames of one set of launches
Times = dict[str, list[float]]


def speech(seed: int) -> np.ndarray:
    """Noise in syllables; what is said does not change the work."""
    random = np.random.default_rng(seed)
    t = np.arange(SECONDS * RATE) / RATE
    loudness = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * t + random.uniform(0, 6))
    return (0.1 * loudness * random.standard_normal(len(t))).astype(np.float32)


def rotations(turns: torch.Tensor) -> torch.Tensor:
    """(T, 3, 3) of (T, 3) rotation vectors: facetalk.mesh.eyes.turn_matrices on the device."""
    angle = torch.linalg.vector_norm(turns, dim=1)[:, None, None].clamp(min=1e-6)
    one = torch.eye(3, device=turns.device)
    cross = torch.linalg.cross(turns[:, :, None], one.expand(len(turns), 3, 3), dim=1)
    half = torch.sin(0.5 * angle) / angle
    return one + torch.sin(angle) / angle * cross + 2.0 * half.square() * (cross @ cross)


class Talker:
    """The stages of one stream; identities are bound before the clock starts."""

    def __init__(self, model: FaceTalk) -> None:
        self.model = model
        identity = np.asarray(model.head.default_identity, np.float32)
        rig = model.decode(Motion(np.zeros((1, model.head.expression_dim), np.float32), 25.0, identity, {}))
        self.basis = torch.from_numpy(rig.basis.reshape(len(rig.basis), -1)).cuda()
        self.base = torch.from_numpy(rig.base.vertices.reshape(-1)).cuda()
        self.eyes = [
            [torch.from_numpy(eye.rows).cuda()]
            + [torch.from_numpy(values.astype(np.float32)).cuda() for values in (eye.centre, eye.rates)]
            for eye in rig.eyes
        ]
        self.faces = torch.from_numpy(np.asarray(rig.base.faces, np.int32)).cuda()
        self.fields = {
            device: model.head.nphm.bind(identity, facial_smoothing=model.facial_smoothing, device=device)
            for device in ("cpu", "cuda")
        }

    def fixed(self, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Vertices and normals (T, V, 3) of the rig."""
        vertices = torch.addmm(self.base, codes, self.basis).unflatten(1, (-1, 3))
        for rows, centre, rates in self.eyes:
            turns = rotations(codes @ rates)
            vertices[:, rows] = (vertices[:, rows] - centre) @ turns.mT + centre
        return vertices, ops.vertex_normals(vertices, self.faces)

    def clip(self, samples: np.ndarray, seed: int, times: Times) -> np.ndarray:
        """Run audio, motion and fixed-topology meshes; adds milliseconds to `times`."""

        def stage(name: str, work: Callable[[], object]) -> object:
            begin = time.perf_counter()
            result = work()
            torch.cuda.current_stream().synchronize()
            times[name].append(1e3 * (time.perf_counter() - begin))
            return result

        begin = time.perf_counter()
        features = stage("audio", lambda: self.model.audio_encoder.features(samples, fps=25.0))
        codes = stage("motion", lambda: self.model.motion_model.sample(features, seed=seed))
        stage("meshes", lambda: self.fixed(torch.from_numpy(codes).cuda()))
        times["all"].append(1e3 * (time.perf_counter() - begin))
        return codes


@pytest.fixture(scope="module")
def talker() -> Talker:
    Gpu.or_skip()
    return Talker(FaceTalk.from_pretrained(device="cuda"))


def report(gpu: Gpu, streams: int, times: Times, speech_per_second: float) -> None:
    for name, values in times.items():
        p50, p95, p99 = np.percentile(values, [50, 95, 99])
        gpu.report(
            "speech to meshes",
            {"clip_s": SECONDS, "streams": streams, "stage": name},
            "ours",
            Timing.of(values),
            extra={"p50": p50, "p95": p95, "p99": p99}
            | ({"x real time": speech_per_second} if name == "all" else {}),
        )


@pytest.mark.parametrize("streams", [1, 16])
def test_fixed_topology(talker: Talker, streams: int) -> None:
    gpu, rounds = Gpu.or_skip(), 100 if streams == 1 else 12
    collected: list[Times] = [defaultdict(list) for _ in range(streams)]
    ready = threading.Barrier(streams + 1)
    failures: list[BaseException] = []

    def work(index: int) -> None:
        try:
            with torch.cuda.stream(torch.cuda.Stream()):
                for warm in range(2):  # the second run of a length records its graph
                    talker.clip(speech(index), warm, defaultdict(list))
                ready.wait()
                for turn in range(rounds):
                    talker.clip(speech(index), turn, collected[index])
        except BaseException as error:
            failures.append(error)
            ready.abort()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(streams)]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):  # a thread failed; it says why below
        ready.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - begin
    if failures:
        raise failures[0]
    merged: Times = defaultdict(list)
    for times in collected:
        for name, values in times.items():
            merged[name] += values
    report(gpu, streams, merged, streams * rounds * SECONDS / elapsed)


def test_marching_cubes(talker: Talker) -> None:
    """Surfaces of a clip's frames, extracted anew, in batches; beside the CPU backend for a few of them."""
    gpu = Gpu.or_skip()
    codes = talker.clip(speech(0), 0, defaultdict(list))
    bounds = talker.model.config.bounds
    some = torch.from_numpy(codes[:BATCH]).cuda()
    case = {"resolution": RESOLUTION, "frames": BATCH}

    def ours() -> None:
        list(talker.fields["cuda"].surfaces(some, RESOLUTION, bounds))

    timing = gpu.wall(ours)
    per_second = {"frames/s": 1e3 * BATCH / timing.median_ms}
    gpu.report("codes to surfaces", case, "ours", timing, extra=per_second)
    if not gpu.peers:
        return
    few = codes[:2]
    timing = gpu.wall(lambda: talker.fields["cpu"].extract(few, RESOLUTION, bounds), rounds=3, warmup=1)
    per_second = {"frames/s": 1e3 * len(few) / timing.median_ms}
    gpu.report("codes to surfaces", case | {"frames": len(few)}, "our CPU backend", timing, extra=per_second)
