# The two commands of a fresh machine are `make demo` and `make test`. On a robot none of this is needed:
# there ROS 2 is installed already, and colcon builds the package.

.DEFAULT_GOAL := help
.PHONY: help demo test lint coverage docs setup lock clean

# the interpreter that .venv is made with; once there, the one it was made with
PYTHON ?= $(shell cat .build/python 2>/dev/null || echo python3)
MODEL ?= yolo_ret_m075
VIDEO ?=
WORKERS ?= 2
PYTEST_ARGS ?=

VENV := .venv/bin
# A test process that dies ends the run: pytest-xdist may wait for ever once it has replaced one.
PYTEST = $(VENV)/pytest -n $(WORKERS) --dist loadfile --max-worker-restart 0
BOOTSTRAP = @command -v $(PYTHON) >/dev/null || { \
	echo "There is no $(PYTHON): install Python 3.10 to 3.13, or name one, as in \`make PYTHON=python3.12 ...\`." >&2; \
	exit 1; }; $(PYTHON) environment/bootstrap.py

# A sourced ROS installation would mix its packages with those of .venv.
ifdef ROS_DISTRO
unexport PYTHONPATH LD_LIBRARY_PATH RMW_IMPLEMENTATION
endif
# set by the Python of another environment of ROS wheels, if make was started from there
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE
export AMENT_PREFIX_PATH := $(CURDIR)/.venv

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)
	@echo "Variables: PYTHON=$(PYTHON) MODEL=$(MODEL) VIDEO=(file, folder or camera index) WORKERS=$(WORKERS) PYTEST_ARGS="

demo: ## Detect people and vehicles in a street video through ROS 2; results in out/demo
	$(BOOTSTRAP) demo
	@$(VENV)/demo --model "$(MODEL)" $(if $(VIDEO),--video "$(VIDEO)") --out out/demo

test: setup lint ## Everything: linters, types and all tests
	$(PYTEST) $(PYTEST_ARGS)

lint: setup ## Style, format and types
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

coverage: setup ## The tests once more, with the lines that they reach
	$(PYTEST) --cov=compact_yolo_ros --cov=training --cov-report=term-missing:skip-covered $(PYTEST_ARGS)

docs: setup ## The tables of README.md, and config/detector.yaml, from the code
	$(VENV)/python docs/generate.py

setup: ## The environment of the tests and the training in .venv
	$(BOOTSTRAP) test

lock: ## Newest versions into environment/requirements/*.txt
	$(BOOTSTRAP) lock

clean: ## Remove the environments, caches and build results; out/ and runs/ stay
	rm -rf .venv .build build install log *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
