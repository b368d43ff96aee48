"""What the build says of itself: machine code for the configured GPUs, and kernels within their budget."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import check_cuda_build
import fatbin
import pytest
import sass

from facetalk.ops._extension import load

MOST_BYTES = 60 * 2**20


def test_module_has_machine_code_for_the_configured_gpus():
    archs = load().build_info()["cuda_archs"]
    if not archs:
        pytest.skip(f"built without CUDA: {load().build_info()['missing'].get('cuda')}")
    module = Path(load().__file__)
    newest = max(int(arch.rstrip("af")) for arch in archs)
    found = {target for target in fatbin.images(module) if target.startswith("sm_")}
    assert found == {f"sm_{arch}" for arch in archs}
    # Of the newest also PTX, which later GPUs compile themselves, and of no other.
    assert {target for target in fatbin.images(module) if target.startswith("compute_")} == {
        f"compute_{newest}"
    }
    assert module.stat().st_size < MOST_BYTES


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc to make a module whose targets are known")
def test_fat_binaries_are_read_right(tmp_path):
    source = tmp_path / "one.cu"
    source.write_text(
        "__global__ void one(float* out) { *out = 1; }\nvoid run(float* out) { one<<<1, 1>>>(out); }\n"
    )
    codes = [f"arch=compute_{arch},code=sm_{arch}" for arch in ("80", "90a", "100f")]
    codes.append("arch=compute_90,code=[sm_90,compute_90]")
    target = tmp_path / "one.so"
    flags = [part for code in codes for part in ("-gencode", code)]
    subprocess.run(["nvcc", "-shared", "-Xcompiler=-fPIC", *flags, source, "-o", target], check=True)
    assert set(fatbin.images(target)) == {"sm_80", "sm_90", "sm_90a", "sm_100f", "compute_90"}
    wheel = tmp_path / "one.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(target, "facetalk/_C.one.so")
        archive.write(__file__, "facetalk/lib/libfacetalk.so")  # a library beside it is not looked at
    assert fatbin.images(wheel) == fatbin.images(target)

    def check(*arguments: object) -> int:
        command = [sys.executable, fatbin.__file__, *map(str, arguments), wheel]
        return subprocess.run(command, capture_output=True).returncode

    assert check("--need", "80,90", "--most-mib", 60) == 0
    assert check("--need", "80,89") == 1
    assert check("--most-mib", 0.001) == 1


def test_files_that_are_no_modules(tmp_path):
    file = tmp_path / "text.so"
    file.write_text("no module at all")
    with pytest.raises(ValueError, match="ELF"):
        fatbin.images(file)
    wheel = tmp_path / "empty.whl"
    with zipfile.ZipFile(wheel, "w"):
        pass
    with pytest.raises(ValueError, match=r"expected one facetalk/_C module, found 0"):
        fatbin.images(wheel)


REPORT = """
ptxas info    : Overriding maximum register limit 256 for '_Z5firstPf' with 128 of maxrregcount option
ptxas info    : Compiling entry function '_ZN8facetalk4cuda4scanIfEEvPT_' for 'sm_90a'
ptxas info    : Function properties for _ZN8facetalk4cuda4scanIfEEvPT_
    8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 88 registers, used 1 barriers, 8 bytes cumulative stack size, 4096 bytes smem
ptxas info    : Compile time = 21.171 ms
ptxas info    : Compiling entry function '_ZN8facetalk4cuda12_GLOBAL__N_16secondEv' for 'sm_90a'
ptxas info    : Function properties for _ZN8facetalk4cuda12_GLOBAL__N_16secondEv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 16 registers, used 0 barriers, 592 bytes cmem[0]
"""


@pytest.fixture
def usages():
    if shutil.which("c++filt") is None:
        pytest.skip("no c++filt to read kernels' names")
    return list(check_cuda_build.parse(REPORT))


def test_log_of_a_build_is_read(tmp_path, usages, monkeypatch):
    log, nvcc = tmp_path / "build.log", tmp_path / "nvcc"
    log.write_text(f"[1/2] Building CUDA object one.cu.o\n{REPORT}[2/2] Linking\n")
    nvcc.write_text("#!/bin/sh\necho Cuda compilation tools, release 13.0, V13.0.88\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("CUDACXX", str(nvcc))
    said, release = check_cuda_build.read_log(log)
    assert list(check_cuda_build.parse(said)) == usages and release == "13.0.88"
    log.write_text("[1/2] Building CUDA object one.cu.o\n")
    with pytest.raises(SystemExit, match="no report of ptxas"):
        check_cuda_build.read_log(log)
    with pytest.raises(SystemExit, match="No such file"):
        check_cuda_build.read_log(tmp_path / "nothing")


LOSS = "ptxas info    : ({}) Potential Performance Loss: {}"
SERIALISED = (
    LOSS.format("C7510", "wgmma.mma_async instructions are serialized due to non wgmma instructions"),
    LOSS.format("C7508", "'setmaxnreg' ignored to maintain minimum register requirements."),
    "ptxas info    : Used 168 registers, used 8 barriers",
)


def test_concessions_of_ptxas_to_warpgroup_kernels_are_seen():
    assert check_cuda_build.concessions(REPORT) == []
    found = check_cuda_build.concessions("\n".join(SERIALISED))
    assert ["C7510" in found[0], "C7508" in found[1], len(found)] == [True, True, 2]


# As nvdisasm writes it. A warp that waits jumps out of its branch and back; the other has fewer registers.
LISTING = """
	.section	.text._Z5wgmmav,"ax",@progbits
