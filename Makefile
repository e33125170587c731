# `make demo` renders a clip, `make test` runs lint, types and tests. Both set up .venv on a clean machine first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
READY := $(VENV)/.ready
DEV_READY := $(VENV)/.ready-dev
WORKERS ?= 2

.PHONY: demo test lint types unit setup clean

demo: $(READY)
	$(BIN)/python -m tools.demo out/demo

test: lint types unit

lint: $(DEV_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV_READY)
	$(BIN)/mypy

# Two threads a process on two cores would only fight each other.
unit: $(DEV_READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests

setup: $(DEV_READY)

$(READY): requirements/torch.txt requirements/runtime.txt requirements/nodeps.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -r requirements/torch.txt
	$(PIP) install -r requirements/runtime.txt
	$(PIP) install --no-deps -r requirements/nodeps.txt
	touch $@

$(DEV_READY): $(READY) requirements/dev.txt
	$(PIP) install -r requirements/dev.txt
	touch $@

clean:
	rm -rf $(VENV) out
