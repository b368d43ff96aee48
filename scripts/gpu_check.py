"""What a machine with a GPU has to say, in three commands of under ten minutes each.

right   are the results right?  The CUDA tests, each isolated from what another breaks; memcheck of a few
fast    is it fast?             The benchmarks, what decides most first, beside their peers in the same run
why     why is it as fast?      ncu over one round of the kernels; racecheck and initcheck of a few tests

Every line of a result is in OUT/<command>.jsonl as soon as it has happened, and what was said in
OUT/<command>.log: what ends the command, or the machine, takes nothing with it. A test that crashes, hangs
or breaks the device is named, and those behind it run in a new process; a step for which no time is left
says so. Files of an earlier run are put aside. Nothing is fetched, and no setting of the GPU is touched.
`scripts/gpu_report.py gather OUT` makes one JSON file of the three.

The core is made first: from a bundle that was carried along (make gpu-bundle), else by nvcc.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import gpu_module
import gpu_report
from gpu_run import LEAST_S, Clock, Isolated, Record, run

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 570  # of ten minutes, with some for what starts and ends the command

# All files with tests that need a GPU, those that decide most first; tests/cuda/test_gpu_check.py says that
# it is all.
TESTS = (
    "tests/cuda/test_field_device.py", "tests/cuda/test_field_hopper_device.py",
    "tests/cuda/test_marching_cubes_face.py", "tests/cuda/test_attention_device.py",
    "tests/cuda/test_streams_device.py", "tests/cuda/test_field_dispatch_device.py",
    "tests/cuda/test_field_guided_device.py", "tests/cuda/test_field_cached_device.py",
    "tests/cuda/test_native_device.py", "tests/cuda/test_distill_device.py",
    "tests/cuda/test_whisper_device.py",
    "tests/ops/test_attention.py", "tests/ops/test_normals.py", "tests/diffusion/test_cuda_graph.py",
)  # fmt: skip

# A few tests for each tool of compute-sanitizer, under which everything takes ten times as long and more:
# small shapes, no graphs (they need the caching allocator) and nothing of torch.compile. Each tool gets the
# kernels that can break its rule.
_FIELD = "(test_field_device and matches and small)"
_HOPPER = "(hopper and columns)"
_EXTRACTION = "(marching_cubes_face and TestOnDevice and shape0)"
_ATTENTION = "(gradients_match and window1 and not bfloat16)"
_GUIDED = "(guided_device and False)"
WATCHED = {
    # Any address: every kernel once.
    "memcheck": (
        _FIELD, "(test_field_device and derivatives)", _HOPPER, _EXTRACTION, _ATTENTION, _GUIDED,
        "(test_normals and None)", "(test_native_device and small and float32)",
    ),
    # What threads of a block hand each other in shared memory.
    "racecheck": (_FIELD, _EXTRACTION, _ATTENTION, _HOPPER),
    # Lists and volumes of which a kernel writes only a part.
    "initcheck": (_EXTRACTION, _GUIDED, "(test_normals and None)"),
    # Barriers that some threads may not reach: named barriers, mbarriers, early returns.
    "synccheck": (_HOPPER, _FIELD, _ATTENTION),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of a command: tests or benchmarks by pytest, under a tool or not."""

    name: str
    arguments: tuple[str, ...]  # of pytest
    seconds: float  # at most
    each: float = 120  # of one test
    tool: str = ""  # "", a tool of compute-sanitizer, or ncu
    needs: float = 30  # seconds below which it is left out


def bench(name: str, choice: str = "") -> tuple[str, ...]:
    """Arguments for a file of benchmarks and a choice of its tests."""
    return (f"benchmarks/{name}.py", "--benchmark-disable", *(("-k", choice) if choice else ()))


def _watched(tool: str, seconds: float) -> Step:
    chosen = ("-m", "cuda", "-k", " or ".join(WATCHED[tool]), *TESTS)
    return Step(tool, chosen, seconds, each=150, tool=tool, needs=60)


