"""Compiles the CUDA sources as the wheel does, with warnings as errors, and holds each kernel to its budget.

    python scripts/check_cuda_build.py                 # all architectures of the default list
    python scripts/check_cuda_build.py --archs "90a"   # one, for a quick look
    python scripts/check_cuda_build.py --log FILE      # what a build with FACETALK_CUDA_LOG said
    python scripts/check_cuda_build.py --only field    # only the sources with "field" in their names
    python scripts/check_cuda_build.py --update        # write csrc/cuda/budget.json anew; read the diff

The budget has, for each kernel, the registers a thread may use on each architecture, the bytes it may
spill to local memory (none, unless stated) and its static shared memory. A kernel over its budget, without
one, or gone from the sources fails. ptxas differs between releases of nvcc, so registers are held to the
budget only by the release that wrote it; spills always are, within 32 bytes.

It also fails where ptxas could not compile warpgroup kernels as they are written: products one after the
other (C7510), registers that do not move (C7508). scripts/sass.py looks at their machine code, where nvdisasm
is.
"""

import argparse
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUDGET = ROOT / "csrc" / "cuda" / "budget.json"
SPILL_SLACK = 32  # bytes, between releases of nvcc


@dataclass(frozen=True)
class Usage:
    """What ptxas says of one kernel on one architecture."""

    kernel: str  # mangled
    arch: str
    registers: int
    spill_bytes: int  # stored and loaded
    shared_bytes: int  # static


def parse(report: str) -> Iterator[Usage]:
    """Yield the usage of every kernel in the output of `nvcc -Xptxas -v`."""
    entry = re.compile(
        r"Compiling entry function '(?P<kernel>[^']+)' for 'sm_(?P<arch>\w+)'"
        r".*?(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads"
        r".*?Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
        re.S,
    )
    for found in entry.finditer(report):
        shared = re.search(r"(\d+) bytes smem", found["rest"])
        yield Usage(
            found["kernel"],
            found["arch"],
            int(found["registers"]),
            int(found["stores"]) + int(found["loads"]),
            int(shared[1]) if shared else 0,
        )


def concessions(report: str) -> list[str]:
    """What ptxas could not do with warpgroup products (C7510) or setmaxnreg (C7508), a line each."""
    lines = [line.strip() for line in report.splitlines()]
    said = re.compile(r"\(C75\d\d\)|wgmma\S* (instructions )?(are|is) serialized|setmaxnreg.* ignored", re.I)
    return list(dict.fromkeys(line for line in lines if said.search(line)))


def demangle(names: list[str]) -> dict[str, str]:
    """Map mangled names to readable ones, without arguments and nvcc's hash of the file's path."""
    tool = shutil.which("cu++filt") or shutil.which("c++filt")
    if tool is None:
        sys.exit("error: neither cu++filt nor c++filt is on PATH (binutils has the latter)")
    done = subprocess.run([tool], input="\n".join(names), capture_output=True, text=True, check=True)
    readable = {}
    for name, text in zip(names, done.stdout.splitlines(), strict=True):
        text = (
            text.removeprefix("void ").replace("(anonymous namespace)::", "").replace("facetalk::cuda::", "")
        )
        readable[name] = text[: _arguments_at(text)]
    return readable


