# taximeter. On a fresh machine: `make demo` and `make test`. Needs Python 3.11 or newer, make and a
# compiler; everything else goes into .venv, once, and again when pyproject.toml or the pins change.

.DEFAULT_GOAL := help
SHELL := /bin/sh

# The first Python that is new enough; `make PYTHON=/path/to/python test` overrides.
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then command -v $$python; break; fi; done)
endif

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCK_VENV := .venvs/lock

# `make test ARGS='tests/wire -x'` hands arguments on to pytest, the demo or the benchmarks.
ARGS ?=
# Workers of pytest: as many as there are cores. `make test WORKERS=0` runs in one process.
WORKERS ?= auto

.PHONY: help demo test test-all check format bench lock clean

help:
	@echo "make demo      the official SDKs against the simulated provider, under one budget"
	@echo "make test      the tests, without the long runs"
	@echo "make check     ruff, mypy --strict, import contracts"
	@echo "make test-all  the tests with the long runs: SDK matrix, chaos, soak"
	@echo "make bench     what metering costs, beside the bare SDK"
	@echo "make format    format and sort imports"
	@echo "make lock      renew constraints.txt"
	@echo "make clean     remove what is made"

demo: $(STAMP)
	@$(BIN)/taximeter demo $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

# The SDK matrix builds an environment for each pair of SDK versions, so it runs by itself.
test-all: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) -m "slow or not slow" $(ARGS)
	@if [ -f tests/matrix/run.py ]; then $(BIN)/python tests/matrix/run.py; fi

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(STAMP)
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python -m bench $(ARGS)

# hatchling is installed first and used as it stands: build isolation would not heed the pins.
$(STAMP): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then \
		echo "taximeter needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; fi
	@if ! $(PIP) --version >/dev/null 2>&1; then \
		rm -rf $(VENV); \
		"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
			echo "$(PYTHON) cannot make a virtual environment; on Debian install python3-venv" >&2; \
			exit 1; }; fi
	$(PIP) install -q -c constraints.txt hatchling editables
	$(PIP) install -q -c constraints.txt --no-build-isolation -e '.[all,dev]'
	@touch $@

# The pins: what pip chooses today for every extra, names and versions only.
lock:
	@rm -rf $(LOCK_VENV)
	"$(PYTHON)" -m venv $(LOCK_VENV)
	$(LOCK_VENV)/bin/python -m pip --disable-pip-version-check install -q hatchling editables
	$(LOCK_VENV)/bin/python -m pip --disable-pip-version-check install -q \
		--no-build-isolation -e '.[all,dev]'
	@{ echo "# Pinned versions of every development dependency. Made by \`make lock\`; do not edit."; \
		$(LOCK_VENV)/bin/python -m pip freeze --exclude-editable | LC_ALL=C sort -f; \
		} > $(LOCK_VENV)/constraints.txt
	@mv $(LOCK_VENV)/constraints.txt constraints.txt
	@rm -rf $(LOCK_VENV)

clean:
	rm -rf $(VENV) .venvs build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