STEPS: dict[str, tuple[Step, ...]] = {
    "right": (Step("tests", ("-m", "cuda", *TESTS), 420), _watched("memcheck", 300)),
    "fast": (
        Step("bricks", bench("bench_field_cuda", "bricks and float16 and not bfloat16 and official"), 90),
        Step("field", bench("bench_field_cuda", "(kernels and not float32) or test_hopper"), 60),
        Step("surfaces", bench("bench_field_cuda", "surfaces and fp16 and official"), 120),
        Step("marching-cubes", bench("bench_marching_cubes_cuda"), 90),
        Step("attention", bench("bench_attention_cuda", "window and float16 and not 250"), 90),
        Step("sampler", bench("bench_sampler_cuda"), 60),
        Step("end-to-end", bench("bench_end_to_end_cuda"), 90),
        Step("attention-more", bench("bench_attention_cuda", "not (window and float16 and not 250)"), 90),
        Step(
            "built-in",
            bench(
                "bench_field_cuda",
                "(surfaces and fp16 or bricks and float16 and not bfloat16) and not official",
            ),
            90,
        ),
        Step("formula", bench("bench_field_cuda", "formula"), 60),
        Step("trace", bench("bench_trace_cuda"), 60),
        # The slowest rows, and those that decide least.
        Step(
            "float32",
            bench(
                "bench_field_cuda",
                "(kernels or bricks) and float32 or surfaces and fp32 or bricks and bfloat16",
            ),
            120,
        ),
    ),
    "why": (
        Step(
            "ncu-field",
            bench("bench_field_cuda", "(kernels or test_hopper) and float16 and not bfloat16"),
            120,
            tool="ncu",
        ),
        Step(
            "ncu-bricks",
            bench("bench_field_cuda", "bricks and float16 and not bfloat16 and official and hopper"),
            150,
            tool="ncu",
        ),
        Step("ncu-marching-cubes", bench("bench_marching_cubes_cuda", "one_volume"), 90, tool="ncu"),
        Step("ncu-attention", bench("bench_attention_cuda", "window and 1500"), 90, tool="ncu"),
        _watched("racecheck", 200),
        _watched("initcheck", 200),
        _watched("synccheck", 120),
    ),
}


def wrapper(tool: str, csv: Path) -> tuple[list[str], dict[str, str]]:
    """The command that a tool puts in front of pytest's, and what it wants of the environment."""
    if not tool:
        return [], {}
    if tool == "ncu":
        # The clocks stay as they are: the machine may be others' too.
        return [
            "ncu", "--clock-control", "none", "--target-processes", "all", "--kernel-name-base", "demangled",
            "--kernel-name", "regex:.*facetalk::cuda.*", "--launch-count", "240",
            "--metrics", ",".join(gpu_report.METRICS), "--csv", "--page", "raw", "--log-file", str(csv),
        ], {"FACETALK_BENCH_ROUNDS": "1", "FACETALK_BENCH_PEERS": "0"}  # fmt: skip
    command = ["compute-sanitizer", "--tool", tool, "--print-limit", "50", "--target-processes", "all"]
    if tool != "initcheck":  # which has to see what torch's kernels write; the report is filtered instead
        command += ["--kernel-name", "kns=facetalk"]
    # Every tensor its own allocation: torch's caching allocator would hide what is out of bounds in its
    # blocks.
    return command, {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}


def run_step(record: Record, step: Step, seconds: float, work: Path, more: Sequence[str], each: float) -> str:
    """Run a step and write down what it gave; what became of it."""
    csv = work / f"{step.name}.csv"
    csv.unlink(missing_ok=True)
    front, environment = wrapper(step.tool, csv)
    since = record.size()
    arguments = [*step.arguments]
    if more and "-k" in arguments:
        at = arguments.index("-k") + 1
        arguments[at] = f"({arguments[at]}) and ({' and '.join(more)})"
    elif more:
        arguments += ["-k", " and ".join(more)]
    tests = Isolated(record, step.name, arguments, min(each, step.each), work, environment, front)
    outcome = tests.run(seconds)
    if step.tool == "ncu":
        for row in gpu_report.kernels(csv):
            record.add(step=step.name, row=row)
    elif step.tool:
        with record.log.open("rb") as log:
            log.seek(since)
            found = gpu_report.findings(log.read().decode(errors="replace"))
        ours = [row for row in found if "facetalk" in row["kernel"]]
        for row in ours:
            record.add(
                f"   {step.tool}: {row['finding']} in {row['kernel']}, {row['count']} times",
                step=step.name,
                row=row,
            )
        if ours and outcome == "ok":
            outcome = f"{step.tool} found something"
    counts = ", ".join(f"{count} {what}" for what, count in tests.counts.items())
    record.add(
        f"   {step.name}: {outcome}{': ' + counts if counts else ''}",
        step=step.name,
        outcome=outcome,
        counts=tests.counts,
    )
    return outcome


