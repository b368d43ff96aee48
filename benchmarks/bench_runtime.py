"""The runtime that engines link, beside torch and onnxruntime in the same run, on one core.

    python benchmarks/bench_runtime.py --json benchmarks/results/cpu-runtime.json

Start and memory are those of examples/c/wav_to_csv.c as a process over ten seconds of speech, to its last
curve; Python's those of ``generate``. Throughput is of speech to curves with two steps. A streamed frame is
40 ms of pushed sound: encoder, denoiser, rig with normals. onnxruntime runs the exported encoder over ten
seconds, beside the same of torch and of the library; needs ``facetalk[bench]``.

The C program is measured first, while this process is small: a child inherits the most memory that its
parent had.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 10
RATE = 16_000
PUSH = 640
"""Samples of one motion frame."""
PYTHON = "import sys, facetalk; facetalk.FaceTalk.from_pretrained(device='cpu').generate(sys.argv[1])"


def process(*words: str | Path) -> tuple[float, float]:
    """Run a program without its output: seconds to its end, and the most memory it had, MB."""
    quiet = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    begin = time.perf_counter()
    child = os.posix_spawnp(words[0], list(map(str, words)), os.environ, file_actions=quiet)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - begin
    if status != 0:
        raise SystemExit(f"error: {words[0]} ended with status {status}")
    return seconds, usage.ru_maxrss * 1024 / 1e6


def text_of(code: str) -> str:
    """What a Python program prints, run in a process of its own so that this one stays small."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def write_wav(folder: Path) -> Path:
    """Ten seconds of the demo's speech."""
    path = folder / "speech.wav"
    text_of(
        "import numpy as np, wave; from facetalk.audio import load_audio\n"
        f"sound = np.resize(load_audio({str(ROOT / 'examples/demo.flac')!r}), {SECONDS * RATE})\n"
        f"file = wave.open({str(path)!r}, 'wb'); file.setnchannels(1); file.setsampwidth(2)\n"
        f"file.setframerate({RATE}); file.writeframes(np.int16(np.clip(sound, -1, 1) * 32767).tobytes())\n"
        "file.close()"
    )
    return path


def starts(folder: Path, sound: Path, rounds: int) -> dict[str, Any]:
    """From nothing to the curves of ten seconds, as processes."""
    flags = text_of("from facetalk.cli import main; main(['--cflags', '--libs'])")
    model = text_of("from facetalk.models import find_model; print(find_model('default').folder)").strip()
    program = folder / "wav_to_csv"
    source = ROOT / "examples/c/wav_to_csv.c"
    subprocess.run(["cc", "-O2", source, *shlex.split(flags), "-lm", "-o", program], check=True)
    found = {
        "C": [process(program, model, sound) for _ in range(rounds)],
        "Python": [process(sys.executable, "-c", PYTHON, sound) for _ in range(max(rounds // 3, 1))],
    }
    return {
        who: {"seconds": min(s for s, _ in runs), "peak_mb": max(mb for _, mb in runs)}
        for who, runs in found.items()
    }


def timed(call: Callable[[], Any], rounds: int) -> float:
    """The best of some rounds, after one that is not counted."""
    call()
    best = float("inf")
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
    return best


def quantiles(values: list[float]) -> dict[str, float]:
    """Milliseconds."""
    ordered = sorted(1e3 * value for value in values)
    return {
        "p50_ms": statistics.median(ordered),
        "p99_ms": ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))],
        "most_ms": ordered[-1],
        "frames": len(ordered),
    }


def measure_library(sound: Any, rounds: int, frames: int) -> dict[str, Any]:
    """Throughput and streamed frames of the C library, by ctypes."""
    import numpy as np

    from facetalk.models import find_model
    from facetalk.native import NativeModel, NativeRig

    model = NativeModel(find_model("default").folder)
    rig = NativeRig(model)

    def whole() -> None:
        stream = model.stream(look_ahead=float("inf"), steps=2)
        stream.push(sound)
        stream.finish()

    seconds = timed(whole, rounds)
    stream, costs = model.stream(look_ahead=0.2, steps=2), []
    loop = np.resize(sound, PUSH * (frames + 50))
    for at in range(0, len(loop), PUSH):
        begin = time.perf_counter()
        for curves in stream.push(loop[at : at + PUSH]).curves:
            rig.pose(curves)
        costs.append(time.perf_counter() - begin)
    encoder = timed(lambda: model.features(sound), rounds)
    return {
        "times_real_time": len(sound) / RATE / seconds,
        "streamed_frame": quantiles(costs[50:]),  # those before gave no frame, or the first
        "encoder_seconds": encoder,
    }


