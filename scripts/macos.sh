#!/usr/bin/env bash
# The C library for macOS, for the CPU: build/macos/arm64 and build/macos/x86_64, each with lib/libfacetalk.dylib. A check
# that it compiles and links, and of what the library says of itself; nothing here can run it.
#
# PYTHON is the interpreter that has zig (the wheel ziglang), the package and the test tools (default .venv/bin/python).
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-.venv/bin/python}"
tools="$(dirname "$(command -v "$python")")"
export PATH="$tools:$PATH"
zig="$("$python" -c 'import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).parent / "zig")' 2>/dev/null || true)"
if [ ! -x "$zig" ]; then
  echo "macos: not built, because zig is missing (pip install ziglang)"
  exit 0
fi

mkdir -p build/macos
for processor in arm64 x86_64; do
  out="$PWD/build/macos/$processor"
  cmake -S . -B "$out" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/macos.cmake" -DFACETALK_ZIG="$zig" \
    -DFACETALK_MACOS_PROCESSOR="$processor" -DFACETALK_PYTHON=OFF -DFACETALK_CUDA=off -DCMAKE_BUILD_TYPE=Release \
    >"$out.log" 2>&1 || { tail -20 "$out.log"; exit 1; }
  cmake --build "$out" -j "${MAX_JOBS:-$(nproc)}" >"$out.log" 2>&1 || { grep -A 20 -m 1 error "$out.log"; exit 1; }
  echo "macos: build/macos/$processor/lib/libfacetalk.dylib ($(stat -L -c %s "$out/lib/libfacetalk.dylib") bytes)"
done
"$python" -m pytest -q -p no:cacheprovider tests/native/test_macos.py
