PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PACKAGES := descriptions ssm_models tasks search_spaces orchestrator

.PHONY: quickstart test check format clean

quickstart: $(STAMP)
	$(BIN)/ablate run quickstart

test: $(STAMP)
	$(BIN)/pytest -q -n 2 --dist worksteal -m "not slow and not gpu and not network"

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv results build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
