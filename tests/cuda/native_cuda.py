"""The C library with CUDA, its kernels on the host: what `facetalk_field_*` does on a GPU, without one.

Of the C interface it has fields and meshes, of the CPU's code what those stand on. Functions
`facetalk_emulate_*` (emulate/runtime.h) say how many GPUs there are, when their memory ends, and what fails.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
VERSIONS = ['-DFACETALK_VERSION="0"', '-DFACETALK_CUDA_ARCH_LIST="90a"']
# Sources that are compiled as one: most of the time goes into headers.
TOGETHER = (
    "capi/context capi/field capi/field_device capi/guard capi/memory capi/mesh core/cpu_features "
    "core/field_pack core/marching_cubes_table cpu/field/field cpu/head/extract cpu/head/field_model "
    "cpu/head/slopes cpu/marching_cubes/marching_cubes cpu/network/json cpu/network/safetensors cpu/parallel "
    "cpu/threads",
    "cpu/head/bake cpu/head/distance cpu/surface/canonical_cache cpu/surface/field_band "
    "cpu/surface/field_bricks cpu/surface/field_guided cpu/surface/offset_lattice",
    "core/platform/files_posix core/platform/process_posix",
    "cpu/field/field_baseline", "cpu/marching_cubes/marching_cubes_rows_baseline",
)  # fmt: skip
LEVELS = {
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mf16c"],
}


def compiler() -> list[str] | None:
    """The host's, as a command."""
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    return found.split() if found else None


def build(folder: Path) -> Path:
    """Compile and link it into a folder."""
    cxx = compiler()
    assert cxx is not None
    common = ["-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-DFACETALK_EMULATE_CUDA", f"-I{CSRC}",
              f"-I{HERE}", "-c"]  # fmt: skip
    plain = [*cxx, "-std=c++20", "-O0", *VERSIONS, *common]
    jobs = [[*cxx, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", *common, HERE / "capi_entry.cpp"]]
    groups = list(TOGETHER)
    if os.uname().machine == "x86_64":
        groups += [f"cpu/{name}_{level}" for level in LEVELS
                   for name in ("field/field", "marching_cubes/marching_cubes_rows")]  # fmt: skip
    for number, group in enumerate(groups):
        entry = folder / f"group{number}.cpp"
        entry.write_text("".join(f'#include "{name}.cpp"\n' for name in group.split()))
        jobs.append([*plain, *LEVELS.get(group.rpartition("_")[2], []), entry])
    objects = [folder / f"{number}.o" for number in range(len(jobs))]
    commands = iter([[*job, "-o", out] for job, out in zip(jobs, objects, strict=True)])
    running: list[subprocess.Popen[str]] = []
    for command in itertools.chain(commands, [None]):
        if command is None or len(running) >= (os.cpu_count() or 1):
            for process in running[: 1 if command else None]:
                said = process.communicate()[1]
                if process.returncode != 0:
                    raise RuntimeError(said[:6000])
            running = running[1:] if command else []
        if command is not None:
            running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    target = folder / "libfacetalk_emulated.so"
    link = [*cxx, "-shared", "-static-libstdc++", "-static-libgcc", "-Wl,--no-undefined",
            f"-Wl,--version-script={CSRC}/capi/exports.map"]  # fmt: skip
    subprocess.run([*link, *objects, "-pthread", "-o", target], check=True)
    return target