def prepare(record: Record, clock: Clock, build: bool) -> bool:
    """Say what the machine is and see to the core; whether the steps make sense."""
    report = [sys.executable, str(ROOT / "scripts" / "gpu_report.py"), "environment"]
    since = record.size()
    status, why = run(record, report, min(90, clock.left()))
    said = record.tail(since)
    found = said[said.find("{") : said.rfind("}") + 1]
    try:
        machine = json.loads(found)
    except ValueError:
        machine = {"said": said}
    lacks = why or (said.strip().splitlines() or [""])[-1] if status != 0 else ""
    record.add(
        f"== machine {lacks or machine.get('device', '')}",
        step="machine",
        outcome=lacks or "ok",
        machine=machine,
    )
    if not build:
        return True
    since = record.size()
    status, why = run(
        record, [sys.executable, str(ROOT / "scripts" / "gpu_module.py")], min(420, clock.left() - 60)
    )
    last = (record.tail(since).strip().splitlines() or [""])[-1]
    outcome = "ok" if status == 0 else why or last
    entry = {} if status == 0 else {"said": record.tail(since)}
    record.add(f"== module {last}", step="module", outcome=outcome, **entry)
    return status == 0


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(
        prog="gpu_check.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=STEPS)
    parser.add_argument("steps", nargs="*", metavar="STEP", help="only these steps of the command")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for everything (default {SECONDS})")
    parser.add_argument("--out", type=Path, default=Path("build/gpu-check"), help="folder of the results")
    parser.add_argument(
        "--each", type=float, default=1e9, help="seconds that one test may take, at most its step's"
    )
    parser.add_argument(
        "-k", action="append", default=[], dest="more", metavar="EXPRESSION", help="of the tests"
    )
    parser.add_argument("--no-build", action="store_true", help="take the core that is there, whatever it is")
    parser.add_argument("--dry-run", action="store_true", help="say what would run")
    args = parser.parse_args()
    steps = [step for step in STEPS[args.command] if not args.steps or step.name in args.steps]
    unknown = set(args.steps) - {step.name for step in steps}
    if unknown:
        names = ", ".join(step.name for step in STEPS[args.command])
        parser.error(f"'{unknown.pop()}' is no step of {args.command}; the steps are: {names}")
    if args.dry_run:
        for step in steps:
            front, _ = wrapper(step.tool, Path(f"{step.name}.csv"))
            print(f"{step.name:<20} {step.seconds:4.0f} s  {' '.join([*front, 'pytest', *step.arguments])}")
        return
    clock = Clock(args.seconds)
    out = args.out.resolve()
    os.chdir(ROOT)
    work = ROOT / "build" / "gpu-work"
    work.mkdir(parents=True, exist_ok=True)
    golden = gpu_module.BUNDLE / "golden"
    if golden.exists():
        os.environ.setdefault("FACETALK_GOLDEN", str(golden))
    site = work / "site"
    put = gpu_module.unpack_wheels(site)
    paths = [str(ROOT), *([str(site)] if put else []), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    record = Record(out / f"{args.command}.jsonl", out / f"{args.command}.log")
    commit = os.environ.get("FACETALK_COMMIT") or gpu_report.output("git", "rev-parse", "HEAD") or "unknown"
    sources = gpu_module.digest(bindings=True)
    record.add(command=args.command, commit=commit, sources=sources, seconds=args.seconds, wheels=put)
    ready = prepare(record, clock, not args.no_build)
    bad = not ready
    for step in steps:
        left = clock.left() - 10
        if not ready or left < max(LEAST_S, min(step.needs, args.seconds / 4)):
            outcome = "left out: " + ("there is no core" if not ready else f"{max(0, left):.0f} s are left")
            record.add(f"== {step.name}: {outcome}", step=step.name, outcome=outcome)
        else:
            print(f"== {step.name}", flush=True)
            outcome = run_step(record, step, min(step.seconds, left), work, args.more, args.each)
        bad = bad or outcome != "ok"
    record.add(
        f"== {args.command} ended with {clock.left():.0f} s left: {out / f'{args.command}.jsonl'}", ended=True
    )
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
