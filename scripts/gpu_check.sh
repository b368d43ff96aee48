#!/usr/bin/env bash
# Everything that needs a GPU, on a machine that has one: build, tests, compute-sanitizer, ncu, benchmarks.
#
#   scripts/gpu_check.sh [--dry-run] [--seconds N] [--out FILE] [--work DIR] [--jobs N] [STAGE | STAGE/STEP ...]
#
# Stages, in this order, all of them when none is named; a step alone, as in sanitizer/memcheck, when it is:
#   environment   device, driver, versions, and what is missing to build and test here
#   build         the core in place, for this GPU alone; nothing is fetched
#   tests         the whole test-suite, CUDA tests among it
#   sanitizer     compute-sanitizer memcheck, racecheck and initcheck over the CUDA tests, whose shapes are small
#   profile       ncu over one round of every GPU benchmark: time, memory and tensor-core use of each kernel
#   benchmarks    benchmarks/bench_*_cuda.py
#
# A step that fails is written down and does not stop the others. The result is one JSON file, by default
# benchmarks/results/gpu-check.json, written after every step; steps that are run later on the same commit are added
# to it. Logs stay in the work folder, by default build/gpu-check. With --seconds everything ends by then: a step gets
# what is left, and is interrupted so that it still reports what it has. Exits with 1 when a step failed or was left
# out. FACETALK_COMMIT names the commit where the tree is a copy without history; PYTHON is the interpreter to use.
# shellcheck disable=SC2329  # stages are called by name
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

stages=(environment build tests sanitizer profile benchmarks)
out=benchmarks/results/gpu-check.json
work=build/gpu-check
jobs=$(nproc)
dry_run=""
seconds=""
chosen=()
while [ $# -gt 0 ]; do
  case "$1" in
    --dry-run) dry_run=1 ;;
    --seconds) seconds="${2:?--seconds needs a number}"; shift ;;
    --out) out="${2:?--out needs a file}"; shift ;;
    --work) work="${2:?--work needs a folder}"; shift ;;
    --jobs) jobs="${2:?--jobs needs a number}"; shift ;;
    -h | --help) sed -n '2,/^# shellcheck/{/^# shellcheck/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *)
      case " ${stages[*]} " in
        *" ${1%%/*} "*) chosen+=("$1") ;;
        *) echo "error: '$1' is no stage; the stages are: ${stages[*]}" >&2; exit 2 ;;
      esac
      ;;
  esac
  shift
done
[ ${#chosen[@]} -gt 0 ] || chosen=("${stages[@]}")

python="${PYTHON:-python3}"
# Built in place, not installed: tests start Python elsewhere, too.
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
logs=$work/logs
failed=0
steps=0

# is_chosen STAGE NAME: whether the stage was asked for, or this step of it.
is_chosen() {
  case " ${chosen[*]} " in
    *" $1 "* | *" $1/$2 "*) return 0 ;;
    *) return 1 ;;
  esac
}

# step STAGE NAME SECONDS COMMAND...: runs it, keeps its log, writes down how it went.
step() {
  local stage=$1 name=$2 limit=$3
  shift 3
  is_chosen "$stage" "$name" || return 0
  steps=$((steps + 1))
  if [ -n "$dry_run" ]; then
    printf '%-12s %-24s %4ss  ' "$stage" "$name" "$limit"
    printf '%q ' "$@"
    printf '\n'
    return 0
  fi
  if [ -n "$seconds" ]; then
    # Some seconds for a step that is slow to end, and for the result file.
    local left=$((seconds - SECONDS - 20))
    if [ "$left" -lt 10 ]; then
      printf '== %s: %s is left out, the time is over\n' "$stage" "$name"
      failed=1
      return 0
    fi
    [ "$limit" -le "$left" ] || limit=$left
  fi
  local log="$logs/$stage-$name.log" start=$SECONDS status
  printf '== %s: %s\n' "$stage" "$name"
  # An interrupted pytest still writes its report.
  timeout --signal=INT --kill-after=10 "$limit" "$@" >"$log" 2>&1
  status=$?
  tail -n 3 "$log"
  [ "$status" -eq 0 ] || { failed=1; printf '   failed with status %s, see %s\n' "$status" "$log"; }
  "$python" scripts/gpu_report.py step --work "$work" --stage "$stage" --name "$name" --status "$status" \
    --seconds $((SECONDS - start)) --log "$log" --command "$(printf '%q ' "$@")"
  "$python" scripts/gpu_report.py write --work "$work" --out "$out" >"$logs/write.log" || failed=1
}

