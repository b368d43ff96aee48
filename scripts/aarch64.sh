#!/usr/bin/env bash
# Everything for the CPU compiled for 64-bit ARM (the baseline path of SIMD): the C library, linked, and the Python
# module's files. A check that it compiles; cmake/aarch64.cmake with CMAKE_BUILD_TYPE=Release makes a library for use.
#
# PYTHON is the interpreter whose headers and pybind11 are taken (default .venv/bin/python). The cross compiler is
# installed where that is possible; where it is not, the check is left out with a word about it.
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-.venv/bin/python}"
out="$PWD/build/aarch64"
jobs="${MAX_JOBS:-$(nproc)}"
if ! command -v aarch64-linux-gnu-g++ >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  (apt-get update && apt-get install -y --no-install-recommends g++-aarch64-linux-gnu) >/dev/null 2>&1 || true
fi
if ! command -v aarch64-linux-gnu-g++ >/dev/null; then
  echo "aarch64: not compiled, because aarch64-linux-gnu-g++ is missing (Debian: g++-aarch64-linux-gnu)"
  exit 0
fi
launcher="$(command -v ccache || true)"
tools="$(dirname "$(command -v "$python")")"
export PATH="$tools:$PATH"

cmake -S . -B "$out" -G Ninja -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.cmake -DFACETALK_PYTHON=OFF \
  -DFACETALK_CUDA=off -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0 -DCMAKE_CXX_COMPILER_LAUNCHER="$launcher" \
  >"$out.log" 2>&1 || { tail -20 "$out.log"; exit 1; }
cmake --build "$out" -j "$jobs" >"$out.log" 2>&1 || { grep -A 20 -m 1 error "$out.log"; exit 1; }
file="$(aarch64-linux-gnu-readelf -h "$out/lib/libfacetalk.so")"
grep -q AArch64 <<<"$file"

# The headers of this machine's Python say the same as ARM's: both are of 64 bits.
headers="$("$python" -c 'import pybind11, sysconfig
print("-I" + pybind11.get_include(), "-I" + sysconfig.get_paths()["include"])')"
mkdir -p "$out/module"
compile() {
  # shellcheck disable=SC2086  # no launcher is no word
  $launcher aarch64-linux-gnu-g++ -std=c++20 -O0 -fPIC -fvisibility=hidden -Wall -Wextra -Wno-psabi -Icsrc $headers \
    -DFACETALK_VERSION='"0"' -DFACETALK_CUDA_NOTE='""' -DFACETALK_CUDA_ARCH_LIST='""' \
    -DFACETALK_SIMD_LEVELS='"baseline"' -c "$1" -o "$out/module/$(basename "$1" .cpp).o"
}
export launcher headers out
export -f compile
printf '%s\n' csrc/python/*.cpp | xargs -P "$jobs" -I{} bash -c "compile {}"
count=(csrc/python/*.cpp)
echo "aarch64: compiles ($(stat -L -c %s "$out/lib/libfacetalk.so") bytes of library, ${#count[@]} files of the module)"
