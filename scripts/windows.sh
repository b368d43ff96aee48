#!/usr/bin/env bash
# The C library for 64-bit Windows, for the CPU: build/windows/lib/facetalk.dll, with libfacetalk.dll.a and facetalk.def to
# link programs with. Where Wine is, tests/native/test_windows.py then runs programs on it, beside this machine's library.
#
# PYTHON is the interpreter that has the test tools and the package (default .venv/bin/python). The cross compiler and
# Wine are installed where that is possible; what cannot be had is left out with a word about it.
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-.venv/bin/python}"
out="$PWD/build/windows"
compiler=x86_64-w64-mingw32-g++-posix
if { ! command -v "$compiler" || ! command -v wine; } >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  (apt-get update && apt-get install -y --no-install-recommends g++-mingw-w64-x86-64-posix wine wine64) >/dev/null 2>&1 || true
fi
if ! command -v "$compiler" >/dev/null; then
  echo "windows: not built, because $compiler is missing (Debian: g++-mingw-w64-x86-64-posix)"
  exit 0
fi
tools="$(dirname "$(command -v "$python")")"
export PATH="$tools:$PATH"

mkdir -p build
cmake -S . -B "$out" -G Ninja -DCMAKE_TOOLCHAIN_FILE=cmake/windows.cmake -DFACETALK_PYTHON=OFF -DFACETALK_CUDA=off \
  -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER_LAUNCHER="$(command -v ccache || true)" \
  >"$out.log" 2>&1 || { tail -20 "$out.log"; exit 1; }
cmake --build "$out" -j "${MAX_JOBS:-$(nproc)}" >"$out.log" 2>&1 || { grep -A 20 -m 1 error "$out.log"; exit 1; }
echo "windows: build/windows/lib/facetalk.dll ($(stat -c %s "$out/lib/facetalk.dll") bytes)"

if ! command -v wine >/dev/null; then
  echo "windows: not run, because wine is missing (Debian: wine, wine64)"
  exit 0
fi
# A Windows of its own, without a display, and without the browser and the .NET that Wine would ask for.
export WINEPREFIX="$PWD/build/wine" WINEARCH=win64 WINEDEBUG=-all
unset DISPLAY WAYLAND_DISPLAY
if [ ! -d "$WINEPREFIX" ]; then
  WINEDLLOVERRIDES="mscoree,mshtml,winemenubuilder.exe=" timeout 120 wine wineboot -i >"$out.log" 2>&1 ||
    { tail -5 "$out.log"; rm -rf "$WINEPREFIX"; echo "windows: not run, because Wine does not start"; exit 1; }
fi
"$python" -m pytest -q -p no:cacheprovider tests/native/test_windows.py