def _arguments_at(text: str) -> int:
    """Where the parameter list begins: the parenthesis that matches the last one."""
    depth = 0
    for at in range(len(text) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(text[at], 0)
        if depth == 0:
            return at
    return len(text)


def compile_sources(archs: str, only: str, build: Path, jobs: int) -> tuple[str, str]:
    """Configure with CMake, run its own command for every .cu file; return what was said, and nvcc's release.

    Exits with the compiler's words when one fails.
    """
    import pybind11

    configure = [
        "cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", "-DFACETALK_CUDA=on", f"-DFACETALK_CUDA_ARCHS={archs}",
        "-DFACETALK_WERROR=ON", "-DFACETALK_PTXAS_REPORT=ON",
    ]  # fmt: skip
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(configure, capture_output=True, text=True, env=os.environ | {"PATH": tools})
    if done.returncode != 0:
        sys.exit(f"error: CMake does not configure\n{done.stdout}{done.stderr}")
    version = re.search(r"CMAKE_CUDA_COMPILER_VERSION \"([\d.]+)\"", _compiler_file(build))
    commands = json.loads((build / "compile_commands.json").read_text())

    chosen = [
        command
        for command in commands
        if command["file"].endswith(".cu") and only in Path(command["file"]).name
    ]

    def run(command: dict[str, str]) -> str:
        output = build / "objects" / (Path(command["file"]).name + ".o")
        output.parent.mkdir(exist_ok=True)
        line = re.sub(r" -o \S+", f" -o {output}", command["command"])
        begin = time.monotonic()
        result = subprocess.run(line, shell=True, cwd=command["directory"], capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(f"error: {command['file']} does not compile\n{result.stdout}{result.stderr}")
        name = Path(command["file"]).name
        print(f"{name}: compiled in {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
        return result.stdout + result.stderr

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return "\n".join(pool.map(run, chosen)), version[1] if version else "unknown"


def read_log(path: Path) -> tuple[str, str]:
    """Return what was said during a build, and the release of the nvcc on PATH.

    Exits when the file has no word of ptxas.
    """
    try:
        said = path.read_text()
    except OSError as error:
        sys.exit(f"error: {path}: {error.strerror}")
    if next(parse(said), None) is None:
        sys.exit(f"error: {path}: no report of ptxas; build with FACETALK_CUDA_LOG={path}")
    asked = subprocess.run([os.environ.get("CUDACXX", "nvcc"), "--version"], capture_output=True, text=True)
    version = re.search(r"V([\d.]+)", asked.stdout)
    return said, version[1] if version else "unknown"


def machine_code() -> list[str]:
    """What scripts/sass.py finds wrong with the warpgroup kernels; a note where nvdisasm is missing."""
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "sass.py")], capture_output=True, text=True)
    print(
        (done.stdout + done.stderr).replace("error: no nvdisasm", "machine code not looked at: no nvdisasm"),
        end="",
    )
    lines = [line.removeprefix("error: ") for line in done.stdout.splitlines() if line.startswith("error: ")]
    return lines or (
        [] if done.returncode == 0 or "no nvdisasm" in done.stderr else ["scripts/sass.py failed"]
    )


def _compiler_file(build: Path) -> str:
    return "".join(path.read_text() for path in build.glob("CMakeFiles/*/CMakeCUDACompiler.cmake"))


def budget_of(
    usages: list[Usage], version: str, before: dict[str, Any], *, partial: bool = False
) -> dict[str, Any]:
    """The budget that the usages need.

    Architectures that were not compiled keep what they had, and so do other kernels where `partial`.
    """
    names = demangle([usage.kernel for usage in usages])
    compiled = {usage.arch for usage in usages}
    others = before.get("kernels", {}) if partial else {}
    kernels = {name: kernel for name, kernel in others.items() if name not in names.values()}
    for usage in sorted(usages, key=lambda u: (names[u.kernel], int(u.arch.rstrip("af")))):
        name = names[usage.kernel]
        kernel = kernels.setdefault(name, {"registers": {}, "shared_bytes": 0})
        for key in ("registers", "spill_bytes"):
            old = before.get("kernels", {}).get(name, {}).get(key, {})
            kept = {arch: value for arch, value in old.items() if arch not in compiled}
            if kept:
                kernel[key] = kept | kernel.get(key, {})
        # One kernel may be compiled in several files.
        kernel["registers"][usage.arch] = max(usage.registers, kernel["registers"].get(usage.arch, 0))
        kernel["shared_bytes"] = max(kernel["shared_bytes"], usage.shared_bytes)
        if usage.spill_bytes:
            spills = kernel.setdefault("spill_bytes", {})
            spills[usage.arch] = max(usage.spill_bytes, spills.get(usage.arch, 0))
    return {"nvcc": ".".join(version.split(".")[:2]), "kernels": dict(sorted(kernels.items()))}