stage_environment() {
  step environment nvidia-smi 60 nvidia-smi
  step environment packages 120 "$python" scripts/gpu_report.py environment --work "$work"
}

stage_build() {
  local arch suffix
  arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '. ')
  if [ "$arch" = 90 ]; then arch=90a; fi # the same GPUs, with the field's path for them
  suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
  # CMake itself, not pip: it needs no isolated environment, which could not be filled without a network.
  step build configure 120 cmake -S . -B "$work/cmake" -G Ninja \
    "-DPython_EXECUTABLE=$(command -v "$python")" \
    "-Dpybind11_DIR=$("$python" -c 'import pybind11; print(pybind11.get_cmake_dir())' 2>/dev/null)" \
    -DFACETALK_CUDA=on "-DFACETALK_CUDA_ARCHS=${arch:-90a}" -DFACETALK_PTXAS_REPORT=ON \
    "-DFACETALK_VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" "-DFACETALK_OUTPUT=_C$suffix"
  step build compile 590 cmake --build "$work/cmake" -j "$jobs"
  step build install 10 cp "$work/cmake/_C$suffix" "facetalk/_C$suffix"
  step build import 60 "$python" -c 'from facetalk.ops._extension import load
info = load().build_info(); print(info); assert "cuda" in info["backends"], info["missing"]'
}

stage_tests() {
  step tests cuda 590 "$python" -m pytest tests -m cuda -v --durations=20 --continue-on-collection-errors \
    "--junitxml=$work/junit-cuda.xml"
  step tests all 590 "$python" -m pytest tests -q -n "$((jobs > 8 ? 8 : jobs))" -m 'not slow and not cuda' \
    --continue-on-collection-errors "--junitxml=$work/junit-all.xml"
}

stage_sanitizer() {
  # Not those of full size; and graphs, compilers and tests of memory itself need the caching allocator. Status 9 is
  # the sanitizer's, 1 says that tests failed.
  local tool extra small='not official and not 32_bits and not graph and not compile and not memory'
  for tool in memcheck racecheck initcheck; do
    # Reads of what torch's own kernels wrote are only known to initcheck when it watches those too.
    extra=(--kernel-name kns=facetalk)
    [ "$tool" = initcheck ] && extra=()
    # Every tensor its own allocation: torch's caching allocator would hide what is out of bounds in its blocks.
    step sanitizer "$tool" 590 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" \
      --error-exitcode 9 --print-limit 20 --target-processes all "${extra[@]}" \
      "$python" -m pytest tests/cuda tests/ops -m cuda -k "$small" -v -p no:cacheprovider
  done
}

metrics=gpu__time_duration.sum,dram__throughput.avg.pct_of_peak_sustained_elapsed
metrics+=,dram__bytes_read.sum,dram__bytes_write.sum,sm__throughput.avg.pct_of_peak_sustained_elapsed
metrics+=,sm__warps_active.avg.pct_of_peak_sustained_active,sm__inst_executed_pipe_tensor.sum
metrics+=,launch__registers_per_thread,launch__occupancy_limit_registers

stage_profile() {
  local file name
  for file in benchmarks/bench_*_cuda.py; do
    name=$(basename "$file" .py)
    step profile "$name" 590 env FACETALK_BENCH_ROUNDS=1 FACETALK_BENCH_PEERS=0 ncu --target-processes all \
      --kernel-name-base demangled --kernel-name 'regex:.*facetalk::cuda.*' --launch-count 200 --metrics "$metrics" --csv --page raw \
      --log-file "$work/ncu-$name.csv" "$python" -m pytest "$file" -q -s --benchmark-disable
  done
}

stage_benchmarks() {
  local file name
  for file in benchmarks/bench_*_cuda.py; do
    name=$(basename "$file" .py)
    [ -n "$dry_run" ] || ! is_chosen benchmarks "$name" || rm -f "$work/$name.jsonl"
    step benchmarks "$name" 590 env "FACETALK_BENCH_JSON=$(realpath -m "$work/$name.jsonl")" \
      "$python" -m pytest "$file" -q -s --benchmark-disable
  done
}

[ -n "$dry_run" ] || mkdir -p "$logs"
for stage in "${stages[@]}"; do "stage_$stage"; done
[ "$steps" -gt 0 ] || { echo "error: no stage has a step '${chosen[*]}'" >&2; exit 2; }
if [ -n "$dry_run" ]; then
  echo "would write $out"
  exit 0
fi
"$python" scripts/gpu_report.py write --work "$work" --out "$out" || failed=1
exit $failed
