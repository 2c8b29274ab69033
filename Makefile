# Two commands for a newcomer: `make demo` and `make test`. Both set up their own .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test lint planted mutate clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/sam-adapter demo --output demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Tests are short and many: a process a core with one thread each is twice as fast as one process with all threads.
test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

planted: setup
	$(BIN)/python tools/planted.py

mutate: setup
	nice $(BIN)/python tools/mutate.py

clean:
	rm -rf $(VENV) demo build dist mutants src/*.egg-info .pytest_cache .ruff_cache