def text_of(budget: dict[str, Any]) -> str:
    """JSON with one kernel a line, so that a change of one shows as one."""
    lines = [f"  {json.dumps(name)}: {json.dumps(kernel)}" for name, kernel in budget["kernels"].items()]
    return f'{{\n "nvcc": {json.dumps(budget["nvcc"])},\n "kernels": {{\n' + ",\n".join(lines) + "\n }\n}\n"


def problems(
    usages: list[Usage], version: str, budget: dict[str, Any], *, partial: bool = False
) -> Iterator[str]:
    """Yield a line for every kernel that does not keep its budget."""
    names = demangle([usage.kernel for usage in usages])
    same_release = version.split(".")[:2] == str(budget["nvcc"]).split(".")[:2]
    for usage in usages:
        name = names[usage.kernel]
        kernel = budget["kernels"].get(name)
        if kernel is None:
            yield f"{name}: has no budget; run scripts/check_cuda_build.py --update"
            continue
        registers = kernel["registers"].get(usage.arch)
        if same_release and registers is not None and usage.registers > registers:
            yield f"{name} on sm_{usage.arch}: {usage.registers} registers, the budget is {registers}"
        spills = kernel.get("spill_bytes", {}).get(usage.arch, 0)
        if usage.spill_bytes > spills + (0 if same_release else SPILL_SLACK):
            yield f"{name} on sm_{usage.arch}: spills {usage.spill_bytes} bytes, the budget is {spills}"
        if same_release and usage.shared_bytes > kernel["shared_bytes"]:
            yield (
                f"{name} on sm_{usage.arch}: {usage.shared_bytes} bytes of static shared memory, "
                f"the budget is {kernel['shared_bytes']}"
            )
    for name in sorted(set(budget["kernels"]) - set(names.values())) if not partial else []:
        yield f"{name}: has a budget but is no more; run scripts/check_cuda_build.py --update"


def main() -> None:
    """Compile, compare, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--archs", default="", help='such as "80;90a"; default: the list in CMakeLists.txt')
    parser.add_argument("--only", default="", metavar="TEXT", help="only sources with this in their names")
    parser.add_argument("--log", type=Path, help="read what a build said instead of compiling")
    parser.add_argument("--build", type=Path, help="folder to build in; default: a temporary one")
    parser.add_argument(
        "--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="compilers at a time"
    )
    parser.add_argument("--update", action="store_true", help="write the budget instead of checking it")
    parser.add_argument("--report", type=Path, help="also write what was found there, as a budget file")
    args = parser.parse_args()
    if (
        shutil.which("nvcc") is None
        and "CUDACXX" not in os.environ
        and not Path("/usr/local/cuda/bin/nvcc").exists()
    ):
        sys.exit("error: no nvcc: put it on PATH or set CUDACXX")
    before = json.loads(BUDGET.read_text()) if BUDGET.exists() else {"nvcc": "", "kernels": {}}
    if args.log:
        said, version = read_log(args.log)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            build = (args.build or Path(scratch)).resolve()
            build.mkdir(parents=True, exist_ok=True)
            said, version = compile_sources(args.archs, args.only, build, args.jobs)
    usages = list(parse(said))
    if not usages:
        sys.exit(f"error: no kernel is in a .cu file with '{args.only}' in its name")
    found = budget_of(usages, version, before, partial=bool(args.only))
    for path in [*([BUDGET] if args.update else []), *([args.report] if args.report else [])]:
        path.write_text(text_of(found))
    spilling = [name for name, kernel in found["kernels"].items() if kernel.get("spill_bytes")]
    archs = sorted({usage.arch for usage in usages}, key=lambda arch: int(arch.rstrip("af")))
    compiled = f"{len(found['kernels'])} kernels for sm_{', sm_'.join(archs)} by nvcc {version}"
    print(f"{compiled}, {len(spilling)} spill: {', '.join(spilling) or 'none'}")
    wrong = [] if args.update else list(problems(usages, version, before, partial=bool(args.only)))
    wrong += [f"ptxas: {line}" for line in concessions(said)]
    if "90a" in archs and any("wgmma" in usage.kernel for usage in usages):
        wrong += machine_code()
    for line in wrong:
        print(f"error: {line}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
