# The commands of the project; `make help` lists them. On a fresh machine they need Python 3.8 to 3.11, a C++17
# compiler and make; everything else comes from PyPI into .venv.
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
CPP_SOURCES = $(shell find src tests benchmark fuzz -name '*.cpp' -o -name '*.h')
export PATH := $(CURDIR)/$(BIN):$(PATH)

# What pyproject.toml's [build-system] requires, and a pip that knows editable installs and extras that name the package.
BUILD_REQUIRES := "pip>=21.3" $(shell sed -n '/^requires = \[/,/^\]/s/^ *\("[^"]*"\),$$/\1/p' pyproject.toml)

.PHONY: help demo test test-cpp test-python test-arm sanitize fuzz lint format bench build clean distclean
.DEFAULT_GOAL := help

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

demo: build ## train the binary LeNet on real digits, convert it, compare it with the float network
	$(BIN)/python example/demo.py

test: build ## all tests, C++ and Python
	@$(MAKE) --no-print-directory test-cpp
	@$(MAKE) --no-print-directory test-python

test-cpp: $(INSTALLED)
	@cmake -S . -B build/cmake -DBMX_TESTS=ON >/dev/null
	@cmake --build build/cmake --target bmx_tests bmx_engine_tests
	ctest --test-dir build/cmake --output-on-failure --parallel 2

test-python: build
	$(BIN)/python -m pytest -q $(PYTEST_ARGS)

test-arm: build ## libbmx for 64- and 32-bit ARM on an emulator; needs g++-aarch64-linux-gnu g++-arm-linux-gnueabihf qemu-user
	$(BIN)/python -m pytest -q -rs tests/engine/test_arm.py

# The sanitizers must be loaded before Python. MXNet and Python leak on purpose at exit; and a test of what MXNet does
# beyond our reach is left out.
cached = $(shell sed -n 's/^$(1):[A-Z]*=//p' build/cmake/CMakeCache.txt)
PRELOAD = $(shell $(CXX) -print-file-name=libasan.so) $(shell $(CXX) -print-file-name=libubsan.so)
sanitize: build ## C++ tests and operator tests under Address-, UndefinedBehavior- and ThreadSanitizer
	@cmake -S . -B build/thread-sanitize -G Ninja -DBMX_THREAD_SANITIZE=ON -DBMX_TESTS=ON -DBMX_USE_ONEDNN=OFF >/dev/null
	@cmake --build build/thread-sanitize --target bmx_engine_tests
	build/thread-sanitize/bmx_engine_tests concurrent
	@cmake -S . -B build/sanitize -G Ninja -DBMX_SANITIZE=ON -DBMX_TESTS=ON -DMXNET_DIR=$(call cached,MXNET_DIR) \
	  -Ddnnl_DIR=$(call cached,dnnl_DIR) >/dev/null
	@cmake --build build/sanitize --target bmx_tests bmx_engine_tests bmx bmx_mxnet
	ctest --test-dir build/sanitize --output-on-failure
	LD_PRELOAD="$(PRELOAD)" ASAN_OPTIONS=detect_leaks=0 BMX_LIBRARY_DIR=build/sanitize \
	  $(BIN)/python -m pytest -q -p no:cacheprovider -m "not overruns_in_mxnet" tests/operators

fuzz: $(INSTALLED) ## strange .bmx files for FUZZ_SECONDS (60) under sanitizers; needs clang
	fuzz/run

bench: build ## binary convolutions beside their arithmetic limit and MXNet's float ones
	@cmake -S . -B build/cmake -DBMX_BENCHMARK=ON >/dev/null
	@cmake --build build/cmake --target bmx_bench
	$(BIN)/python benchmark/convolution.py $(BENCH_ARGS)

lint: $(INSTALLED) ## ruff and clang-format, as CI checks them
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run --Werror $(CPP_SOURCES)

format: $(INSTALLED) ## rewrite the sources as lint wants them
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(CPP_SOURCES)

build: $(INSTALLED) ## compile what has changed into bmx/
	@$(BIN)/python setup.py --quiet build_ext --inplace

# One virtual environment with everything, and the package in it as an editable install.
$(INSTALLED): pyproject.toml setup.py
	@test -x $(BIN)/python || $(MAKE) --no-print-directory $(VENV)
	$(PIP) install --quiet $(BUILD_REQUIRES)
	$(PIP) install --quiet --no-build-isolation --editable '.[test,lint]'
	@touch $@

# A candidate must run: version managers put commands on PATH that only say that a version is not chosen.
$(VENV):
	@for python in $(PYTHON) python3 python3.11 python3.10 python3.9 python3.8; do \
	  "$$python" -c 'import sys, ensurepip, venv; sys.exit(not (3, 8) <= sys.version_info[:2] <= (3, 11))' 2>/dev/null \
	    || continue; \
	  "$$python" -m venv $@ && exit; \
	  rm -rf $@; exit 1; \
	done; \
	echo "bmx needs Python 3.8 to 3.11 with venv (MXNet 1.9.1 runs on no newer one) and found none on PATH:" \
	  "install one (Debian, Ubuntu: apt-get install python3-venv), or name it: make PYTHON=/path/to/python" >&2; exit 1

clean: ## remove what the build and the examples made
	rm -rf build dist runs *.egg-info bmx/*.so .pytest_cache .ruff_cache .hypothesis
	find bmx tests example tools benchmark -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## the same, and the virtual environment
	rm -rf $(VENV)
