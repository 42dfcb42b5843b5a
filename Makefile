# Two commands: `make serve` serves ./packs, `make test` runs the tests. Each sets up what it needs in .venv.
# `make serve ARGS="--packs DIR --addr 127.0.0.1:5005"` and `make test ARGS="-k catalog"` pass arguments on.

ARGS ?=
VENV ?= .venv
BIN := $(VENV)/bin
# The first interpreter on PATH that is new enough; PYTHON=… overrides it.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# Tests start many processes, which must not compile everything anew each time, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help serve test coverage check bench clean

help: ## Say what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "packregistry needs Python 3.11 or newer: install it, or say which with PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/serve.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/test.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/serve.stamp

serve: $(VENV)/serve.stamp ## Serve ./packs on http://127.0.0.1:5000
	@exec $(BIN)/packregistry serve $(ARGS)

test: $(VENV)/test.stamp ## Run the tests
	$(BIN)/python -m pytest --numprocesses auto $(ARGS)

coverage: $(VENV)/test.stamp ## Run all tests, also those that take long, and demand that they cover the code
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest --numprocesses auto -m 'thorough or not thorough' --hypothesis-profile=many
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

check: $(VENV)/test.stamp ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/test.stamp ## Measure beside docker-registry and nginx; `make bench ARGS=--quick` takes minutes less
	@PYTHONPATH=. $(BIN)/python benchmarks/run.py $(ARGS)

clean: ## Remove what the other targets made
	rm -rf $(VENV) .packregistry .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.*
