# The verbs of the house. PYTHON may name another interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup campaign test check soak bench clean

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

campaign: setup
	$(BIN)/python workflows/ethanol.py

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/check_migrations.py

# Half an hour and more of random kills on a water campaign; tests/faults/soak.py says what is printed.
soak: setup
	$(BIN)/python -m tests.faults.soak

# On an otherwise idle machine; the record of each benchmark lies in benchmarks/results/.
bench: setup
	$(BIN)/python benchmarks/committee.py --quick --json benchmarks/results/committee.json
	$(BIN)/python benchmarks/training.py --quick --json benchmarks/results/training.json
	$(BIN)/python benchmarks/accuracy.py --quick --json benchmarks/results/accuracy.json
	$(BIN)/python benchmarks/labels_overhead.py --quick --json benchmarks/results/labels_overhead.json

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
