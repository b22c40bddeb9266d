# Everything a newcomer types. Each target does its own set-up, and is quick the second time.
#
#   make run      set up, build, fetch SmolLM2-135M-Instruct, ask it a question about a long document
#   make test     set up, build, run the unit, golden and format tests
#   make check    test, then the long ones: oracles from PyPI, fuzzers, sanitizers, formatting, headers
#   make build    the program, at build/ssa
#   make install PREFIX=DIR
#
# SSA_TORCH=DIR       a torch package to build against, instead of the project's own virtual environment
# SSA_OFFLINE=FOLDER  .deb files from 'make offline-packages', on a machine without a network
PRESET ?= release
PREFIX ?= /usr/local
export SSA_TORCH SSA_OFFLINE

.PHONY: run test check build install setup model offline-packages format format-check clean

run: build model
	@tools/run_example.sh

build: setup
	@tools/build.sh $(PRESET) ssa

test: setup
	@tools/build.sh $(PRESET) all
	@ctest --test-dir build --output-on-failure --parallel 2

check: test
	@tools/check.sh

install: build
	@cmake --install build --prefix "$(PREFIX)"

setup:
	@tools/setup.sh

model: setup
	@tools/fetch_model.sh

offline-packages:
	@tools/offline_packages.sh

format:
	@git ls-files '*.h' '*.cpp' | xargs clang-format-14 -i

format-check:
	@git ls-files '*.h' '*.cpp' | xargs clang-format-14 --dry-run --Werror

clean:
	rm -rf build
