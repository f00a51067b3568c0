# Every chore is one command; `make help` lists them. PRESET picks the build (CMakePresets.json): make PRESET=release
PRESET ?= dev
PREFIX ?= /usr/local
JOBS := $(shell nproc)
SOURCES = $(shell git ls-files '*.h' '*.cc' '*.cu')

.PHONY: build help setup demo test test-fast fmt lint asan tsan fuzz bench install clean
.DEFAULT_GOAL := build

define configure_and_build
@cmake --preset $(1) --log-level=WARNING || { echo "configuring failed; if a package is missing: make setup" >&2; exit 1; }
@cmake --build build/$(1) -j $(JOBS) $(2)
endef

build:  ## build everything into build/$(PRESET)
	$(call configure_and_build,$(PRESET))

setup:  ## install the Debian packages that are missing
	@tools/setup.sh

demo:  ## build, fetch a small chat model, serve it, show an answer, its metrics and its memory
	@tools/setup.sh demo
	$(call configure_and_build,$(PRESET),--target quantd)
	@tools/demo.sh build/$(PRESET)/bin/quantd

test: setup  ## build with -Werror and run every test
	$(call configure_and_build,ci)
	@tools/run_tests.py ci

test-fast: setup  ## the same without the tests labelled slow
	$(call configure_and_build,ci)
	@tools/run_tests.py ci -LE slow

fmt: setup  ## format the C++ sources in place
	@clang-format -i $(SOURCES)

lint: setup  ## layers, formatting; TIDY=1 adds clang-tidy on the files changed since main
	@tools/check_layers.py
	@files=$$(clang-format --dry-run $(SOURCES) 2>&1 | sed -n 's/^\([^ :]*\):[0-9].*/\1/p' | sort -u); \
	  [ -z "$$files" ] || { echo "not formatted (make fmt):" $$files >&2; exit 1; }
ifdef TIDY
	@cmake --preset $(PRESET) --log-level=WARNING
	@git diff --name-only --diff-filter=d main -- '*.cc' | xargs -r clang-tidy -p build/$(PRESET) --quiet
endif

asan: setup  ## every test under AddressSanitizer and UBSan
	$(call configure_and_build,asan)
	@tools/run_tests.py asan

tsan: setup  ## all that knows no gRPC (Debian's is not instrumented) under ThreadSanitizer
	$(call configure_and_build,tsan)
	@tools/run_tests.py tsan

SECONDS ?= 3
fuzz: setup  ## each libFuzzer target for SECONDS=3
	$(call configure_and_build,fuzz,--target fuzz_targets)
	@tools/fuzz.py build/fuzz --seconds $(SECONDS)

bench: setup  ## benchmarks of kernels and models, optimised build
	$(call configure_and_build,release)
	@tools/bench.sh build/release

install:  ## install under $(PREFIX); DESTDIR is honoured
	$(call configure_and_build,release,--target quantd)
	@cmake --install build/release --prefix $(PREFIX)

clean:  ## remove every build
	@rm -rf build

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12
