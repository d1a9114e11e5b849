# Every target does its own set-up, on a machine that has only Python (3.11 or newer) and make.
#   make demo ARGS="--once --lessons 50"    make test ARGS="tests/lua -x"

PYTHON ?= $(shell command -v python3.12 || command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint types format clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(READY) ## make or update the virtual environment

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; install python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is too old: Python 3.11 or newer is needed (PYTHON=/path/to/python make ...)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo "$(PYTHON) has no venv module; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "setting up $(VENV) (once, about half a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY) ## run everything on this machine: private Redis, fake Zoom, API, workers (ARGS="--once --lessons 50")
	@$(BIN)/zoompool demo $(ARGS)

test: $(READY) ## run the tests on a private Redis that they start themselves
	@$(BIN)/python -m pytest $(ARGS)

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
