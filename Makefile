# Every target does its own set-up, on a machine that has only Python (3.11 or newer) and make.
#   make demo ARGS="--once --lessons 50"    make test ARGS="tests/lua -x"

# The first that really runs and is complete: a name on PATH may be an empty shim, too old, or lack its venv module.
# 3.12 and 3.11 come first because only they have a Redis inside a wheel, for machines without one.
COMPLETE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.12 python3.11 python3 python3.13 python3.14; do \
	$$python -c '$(COMPLETE)' 2>/dev/null && echo $$python && break; done)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ARGS   ?=
# One more than there are cores: many tests wait for something most of the time.
JOBS   ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

.DEFAULT_GOAL := help
.PHONY: help venv demo chaos test bench lint types format clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(READY) ## make or update the virtual environment

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with its venv module is needed and none is on PATH;" \
		"on Debian: apt-get install python3 python3-venv. Or say where one is: make PYTHON=/path/to/python3 ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) does not run or is too old: Python 3.11 or newer is needed"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo "$(PYTHON) has no venv module; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "setting up $(VENV) (once, about half a minute)"
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY) ## run everything on this machine: private Redis, fake Zoom, API, workers (ARGS="--once --lessons 50")
	@$(BIN)/zoompool demo $(ARGS)

chaos: $(READY) ## kill, freeze and cut off everything while lessons go on, and count what is lost (ARGS="--seed 7")
	@$(BIN)/zoompool chaos $(ARGS)

test: $(READY) ## run the tests on a private Redis that they start themselves
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadgroup $(ARGS)

bench: $(READY) ## measure everything beside its limit or peer (ARGS="burst memory"; needs PostgreSQL and redis-tools)
	@$(BIN)/python -c 'import psycopg' 2>/dev/null \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	@PLOT=$(PLOT) $(BIN)/python -m tests.benchmarks $(ARGS)

lint: $(READY) ## check style and form
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(READY) ## check types, strictly
	@$(BIN)/mypy

format: $(READY) ## bring the code into form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## remove what was built
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