def measure_torch(sound: Any, rounds: int, frames: int) -> dict[str, Any]:
    """The same by torch; a streamed frame without the rig."""
    import numpy as np
    import torch

    from facetalk import FaceTalk

    torch.set_num_threads(1)
    face = FaceTalk.from_pretrained(device="cpu", backend="torch")
    seconds = timed(lambda: face.generate((sound, RATE), steps=2), rounds)
    costs = []
    loop = np.resize(sound, PUSH * (frames + 50))
    with face.stream(look_ahead=0.2, steps=2) as stream:
        for at in range(0, len(loop), PUSH):
            begin = time.perf_counter()
            stream.push(loop[at : at + PUSH])
            costs.append(time.perf_counter() - begin)
    encoder = timed(lambda: face.audio_encoder.features(sound, fps=25.0), rounds)
    return {
        "times_real_time": len(sound) / RATE / seconds,
        "streamed_frame": quantiles(costs[50:]),
        "encoder_seconds": encoder,
    }


def measure_onnx(sound: Any, rounds: int, folder: Path) -> dict[str, Any]:
    """The encoder over the whole clip as a graph of ONNX, and how far its features are from torch's."""
    import numpy as np
    import onnxruntime
    import torch

    from facetalk import FaceTalk
    from facetalk.audio.encoder import hidden_states

    face = FaceTalk.from_pretrained(device="cpu", backend="torch")
    encoder, count = face.audio_encoder, len(sound) * 25 // RATE

    class Graph(torch.nn.Module):
        """Normalised sound and places of frames to features."""

        def __init__(self) -> None:
            super().__init__()
            self.model = encoder.model

        def forward(self, waves: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
            return hidden_states(self.model, waves, positions, encoder.span(25.0))

    graph = Graph().eval()
    waves = torch.from_numpy(sound / sound.std())[None]
    places = ((torch.arange(count) + 0.5) / 25.0 * RATE - encoder.stride / 2) / encoder.stride
    path = folder / "encoder.onnx"
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter tells of what it takes for constant
        expected = graph(waves, places).numpy()
        torch.onnx.export(graph, (waves, places), str(path), opset_version=17, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = dict(
        zip([node.name for node in session.get_inputs()], (waves.numpy(), places.numpy()), strict=False)
    )
    error = float(np.abs(session.run(None, given)[0] - expected).max())
    return {
        "encoder_seconds": timed(lambda: session.run(None, given), rounds),
        "difference_from_torch": error,
        "version": onnxruntime.__version__,
    }


def show(found: dict[str, Any]) -> None:
    """The figures as lines."""
    for who, row in found["start"].items():
        print(
            f"{who}: {row['seconds']:.2f} s from start to the curves of {SECONDS} s, {row['peak_mb']:.0f} MB"
        )
    for who in ("library", "torch", "onnxruntime"):
        row = found.get(who)
        if row is None:
            continue
        parts = [f"encoder of {SECONDS} s in {row['encoder_seconds']:.3f} s"]
        if "times_real_time" in row:
            frame = row["streamed_frame"]
            parts.insert(0, f"{row['times_real_time']:.0f} times real time")
            parts.append(f"streamed frame p50 {frame['p50_ms']:.2f} ms, p99 {frame['p99_ms']:.2f} ms")
        print(f"{who}: " + "; ".join(parts))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
    parser.add_argument("--rounds", type=int, default=9, help="of which the best counts (default 9)")
    parser.add_argument("--frames", type=int, default=1500, help="streamed frames (default 1500)")
    args = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sound = write_wav(folder)
        found: dict[str, Any] = {"start": starts(folder, sound, args.rounds)}

        import numpy as np  # after the processes that are measured

        with wave.open(str(sound)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
        found["library"] = measure_library(samples, args.rounds, args.frames)
        found["torch"] = measure_torch(samples, max(args.rounds // 3, 1), args.frames // 5)
        try:
            found["onnxruntime"] = measure_onnx(samples, args.rounds, folder)
        except ModuleNotFoundError as error:
            print(f"without onnxruntime: {error}; pip install 'facetalk[bench]'", file=sys.stderr)
    found["machine"] = {"python": platform.python_version(), "processor": processor(), "threads": 1}
    show(found)
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


def processor() -> str:
    """The CPU's own name for itself."""
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
