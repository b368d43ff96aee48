"""What the commands for GPU machines read and carry: lines of results, reports of tools, the bundle."""

import gzip
import json
import re
import sys
import tarfile
from pathlib import Path

import gpu_bundle
import gpu_isolate
import gpu_module
import gpu_report
import gpu_run
import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_a_line_that_is_not_whole_yet_is_read_when_it_is(tmp_path):
    path = tmp_path / "lines"
    tail = gpu_run.Tail(path)
    assert list(tail.new()) == []
    path.write_text('{"a": 1}\n{"a": ')
    assert list(tail.new()) == [{"a": 1}]
    with path.open("a") as file:
        file.write('2}\nno json\n[1]\n{"a": 3}\n')
    assert list(tail.new()) == [{"a": 2}, {"a": 3}]
    assert gpu_isolate.lines(str(path)) == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_a_bundle_of_other_sources_or_cut_off_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_module, "BUNDLE", tmp_path)
    assert gpu_module.bundle()[0] is None
    for name in gpu_module.PARTS:
        (tmp_path / name).write_bytes(b"1234")
    manifest = {"sources": gpu_module.digest(bindings=False), "archs": "90a",
                "bytes": dict.fromkeys(gpu_module.PARTS, 4)}  # fmt: skip
    (tmp_path / gpu_module.MANIFEST).write_text(json.dumps(manifest))
    assert gpu_module.bundle() == (manifest, "")
    configure, *_ = gpu_module.commands(2)
    assert f"-DFACETALK_PREBUILT={gpu_module.PREBUILT}" in configure
    assert "-DFACETALK_CUDA_ARCHS=90a" in configure
    (tmp_path / gpu_module.PARTS[0]).write_bytes(b"12")
    assert "cut off" in gpu_module.bundle()[1]
    (tmp_path / gpu_module.MANIFEST).write_text(json.dumps(manifest | {"sources": "others"}))
    assert "other sources" in gpu_module.bundle()[1]
    (tmp_path / gpu_module.MANIFEST).write_text('{"sources"')
    assert "no bundle" in gpu_module.bundle()[1]


def test_what_the_bundle_has_is_put_in_its_place(tmp_path, monkeypatch):
    bundle, place = tmp_path / "bundle", tmp_path / "facetalk" / "lib" / "libfacetalk.so"
    bundle.mkdir()
    monkeypatch.setattr(gpu_module, "BUNDLE", bundle)
    monkeypatch.setattr(gpu_module, "C_LIBRARY", place)
    monkeypatch.setattr(gpu_module, "PREBUILT", tmp_path / "prebuilt")
    gpu_module.unpack_archive()
    assert not (tmp_path / "prebuilt").exists()
    for name in gpu_module.PARTS:
        (bundle / name).write_bytes(gzip.compress(name.encode()))
    sizes = {name: (bundle / name).stat().st_size for name in gpu_module.PARTS}
    manifest = {"sources": gpu_module.digest(bindings=False), "archs": "90a", "bytes": sizes}
    (bundle / gpu_module.MANIFEST).write_text(json.dumps(manifest))
    for _ in range(2):
        gpu_module.put_library()
        assert place.read_bytes() == b"libfacetalk.so.gz"
    gpu_module.unpack_archive()
    assert {file.name: file.read_bytes() for file in (tmp_path / "prebuilt").iterdir()} == {
        "libfacetalk_core.a": b"libfacetalk_core.a.gz", "libcudart_static.a": b"libcudart_static.a.gz",
    }  # fmt: skip
    assert (place.parents[1] / "include" / "facetalk.h").read_bytes() == (
        ROOT / "csrc/facetalk.h"
    ).read_bytes()


