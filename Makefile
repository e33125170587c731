# `make demo` renders a clip, `make ui` serves the panel, `make test` runs lint, types and tests. Each sets up .venv on
# a clean machine first. `make test-webui` tests inside a webui that WEBUI_DIR names.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
READY := $(VENV)/.ready
PANEL_READY := $(VENV)/.ready-panel
DEV_READY := $(VENV)/.ready-dev
WEBUI_READY := $(VENV)/.ready-webui
WORKERS ?= 2
CHECKPOINT ?= models/rerender-demo.safetensors
PORT ?= 7861

.PHONY: demo ui test lint types unit test-webui setup clean

demo: $(READY)
	$(BIN)/python -m tools.demo out/demo

ui: $(PANEL_READY)
	$(BIN)/python -m rerender ui --checkpoint $(CHECKPOINT) --port $(PORT) --folder out/ui

test: lint types unit

lint: $(DEV_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV_READY)
	$(BIN)/mypy

# Two threads a process on two cores would only fight each other.
unit: $(DEV_READY)
	@command -v chromium >/dev/null || echo "No chromium on this machine: the browser tests are skipped."
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests

# The webui is no part of this repository: WEBUI_DIR names one that runs (and WEBUI_PYTHON, where its venv lies elsewhere).
ifdef WEBUI_DIR
test-webui: $(WEBUI_READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs tests/webui
else
test-webui:
	@echo "SKIPPED: no test in a real webui was run, because WEBUI_DIR names none."
	@echo "Set it to the folder of a webui 1.10.1 (docs/webui.md, section Tests against your own webui)."
endif

setup: $(DEV_READY)

$(READY): requirements/torch.txt requirements/runtime.txt requirements/nodeps.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -r requirements/torch.txt
	$(PIP) install -r requirements/runtime.txt
	$(PIP) install --no-deps -r requirements/nodeps.txt
	touch $@

$(PANEL_READY): $(READY) requirements/panel.txt
	$(PIP) install -r requirements/panel.txt
	touch $@

$(DEV_READY): $(PANEL_READY) requirements/dev.txt
	$(PIP) install -r requirements/dev.txt
	touch $@

$(WEBUI_READY): $(DEV_READY) requirements/test-webui.txt
	$(PIP) install -r requirements/test-webui.txt
	touch $@

clean:
	rm -rf $(VENV) out
