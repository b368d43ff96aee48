"""What the compiler made of the warpgroup kernels, read from their machine code: a gate that needs no GPU.

    python scripts/sass.py                      # compiles the kernels for 90a and looks at them
    python scripts/sass.py --cubin FILE         # looks at a file that is there

A kernel that uses wgmma must have its products as HGMMA instructions, no loads from or stores to local
memory, and, in what runs behind each `setmaxnreg`, no register beyond the number that it asks for: there are
none, and a kernel that named one would stop at it. ptxas says none of this in its report. nvdisasm is
NVIDIA's (on PyPI: nvidia-cuda-nvdisasm).
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "csrc" / "cuda" / "field" / "field_mlp_wgmma.cu"
_ARCH = "90a"


@dataclass
class Function:
    """The instructions of a kernel in their order, and where its labels stand among them."""

    name: str  # mangled
    instructions: list[str] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)

    def behind(self, first: int) -> set[int]:
        """The instructions that can run from one on, up to the next that changes the registers' number."""
        seen: set[int] = set()
        left = [first]
        while left:
            at = left.pop()
            while at < len(self.instructions) and at not in seen:
                text = self.instructions[at]
                if "USETMAXREG" in text:
                    break
                seen.add(at)
                # Every label is followed: jumps, and where threads that part will meet again (BSSY).
                left += [
                    self.labels[name] for name in re.findall(r"`\((\.L\w*)\)", text) if name in self.labels
                ]
                if re.fullmatch(r"(EXIT|RET\S*|BRA\S*|JMP\S*|KILL)( \S*\(\.L\w*\))?", text):
                    break  # nothing falls through
                at += 1
        return seen


def functions(listing: str) -> list[Function]:
    """The kernels in what nvdisasm prints of a cubin."""
    found: list[Function] = []
    for line in listing.splitlines():
        if named := re.fullmatch(r"\.text\.(\S+):", line):
            found.append(Function(named[1]))
        elif re.match(r"\s*\.section", line):
            if found and not found[-1].instructions:
                found.pop()
        elif label := re.fullmatch(r"(\.L\w*):", line):
            if found:
                found[-1].labels[label[1]] = len(found[-1].instructions)
        elif (code := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", line)) and found:
            found[-1].instructions.append(" ".join(code[1].replace("{", "").replace("}", "").split()))
    return found


def registers(instructions: Iterator[str]) -> int:
    """One more than the highest register that is used, by name or as the end of a wider result."""
    most = 0
    for text in instructions:
        named = [int(n) for n in re.findall(r"\bR(\d+)\b", text)]
        if not named:
            continue
        width = 1
        if product := re.search(r"\bHGMMA\.64x(\d+)x", text):
            width = int(product[1]) // 2  # sums of a thread
        elif load := re.search(r"^(?:@\S+ )?LD\S*\.(64|128)\b", text):
            width = int(load[1]) // 32
        most = max(most, max(named) + 1, named[0] + width)
    return most


def problems(kernel: Function) -> Iterator[str]:
    """Yield what is wrong with a warpgroup kernel."""
    if not any(re.search(r"\bHGMMA\b", text) for text in kernel.instructions):
        yield "has no HGMMA instruction: its products are not the warpgroup's"
    local = [text for text in kernel.instructions if re.search(r"\b(LDL|STL)\b", text)]
    if local:
        yield f"keeps registers in local memory: {len(local)} instructions such as '{local[0]}'"
    changes = [at for at, text in enumerate(kernel.instructions) if "USETMAXREG" in text]
    if not changes:
        yield "has no setmaxnreg: ptxas left it out"
    for at in changes:
        most = int(re.findall(r"(0x[0-9a-f]+)", kernel.instructions[at])[-1], 16)
        used = registers(kernel.instructions[n] for n in kernel.behind(at + 1))
        if used > most:
            yield f"names register R{used - 1} behind a setmaxnreg of {most}"


def report(kernel: Function) -> str:
    """One line: products, and the registers behind each change of their number."""
    products = sum(bool(re.search(r"\bHGMMA\b", text)) for text in kernel.instructions)
    parts = []
    for at, text in enumerate(kernel.instructions):
        if "USETMAXREG" in text:
            most = int(re.findall(r"(0x[0-9a-f]+)", text)[-1], 16)
            used = registers(kernel.instructions[n] for n in kernel.behind(at + 1))
            parts.append(f"{used} of {most} registers")
    return f"{len(kernel.instructions)} instructions, {products} HGMMA, {', '.join(parts)}"


def find_nvdisasm() -> str | None:
    """nvdisasm on PATH, in CUDA's folder, or as PyPI's package puts it."""
    found = shutil.which("nvdisasm") or shutil.which("nvdisasm", path="/usr/local/cuda/bin")
    if found is None and (spec := importlib.util.find_spec("nvidia")) is not None:
        for folder in spec.submodule_search_locations or ():
            found = found or next((str(p) for p in sorted(Path(folder).glob("*/bin/nvdisasm"))), None)
    return found


def compile_cubin(source: Path, target: Path, nvcc: str) -> None:
    """Machine code of one source for 90a, compiled as CMakeLists.txt does."""
    command = [
        nvcc, "-cubin", "-O3", "-std=c++17", f"-I{ROOT / 'csrc'}", "-DFACETALK_WITH_CUDA=1",
        "-DFACETALK_CUDA_90A=1", "-gencode", f"arch=compute_{_ARCH},code=sm_{_ARCH}", str(source),
        "-o", str(target),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {source} does not compile\n{done.stdout}{done.stderr}")


def listing_of(cubin: Path, nvdisasm: str) -> str:
    """What nvdisasm prints."""
    done = subprocess.run([nvdisasm, str(cubin)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: nvdisasm does not read {cubin}: {done.stderr.strip()}")
    return done.stdout


def main() -> None:
    """Compile, disassemble, look."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--cubin", type=Path, help="machine code to look at instead of compiling")
    args = parser.parse_args()
    nvdisasm = find_nvdisasm()
    if nvdisasm is None:
        sys.exit("error: no nvdisasm: pip install nvidia-cuda-nvdisasm, or put CUDA's on PATH")
    with tempfile.TemporaryDirectory() as scratch:
        cubin = args.cubin or Path(scratch) / "wgmma.cubin"
        if args.cubin is None:
            nvcc = os.environ.get("CUDACXX") or shutil.which("nvcc")
            nvcc = nvcc or shutil.which("nvcc", path="/usr/local/cuda/bin")
            if nvcc is None:
                sys.exit("error: no nvcc: put it on PATH or set CUDACXX")
            compile_cubin(SOURCE, cubin, nvcc)
        kernels = [kernel for kernel in functions(listing_of(cubin, nvdisasm)) if "wgmma" in kernel.name]
    if not kernels:
        sys.exit("error: no warpgroup kernel is in the machine code")
    wrong = 0
    for kernel in kernels:
        print(f"{kernel.name}: {report(kernel)}")
        for line in problems(kernel):
            print(f"error: {kernel.name}: {line}")
            wrong += 1
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
