# On a fresh machine, start with `make demo` or `make test`. A robot does not need this file: it has ROS 2
# from apt, and colcon builds the package.

.DEFAULT_GOAL := help
.PHONY: help demo test gpu lint types style coverage bench mutants docs setup lock clean

# the interpreter that makes .venv; later the one that made it
PYTHON ?= $(shell cat .build/python 2>/dev/null || echo python3)
MODEL ?= yolo_ret_m075
VIDEO ?=
WORKERS ?= 3
PYTEST_ARGS ?=
COUNT ?= 40
SEED ?= 0
MODULES ?=
RETEST ?=

VENV := .venv/bin
# A Jetson's own Python has TensorRT, and .venv is for x86-64 only.
GPU_PYTHON = $(if $(wildcard $(VENV)/python),$(VENV)/python,$(PYTHON))
# A test process that crashes ends the run: pytest-xdist may hang after it has replaced one.
PYTEST = $(VENV)/pytest -n $(WORKERS) --dist worksteal --max-worker-restart 0
# what failed, one after the other; pytest's exit code 1 says that all others have passed
AGAIN = echo "Once more, without other tests beside them:" && $(VENV)/pytest -n 0 -v --last-failed --last-failed-no-failures none
# What becomes known tonight breaks no build: it is told, and the weekly run of the workflow fails.
AUDIT = pip-audit --requirement environment/requirements/runtime.txt --no-deps --disable-pip --progress-spinner off
BOOTSTRAP = @command -v $(PYTHON) >/dev/null || { \
	echo "$(PYTHON) is not installed: install Python 3.10 to 3.13, or choose one, as in \`make PYTHON=python3.12 ...\`." >&2; \
	exit 1; }; $(PYTHON) environment/bootstrap.py

# A sourced ROS installation would mix its packages with those of .venv.
ifdef ROS_DISTRO
unexport PYTHONPATH LD_LIBRARY_PATH RMW_IMPLEMENTATION
endif
# set by another environment of ROS wheels, if make was started from there
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE
export AMENT_PREFIX_PATH := $(CURDIR)/.venv

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)
	@echo "Variables: PYTHON=$(PYTHON) MODEL=$(MODEL) VIDEO=(file, folder or camera index) WORKERS=$(WORKERS) PYTEST_ARGS=" \
		"COUNT=$(COUNT) SEED=$(SEED) MODULES= RETEST="

demo: ## Detect people and vehicles in a street video through ROS 2; results in out/demo
	$(BOOTSTRAP) demo
	@$(VENV)/demo --model "$(MODEL)" $(if $(VIDEO),--video "$(VIDEO)") --out out/demo

test: setup ## Linters, type checks and all tests
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target .build/compiled lint
	$(PYTEST) $(PYTEST_ARGS) || { [ $$? = 1 ] && [ -n "$(RETEST)" ] && $(AGAIN); }

gpu: ## Test TensorRT on this machine's GPU; results in out/gpu
	COMPACT_YOLO_GPU_REPORT=$${COMPACT_YOLO_GPU_REPORT:-out/gpu} $(GPU_PYTHON) -m pytest -v test/gpu

lint: types style ## Style, format, types, rules of imports; known vulnerabilities, if pip-audit is installed

types: setup
	$(VENV)/mypy

style: setup
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/lint-imports --no-logo
	-@if command -v pip-audit >/dev/null; then $(AUDIT); else echo "No pip-audit here: PyPI was not asked for known vulnerabilities"; fi

# Once, before the workers would each do it for themselves: pytest compiles the tests it collects.
.build/compiled: | setup
	@$(VENV)/pytest --collect-only -qq $(PYTEST_ARGS) >$@.log || { cat $@.log; exit 1; }
	@touch $@

coverage: setup ## All tests with line coverage; fails below the floor
	$(PYTEST) --cov=compact_yolo_ros --cov=training --cov-report=term-missing:skip-covered \
		--cov-fail-under=92 $(PYTEST_ARGS)

bench: setup ## Compare the main ratios of speed with those of a stored run, and say what moved
	$(VENV)/python test/benchmarks/guard.py

mutants: ## Break the code in COUNT places, one after the other, and list what no test notices
	$(BOOTSTRAP) mutants
	$(VENV)/python test/mutants.py --count $(COUNT) --seed $(SEED) $(MODULES)

docs: setup ## Regenerate what documents take from the code, and build the site into out/docs
	$(VENV)/python docs/generate.py
	$(VENV)/python docs/architecture.py
	$(VENV)/python -m training.describe --write
	$(BOOTSTRAP) docs
	.build/docs-venv/bin/python -m sphinx -W --keep-going --quiet docs out/docs
	@echo "The site is in out/docs/index.html"

setup: ## Install what tests and training need into .venv
	$(BOOTSTRAP) test

lock: ## Update environment/requirements/*.txt to the newest versions
	$(BOOTSTRAP) lock

clean: ## Remove the environments, caches and build results; out/ and runs/ stay
	rm -rf .venv .build build install log *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.grimp_cache .import_linter_cache