.text._Z5wgmmav:
        /*0000*/                   S2R R24, SR_TID.X ;
        /*0010*/              @!P0 BRA `(.L_other) ;
        /*0020*/                   USETMAXREG.TRY_ALLOC.CTAPOOL UP0, 0xf0 ;
        /*0030*/                   HGMMA.64x256x16.F32 R24, gdesc[UR20], RZ, !UPT ;
        /*0040*/               @P0 BRA `(.L_wait) ;
.L_back:
        /*0050*/                   FADD R200, R24, R151 ;
        /*0060*/                   EXIT ;
.L_other:
        /*0070*/                   USETMAXREG.DEALLOC.CTAPOOL 0x18 ;
        /*0080*/                   LDS.128 R20, [R8] ;
        /*0090*/                   EXIT ;
.L_wait:
        /*00a0*/                   IADD3 R230, R230, 0x1, RZ ;
        /*00b0*/                   BRA `(.L_back) ;
	.section	.nv.shared._Z5wgmmav,"aw",@nobits
"""


def test_machine_code_of_a_warpgroup_kernel_is_read():
    (kernel,) = sass.functions(LISTING)
    assert kernel.name == "_Z5wgmmav" and len(kernel.instructions) == 12
    assert sass.report(kernel) == "12 instructions, 1 HGMMA, 231 of 240 registers, 24 of 24 registers"
    assert list(sass.problems(kernel)) == []

    def found(before, after):
        (changed,) = sass.functions(LISTING.replace(before, after))
        return list(sass.problems(changed))

    assert "has no HGMMA" in found("HGMMA.64x256x16.F32", "HMMA.16816.F32")[0]
    assert (
        "local memory: 1 instructions such as 'STL [R1], R3'"
        in found("FADD R200, R24, R151", "STL [R1], R3")[0]
    )
    assert "register R240 behind a setmaxnreg of 240" in found("R230", "R240")[0]
    assert "register R24 behind a setmaxnreg of 24" in found("LDS.128 R20", "LDS.128 R21")[0]
    assert "ptxas left it out" in found("USETMAXREG", "NOP")[0]


@pytest.mark.skipif(
    shutil.which("nvcc") is None or sass.find_nvdisasm() is None, reason="no nvcc, or no nvdisasm"
)
def test_warpgroup_kernels_keep_what_their_machine_code_promises(tmp_path):
    cubin = tmp_path / "wgmma.cubin"
    sass.compile_cubin(sass.SOURCE, cubin, "nvcc")
    kernels = sass.functions(sass.listing_of(cubin, sass.find_nvdisasm()))
    assert len(kernels) == 2 and all("wgmma" in kernel.name for kernel in kernels)
    assert [list(sass.problems(kernel)) for kernel in kernels] == [[], []]


def test_report_of_ptxas_is_read(usages):
    first, second = usages
    assert (first.arch, first.registers, first.spill_bytes, first.shared_bytes) == ("90a", 88, 28, 4096)
    assert (second.registers, second.spill_bytes, second.shared_bytes) == (16, 0, 0)
    assert list(check_cuda_build.demangle([u.kernel for u in usages]).values()) == ["scan<float>", "second"]


def test_budget_holds_what_it_was_made_from_and_nothing_more(usages):
    budget = check_cuda_build.budget_of(usages, "13.0.88", {})
    assert budget["kernels"]["scan<float>"] == {
        "registers": {"90a": 88},
        "shared_bytes": 4096,
        "spill_bytes": {"90a": 28},
    }
    assert json.loads(check_cuda_build.text_of(budget)) == budget
    assert list(check_cuda_build.problems(usages, "13.0.99", budget)) == []

    def found(version="13.0.88", **changes):
        changed = json.loads(json.dumps(budget))
        changed["kernels"]["scan<float>"] |= changes
        return list(check_cuda_build.problems(usages, version, changed))

    assert "88 registers, the budget is 80" in found(registers={"90a": 80})[0]
    assert "4096 bytes of static shared memory" in found(shared_bytes=4000)[0]
    assert "spills 28 bytes, the budget is 20" in found(spill_bytes={"90a": 20})[0]
    # Another release of nvcc may take other registers, and spill a little more, not much.
    assert found("13.1.5", registers={"90a": 80}, spill_bytes={"90a": 0}) == []
    monster = [check_cuda_build.Usage(u.kernel, u.arch, 255, 400, 0) for u in usages]
    assert len(list(check_cuda_build.problems(monster, "13.1.5", budget))) == 2


def test_kernels_without_budget_and_budgets_without_kernel(usages):
    budget = check_cuda_build.budget_of(usages[:1], "13.0.88", {})
    assert [
        "second: has no budget" in line for line in check_cuda_build.problems(usages, "13.0", budget)
    ] == [True]
    (line,) = check_cuda_build.problems(usages[1:], "13.0", check_cuda_build.budget_of(usages, "13.0", {}))
    assert "scan<float>: has a budget but is no more" in line


def test_budget_keeps_architectures_that_were_not_compiled(usages):
    before = {"kernels": {"second": {"registers": {"80": 20, "90a": 99}, "shared_bytes": 0}}}
    after = check_cuda_build.budget_of(usages, "13.0.88", before)
    assert after["kernels"]["second"]["registers"] == {"80": 20, "90a": 16}


def test_looking_at_some_sources_leaves_the_others_alone(usages):
    budget = check_cuda_build.budget_of(usages, "13.0.88", {})
    assert list(check_cuda_build.problems(usages[1:], "13.0", budget, partial=True)) == []
    assert check_cuda_build.budget_of(usages[1:], "13.0.88", budget, partial=True) == budget


def test_committed_budget_is_for_every_architecture():
    kernels = json.loads(check_cuda_build.BUDGET.read_text())["kernels"]
    archs = {"80", "86", "89", "90a", "100", "120"}
    assert kernels and all(set(kernel["registers"]) == archs for kernel in kernels.values())