def test_the_bundle_says_what_travels_and_fails_where_it_is_too_much(tmp_path, monkeypatch, capsys):
    golden, made = tmp_path / "golden", tmp_path / "gpu-bundle"
    (golden / "nphm_official").mkdir(parents=True)
    (golden / "nphm_official" / "config.json").write_bytes(b"x" * 2**20)
    monkeypatch.setenv("FACETALK_GOLDEN", str(golden))
    monkeypatch.setattr(gpu_bundle, "BUNDLE", made)
    monkeypatch.setattr(
        gpu_bundle, "build_core", lambda *_: (made / gpu_bundle.ARCHIVE).write_bytes(b"y" * 2**21)
    )
    monkeypatch.setattr(gpu_bundle, "fetch_wheels", lambda _: None)
    monkeypatch.setattr(gpu_bundle, "tree", lambda: [ROOT / "pyproject.toml"])
    monkeypatch.setattr(sys, "argv", ["gpu_bundle.py", "--tar", str(tmp_path / "all.tar.gz")])
    gpu_bundle.main()
    said = capsys.readouterr().out
    assert "1.00 MiB  gpu-bundle/golden" in said and "2.00 MiB  gpu-bundle/libfacetalk_core.a" in said
    assert "MiB  checkout" in said and re.search(r" 3\.\d\d MiB  travel: the checkout", said)
    with tarfile.open(tmp_path / "all.tar.gz") as archive:
        assert set(archive.getnames()) == {
            "facetalk/pyproject.toml", "facetalk/build/gpu-bundle/libfacetalk_core.a",
            "facetalk/build/gpu-bundle/golden/nphm_official/config.json",
        }  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["gpu_bundle.py", "--most-mib", "2"])
    with pytest.raises(SystemExit, match="more than 2 MiB"):
        gpu_bundle.main()


def test_profiles_are_read(tmp_path):
    path = tmp_path / "ncu.csv"
    path.write_text(
        "==PROF== Connected to process 1\n"
        '"ID","Kernel Name","Grid Size","device__chip",'
        '"gpu__time_duration.sum","launch__registers_per_thread"\n'
        '"","","","","ns","register/thread"\n'
        '"0","facetalk::cuda::mc_pack(facetalk::cuda::McView)","(1,024, 1, 1)","GH100","1,234.5","42"\n'
    )
    assert gpu_report.kernels(path) == [
        {
            "kernel": "facetalk::cuda::mc_pack",
            "grid": "(1,024, 1, 1)",
            "gpu__time_duration.sum [ns]": 1234.5,
            "launch__registers_per_thread [register/thread]": 42.0,
        }
    ]
    path.write_text("==ERROR== no permission\n")
    assert gpu_report.kernels(path) == [] and gpu_report.kernels(tmp_path / "nothing") == []


@pytest.mark.parametrize(
    ("demangled", "name"),
    [
        ("void facetalk::cuda::(anonymous namespace)::mc_pack<true>(facetalk::cuda::McView, unsigned *)",
         "facetalk::cuda::mc_pack<true>"),
        ("void facetalk::cuda::<unnamed>::mc_pack<(bool)1>(int)", "facetalk::cuda::mc_pack<1>"),
        ("void facetalk::cuda::attention_narrow<__half, (int)8>(facetalk::cuda::AttentionTask, unsigned int)",
         "facetalk::cuda::attention_narrow<__half, 8>"),
        ("unnamed>::mc_pack<0>(McView)", "mc_pack<0>"),  # as ncu cuts it
        ("mc_pack(int)", "mc_pack"),
    ],
)  # fmt: skip
def test_kernels_keep_their_names(demangled, name):
    assert gpu_report.kernel_name(demangled) == name


def test_the_runtime_is_that_of_the_compiler_that_was_taken(tmp_path):
    toolkit, build = tmp_path / "cuda", tmp_path / "build"
    (toolkit / "bin").mkdir(parents=True)
    (toolkit / "lib").mkdir()
    with pytest.raises(SystemExit, match="does not say which nvcc"):
        gpu_bundle._runtime(build)
    said = build / "CMakeFiles" / "4.1.0" / "CMakeCUDACompiler.cmake"
    said.parent.mkdir(parents=True)
    said.write_text(f'set(CMAKE_CUDA_COMPILER "{toolkit}/bin/nvcc")\nset(CMAKE_CUDA_HOST_COMPILER "")\n')
    with pytest.raises(SystemExit, match=r"no libcudart_static\.a beside"):
        gpu_bundle._runtime(build)
    (toolkit / "lib" / gpu_module.RUNTIME).write_text("")
    assert gpu_bundle._runtime(build) == toolkit / "lib" / gpu_module.RUNTIME
