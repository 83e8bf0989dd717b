# The verbs of the house. PYTHON may name another interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Files of tests at a time: one more than the cores of a small machine, for tests often wait for processes.
WORKERS ?= 3
# One thread for each of what runs side by side, or they would take turns at the cores; and bytecode is kept, where it is not
# by default, for tests start hundreds of processes.
SIDE_BY_SIDE := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

.PHONY: setup campaign kernels test test-postgresql check types lint docs soak bench clean

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

campaign: setup
	$(BIN)/python workflows/ethanol.py

# What tests of one file have in common, such as a campaign, is made once.
TESTS := $(SIDE_BY_SIDE) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Compiled once and kept with the package, before processes side by side would all compile.
kernels: build/kernels

build/kernels: $(VENV)/installed $(wildcard alflow/tensors/*.py alflow/potentials/*.py alflow/training/*.py)
	$(SIDE_BY_SIDE) $(BIN)/python -m tests.kernels
	@mkdir -p build && touch $@

test: kernels
	$(TESTS)

# What needs a database once more, on a PostgreSQL server of its own; what is about SQLite files is skipped and says so.
test-postgresql: kernels
	$(TESTS) --postgresql tests/store tests/campaign tests/faults

check: docs types lint

types: setup
	$(BIN)/mypy

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python tests/check_migrations.py

# Every page and the reference from the code, into build/docs; begin at build/docs/docs/index.html.
docs: setup
	$(BIN)/python -m sphinx -W --keep-going -q -b html -c docs . build/docs

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
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
