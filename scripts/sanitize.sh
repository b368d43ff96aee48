#!/usr/bin/env bash
# The compiled core under the sanitizers of addresses, undefined behaviour and threads.
#
#   scripts/sanitize.sh          the pool under TSan; the GPU's kernels, emulated, under UBSan; the rasteriser's guards,
#                                the C library, tests/ops and every operation's fuzz target under ASan and UBSan
#   scripts/sanitize.sh --quick  the same, bounded: fewer examples, minutes of tests and fuzzing
#
# PYTHON is the interpreter that has the test tools (default .venv/bin/python). Needs g++ with its sanitizer libraries.
# Builds in build/sanitize and touches nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-.venv/bin/python}"
quick="${1:-}"
out="$PWD/build/sanitize"
mkdir -p "$out"
section() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

section "TSan: the thread pool"
"${CXX:-g++}" -std=c++20 -O1 -g -fsanitize=thread -Icsrc -pthread \
  tests/sanitize/pool.cpp csrc/cpu/{parallel,threads}.cpp csrc/core/platform/process_posix.cpp -o "$out/pool"
# TSan wants its addresses where the kernel's randomisation may put something else.
setarch -R true 2>/dev/null && fixed="setarch -R" || fixed=""
TSAN_OPTIONS="halt_on_error=1" $fixed "$out/pool"

section "ASan and UBSan: the rasteriser's last guards"
guard="-fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all"
"${CXX:-g++}" -std=c++20 -O1 -g $guard -Icsrc -pthread \
  tests/sanitize/raster.cpp csrc/cpu/raster/{raster,shade}.cpp csrc/cpu/{parallel,threads}.cpp csrc/core/platform/process_posix.cpp -o "$out/raster"
"$out/raster"

section "UBSan: the GPU's kernels on the host"
# What is undefined on the host is wrong on a GPU too. Each entry file once, and each kernel of it; all shapes when
# there is time.
kernels=(tests/cuda/test_machine.py tests/cuda/test_machine_hopper.py tests/cuda/test_marching_cubes.py
  tests/cuda/test_normals.py tests/cuda/test_attention.py tests/cuda/test_attention_backward.py
  tests/cuda/test_field.py tests/cuda/test_field_band.py tests/cuda/test_field_guided.py
  tests/cuda/test_field_hopper.py tests/cuda/test_field_invert.py)
if [ "$quick" = --quick ]; then
  some="test_machine or test_normals or level_bounds or bricks_give_the_mesh or scales_of_any_sign or nothing_to_do"
  some+=" or queries_that_see_nothing or strides_and_order or numbers_of_points or mononphm_neighbours"
  some+=" or (errs_at_most_twice_what_torch_errs and not sm_80) or opposite_sign or nothing_inside or lookups_are"
  some+=" or every_root"
  kernels+=(-k "$some")
fi
CXX="${CXX:-g++} -fsanitize=undefined,float-cast-overflow -fno-sanitize=vptr -fno-sanitize-recover=all -g1" \
  UBSAN_OPTIONS="print_stacktrace=1" OMP_NUM_THREADS=1 \
  "$python" -m pytest -p no:cacheprovider -q -x "${kernels[@]}"

section "ASan and UBSan: build"
flags="-g1 -O1 -fno-omit-frame-pointer -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all"
# A build type that CMake does not know adds no flags of its own. The log of a CUDA build that the caller asked for
# is of another build, and would be overwritten by this one.
CXXFLAGS="$flags" LDFLAGS="-fsanitize=address,undefined" FACETALK_CUDA=off FACETALK_BUILD_TYPE=Sanitize \
  FACETALK_BUILD_DIR="$out/cmake" env -u FACETALK_CUDA_LOG "$python" setup.py --quiet build --build-base "$out/base" --build-lib "$out/lib" \
  >"$out/build.log" 2>&1 || { tail -30 "$out/build.log"; exit 1; }

section "ASan and UBSan: the C library"
"${CC:-gcc}" -g -O1 -fsanitize=address,undefined -I"$out/lib/facetalk/include" tests/sanitize/runtime.c \
  -L"$out/lib/facetalk/lib" "-Wl,-rpath,$out/lib/facetalk/lib" -lfacetalk -lm -o "$out/runtime"
UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1" "$out/runtime" facetalk/models/default tests/golden/nphm_tiny

# Python itself is not instrumented, so the libraries have to be there first; what it never frees is not ours.
compiler="${CXX:-g++}"
export LD_PRELOAD="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libstdc++.so)"
export ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=4096"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1"
export PYTHONPATH="$out/lib" OMP_NUM_THREADS=2 MKL_NUM_THREADS=1

section "ASan and UBSan: tests/ops, and the C library's hostile callers"
native=(tests/native/test_hostile.py tests/native/test_options.py tests/native/test_native_tongue.py
  tests/native/test_native_style.py tests/native/test_native_pose.py tests/native/test_hostile_whisper.py)
tests=(tests/ops "${native[@]}")
if [ "$quick" = --quick ]; then
  # Memory and arithmetic rather than the many random shapes of the comparisons with the references.
  tests=(tests/ops/test_raster.py tests/ops/test_arrays.py tests/ops/field/test_cpu.py "${native[@]}" -k "not costs and not larger_than_any_memory and not pieces and not baked and not minutes and not constants and not anything_at and not memory_is and not followed_unasked and not nobody_pulls")
fi
# -P: not the checkout's own package, which is not instrumented.
# Not by tee to /dev/stderr, which empties the file that a log is.
loaded="$("$python" -P -c "from facetalk.ops._extension import load; print(load().__file__)")"
echo "$loaded"
[[ "$loaded" == "$out/"* ]]
"$python" -P -m pytest -p no:cacheprovider -q -x --deselect tests/ops/test_arrays.py::test_results_larger_than_any_memory \
  --ignore tests/ops/test_parallel.py "${tests[@]}"

section "ASan and UBSan: fuzzing"
operations=(marching_cubes attention normals raster field_query field_grid field_invert field_band canonical_cache glb)
limit=(--iterations 5000)
if [ "$quick" = --quick ]; then limit=(--iterations 150); fi
FACETALK_FUZZ_UNLIMITED=1 FACETALK_FUZZ_PATIENCE=10 "$python" scripts/fuzz.py \
  --targets "${operations[@]}" "${limit[@]}" --seed 2 --json "$out/fuzz-$(date +%s).json"
section "clean"
